"""Room for one arena only (rule G3), and checkpoints of a state that has one already."""

import os
from typing import Any

import pytest
from durability.rig import Killed, Machine, options, segments

from memdb import errors
from memdb.durability import manifest, rebuild
from memdb.durability.files import MemoryFiles
from memdb.shm import _kernel as kernel


class Room:
    """Lets no second arena be formatted before the first was punched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.punched: list[int] = []
        self._store, self._punch = kernel.Store, kernel.punch
        monkeypatch.setattr(rebuild.kernel, "Store", self.store)
        monkeypatch.setattr(rebuild.kernel, "punch", self.punch)

    def store(self, *arguments: Any, **named: Any) -> Any:
        if not self.punched:
            raise errors.ArenaFullError("cannot format the arena: /dev/shm is full")
        return self._store(*arguments, **named)

    def punch(self, fd: int, offset: int, length: int) -> None:
        self.punched.append(fd)
        self._punch(fd, offset, length)


def machine_on_memfds(**changes: Any) -> Machine:
    """With segments that can be punched."""
    chosen = options(**changes)
    segs = segments(chosen)
    fds = (os.memfd_create("arena0"), os.memfd_create("arena1"))
    for fd in fds:
        os.ftruncate(fd, segs.arenas[0].size)
    segs.arenas = (
        kernel.Mapping(fds[0], segs.arenas[0].size, writable=True),
        kernel.Mapping(fds[1], segs.arenas[1].size, writable=True),
    )
    segs.arena_fds = fds
    return Machine(options=chosen, segs=segs)


def test_without_room_the_old_arena_is_given_up_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_on_memfds().start()
    machine.set("a", b"1", "full")
    machine.engine.checkpoint()
    machine.set("b", b"2", "os")
    machine.set("c", b"3", "memory")
    parity = kernel.page_word(machine.segs.page) & 1
    idle = kernel.Reader(machine.segs.arenas[parity], parity, machine.lease, kernel.PIN_SNAPSHOT)
    next(iter(idle.batches()))
    with_idle = [state for _, state, _, _, _ in kernel.lease_readers(machine.lease, parity)]
    before = machine.versions()
    room = Room(monkeypatch)
    heir = machine.successor()
    if with_idle == [2]:  # this kind of reader is always in a read: it has to acknowledge
        with pytest.raises(errors.ArenaFullError, match="did not end"):
            heir.start()
        assert not room.punched
        idle.close()
        heir = machine.successor()
    heir.start()
    assert sorted(room.punched) == sorted(machine.segs.arena_fds)
    assert heir.report.source == "disk"
    assert heir.versions() == before
    heir.set("d", b"4", "full")
    assert heir.reboot().start().names() == {"a": b"1", "b": b"2", "c": b"3", "d": b"4"}


def test_nothing_is_given_up_that_the_disk_can_not_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_on_memfds().start()
    machine.set("a", b"1", "full")
    machine.files.damage("wal/" + machine.files.listdir("wal")[0], kernel.SEGMENT_HEADER + 8)
    room = Room(monkeypatch)
    with pytest.raises(errors.CorruptionError):
        machine.successor().start()
    assert not room.punched and machine.names() == {"a": b"1"}


def test_without_a_log_the_error_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_on_memfds(logged=False).start()
    machine.set("a", b"1", "memory")
    room = Room(monkeypatch)
    with pytest.raises(errors.ArenaFullError):
        machine.successor().start()
    assert not room.punched


def test_a_checkpoint_of_the_same_state_is_not_written_again() -> None:
    machine = Machine().start()
    machine.set("a", b"1")
    first = machine.engine.checkpoint()
    named = manifest.load(machine.files).checkpoints
    for reason in ("request", "clear_wal", "shutdown"):
        assert machine.engine.checkpoint(reason) == first
    assert manifest.load(machine.files).checkpoints == named, "the same salt: the same file"
    assert len(machine.files.listdir("checkpoints")) == 1
    again = machine.reboot().start()
    assert again.names() == {"a": b"1"}


def test_a_power_cut_in_clear_wal_on_an_unchanged_database() -> None:
    for number in range(1, 60):
        files = MemoryFiles()
        machine = Machine(files).start()
        machine.set("a", b"1", "full")
        machine.engine.checkpoint()
        begin = files.operations

        def die(kind: str, path: str, at: int = begin + number, files: MemoryFiles = files) -> None:
            if files.operations == at:
                raise Killed(f"{kind} {path}")

        files.on_operation = die
        try:
            machine.engine.checkpoint("clear_wal")
            machine.engine.clear_wal()
        except Killed:
            pass
        else:
            break
        for keep in (True, False):
            after = machine.reboot(files.crash(lambda path, sector, keep=keep: keep)).start()
            assert after.names() == {"a": b"1"} and not after.report.damaged_checkpoints
    else:
        raise AssertionError("it did not end")


def test_a_failed_log_finds_its_way_back_without_room_for_a_second_arena(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = machine_on_memfds().start()
    machine.set("a", b"1", "full")
    machine.fail_a_sync()
    before = machine.names()
    room = Room(monkeypatch)
    machine.engine.way_back()
    assert sorted(room.punched) == sorted(machine.segs.arena_fds)
    assert machine.engine.info()["wal"]["failure"] is None
    assert machine.names() == before
    machine.set("b", b"2", "full")
    after = machine.reboot(machine.files.crash(lambda path, sector: False)).start()
    assert after.names() == {**before, "b": b"2"}


def test_a_writer_that_takes_over_a_failed_log_goes_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = machine_on_memfds().start()
    machine.set("a", b"1", "full")
    machine.fail_a_sync()
    before = machine.names()
    room = Room(monkeypatch)
    heir = machine.successor().start()
    assert sorted(room.punched) == sorted(machine.segs.arena_fds)
    assert heir.names() == before
    heir.set("b", b"2", "full")
    after = heir.reboot(heir.files.crash(lambda path, sector: False)).start()
    assert after.names() == {**before, "b": b"2"}


def test_while_a_view_stands_the_failed_log_stays_failed_and_reads_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = machine_on_memfds().start()
    machine.set("a", b"1", "full")
    machine.fail_a_sync()
    Room(monkeypatch)
    monkeypatch.setattr(rebuild.kernel, "lease_hazards", lambda lease, parity: parity == 1)
    with pytest.raises(errors.ArenaFullError, match="zero-copy views"):
        machine.engine.way_back()
    monkeypatch.undo()
    assert machine.names() == {"a": b"1"}
    machine.engine.way_back()
    assert machine.names() == {"a": b"1"}
    machine.set("b", b"2", "full")


@pytest.mark.parametrize("dies_at", range(1, 24, 2))
def test_dying_on_the_way_back_in_one_arena_loses_nothing(
    dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = machine_on_memfds().start()
    machine.set("a", b"1", "full")
    machine.fail_a_sync()
    before, count = machine.names(), [0]
    Room(monkeypatch)
    first = machine.successor()

    def die(kind: str, path: str) -> None:
        count[0] += 1
        if count[0] == dies_at:
            raise Killed

    first.files.on_operation = die
    try:
        first.start()
    except Killed:
        pass
    second = first.successor()
    second.files.on_operation = None
    second.start()
    assert second.names() == before
    second.set("new", b"3", "full")
    after = second.reboot(second.files.crash(lambda path, sector: False)).start()
    assert after.names() == {**before, "new": b"3"}
