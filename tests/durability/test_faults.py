"""A disk that refuses: at every kind of call of the file seam, and the defects that this has found, each by
name. `python -m stress faults` does every fault at every call."""

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from durability.fault_story import calls_of, play
from durability.faulty import Fault, faults_at
from durability.rig import Machine, key, options

from memdb import errors
from memdb.durability import segments
from memdb.shm import _kernel as kernel

_CALLS = {broken: calls_of(broken_log=broken) for broken in (False, True)}


def _sample(broken: bool) -> list[Fault]:
    """For each label its last call, and the error that is next in turn."""
    last = {call.label: number for number, call in enumerate(_CALLS[broken], 1)}
    chosen = []
    for turn, (label, number) in enumerate(sorted(last.items())):
        known = list(faults_at(number, _CALLS[broken][number - 1]))
        chosen.append(known[turn % len(known)])
        assert chosen[-1].label == label
    return chosen


@pytest.mark.parametrize("broken_log", [False, True], ids=["", "log broken"])
def test_a_fault_of_every_kind_breaks_no_promise(broken_log: bool) -> None:
    for fault in _sample(broken_log):
        play(fault, broken_log=broken_log)


def _refuse(code: int, kind: str, path: str = "") -> Callable[[str, str], None]:
    def refuse(found: str, where: str) -> None:
        if found == kind and where.startswith(path):
            raise OSError(code, os.strerror(code), where)

    return refuse


def _answer(machine: Machine, operation: dict[str, Any]) -> int:
    """The status of one commit, as soon as there is one."""
    request = machine.submit([operation])
    for _ in range(4):
        status, _ = machine.settle(request)
        if status != -100:
            break
    return status


def _fill_segment(machine: Machine) -> None:
    """Ordinary commits, until the next one would need a new segment."""
    number = machine.engine.commit.figures()["segment"]
    refused, count = 0, 0
    while refused == 0:
        count += 1
        refused = _answer(machine, {"op": "set", "key": key(f"k{count}"), "value": bytes(4000) + b"\0"})
    assert refused == -11 and machine.engine.commit.figures()["segment"] == number


def test_a_full_disk_leaves_reads_and_deletes_and_goes_on_by_itself() -> None:
    machine = Machine().start()
    machine.files.on_operation = _refuse(errno.ENOSPC, "create")
    _fill_segment(machine)
    failure = errors.from_wire(machine.engine.info()["wal"]["failure"])
    assert isinstance(failure, errors.DiskFullError)
    assert failure.errno == errno.ENOSPC and failure.file == segments.path_of(2)
    assert "reads and deletes go on" in str(failure) and "free some space" in str(failure)
    before = machine.names()
    for name in list(before)[:100]:
        machine.delete(name, "full")
    assert len(machine.names()) == len(before) - 100
    machine.commit([{"op": "delete_range", "key": key("k2"), "value": key("k3")}])
    assert not any(name.startswith("k2") for name in machine.names())
    assert _answer(machine, {"op": "set", "key": key("k1"), "value": b"1\0"}) == -11, "certainly not done"
    left = machine.names()
    assert machine.reboot().start().names() == left
    machine.files.on_operation = None
    machine.clock.advance(10)
    machine.engine.run(machine.clock.monotonic())
    machine.set("room", b"1", "full")
    after = machine.reboot(machine.files.crash(lambda *_: False)).start()
    assert after.names() == {**left, "room": b"1"}


def test_the_share_for_deletes_has_an_end_that_is_told() -> None:
    machine = Machine().start()
    names = [f"n{number:05}" for number in range(1500)]
    machine.commit([{"op": "set", "key": key(name), "value": b"1\0"} for name in names])
    machine.files.on_operation = _refuse(errno.ENOSPC, "create")
    _fill_segment(machine)
    answers = [_answer(machine, {"op": "delete", "key": key(name)}) for name in names]
    done = answers.count(0)
    assert done > 500 and answers == [0] * done + [-11] * (len(names) - done)
    machine.files.on_operation = None
    machine.clock.advance(10)
    machine.engine.run(machine.clock.monotonic())
    machine.delete(names[-1], "full")
    assert set(machine.reboot().start().names()) == set(machine.names())


