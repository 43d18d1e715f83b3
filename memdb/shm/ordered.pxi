# The ordered encoding of values: entries of indexes, keys of sorts. memdb/ordered.py is the reference and says what the bytes are
# (docs/formats/ordered.md shows them); this part writes the common types, and asks it for the others.
#
# Invariants:
#  - Byte for byte what the reference gives; where this part refuses a value, the reference is asked to say why.
#  - Numbers of 64 bits are exact: what a double can't hold follows it as decimal places.

from libc.math cimport nextafter, INFINITY
from cpython.datetime cimport (PyDateTime_CheckExact, datetime_day, datetime_hour, datetime_microsecond, datetime_minute,
                               datetime_month, datetime_second, datetime_tzinfo, datetime_year, import_datetime)

import_datetime()

cdef extern from *:
    uint64_t c_swap64 "__builtin_bswap64"(uint64_t)  # the platforms are little-endian

cdef enum:
    ORDERED_DEPTH = 512
    ORDERED_INLINE = 512
    ORDERED_REFUSED = 1

cdef enum OrderedCode:
    ORDERED_END = 0x00
    ORDERED_EMPTY = 0x04
    ORDERED_NULL = 0x05
    ORDERED_NUMBER = 0x10
    ORDERED_TEXT = 0x20
    ORDERED_DOCUMENT = 0x30
    ORDERED_ARRAY = 0x40
    ORDERED_BINARY = 0x50
    ORDERED_IDENTIFIER = 0x58
    ORDERED_FALSE = 0x60
    ORDERED_TRUE = 0x61
    ORDERED_INSTANT = 0x70

cdef struct OrderedBytes:
    uint8_t *at
    size_t size
    size_t capacity
    uint8_t *heap
    uint8_t inline_bytes[ORDERED_INLINE]

cdef object ordered_leaf = None     # of memdb/ordered.py: the bytes of a type that is not written here, or None
cdef object ordered_check = None    # its judge, which raises for what can't be encoded


def ordered_by(leaf, check):
    """Ties the encoder to its reference (memdb/ordered.py)."""
    global ordered_leaf, ordered_check
    ordered_leaf, ordered_check = leaf, check


@cython.final
cdef class EmptyArray:
    """The type of EMPTY_ARRAY, which stands for an array without elements in an index of elements: it sorts below None."""

    def __repr__(self):
        return "EMPTY_ARRAY"

    def __reduce__(self):
        return "EMPTY_ARRAY"


EMPTY_ARRAY = EmptyArray()
cdef object _EMPTY_ARRAY = EMPTY_ARRAY


cdef inline void ordered_init(OrderedBytes *out) noexcept:
    out.heap = NULL
    out.at, out.size, out.capacity = out.inline_bytes, 0, ORDERED_INLINE


cdef inline void ordered_free(OrderedBytes *out) noexcept:
    free(out.heap)
    out.heap = NULL


cdef int ordered_grow(OrderedBytes *out, size_t needed) except -1:
    cdef size_t capacity = max(2 * out.capacity, out.size + needed)
    cdef void *grown = realloc(out.heap, capacity)
    if grown == NULL:
        raise MemoryError()
    if out.heap == NULL:
        memcpy(grown, out.inline_bytes, out.size)
    out.at = out.heap = <uint8_t *>grown
    out.capacity = capacity
    return 0


cdef inline uint8_t *ordered_room(OrderedBytes *out, size_t needed) except NULL:
    """Where *needed* bytes more have place; they count as written."""
    if needed > out.capacity - out.size:
        ordered_grow(out, needed)
    out.size += needed
    return out.at + (out.size - needed)


cdef inline int ordered_raw(OrderedBytes *out, const void *data, size_t size) except -1:
    memcpy(ordered_room(out, size), data, size)
    return 0


cdef inline int ordered_code(OrderedBytes *out, uint8_t code) except -1:
    ordered_room(out, 1)[0] = code
    return 0


cdef inline void ordered_word(uint8_t *at, uint64_t word) noexcept:
    word = c_swap64(word)
    memcpy(at, &word, 8)


cdef inline uint64_t double_bits(double value) noexcept:
    cdef uint64_t bits
    memcpy(&bits, &value, 8)
    return bits


cdef inline int ordered_double(OrderedBytes *out, double value) except -1:
    """The code of a number and eight bytes that sort as doubles do; its decimal places follow."""
    cdef uint64_t bits = double_bits(value)
    cdef uint8_t *at = ordered_room(out, 9)
    if value == 0:
        bits = 0
    at[0] = ORDERED_NUMBER
    if value != value:
        ordered_word(at + 1, 0)
    else:
        ordered_word(at + 1, ~bits if bits >> 63 else bits | <uint64_t>1 << 63)
    return 0


