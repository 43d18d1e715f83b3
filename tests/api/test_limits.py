"""Full memory, levels, read-only handles, and waits that end: what is told, and to whom."""

import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from api.children import every_write, write_elsewhere

import memdb

Opener = Callable[..., memdb.Database]
MAINTENANCE = ("checkpoint", "rotate_wal", "clear_wal", "compact")


def fill(db: memdb.Database) -> memdb.ArenaFullError:
    """Writes until the arena is full."""
    with pytest.raises(memdb.ArenaFullError) as caught:
        for n in range(10_000):
            db[n] = b"v" * 50_000
    return caught.value


def test_a_full_arena_names_its_limit_and_what_to_do(opened: Opener) -> None:
    db = opened(max_memory="16MiB")
    error = fill(db)
    assert error.limit == 16 << 20 and error.needed and error.pins == ()
    for part in ("max_memory is 16777216 bytes", "keys fill it", "delete something", "larger max_memory"):
        assert part in str(error), part
    assert db.delete(0) and db.set("small", 1)


def test_large_values_fit_where_small_ones_were_deleted(opened: Opener) -> None:
    """A piece of its own size is enough for a large value; where there is none, the error says so."""
    db = opened(max_memory="16MiB", durability="none")
    for n in range(0, 14_000, 500):
        db.set_many(dict.fromkeys(range(n, n + 500), b"s" * 700))
    db.delete_many(k for k in range(14_000) if k % 230)
    stored = 0
    with pytest.raises(memdb.ArenaFullError) as caught:
        while True:
            db["large", stored] = b"l" * 60_000
            stored += 1
    assert stored * 60_000 > 10 << 20
    usage = db.memory_usage()
    if usage.used < usage.limit // 8 * 7 - 70_000:
        assert "scattered" in str(caught.value) and "compact()" in str(caught.value)


def test_a_full_arena_names_who_pins_it(opened: Opener) -> None:
    db = opened(max_memory="16MiB")
    db["image"] = b"i" * 100_000
    with db.snapshot() as snap, snap.view("image") as view:
        db["image"] = b"j"
        error = fill(db)
        assert bytes(view[:1]) == b"i"
    assert error.pins and error.pins[0].pid == os.getpid()
    pin = error.pins[0]
    assert (
        f"pid {pin.pid} ({pin.command}) keeps {pin.bytes} bytes" in str(error)
        and 0 <= pin.age < 60
        and "python" in pin.command
    )
    assert pickle.loads(pickle.dumps(error)).pins == error.pins


def test_maintenance_needs_a_writable_handle(opened: Opener) -> None:
    db, reader = opened(), opened(readonly=True)
    db["a"] = 1
    for name in MAINTENANCE:
        with pytest.raises(memdb.ReadOnlyError, match="readonly"):
            getattr(reader, name)()
        getattr(db, name)()
    assert reader.sync() >= 1 and reader.check().ok and reader.info() and reader.disk_usage().total > 0


