# Plain values, the short way: what memdb/values.py writes and reads of dicts, lists, str, bytes, numbers, bools, None and UUIDs.
# values.py is the reference and has the format (docs/formats/values.md); this part answers for nothing else, and says so.
#
# Invariants:
#  - Byte for byte what the reference writes, and what the reference reads of it; for any other type, any damage and anything
#    nested deeper than PACK_DEPTH the answer is None or _ABSENT, and the reference decides.
#  - Reading stays inside the payload: each length is compared with what is left before it is used.
#  - Names of fields are shared objects: a few hundred of them are kept, each under its bytes.

cdef enum:
    PACK_DEPTH = 64
    PACK_REFUSED = 1
    NAMES_KEPT = 512           # a power of two
    NAME_BYTES_MAX = 32

cdef object _set_uuid_int = _UUID.__dict__["int"].__set__
cdef object _set_uuid_safe = _UUID.__dict__["is_safe"].__set__
cdef object _uuid_unknown = _uuid.SafeUUID.unknown
cdef object _new_uuid = _UUID.__new__


cdef object uuid_made(const uint8_t *at):
    """As ``UUID(bytes=…)``, without its checks: the slots of a new one are filled."""
    made = _new_uuid(_UUID)
    _set_uuid_int(made, int.from_bytes(c_bytes_of(<const char *>at, 16), "big"))
    _set_uuid_safe(made, _uuid_unknown)
    return made


def consecutive_uuids(uint64_t high, uint64_t low, Py_ssize_t count):
    """*count* UUIDs of 64 high bits that stay and 64 low bits that count up from *low*, which must not wrap round.

    Cost: about 0.2 µs each.

    >>> consecutive_uuids(0x7000, 0x8000000000000000, 2)
    [UUID('00000000-0000-7000-8000-000000000000'), UUID('00000000-0000-7000-8000-000000000001')]
    """
    cdef uint8_t raw[16]
    cdef list made = []
    cdef Py_ssize_t i
    cdef int place
    if count > 0 and low + <uint64_t>(count - 1) < low:
        raise OverflowError("the low bits of these UUIDs wrap round")
    for place in range(8):
        raw[7 - place] = <uint8_t>(high >> (8 * place))
    for i in range(count):
        for place in range(8):
            raw[15 - place] = <uint8_t>((low + <uint64_t>i) >> (8 * place))
        made.append(uuid_made(raw))
    return made


# ---- writing

cdef inline int pack_head(OrderedBytes *out, uint8_t code, uint64_t number, int size) except -1:
    """A code and a number of *size* bytes."""
    cdef uint8_t *at = ordered_room(out, 1 + size)
    cdef int i
    at[0] = code
    for i in range(size):
        at[size - i] = <uint8_t>(number >> (8 * i))
    return 0


cdef int pack_length(OrderedBytes *out, size_t length, uint8_t fixed, size_t fixed_below, uint8_t code8, uint8_t code16) except -1:
    """The head of a str, bytes, array or map. *fixed_below*: 0 for none; *code8*: 0 for none; a code of 32 bits follows *code16*."""
    if length < fixed_below:
        return pack_head(out, <uint8_t>(fixed | length), 0, 0)
    if code8 and length < 256:
        return pack_head(out, code8, length, 1)
    if length < 65536:
        return pack_head(out, code16, length, 2)
    if length >> 32:
        return PACK_REFUSED
    return pack_head(out, code16 + 1, length, 4)


cdef int pack_int(OrderedBytes *out, object value) except -1:
    cdef int overflow = 0
    cdef int64_t number = c_long_value(value, &overflow)
    if overflow:
        return PACK_REFUSED
    if 0 <= number < 128 or -32 <= number < 0:
        return pack_head(out, <uint8_t>number, 0, 0)
    if number > 0:
        if number < 256:
            return pack_head(out, 0xcc, number, 1)
        if number < 65536:
            return pack_head(out, 0xcd, number, 2)
        return pack_head(out, 0xce, number, 4) if number < <int64_t>1 << 32 else pack_head(out, 0xcf, number, 8)
    if number >= -128:
        return pack_head(out, 0xd0, <uint64_t>number, 1)
    if number >= -32768:
        return pack_head(out, 0xd1, <uint64_t>number, 2)
    return pack_head(out, 0xd2, <uint64_t>number, 4) if number >= -(<int64_t>1 << 31) else pack_head(out, 0xd3, <uint64_t>number, 8)


cdef int pack_text(OrderedBytes *out, object value) except -1:
    cdef Py_ssize_t size = 0
    cdef const char *text = c_str_utf8(value, &size)
    if pack_length(out, <size_t>size, 0xa0, 32, 0xd9, 0xda):
        return PACK_REFUSED
    return ordered_raw(out, text, <size_t>size)


