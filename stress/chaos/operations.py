"""What clients of the chaos do, what each operation changes, and the bytes that are stored.

Owns: the keys of a client's region, the values (each names its own key, so that a reader who knows nothing
else can tell a foreign or a torn one), and the one line in which an operation is announced.

Invariants:

* A region is written by one client, one operation after the other; so its states are a line.
* Every change of a region has its own counter, higher than all before.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import clock_gettime_ns
from typing import Literal

import memdb

__all__ = [
    "ACCOUNTS",
    "DURABLE",
    "GROUP",
    "LEVELS",
    "MONEY",
    "SINGLES",
    "TTL_SLOTS",
    "VOLATILE",
    "Level",
    "Model",
    "Operation",
    "accounts",
    "bank_of",
    "counter_in",
    "digest",
    "key_of",
    "moved",
    "open_database",
    "tick_ns",
    "value",
]

SINGLES, GROUP, VOLATILE, TTL_SLOTS, ACCOUNTS, MONEY = 150, 5, 3, 4, 8, 10_000
"""How many keys of each kind a region has; the accounts are everybody's, and hold so much money together."""
Level = Literal["memory", "os", "full"]
LEVELS: tuple[Level, ...] = ("memory", "os", "full")
DURABLE: tuple[Level, ...] = ("os", "full")
Key = tuple[str, int]
"""Within a region: s single, g group, n number, x transfers; v volatile and t ttl are kept apart."""
Model = dict[Key, int]
Changes = dict[Key, int | None]

_HEAD = struct.Struct("<IBHI")
_PATTERN = bytes((i * 37 + 11) & 255 for i in range(251)) * 500


_CLOCK_MONOTONIC_COARSE = 6
"""As in linux/time.h; Python has no name for it."""


def tick_ns() -> int:
    """The time of the kernel's last tick, by which the engine judges expiry: on a virtual machine it has been
    seen 33 ms behind the clock."""
    return clock_gettime_ns(_CLOCK_MONOTONIC_COARSE)


def open_database(directory: Path | str, timeout: float = 60.0) -> memdb.Database:
    """With the options of the chaos: small ones, so that checkpoints, rotations and rebuilds come often, and
    hours fit on a disk."""
    return memdb.open(
        directory,
        timeout=timeout,
        open_timeout=60.0,
        linger=0.0,
        max_memory="64MiB",
        max_transaction_bytes="1MiB",
        segment_bytes="4MiB",
        keep_segments=1,
        keep_checkpoints=2,
        checkpoint_interval=7.0,
        checkpoint_wal_bytes="24MiB",
    )


def key_of(client: int, kind: str, index: int) -> tuple[str, int, str, int]:
    """As it is stored."""
    return ("c", client, kind, index)


def _size(counter: int) -> int:
    """Mostly small, now and then some kilobytes, seldom a hundred thousand."""
    if counter % 997 == 0:
        return 90_000
    return 1500 + counter % 6000 if counter % 41 == 0 else counter % 200


def value(client: int, kind: str, index: int, counter: int) -> bytes:
    """The bytes of a key at a counter."""
    start = counter % 251
    return (
        _HEAD.pack(client, ord(kind), index, counter & 0xFFFFFFFF) + _PATTERN[start : start + _size(counter)]
    )


def counter_in(key: tuple[str, int, str, int], stored: object) -> int | None:
    """The counter of a stored value; None if it is no value of this key."""
    _, client, kind, index = key
    if kind in "nx":
        return stored if isinstance(stored, int) else None
    if not isinstance(stored, bytes) or len(stored) < _HEAD.size:
        return None
    counter = int(_HEAD.unpack_from(stored)[3])
    return counter if stored == value(client, kind, index, counter) else None


def digest(model: Mapping[Key, int] | Iterable[tuple[Key, int]]) -> int:
    """Of a state: the same for equal ones, and changed by a change in one step (:func:`moved`)."""
    pairs = model.items() if isinstance(model, Mapping) else model
    found = 0
    for key, counter in pairs:
        found ^= _mix(key, counter)
    return found


def _mix(key: Key, counter: int | None) -> int:
    return 0 if counter is None else hash((ord(key[0]), key[1], counter, 0x9E3779B9))


def moved(before: int, key: Key, old: int | None, new: int | None) -> int:
    """The digest after one key has changed."""
    return before ^ _mix(key, old) ^ _mix(key, new)


@dataclass(frozen=True)
class Operation:
    """``kind``: set, modify, cas (one single); delete, delete_many, many, pipeline (``~i``: delete i), swap
    (a transaction deletes one and sets another), group, clear (delete_range), count (increment), transfer (a
    transaction over everybody's accounts), tally (increment of everybody's number), volatile (always at level
    memory), ttl.
    """

    kind: str
    index: tuple[int, ...]
    counter: int
    level: Level

    def changes(self, model: Model) -> Changes:
        """What it does to the region."""
        kind, index, counter = self.kind, self.index, self.counter
        if kind in ("set", "modify", "cas", "many"):
            return {("s", one): counter for one in index}
        if kind in ("delete", "delete_many"):
            return {("s", one): None for one in index}
        if kind == "pipeline":
            return {("s", one if one >= 0 else ~one): counter if one >= 0 else None for one in index}
        if kind == "swap":
            return {("s", index[0]): None, ("s", index[1]): counter}
        if kind == "group":
            return {("g", one): counter for one in range(GROUP)}
        if kind == "clear":
            return {key: None for key in model if key[0] == "s"}
        if kind in ("count", "transfer"):
            key = ("n" if kind == "count" else "x", 0)
            return {key: model.get(key, 0) + 1}
        return {}

    def apply(self, model: Model) -> None:
        """Does it."""
        for key, new in self.changes(model).items():
            if new is None:
                model.pop(key, None)
            else:
                model[key] = new

    def line(self) -> str:
        """As announced."""
        return json.dumps([self.kind, self.index, self.counter, self.level], separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Operation:
        """Of a line."""
        kind, index, counter, level = json.loads(text)
        return cls(kind, tuple(index), counter, level)


def accounts() -> dict[tuple[str, int], int]:
    """What all transfers begin with."""
    return {("account", number): MONEY // ACCOUNTS for number in range(ACCOUNTS)}


def bank_of(balances: Iterable[int], transfers: Iterable[int], counted: int) -> list[str]:
    """What is wrong with all that transfers have written, at one point in time."""
    money, done = sum(balances), sum(transfers)
    wrong = [] if money == MONEY else [f"the accounts hold {money} together, and not {MONEY}"]
    if counted != done:
        wrong.append(f"{done} transfers of all clients, and {counted} were counted")
    return wrong
