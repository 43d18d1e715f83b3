"""The shim itself: a test under it that sees no stepped clock, no failing disk or no step proves nothing."""

import errno
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from peer import Peer
from shim.steering import LABELS, Steering, compiler, library_in, seconds_seen

import memdb

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler to build the shim with")

OPTIONS = {"linger": 0.0, "max_memory": "64MiB"}
EVERY_CALL = """
import os, sys
root, how = sys.argv[1:]
def tried(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except OSError as error:
        print(call.__name__, error.errno)
place = os.open(root, os.O_RDONLY)
os.mkdir("wal", dir_fd=place)
os.mkdir(f"{root}/checkpoints")
file = os.open("wal/1", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=place)
os.close(os.open(f"{root}/wal/1", os.O_RDWR | os.O_CREAT))  # it is there: no step
print(os.pwrite(file, b"12345678", 0), os.pwritev(file, [b"12345678", b"9"], 0), os.write(file, b"12345678"))
tried(os.fdatasync, file)
os.fsync(file)
with open(f"{root}/MANIFEST.tmp", "wb") as manifest:
    manifest.write(b"1")
os.rename("MANIFEST.tmp", "MANIFEST", src_dir_fd=place, dst_dir_fd=place)
os.fsync(place)
os.fsync(os.open(os.path.dirname(root), os.O_RDONLY))
try:
    os.unlink("wal/2", dir_fd=place)
except FileNotFoundError:
    pass
os.unlink(f"{root}/wal/1")
os.unlink("wal/gone", dir_fd=place) if how == "more" else None
print(os.open(f"{root}-beside", os.O_RDWR | os.O_CREAT) > 0)
"""
ITS_STEPS = {
    "mkdir:wal": 1,
    "mkdir:checkpoints": 1,
    "create:wal": 1,
    "write:wal": 3,
    "sync:wal": 2,
    "create:manifest": 1,
    "write:manifest": 1,
    "rename:manifest": 1,
    "syncdir:directory": 1,
    "syncdir:parent": 1,
    "unlink:wal": 1,
}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library_in(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def steering(tmp_path: Path, data: Path, library: Path) -> Iterator[Steering]:
    built = Steering(tmp_path / "steering", library, data)
    yield built
    built.close()


def run(steering: Steering, data: Path) -> subprocess.CompletedProcess[str]:
    """Every call that the shim knows, once or a few times, in a process group of its own."""
    data.mkdir()
    return subprocess.run(
        [sys.executable, "-c", EVERY_CALL, str(data), ""],
        env=steering.environment(),
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
    )


def test_clients_and_engine_live_by_the_stepped_clock(data: Path, steering: Steering) -> None:
    peer = Peer(data, steering.environment(), **OPTIONS)
    try:
        for step in (1000.25, -5000.5, 4000.25):
            steering.step(step)
            assert abs(peer.run(seconds_seen) - steering.now()) < 5
            peer.call("set", "a", step)
            writer = peer.call("info").processes["writer"].pid
            assert b"MEMDB_TEST_SHIM" in Path(f"/proc/{writer}/environ").read_bytes()
            assert peer.call("get", "a") == step
        assert steering.offset == 0
    finally:
        peer.close()


def test_every_call_is_a_step_with_its_label(data: Path, steering: Steering) -> None:
    done = run(steering, data)
    assert done.stdout.split() == ["8", "9", "8", "True"], done.stderr
    assert steering.hits() == ITS_STEPS


@pytest.mark.parametrize("label", ITS_STEPS)
@pytest.mark.parametrize("when", ["kill before", "kill after", "kill group before", "kill group after"])
def test_a_kill_point_kills_at_its_step(data: Path, steering: Steering, label: str, when: str) -> None:
    order = steering.order(label, when)
    assert run(steering, data).returncode == -signal.SIGKILL
    assert order.fired == 1 and steering.hits()[label] == 1
    was_done = {
        "mkdir:wal": (data / "wal").is_dir(),
        "mkdir:checkpoints": (data / "checkpoints").is_dir(),
        "create:wal": (data / "wal/1").exists(),
        "write:wal": (data / "wal/1").exists() and (data / "wal/1").stat().st_size == 8,
        "create:manifest": (data / "MANIFEST.tmp").exists(),
        "rename:manifest": (data / "MANIFEST").exists(),
        "unlink:wal": (data / "MANIFEST").exists() and not (data / "wal/1").exists(),
    }
    if label in was_done:
        assert was_done[label] == when.endswith("after")


def test_a_kill_of_the_group_takes_all_of_it_but_never_the_tests(data: Path, steering: Steering) -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]]); print('alive')"
    data.mkdir()
    for own_group in (True, False):
        order = steering.order("mkdir:wal", "kill group before")
        found = subprocess.run(
            [sys.executable, "-c", code, EVERY_CALL, str(data), ""],
            env=steering.environment(),
            capture_output=True,
            text=True,
            check=False,
            process_group=0 if own_group else None,
        )
        assert order.fired == 1
        assert (found.returncode, found.stdout) == ((-signal.SIGKILL, "") if own_group else (0, "alive\n"))
        order.cancel()


@pytest.mark.parametrize("sticky", [False, True])
def test_a_step_fails_once_or_from_then_on(data: Path, steering: Steering, sticky: bool) -> None:
    order = steering.order("sync:wal", "fail", value=errno.EIO, sticky=sticky)
    done = run(steering, data)
    assert f"fdatasync {errno.EIO}" in done.stdout
    assert done.returncode == (1 if sticky else 0) and order.fired == 1 + sticky


def test_a_step_that_is_done_may_be_told_to_have_failed(data: Path, steering: Steering) -> None:
    steering.order("mkdir:checkpoints", "fail after", value=errno.EIO)
    assert "Input/output error" in run(steering, data).stderr
    assert (data / "checkpoints").is_dir()


def test_the_nth_write_is_cut_short(data: Path, steering: Steering) -> None:
    steering.order("write:wal", "short", value=3, hit=2)
    assert run(steering, data).stdout.split()[:3] == ["8", "3", "8"]


def test_a_step_is_delayed(data: Path, steering: Steering) -> None:
    steering.order("rename:manifest", "delay", value=300_000)
    begun = time.monotonic()
    assert run(steering, data).returncode == 0
    assert time.monotonic() - begun > 0.3


def test_a_failing_sync_reaches_the_engine(data: Path, steering: Steering) -> None:
    peer = Peer(data, steering.environment(), **OPTIONS)
    try:
        peer.call("set", "a", 1, durability="full")
        steering.order("sync:wal", "fail", value=errno.EIO, sticky=True)
        with pytest.raises((memdb.LogFailed, memdb.OutcomeUnknown)):
            peer.call("set", "b", 2, durability="full")
        assert peer.call("get", "a") == 1
        steering.cancel()
    finally:
        peer.close()


def test_a_kill_point_kills_the_writer_and_its_successor_goes_on(data: Path, steering: Steering) -> None:
    peer = Peer(data, steering.environment(), **OPTIONS)
    try:
        writer = peer.call("info").processes["writer"].pid
        for label in ("write:wal", "sync:wal"):
            order = steering.order(label, "kill after")
            peer.call("set", label, 1, durability="full")
            successor = peer.call("info").processes["writer"].pid
            assert order.fired == 1 and successor != writer
            order.cancel()
            writer = successor
        assert peer.call("keys") == ["sync:wal", "write:wal"]
        assert set(steering.hits()) <= set(LABELS)
    finally:
        peer.close()
