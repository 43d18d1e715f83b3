"""What the database must hold and answer: a sorted dict of (value, expiry), and transactions over it.

Owns: the model of tests/api/test_stateful.py, without a database. Invariants:

* Time is the greatest that was ever seen (rule R3); nothing that expired comes back.
* Each commit with an effect has a number, and remembers which keys it touched: whether a transaction must,
  may or
  must not conflict follows from that alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from memdb.shm import _kernel

__all__ = ["MAY", "MUST", "MUST_NOT", "Held", "Model", "Transaction", "stored"]

MUST, MAY, MUST_NOT = "must", "may", "must not"
END = b"\xff"


def stored(key: Any) -> bytes:
    """The key as the database orders it."""
    return _kernel.encode_key(key)


class Held(NamedTuple):
    """A key's value, when it expires, and the number of the commit that set it."""

    key: Any
    value: Any
    expires_at: float | None
    version: int


Live = dict[bytes, Held]


def keys_between(live: Live, low: bytes, high: bytes) -> list[bytes]:
    """The stored keys in a range, in order."""
    return [key for key in sorted(live) if low <= key < high]


@dataclass
class Transaction:
    """An open transaction: the state that it sees, what it has read, what it will write."""

    isolation: str
    base: Live
    begun: int
    generation: int
    overlay: dict[bytes, Held | None] = field(default_factory=dict)
    points: set[bytes] = field(default_factory=set)
    ranges: list[tuple[bytes, bytes]] = field(default_factory=list)
    perhaps: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Ranges of which it is the implementation's affair whether they count as read."""
    deleted: list[tuple[bytes, bytes]] = field(default_factory=list)
    savepoints: list[dict[bytes, Held | None]] = field(default_factory=list)
    disturbed: bool = False
    """Its snapshot may have been revoked: memory was short, or the group died."""

    def seen(self) -> Live:
        """Its snapshot with its own writes over it."""
        merged = {**self.base, **self.overlay}
        return {key: held for key, held in merged.items() if held is not None}

    def get(self, key: bytes) -> Held | None:
        """A point read, which counts as one unless the key is its own."""
        if key in self.overlay:
            return self.overlay[key]
        if not any(low <= key < high for low, high in self.deleted):
            self.points.add(key)
        return self.base.get(key)

    def put(self, key: Any, value: Any, expires_at: float | None = None) -> None:
        """A write of its own."""
        self.overlay[stored(key)] = Held(key, value, expires_at, -1)

    def drop(self, key: bytes) -> None:
        """A delete of its own."""
        self.overlay[key] = None

    def read(self, low: bytes, high: bytes) -> list[bytes]:
        """A whole range, read to its end."""
        self.ranges.append((low, high))
        return keys_between(self.seen(), low, high)

    def roll_back(self, number: int) -> None:
        """To a savepoint; what was read stays read."""
        self.overlay = dict(self.savepoints[number])
        del self.savepoints[number + 1 :]


class Model:
    """The database as a whole."""

    def __init__(self) -> None:
        self._held: Live = {}
        self._touched: list[set[bytes]] = [set()]
        self._floor = 0.0
        self.generation = 0

    def now(self) -> float:
        """The time by which expiry is judged; it never goes back."""
        self._floor = max(self._floor, time.time())
        return self._floor

    @property
    def behind(self) -> float:
        """By how many seconds the clock is behind the time."""
        return self._floor - time.time()

    @property
    def commits(self) -> int:
        """The number of the last commit."""
        return len(self._touched) - 1

    def live(self) -> Live:
        """What readers see."""
        now = self.now()
        return {
            key: held for key, held in self._held.items() if held.expires_at is None or held.expires_at > now
        }

    def items(self) -> list[tuple[Any, Any]]:
        """All keys and values in order."""
        live = self.live()
        return [(live[key].key, live[key].value) for key in sorted(live)]

    def get(self, key: Any) -> Held | None:
        """What a reader finds."""
        held = self._held.get(stored(key))
        return held if held and (held.expires_at is None or held.expires_at > self.now()) else None

    def commit(self, changes: dict[bytes, tuple[Any, Any, float | None] | None]) -> None:
        """One atomic commit: key, value, expiry by stored key, or None to delete."""
        live = self.live()
        touched = {key for key, change in changes.items() if change is not None or key in live}
        if not touched:
            return
        self._touched.append(touched)
        for key in touched:
            change = changes[key]
            if change is None:
                del self._held[key]
            else:
                self._held[key] = Held(*change, self.commits)

    def set(self, key: Any, value: Any, expires_at: float | None = None) -> None:
        """One key."""
        self.commit({stored(key): (key, value, expires_at)})

    def expire(self, key: Any, expires_at: float | None) -> None:
        """Another expiry for a key that is there."""
        held = self._held[stored(key)]
        self.set(key, held.value, expires_at)

    def delete(self, keys: Any) -> None:
        """Stored keys, in one commit."""
        self.commit(dict.fromkeys(keys))

    # ---- transactions

    def begin(self, isolation: str) -> Transaction:
        """A transaction over the present state."""
        return Transaction(isolation, self.live(), self.commits, self.generation)

    def verdict(self, tx: Transaction) -> str:
        """Must, may, or must not its commit conflict now?"""
        if not tx.overlay and not tx.deleted:
            return MUST_NOT
        live = self.live()
        if tx.isolation == "serializable":
            points, ranges, perhaps = tx.points, tx.ranges, [*tx.perhaps, *tx.deleted]
        else:
            points = {key for key in tx.overlay if tx.overlay[key] is not None or key in tx.base}
            ranges, perhaps = [], [*tx.perhaps, *tx.deleted, *((key, key + b"\0") for key in tx.overlay)]
        validated = bool(points or ranges)
        if tx.generation != self.generation:
            return MUST if validated else MAY
        for key in points:
            if self._version(live, key) != self._version(tx.base, key):
                # Expiry is not a commit: whether a blind writer must heed it is not said.
                blind = tx.isolation == "snapshot" and key not in live
                return MAY if blind else MUST
        since = set().union(*self._touched[tx.begun + 1 :])
        if any(low <= key < high for key in since for low, high in ranges):
            return MUST
        expired = {key for key in tx.base if key not in live and key not in since} | self._unreaped(live)
        everything = [*ranges, *perhaps]
        return (
            MAY if any(low <= key < high for key in since | expired for low, high in everything) else MUST_NOT
        )

    def settle(self, tx: Transaction) -> None:
        """The transaction has committed."""
        changes: dict[bytes, tuple[Any, Any, float | None] | None] = {}
        live = self.live()
        for low, high in tx.deleted:
            changes.update(dict.fromkeys(keys_between(live, low, high)))
        for key, held in tx.overlay.items():
            changes[key] = None if held is None else (held.key, held.value, held.expires_at)
        self.commit(changes)

    def _version(self, live: Live, key: bytes) -> int:
        return live[key].version if key in live else 0

    def _unreaped(self, live: Live) -> set[bytes]:
        """Keys that have expired: their reaping may show as a change of a range."""
        return self._held.keys() - live.keys()
