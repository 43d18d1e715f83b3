"""Opening a database for a command, with the progress of its recovery on the terminal; ending an engine.

Invariants:
- The bar appears only if opening takes longer than a moment and stderr is a terminal. It watches the engine
  through a connection of its own, which is closed before it
  becomes a client; if that fails, opening goes on without a bar.
- `stop_engine` never starts an engine.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import memdb
from memdb import errors
from memdb.actors import wire
from memdb.cli import output

_MOMENT = 0.3
_STOP_SECONDS = 120.0


@contextmanager
def opened(directory: str, *, create: bool = True, readonly: bool = False) -> Iterator[memdb.Database]:
    """The database of `directory`, closed at the end. `readonly` handles never create one."""
    create = create and not readonly
    if not create:
        _check_there(directory)
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(directory, ended), name="memdb-progress", daemon=True)
    if output.err().is_terminal:
        watcher.start()
    try:
        database = memdb.open(directory, create=create, readonly=readonly)
    finally:
        ended.set()
        if watcher.ident is not None:
            watcher.join()
    with database:
        yield database


def _check_there(directory: str) -> None:
    """Raises NotADatabase for a missing or empty directory, in words that suit a command line: `open` would
    speak of its argument `create`. All else is for `open` to judge.
    """
    try:
        if os.listdir(directory):
            return
    except FileNotFoundError as error:
        raise errors.NotADatabase(
            f"there is no directory {directory}; name the directory of a database", path=directory
        ) from error
    except OSError:
        return
    raise errors.NotADatabase(f"{directory} holds no database", path=directory)


def _watch(directory: str, ended: threading.Event) -> None:
    """Shows the progress of a recovery until `ended`."""
    if ended.wait(_MOMENT):
        return
    with output.bar() as progress:
        task = progress.add_task("starting", total=None)
        while not ended.is_set():
            try:
                for status in _statuses(directory, ended):
                    progress.update(
                        task,
                        description=str(status["phase"]),
                        completed=int(status["done"]),
                        total=int(status["total"]) or None,
                    )
                return
            except OSError:  # no engine there yet, or it is gone again: `open` judges that
                ended.wait(_MOMENT)


def _statuses(directory: str, ended: threading.Event) -> Iterator[dict[str, int | str]]:
    """What the engine says of itself while it does not serve yet."""
    from memdb.shm import _kernel

    home = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _MOMENT
        with wire.connect(home, deadline) as connection:
            hello = {
                "op": "hello",
                "protocol": wire.PROTOCOL,
                "layout": _kernel.layout_version(),
                "version": "progress",
            }
            wire.send(connection, hello, deadline)
            buffer, received = bytearray(), list[int]()
            try:
                while not ended.is_set():
                    try:
                        message = wire.receive(connection, buffer, received, time.monotonic() + _MOMENT)
                    except TimeoutError:
                        continue
                    if "status" not in message:
                        return
                    yield message["status"]
            finally:
                for descriptor in received:
                    os.close(descriptor)
    finally:
        os.close(home)


def stop_engine(directory: str) -> bool:
    """Ends the engine of `directory` and returns when it has ended; False if none runs. Raises
    NotADatabase, Timeout.
    """
    try:
        home = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise errors.NotADatabase(
            f"there is no directory {directory}; name the directory of a database", path=directory
        ) from error
    try:
        deadline = time.monotonic() + _STOP_SECONDS
        try:
            connection = wire.connect(home, deadline)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        with connection:
            return _end(connection, directory, deadline)
    finally:
        os.close(home)


def _end(connection: socket.socket, directory: str, deadline: float) -> bool:
    """Asks, and waits until the process is gone as the kernel says; a closed connection is not enough."""
    supervisor = wire.peer_pidfd(connection)
    try:
        try:
            wire.send(connection, {"op": "stop"}, deadline)
            answer = wire.receive(connection, bytearray(), [], deadline)
            if "error" in answer:
                raise errors.from_wire(answer["error"])
            if supervisor is None:  # not visible from here: the end of its connection is all there is
                wire.receive(connection, bytearray(), [], deadline)
        except TimeoutError as error:
            raise _still_ending(directory) from error
        except ConnectionError:  # it was quicker
            pass
        if supervisor is not None and not _has_ended(supervisor, deadline):
            raise _still_ending(directory)
        return True
    finally:
        if supervisor is not None:
            os.close(supervisor)


def _has_ended(pidfd: int, deadline: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _still_ending(directory: str) -> errors.Timeout:
    return errors.Timeout(
        f"the engine of {directory} has not ended within {_STOP_SECONDS:.0f} s; its last checkpoint may "
        "still be under way: see engine.log there",
        seconds=_STOP_SECONDS,
    )


def engine_pids(database: memdb.Database) -> dict[str, int]:
    """Process ids of the engine by role."""
    return {role: process.pid for role, process in database.info().processes.items() if process.pid}
