"""Transactions when something dies: exactly once, or a ConflictError and not at all."""

import os
import signal
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


def test_the_writer_dies_in_the_middle_of_a_transaction(db: memdb.Database) -> None:
    db.update({"a": 1, "b": 1})
    tx, blind = db.transaction(), db.transaction()
    tx["a"] += 1
    blind["c"] = 1
    kill(db, "writer")
    assert tx["b"] == 1, "reads go on"
    blind.commit()
    assert db["c"] == 1 and db.outcome(blind.id) is True  # type: ignore[arg-type]
    with pytest.raises(memdb.ConflictError) as caught:
        tx.commit()
    assert caught.value.reason == "generation" and db["a"] == 1
    assert db.transact(lambda tx: tx.increment("a")) == 2


def test_the_group_dies_in_the_middle_of_a_transaction(db: memdb.Database) -> None:
    db.update({"a": 1, "b": 1})
    with db.transaction() as done:
        done["c"] = done["a"]
    tx = db.transaction()
    tx["a"] += 1
    kill(db)
    assert tx["b"] == 1
    with pytest.raises(memdb.ConflictError) as caught:
        tx.commit()
    assert caught.value.reason == "generation"
    assert db.transact(lambda tx: tx.increment("a")) == 2
    assert db.outcome(done.id) is True  # type: ignore[arg-type]


def test_commits_in_flight_are_done_exactly_once(db: memdb.Database) -> None:
    """Threads move between keys and count in the same transaction, while writers are killed."""
    db.update({("account", n): 0 for n in range(8)})
    stop = threading.Event()
    done: dict[int, int] = {}
    failures: list[BaseException] = []

    def work(name: int) -> None:
        count = 0

        def move(tx: memdb.Transaction) -> None:
            tx["account", name] -= 1
            tx["account", (name + count) % 8] += 1
            assert tx.increment(("moves", name)) == count + 1

        try:
            while not stop.is_set():
                db.transact(move, retries=1000)
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
    assert not failures and min(done.values()) > 0
    assert {name: db["moves", name] for name in range(4)} == done
    assert sum(db.values(prefix=("account",))) == 0


@pytest.mark.parametrize("delay", [0.001, 0.004, 0.01])
def test_the_writer_dies_in_the_middle_of_a_large_commit(opened: Opener, delay: float) -> None:
    db = opened(max_memory="128MiB")
    db["count"] = 0
    pairs = {n: bytes([n & 255]) * 1000 for n in range(5000)}
    blind, judged = db.transaction(), db.transaction()
    blind.update(pairs)
    killer = threading.Timer(delay, kill, (db, "writer"))
    killer.start()
    blind.commit()  # nothing to judge: repeated until it is done
    killer.join()
    assert len(db) == 5001 and db[4999] == pairs[4999] and db.outcome(blind.id) is True  # type: ignore[arg-type]
    judged.abort()
    judged = db.transaction()
    judged["count"] += 1
    judged.update({("second", n): value for n, value in pairs.items()})
    killer = threading.Timer(delay, kill, (db, "writer"))
    killer.start()
    try:
        judged.commit()
    except memdb.ConflictError as error:
        assert error.reason == "generation" and judged.id is None
        assert db["count"] == 0 and len(db) == 5001
    else:
        assert db["count"] == 1 and len(db) == 10001
        assert db.outcome(judged.id) is True  # type: ignore[arg-type]
    killer.join()


def test_a_stopped_writer_is_a_timeout_and_nothing_is_done(db: memdb.Database) -> None:
    db["a"] = 1
    pid = db.info().processes["writer"].pid
    tx = db.transaction(timeout=0.4)
    tx["a"] += 1
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(memdb.Timeout, match=r"for 0\.4 s .*certainly not done"):
            tx.commit()
        assert 0.3 < time.monotonic() - began < 10
        with db.transaction() as reader:
            assert reader["a"] == 1
    finally:
        os.kill(pid, signal.SIGCONT)
    assert tx.id is None and tx.closed
    assert db.transact(lambda tx: tx.increment("a")) == 2


def test_a_client_that_dies_leaves_nothing(db: memdb.Database) -> None:
    db["a"] = 1
    child = os.fork()
    if child == 0:
        tx = db.transaction()
        tx["a"] += 1
        tx.update({n: bytes(1000) for n in range(2000)})
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert db == {"a": 1}
    assert db.transact(lambda tx: tx.increment("a")) == 2


def test_a_closed_handle(opened: Opener) -> None:
    db, other = opened(), opened()
    db["a"] = 1
    tx, reader = db.transaction(), db.transaction()
    tx.set("b", 1)
    db.close()
    assert reader["a"] == 1, "its snapshot goes on"
    reader.commit()
    with pytest.raises(memdb.ClosedError, match="is closed; open it again"):
        tx.commit()
    assert tx.closed and other == {"a": 1}
