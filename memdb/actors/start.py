"""Starting the group of a directory, from the side of the opener.

Owns: the clean exec (interpreter, environment, descriptors), and who of many openers does it.

Invariants:

* The caller is never forked by Python code: it may have threads, a terminal, a foreign waitpid, a
  daemonic parent.
* The started process gets an environment in which only this package's own directory is on the path, so that a
  ``memdb/`` in the caller's folder is never picked up, and no variable that would change how Python behaves.
* A group that is killed before its door is open is started again, a few times: the opener sees a delay.
* Of fifty openers one starts: the one that holds the starter byte of GROUP while nobody holds the group byte.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from memdb import errors
from memdb.actors import wire
from memdb.actors.locks import GROUP_BYTE, STARTER_BYTE, FileLock
from memdb.options import EngineOptions

__all__ = ["environment", "interpreter", "start_group"]

_NOT_HANDED_ON: Final = (
    "PYTHONINSPECT",
    "PYTHONSTARTUP",
    "PYTHONWARNINGS",
    "PYTHONPROFILEIMPORTTIME",
    "PYTHONVERBOSE",
)


STARTS: Final = 10
"""How often a group is started that ends before it could say why: it was killed, or it crashes."""


def start_group(
    path: str,
    directory_fd: int,
    options: EngineOptions,
    deadline: float,
    *,
    memory_only: bool,
    jobs: tuple[str, ...],
    starter_locks: set[FileLock],
) -> bool:
    """Starts the group of a directory unless somebody else is at it; True if this call has started it.

    Returns once its door is open; whether it can serve is told there. Raises what keeps it from opening
    the door: ArenaFullError, EngineDied, OSError of the directory. ``starter_locks`` holds the lock
    while this runs, for a child that is forked meanwhile by another thread to close. ``jobs``: the
    modules whose jobs the group's readers can do.
    """
    starter = FileLock(directory_fd, "GROUP", STARTER_BYTE)
    starter_locks.add(starter)
    try:
        if not starter.acquire(wait=False):
            return False
        with FileLock(directory_fd, "GROUP", GROUP_BYTE) as group:
            if group.is_held_elsewhere():  # it serves, or it is about to end
                return False
        return _spawn(path, options, deadline, memory_only, jobs)
    finally:
        starter_locks.discard(starter)
        starter.release()


def _spawn(
    path: str, options: EngineOptions, deadline: float, memory_only: bool, jobs: tuple[str, ...]
) -> bool:
    for _ in range(STARTS):
        answer, code = _spawn_once(path, options, deadline, memory_only, jobs)
        if answer is not None:
            break
        if code > 0:  # it did not come so far as to leave us: the interpreter or the package is not there
            raise _not_started(path)
    else:
        raise _not_started(path)
    if "error" in answer:
        raise errors.from_wire(answer["error"]).of(path)
    return bool(answer.get("ok"))


def _not_started(path: str) -> errors.EngineDied:
    return errors.EngineDied(
        f"the engine of {path} ended before it was ready; {path}/engine.log says why if it came "
        f"that far, and `{interpreter()} -P -m memdb.actors.group` must be runnable (MEMDB_PYTHON "
        "names another interpreter)",
        log_file=os.path.join(path, "engine.log"),
    )


def _spawn_once(
    path: str, options: EngineOptions, deadline: float, memory_only: bool, jobs: tuple[str, ...]
) -> tuple[wire.Message | None, int]:
    """What it answers, None if it ended without a word; and the exit code of what was started first (below 0:
    it was killed)."""
    answer: wire.Message | None = None
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(
                [interpreter(), "-P", "-m", "memdb.actors.group", path, "--ready", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=environment(),
                close_fds=True,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        try:
            start = {"options": options.to_wire(), "memory_only": memory_only, "jobs": jobs}
            wire.send(ours, start, deadline)
            answer = wire.receive(ours, bytearray(), [], deadline)
        except (wire.Disconnected, BrokenPipeError):
            pass
        finally:
            code = process.wait()  # it ends as soon as it has forked; never later than the answer
    return answer, code


def interpreter() -> str:
    """``sys.executable`` is no Python where Python is embedded; then MEMDB_PYTHON has to say."""
    chosen = os.environ.get("MEMDB_PYTHON") or sys.executable
    if not chosen:
        raise errors.EngineDied(
            "no Python interpreter is known to start the engine with: this process embeds Python; set the "
            "environment variable MEMDB_PYTHON to a python executable that can import memdb"
        )
    return chosen


def environment() -> dict[str, str]:
    """What the engine gets of the caller's variables, with this very package on its path."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_HANDED_ON}
    kept["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    return kept


class Patience:
    """A wait that ends after ``seconds`` in which nothing has moved.

    >>> patience = Patience(10.0)
    >>> patience.saw({"phase": "rebuilding", "done": 3})      # moved: the seconds begin anew
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.last: object = None
        self._since = time.monotonic()
        self._pause = 0.001

    @property
    def deadline(self) -> float:
        return self._since + self.seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.deadline

    def saw(self, state: object) -> None:
        """Notes how far the other side is."""
        if state != self.last:
            self.last = state
            self._since = time.monotonic()
            self._pause = 0.001

    def pause(self) -> None:
        """A pause between two tries, each longer than the one before, 50 ms at most; Ctrl-C ends it."""
        time.sleep(min(self._pause, max(0.0, self.deadline - time.monotonic())))
        self._pause = min(self._pause * 2, 0.05)
