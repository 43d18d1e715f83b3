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
from uuid import SafeUUID, UUID

__all__ = ["new_id", "new_ids"]

_COUNTER_BITS: Final = 74  # what a version 7 leaves beside time, version and variant
_LOW_BITS: Final = 62
_LOW: Final = (1 << _LOW_BITS) - 1
_FIXED: Final = 7 << 76 | 2 << _LOW_BITS
_STEP_BYTES: Final = 4
_POOL_BYTES: Final = 4096

_lock = threading.Lock()
_milliseconds = 0
_counter = 0
_pool = b""
_pool_at = 0


def _forget() -> None:
    """In a child: nothing that the parent will use as well."""
    global _lock, _milliseconds, _counter, _pool, _pool_at
    _lock = threading.Lock()
    _milliseconds, _counter, _pool, _pool_at = 0, 0, b"", 0


os.register_at_fork(after_in_child=_forget)


def _random(count: int) -> int:
    global _pool, _pool_at
    if _pool_at + count > len(_pool):
        _pool, _pool_at = os.urandom(_POOL_BYTES), 0
    _pool_at += count
    return int.from_bytes(_pool[_pool_at - count : _pool_at], "little")


def _next(now: int) -> int:
    """Under the lock: the next id as a number."""
    global _milliseconds, _counter
    if now > _milliseconds:
        # The uppermost bit stays free, so that a millisecond has room for all the ids that it can see.
        _milliseconds, _counter = now, _random(10) >> (80 - _COUNTER_BITS + 1)
    else:
        _counter += 1 + _random(_STEP_BYTES)
        if _counter >> _COUNTER_BITS:
            _milliseconds, _counter = _milliseconds + 1, _random(_STEP_BYTES)
    return _milliseconds << 80 | (_counter >> _LOW_BITS) << 64 | (_counter & _LOW) | _FIXED


def _uuid(number: int) -> UUID:
    """As ``UUID(int=number)``, whose checks cost more than the number."""
    made = UUID.__new__(UUID)
    object.__setattr__(made, "int", number)
    object.__setattr__(made, "is_safe", SafeUUID.unknown)
    return made


def new_id() -> UUID:
    """The next id of this process."""
    with _lock:
        return _uuid(_next(time.time_ns() // 1_000_000))


def new_ids(count: int) -> list[UUID]:
    """The next *count* ids of this process, in order."""
    with _lock:
        now = time.time_ns() // 1_000_000
        return [_uuid(_next(now)) for _ in range(count)]
