"""Keys of layers outlive what the mapping's do: restarts, checkpoints, deaths, compaction; they expire."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from actors.group_tools import wait_until

import memdb
from memdb import layering, values
from memdb.layering import CATALOGUE, COLLECTIONS, SpaceKey

Opener = Callable[..., memdb.Database]
WHOLE = [(SpaceKey(bytes([space])), SpaceKey(bytes([space + 1]))) for space in (CATALOGUE, COLLECTIONS)]


def fill(db: memdb.Database) -> dict[object, object]:
    """Keys of all spaces, by all kinds of writes; and what must be found of them."""
    with db.transaction() as tx:
        layering.put_many(
            tx,
            [(b"\x04%04d" % n, values.encode({"n": n}), 0) for n in range(500)] + [(b"\x03one", b"1\0", 0)],
        )
        tx["k"] = 1
    db.set(SpaceKey(b"\x03two"), 2, ttl=1000)
    assert db.delete_range(SpaceKey(b"\x040100"), SpaceKey(b"\x040200")) == 100
    assert db.delete(SpaceKey(b"\x040200"))
    return everything(db)


def everything(db: memdb.Database) -> dict[object, object]:
    found: dict[object, object] = dict(db)
    for bounds in WHOLE:
        found |= dict(db.range(*bounds))
    return found


def test_recovery_from_the_log_and_from_checkpoints(opened: Opener) -> None:
    db = opened()
    expected = fill(db)
    assert len(expected) == 1 + 2 + 399
    db.close()
    db = opened()
    assert everything(db) == expected and len(db) == 1 and db.check().ok
    db.checkpoint()
    db[SpaceKey(b"\x04after")] = expected[b"\x04after"] = "the checkpoint"
    assert db.delete_range(SpaceKey(b"\x040000"), SpaceKey(b"\x040001")) == 1
    del expected[b"\x040000"]
    for role in ("supervisor", "writer"):  # no last checkpoint
        os.kill(db.info().processes[role].pid, signal.SIGKILL)
    db.close()
    db = opened()
    assert everything(db) == expected and 900 < (db.ttl(SpaceKey(b"\x03two")) or 0) < 1000
    assert db.check().ok


def test_a_successor_and_compaction(db: memdb.Database) -> None:
    expected = fill(db)
    with db.snapshot() as snap:
        os.kill(db.info().processes["writer"].pid, signal.SIGKILL)
        db["k"] = expected["k"] = 2
        assert everything(db) == expected
        assert snap[SpaceKey(b"\x040001")] == {"n": 1}
    db.compact()
    assert everything(db) == expected and len(db) == 1 and db.check().ok


def test_counts_of_each_space(db: memdb.Database) -> None:
    fill(db)
    report = db.check()
    assert report.ok
    assert len(db) == 1 and db._count(*WHOLE[0]) == 2 and db._count(*WHOLE[1]) == 399


@pytest.mark.parametrize("logged", [True, False])
def test_the_reaper_deletes_what_has_expired(data: Path, logged: bool) -> None:
    with memdb.open(data if logged else None, linger=0, max_memory="64MiB") as db:
        with db.transaction() as tx:
            when = layering.expiry_us(tx, 0.4)
            layering.put_many(tx, [(b"\x04%04d" % n, b"x\0", when) for n in range(1000)])
            layering.put(tx, SpaceKey(b"\x03gone"), 1, when)
            layering.put(tx, SpaceKey(b"\x04stays"), 1)
            tx["k"] = 1
        assert db.info().arena.expiring == 1001
        wait_until(lambda: db.info().arena.expiring == 0, 20, "all are reaped")
        assert everything(db) == {"k": 1, b"\x04stays": 1}
        assert db.info().reaped.deletes >= 1001 and db.check().ok


def test_they_expire_at_one_instant(db: memdb.Database) -> None:
    """No read sees some of them: not a snapshot, nor a range, nor many at once."""
    keys = [b"\x04%04d" % n for n in range(50)]
    with db.transaction() as tx:
        when = layering.expiry_us(tx, 0.3)
        layering.put_many(tx, [(key, b"x\0", when) for key in keys])
    seen = 50
    while seen:
        found = layering.payloads(db, keys)
        seen = sum(one is not None for one in found)
        assert seen in (0, 50)
        assert len(list(db.range(*WHOLE[1]))) in (0, 50)


def test_a_child_of_a_fork_and_another_process(data: Path, opened: Opener) -> None:
    db = opened()
    expected = fill(db)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            db[SpaceKey(b"\x04child")] = 1
            code = 0 if everything(db) == {**expected, b"\x04child": 1} else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert db[SpaceKey(b"\x04child")] == 1
