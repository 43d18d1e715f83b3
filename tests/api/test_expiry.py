"""TTLs: of writes, reading and changing them; an expired key is invisible to every read and count at once."""

import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from api.children import judge_elsewhere

import memdb

Opener = Callable[..., memdb.Database]
SHORT = 0.05


def wait_until_gone(db: memdb.Database, *keys: Any) -> None:
    """Until the last of *keys* has expired: their times are waited for, not polled."""
    for key in keys:
        entry = db.entry(key)
        if entry is not None:
            assert entry.expires_at is not None
            threading.Event().wait(max(0.0, entry.expires_at - time.time()) + 0.02)


@pytest.mark.parametrize("ttl", [30, 30.5, timedelta(seconds=30), True + 29], ids=repr)
def test_a_ttl_is_seconds_or_a_timedelta(db: memdb.Database, ttl: Any) -> None:
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    before = time.time()
    assert db.set("a", 1, ttl=ttl) is True
    left, entry = db.ttl("a"), db.entry("a")
    assert left is not None and seconds - 5 < left <= seconds
    assert entry is not None and entry.expires_at is not None
    assert before + seconds - 0.1 <= entry.expires_at <= time.time() + seconds + 0.1
    assert db["a"] == 1


@pytest.mark.parametrize(
    ("ttl", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (0.0, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (-math.inf, ValueError),
        (timedelta(0), ValueError),
        (timedelta(seconds=-1), ValueError),
        (timedelta.max, ValueError),
        (100 * 365.25 * 86400 + 1, ValueError),
        (10**400, ValueError),
        (True, TypeError),
        ("1", TypeError),
        (b"1", TypeError),
        (1j, TypeError),
        (memdb.MISSING, TypeError),
        ([1], TypeError),
    ],
    ids=lambda one: repr(one)[:30],
)
def test_bad_ttls(db: memdb.Database, ttl: Any, error: type[Exception]) -> None:
    db["there"] = 1
    before = db.lsn
    calls: list[Callable[[], object]] = [
        lambda: db.set("a", 1, ttl=ttl),
        lambda: db.set_many({"a": 1}, ttl=ttl),
        lambda: db.set_many([("a", 1)], ttl=ttl),
        lambda: db.setdefault("a", 1, ttl=ttl),
        lambda: db.expire("there", ttl),
        lambda: db.expire("missing", ttl),
        lambda: db.compare_and_set("there", 1, 2, ttl=ttl),
        lambda: db.modify("there", lambda old: old, ttl=ttl),
    ]
    for call in calls:
        with pytest.raises(error, match="ttl"):
            call()
    assert db.lsn == before and dict(db) == {"there": 1}


def test_limits_of_ttls(db: memdb.Database) -> None:
    assert db.set("century", 1, ttl=timedelta(days=36525)) and db.set("c", 1, ttl=36525 * 86400)
    left = db.ttl("century")
    assert left is not None and left > 36524 * 86400
    db.set("instant", 1, ttl=1e-9)
    wait_until_gone(db, "instant")
    assert "instant" not in db


def test_ttl_of_what_has_none_or_is_missing(db: memdb.Database) -> None:
    db["a"] = 1
    assert db.ttl("a") is None
    entry = db.entry("a")
    assert entry is not None and entry.expires_at is None
    for key in ("b", "x" * 100_000):
        with pytest.raises(KeyError):
            db.ttl(key)
        assert db.expire(key, 1) is False and db.persist(key) is False
    with pytest.raises(memdb.UnsupportedType):
        db.ttl(object())


def test_an_expired_key_is_invisible_at_once(db: memdb.Database) -> None:
    db.set_many({("k", n): n for n in range(5)})
    db.set_many({("k", 5): 5, ("k", 6): 6, ("z", 1): 1}, ttl=SHORT)
    assert len(db) == 8 and len(db.keys(prefix=("k",))) == 7
    entry = db.entry(("k", 6))
    wait_until_gone(db, ("z", 1))
    key = ("k", 6)
    assert len(db) == 5 and bool(db) and dict(db) == {("k", n): n for n in range(5)}
    assert db.get(key) is None and key not in db and not db.exists(key) and db.entry(key) is None
    assert db.get_many([("k", 4), key], "no") == [4, "no"]
    with pytest.raises(KeyError):
        db[key]
    with pytest.raises(KeyError):
        db.ttl(key)
    assert list(db.range(prefix=("k",), reverse=True)) == [(("k", n), n) for n in range(4, -1, -1)]
    assert list(db.keys(limit=6)) == [("k", n) for n in range(5)] and next(reversed(db)) == ("k", 4)
    assert len(db.keys(prefix=("k",))) == 5 and len(db.values()) == 5
    assert db.delete(key) is False and db.delete_many([key, ("k", 5)]) == 0
    assert db.expire(key, 10) is False and db.persist(key) is False
    assert entry is not None and db.delete(key, if_version=entry.version) is False
    assert db.set(key, 0, if_version=entry.version) is False
    assert db.pop(key, "no") == "no"
    with pytest.raises(KeyError):
        del db[key]
    assert db.delete_range(prefix=("z",)) == 0 and db.delete_range(("k", 4)) == 1
    assert db.popitem() == (("k", 3), 3)


def test_absent_means_expired_too(db: memdb.Database) -> None:
    db.set("a", 1, ttl=SHORT)
    db.set("b", 1, ttl=SHORT)
    assert db.set("a", 2, if_absent=True) is False and db.setdefault("b", 2) == 1
    wait_until_gone(db, "a", "b")
    assert db.set("a", 2, if_absent=True) is True and db.setdefault("b", 2) == 2
    assert db.ttl("a") is None and dict(db) == {"a": 2, "b": 2}


def test_a_database_of_expired_keys_is_empty(db: memdb.Database) -> None:
    db.set_many({n: n for n in range(100)}, ttl=SHORT)
    wait_until_gone(db, 99)
    assert len(db) == 0 and not db and db == {} and list(db) == []
    with pytest.raises(KeyError, match="empty"):
        db.popitem()


def test_a_plain_write_removes_the_ttl_and_keep_keeps_it(db: memdb.Database) -> None:
    writes: list[Callable[[], object]] = [
        lambda: db.set("a", 2),
        lambda: db.__setitem__("a", 2),
        lambda: db.set_many({"a": 2}),
        lambda: db.update(a=2),
        lambda: db.compare_and_set("a", 1, 2),
        lambda: db.modify("a", lambda old: old),
    ]
    for write in writes:
        db.set("a", 1, ttl=100)
        write()
        assert db.ttl("a") is None
    keeps: list[Callable[[], object]] = [
        lambda: db.set("a", 2, ttl=memdb.KEEP),
        lambda: db.set_many({"a": 2}, ttl=memdb.KEEP),
        lambda: db.compare_and_set("a", 1, 2, ttl=memdb.KEEP),
        lambda: db.modify("a", lambda old: old, ttl=memdb.KEEP),
        lambda: db.increment("a"),
    ]
    for write in keeps:
        db.set("a", 1, ttl=100)
        before = db.entry("a")
        write()
        after = db.entry("a")
        assert before is not None and after is not None and before.expires_at == after.expires_at
    db["none"] = 1
    db.set("none", 2, ttl=memdb.KEEP)
    db.set("new", 2, ttl=memdb.KEEP)
    assert db.ttl("none") is None and db.ttl("new") is None


def test_keep_does_not_take_over_what_has_expired(db: memdb.Database) -> None:
    db.set("a", 1, ttl=SHORT)
    wait_until_gone(db, "a")
    db.set("a", 2, ttl=memdb.KEEP)
    assert db["a"] == 2 and db.ttl("a") is None


def test_keep_is_one_object() -> None:
    assert repr(memdb.KEEP) == "memdb.KEEP" and pickle.loads(pickle.dumps(memdb.KEEP)) is memdb.KEEP
    assert type(memdb.KEEP)() is memdb.KEEP


def test_expire_and_persist(db: memdb.Database) -> None:
    db["a"] = {"x": [1]}
    version = db.entry("a").version  # type: ignore[union-attr]
    assert db.persist("a") is False and db.entry("a").version == version  # type: ignore[union-attr]
    assert db.expire("a", 100) is True
    left = db.ttl("a")
    assert left is not None and 95 < left <= 100 and db["a"] == {"x": [1]}
    assert db.entry("a").version > version  # type: ignore[union-attr]
    assert db.expire("a", timedelta(hours=1), durability="full") is True
    left = db.ttl("a")
    assert left is not None and left > 3000
    assert db.persist("a") is True and db.ttl("a") is None and db.persist("a", durability="memory") is False
    db["raw"] = b"\0bytes\0"
    assert (
        db.expire("raw", 5) and db["raw"] == b"\0bytes\0" and db.persist("raw") and db["raw"] == b"\0bytes\0"
    )
    db.expire("a", SHORT)
    wait_until_gone(db, "a")
    assert "a" not in db
    for bad in (None, memdb.KEEP):
        with pytest.raises(TypeError, match=r"ttl must be seconds.*persist"):
            db.expire("raw", bad)  # type: ignore[arg-type]


def test_a_read_only_handle_reads_ttls_only(opened: Opener) -> None:
    db = opened()
    db.set("a", 1, ttl=100)
    reader = opened(readonly=True)
    assert reader.ttl("a") is not None
    for call in (lambda: reader.expire("a", 1), lambda: reader.persist("a")):
        with pytest.raises(memdb.ReadOnlyError):
            call()
    reader.close()
    with pytest.raises(memdb.ClosedError):
        reader.ttl("a")


def test_a_snapshot_keeps_what_expires_after_it(db: memdb.Database) -> None:
    db.set("a", 1, ttl=SHORT)
    db["b"] = 2
    with db.snapshot() as snap:
        wait_until_gone(db, "a")
        assert "a" not in db and snap["a"] == 1 and len(snap) == 2 and dict(snap) == {"a": 1, "b": 2}
    with db.snapshot() as snap:
        assert "a" not in snap and len(snap) == 1


def test_ttls_survive_the_writer_the_group_and_a_reopen(opened: Opener) -> None:
    db = opened()
    db.set("long", 1, ttl=1000)
    db.set("short", 1, ttl=1.0)
    stamps = [db.entry(key).expires_at for key in ("long", "short")]  # type: ignore[union-attr]
    os.kill(db.info().processes["writer"].pid, signal.SIGKILL)
    db["after"] = 1
    assert db.entry("long").expires_at == stamps[0]  # type: ignore[union-attr]
    db.compact()
    db.close()
    db = opened()
    assert db.entry("long").expires_at == stamps[0]  # type: ignore[union-attr]
    wait_until_gone(db, "short")
    assert set(db) == {"long", "after"} and len(db) == 2


def test_two_processes_judge_alike(db: memdb.Database) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=judge_elsewhere, args=(db, there))
    process.start()
    there.close()
    assert here.recv() == 0
    db.set("a", 1, ttl=2)
    here.send(None)
    left, count, replaced = here.recv()
    assert 0 < left <= 2 and count == 1 and not replaced
    wait_until_gone(db, "a")
    assert "a" not in db
    here.send(None)
    assert here.recv() == (False, 0, True)
    process.join(30)
    assert db["a"] == 2
