"""Fixtures that all tests share: a database in the test's own directory, and checks that nothing is left
behind.

Every group started in ``tmp_path`` has that path in its command lines, so its processes can be told from any
other's.
"""

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import memdb

# A runner in the background inherits SIGINT ignored, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # under nohup: what is started here has the default
    signal.signal(signal.SIGHUP, lambda *_: None)

SECONDS_TO_END = 15.0


def processes_in(place: Path | str) -> list[psutil.Process]:
    """The processes, zombies and this one apart, whose command line names a path at or below *place*."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if any(str(place) in argument for argument in process.cmdline()):
                found.append(process)
        except psutil.Error:  # it ended meanwhile
            continue
    return found


def _memory_homes() -> set[str]:
    """The private homes of memory-only databases of this user."""
    bases = {tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()}
    prefix = f"memdb-{os.geteuid()}-"
    return {
        os.path.join(base, name)
        for base in bases
        if os.path.isdir(base)
        for name in os.listdir(base)
        if name.startswith(prefix)
    }


def _wait_for_end(place: Path | str) -> list[psutil.Process]:
    deadline = time.monotonic() + SECONDS_TO_END
    left = processes_in(place)
    while left and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.1)
        left = processes_in(place)
    return left


def _kill(left: list[psutil.Process]) -> None:
    for process in left:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.Error:  # it ended meanwhile
            continue


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end of the session: no process, no segment or semaphore, no home of a memory-only database."""
    shared_before, homes_before = set(os.listdir("/dev/shm")), _memory_homes()
    yield
    base = tmp_path_factory.getbasetemp()
    left = _wait_for_end(base)
    _kill(left)
    assert not left, f"processes are left: {left}"
    alone = "PYTEST_XDIST_WORKER" not in os.environ  # workers see each other's
    if alone:
        assert _memory_homes() <= homes_before
        names = set(os.listdir("/dev/shm")) - shared_before
        deadline = time.monotonic() + SECONDS_TO_END
        while names & set(os.listdir("/dev/shm")):  # those of other programs live for a moment
            assert time.monotonic() < deadline, f"names are left in /dev/shm: {names}"
            time.sleep(0.05)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A directory for a database; every process of its group must have ended when the test is over."""
    place = tmp_path / "data"
    yield place
    left = _wait_for_end(place)
    _kill(left)
    assert not left, f"processes are left: {[' '.join(one.cmdline()) for one in left if one.is_running()]}"


Opener = Callable[..., "memdb.Database"]


@pytest.fixture
def opened(data: Path) -> Iterator[Opener]:
    """Opens the test's directory with options of its own; all handles are closed after the test."""
    handles: list[memdb.Database] = []

    def open_one(path: Path | None = data, **options: Any) -> memdb.Database:
        handle = memdb.open(path, **{"linger": 0.0, "max_memory": "64MiB", **options})
        handles.append(handle)
        return handle

    yield open_one
    for handle in handles:
        handle.close()


@pytest.fixture
def db(opened: Opener) -> "memdb.Database":
    """An empty database with its own group."""
    return opened()
