"""Generated ids: UUIDs of version 7, which sort by the time at which they were made.

Invariants:

* Of one process each id is larger than those before it, also within a millisecond and when the clock is set
  back.
* A child process never repeats what its parent would give: it begins with random bytes of its own.
"""

import os
import threading
import time
from typing import Final
from uuid import UUID

from memdb.layering import consecutive_uuids

__all__ = ["new_id", "new_ids"]

_COUNTER_BITS: Final = 74  # what a version 7 leaves beside time, version and variant
_LOW_BITS: Final = 62
_LOW: Final = (1 << _LOW_BITS) - 1
_VERSION: Final = 7 << 12
_VARIANT: Final = 2 << _LOW_BITS
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
        return self._ids(1)[0]

    def several(self, now: int, count: int) -> list[UUID]:
        """Under the lock: the next *count* ids."""
        if count == 0:
            return []
        first = self.next(now)
        if (self.counter & _LOW) + count > _LOW:  # they would count on in the high bits
            return [first, *(self.next(now) for _ in range(count - 1))]
        made = self._ids(count)
        self.counter += count - 1
        return made

    def _ids(self, count: int) -> list[UUID]:
        """As many ids, from the present counter on."""
        high = self.milliseconds << 16 | _VERSION | self.counter >> _LOW_BITS
        return consecutive_uuids(high, _VARIANT | self.counter & _LOW, count)


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
