"""Does the group get on with what it was asked for? Waits without a limit of their own end when it doesn't.

Invariants:

* Progress is what anybody outside can see: words of the board, processor time of the group's processes. A
  process that is stopped makes none, whatever the others do, and is named.
* Where the processes can't be seen (another container), the group counts as getting on while it lives.
"""

import time
from typing import Final

import psutil

from memdb.shm import _kernel

__all__ = ["LOOK_EVERY", "Standstill"]

LOOK_EVERY: Final = 0.5  # seconds between two looks
_STOPPED: Final = (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
_LEAST: Final = 0.05  # seconds of processor time between two looks that are work, not a tick


class Standstill:
    """Watches the group of one supervisor while somebody waits for its answer.

    >>> watch = Standstill(4711, board, 30.0)
    >>> watch.is_over()
    False
    """

    def __init__(self, supervisor: int, board: _kernel.Mapping, limit: float) -> None:
        self.limit = limit
        self._supervisor = supervisor
        self._board = board
        self._since = time.monotonic()
        self._words, self._used = self._look()

    def is_over(self) -> bool:
        """Have `limit` seconds passed without progress? Cost: reads of /proc for each process."""
        words, used = self._look()
        stopped = self.stopped()
        moved = words != self._words or used is None or self._used is None
        if used is not None and self._used is not None:  # less than before: one of them has ended
            moved = moved or abs(used - self._used) > _LEAST
        if moved and not stopped:
            self._since = time.monotonic()
            self._words, self._used = words, used
        return time.monotonic() - self._since > self.limit

    def stopped(self) -> list[tuple[int, str]]:
        """(pid, role) of the processes of the group that are stopped, by a signal or a debugger."""
        found = []
        roles = {self._supervisor: "supervisor", _kernel.board_words(self._board)["writer_pid"]: "writer"}
        for process in self._processes():
            try:
                if process.status() in _STOPPED:
                    found.append((process.pid, roles.get(process.pid, "actor")))
            except psutil.Error:  # it has ended meanwhile
                continue
        return found

    def describe(self) -> str:
        """Who holds it up."""
        stopped = self.stopped()
        if stopped:
            names = ", ".join(f"the {role} (pid {pid})" for pid, role in stopped)
            return f"{names} {'is' if len(stopped) == 1 else 'are'} stopped: kill -CONT lets it go on"
        words = _kernel.board_words(self._board)
        return (
            f"the supervisor (pid {self._supervisor}) does not answer; "
            f"the writer (pid {words['writer_pid']}) is at LSN {words['writer_lsn']}"
        )

    def _processes(self) -> list[psutil.Process]:
        try:
            supervisor = psutil.Process(self._supervisor)
            return [supervisor, *supervisor.children()]
        except (psutil.Error, ValueError):  # another pid namespace, or its end
            return []

    def _look(self) -> tuple[dict[str, int], float | None]:
        used: float | None = None
        for process in self._processes():
            try:
                times = process.cpu_times()
            except psutil.Error:  # it has ended meanwhile
                continue
            used = (used or 0.0) + times.user + times.system
        return _kernel.board_words(self._board), used
