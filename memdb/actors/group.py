"""``python -P -m memdb.actors.group DIR``: the process that becomes the supervisor of the group of DIR.

Owns: the way from a fresh interpreter to a supervisor: leaving the opener behind, taking GROUP, reading
the options that the opener hands over, saying READY.

Invariants:

* The opener neither forks itself nor gets a child: what it has started forks once more and ends at once,
  so no foreign waitpid, session, terminal, lock or thread of the opener matters.
* Who can't take GROUP is not the group: it says so and ends.
* Nothing it or an actor prints reaches a terminal: stdio is /dev/null, then engine.log of the directory.

The descriptor ``--ready`` is one end of a socket pair: in comes ``{"options", "memory_only", "jobs"}``; out
goes ``{"ok": True}`` once the door is open, or an error, or ``{"busy": True}`` if there is a group already.
"""

import contextlib
import faulthandler
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from typing import Final

__all__ = ["main"]


_USAGE: Final = (
    "usage: python -P -m memdb.actors.group DIR --ready FD (memdb.open starts it; it is not for hand use)"
)


def _arguments(argv: list[str]) -> tuple[str, int]:
    match argv:
        case [directory, "--ready", fd] if fd.isdigit():
            return directory, int(fd)
    print(_USAGE, file=sys.stderr)
    sys.exit(64)


def _leave_opener() -> None:
    """From here on the process is nobody's child that is waited for, and no session leader."""
    if os.fork() > 0:
        os._exit(0)


def log_to(directory_fd: int) -> None:
    from memdb.actors import processes

    fd = os.open(
        "engine.log",
        os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW,
        0o600,
        dir_fd=directory_fd,
    )
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)
    faulthandler.enable(2)  # a crash in C leaves its Python frames in engine.log
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    processes.log_as("supervisor")


def _tell(ready: socket.socket, message: dict[str, object]) -> None:
    from memdb.actors import wire

    try:
        ready.sendall(wire.encode(message))
    except OSError as error:  # the opener is gone, or has heard READY already
        logging.getLogger("memdb.engine").info("nobody waits for %s: %s", message, error)


@contextlib.contextmanager
def _last_word(ready: socket.socket) -> Iterator[None]:
    """Tells the opener of an end before READY, whatever it is; the exit code of a failure is ≥ 64."""
    from memdb import errors
    from memdb.actors import processes

    try:
        yield
    except errors.Error as error:
        logging.getLogger("memdb.engine").error("the group can't start: %s", error)
        _tell(ready, {"error": error.to_wire()})
        os._exit(processes.EXIT_REFUSED)
    except OSError as error:
        logging.getLogger("memdb.engine").exception("the group can't start")
        failure = errors.EngineDied(
            f"the group could not be started: {error}", exit_code=processes.EXIT_UNCAUGHT
        )
        _tell(ready, {"error": failure.to_wire()})
        os._exit(processes.EXIT_UNCAUGHT)


def main(argv: list[str]) -> int:
    """Runs the group; returns its supervisor's exit code."""
    directory, fd = _arguments(argv)
    _leave_opener()
    ready = socket.socket(fileno=fd)
    ready.set_inheritable(False)
    with _last_word(ready):
        return _serve(directory, ready)


def _serve(directory: str, ready: socket.socket) -> int:
    from memdb.actors import wire
    from memdb.actors.directory import Home
    from memdb.actors.locks import GROUP_BYTE, FileLock
    from memdb.actors.supervisor import Supervisor
    from memdb.options import EngineOptions

    start = wire.receive(ready, bytearray(), [], time.monotonic() + 60)
    home = Home(directory)
    log_to(home.fd)
    lock = FileLock(home.fd, "GROUP", GROUP_BYTE)
    if not lock.acquire(wait=False):
        _tell(ready, {"busy": True})
        return 0
    lock.write_note("memdb supervisor")
    options = EngineOptions.from_wire(start["options"])
    supervisor = Supervisor(
        home,
        lock,
        options,
        memory_only=start["memory_only"],
        group_id=secrets.token_bytes(16),
        jobs=tuple(start["jobs"]),
    )

    def say_ready() -> None:
        _tell(ready, {"ok": True})
        ready.close()

    code = supervisor.run(say_ready)
    if start["memory_only"] and home.is_present():
        home.remove()
    return code


if __name__ == "__main__":
    from memdb.actors import processes

    with processes.LastWord():
        exit_code = main(sys.argv[1:])
        logging.shutdown()
        os._exit(exit_code)
