"""The clock stepped by a day, forth and back, while clients write, read and hold snapshots."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from life.stage import eventually
from peer import Peer
from shim.steering import Steering, compiler

import memdb

DAY = 86400.0
pytestmark = [pytest.mark.life, pytest.mark.skipif(compiler() is None, reason="no C compiler for the shim")]


def raise_counter(db: memdb.Database, turns: int) -> int:
    """In a peer: writes of each kind, with and without a time to live far away."""
    for turn in range(turns):
        db.increment("count")
        db.set(("kept", turn), turn, ttl=30 * DAY)
    return int(db["count"])


def read_again(snap: memdb.Snapshot) -> tuple[object, int]:
    """In a peer."""
    return snap["base"], sum(1 for _ in snap.range(prefix=("kept",)))


def lsn_of(db: memdb.Database) -> int:
    return db.lsn


def killed_writer(db: memdb.Database) -> int:
    return db.info().processes["writer"].pid


def checkpoint(db: memdb.Database) -> int:
    return db.checkpoint()


@pytest.fixture
def stage(data: Path, tmp_path: Path) -> Iterator[tuple[Steering, Peer, Peer]]:
    clock = Steering.build(tmp_path)
    options = {"linger": 0.0, "max_memory": "64MiB"}
    peers = [Peer(data, clock.environment(), **options) for _ in range(2)]
    yield clock, peers[0], peers[1]
    for one in peers:
        one.close()


def test_a_day_forth_and_back_while_it_is_used(stage: tuple[Steering, Peer, Peer]) -> None:
    """Nothing waits for the clock: writes go on, a snapshot ages by time that passed and not by the step,
    checkpoints are made, LSNs grow, nothing comes back or goes."""
    clock, writing, holding = stage
    writing.call("set", "base", 1)
    writing.run(raise_counter, 20)
    holding.make("snap", "snapshot")
    assert holding.use("snap", read_again) == (1, 20)
    lsn, count = writing.run(lsn_of), 20
    for step in (DAY, -DAY, -DAY, DAY):
        writing.begin("run", (raise_counter, 300), {})
        clock.step(step)
        count += 300
        assert writing.answer() == count
        assert holding.use("snap", read_again) == (1, 20)
        assert writing.run(checkpoint) > lsn
        lsn = writing.run(lsn_of)
    holding.leave("snap")


def test_a_writer_that_dies_in_another_day(stage: tuple[Steering, Peer, Peer]) -> None:
    clock, writing, holding = stage
    writing.run(raise_counter, 20)
    count = 20
    for step in (DAY, -2 * DAY):
        clock.step(step)
        pid = holding.run(killed_writer)
        writing.begin("run", (raise_counter, 200), {})
        os.kill(pid, signal.SIGKILL)
        count += 200
        assert writing.answer() == count
        eventually(lambda pid=pid: holding.run(killed_writer) != pid, "a successor")
    assert holding.call("get", "count") == count
