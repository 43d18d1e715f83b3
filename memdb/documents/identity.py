"""Generated ids: UUIDs of version 7, which sort by the time at which they were made.

Invariants:

* Of one process each id is larger than those before it, also within a millisecond and when the clock is set
  back.
* A child process never repeats what its parent would give: it begins with random bytes of its own.
"""

import os
import threading
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID, SafeUUID

from memdb.layering import consecutive_uuids

__all__ = ["new_id", "new_ids", "uuid_of"]

_COUNTER_BITS: Final = 74  # what a version 7 leaves beside time, version and variant
_LOW_BITS: Final = 62
_LOW: Final = (1 << _LOW_BITS) - 1
_FIXED: Final = 7 << 76 | 2 << _LOW_BITS
_POOL_BYTES: Final = 4096


class _Source:
    """What this process makes its ids from."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forgets all; the next id is at random bytes of its own."""
        self.lock = threading.Lock()
        self.milliseconds = 0
        self.counter = 0
        self._pool = b""
        self._pool_at = 0

    def _random(self, count: int) -> int:
        if self._pool_at + count > len(self._pool):
            self._pool, self._pool_at = os.urandom(_POOL_BYTES), 0
        self._pool_at += count
        return int.from_bytes(self._pool[self._pool_at - count : self._pool_at], "little")

    def next(self, now: int) -> UUID:
        """Under the lock: the next id, at *now* milliseconds since 1970."""
        if now > self.milliseconds:
            # The uppermost bit stays free, so that a millisecond has room for all the ids that it can see.
            self.milliseconds, self.counter = now, self._random(10) >> (80 - _COUNTER_BITS + 1)
        else:
            self.counter += 1
            if self.counter >> _COUNTER_BITS:
                self.milliseconds, self.counter = (
                    self.milliseconds + 1,
                    self._random(10) >> (80 - _COUNTER_BITS + 1),
                )
        counter = self.counter
        return _uuid(self.milliseconds << 80 | (counter >> _LOW_BITS) << 64 | (counter & _LOW) | _FIXED)

    def several(self, now: int, count: int) -> list[UUID]:
        """Under the lock: the next *count* ids."""
        if count == 0:
            return []
        first = self.next(now)
        low = self.counter & _LOW
        if low + count > _LOW:  # they would count on in the high bits
            return [first, *(self.next(now) for _ in range(count - 1))]
        self.counter += count - 1
        return consecutive_uuids(first.int >> 64, low | 2 << _LOW_BITS, count)


# A UUID refuses to be changed, but its slots can be filled: what its constructor does, without its checks.
_set_int: Callable[[UUID, int], None] = vars(UUID)["int"].__set__
_set_is_safe: Callable[[UUID, SafeUUID], None] = vars(UUID)["is_safe"].__set__
_UNKNOWN: Final = SafeUUID.unknown


def _uuid(number: int) -> UUID:
    """As ``UUID(int=number)``, whose checks cost more than the number."""
    made = UUID.__new__(UUID)
    _set_int(made, number)
    _set_is_safe(made, _UNKNOWN)
    return made


def uuid_of(data: bytes) -> UUID:
    """As ``UUID(bytes=data)``, of 16 bytes."""
    return _uuid(int.from_bytes(data, "big"))


_source = _Source()
# In a child: nothing that the parent will use as well, and no lock that a thread of the parent holds.
os.register_at_fork(after_in_child=_source.begin)


def new_id() -> UUID:
    """The next id of this process."""
    with _source.lock:
        return _source.next(time.time_ns() // 1_000_000)


def new_ids(count: int) -> list[UUID]:
    """The next *count* ids of this process, in order."""
    with _source.lock:
        return _source.several(time.time_ns() // 1_000_000, count)