cdef int ordered_int64(OrderedBytes *out, int64_t value) except -1:
    """The greatest double that is not above it, then what it lacks in units of its last place: two decimals a byte."""
    cdef double floor = <double>value
    cdef uint64_t rest = 0, unit
    if not -(<int64_t>1 << 53) <= value <= <int64_t>1 << 53:
        if floor >= 9223372036854775808.0 or <int64_t>floor > value:
            floor = nextafter(floor, -INFINITY)
        unit = (double_bits(floor) >> 52 & 0x7ff) - 1075
        rest = <uint64_t>value - <uint64_t><int64_t>floor
    ordered_double(out, floor)
    while rest:
        rest *= 100
        ordered_code(out, <uint8_t>(rest >> unit) + 1)
        rest &= (<uint64_t>1 << unit) - 1
    return ordered_code(out, ORDERED_END)


cdef int ordered_text(OrderedBytes *out, const uint8_t *data, size_t size) except -1:
    """The bytes with FF behind each NUL, and the end 00 01."""
    cdef const uint8_t *nul = <const uint8_t *>memchr(data, 0, size)
    cdef uint8_t *at
    cdef size_t run
    while nul != NULL:
        run = <size_t>(nul - data) + 1
        at = ordered_room(out, run + 1)
        memcpy(at, data, run)
        at[run] = 0xff
        data += run
        size -= run
        nul = <const uint8_t *>memchr(data, 0, size)
    at = ordered_room(out, size + 2)
    memcpy(at, data, size)
    at[size] = 0
    at[size + 1] = 1
    return 0


cdef int ordered_str(OrderedBytes *out, object value) except -1:
    cdef Py_ssize_t size = 0
    cdef const char *text
    try:
        text = c_str_utf8(value, &size)
    except UnicodeEncodeError:
        return ORDERED_REFUSED
    return ordered_text(out, <const uint8_t *>text, <size_t>size)


cdef int64_t days_since_1970(int64_t year, int64_t month, int64_t day) noexcept:
    """Of the proleptic Gregorian calendar; years count from March, so that the leap day is a year's last."""
    cdef int64_t y = year - (month <= 2)
    cdef int64_t era = y // 400
    cdef int64_t of_era = y - era * 400
    cdef int64_t of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


cdef int ordered_datetime(OrderedBytes *out, object value) except -1:
    cdef uint8_t *at
    cdef int64_t us
    cdef object zone = <object>datetime_tzinfo(value)
    us = days_since_1970(datetime_year(value), datetime_month(value), datetime_day(value)) * 86400
    us += datetime_hour(value) * 3600 + datetime_minute(value) * 60 + datetime_second(value)
    us = us * 1000000 + datetime_microsecond(value)
    if zone is not None and zone is not _UTC:
        offset = value.utcoffset()
        if offset is not None:
            us -= offset // _MICROSECOND
    at = ordered_room(out, 9)
    at[0] = ORDERED_INSTANT
    ordered_word(at + 1, <uint64_t>us ^ <uint64_t>1 << 63)
    return 0


cdef int ordered_sequence(OrderedBytes *out, object items, int depth) except -1:
    cdef int rc
    ordered_code(out, ORDERED_ARRAY)
    for item in items:
        rc = ordered_put(out, item, depth)
        if rc:
            return rc
    return ordered_code(out, ORDERED_END)


cdef int ordered_document(OrderedBytes *out, dict fields, int depth) except -1:
    cdef size_t place, value_at
    cdef int rc
    ordered_code(out, ORDERED_DOCUMENT)
    for name, value in fields.items():
        if type(name) is not str:
            return ORDERED_REFUSED
        place = out.size
        ordered_code(out, 0)
        rc = ordered_str(out, name)
        value_at = out.size
        if rc == 0:
            rc = ordered_put(out, value, depth)
        if rc:
            return rc
        # The kind of a value counts before its field's name; both booleans are of one kind.
        out.at[place] = ORDERED_FALSE if out.at[value_at] == ORDERED_TRUE else out.at[value_at]
    return ordered_code(out, ORDERED_END)


cdef int ordered_put(OrderedBytes *out, object value, int depth) except -1:
    """Appends one encoding. ORDERED_REFUSED: the reference says why."""
    cdef int overflow = 0
    cdef long long small
    kind = type(value)
    if kind is str:
        ordered_code(out, ORDERED_TEXT)
        return ordered_str(out, value)
    if kind is int:
        small = c_long_value(value, &overflow)
        if not overflow:
            return ordered_int64(out, small)
    elif kind is float:
        ordered_double(out, <double>value)
        return ordered_code(out, ORDERED_END)
    elif value is None or value is _MISSING:
        return ordered_code(out, ORDERED_NULL)
    elif kind is bool:
        return ordered_code(out, ORDERED_TRUE if value is True else ORDERED_FALSE)
    elif kind is bytes:
        ordered_code(out, ORDERED_BINARY)
        return ordered_text(out, <const uint8_t *>PyBytes_AS_STRING(value), <size_t>PyBytes_GET_SIZE(value))
    elif PyDateTime_CheckExact(value):
        return ordered_datetime(out, value)
    elif kind is _UUID:
        ordered_code(out, ORDERED_IDENTIFIER)
        data = value.bytes
        return ordered_raw(out, PyBytes_AS_STRING(data), 16)
    elif kind is dict or kind is list or kind is tuple:
        if depth >= ORDERED_DEPTH:
            return ORDERED_REFUSED
        if kind is dict:
            return ordered_document(out, <dict>value, depth + 1)
        return ordered_sequence(out, value, depth + 1)
    elif value is _EMPTY_ARRAY:
        return ordered_code(out, ORDERED_EMPTY)
    data = ordered_leaf(value)
    if data is None:
        return ORDERED_REFUSED
    return ordered_raw(out, PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data))


