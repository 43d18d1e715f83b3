"""No file descriptors left: in a client that opens, in the supervisor at the door, in the writer that
rotates. Clear errors, nothing leaks, and it goes on when there are some again."""

import errno
import os
import resource
from pathlib import Path

import psutil
import pytest
from actors.group_tools import python, wait_until

import memdb
from memdb.actors import wire

CLIENT = """
import os, resource, sys, memdb
path = sys.argv[1]
def descriptors():
    return len(os.listdir("/proc/self/fd"))
with memdb.open(path, linger=60, max_memory="64MiB") as db:
    db["a"] = 1
before, (soft, hard) = descriptors(), resource.getrlimit(resource.RLIMIT_NOFILE)
refused = 0
for room in range(40):
    resource.setrlimit(resource.RLIMIT_NOFILE, (before - 1 + room, hard))
    try:
        db = memdb.open(path, open_timeout=5)
    except (OSError, memdb.Error) as error:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        text = str(error)
        assert "Too many open files" in text or "ulimit -n" in text, repr(error)
        assert not isinstance(error, memdb.OpenTimeout), repr(error)
        assert descriptors() == before, (room, descriptors(), before, repr(error))
        refused += 1
        continue
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert db["a"] == 1
    db.close()
    break
assert refused >= 3, refused
with memdb.open(path) as db:
    db["b"] = 2
    db._control("stop")
print("ok", refused)
"""


def test_a_client_without_descriptors_is_told_and_loses_none(tmp_path: Path) -> None:
    said, _ = python(CLIENT, tmp_path / "data").communicate(timeout=120)
    assert said.startswith("ok"), said


def test_who_declines_does_not_read_under_the_lease_that_he_gave_back(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pins would protect nothing: the writer knows that lease no more."""
    with memdb.open(place, linger=0, max_memory="64MiB") as db:
        db["a"] = 1
        before = db._attachment.client
        supervisor = psutil.Process(db.info().processes["supervisor"].pid)
        supervisor.kill()
        supervisor.wait(10)

        def none_left(sock: object) -> None:
            raise OSError(errno.EMFILE, "Too many open files")

        with monkeypatch.context() as without:
            without.setattr(wire, "peer_pidfd", none_left)
            with pytest.raises(memdb.Error, match="ulimit -n"):
                db["a"] = 2
        assert db._attachment.client is before
        assert db["a"] == 1
        db["a"] = 2
        assert db["a"] == 2 and db._attachment.client is not before


JOIN = """
import sys, memdb
try:
    with memdb.open(sys.argv[1], open_timeout=float(sys.argv[2])) as db:
        print("in", db["a"], flush=True)
        sys.stdin.readline()
except memdb.Error as error:
    print(type(error).__name__, error)
"""


def _limit(pid: int, count: int | None) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard if count is None else count, hard))


def test_a_supervisor_without_descriptors_serves_on_and_lets_in_later(place: Path) -> None:
    with memdb.open(place, linger=0, max_memory="64MiB") as db:
        db["a"] = 1
        supervisor = psutil.Process(db.info().processes["supervisor"].pid)
        before = supervisor.num_fds()  # perhaps with the connection of info()
        for room in range(8):
            _limit(supervisor.pid, before + room)
            used = sum(supervisor.cpu_times()[:2])
            told, _ = python(JOIN, place, 1.0).communicate("\n", timeout=30)
            assert sum(supervisor.cpu_times()[:2]) - used < 0.5, "it turned in circles"
            assert told.startswith("in 1") or "ulimit -n" in told or "OpenTimeout" in told, told
            db["a"] = 1
            _limit(supervisor.pid, None)
            wait_until(lambda: supervisor.num_fds() <= before, 30, f"no descriptor is kept ({room})")
            assert supervisor.is_running()
        waiting = python(JOIN, place, 20.0)
        assert waiting.stdout is not None
        assert waiting.stdout.readline() == "in 1\n"
        waiting.communicate("\n")
        assert (place / "engine.log").stat().st_size < 20_000, "it fills its log"


def test_a_writer_and_a_checkpointer_without_descriptors_say_so_and_go_on(place: Path) -> None:
    with memdb.open(place, linger=0, max_memory="64MiB", timeout=20) as db:
        db["a"] = db["b"] = 1
        pids = {role: found.pid for role, found in db.info().processes.items()}
        for role in ("writer", "checkpointer"):
            process = psutil.Process(pids[role])
            count = process.num_fds()
            highest = max(int(name) for name in os.listdir(f"/proc/{process.pid}/fd"))
            _limit(process.pid, 3)  # no descriptor above 2 is given out any more
            call = db.checkpoint if role == "checkpointer" else db.rotate_wal
            error: BaseException | None = None
            try:
                call()
                call()  # the first may have found a spare
            except memdb.Error as caught:
                error = caught
            assert isinstance(error, memdb.DiskError), repr(error)
            assert error.errno == 24 and "Too many open files" in str(error) and "ulimit -n" in str(error)
            assert db["a"] == 1
            if role == "writer":
                assert db.delete("b", durability="full"), "deletes go on"
            _limit(process.pid, None)

            def goes_on(role: str = role) -> bool:
                try:
                    db.set(role, 1, durability="full")
                except (memdb.DiskError, memdb.ReadOnlyError):  # the latter: it has just come back
                    return False
                return True

            wait_until(goes_on, 20, f"the {role} goes on by itself")
            call()
            assert process.is_running() and process.num_fds() <= count + 2, (
                count,
                process.num_fds(),
                highest,
            )
        assert pids == {role: found.pid for role, found in db.info().processes.items()}
    with memdb.open(place, linger=0, max_memory="64MiB") as db:
        assert dict(db) == {"a": 1, "writer": 1, "checkpointer": 1}
