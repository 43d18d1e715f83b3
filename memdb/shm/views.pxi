# One point in time: the snapshot's pin, and zero-copy views of values (rule R4).
#
# Invariants:
#  - A view's block is named by a hazard before the pin is left, and until the last export of its buffer is gone.
#  - The buffer object keeps the mappings alive, so a view outlives its snapshot, its handle and its generation.
#  - A child of a fork has the arena's bytes where its parent's views show them, and never touches the parent's hazards.

cdef class SnapshotHandle(Lender):
    """A pin on the newest state at the time it was made. The base of ``memdb.Snapshot``."""

    cdef object count_known

    def __init__(self, Handle handle not None):
        self.encode_value = handle.encode_value
        self.unpack_value = handle.unpack_value
        cdef PinRef pin = PinRef()
        pin.open(handle, C_PIN_SNAPSHOT)
        pin.shared = True
        self.pin = pin
        pin.leave()

    @property
    def lsn(self) -> int:
        """The LSN of the last commit that this snapshot sees."""
        return self.pin.pin.lsn

    @property
    def closed(self) -> bool:
        """Whether close() was called, or the snapshot was revoked."""
        return not self.pin.held

    def _check(self):
        """Raises what a read would raise: ClosedError, SnapshotExpired, ForkedHandleError."""
        self.pin.check()

    def close(self):
        """Gives the snapshot back: what it kept can be reused. Views stay valid. Idempotent; never raises.

        Cost: a few stores into this process's lease.

        >>> snap.close()
        """
        if self.pin is not None:
            self.pin.close()

    cdef int read(self, KeyBytes *key, bint copy, c_found *found, PyObject **data, int *codec) except -100:
        cdef int rc
        self.pin.enter()
        rc = c_store_get(&self.pin.pin, key.at, key.size, found)
        if rc == C_OK and copy:
            data[0] = value_copy(found, codec)
        if c_pin_leave(&self.pin.pin) != C_OK:
            c_decref(data[0])
            data[0] = NULL
            self.pin.lost()
        if rc < 0:
            raise damaged_arena(self.pin.pin.lsn)
        return rc

    cdef PinRef pin_for_scan(self):
        self.pin.enter()
        return self.pin

    cdef list read_many(self, Keys keys, list values):
        cdef bytearray codecs = bytearray(keys.count)
        cdef uint8_t *codec_at = <uint8_t *>PyByteArray_AS_STRING(codecs)
        cdef uint64_t bad_lsn = 0
        cdef int rc
        self.pin.enter()
        rc = read_batch(&self.pin.pin, keys, values, codec_at, &bad_lsn, NULL)
        self.pin.leave()
        if rc < 0:
            raise damaged_arena(bad_lsn or self.pin.pin.lsn)
        return codec_indexes(codec_at, keys.count)

    def __len__(self):
        self.pin.check()
        if self.count_known is None:
            self.count_known = self._count()
        return self.count_known

    def view(self, key):
        """A read-only memoryview of the ``bytes`` value of *key*, without a copy.

        The record stays until the last buffer over it is gone, also after the snapshot, the handle or the generation
        has gone; what it keeps is counted in ``db.readers()``. At most 256 views of one process are zero-copy at a
        time; further ones are of a copy. In a child of a fork its bytes are sure for as long as the parent keeps it. Raises KeyError, UnsupportedType if the value is no ``bytes``, SnapshotExpired,
        ClosedError. Cost: as ``get`` without the copy.

        >>> with db.snapshot() as snap, snap.view("image") as buf:
        ...     pixels = numpy.frombuffer(buf, numpy.uint8)
        """
        cdef KeyBytes encoded
        cdef c_found found
        cdef ViewBuffer buffer = ViewBuffer()
        cdef PyObject *data = NULL
        cdef int rc, codec = 0, index = -1
        cdef uint64_t last = 0
        self.pin.check()
        buffer.client, buffer.arena = self.pin.client, self.pin.arena
        buffer.parity = self.pin.parity
        if key_encode(&encoded, key, C_SPACE_PLAIN):
            raise KeyError(key)
        try:
            self.pin.enter()
        except BaseException:
            key_free(&encoded)
            raise
        rc = c_store_get(&self.pin.pin, encoded.at, encoded.size, &found)
        key_free(&encoded)
        if rc == C_OK and found.len > 0:
            index = c_hazard_set(self.pin.client.lease, self.pin.parity, found.owner)
            if index < 0:
                data = value_copy(&found, &codec)
            else:
                last = c_load_relaxed(found.data + ((found.len - 1) >> 3))
                codec = (<uint8_t *>&last)[(found.len - 1) & 7]
        if c_pin_leave(&self.pin.pin) != C_OK:
            c_decref(data)
            if index >= 0:
                c_hazard_clear(self.pin.client.lease, self.pin.parity, index)
            self.pin.lost()
        buffer.hazard = index
        if rc == C_ABSENT:
            raise KeyError(key)
        if rc != C_OK or found.len == 0:
            raise damaged_arena(self.pin.pin.lsn)
        if codec != 0:
            c_decref(data)
            if codec != 1:
                raise damaged_value(codec, found.lsn)
            raise UnsupportedType("a view needs a bytes value, and this one is stored as msgpack: read it with snap[key]",
                                  path="$")
        if index < 0:
            return memoryview(self.finish(data, codec, found.lsn))
        buffer.at = <const uint8_t *>found.data
        buffer.size = <Py_ssize_t>found.len - 1
        return memoryview(buffer)


@cython.no_gc
cdef class ViewBuffer:
    """The owner of one hazard entry; memoryviews of it show the value in the arena."""

    cdef Client client
    cdef Mapping arena
    cdef const uint8_t *at
    cdef Py_ssize_t size
    cdef unsigned parity
    cdef int hazard

    def __cinit__(self):
        self.hazard = -1

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.client.forks != fork_count:
            raise ForkedHandleError("the view belongs to the process that made it, and this is its child")
        PyBuffer_FillInfo(buffer, self, <void *>self.at, self.size, 1, flags)

    def __dealloc__(self):
        # Exports hold a reference to this object, so here the last one is gone.
        if self.hazard >= 0 and self.client is not None and self.client.forks == fork_count:
            c_hazard_clear(self.client.lease, self.parity, self.hazard)


from cpython.bytearray cimport PyByteArray_AS_STRING
