"""Stored values and keys as anybody may have stored them: what the codec and the kernel make of any bytes."""

from __future__ import annotations

import datetime
import decimal
import uuid
import zoneinfo
from typing import Any

import msgpack

from memdb import layering, values
from memdb.errors import CorruptionError, UnsupportedType
from memdb.shm import _kernel as kernel
from stress.fuzz.case import Case, Violation
from stress.fuzz.mutate import Mutator

_AT = datetime.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
_NAMED = datetime.timezone(datetime.timedelta(hours=1), "here")
_PLAIN = {
    "_id": 1,
    "n": [1, -1, 2**40, 1.5, None, True],
    "s": "ä" * 40,
    "b": b"\0" * 300,
    "deep": [{"b": {}}],
}
_TIMES = [_AT, _AT.date(), _AT.time(), _AT.timetz(), _AT.astimezone(datetime.UTC), _AT.replace(tzinfo=_NAMED)]
_LEAVES = [
    2**70,
    decimal.Decimal("1.50"),
    uuid.UUID(int=5),
    datetime.timedelta(1, 2, 3),
    1 + 2j,
    "x" * 70_000,
]
_NESTED = [(1, {2, "x"}, frozenset({(1, 2)}), [(), set()], {(1,): 2}), [[[[[]]]]] * 3]
VALUES = (_PLAIN, _TIMES, _LEAVES, _NESTED, list(range(40)), b"raw")
_NUMBERS = (0, -1, 2**63, -(2**70), 1.5, -0.0, True)
KEYS = (
    None,
    b"a\0b",
    "ä\0",
    *_NUMBERS,
    uuid.UUID(int=7),
    _AT,
    ("a", (1, (None, b"\0")), ()),
    ("x" * 300, -(2**500)),
)
_SETS = (b"\xd4\1\2", b"\xd4\1\3")


class Values:
    """`values.decode`, beside the kernel's own decoder of plain documents."""

    def __init__(self, seed: int) -> None:
        self.stored = [values.encode(one) for one in VALUES]

    def case(self, mutator: Mutator) -> Case:
        data = mutator.random.choice(self.stored)
        if mutator.chance(0.3):  # an ext type of ours with anything in it
            content = mutator.bent(mutator.random.choice(self.stored)[2:40])
            data = msgpack.packb([msgpack.ExtType(mutator.random.randrange(11), content)] * 2) + b"\1"
        if mutator.chance(0.8):
            data = mutator.bent(data, mutator.random.choice(self.stored))
        return Case(data, lambda: self._run(data))

    def _run(self, data: bytes) -> str:
        plain: Any = layering.unpack_plain(data[:-1])
        try:
            value = values.decode(data)
        except CorruptionError:
            if plain is not None and data[-1:] == b"\1":
                raise Violation("the kernel reads what the codec calls damaged") from None
            return "damaged"
        try:
            again = values.encode(value)
        except UnsupportedType:
            return "decoded, of no use"  # a Timestamp, NaN in a set, nested too deep
        if data[-1:] == b"\1" and plain is not None and values.encode(plain) != again:
            raise Violation("the kernel and the codec read different values")
        if not any(mark in again for mark in _SETS) and values.encode(values.decode(again)) != again:
            raise Violation("what was decoded does not come back")
        return "decoded"


class Keys:
    """`decode_key`: the kernel's reader of keys, and what Python makes of it."""

    def __init__(self, seed: int) -> None:
        self.stored = [kernel.encode_key(one) for one in KEYS]

    def case(self, mutator: Mutator) -> Case:
        data = mutator.bent(mutator.random.choice(self.stored), mutator.random.choice(self.stored))
        return Case(data, lambda: self._run(data))

    def _run(self, data: bytes) -> str:
        try:
            key = kernel.decode_key(data)
        except CorruptionError:
            return "damaged"
        try:
            again = kernel.encode_key(key)
        except UnsupportedType:
            return "decoded, of no use"
        if kernel.encode_key(kernel.decode_key(again)) != again:
            raise Violation("what was decoded does not come back")
        return "decoded"
