"""What child processes of the API tests run, here so that a spawned child finds it by its name: under the
import mode of the tests only pytest can import a test module."""

import os
from multiprocessing.connection import Connection
from typing import Any

import memdb


def every_write(db: memdb.Database, level: str | None = None) -> None:
    """Each writing call once, at *level*."""
    at: dict[str, Any] = {} if level is None else {"durability": level}
    assert db.set("a", 1, ttl=100, **at) and not db.set("a", 2, if_absent=True, **at)
    db.set_many({"b": 1, "c": b"raw"}, ttl=memdb.KEEP, **at)
    db.update({"d": 1}, **at)
    assert db.setdefault("e", 5, **at) == 5 and db.expire("a", 50, **at) and db.persist("a", **at)
    assert db.increment("n", 2, **at) == 2 and db.compare_and_set("n", 2, 3, **at)
    assert db.modify("n", lambda old: old + 1, **at) == 4
    assert db.pop("n", **at) == 4 and db.popitem(**at) == ("e", 5)
    with db.pipeline(**at) as p:
        p.set("p", 1)
        p.delete("b")
    assert p.results == [True, True]
    assert db.delete("a", **at) and db.delete_many(["c"], **at) == 1 and db.delete_range("d", "e", **at) == 1
    assert dict(db) == {"p": 1}
    db.clear(**at)
    assert len(db) == 0


def write_elsewhere(db: memdb.Database, conn: Connection) -> None:
    """Tell over `conn` what was found, how every write went, and the last LSN."""
    seen = dict(db)
    every_write_fails = None
    try:
        db.clear()
        every_write(db)
    except BaseException as error:
        every_write_fails = repr(error)
        raise
    finally:
        db["from"] = os.getpid()
        conn.send((seen, every_write_fails, db.lsn))


def judge_elsewhere(db: memdb.Database, conn: Connection) -> None:
    """Tell over `conn`, at each turn, what of an expiring key `a` is seen here."""
    conn.send(len(db))
    conn.recv()
    conn.send((db.ttl("a"), len(db), db.set("a", 0, if_absent=True)))
    conn.recv()
    conn.send(("a" in db, len(db), db.set("a", 2, if_absent=True)))


def one_more(value: int) -> int:
    """For modify."""
    return value + 1
