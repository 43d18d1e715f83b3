"""The value codec: Python objects to the bytes that the kernel stores, and back, exactly.

Owns: format version 1 of stored values (docs/formats/values.md explains the same bytes).

A stored value is a payload and ONE trailing codec byte: ``0x00``, the payload is the bytes value itself;
``0x01``, the payload is one msgpack object. The types that msgpack lacks are ext types:

====  =========  =========================================================================================
code  type       payload (big-endian)
====  =========  =========================================================================================
1     mark       u8: 1 tuple, 2 set, 3 frozenset; first element of an array, says what the array stands for
2     int        two's complement, for those outside -2**63 … 2**64 - 1
3     Decimal    its exact ``str``, ASCII
4     UUID       16 bytes
5     date       u16 year, u8 month, u8 day
6     time       u8 hour, u8 minute, u8 second, u32 microsecond, u8 fold, zone
7     datetime   u16 year, u8 month, u8 day, u8 hour, u8 minute, u8 second, u32 microsecond, u8 fold, zone
8     timedelta  i32 days, u32 seconds, u32 microseconds
9     complex    f64 real, f64 imaginary
====  =========  =========================================================================================

zone: u8 kind, then: 0 none; 1 fixed, i64 offset in microseconds; 2 fixed and named, i64 offset,
UTF-8 name; 3 ZoneInfo, i64 offset then, UTF-8 key; 4 ZoneInfo of a ``time``, which has no offset, UTF-8 key.

Invariants:

* Types are exact: a subclass would come back as its base, so it is refused, as is every type not named here.
* The C packer does the work; the Python writer below it runs only to settle a doubt (a refused type, whose
  place it names; nesting too deep; an ``ExtType`` of the user's). Both write the same bytes.
* No value runs code when it is read, and bytes that this codec never wrote raise CorruptionError only.
* Tuples and sets are marked arrays, not ext types with an array inside: no depth needs recursion to be read.
* Packers come from a pool and are never shared while in use: a finalizer or a thread may pack meanwhile.
"""

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from msgpack import ExtType, Packer, Unpacker, UnpackException, unpackb

from memdb.errors import CorruptionError, UnsupportedType

__all__ = ["CODEC_BYTES", "CODEC_MSGPACK", "MAX_DEPTH", "decode", "encode", "pack", "unpack"]

CODEC_BYTES: Final = 0x00
CODEC_MSGPACK: Final = 0x01
MAX_DEPTH: Final = 512

_MARK, _INT, _DECIMAL, _UUID, _DATE, _TIME, _DATETIME, _TIMEDELTA, _COMPLEX = range(1, 10)
_NO_ZONE, _FIXED, _FIXED_NAMED, _ZONE, _ZONE_OF_TIME = range(5)

_DATE_FIELDS = struct.Struct(">HBB")
_TIME_FIELDS = struct.Struct(">BBBIB")
_DATETIME_FIELDS = struct.Struct(">HBBBBBIB")
_TIMEDELTA_FIELDS = struct.Struct(">iII")
_COMPLEX_FIELDS = struct.Struct(">dd")
_OFFSET = struct.Struct(">q")
_UTC_ZONE = bytes([_FIXED]) + _OFFSET.pack(0)
_MICROSECOND = timedelta(microseconds=1)

BytesLike = bytes | bytearray | memoryview


def encode(value: object) -> bytes:
    """The stored form of *value*: payload and codec byte.

    Raises UnsupportedType naming the type and its path in the value. Cost: one pass; bytes are copied once.

    >>> encode(b"raw"), encode({"n": 1})
    (b'raw\\x00', b'\\x81\\xa1n\\x01\\x01')
    """
    if type(value) in _BYTES_TYPES:
        return b"%b\0" % (value,) if type(value) is bytes else bytes(value) + b"\0"  # type: ignore[call-overload]
    return pack(value) + b"\1"