cdef int pack_put(OrderedBytes *out, object value, int depth) except -1:
    """Appends one value; PACK_REFUSED if it is nothing that is written here."""
    cdef type kind = type(value)
    cdef Py_ssize_t size
    if kind is str:
        return pack_text(out, value)
    if kind is int:
        return pack_int(out, value)
    if kind is float:
        return pack_head(out, 0xcb, double_bits(<double>value), 8)
    if value is None:
        return pack_head(out, 0xc0, 0, 0)
    if kind is bool:
        return pack_head(out, 0xc3 if value else 0xc2, 0, 0)
    if kind is dict:
        return pack_dict(out, <dict>value, depth)
    if kind is list:
        if depth >= PACK_DEPTH or pack_length(out, <size_t>len(<list>value), 0x90, 16, 0, 0xdc):
            return PACK_REFUSED
        for one in <list>value:
            if pack_put(out, one, depth + 1):
                return PACK_REFUSED
        return 0
    if kind is bytes:
        size = PyBytes_GET_SIZE(<bytes>value)
        if pack_length(out, <size_t>size, 0, 0, 0xc4, 0xc5):
            return PACK_REFUSED
        return ordered_raw(out, PyBytes_AS_STRING(<bytes>value), <size_t>size)
    if kind is _UUID:
        data = value.int.to_bytes(16, "big")
        pack_head(out, 0xd8, 4, 1)
        return ordered_raw(out, PyBytes_AS_STRING(<bytes>data), 16)
    return PACK_REFUSED


cdef int pack_dict(OrderedBytes *out, dict value, int depth) except -1:
    cdef PyObject *key = NULL
    cdef PyObject *one = NULL
    cdef Py_ssize_t position = 0
    if depth >= PACK_DEPTH or pack_length(out, <size_t>len(value), 0x80, 16, 0, 0xde):
        return PACK_REFUSED
    while PyDict_Next(value, &position, &key, &one):
        if type(<object>key) is not str or pack_text(out, <object>key) or pack_put(out, <object>one, depth + 1):
            return PACK_REFUSED
    return 0


def pack_plain(value):
    """The stored form of a plain value, as ``values.encode`` writes it; None if the value holds anything else.

    Cost: about 1 µs for a dict of ten fields.

    >>> pack_plain({"n": 1}), pack_plain({1, 2})
    (b'\\x81\\xa1n\\x01\\x01', None)
    """
    made = pack_plain_column([value])
    return None if made is None else made[0]


def pack_plain_column(list values not None):
    """As pack_plain(), of each of the *values*; None if one of them holds anything else. Cost: that of each.

    >>> pack_plain_column([{"n": 1}, 2]), pack_plain_column([1, {1, 2}])
    ([b'\\x81\\xa1n\\x01\\x01', b'\\x02\\x01'], None)
    """
    cdef OrderedBytes out
    cdef list made = []
    ordered_init(&out)
    try:
        for value in values:
            out.size = 0
            if type(value) is bytes or pack_put(&out, value, 0):
                return None
            ordered_code(&out, 1)  # the codec byte
            made.append(c_bytes_of(<const char *>out.at, <Py_ssize_t>out.size))
        return made
    except UnicodeEncodeError:  # a lone surrogate
        return None
    finally:
        ordered_free(&out)


# ---- reading

cdef list _names = [None] * NAMES_KEPT        # str
cdef list _names_stored = [None] * NAMES_KEPT  # its bytes


cdef struct Packed:
    const uint8_t *at
    const uint8_t *end


cdef inline bint packed_take(Packed *data, uint64_t size, const uint8_t **at) noexcept:
    """Whether so many bytes are left; *at* is where they are."""
    if size > <uint64_t>(data.end - data.at):
        return False
    at[0] = data.at
    data.at += size
    return True


cdef inline bint packed_number(Packed *data, int size, uint64_t *number) noexcept:
    cdef const uint8_t *at = NULL
    cdef int i
    if not packed_take(data, size, &at):
        return False
    number[0] = 0
    for i in range(size):
        number[0] = number[0] << 8 | at[i]
    return True


cdef object packed_text(Packed *data, uint64_t size):
    cdef const uint8_t *at = NULL
    if not packed_take(data, size, &at):
        return _ABSENT
    return c_str_of(<const char *>at, <Py_ssize_t>size, NULL)


