"""A failed log stays failed for every writer that follows, also if one has died on the way back."""

import errno

import pytest
from durability.rig import Killed, Machine, key

from memdb.errors import CorruptionError, LogFailed
from memdb.shm import _kernel as kernel


def _failed() -> Machine:
    machine = Machine().start()
    machine.set("safe", b"1", "full")
    return machine.fail_a_sync()


def test_a_sync_that_failed_once_is_not_tried_again() -> None:
    """Invariant 11: the kernel may have dropped the pages and say yes to a second sync; so there is none."""
    machine = Machine().start()
    machine.set("safe", b"1", "full")
    old, tries = machine.files.listdir("wal")[-1], []

    def fail_once(kind: str, path: str) -> None:
        if kind == "datasync" and path == f"wal/{old}":
            tries.append(path)
            if len(tries) == 1:
                raise OSError(errno.EIO, "broken disk")

    machine.files.on_operation = fail_once
    status, _ = machine.settle(machine.submit([{"op": "set", "key": key("lost"), "value": b"2\0"}], "full"))
    assert status < 0
    if machine.event != "failed":
        assert machine.engine.run(0.0) == "failed"
    with pytest.raises(LogFailed):
        machine.engine.sync()
    refused, _ = machine.settle(machine.submit([{"op": "set", "key": key("b"), "value": b"3\0"}], "full"))
    assert refused < 0
    machine.engine.way_back()
    machine.set("new", b"4", "full")
    assert len(tries) == 1
    after = machine.reboot(machine.files.crash(lambda path, sector: False)).start()
    assert after.names() == {"safe": b"1", "new": b"4"}


def test_what_was_written_and_never_synced_stays_out_for_good() -> None:
    """Rule L5: it was answered as unknown, and nobody has seen it; so after the way back nobody ever does,
    whether its bytes have reached the disk or not."""
    machine = _failed()
    machine.engine.way_back()
    machine.set("new", b"3", "full")
    for left in (machine.files.survivor(), machine.files.crash(lambda path, sector: False)):
        assert machine.reboot(left).start().names() == {"safe": b"1", "new": b"3"}


@pytest.mark.parametrize("dies_at", range(1, 30, 3))
def test_dying_on_the_way_back_leaves_the_old_file_alone(dies_at: int) -> None:
    """Rules L5 and L7: whoever comes second must know that the log has failed, and append nothing to it."""
    failed = _failed()
    visible, old = failed.names(), sorted(failed.files.listdir("wal"))
    first, count = failed.successor(), [0]

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
    before = {name: second.files.read(f"wal/{name}") for name in old}
    second.start()
    assert second.names() == visible
    second.set("new", b"3", "full")
    if count[0] >= dies_at:  # else the first was through, and the second went on in its new segment
        for name in old:
            now = second.files.read(f"wal/{name}")
            assert now is None or now == before[name], f"{name} was written to after it had failed"
    after = second.reboot(second.files.crash(lambda path, sector: False)).start()
    assert after.names() == {**visible, "new": b"3"}


@pytest.mark.parametrize("way", ["of the writer itself", "of its successor"])
@pytest.mark.parametrize("later", ["nothing", "a commit", "a checkpoint", "a second failure"])
def test_what_was_published_and_never_synced_survives_the_death_of_all(way: str, later: str) -> None:
    """The old file is fenced below it, the checkpoint of the way back has it, and the new log begins far
    above both: recovery took that for a gap in the log, and refused."""
    machine = Machine().start()
    machine.set("safe", b"1", "full")
    machine.set("written", b"2", "os")
    machine = _way_back(machine.fail_a_sync(), way)
    expected = {"safe": b"1", "written": b"2"}
    if later == "a second failure":
        machine = _way_back(machine.fail_a_sync(), way)
    elif later != "nothing":
        machine.set("new", b"3", "os")
        expected["new"] = b"3"
    if later == "a checkpoint":
        machine.engine.checkpoint()
        machine.engine.clear_wal()
        machine.engine.rotate()
    after = machine.reboot().start()
    assert {name: one for name, one in after.names().items() if name != "lost"} == expected
    again = after.reboot(after.files.crash(lambda path, sector: False)).start()
    assert again.names() == after.names()


def test_of_a_published_commit_that_only_a_damaged_checkpoint_has_recovery_says_so() -> None:
    machine = Machine().start()
    machine.set("safe", b"1", "full")
    machine.engine.checkpoint()
    machine.set("written", b"2", "os")
    machine = _way_back(machine.fail_a_sync(), "of the writer itself")
    newest = max(machine.files.listdir("checkpoints"))
    files = machine.files.survivor()
    files.damage(f"checkpoints/{newest}", 4200)
    with pytest.raises(CorruptionError, match="gap"):
        machine.reboot(files).start()


def _way_back(machine: Machine, way: str) -> Machine:
    if way == "of its successor":
        return machine.successor().start()
    machine.engine.way_back()
    return machine


def test_writing_given_up_is_no_failed_log() -> None:
    """Rule G4 stores the same phase as rule L5, but without a writer's pid."""
    machine = Machine().start()
    machine.set("a", b"1", "full")
    segment = machine.engine.info()["wal"]["segment"]
    kernel.board_set(machine.segs.board, phase=3, writer_pid=0)
    after = machine.successor().start()
    assert after.engine.info()["wal"]["segment"] == segment and after.report.source == "arena"
    assert after.names() == {"a": b"1"}


def _fail_with_unsynced_commits() -> Machine:
    """A failed sync when commits of level `os` were visible that had never been synced."""
    machine = Machine().start()
    machine.set("safe", b"1", "full")
    for number in range(5):
        machine.set(f"visible{number}", b"2")
    return machine.fail_a_sync()


@pytest.mark.parametrize("dies", [False, True])
def test_a_database_opens_again_after_a_failed_sync_of_commits_that_were_visible(dies: bool) -> None:
    """The new segment follows on the checkpoint of the way back, not on the numbers that were given out."""
    failed = _fail_with_unsynced_commits()
    visible = failed.names()
    machine = failed.successor().start() if dies else failed
    if not dies:
        machine.engine.way_back()
    given_out = 8
    assert machine.names() == visible and machine.set("new", b"3", "full") > given_out
    again = machine.reboot(machine.files.crash(lambda path, sector: False)).start()
    assert again.names() == {**visible, "new": b"3"}
