"""The checkpointer writes while the writer is on its way back, is replaced, or begins again from disk."""

import errno
from typing import Any

import pytest
from durability.rig import Killed, Machine

from memdb import errors
from memdb.durability import checkpoints, manifest
from memdb.shm import _kernel as kernel


def _written(machine: Machine, plan: dict[str, Any]) -> dict[str, Any]:
    """What a checkpointer tells about the checkpoint that it has written of the present generation."""
    lease = kernel.Mapping.anonymous(kernel.lease_bytes())
    kernel.lease_init(lease, b"K" * 16)
    parity = kernel.page_word(machine.segs.page) & 1
    reader = kernel.Reader(machine.segs.arenas[parity], parity, lease, kernel.PIN_CHECKPOINT)
    try:
        return checkpoints.write(machine.files, reader, plan)
    finally:
        reader.close()


def _begun() -> tuple[Machine, dict[str, Any]]:
    """A writer, two of whose commits are seen and not synced, and the plan of a checkpoint."""
    machine = Machine().start()
    machine.set("a", b"1", "full")
    machine.set("b", b"2", "os")
    plan = machine.engine.checkpoint_plan("manual")
    assert plan is not None
    return machine, plan


def _named_are_there(machine: Machine) -> None:
    found = manifest.load(machine.files)
    assert found is not None
    for entry in found.checkpoints:
        checkpoints.verify(machine.files, entry)


def test_one_that_the_way_back_has_overtaken_is_not_named() -> None:
    """The new log begins without the files that no manifest names: this one was named after it had gone."""
    machine, plan = _begun()
    meta = _written(machine, plan)
    machine.set("c", b"3", "os")
    machine.fail_a_sync()
    machine.engine.way_back()
    assert machine.engine.checkpoint_finished(meta) > meta["lsn"]
    _named_are_there(machine)
    assert machine.reboot().start().names() == {"a": b"1", "b": b"2", "c": b"3"}


@pytest.mark.parametrize("at", range(1, 26))
def test_a_checkpointer_at_the_lsn_of_the_way_back_takes_nothing_from_it(at: int) -> None:
    """The way back's checkpoint is all that has what was seen and never synced: one of another salt came into
    its place, and the next start found neither."""
    machine, plan = _begun()
    machine.fail_a_sync()
    told: list[dict[str, Any]] = []
    count = [0]

    def meanwhile(kind: str, path: str) -> None:
        count[0] += 1
        if count[0] == at:
            machine.files.on_operation = None
            try:
                told.append(_written(machine, plan))
            except (OSError, BlockingIOError):  # its file was deleted; or the generation is over
                pass

    machine.files.on_operation = meanwhile
    machine.engine.way_back()
    machine.files.on_operation = None
    expected = {"a": b"1", "b": b"2"}
    assert machine.reboot().start().names() == expected
    for meta in told:
        machine.engine.checkpoint_finished(meta)
    _named_are_there(machine)
    assert machine.reboot().start().names() == expected


def test_one_that_a_start_from_disk_has_deleted_is_refused() -> None:
    machine, plan = _begun()
    meta = _written(machine, plan)
    machine.segs.arenas[kernel.page_word(machine.segs.page) & 1].close()
    fresh = machine.reboot().start()
    assert not fresh.files.listdir("checkpoints")
    with pytest.raises(errors.Error, match="take another one"):
        fresh.engine.checkpoint_finished(meta)
    _named_are_there(fresh)


def test_a_successor_names_what_its_predecessor_has_put_in_place() -> None:
    machine, plan = _begun()
    meta = _written(machine, plan)

    def die(kind: str, path: str) -> None:
        if path.startswith("MANIFEST"):
            raise Killed

    machine.files.on_operation = die
    with pytest.raises(Killed):
        machine.engine.checkpoint_finished(meta)
    machine.files.on_operation = None
    after = machine.successor().start()
    for _ in range(2):  # and once more, should that one have died, too
        assert after.engine.checkpoint_finished(meta) == meta["lsn"]
    _named_are_there(after)
    assert len(after.files.listdir("checkpoints")) == 1


def test_one_that_can_not_be_written_leaves_no_file() -> None:
    """On a full disk each try took the room that was left, under a name of its own."""
    machine, plan = _begun()

    def full(kind: str, path: str) -> None:
        if kind == "datasync" and path.startswith("checkpoints/"):
            raise OSError(errno.ENOSPC, "full", path)

    machine.files.on_operation = full
    with pytest.raises(OSError, match="full"):
        _written(machine, plan)
    assert machine.files.listdir("checkpoints") == []


@pytest.mark.parametrize("refused", ["for the log", "its name"])
def test_one_that_can_not_count_leaves_no_file(refused: str) -> None:
    machine, plan = _begun()
    meta = _written(machine, plan)

    def full(kind: str, path: str) -> None:
        if (kind, path[:4]) == ("create", "wal/") if refused == "for the log" else kind == "rename":
            raise OSError(errno.ENOSPC, "full", path)

    machine.files.on_operation = full
    if refused == "for the log":
        with pytest.raises(errors.DiskFullError):
            machine.engine.rotate()
    with pytest.raises((errors.DiskFullError, OSError)):
        machine.engine.checkpoint_finished(meta)
    assert machine.files.listdir("checkpoints") == []


def test_what_a_dead_checkpointer_has_left_goes_with_the_next_checkpoint() -> None:
    machine, plan = _begun()

    def die(kind: str, path: str) -> None:
        if kind == "datasync" and path.startswith("checkpoints/"):
            raise Killed

    machine.files.on_operation = die
    with pytest.raises(Killed):
        _written(machine, plan)
    machine = machine.successor().start()
    assert len(machine.files.listdir("checkpoints")) == 1
    machine.set("c", b"3")
    machine.engine.checkpoint()
    machine.set("d", b"4")
    machine.engine.checkpoint()
    assert all(name.endswith(".ckpt") for name in machine.files.listdir("checkpoints"))