def test_a_rotation_that_no_manifest_names_yet_takes_no_commit_and_is_gone_on_with() -> None:
    machine = Machine().start()
    machine.set("a", b"1")
    machine.files.on_operation = _refuse(errno.EIO, "rename")
    with pytest.raises(errors.DiskError, match="MANIFEST"):
        machine.engine.rotate()
    for operation in ({"op": "delete", "key": key("a")}, {"op": "set", "key": key("a"), "value": b"2\0"}):
        assert _answer(machine, operation) == -11, "segment 2 is named nowhere"
    assert machine.reboot().start().names() == {"a": b"1"}
    machine.files.on_operation = None
    machine.clock.advance(10)
    machine.engine.run(machine.clock.monotonic())
    machine.set("b", b"2", "full")
    assert machine.reboot(machine.files.crash(lambda *_: False)).start().names() == {"a": b"1", "b": b"2"}


def test_a_new_segment_whose_sync_fails_does_not_end_the_writer() -> None:
    """It was in no manifest, and the way back looked for it there."""
    machine = Machine().start()
    machine.set("a", b"1")
    refuse, seen = _refuse(errno.EIO, "datasync", segments.path_of(2)), []

    def fail(kind: str, path: str) -> None:
        if kind == "datasync" and path == segments.path_of(2):
            seen.append(kind)
        if len(seen) == 2:  # the first is that of its zeros
            refuse(kind, path)

    machine.files.on_operation = fail
    with pytest.raises(errors.LogFailed):
        machine.engine.rotate()
    machine.files.on_operation = None
    machine.clock.advance(10)
    machine.engine.run(machine.clock.monotonic())
    machine.set("b", b"2", "full")
    assert machine.reboot(machine.files.crash(lambda *_: False)).start().names() == {"a": b"1", "b": b"2"}


def test_a_way_back_whose_manifest_fails_is_begun_anew_with_another_segment() -> None:
    """The second attempt took the first one's half-begun segment, and another commit loop with it."""
    machine = Machine().start()
    machine.set("a", b"1", "full")
    machine.files.on_operation = _refuse(errno.EIO, "datasync", "wal/")
    machine.settle(machine.submit([{"op": "set", "key": key("lost"), "value": b"2\0"}], "full"))
    machine.engine.run(0.0)
    failing = _refuse(errno.EIO, "sync_dir")

    def fail(kind: str, path: str) -> None:
        if path == "":  # of the directory itself: the rename was done, and may or may not last
            failing(kind, path)

    machine.files.on_operation = fail
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            machine.engine.way_back()
        assert machine.names() == {"a": b"1"}
        assert machine.reboot().start().names().items() >= {"a": b"1"}.items()
        cut = machine.reboot(machine.files.crash(lambda path, sector: path == "MANIFEST")).start()
        assert cut.names().items() >= {"a": b"1"}.items()
    machine.files.on_operation = None
    machine.engine.way_back()
    for turn in range(5):
        machine.set(f"b{turn}", b"2", "full")
    machine.engine.rotate()
    found = machine.names()
    assert machine.reboot(machine.files.crash(lambda *_: False)).start().names() == found


def test_a_second_attempt_at_the_way_back_leaves_the_first_ones_checkpoint_alone() -> None:
    """The first one's manifest may be in force: it names that very file."""
    machine = Machine().start()
    machine.set("a", b"1", "full")
    machine.set("b", b"2", "os")  # visible, and durable in no log: only the checkpoint of the way back has it
    machine.files.on_operation = _refuse(errno.EIO, "datasync", "wal/")
    machine.settle(machine.submit([{"op": "set", "key": key("lost"), "value": b"2\0"}], "full"))
    machine.engine.run(0.0)

    for where in ("", "checkpoints"):

        def fail(kind: str, path: str, where: str = where) -> None:
            if kind == "sync_dir" and path == where:
                raise OSError(errno.EIO, "broken disk", path)

        machine.files.on_operation = fail
        try:
            machine.engine.way_back()
        except OSError as error:
            assert error.filename == where
    machine.files.on_operation = None
    assert machine.reboot().start().names() == {"a": b"1", "b": b"2"}