cdef int ordered_refuse(object value, object path) except -1:
    """Raises what the reference does."""
    ordered_check(value, path)
    raise RuntimeError(f"a {type(value).__name__} was changed while it was read, by another thread or by its own code")


def encode_ordered(value, *, path="$"):
    """The bytes that sort as *value* does among values of any type: MongoDB's order, with numbers as one type.

    *path*: what an error calls the value. Raises UnsupportedType for a type without a place in the order (a set, a time of
    day, a subclass), a lone surrogate, and containers nested deeper than 512; KeyTooLarge for a number of more than 100,000
    places. Cost: about 0.1 µs for a scalar, 5 µs for a Decimal.

    >>> encode_ordered(1) == encode_ordered(1.0) < encode_ordered("a")
    True
    """
    cdef OrderedBytes out
    ordered_init(&out)
    try:
        if ordered_put(&out, value, 0) != 0:
            ordered_refuse(value, path)
        return c_bytes_of(<const char *>out.at, <Py_ssize_t>out.size)
    finally:
        ordered_free(&out)


def encode_ordered_column(list values not None, bytes before not None, list behind=None):
    """``before + encode_ordered(value) + behind`` of each of the *values*; None if one of them is an array or can't be encoded.

    *behind*: bytes for each value; None: nothing. Raises ValueError where there are not as many. Cost: about 0.1 µs a value.

    >>> encode_ordered_column(["a", None], b"\\x04", [b"1", b"2"])
    [b'\\x04 a\\x00\\x011', b'\\x04\\x052']
    """
    cdef OrderedBytes out
    cdef list made = []
    cdef Py_ssize_t i
    cdef size_t head = <size_t>PyBytes_GET_SIZE(before)
    if behind is not None and len(behind) != len(values):
        raise ValueError(f"{len(values)} values and {len(behind)} ends: give one for each")
    ordered_init(&out)
    try:
        ordered_raw(&out, PyBytes_AS_STRING(before), head)
        for i in range(len(values)):
            value = values[i]
            out.size = head
            if type(value) is list or type(value) is tuple or ordered_put(&out, value, 0) != 0:
                return None
            if behind is not None:
                tail = <bytes?>behind[i]
                ordered_raw(&out, PyBytes_AS_STRING(tail), <size_t>PyBytes_GET_SIZE(tail))
            made.append(c_bytes_of(<const char *>out.at, <Py_ssize_t>out.size))
        return made
    finally:
        ordered_free(&out)


def encode_compound(values not None, descending not None, bytes before not None=b"", bytes behind not None=b"", names=None):
    """The encodings of a tuple or list of *values* one after the other, those that are *descending* complemented.

    *descending*: a bool each. *before*, *behind*: bytes to put before and behind them. *names*: what an error calls each of
    the values. Raises as ``encode_ordered``, and ValueError where there are not as many of one as of the other. Cost: about
    0.1 µs a scalar, and as much again.

    >>> encode_compound(("Rome", 30), (False, True), b"\\x04", b"\\x15\\x07")
    b'\\x04 Rome\\x00\\x01\\xef?\\xc1\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x15\\x07'
    """
    cdef OrderedBytes out
    cdef size_t begin
    cdef Py_ssize_t count = len(values), i
    if len(descending) != count or (names is not None and len(names) != count):
        raise ValueError(f"{count} values need a direction each (and a name, if any): there are {len(descending)} directions")
    ordered_init(&out)
    try:
        ordered_raw(&out, PyBytes_AS_STRING(before), <size_t>PyBytes_GET_SIZE(before))
        for i in range(count):
            begin = out.size
            if ordered_put(&out, values[i], 0) != 0:
                ordered_refuse(values[i], f"$[{i}]" if names is None else names[i])
            if descending[i]:
                while begin < out.size:
                    out.at[begin] = ~out.at[begin]
                    begin += 1
        ordered_raw(&out, PyBytes_AS_STRING(behind), <size_t>PyBytes_GET_SIZE(behind))
        return c_bytes_of(<const char *>out.at, <Py_ssize_t>out.size)
    finally:
        ordered_free(&out)
