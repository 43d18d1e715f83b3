"""Many clients that have come, written and gone: their outcomes are kept for ten minutes (rule C2)."""

import os
import signal
from pathlib import Path

from actors.group_tools import wait_until
from durability.rig import Machine, key, options

import memdb
from memdb.durability.files import RealFiles
from memdb.shm import _kernel as kernel

_MANY = 15_000  # their ids are larger than the ring of a mailbox


def _outcome_of(number: int) -> bytes:
    return b"\x02o" + b"%016d" % number + b"\x00"


def _stored(machine: Machine) -> int:
    return sum(one[0] == 2 for one in machine.versions())


def _database(machine: Machine) -> Machine:
    """One that says that many clients have written."""
    machine.start()
    machine.set("a", b"1")
    for first in range(0, _MANY, 1000):
        ops = [
            {"op": "set", "key": _outcome_of(number), "value": bytes(32)}
            for number in range(first, first + 1000)
        ]
        assert kernel.lease_send(machine.segs.group_lease, machine.segs.board, kernel.ops_build(ops))
        machine.engine.run(machine.clock.monotonic())
    return machine


def test_a_writer_begins_after_however_many_clients(tmp_path: Path) -> None:
    """It names them all to the supervisor: the message did not go into the mailbox, each writer died of that,
    and the database could not be opened any more."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    files = RealFiles.at(str(data))
    machine = _database(Machine(files, options(max_memory=64 << 20)))
    assert _stored(machine) >= _MANY
    machine.engine.stop()
    files.close()
    with memdb.open(data, linger=0, max_memory="64MiB") as db:
        assert len(db) == 1
        before = db.info().processes
        os.kill(before["writer"].pid, signal.SIGKILL)
        db["b"] = 2
        wait_until(lambda: db.info().processes["writer"].restarts == 1)
        assert db.info().processes["supervisor"].pid == before["supervisor"].pid


def test_what_is_not_forgotten_at_once_is_named() -> None:
    """More than a few thousand in a row took each other's result cells, and stayed for good."""
    machine = _database(Machine(options=options(max_memory=64 << 20)))
    mine = _stored(machine) - _MANY  # of this client
    left, turns = [b"%016d" % number for number in range(_MANY)], 0
    while left:
        left, before = machine.engine.forget(*left), len(left)
        turns += 1
        assert len(left) < before and machine.engine.forget(*left) == left, "the first are under way"
        machine.engine.run(machine.clock.monotonic())
    assert turns > 1, "all had room at once: the test shows nothing"
    assert _stored(machine) == mine and machine.names() == {"a": b"1"}
    assert key("a") in machine.state()
