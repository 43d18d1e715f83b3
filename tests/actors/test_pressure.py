"""A full arena with real processes (R2, R5, R6): stopped, dead and many readers, and what comes back."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from actors.group_tools import python, wait_until

import memdb
from memdb import errors

MIB = 1 << 20
VALUE = b"x" * 1000
ROWS = 2500

READER = """
import sys, memdb
db = memdb.open(sys.argv[1])
"""
SCAN = (
    READER
    + """
with db.snapshot() as snap:
    print("here", flush=True)
    while True:
        for key, value in snap.range():
            pass
"""
)
HOLD = (
    READER
    + """
snap = db.snapshot()
print("here", flush=True)
sys.stdin.readline()
try:
    print(snap.get("k00000") is not None, flush=True)
except memdb.errors.SnapshotExpired:
    print("expired", flush=True)
"""
)
Starter = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def db(place: Path) -> Iterator[memdb.Database]:
    """A small arena, about three quarters full of ROWS keys."""
    with memdb.open(place, max_memory="4MiB", linger=0, checkpoint_wal_bytes="1TiB") as opened:
        write(opened, range(ROWS))
        yield opened


@pytest.fixture
def start(place: Path) -> Iterator[Starter]:
    """Starts reader processes, each of which says when it reads; they are ended afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start_one(code: str) -> "subprocess.Popen[str]":
        process = python(code, place)
        started.append(process)
        assert process.stdout is not None and process.stdout.readline() == "here\n"
        return process

    yield start_one
    for process in started:
        process.kill()
        process.communicate()


def write(db: memdb.Database, rows: range, value: bytes = VALUE) -> None:
    for row in rows:
        db.set(f"k{row:05}", value, durability="memory")


def states(db: memdb.Database, pid: int) -> set[int]:
    """1 idle, 2 in a read, 3 revoked."""
    rows = db._control("readers")["readers"]
    return {pin["state"] for row in rows if row["pid"] == pid for pin in row["pins"]}


def stop_inside_a_read(db: memdb.Database, process: "subprocess.Popen[str]") -> None:
    def stopped_there() -> bool:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        if 2 in states(db, process.pid):
            return True
        process.send_signal(signal.SIGCONT)
        os.waitid(os.P_PID, process.pid, os.WCONTINUED)
        return False

    wait_until(stopped_there, 20, "the reader is stopped in the middle of a read")


def test_a_reader_stopped_inside_a_snapshots_scan_gives_way(db: memdb.Database, start: Starter) -> None:
    reader = start(SCAN)
    stop_inside_a_read(db, reader)
    for turn in range(4):
        write(db, range(ROWS), b"%d" % turn * 1000)
    assert states(db, reader.pid) == {3}
    assert db.info().pressure.revoked == 1
    reader.send_signal(signal.SIGCONT)
    assert reader.wait(10) == 1, "SnapshotExpired"
    write(db, range(ROWS))
    assert db.check().ok


def test_a_dead_readers_snapshot_holds_nothing(db: memdb.Database, start: Starter) -> None:
    reader = start(SCAN)
    stop_inside_a_read(db, reader)
    reader.kill()
    reader.wait()
    for turn in range(3):
        write(db, range(ROWS), b"%d" % turn * 1000)
    assert db.info().pressure.refused == 0
    assert db.readers() == []


def test_of_many_snapshots_the_one_that_holds_most_goes_first(db: memdb.Database, start: Starter) -> None:
    holders = []
    for first, last in ((2500, 2510), (2510, 2700), (2700, 2720), (2720, 2721)):
        write(db, range(first, last))  # versions that only the next snapshot sees, once they are replaced
        holders.append(start(HOLD))
        write(db, range(first, last), b"y" * 1000)
    held = {reader.pid: reader.bytes for reader in db.readers()}
    sizes = [held[holder.pid] for holder in holders]
    assert sizes[1] == max(sizes) > 100_000, sizes
    row = 2721
    while db.info().pressure.revoked == 0:
        write(db, range(row, row + 1))
        row += 1
    answers = [holder.communicate("\n")[0].strip() for holder in holders]
    assert answers == ["True", "expired", "True", "True"]


def test_a_full_arena_takes_deletes_and_is_usable_again(db: memdb.Database, start: Starter) -> None:
    row = ROWS
    with pytest.raises(errors.ArenaFullError) as full:
        while True:
            db[f"k{row:05}"] = VALUE
            row += 1
    assert full.value.limit == 4 * MIB
    with pytest.raises(errors.ArenaFullError):
        db["another"] = VALUE
    reader = start(HOLD)
    assert db.delete_many([f"k{number:05}" for number in range(row)]) == row
    assert len(db) == 0
    write(db, range(row - 100))
    assert reader.communicate("\n")[0].strip() == "expired", "its versions gave way"
    assert len(db) == row - 100


def test_pages_go_back_after_delete_and_compact(db: memdb.Database, start: Starter) -> None:
    """Rule R6: what the segments take of /dev/shm, as the kernel counts it."""

    def backed() -> int:
        writer = db.info().processes["writer"].pid
        total = 0
        for fd in os.listdir(f"/proc/{writer}/fd"):
            path = f"/proc/{writer}/fd/{fd}"
            try:
                if "/mdb-" in os.readlink(path) and os.stat(path).st_size == 5 * MIB:
                    total += os.stat(path).st_blocks * 512
            except FileNotFoundError:
                continue
        return total

    holder = start(HOLD)
    before = backed()
    assert before > 2.5 * MIB
    db.delete_range(prefix="k")
    db["left"] = 1
    db.compact()
    assert db["left"] == 1 and len(db) == 1
    assert holder.communicate("\n")[0].strip() == "True", "a snapshot goes on in the old arena (rule G3)"
    # Each arena has a descriptor to write and one to read in the writer: what counts is that it falls.
    wait_until(lambda: backed() < before / 4, 30, "the old arena is given back")


def test_compact_under_load_with_readers(db: memdb.Database, start: Starter) -> None:
    writer = python(
        READER
        + """
print("here", flush=True)
for turn in range(10**9):
    for row in range(2400, 2500):
        db[f"k{row:05}"] = b"%d" % turn
    if turn == 3:
        print("going", flush=True)
""",
        db.path,
    )
    assert writer.stdout is not None and writer.stdout.readline() == "here\n"
    scanner = start(
        READER
        + """
print("here", flush=True)
while True:
    assert sum(1 for _ in db.range(stop="k02400")) == 2400
"""
    )
    try:
        assert writer.stdout.readline() == "going\n"
        generation = db.info().generation
        for _ in range(3):
            db.compact()
        assert db.info().generation == generation + 3
        assert writer.poll() is None and scanner.poll() is None
        assert sum(1 for _ in db.range(stop="k02400")) == 2400
        assert db.check().ok
    finally:
        writer.kill()
        writer.communicate()
