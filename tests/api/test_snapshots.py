"""Snapshots and zero-copy views."""

import gc
import multiprocessing
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peer import Peer

import memdb


def test_a_snapshot_is_one_point_in_time(db: memdb.Database) -> None:
    db.update({"a": 1, "b": 2, "c": 3})
    lsn = db.lsn
    with db.snapshot() as snap:
        db["a"] = 10
        del db["b"]
        db["d"] = 4
        assert snap.lsn == lsn < db.lsn
        assert dict(snap) == {"a": 1, "b": 2, "c": 3} == snap and len(snap) == 3
        assert (
            snap["a"] == 1
            and snap.get("d") is None
            and "b" in snap
            and snap.exists("c")
            and not snap.exists("d")
        )
        assert snap.get_many(["a", "b", "d"], 0) == [1, 2, 0]
        assert list(snap.range("b")) == [("b", 2), ("c", 3)] and list(snap.keys(reverse=True)) == [
            "c",
            "b",
            "a",
        ]
        assert list(reversed(snap)) == ["c", "b", "a"] and list(snap.values(limit=1)) == [1]
        entry = snap.entry("a")
        assert entry is not None and entry.version == lsn and snap.entry("d") is None
        with pytest.raises(KeyError):
            snap["d"]
        with pytest.raises(memdb.UnsupportedType):
            snap[[]]
        assert not hasattr(snap, "set")
    assert dict(db) == {"a": 10, "c": 3, "d": 4}


def test_after_its_end(db: memdb.Database) -> None:
    db["a"] = b"1"
    snap = db.snapshot()
    iterator = iter(snap)
    snap.close()
    snap.close()
    assert snap.closed
    calls: list[Callable[[], object]] = [
        lambda: snap["a"],
        lambda: snap.get("a"),
        lambda: list(snap),
        lambda: next(iterator),
        lambda: len(snap),
        lambda: snap.get_many(["a"]),
        lambda: snap.view("a"),
        lambda: "a" in snap,
        lambda: snap.entry("a"),
        lambda: snap.__enter__(),
    ]
    for call in calls:
        with pytest.raises(memdb.ClosedError):
            call()
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(snap)


def test_it_outlives_its_handle(opened: Callable[..., memdb.Database]) -> None:
    keeps, db = opened(), opened()
    db["a"] = 1
    snap = db.snapshot()
    db.close()
    assert snap["a"] == 1
    keeps["a"] = 2
    assert snap["a"] == 1
    snap.close()


@pytest.mark.parametrize("kind", ["snapshot", "transaction"])
def test_it_outlives_the_last_handle_of_its_process(data: Path, kind: str) -> None:
    """Others write on, and reuse what nobody pins: it goes on seeing what it saw."""
    writer = Peer(data, dict(os.environ), linger=0.0, max_memory="16MiB")
    try:
        db = memdb.open(data)
        db.set_many(dict.fromkeys(range(300), b"old" * 300))
        reader: Any = db.snapshot() if kind == "snapshot" else db.transaction()
        view = reader.view(7) if kind == "snapshot" else None
        db.close()
        for turn in range(20):
            writer.call("set_many", {n: bytes([turn]) * 900 for n in range(300)})
        assert [reader.get(n) for n in range(300)] == [b"old" * 300] * 300
        assert len(reader) == 300 and dict(reader.items()) == dict.fromkeys(range(300), b"old" * 300)
        assert [one.pid for one in writer.call("readers")] == [os.getpid()]
        assert len(writer.call("info").clients) == 2
        if view is not None:
            assert view == b"old" * 300
            view.release()
            reader.close()
        else:
            reader.abort()
            memdb.open(data).close()
        assert len(writer.call("info").clients) == 1, "with it the process has left"
    finally:
        writer.close()


