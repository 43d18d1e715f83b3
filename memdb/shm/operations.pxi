# The operations of one commit as bytes, in a buffer that grows, and what a TTL means.
#
# Invariants:
#  - The bytes are those of ops.h, behind the read section if the commit is to be validated.
#  - No buffer grows beyond max_transaction_bytes; ops_free is called on every way out.

cdef enum:
    OPS_INLINE = 1024
    OPS_HEADER = 8

cdef struct Ops:
    uint8_t *at
    size_t size
    size_t capacity
    size_t base            # where the operations begin: behind what the commit has read, if it is to be validated
    uint32_t count
    uint8_t *heap
    uint8_t inline_bytes[OPS_INLINE]


cdef inline void ops_init(Ops *ops) noexcept:
    ops.heap = NULL
    ops.at = ops.inline_bytes
    ops.capacity = OPS_INLINE
    ops.size = OPS_HEADER
    ops.base = 0
    ops.count = 0


cdef inline void ops_free(Ops *ops) noexcept:
    if ops.heap != NULL:
        free(ops.heap)
        ops.heap = NULL


cdef int ops_reserve(Ops *ops, size_t needed, uint64_t limit) except -1:
    """Room for *needed* bytes more. Raises TransactionTooLarge."""
    cdef size_t capacity
    cdef void *grown
    if needed <= ops.capacity - ops.size:
        return 0
    if ops.size + needed > limit:
        raise transaction_too_large(ops.size + needed, limit)
    capacity = max(2 * ops.capacity, ops.size + needed)
    grown = realloc(ops.heap, capacity)
    if grown == NULL:
        raise MemoryError()
    if ops.heap == NULL:
        memcpy(grown, ops.inline_bytes, ops.size)
    ops.at = ops.heap = <uint8_t *>grown
    ops.capacity = capacity
    return 0


cdef int ops_add_reads(Ops *ops, const uint8_t *section, size_t size, uint64_t limit) except -1:
    """Puts a read section before the first operation: the commit is validated against it."""
    ops_reserve(ops, size, limit)
    memcpy(ops.at, section, size)
    ops.base = size
    ops.size = size + OPS_HEADER
    return 0


cdef int ops_add(Ops *ops, const c_op *op, uint64_t limit) except -1:
    cdef size_t needed = c_ops_put(ops.at + ops.size, ops.capacity - ops.size, op)
    if needed > ops.capacity - ops.size:
        ops_reserve(ops, needed, limit)
        needed = c_ops_put(ops.at + ops.size, ops.capacity - ops.size, op)
    ops.size += needed
    ops.count += 1
    return 0


cdef object transaction_too_large(object size, object limit):
    return TransactionTooLarge(f"the commit takes {size} bytes and max_transaction_bytes is {limit} bytes: split it, or open "
                               "the database with a larger max_transaction_bytes", size=size, limit=limit)


_TTL_SECONDS_MAX = 3155760000  # 100 years of 365.25 days


cdef uint64_t ttl_us(object ttl) except 0:
    """Seconds or a timedelta in microseconds."""
    if isinstance(ttl, _timedelta):
        us = ttl // _MICROSECOND
    elif isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise TypeError(f"ttl must be seconds (int or float) or a timedelta, not {type(ttl).__name__}")
    elif not 0 < ttl <= _TTL_SECONDS_MAX:
        us = 0
    else:
        us = max(1, int(ttl * 1000000))
    if not 0 < us <= _TTL_SECONDS_MAX * 1000000:
        raise ValueError(f"ttl={ttl!r} is out of range: a TTL is more than 0 s and at most 100 years ({_TTL_SECONDS_MAX} s)")
    return us
