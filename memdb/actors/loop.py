"""The supervisor's event loop: epoll and a few timers, nothing that ticks.

Owns: which descriptor calls what, and when the process wakes next. Without events and timers it sleeps
for ever.
"""

import heapq
import itertools
import select
import time
from collections.abc import Callable
from typing import Final

__all__ = ["READ", "WRITE", "Loop", "Timer"]

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT


class Timer:
    """A call that is due at ``when`` (seconds of time.monotonic), unless cancelled before."""

    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when = when
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """One thread, one epoll."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopped = False

    def watch(self, fd: int, call: Callable[[int], None], events: int = READ) -> None:
        """``call(events)`` whenever ``fd`` is ready (level-triggered)."""
        self._calls[fd] = call
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Forgets ``fd``; before it is closed. Idempotent."""
        if self._calls.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(time.monotonic() + seconds, call)
        heapq.heappush(self._timers, (timer.when, next(self._order), timer))
        return timer

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Serves until `stop`."""
        while not self._stopped:
            for fd, events in self._epoll.poll(self._time_left()):
                call = self._calls.get(fd)  # an earlier call of this round may have unwatched it
                if call is not None:
                    call(events)
            self._call_due()

    def _time_left(self) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _call_due(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            call, timer.call = timer.call, None
            if call is not None:
                call()

    def close(self) -> None:
        self._epoll.close()
