# Keys: Python objects to stored keys and back. The bytes are key.c's (the FoundationDB tuple layer's encoding); this part
# owns which Python types they stand for and what is said about those that can't be keys.
#
# Invariants:
#  - Types are exact: a subclass would come back as its base, so it is refused.
#  - Nothing here touches shared memory: keys are decoded from private copies.
#  - A KeyBytes is freed by key_free on every way out; short keys never leave the C stack.

import uuid as _uuid
from datetime import datetime as _datetime, timedelta as _timedelta, timezone as _timezone

from memdb.errors import CorruptionError, KeyTooLarge, UnsupportedType

cdef object _UUID = _uuid.UUID
cdef object _UTC = _timezone.utc
cdef object _MICROSECOND = _timedelta(microseconds=1)
cdef object _EPOCH = _datetime(1970, 1, 1, tzinfo=_timezone.utc)

cdef enum:
    KEY_STACK = 512
    CODE_BYTES = 0x01      # the tuple layer's type code of a byte string
# A stored key that a caller would call empty: space byte, type code, end mark. Limits count what is beyond it.
KEY_OVERHEAD = 3

cdef struct KeyBytes:
    uint8_t *at
    size_t size
    uint8_t *heap
    uint8_t stack[KEY_STACK]


cdef inline void key_free(KeyBytes *key) noexcept:
    if key.heap != NULL:
        free(key.heap)
        key.heap = NULL


cdef object _refused_key(object key, str why):
    kind = type(key)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return UnsupportedType(f"{name} can't be a key: {why}", type_name=name, path="key")


cdef int _put_number(c_key_writer *writer, object key) except -100:
    cdef int overflow = 0
    cdef long long small = c_long_value(key, &overflow)
    if not overflow:
        return c_key_put_int64(writer, small)
    magnitude = abs(key)
    cdef Py_ssize_t size = (magnitude.bit_length() + 7) // 8
    if size > 255:
        raise _refused_key(key, f"this one takes {size} bytes, and a key's integer has at most 255")
    data = magnitude.to_bytes(size, "big")
    return c_key_put_bigint(writer, overflow < 0, <const uint8_t *>PyBytes_AS_STRING(data), <size_t>size)


cdef int _put_text(c_key_writer *writer, object key) except -100:
    cdef Py_ssize_t size = 0
    cdef const char *text
    try:
        text = c_str_utf8(key, &size)
    except UnicodeEncodeError as error:
        raise _refused_key(key, f"a lone surrogate at index {error.start} has no UTF-8") from None
    return c_key_put_str(writer, <const uint8_t *>text, <size_t>size)


cdef int _put_datetime(c_key_writer *writer, object key) except -100:
    if key.utcoffset() is None:
        raise _refused_key(key, "it is naive; give it a time zone, as in value.replace(tzinfo=timezone.utc)")
    try:
        delta = key.astimezone(_UTC) - _EPOCH
    except OverflowError:
        raise _refused_key(key, "in UTC it lies outside the years 1 to 9999") from None
    cdef int64_t us = (<int64_t>delta.days * 86400 + <int64_t>delta.seconds) * 1000000 + <int64_t>delta.microseconds
    return c_key_put_datetime(writer, us)


cdef int _put_tuple(c_key_writer *writer, tuple key, int depth) except -100:
    cdef int rc
    if depth >= C_KEY_MAX_DEPTH:
        raise _refused_key(key, f"tuples are nested more than {<int>C_KEY_MAX_DEPTH} deep")
    rc = c_key_put_begin(writer)
    if rc < 0:
        return rc
    for item in key:
        rc = _put_element(writer, item, depth + 1)
        if rc < 0:
            return rc
    return c_key_put_end(writer)


cdef int _put_element(c_key_writer *writer, object key, int depth) except -100:
    kind = type(key)
    if kind is bytes:
        return c_key_put_bytes(writer, <const uint8_t *>PyBytes_AS_STRING(key), <size_t>PyBytes_GET_SIZE(key))
    if kind is str:
        return _put_text(writer, key)
    if kind is int:
        return _put_number(writer, key)
    if kind is tuple:
        return _put_tuple(writer, key, depth)
    if key is None:
        return c_key_put_null(writer)
    if kind is bool:
        return c_key_put_bool(writer, key is True)
    if kind is float:
        if key != key:
            raise _refused_key(key, "NaN has no place in an order; use None, or a str that says so")
        return c_key_put_double(writer, <double>key)
    if kind is _UUID:
        data = key.bytes
        return c_key_put_uuid(writer, <const uint8_t *>PyBytes_AS_STRING(data))
    if kind is _datetime:
        return _put_datetime(writer, key)
    raise _refused_key(key, "keys are None, bytes, str, tuple, int, float, bool, uuid.UUID and aware datetime")