def decode(data: BytesLike) -> object:
    """The value whose stored form is *data*: a new object. Raises CorruptionError for bytes that are none.

    >>> decode(encode((1, {2, 3})))
    (1, {2, 3})
    """
    if not data:
        raise CorruptionError("a stored value has no codec byte: it is empty")
    codec = data[-1]
    if codec == CODEC_BYTES:
        return bytes(data[:-1])
    if codec == CODEC_MSGPACK:
        return unpack(data[:-1])
    raise CorruptionError(f"a stored value has the unknown codec byte 0x{codec:02x} (known: 0x00, 0x01)")


# ---------------------------------------------------------------------------------------------------- packing


def pack(value: object) -> bytes:
    """The msgpack payload of *value*, without the codec byte. Raises UnsupportedType.

    Cost: that of msgpack's C packer, one Python call for each object that msgpack has no type for, and for
    payloads above 512 bytes a scan of their nesting.
    """
    try:
        packer = _pool.pop()
    except IndexError:
        packer = _PooledPacker()
    packer.replaced = 0
    data: bytes | None
    try:
        data = packer.pack(value)
    except (TypeError, ValueError, OverflowError, BufferError):
        data = None  # the careful writer tells what is wrong, and where, or finds that nothing is
    replaced = packer.replaced
    if len(_pool) < _POOL_LIMIT and (data is None or len(data) <= _POOLED_BUFFER_LIMIT):
        _pool.append(packer)
    if data is None or not _is_certain(data, replaced):
        return _write_carefully(value)
    return data


class _PooledPacker:
    """A C packer and the count of objects that it had replaced by ext types and marked arrays."""

    __slots__ = ("pack", "replaced")

    def __init__(self) -> None:
        self.replaced = 0
        self.pack: Callable[[object], bytes] = Packer(
            default=self._replace, strict_types=True, use_bin_type=True, buf_size=1024
        ).pack

    def _replace(self, value: object) -> object:
        kind = type(value)
        if kind is bytearray:
            return bytes(value)  # type: ignore[call-overload]
        self.replaced += 1
        mark = _MARK_OF.get(kind)
        if mark is not None:
            return [mark, *value]  # type: ignore[misc]
        write = _WRITERS.get(kind)
        if write is None:
            raise TypeError(kind)
        return ExtType(*write(value))


_pool: list[_PooledPacker] = []
_POOL_LIMIT: Final = 16
_POOLED_BUFFER_LIMIT: Final = 1 << 20  # a packer keeps the buffer of its largest value

