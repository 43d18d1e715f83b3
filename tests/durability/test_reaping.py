"""Reaping in the engine (rule R3): when it wakes, how much it takes, when it pauses, and when it does not."""

import errno
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from durability.rig import MIB, Machine, key, options

from memdb.durability import reaping
from memdb.durability.files import RealClock
from memdb.durability.reaping import _PAUSES
from memdb.shm import _kernel as kernel

SECOND = 1_000_000
HAS_TTL = 1
FULL = -1


def machine_of(**changes: Any) -> Machine:
    """Its clock stands at the kernel's, and moves when told."""
    machine = Machine(options=options(**changes))
    kernel.lease_init(machine.segs.group_lease, b"G" * 16)
    machine.clock.now_us = kernel.clock_us()
    return machine.start()


def expiring(machine: Machine, names: Iterator[str] | list[str], seconds: float, size: int = 1) -> None:
    at = kernel.clock_us() + int(seconds * SECOND)
    operations = [
        {"op": "set", "key": key(name), "value": b"v" * size + b"\0", "flags": HAS_TTL, "expires_us": at}
        for name in names
    ]
    for first in range(0, len(operations), 32):
        machine.commit(operations[first : first + 32])


def keys(machine: Machine) -> int:
    """As `len` counts: with what has expired and is not reaped."""
    return int(machine.engine.store.figures()["counts"][1])


def run(machine: Machine) -> None:
    machine.engine.run(machine.clock.monotonic())


def test_nothing_is_due_where_nothing_expires() -> None:
    machine = machine_of()
    machine.set("a", b"1")
    now = machine.clock.monotonic()
    assert machine.engine._reaping.look(machine.engine.store) > now + 86400
    machine.clock.advance(1000)
    run(machine)
    assert machine.engine.info()["reaped"] == {"batches": 0, "deletes": 0}


def test_what_is_due_goes_in_batches_with_pauses_of_many_times_their_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = machine_of()
    expiring(machine, [f"k{i:04}" for i in range(1000)], 100)
    machine.set("stays", b"1")
    run(machine)
    assert machine.engine._reaping.at == pytest.approx(machine.clock.monotonic() + 60), "the clock may be set"
    machine.clock.advance(99)
    run(machine)
    assert keys(machine) == 1001

    taken = type(machine.engine.commit).take_group

    class Slow:
        """A commit loop in which a batch takes 10 ms."""

        def __init__(self, commit: kernel.Commit) -> None:
            self._commit = commit

        def take_group(self, lease: kernel.Mapping) -> int:
            machine.clock.advance(0.010)
            return int(taken(self._commit, lease))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._commit, name)

    slow = Slow(machine.engine.commit)
    monkeypatch.setattr(type(machine.engine), "commit", property(lambda engine: slow))
    machine.clock.advance(2)
    left = []
    for _ in range(6 * _PAUSES):
        machine.set("stays", b"1")  # somebody writes
        run(machine)
        left.append(keys(machine))
        machine.clock.advance(0.010)
    begins = [left.index(count) for count in sorted(set(left), reverse=True)]
    assert left[-1] == 1 and len(begins) == 4
    # In one turn of this loop nobody writes after a batch, so the next one follows at once; then it pauses.
    assert _PAUSES <= begins[2] - begins[1] <= 2 * _PAUSES, "so many times 10 ms"
    assert machine.names() == {"stays": b"1"}
    assert machine.engine.store.next_expiry is None


def test_a_key_that_got_a_later_time_stays() -> None:
    machine = machine_of()
    expiring(machine, ["a", "b"], 100)
    expiring(machine, ["a"], 5000)
    machine.set("b", b"for good")
    machine.clock.advance(200)
    for _ in range(3):
        run(machine)
    assert machine.engine.info()["reaped"]["deletes"] == 0
    assert set(machine.names()) == {"a", "b"}


def test_a_clock_that_steps_back_resurrects_nothing() -> None:
    machine = machine_of()
    expiring(machine, ["a"], 100)
    machine.clock.advance(200)
    run(machine)
    run(machine)
    assert keys(machine) == 0
    floor = machine.engine.store.figures()["time_floor"]
    assert floor >= machine.clock.now_us
    expiring(machine, ["b"], 150)  # before the floor: expired at once
    machine.clock.now_us -= 1000 * SECOND
    machine.clock.advance(2000)  # monotonic goes on; only the calendar is back
    run(machine)
    assert machine.names() == {}
    assert machine.engine.store.figures()["time_floor"] >= floor


def test_snapshots_keep_what_is_reaped_behind_them() -> None:
    machine = machine_of()
    expiring(machine, ["a"], 100)
    snapshot = machine.reader()
    assert snapshot.get(key("a")) is not None
    machine.clock.advance(200)
    run(machine)
    run(machine)
    assert keys(machine) == 0
    assert snapshot.get(key("a")) is not None, "its own time has not moved"


