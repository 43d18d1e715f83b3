"""The group of a directory in this very process: `memdb serve`.

Owns: taking GROUP from whoever starts or ends one, the way from a terminal to a supervisor and back, and
what a signal of the terminal means. The supervisor is the same as of a group that an open has started.

Invariants:

* This process is the supervisor: what ends it ends the group, and nothing else but a signal or `memdb stop`
  does.
* The starter byte is held from before GROUP is free until the door is open, so that of the openers that wait
  meanwhile none starts a group of its own. Nobody takes over by time-out.
* The caller has one thread and has started no process: actors are forked from here.
* stdout and stderr are the caller's again at the end; in between they are engine.log's, the actors' too.
"""

import contextlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Final, cast

from memdb import errors
from memdb.actors import wire
from memdb.actors.directory import Home
from memdb.actors.door import Connection
from memdb.actors.group import log_to
from memdb.actors.locks import GROUP_BYTE, STARTER_BYTE, FileLock, read_note
from memdb.actors.processes import EXIT_FAILED
from memdb.actors.start import Patience
from memdb.actors.supervisor import Supervisor
from memdb.options import EngineOptions

__all__ = ["Place", "serve"]

_STARTER_SECONDS: Final = 30.0  # an opener that starts a group holds its byte until the door is open

_STATUS_EVERY: Final = 0.5  # seconds between two words about a recovery

Report = Callable[[dict[str, object]], None]


class Place:
    """GROUP of one directory, taken for this process. Raises errors.Error if another group has it.

    ``end_present``: called if another group runs, and to return once that has ended; None refuses instead.
    """

    def __init__(self, home: Home, end_present: Callable[[], object] | None) -> None:
        self.home = home
        self._starter = FileLock(home.fd, "GROUP", STARTER_BYTE)
        self.group = FileLock(home.fd, "GROUP", GROUP_BYTE)
        try:
            self._take(end_present)
        except BaseException:
            self.close()
            raise

    def _take(self, end_present: Callable[[], object] | None) -> None:
        patience = Patience(_STARTER_SECONDS)
        while not self._starter.acquire(wait=False):
            if patience.is_over:
                raise errors.OpenTimeout(
                    f"another process has been starting the engine of {self.home.path} for "
                    f"{_STARTER_SECONDS:g} s; engine.log there may say why",
                    seconds=_STARTER_SECONDS,
                )
            patience.pause()
        if self.group.acquire(wait=False):
            return
        if end_present is not None:
            end_present()
            if self.group.acquire(wait=False):
                return
        holder = read_note(self.home.fd, "GROUP")
        who = f"pid {holder.pid}, {holder.command}" if holder else "its pid is not known"
        raise errors.Error(
            f"another engine already serves {self.home.path} ({who}); the engine of an open ends `linger` "
            "seconds after its last client, that of another `memdb serve` by a signal to it. `memdb stop` "
            "ends either now; `memdb serve --replace` ends it and takes its place"
        )

    def opened(self) -> None:
        """The door is open: openers may look for it."""
        self._starter.release()

    def close(self) -> None:
        """Gives all of it back. Idempotent."""
        self._starter.release()
        self.group.close()

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Reporter:
    """In the place of a connection that waits for the group to serve."""

    def say(self, message: wire.Message, fds: tuple[int, ...] = ()) -> None:
        """The progress goes to `_Foreground.status`, which asks for it by itself."""


class _Foreground:
    """One run of the supervisor, seen from the terminal."""

    def __init__(self, supervisor: Supervisor, place: Place, report: Report) -> None:
        self._supervisor, self._place, self._report = supervisor, place, report
        self._hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # it is ignored under nohup
        self._ends_on_int = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN

    def door_is_open(self) -> None:
        """The supervisor has set its signals, and forks only afterwards."""
        self._place.opened()
        signal.signal(signal.SIGINT, _drain if self._ends_on_int else signal.SIG_IGN)
        if self._hangs_up:
            signal.signal(signal.SIGHUP, _drain)
        self._supervisor.when_serving(self._serving, cast(Connection, _Reporter()))
        self._supervisor.loop.after(_STATUS_EVERY, self._status)

    def _serving(self) -> None:
        self._say("serving")

    def _status(self) -> None:
        if self._supervisor.phase == "starting":
            self._say("starting", **self._supervisor.progress.status())
            self._supervisor.loop.after(_STATUS_EVERY, self._status)

    def _say(self, event: str, **facts: object) -> None:
        self._report({"event": event, "path": self._place.home.path, "pid": os.getpid(), **facts})

    def run(self) -> None:
        code = self._supervisor.run(self.door_is_open)
        if self._supervisor.refusal is not None:
            raise self._supervisor.refusal
        if code == EXIT_FAILED:
            raise errors.EngineDied(
                f"{self._place.home.path} was removed or replaced: the engine wrote nothing more, and "
                "has ended",
                exit_code=code,
            )
        self._say("ended", lsn=self._supervisor.progress.position().published)


def _drain(number: int, frame: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)  # which the supervisor hears on its wake-up socket


def serve(place: Place, options: EngineOptions, report: Report, jobs: tuple[str, ...]) -> None:
    """Runs the group to its end. ``report`` gets ``{"event", "path", "pid", …}``: ``starting`` (with phase,
    done, total) while it recovers, ``serving``, ``ended`` (with lsn). ``jobs``: the modules whose jobs the
    group's readers can do.

    Returns after an end in order. Raises what keeps it from serving: ArenaFullError, CorruptionError,
    EngineDied, OSError. The main thread only.
    """
    home = place.home
    with _stdio_of(home), _signals():
        place.group.write_note("memdb serve")
        supervisor = Supervisor(
            home, place.group, options, memory_only=False, group_id=secrets.token_bytes(16), jobs=jobs
        )
        _Foreground(supervisor, place, report).run()


@contextlib.contextmanager
def _stdio_of(home: Home) -> Iterator[None]:
    sys.stdout.flush()
    sys.stderr.flush()
    own = [os.dup(number) for number in (0, 1, 2)]
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.close(nothing)
    log_to(home.fd)
    try:
        yield
    finally:
        logging.shutdown()
        for number, fd in enumerate(own):
            os.dup2(fd, number)
            os.close(fd)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Those of the caller again at the end."""
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