cdef int _encode_any(KeyBytes *out, object key, uint8_t space, size_t cap) except -100:
    cdef c_key_writer writer
    c_key_writer_init(&writer, out.at, cap)
    cdef int rc = c_key_put_space(&writer, space)
    if rc == 0:
        rc = _put_element(&writer, key, 0)
    if rc == C_KEY_TOO_DEEP:
        raise _refused_key(key, f"tuples are nested more than {<int>C_KEY_MAX_DEPTH} deep")
    if rc == 0:
        out.size = writer.len
    elif rc != C_KEY_OVERFLOW:
        raise _refused_key(key, "it has no encoding")
    return rc


cdef inline int key_stored_already(KeyBytes *out, bytes stored) except -1:
    """As key_encode(): the bytes of a SpaceKey as they are, which lives as long as the call that it was given to."""
    if PyBytes_GET_SIZE(stored) < 2:
        check_stored_key(stored)
    if PyBytes_GET_SIZE(stored) > C_KEY_MAX:
        out.size = 0
        return 1
    out.at, out.size = <uint8_t *>PyBytes_AS_STRING(stored), <size_t>PyBytes_GET_SIZE(stored)
    return 0


cdef int key_encode(KeyBytes *out, object key, uint8_t space) except -1:
    """The stored key of *key* into *out*; 1 if it is longer than any stored key can be (out.size is then 0)."""
    cdef Py_ssize_t size = 0
    cdef const char *text
    out.heap = NULL
    out.at = out.stack
    if type(key) is bytes:
        size = PyBytes_GET_SIZE(key)
        if 2 * size + 3 <= KEY_STACK:
            out.size = <size_t>c_key_encode_bytes(out.stack, KEY_STACK, space,
                                                  <const uint8_t *>PyBytes_AS_STRING(key), <size_t>size)
            return 0
    elif type(key) is SpaceKey:
        return key_stored_already(out, (<SpaceKey>key).stored)
    if _encode_any(out, key, space, KEY_STACK) == 0:
        return 0
    out.heap = <uint8_t *>malloc(C_KEY_MAX)
    if out.heap == NULL:
        raise MemoryError()
    out.at = out.heap
    try:
        if _encode_any(out, key, space, C_KEY_MAX) == 0:
            return 0
    except BaseException:
        key_free(out)
        raise
    key_free(out)
    out.at = out.stack
    out.size = 0
    return 1


cdef object _key_too_large(object size, object limit):
    return KeyTooLarge(f"the key takes {size} bytes and max_key_bytes is {limit} bytes: shorten the key, or open the "
                       f"database with a larger max_key_bytes", size=size, limit=limit)


cdef int key_encode_checked(KeyBytes *out, object key, uint64_t limit) except -1:
    """For writes: KeyTooLarge above *limit* bytes, not counting space byte, type code and end mark."""
    cdef int rc = key_encode(out, key, C_SPACE_PLAIN)
    if rc == 1:
        raise _key_too_large(f"more than {<int>C_KEY_MAX}", limit)
    if out.size > limit + 3:
        size = out.size - 3
        key_free(out)
        raise _key_too_large(size, limit)
    return 0


cdef object _bad_key(const uint8_t *stored, size_t size, str why):
    shown = c_bytes_of(<const char *>stored, <Py_ssize_t>min(size, 64))
    return CorruptionError(f"a stored key of {size} bytes is malformed ({why}): {shown!r}; run check()")


cdef object _read_payload(const c_key_item *item):
    if item.payload_len == item.span_len:
        return c_bytes_of(<const char *>item.span, <Py_ssize_t>item.span_len)
    data = c_bytes_of(NULL, <Py_ssize_t>item.payload_len)
    c_key_copy_payload(item, <uint8_t *>PyBytes_AS_STRING(data), item.payload_len)
    return data


cdef object _read_text(const c_key_item *item):
    try:
        if item.payload_len == item.span_len:
            return c_str_of(<const char *>item.span, <Py_ssize_t>item.span_len, NULL)
        return _read_payload(item).decode()
    except UnicodeDecodeError as error:
        raise _bad_key(item.span, item.span_len, str(error)) from None


cdef object _read_tuple(c_key_reader *reader, const uint8_t *stored, size_t size):
    cdef c_key_item item
    cdef list items = []
    while True:
        if c_key_next(reader, &item) < 0 or item.kind == C_KEY_END:
            raise _bad_key(stored, size, "a tuple does not end")
        if item.kind == C_KEY_TUPLE_END:
            return tuple(items)
        items.append(_read_element(reader, &item, stored, size))