def test_readers_name_who_holds_what(db: memdb.Database) -> None:
    db["a"] = b"x" * 1000
    assert db.readers() == []
    with db.snapshot() as snap:
        (reader,) = db.readers()
        assert (
            reader.pid == os.getpid()
            and reader.lsn == snap.lsn
            and 0 <= reader.age < 60
            and reader.kind == "snapshot"
        )
        view = snap.view("a")
    (reader,) = db.readers()
    assert reader.views == 1 and reader.pins == 0
    del view
    assert db.readers() == []


def test_an_abandoned_snapshot_is_given_back(db: memdb.Database) -> None:
    db.snapshot()
    gc.collect()
    assert db.readers() == []


def test_a_snapshot_that_is_too_old_is_revoked(opened: Callable[..., memdb.Database]) -> None:
    db = opened(snapshot_max_age=0.3)
    db.set_many((n, n) for n in range(1000))
    snap, iterator = db.snapshot(), iter(db)
    next(iterator)
    deadline = time.monotonic() + 20
    with pytest.raises(memdb.SnapshotExpired, match="snapshot_max_age") as caught:
        while time.monotonic() < deadline:
            assert snap[1] == 1
    assert caught.value.lsn == snap.lsn and snap.closed
    with pytest.raises(memdb.SnapshotExpired):
        snap.get(1)
    with pytest.raises(memdb.SnapshotExpired):
        while time.monotonic() < deadline:
            list(db.range(limit=1))
            next(iterator)
    assert db[1] == 1 and len(list(db)) == 1000


def test_a_view_shows_the_bytes(db: memdb.Database) -> None:
    db.update({"a": b"hello", "empty": b"", "big": b"x" * 500_000, "text": "hello", "none": None})
    with db.snapshot() as snap:
        with snap.view("a") as buf:
            assert isinstance(buf, memoryview) and buf.readonly and bytes(buf) == b"hello"
        with pytest.raises(ValueError, match="released"):
            bytes(buf)
        assert bytes(snap.view("empty")) == b"" and len(snap.view("big")) == 500_000
        with pytest.raises(KeyError):
            snap.view("missing")
        for key in ("text", "none"):
            with pytest.raises(memdb.UnsupportedType):
                snap.view(key)


def test_an_array_keeps_the_record(db: memdb.Database) -> None:
    db["a"] = bytes(range(256)) * 100
    with db.snapshot() as snap, snap.view("a") as buf:
        array = np.frombuffer(buf, np.uint8)
    for n in range(300):
        db["a"] = bytes([n & 255]) * 25_600
    del db["a"]
    db.compact()
    db["b"] = 1
    assert (array == np.frombuffer(bytes(range(256)) * 100, np.uint8)).all()
    (reader,) = db.readers()
    assert reader.views == 1 and reader.bytes >= 0
    del array, buf
    gc.collect()
    assert db.readers() == []


def test_more_views_than_hazards(db: memdb.Database) -> None:
    db.set_many((n, b"%d" % n) for n in range(400))
    with db.snapshot() as snap:
        views = [snap.view(n) for n in range(400)]
    db.clear()
    assert [bytes(one) for one in views] == [b"%d" % n for n in range(400)]


def _use_in_child(
    snap: memdb.Snapshot, view: memoryview, answers: "multiprocessing.SimpleQueue[str]"
) -> None:
    for call in (lambda: snap["a"], lambda: snap.view("a"), lambda: list(snap)):
        try:
            call()
        except memdb.ForkedHandleError:
            answers.put("ForkedHandleError")
        else:
            answers.put("no error")
    snap.close()
    answers.put("end")


def test_snapshots_are_not_for_children(db: memdb.Database) -> None:
    db["a"] = b"x"
    context = multiprocessing.get_context("fork")
    answers: multiprocessing.SimpleQueue[str] = context.SimpleQueue()
    with db.snapshot() as snap, snap.view("a") as view:
        child = context.Process(target=_use_in_child, args=(snap, view, answers))
        child.start()
        child.join(30)
        assert child.exitcode == 0
        assert [answers.get() for _ in range(4)] == ["ForkedHandleError"] * 3 + ["end"]
        assert snap["a"] == bytes(view) == b"x"