@pytest.mark.parametrize("how", ["reboot", "successor", "compact"])
def test_reaping_goes_on_after_every_change_of_the_generation(how: str) -> None:
    machine = machine_of()
    expiring(machine, [f"k{i}" for i in range(300)], 100)
    machine.set("stays", b"1")
    if how == "compact":
        machine.engine.compact()
    else:
        machine = (machine.reboot() if how == "reboot" else machine.successor()).start()
        machine.clock.now_us = kernel.clock_us()
    machine.clock.advance(200)
    for _ in range(4):
        run(machine)
    assert keys(machine) == 1 and machine.engine.store.next_expiry is None
    assert not machine.engine.store.audit()


def test_a_batch_on_its_way_when_the_arena_is_compacted() -> None:
    machine = machine_of()
    expiring(machine, [f"k{i}" for i in range(300)], 100)
    machine.clock.advance(200)
    run(machine)
    machine.engine.compact()
    for _ in range(4):
        run(machine)
    assert keys(machine) == 0


def test_without_a_log() -> None:
    machine = machine_of(logged=False)
    expiring(machine, [f"k{i}" for i in range(300)], 100)
    machine.clock.advance(200)
    for _ in range(4):
        run(machine)
    assert keys(machine) == 0


def test_nothing_is_reaped_while_the_log_has_failed_and_then_it_goes_on() -> None:
    machine = machine_of()
    expiring(machine, [f"k{i}" for i in range(10)], 100)

    def fail(kind: str, path: str) -> None:
        if kind in ("datasync", "create") and path.startswith(("wal/", "checkpoints/")):
            raise OSError(errno.EIO, "broken disk")

    machine.files.on_operation = fail
    machine.settle(machine.submit([{"op": "set", "key": key("lost"), "value": b"2\0"}], "full"))
    run(machine)
    assert machine.engine.info()["wal"]["failure"] is not None
    machine.clock.advance(200)
    for _ in range(3):
        run(machine)
    assert machine.engine.info()["reaped"]["batches"] == 0
    assert len(machine.names()) == 10, "the reader's clock is the real one"
    machine.files.on_operation = None
    machine.clock.advance(10)
    for _ in range(4):
        run(machine)
    assert keys(machine) == 0


def test_while_nobody_writes_there_is_no_pause() -> None:
    machine = machine_of()
    expiring(machine, [f"k{i:04}" for i in range(600)], 100)
    machine.clock.advance(101)
    for _ in range(6):
        run(machine)
    assert keys(machine) == 0


def test_under_pressure_what_has_expired_goes_first_and_without_a_pace() -> None:
    machine = machine_of(max_memory=4 * MIB)
    expiring(machine, [f"k{i:05}" for i in range(1500)], 100, 1000)
    reader = machine.reader()
    reader.close()
    machine.clock.advance(200)
    machine.engine._reaping.at = machine.clock.monotonic() + 1000
    for number in range(3000):
        status, _ = machine.settle(
            machine.submit([{"op": "set", "key": key(f"n{number:05}"), "value": b"x" * 1000 + b"\0"}])
        )
        assert status == 0, number
    assert machine.engine.info()["pressure"]["refused"] == 0
    assert machine.engine.info()["reaped"]["deletes"] >= 1000
    assert not machine.engine.store.audit()


def test_the_loop_wakes_for_an_earlier_expiry_than_it_went_to_sleep_with() -> None:
    """With its threads and nothing else to wake it: no log, no deadline."""
    machine = Machine(options=options(logged=False), threads=True)
    kernel.lease_init(machine.segs.group_lease, b"G" * 16)
    clock = RealClock()
    machine.engine._clock = machine.engine._reaping._clock = machine.engine._pressure._clock = clock
    machine.engine._reaping.at = clock.monotonic() + 1e6
    machine.start()
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            machine.engine.run(None)

    server = threading.Thread(target=serve)
    server.start()
    try:
        for request, name, seconds in ((1, "far", 5000.0), (2, "soon", 0.2)):
            at = kernel.clock_us() + int(seconds * SECOND)
            payload = kernel.ops_build(
                [{"op": "set", "key": key(name), "value": b"v\0", "flags": HAS_TTL, "expires_us": at}]
            )
            assert kernel.lease_submit(machine.lease, machine.segs.board, request, request, payload, level=0)
        waited = threading.Event()
        for _ in range(1000):
            if machine.engine.store.figures()["counts"][1] == 1:
                break
            waited.wait(0.01)
        assert machine.engine.store.figures()["counts"][1] == 1
        parks = machine.engine.commit.figures()["parks"]
        waited.wait(0.3)
        assert machine.engine.commit.figures()["parks"] - parks <= 2, "nothing wakes until the next one"
    finally:
        done.set()
        machine.engine.interrupt()
        server.join()
    assert reaping.Reaping is type(machine.engine._reaping)
