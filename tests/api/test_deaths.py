"""When something dies: a delay, not an error; certain answers at time-outs; nothing acknowledged is lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

import memdb

Opener = Callable[..., memdb.Database]


def kill(db: memdb.Database, *roles: str) -> None:
    processes = db.info().processes
    for role in roles or processes:
        os.kill(processes[role].pid, signal.SIGKILL)


def test_a_killed_writer_is_a_delay(db: memdb.Database) -> None:
    for round_ in range(3):
        db["before", round_] = round_
        kill(db, "writer")
        assert db["before", round_] == round_
        db["after", round_] = round_
    assert len(db) == 6 and db.info().processes["writer"].restarts == 3


def test_writes_in_flight_are_done_exactly_once(db: memdb.Database) -> None:
    """Each thread adds its number to a list that only it changes, by a condition: twice done would fail
    it."""
    stop = threading.Event()
    done: dict[int, int] = {}
    failures: list[BaseException] = []

    def work(name: int) -> None:
        count = 0
        try:
            while not stop.is_set():
                assert db.set((name, count), count, if_absent=True), "the write was done twice"
                count += 1
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            done[name] = count

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        before = db.lsn
        deadline = time.monotonic() + 20
        while db.lsn < before + 200 and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        kill(db, "writer")
    stop.set()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert {name: len(db.keys(prefix=(name,))) for name in range(4)} == done


def test_a_large_commit_survives_the_writer(db: memdb.Database) -> None:
    pairs = {n: bytes([n & 255]) * 1000 for n in range(5000)}
    killer = threading.Timer(0.002, kill, (db, "writer"))
    killer.start()
    db.set_many(pairs)
    killer.join()
    assert db == pairs


def test_the_whole_group_killed(opened: Opener) -> None:
    db = opened(durability="os")
    db.set_many((n, n) for n in range(1000))
    with db.snapshot() as snap:
        kill(db)
        assert snap[5] == 5 and db[7] == 7
        db["after"] = 1
        assert db[999] == 999 and len(db) == 1001
        assert list(snap.keys(limit=2)) == [0, 1]
    kill(db)
    db.close()
    assert opened()["after"] == 1


def test_a_stopped_writer_is_a_timeout_and_nothing_is_done(opened: Opener) -> None:
    db = opened(timeout=0.5)
    db["a"] = 1
    pid = db.info().processes["writer"].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(memdb.Timeout, match="certainly not done"):
            db["a"] = 2
        assert 0.4 < time.monotonic() - began < 10
        assert db["a"] == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    db["b"] = 3
    assert dict(db) == {"a": 1, "b": 3}


def test_more_requests_than_cells(db: memdb.Database) -> None:
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            db.set(name, name, durability="full")
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(name,)) for name in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and list(db) == list(range(150))


def test_an_interrupt_ends_a_wait(opened: Opener) -> None:
    db = opened(timeout=60)
    db["a"] = 1
    pid = db.info().processes["writer"].pid
    os.kill(pid, signal.SIGSTOP)
    timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    try:
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            db["a"] = 2
        assert time.monotonic() - began < 10
    finally:
        timer.join()
        os.kill(pid, signal.SIGCONT)
    db["b"] = 1
    assert db["a"] in (1, 2)


def test_a_compaction_under_load(db: memdb.Database) -> None:
    db.set_many((n, n) for n in range(2000))
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        count = 0
        try:
            while not stop.is_set():
                db["w", count] = count
                assert db["w", count] == count
                count += 1
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(3):
            iterator = iter(db.keys(stop=("w",)))
            db.compact()
            assert db[1999] == 1999
            list(iterator)
    finally:
        stop.set()
        thread.join(60)
    assert not failures and sum(1 for key in db if type(key) is int) == 2000


def test_a_reader_stopped_in_a_point_read_does_not_fill_the_arena(opened: Opener) -> None:
    """Its pin is ACTIVE and has no age: under pressure it is revoked, and it reads again (rules R2, R5)."""
    db = opened(max_memory="16MiB")
    keys = range(5000)
    db.set_many((key, b"v" * 100) for key in keys)
    code = (
        f"import memdb; db = memdb.open({str(db.path)!r}); keys = list(range(5000)) * 4\n"
        "print('reading', flush=True)\n"
        "while True: assert None not in db.get_many(keys)"
    )
    reader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert reader.stdout is not None and reader.stdout.readline()
        for _ in range(3):
            reader.send_signal(signal.SIGSTOP)
            for round_ in range(150):
                db.set_many((key, b"%04d" % round_ * 25) for key in keys[round_ % 5 :: 5])
            reader.send_signal(signal.SIGCONT)
            threading.Event().wait(0.03)
        assert reader.poll() is None
    finally:
        reader.kill()
        reader.communicate()