cdef object _read_element(c_key_reader *reader, const c_key_item *item, const uint8_t *stored, size_t size):
    cdef int kind = item.kind
    if kind == C_KEY_BYTES:
        return _read_payload(item)
    if kind == C_KEY_STR:
        return _read_text(item)
    if kind == C_KEY_INT64:
        return item.int64
    if kind == C_KEY_TUPLE_BEGIN:
        return _read_tuple(reader, stored, size)
    if kind == C_KEY_NULL:
        return None
    if kind == C_KEY_BIGINT:
        data = c_bytes_of(NULL, <Py_ssize_t>item.payload_len)  # a negative one's span is complemented
        c_key_copy_payload(item, <uint8_t *>PyBytes_AS_STRING(data), item.payload_len)
        number = int.from_bytes(data, "big")
        return -number if item.negative else number
    if kind == C_KEY_DOUBLE or kind == C_KEY_FLOAT32:
        return item.float64
    if kind == C_KEY_BOOL:
        return bool(item.boolean)
    if kind == C_KEY_UUID:
        return uuid_made(<const uint8_t *>item.span)
    if kind == C_KEY_DATETIME:
        try:
            return _EPOCH + _timedelta(microseconds=item.int64)
        except OverflowError:
            raise _bad_key(stored, size, "a datetime outside the years 1 to 9999") from None
    raise _bad_key(stored, size, f"element kind {kind}")


cdef object key_decode(const uint8_t *stored, size_t size):
    """The key whose stored form is at *stored*: private memory. CorruptionError for bytes that are none."""
    cdef c_key_reader reader
    cdef c_key_item item
    if size < 2:
        raise _bad_key(stored, size, "too short")
    if stored[1] == CODE_BYTES and memchr(stored + 2, 0, size - 2) == stored + size - 1:
        return c_bytes_of(<const char *>stored + 2, <Py_ssize_t>size - 3)  # one bytes element without a NUL
    c_key_reader_init(&reader, stored + 1, size - 1)
    if c_key_next(&reader, &item) < 0 or item.kind == C_KEY_END or item.kind == C_KEY_TUPLE_END:
        raise _bad_key(stored, size, "no whole element")
    key = _read_element(&reader, &item, stored, size)
    if c_key_next(&reader, &item) < 0 or item.kind != C_KEY_END:
        raise _bad_key(stored, size, "bytes behind the key")
    return key


cdef bytes stored_key(object key, uint8_t space):
    cdef KeyBytes out
    if key_encode(&out, key, space):
        raise _key_too_large(f"more than {<int>C_KEY_MAX}", <int>C_KEY_MAX)
    data = c_bytes_of(<const char *>out.at, <Py_ssize_t>out.size)
    key_free(&out)
    return data


def encode_key(key, int space=1):
    """The stored form of *key*: its space byte and its tuple encoding. Raises UnsupportedType, KeyTooLarge.

    >>> encode_key("a")
    b'\\x01\\x02a\\x00'
    """
    if not 1 <= space <= 7:
        raise ValueError(f"space must be 1 to 7, not {space}")
    if type(key) is SpaceKey:
        raise _refused_key(key, "it is in stored form already; take its .stored")
    return stored_key(key, <uint8_t>space)


def decode_key(bytes stored not None):
    """The key whose stored form is *stored*. Raises CorruptionError for bytes that are no key.

    >>> decode_key(b"\\x01\\x02a\\x00")
    'a'
    """
    return key_decode(<const uint8_t *>PyBytes_AS_STRING(stored), <size_t>PyBytes_GET_SIZE(stored))


def encode_prefix(prefix):
    """(start, stop) of the stored keys that *prefix* covers, stop exclusive. Raises UnsupportedType, KeyTooLarge."""
    cdef uint8_t *stop
    cdef int size
    if type(prefix) not in (bytes, str, tuple):
        kind = type(prefix).__qualname__
        raise UnsupportedType(f"{kind} can't be a prefix: it is of bytes, str or tuple", type_name=kind, path="prefix")
    cdef bytes stored = stored_key(prefix, C_SPACE_PLAIN)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(stored)
    data = c_bytes_of(NULL, length)
    size = c_key_prefix_stop(<const uint8_t *>PyBytes_AS_STRING(stored), <size_t>length,
                             <uint8_t *>PyBytes_AS_STRING(data), <size_t>length)
    if size < 0:
        raise _refused_key(prefix, "it has no range")
    return stored[:length - 1], data[:size]