cdef object packed_name(Packed *data):
    """The name of a field, one object for all documents; _ABSENT if it is no short str."""
    cdef uint64_t size
    cdef uint32_t place = 2166136261u
    cdef uint64_t i
    cdef const uint8_t *at = NULL
    cdef object kept
    if data.at >= data.end or (data.at[0] & 0xe0) != 0xa0:
        return packed_value(data, PACK_DEPTH)
    size = data.at[0] & 0x1f
    data.at += 1
    if not packed_take(data, size, &at):
        return _ABSENT
    for i in range(size):
        place = (place ^ at[i]) * 16777619u
    place &= NAMES_KEPT - 1
    kept = _names_stored[place]
    if kept is not None and PyBytes_GET_SIZE(<bytes>kept) == <Py_ssize_t>size and memcmp(PyBytes_AS_STRING(<bytes>kept), at, size) == 0:
        return _names[place]
    name = c_str_of(<const char *>at, <Py_ssize_t>size, NULL)
    _names_stored[place] = None
    _names[place] = name
    _names_stored[place] = c_bytes_of(<const char *>at, <Py_ssize_t>size)
    return name


cdef object packed_array(Packed *data, uint64_t count, int depth):
    cdef list made = []
    cdef uint64_t i
    if depth >= PACK_DEPTH or count > <uint64_t>(data.end - data.at):
        return _ABSENT
    for i in range(count):
        one = packed_value(data, depth + 1)
        if one is _ABSENT:
            return _ABSENT
        made.append(one)
    return made


cdef object packed_map(Packed *data, uint64_t count, int depth):
    cdef dict made = {}
    cdef uint64_t i
    if depth >= PACK_DEPTH or count > <uint64_t>(data.end - data.at):
        return _ABSENT
    for i in range(count):
        name = packed_name(data)
        if type(name) is not str:
            return _ABSENT
        one = packed_value(data, depth + 1)
        if one is _ABSENT:
            return _ABSENT
        made[name] = one
    return made


cdef object packed_value(Packed *data, int depth):
    """The next value; _ABSENT for what is not read here."""
    cdef const uint8_t *at = NULL
    cdef uint64_t number = 0
    cdef uint8_t code
    cdef double real
    if data.at >= data.end:
        return _ABSENT
    code = data.at[0]
    data.at += 1
    if code < 0x80:
        return code
    if code >= 0xe0:
        return <int>code - 256
    if code < 0x90:
        return packed_map(data, code & 0x0f, depth)
    if code < 0xa0:
        return packed_array(data, code & 0x0f, depth)
    if code < 0xc0:
        return packed_text(data, code & 0x1f)
    if code == 0xc0:
        return None
    if code == 0xc2 or code == 0xc3:
        return code == 0xc3
    if code == 0xcb:
        if not packed_number(data, 8, &number):
            return _ABSENT
        memcpy(&real, &number, 8)
        return real
    if code == 0xd8:
        if not packed_take(data, 17, &at) or at[0] != 4:
            return _ABSENT
        return uuid_made(at + 1)
    if 0xcc <= code <= 0xcf:
        return number if packed_number(data, 1 << (code - 0xcc), &number) else _ABSENT
    if 0xd0 <= code <= 0xd3:
        return packed_signed(data, 1 << (code - 0xd0))
    if 0xd9 <= code <= 0xdb:
        return packed_text(data, number) if packed_number(data, 1 << (code - 0xd9), &number) else _ABSENT
    if 0xc4 <= code <= 0xc6:
        if not packed_number(data, 1 << (code - 0xc4), &number) or not packed_take(data, number, &at):
            return _ABSENT
        return c_bytes_of(<const char *>at, <Py_ssize_t>number)
    if code == 0xdc or code == 0xdd:
        return packed_array(data, number, depth) if packed_number(data, 2 << (code - 0xdc), &number) else _ABSENT
    if code == 0xde or code == 0xdf:
        return packed_map(data, number, depth) if packed_number(data, 2 << (code - 0xde), &number) else _ABSENT
    return _ABSENT


cdef object packed_signed(Packed *data, int size):
    cdef uint64_t number = 0
    cdef int shift = 64 - 8 * size
    if not packed_number(data, size, &number):
        return _ABSENT
    return <int64_t>(number << shift) >> shift


def unpack_plain(bytes payload not None, default=None):
    """The plain value of a payload, as ``values.unpack`` reads it; *default* if it holds anything else, or damage.

    Cost: about 1.5 µs for a dict of ten fields.

    >>> unpack_plain(b"\\x81\\xa1n\\x01")
    {'n': 1}
    """
    cdef Packed data
    data.at = <const uint8_t *>PyBytes_AS_STRING(payload)
    data.end = data.at + PyBytes_GET_SIZE(payload)
    try:
        value = packed_value(&data, 0)
    except UnicodeDecodeError:
        return default
    return default if value is _ABSENT or data.at != data.end else value