def test_a_successor_fences_a_log_that_failed_right_after_a_rotation() -> None:
    """Its link was synced, but the log buffer did not say so: the fence cut the link off, and recovery
    failed."""
    machine = Machine().start()
    machine.set("a", b"1", "full")
    machine.engine.rotate()
    machine.files.on_operation = _refuse(errno.EIO, "pwrite", "wal/")
    machine.settle(machine.submit([{"op": "set", "key": key("lost"), "value": b"2\0"}], "full"))
    machine.engine.run(0.0)
    machine.files.on_operation = None
    heir = machine.successor().start()
    heir.set("b", b"2", "full")
    assert heir.reboot().start().names() == {"a": b"1", "b": b"2"}


def _fail_one_sync(machine: Machine) -> None:
    """The sync fails, and nobody has been told yet."""
    assert machine.engine.commit.step() > 0
    machine.files.on_operation = _refuse(errno.EIO, "datasync", "wal/")
    assert machine.engine._wal.pump(machine.engine.commit)
    machine.files.on_operation = None


def test_a_successor_believes_no_sync_after_one_that_failed() -> None:
    """Invariant 11: the writer died before anybody knew of the failure. A sync of clean pages proves
    nothing."""
    machine = Machine().start()
    machine.set("a", b"1", "full")
    request = machine.submit([{"op": "set", "key": key("b"), "value": b"2\0"}], "full")
    _fail_one_sync(machine)
    heir = machine.successor().start()
    heir.engine.run(heir.clock.monotonic())
    assert kernel.lease_result(heir.lease, request % 64)[:2] in ((3, 0), (0, 0)) or heir.names()["b"] == b"2"
    assert heir.names() == {"a": b"1", "b": b"2"}
    heir.set("c", b"3", "full")
    after = heir.reboot(heir.files.crash(lambda *_: False)).start()
    assert after.names() == {"a": b"1", "b": b"2", "c": b"3"}


@pytest.mark.parametrize("again", ["disk", "buffer"])
def test_recovery_believes_no_sync_after_one_that_failed(again: str) -> None:
    """What recovery reads may be in the page cache only; it is written again before it counts."""
    machine = Machine().start()
    machine.set("a", b"1", "full")
    machine.submit([{"op": "set", "key": key("b"), "value": b"2\0"}], "full")
    _fail_one_sync(machine)
    if again == "disk":
        after = machine.reboot().start()
    else:
        kernel.arena_close(machine.segs.arenas[1])
        after = machine.successor().start()
        assert after.report.source == "disk"
    assert after.names() == {"a": b"1", "b": b"2"}
    after.set("c", b"3", "full")
    last = after.reboot(after.files.crash(lambda *_: False)).start()
    assert last.names() == {"a": b"1", "b": b"2", "c": b"3"}


def test_a_checkpoint_that_was_refused_is_tried_again_within_a_minute() -> None:
    """It was an hour, and what had changed was forgotten."""
    machine = Machine(options=options(checkpoint_dirty_keys=5)).start()
    for number in range(6):
        machine.set(f"k{number}", b"1")
    assert machine.engine.due_triggers(machine.clock.monotonic()) == "dirty_keys"
    machine.files.on_operation = _refuse(errno.ENOSPC, "rename", "MANIFEST")
    with pytest.raises(OSError, match="No space"):
        machine.engine.checkpoint()
    machine.files.on_operation = None
    assert machine.engine.due_triggers(machine.clock.monotonic()) is None
    machine.clock.advance(61)
    assert machine.engine.due_triggers(machine.clock.monotonic()) == "dirty_keys"
    machine.engine.checkpoint()
    assert len(machine.engine.info()["checkpoints"]) == 1


def test_commits_after_a_failed_log_are_certainly_not_done() -> None:
    """Only those that were in flight are in doubt (status -8); the rest were said to be, too."""
    machine = Machine().start()
    machine.files.on_operation = _refuse(errno.EIO, "datasync", "wal/")
    machine.submit([{"op": "set", "key": key("a"), "value": b"1\0"}], "full")
    status, _ = machine.settle(machine.request - 1)
    assert status == -8
    status, _ = machine.settle(machine.submit([{"op": "set", "key": key("b"), "value": b"1\0"}]))
    assert status == -11