@pytest.mark.parametrize("call", ["sync", "check", *MAINTENANCE])
def test_a_stopped_supervisor_does_not_keep_calls_for_ever(opened: Opener, call: str) -> None:
    db = opened(timeout=1.0)
    db["a"] = 1
    pid = db.info().processes["supervisor"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(
            memdb.Timeout, match=rf"{call} .* no progress for 1 s.*supervisor \(pid {pid}\) is stopped"
        ):
            getattr(db, call)()
        assert 0.9 < time.monotonic() - began < 15
    finally:
        os.kill(pid, signal.SIGCONT)
    assert db["a"] == 1 and db.check().ok


def test_a_stopped_writer_is_named(opened: Opener) -> None:
    db = opened(timeout=1.0)
    pid = db.info().processes["writer"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(memdb.Timeout, match=rf"certainly not done; the writer \(pid {pid}\) is stopped"):
            db["a"] = 1
        with pytest.raises(memdb.Timeout, match=rf"answered 'info'.*writer \(pid {pid}\) is stopped"):
            db.info()
        with pytest.raises(memdb.Timeout, match=rf"writer \(pid {pid}\) is stopped"):
            db.sync()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert db.sync() >= 0


# ------------------------------------------------------------------------------------------ levels and none


@pytest.mark.parametrize("level", [None, "memory", "os", "full"])
def test_every_write_at_every_level(db: memdb.Database, level: str | None) -> None:
    every_write(db, level)
    if level == "full":
        assert db.durable_lsn >= db.lsn
    assert db.sync() >= db.lsn and db.durable_lsn >= db.lsn


@pytest.mark.parametrize("level", ["memory", "os", "full"])
def test_a_handle_has_a_level_and_a_call_another(opened: Opener, level: str) -> None:
    db = opened(durability=level, sync_interval=30.0)
    every_write(db)
    db.set("x", 1, durability="full")
    assert db.durable_lsn >= db.lsn


@pytest.mark.parametrize("kind", ["none", "in memory"])
def test_databases_without_a_log(opened: Opener, kind: str) -> None:
    db = opened(None) if kind == "in memory" else opened(durability="none")
    every_write(db)
    for level in ("memory", "os", "full"):
        every_write(db, level)
    db["a"] = [1]
    assert db.durable_lsn <= db.lsn and db.checkpoint() == db.sync() == db.lsn
    db.rotate_wal()
    db.clear_wal()
    assert db.check().ok and list(os.listdir(db.path)).count("checkpoints") <= 1
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=write_elsewhere, args=(db, there))
    process.start()
    there.close()
    seen, failure, lsn = here.recv()
    process.join(30)
    assert failure is None and seen == {"a": [1]} and dict(db) == {"from": process.pid} and db.lsn >= lsn
    os.kill(db.info().processes["writer"].pid, signal.SIGKILL)
    db["after"] = 1
    assert dict(db) == {"from": process.pid, "after": 1}
    db.compact()
    assert set(db) == {"from", "after"}


def test_waiting_for_a_full_commit_holds_nobody_up(db: memdb.Database) -> None:
    """Reads and a thread with `memory` commits go on while another waits for syncs."""
    stop = threading.Event()

    def sync_always() -> None:
        while not stop.is_set():
            db.increment("full", durability="full")

    thread = threading.Thread(target=sync_always)
    thread.start()
    for n in range(200):
        db.set("memory", n, durability="memory")
        assert db["memory"] == n
    stop.set()
    thread.join()
    assert db["full"] >= 1


# ------------------------------------------------------------------------------- the limits of a process


@pytest.mark.parametrize(
    ("limit", "extra", "told"),
    [
        ("RLIMIT_NOFILE", 2, "Too many open files.*ulimit -n"),
        ("RLIMIT_AS", 32 << 20, "cannot map.*ulimit -v"),
    ],
)
def test_a_process_that_has_too_little_to_join(db: memdb.Database, limit: str, extra: int, told: str) -> None:
    """The engine is well: the error says that it is the process's own limit."""
    code = (
        "import os, re, resource, sys, memdb, memdb.database\n"
        "free = os.open('/', os.O_RDONLY); os.close(free)\n"
        "mapped = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "base = free if sys.argv[2] == 'RLIMIT_NOFILE' else mapped\n"
        "now = base + int(sys.argv[3])\n"
        "resource.setrlimit(getattr(resource, sys.argv[2]), (now, now))\n"
        "try: memdb.open(sys.argv[1])\n"
        "except memdb.Error as error: print(f'pid {os.getpid()}', error)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, db.path, limit, str(extra)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert re.search(rf"(pid \d+).*\1.*{told}", child.stdout), child.stdout + child.stderr


@pytest.mark.parametrize(("total", "told"), [(100, "reads wait"), (30, "writes fail before"), (200, "")])
def test_open_warns_where_there_is_no_room_for_two_arenas(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, total: int, told: str
) -> None:
    monkeypatch.setattr("memdb.actors.segments.room", lambda: (total << 20, total << 20))
    caplog.set_level("WARNING", "memdb")
    opened()
    opened()  # who joins is not warned again
    found = [one.getMessage() for one in caplog.records if "/dev/shm" in one.getMessage()]
    if told:
        assert len(found) == 1 and told in found[0] and "160 MiB" in found[0] and "memdb doctor" in found[0]
    else:
        assert not found


def test_an_engine_without_address_space_says_so(tmp_path: Path) -> None:
    """No record has killed its writer: it is never told to be poisoned."""
    code = (
        "import resource, sys, memdb, memdb.database\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "try: memdb.open(sys.argv[1], linger=0)\n"
        "except memdb.EngineDied as error: print(error)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "db")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert re.search(r"cannot map.*max_memory.*ulimit -v", child.stdout), child.stdout + child.stderr
