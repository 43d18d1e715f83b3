# Key spaces that layers own: keys that come in stored form, and ranges of them.
#
# Invariants:
#  - A SpaceKey never names the mapping's space (1) or the system's (2), so no key of a user can meet one.
#  - One byte alone is a bound, the begin of a space or the end of the one before it; it is no key.
#  - A range lies in one space. Its keys are given as stored bytes: only the layer knows what they mean.

from cpython.object cimport PyObject_RichCompare

cdef enum:
    SPACE_LAYERS = 3       # the first space that layers own
    SPACE_BEHIND = 5       # the one behind their last

# Which space a layer's keys lie in.
SPACE_CATALOGUE = C_SPACE_CATALOGUE
SPACE_COLLECTIONS = C_SPACE_COLLECTIONS


@cython.final
@cython.freelist(64)
@cython.no_gc
cdef class SpaceKey:
    """A key that is in stored form already, in a space that layers own: usable wherever a key is.

    *stored*: the space's byte (3 or 4) and what the layer puts behind it. One byte alone is a bound of ranges. Raises
    TypeError, ValueError. Cost: below 0.1 µs.

    >>> SpaceKey(b"\\x04\\x00\\x00\\x00\\x01") in db
    False
    """

    cdef readonly bytes stored

    def __cinit__(self, bytes stored not None):
        check_space(stored)
        self.stored = stored

    def __hash__(self):
        return hash(self.stored)

    def __richcmp__(self, other, int op):
        if type(other) is not SpaceKey:
            return NotImplemented
        return PyObject_RichCompare(self.stored, (<SpaceKey>other).stored, op)

    def __reduce__(self):
        return SpaceKey, (self.stored,)

    def __repr__(self):
        return f"SpaceKey({self.stored!r})"


cdef inline int check_space(bytes stored) except -1:
    """Raises ValueError for bytes that can be neither key nor bound of a layer's space."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(stored)
    cdef uint8_t space = <uint8_t>PyBytes_AS_STRING(stored)[0]  # an empty one has its NUL
    if SPACE_LAYERS <= space < SPACE_BEHIND or (space == SPACE_BEHIND and size == 1):
        return 0
    raise ValueError(f"a stored key begins with its space, {<int>SPACE_LAYERS} (catalogue) or {<int>SPACE_BEHIND - 1} (collections): "
                     f"{stored[:32]!r} does not")


cdef int check_stored_key(bytes stored) except -1:
    """As check_space(), of a key: the begin of a space is none."""
    check_space(stored)
    if PyBytes_GET_SIZE(stored) == 1:
        raise ValueError(f"{stored!r} is a bound of ranges, the begin of a space; a key has bytes behind that")
    return 0


cdef inline bint in_one_space(bytes start, bytes stop) noexcept:
    """Whether *stop* lies in the space of *start*, or is exactly its end."""
    cdef uint8_t space = <uint8_t>PyBytes_AS_STRING(start)[0]
    cdef uint8_t last = <uint8_t>PyBytes_AS_STRING(stop)[0]
    return last == space or (last == space + 1 and PyBytes_GET_SIZE(stop) == 1)


cdef inline bytes space_end(bytes start):
    """The stop of the range that goes to the end of the space of *start*."""
    cdef uint8_t end = <uint8_t>PyBytes_AS_STRING(start)[0] + 1
    return c_bytes_of(<const char *>&end, 1)


cdef int check_space_range(object start, object stop, object prefix) except -1:
    """Raises for bounds of which one at least is a SpaceKey, unless they are two of one space."""
    if type(start) is not SpaceKey or type(stop) is not SpaceKey or prefix is not None:
        raise ValueError("a range of a layer's space has two bounds, both of them a SpaceKey, and no prefix: "
                         f"start={start!r}, stop={stop!r}, prefix={prefix!r}")
    first, last = (<SpaceKey>start).stored, (<SpaceKey>stop).stored
    if first[0] == SPACE_BEHIND or not in_one_space(first, last):
        raise ValueError(f"a range lies in one space: from {first[:32]!r} to {last[:32]!r} is none")
    if max(PyBytes_GET_SIZE(first), PyBytes_GET_SIZE(last)) > C_KEY_MAX:
        raise _key_too_large(max(len(first), len(last)), <int>C_KEY_MAX)
    return 0


cdef inline object key_given(const uint8_t *stored, size_t size):
    """What a scan gives as key: of the mapping a Python object, of a layer's space the stored bytes. Private memory."""
    if size and stored[0] != C_SPACE_PLAIN:
        return c_bytes_of(<const char *>stored, <Py_ssize_t>size)
    return key_decode(stored, size)


cdef object key_named(bytes stored):
    """A stored key as errors name it: of the mapping a Python object, else a SpaceKey."""
    if stored[:1] == _SPACE_START:
        return decode_key(stored)
    return SpaceKey(stored)
