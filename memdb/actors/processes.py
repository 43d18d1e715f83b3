"""One actor as the supervisor sees it: its process, mailboxes, pidfd, and how often it was started again.

Owns: forking an actor with `multiprocess` and what a freshly forked actor does before its own work.

Invariants:

* The supervisor has one thread when it forks, so a child never inherits a lock that nobody will release.
* A child closes every descriptor that is not its own first of all: GROUP, the listening socket, other
  actors' lanes.
* SIGINT and SIGHUP are ignored; SIGTERM is the actor's own to handle; exit codes of failures are ≥ 64.
"""

import contextlib
import logging
import os
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from types import TracebackType
from typing import Any, Final

import multiprocess

from memdb.actors.locks import close_inherited
from memdb.actors.mailbox import Bell, EventBell, Mailbox, SemaphoreBell
from memdb.actors.wire import Message

__all__ = [
    "EXIT_FAILED",
    "EXIT_NO_ROOM",
    "EXIT_ORPHANED",
    "EXIT_REFUSED",
    "EXIT_UNCAUGHT",
    "EXIT_VIEWS_STAND",
    "Actor",
    "LastWord",
    "Post",
    "call_at_death",
]

log = logging.getLogger("memdb.engine")

EXIT_REFUSED: Final = 65
"""The data, the directory or the machine does not allow to serve; the error has been reported."""
EXIT_UNCAUGHT: Final = 70
"""An exception that nobody expected; its traceback is in engine.log."""
EXIT_ORPHANED: Final = 71
"""The supervisor is gone."""
EXIT_FAILED: Final = 72
"""The directory is gone, so nothing more was written."""
EXIT_VIEWS_STAND: Final = 73
"""Zero-copy views stand in the arena that the next generation needs: the next writer gets a fresh segment."""
EXIT_NO_ROOM: Final = 74
"""There was no address space for it now, or no memory for another arena; its predecessor had it."""


class Post:
    """An actor's own end of its two mailboxes, and the pidfd that tells it of the supervisor's death."""

    def __init__(self, inbox: Mailbox, outbox: Mailbox, supervisor: int) -> None:
        self.inbox = inbox
        self.outbox = outbox
        self.supervisor = supervisor

    def send(self, op: str, /, **fields: Any) -> None:
        """Tells the supervisor something."""
        self.outbox.send({"op": op, **fields})

    def fds(self) -> set[int]:
        return {*self.inbox.fds(), *self.outbox.fds(), self.supervisor}


class Actor:
    """One role of the group. ``role`` also names it in info() and in the process's comm. ``bell``: what its
    inbox rings; an eventfd for one that waits for other descriptors, too."""

    def __init__(self, role: str, supervisor: int, bell: Callable[[], Bell] = SemaphoreBell) -> None:
        self.role = role
        self._inbox_bell = bell
        self.restarts = -1
        self.pid = 0
        self.pidfd = -1
        self.ready = False
        self.started = 0.0  # of time.monotonic: when its present process was
        self.inbox: Mailbox
        self.outbox: Mailbox
        self.bell: EventBell
        self._supervisor = supervisor
        self._process: Any = None

    @property
    def running(self) -> bool:
        return self._process is not None

    def start(self, main: Callable[..., int], arguments: tuple[Any, ...], keep: Collection[int]) -> None:
        """Forks the actor: ``main(post, *arguments)`` with the descriptors ``keep`` and its mailboxes.

        OSError: it does not run, and nothing of it is left.
        """
        with contextlib.ExitStack() as made:
            self.bell = made.enter_context(contextlib.closing(EventBell()))
            inbox_bell = made.enter_context(contextlib.closing(self._inbox_bell()))
            self.inbox = made.enter_context(contextlib.closing(Mailbox(inbox_bell)))
            self.outbox = made.enter_context(contextlib.closing(Mailbox(self.bell)))
            post = Post(self.inbox, self.outbox, self._supervisor)
            self.started = time.monotonic()
            self.ready = False
            context = multiprocess.get_context("fork")
            process = context.Process(
                target=_run, args=(self.role, main, post, arguments, {*keep, *post.fds()}), name=self.role
            )
            process.start()
            try:
                self.pidfd = os.pidfd_open(process.pid)
            except OSError:
                process.kill()
                process.join()
                raise
            made.pop_all()
        self._process, self.pid = process, process.pid
        self.restarts += 1
        log.info(
            "%s started, pid %d%s", self.role, self.pid, f", restart {self.restarts}" * (self.restarts > 0)
        )

    def tell(self, message: Mapping[str, Any], fds: Collection[int] = ()) -> None:
        """Sends a message, or forgets it if the actor is not running: a started one learns the state anew."""
        if self.running:
            self.inbox.send(message, tuple(fds))

    def hear(self) -> list[tuple[Message, list[int]]]:
        """Messages of the actor; never waits."""
        return self.outbox.receive(timeout=0) if self.running else []

    def reap(self) -> int:
        """After its pidfd has polled readable: collects the exit code and drops the mailboxes."""
        self._process.join()
        code: int = self._process.exitcode
        self._process = None
        self.ready = False
        os.close(self.pidfd)
        self.pidfd = -1
        for box in (self.inbox, self.outbox):
            box.close()
            box.bell.close()
        return code

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal through the pidfd: a reused pid can't be hit."""
        if self.running:
            signal.pidfd_send_signal(self.pidfd, number)


class LastWord:
    """Around all that a process does: an exception goes to engine.log and ends it with a code ≥ 64."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            log.critical("uncaught, the process ends:\n%s", "".join(traceback.format_exception(error)))
            os._exit(EXIT_UNCAUGHT)


def log_as(role: str) -> None:
    """Gives every line of engine.log the time (UTC) and the process that wrote it."""
    line = f"%(asctime)s.%(msecs)03dZ {role}[%(process)d] %(levelname)s %(message)s"
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(line, "%Y-%m-%dT%H:%M:%S"))


def _run(
    role: str, main: Callable[..., int], post: Post, arguments: tuple[Any, ...], keep: Collection[int]
) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    close_inherited(keep)
    log_as(role)
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write(f"memdb-{role}"[:15])
    with LastWord():
        code = main(post, *arguments)
        logging.shutdown()
        os._exit(code)


def call_at_death(pidfd: int, act: Callable[[], None]) -> None:
    """Has a daemon thread call ``act`` once the process of ``pidfd`` has ended. Parked until then."""

    def watch() -> None:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        while not poll.poll():
            pass
        act()

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