# Format bytes that open an ext type, and the headers of a msgpack timestamp, which the packer takes as it is.
_EXT_BYTES = bytes([0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8])
_TIMESTAMPS = (b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff")


def _is_certain(data: bytes, replaced: int) -> bool:
    """Whether *data* holds only ext types that this codec made, and is not nested too deep.

    The packer takes a user's ExtType without asking, so their number is compared: first that of bytes that
    could open one (most often equal, at memory speed), then that of real ones.
    """
    if len(data) > MAX_DEPTH and not _is_nested_within_limit(data):
        return False
    if len(data) - len(data.translate(None, _EXT_BYTES)) != replaced:
        if any(header in data for header in _TIMESTAMPS):
            return False
        found: list[int] = []
        unpackb(
            data,
            ext_hook=lambda code, payload: found.append(code),
            list_hook=len,
            object_pairs_hook=len,
            strict_map_key=False,
        )
        return len(found) == replaced
    return True


def _find_stack_limit() -> int:
    """How deep msgpack's unpacker can go, which its versions do not agree on."""
    low, high = 0, 1 << 16
    while high - low > 1:
        middle = (low + high) // 2
        unpacker = Unpacker()
        unpacker.feed(b"\x91" * middle + b"\xc0")
        try:
            unpacker.skip()
            low = middle
        except (ValueError, RecursionError):  # StackError is a ValueError
            high = middle
    return low


_STACK_LIMIT: Final = _find_stack_limit()
if _STACK_LIMIT <= MAX_DEPTH:
    raise ImportError(
        f"memdb nests values {MAX_DEPTH} deep, this msgpack reads only {_STACK_LIMIT}: "
        "install msgpack with its C extension"
    )
_STACK_FILLER: Final = b"\x91" * (_STACK_LIMIT - MAX_DEPTH)


def _is_nested_within_limit(data: bytes) -> bool:
    """Scan the payload in C, below so many arrays that the scanner's own limit falls on ours."""
    unpacker = Unpacker(max_buffer_size=0)
    unpacker.feed(_STACK_FILLER)
    unpacker.feed(data)
    try:
        unpacker.skip()
    except ValueError:
        return False
    return True


# ------------------------------------------------------------------------------------ one leaf type at a time


class _Refused(ValueError):
    """A value of a storable type that can't be stored; the text says why."""


def _write_zone(zone: tzinfo | None, offset: timedelta | None) -> bytes:
    if zone is None:
        return b"\0"
    if zone is UTC:
        return _UTC_ZONE
    if type(zone) is timezone:
        fixed = zone.utcoffset(None)
        name = zone.tzname(None)
        if name == timezone(fixed).tzname(None):
            return bytes([_FIXED]) + _OFFSET.pack(fixed // _MICROSECOND)
        return bytes([_FIXED_NAMED]) + _OFFSET.pack(fixed // _MICROSECOND) + _utf8(name)
    if type(zone) is ZoneInfo:
        if zone.key is None:
            raise _Refused("its ZoneInfo has no key")
        if offset is None:
            return bytes([_ZONE_OF_TIME]) + _utf8(zone.key)
        return bytes([_ZONE]) + _OFFSET.pack(offset // _MICROSECOND) + _utf8(zone.key)
    raise _Refused(f"its tzinfo is a {_name_of(type(zone))}; use datetime.timezone or zoneinfo.ZoneInfo")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise _Refused("the name of its time zone holds a lone surrogate") from None


def _write_int(value: int) -> tuple[int, bytes]:
    return _INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _write_time(value: time) -> tuple[int, bytes]:
    fields = _TIME_FIELDS.pack(value.hour, value.minute, value.second, value.microsecond, value.fold)
    zone = value.tzinfo
    return _TIME, fields + _write_zone(zone, None)


def _write_datetime(value: datetime) -> tuple[int, bytes]:
    day = value.year, value.month, value.day
    clock = value.hour, value.minute, value.second, value.microsecond
    zone = value.tzinfo
    offset = value.utcoffset() if type(zone) is ZoneInfo else None  # no code of a foreign tzinfo is run
    return _DATETIME, _DATETIME_FIELDS.pack(*day, *clock, value.fold) + _write_zone(zone, offset)


_WRITERS: dict[type, Callable[..., tuple[int, bytes]]] = {
    int: _write_int,
    Decimal: lambda value: (_DECIMAL, str(value).encode("ascii")),
    UUID: lambda value: (_UUID, value.bytes),
    date: lambda value: (_DATE, _DATE_FIELDS.pack(value.year, value.month, value.day)),
    time: _write_time,
    datetime: _write_datetime,
    timedelta: lambda value: (
        _TIMEDELTA,
        _TIMEDELTA_FIELDS.pack(value.days, value.seconds, value.microseconds),
    ),
    complex: lambda value: (_COMPLEX, _COMPLEX_FIELDS.pack(value.real, value.imag)),
}
_MARK_OF: dict[type, ExtType] = {
    tuple: ExtType(_MARK, b"\1"),
    set: ExtType(_MARK, b"\2"),
    frozenset: ExtType(_MARK, b"\3"),
}
_BYTES_TYPES = frozenset({bytes, bytearray, memoryview})
_MSGPACK_TYPES = frozenset({type(None), bool, float, str, bytes})


def _read_zone(data: bytes) -> tzinfo | None:
    kind = data[0]
    if kind in (_NO_ZONE, _FIXED):
        if len(data) != (1 if kind == _NO_ZONE else 9):
            raise ValueError("a time zone of the wrong length")
        return None if kind == _NO_ZONE else timezone(_OFFSET.unpack_from(data, 1)[0] * _MICROSECOND)
    if kind == _ZONE_OF_TIME:
        return ZoneInfo(data[1:].decode())
    if kind not in (_FIXED_NAMED, _ZONE):
        raise ValueError(f"an unknown kind of time zone: {kind}")
    offset, name = _OFFSET.unpack_from(data, 1)[0] * _MICROSECOND, data[9:].decode()
    if kind == _ZONE:
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
            pass  # a zone that this machine does not know: its instant and name are kept
    return timezone(offset, name)


def _read_time(data: bytes) -> time:
    hour, minute, second, microsecond, fold = _TIME_FIELDS.unpack_from(data)
    return time(hour, minute, second, microsecond, _read_zone(data[_TIME_FIELDS.size :]), fold=fold)


def _read_datetime(data: bytes) -> datetime:
    year, month, day, hour, minute, second, microsecond, fold = _DATETIME_FIELDS.unpack_from(data)
    zone = _read_zone(data[_DATETIME_FIELDS.size :])
    return datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _read_timedelta(data: bytes) -> timedelta:
    days, seconds, microseconds = _TIMEDELTA_FIELDS.unpack(data)
    return timedelta(days, seconds, microseconds)


_READERS: dict[int, Callable[[bytes], object]] = {
    _INT: lambda data: int.from_bytes(data, "big", signed=True),
    _DECIMAL: lambda data: Decimal(data.decode("ascii")),
    _UUID: lambda data: UUID(bytes=data),
    _DATE: lambda data: date(*_DATE_FIELDS.unpack(data)),
    _TIME: _read_time,
    _DATETIME: _read_datetime,
    _TIMEDELTA: _read_timedelta,
    _COMPLEX: lambda data: complex(*_COMPLEX_FIELDS.unpack(data)),
}


# -------------------------------------------------------------------------------------------------- unpacking


def unpack(data: BytesLike) -> object:
    """The object whose msgpack payload is *data*. Raises CorruptionError for what :func:`pack` never wrote.

    Cost: that of msgpack's C unpacker, and a Python call for each ext type; where a tuple or set is inside,
    also for each array.
    """
    payload = data if type(data) is bytes else bytes(data)
    try:
        if _MARK_HEADER in payload:  # or two bytes that look like one: the answer is the same
            return _MarkedReader().read(payload)
        return unpackb(payload, ext_hook=_read_leaf, strict_map_key=False)
    except _DAMAGE as error:
        raise CorruptionError(
            f"a stored value of {len(payload)} bytes can't be decoded ({type(error).__name__}: {error}); "
            "run check() on the database"
        ) from error


_MARK_HEADER = bytes([0xD4, _MARK])
# What msgpack and the constructors of the leaf types raise for bytes that mean nothing.
_DAMAGE = (ValueError, TypeError, LookupError, ArithmeticError, OSError, struct.error, UnpackException)


def _read_leaf(code: int, data: bytes) -> object:
    read = _READERS.get(code)
    if read is None:
        raise ValueError(f"an unknown ext type: {code}")
    return read(data)


class _Mark:
    """What the first element of a marked array becomes; never part of a value."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[[list[object]], object]) -> None:
        self.build = build


_MARKS = {b"\1": _Mark(tuple), b"\2": _Mark(set), b"\3": _Mark(frozenset)}


class _MarkedReader:
    """Reads one payload with marked arrays; a mark in any other place is an error."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting = 0

    def read(self, payload: bytes) -> object:
        value: object = unpackb(
            payload, ext_hook=self._read_ext, list_hook=self._read_array, strict_map_key=False
        )
        if self._waiting:
            raise ValueError("a mark that is not the first element of an array")
        return value

    def _read_ext(self, code: int, data: bytes) -> object:
        if code != _MARK:
            return _read_leaf(code, data)
        self._waiting += 1
        return _MARKS[data]

    def _read_array(self, items: list[object]) -> object:
        if items and type(items[0]) is _Mark:
            self._waiting -= 1
            build = items[0].build
            del items[0]
            return build(items)
        return items


# ----------------------------------------------------------------------------------------- the careful writer

# Where a child lies: ("index", i), ("member", key of a dict), ("key", None), ("item", None) of a set.
_Step = tuple[str, object]


def _write_carefully(value: object) -> bytes:
    """What pack() does, in Python, without recursion: it knows at any moment where in the value it is."""
    packer = Packer(strict_types=True, use_bin_type=True)
    out = bytearray()
    open_containers: list[Iterator[tuple[_Step, object]]] = []
    path: list[_Step] = []
    item = value
    while True:
        children = _write_head(item, packer, out, path)
        if children is not None:
            if len(open_containers) == MAX_DEPTH:
                raise UnsupportedType(
                    f"a value nested deeper than {MAX_DEPTH} containers, at {_format_path(path)}: "
                    "store its parts under keys of their own",
                    type_name=_name_of(type(item)),
                    path=_format_path(path),
                )
            open_containers.append(children)
            path.append(("index", 0))
        while open_containers:
            following = next(open_containers[-1], None)
            if following is not None:
                path[-1], item = following
                break
            open_containers.pop()
            path.pop()
        if not open_containers:
            return bytes(out)


def _write_head(
    item: object, packer: Packer, out: bytearray, path: list[_Step]
) -> Iterator[tuple[_Step, object]] | None:
    """Write a leaf, or the head of a container; its children are returned (a copy: threads may change it)."""
    kind = type(item)
    if kind is dict:
        pairs = list(item.items())  # type: ignore[attr-defined]
        out += packer.pack_map_header(len(pairs))
        return _steps_of_dict(pairs)
    if kind is list:
        items = list(item)  # type: ignore[call-overload]
        out += packer.pack_array_header(len(items))
        return _steps_of_sequence(items)
    mark = _MARK_OF.get(kind)
    if mark is not None:
        items = list(item)  # type: ignore[call-overload]
        out += packer.pack_array_header(len(items) + 1)
        out += packer.pack(mark)
        return _steps_of_sequence(items) if kind is tuple else ((("item", None), child) for child in items)
    out += _write_leaf(item, packer, path)
    return None


def _write_leaf(item: object, packer: Packer, path: list[_Step]) -> bytes:
    kind = type(item)
    try:
        if kind in _MSGPACK_TYPES or (kind is int and -(1 << 63) <= item < 1 << 64):  # type: ignore[operator]
            return packer.pack(item)  # type: ignore[no-any-return]
        if kind in _BYTES_TYPES:
            return packer.pack(bytes(item))  # type: ignore[call-overload, no-any-return]
        if kind in _WRITERS:
            return packer.pack(ExtType(*_WRITERS[kind](item)))  # type: ignore[no-any-return]
    except UnicodeEncodeError:
        raise _refusal(kind, path, "it holds a lone surrogate; store it as bytes") from None
    except _Refused as refused:
        raise _refusal(kind, path, str(refused)) from None
    base = next((base for base in kind.__mro__[1:] if base in _STORABLE), None)
    if base is not None:
        raise _refusal(
            kind, path, f"a subclass of {_name_of(base)} would come back as that; convert it first"
        )
    raise _refusal(kind, path, "no codec knows this type; convert it to one of Python's plain types")


_STORABLE = frozenset({dict, list, *_MARK_OF, *_MSGPACK_TYPES, *_BYTES_TYPES, *_WRITERS}) - {type(None)}


def _steps_of_dict(pairs: list[tuple[object, object]]) -> Iterator[tuple[_Step, object]]:
    for key, child in pairs:
        yield ("key", None), key
        yield ("member", key), child


def _steps_of_sequence(items: list[object]) -> Iterator[tuple[_Step, object]]:
    for index, child in enumerate(items):
        yield ("index", index), child


def _refusal(kind: type, path: list[_Step], reason: str) -> UnsupportedType:
    place = _format_path(path)
    return UnsupportedType(
        f"can't store {_name_of(kind)} at {place}: {reason}", type_name=_name_of(kind), path=place
    )


def _name_of(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _format_path(path: list[_Step]) -> str:
    """``$.a[3]``; ``<key>`` stands for a key of a dict, ``<item>`` for an element of a set."""
    parts = [_format_step(step) for step in path]
    if len(parts) > 24:
        parts[12:-12] = ["…"]
    return "$" + "".join(parts)


def _format_step(step: _Step) -> str:
    kind, label = step
    if kind == "index":
        return f"[{label}]"
    if kind == "member":
        if isinstance(label, str) and label.isidentifier():
            return f".{label}"
        text = repr(label)
        return f"[{text if len(text) <= 40 else text[:39] + '…'}]"
    return f"<{kind}>"
