"""Generations: what readers, views and writes see when the writer of a group is replaced again and again."""

import gc
import os
import signal
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

import memdb

Opener = Callable[..., memdb.Database]


def kill_writer(db: memdb.Database) -> None:
    os.kill(db.info().processes["writer"].pid, signal.SIGKILL)


def test_snapshots_of_old_generations_go_on_or_are_expired(db: memdb.Database) -> None:
    """Rule G3: the third generation needs the arena in which these stand."""
    before = {n: b"%d" % n * 20 for n in range(3000)}
    db.set_many(before)
    snap, iterator = db.snapshot(), iter(db.items())
    first = [next(iterator) for _ in range(10)]
    for round_ in range(3):
        kill_writer(db)
        db.set_many(dict.fromkeys(range(3000), b"new %d" % round_ * 20))
        try:
            assert dict(snap) == before
        except memdb.SnapshotExpired:
            assert round_ > 0, "two generations have an arena each"
    try:
        assert dict(first + list(iterator)) == before
    except memdb.SnapshotExpired:
        pass
    assert db[0] == b"new 2" * 20 and len(db) == 3000


def test_what_is_durable_stays_so_in_the_next_generation(opened: Opener) -> None:
    db = opened()
    db["a"] = 1
    safe = db.sync()
    assert db.durable_lsn == safe
    db.compact()
    assert db.durable_lsn == safe
    kill_writer(db)
    db.sync()
    assert db.durable_lsn >= safe
    db.close()
    db = opened()
    assert db.durable_lsn >= safe == db.lsn


def test_views_survive_the_writers(opened: Opener) -> None:
    """Rule R4: an arena in which views stand is replaced, not built in again; clients go on in the new."""
    db = opened()
    expected = bytes(range(256)) * 500
    db["image"] = expected
    db.set_many((n, n) for n in range(1000))
    with db.snapshot() as snap, snap.view("image") as buffer:
        array = np.frombuffer(buffer, np.uint8)
    stop, failures, written = threading.Event(), list[BaseException](), [0]

    def work() -> None:
        try:
            while not stop.is_set():
                assert db.set(("w", written[0]), written[0], if_absent=True), "done twice"
                assert db[("w", written[0])] == written[0] and db[999] == 999
                written[0] += 1
        except BaseException as error:
            failures.append(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    for round_ in range(5):
        kill_writer(db)
        db["image"] = b"%d" % round_ * 100_000
        assert bytes(array) == expected
        assert db.get_many(range(1000)) == list(range(1000)) and db.check().ok
    stop.set()
    thread.join(60)
    assert not failures and written[0] > 0
    assert len(db.keys(prefix=("w",))) == written[0]
    assert db.info().processes["writer"].restarts == 5 and db.info().processes["supervisor"].restarts == 0
    assert bytes(array) == expected and db.readers()[0].views == 1
    assert db.checkpoint() >= written[0]
    del array, buffer
    gc.collect()
    assert db.readers() == []
    db.compact()
    assert len(db) == 1001 + written[0]


def test_a_child_reads_the_views_that_it_inherited(db: memdb.Database) -> None:
    expected = bytes(range(256)) * 100
    db["a"] = expected
    with db.snapshot() as snap:
        view = snap.view("a")
        array = np.frombuffer(view, np.uint8)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                right = bytes(view) == expected and bytes(array) == expected
                del array, view
                gc.collect()
                db["b"] = b"of the child"
                status = 0 if right and db["a"] == expected else 2
                db.close()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert db["b"] == b"of the child"
        assert db.readers()[0].views == 1, "the child has cleared its parent's hazard"
        db["a"] = b"x" * 25_600
        assert snap["a"] == expected
    for n in range(50):
        db["a"] = bytes([n]) * 25_600
    assert bytes(view) == expected == bytes(array)


def test_a_child_that_ends_by_itself(db: memdb.Database) -> None:
    """The interpreter's end frees what was inherited, and must not unmap what is not mapped there."""
    db["a"] = b"x" * 1000
    with db.snapshot() as snap, snap.view("a") as view:
        child = os.fork()
        if child == 0:
            status = 3
            try:
                inherited = [memdb.open(db.path)["a"] for _ in range(2)]
                status = 0 if bytes(view) == inherited[0] else 2
                gc.collect()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert snap["a"] == bytes(view)


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_a_snapshot_is_revoked_when_it_comes_of_age(
    opened: Opener, place: str, request: pytest.FixtureRequest
) -> None:
    """Also if it was taken when the writer slept already, and by nobody's doing."""
    if place == "disk":
        db = opened(snapshot_max_age=0.5)
    else:
        db = memdb.open(snapshot_max_age=0.5, linger=0, max_memory="64MiB")
        request.addfinalizer(db.close)
    db["a"] = 1
    threading.Event().wait(0.7)
    snap, began = db.snapshot(), time.monotonic()
    assert snap["a"] == 1
    with pytest.raises(memdb.SnapshotExpired):
        while time.monotonic() < began + 10:
            assert snap["a"] == 1
            threading.Event().wait(0.01)
    assert 0.4 < time.monotonic() - began < 3


def test_poison_is_told_at_once(db: memdb.Database) -> None:
    """Rule G4, as far as a client sees it: the words that the supervisor stores when it gives up writing."""
    from memdb.shm import _kernel

    db["a"] = 1
    poison = memdb.WriterPoisoned("the commit at LSN 7 has killed its writer 3 times", lsn=7, client=None)
    attachment = db._attachment
    board = attachment.client.board_mapping
    words = _kernel.board_words(board)
    attachment.why_read_only = lambda: poison
    _kernel.board_set(board, phase=3, writer_pid=0)
    try:
        began = time.monotonic()
        for write in (lambda: db.set("b", 1), lambda: db.delete("a"), lambda: db.set_many({"c": 1})):
            with pytest.raises(memdb.WriterPoisoned):
                write()
        assert time.monotonic() - began < 1 and db["a"] == 1
    finally:
        _kernel.board_set(board, phase=words["phase"], writer_pid=words["writer_pid"])
        del attachment.why_read_only
    db["b"] = 2
    assert db["b"] == 2
