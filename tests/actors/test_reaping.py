"""Reaping with a real group: in the background, with and without a log; with nothing to do nothing wakes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from actors.group_tools import wait_until

import memdb


@pytest.fixture(params=["logged", "in memory"])
def db(place: Path, request: pytest.FixtureRequest) -> Iterator[memdb.Database]:
    path = place if request.param == "logged" else None
    with memdb.open(path, max_memory="32MiB", linger=0) as opened:
        yield opened


def test_expired_keys_are_counted_no_more_and_then_deleted(db: memdb.Database) -> None:
    db.set_many([(i, i) for i in range(3000)], ttl=0.5)
    db["stays"] = 1
    assert db.info().arena.expiring == 3000
    assert db.info().arena.next_expiry is not None
    wait_until(lambda: db.info().arena.expiring == 0, 20, "all are reaped")
    assert len(db) == 1 and list(db) == ["stays"]
    assert db.info().arena.next_expiry is None
    assert db.info().reaped.deletes >= 3000
    wait_until(lambda: db.info().arena.cells < 200, 20, "their memory comes back")
    assert db.check().ok


def test_a_key_written_while_the_writer_sleeps_is_reaped_in_time(db: memdb.Database) -> None:
    db.set("far", 1, ttl=5000)
    db.sync()
    db.set("soon", 1, ttl=0.2, durability="memory")
    wait_until(lambda: db.info().arena.expiring == 1, 30, "nothing else wakes the writer")
    assert "far" in db and "soon" not in db


def test_reaping_survives_the_death_of_the_writer(db: memdb.Database) -> None:
    db.set_many([(i, i) for i in range(500)], ttl=0.5)
    before = db.info().processes["writer"]
    os.kill(before.pid, signal.SIGKILL)
    db["stays"] = 1
    wait_until(lambda: db.info().arena.expiring == 0, 20, "the successor reaps")
    assert list(db) == ["stays"]


def test_without_a_ttl_an_idle_group_does_not_wake(db: memdb.Database) -> None:
    db["a"] = 1
    pid = db.info().processes["writer"].pid

    def switches() -> int:
        """How often any thread of the writer was put to sleep by itself."""
        total = 0
        for task in os.listdir(f"/proc/{pid}/task"):
            lines = Path(f"/proc/{pid}/task/{task}/status").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt"))
        return total

    seen = [switches(), -1]
    wait_until(lambda: (seen.append(switches()), seen[-1] == seen[-2])[1], 20, "it has come to rest")
    quiet = 0

    def still() -> bool:
        nonlocal quiet
        now = switches()
        quiet = quiet + 1 if now == seen[-1] else 0
        seen.append(now)
        return quiet >= 50

    wait_until(still, 20, "half a second without a wake-up")
