"""The engine in process: commits, restarts, the next generation, checkpoints, retention, triggers,
failures."""

import errno

import pytest
from durability.rig import CLIENT, MIB, Machine, key, options

from memdb import errors
from memdb.durability import checkpoints, manifest
from memdb.durability.files import MemoryFiles
from memdb.shm import _kernel as kernel


def test_a_new_database_is_created_and_found_again() -> None:
    machine = Machine().start()
    assert machine.report.source == "created"
    machine.set("a", b"1")
    machine.set("b", b"2", "full")
    machine.delete("a", "memory")
    machine.engine.stop()
    again = machine.reboot().start()
    assert (again.report.source, again.report.clean) == ("disk", True)
    assert again.names() == {"b": b"2"}


def test_numbers_go_on_densely_after_an_end_in_order_and_above_the_limit_after_a_crash() -> None:
    machine = Machine().start()
    assert [machine.set("a", b"1"), machine.set("a", b"2")] == [2, 3]
    machine.engine.stop()
    second = machine.reboot().start()
    assert second.set("a", b"3") == 4
    limit = second.engine.commit.figures()["lsn_limit"]
    third = second.reboot().start()  # killed: no stop
    assert third.set("a", b"4") > limit - 1
    assert third.names() == {"a": b"4"}


def test_every_restart_gives_the_same_versions() -> None:
    machine = Machine().start()
    for i in range(200):
        machine.set(f"k{i % 50}", b"v%d" % i)
        if i % 7 == 0:
            machine.delete(f"k{(i * 3) % 50}")
        if i % 60 == 59:
            machine.engine.checkpoint()
        if i % 45 == 44:
            machine.engine.rotate()
    expected = machine.versions()
    from_disk = machine.reboot().start()
    assert from_disk.versions() == expected
    from_arena = machine.successor().start()
    assert from_arena.report.source == "arena"
    assert from_arena.versions() == expected


def test_a_successor_writes_first_what_the_file_lacks() -> None:
    machine = Machine().start()
    machine.set("a", b"1", "os")
    machine.set("b", b"2", "memory")  # in the log buffer only
    machine.set("c", b"3", "memory")
    assert machine.engine.commit.figures()["written"] < machine.engine.commit.figures()["tail"]
    heir = machine.successor().start()
    assert heir.names() == {"a": b"1", "b": b"2", "c": b"3"}
    lost_power = heir.reboot(heir.files.crash(lambda path, sector: False)).start()
    assert lost_power.names() == {"a": b"1", "b": b"2", "c": b"3"}


def test_a_damaged_arena_is_left_and_the_log_buffer_still_saved() -> None:
    machine = Machine().start()
    machine.set("a", b"1", "memory")
    kernel.arena_close(machine.segs.arenas[1])
    heir = machine.successor().start()
    assert heir.report.source == "disk"
    assert heir.names() == {"a": b"1"}


def test_outcomes_survive_every_way_of_starting() -> None:
    machine = Machine().start()
    lsn = machine.set("a", b"1")
    outcome = b"\x02o" + CLIENT + bytes([1])
    for again in (machine.successor().start(), machine.reboot().start()):
        value, _ = again.versions()[outcome]
        assert int.from_bytes(value[:8], "little") == 1
        assert int.from_bytes(value[8:16], "little") == lsn
    last = machine.reboot().start()
    last.engine.forget(CLIENT)
    last.set("b", b"2")
    assert outcome not in last.versions()


def test_compact_builds_the_next_generation_with_the_same_contents() -> None:
    machine = Machine().start()
    for i in range(300):
        machine.set(f"k{i:03}", b"x" * 100)
    for i in range(0, 300, 2):
        machine.delete(f"k{i:03}")
    before = machine.versions()
    result = machine.engine.compact()
    live = {one: found for one, found in before.items() if one in machine.versions()}
    assert machine.versions() == live
    assert len(machine.names()) == 150
    assert result["generation"] == 2
    machine.set("after", b"1")
    assert machine.reboot().start().names() == machine.names()


def test_a_checkpoint_bounds_what_is_replayed_and_retention_drops_the_rest() -> None:
    machine = Machine(options=options(keep_checkpoints=2, keep_segments=0)).start()
    for turn in range(5):
        for i in range(20):
            machine.set(f"k{turn}-{i}", b"v" * 50)
        machine.engine.rotate()
        machine.engine.checkpoint()
    now = manifest.load(machine.files)
    assert now is not None
    assert len(now.checkpoints) == 2
    oldest = min(one.lsn for one in now.checkpoints)
    assert all(one.end is None or one.end.lsn > oldest for one in now.segments)
    assert len(machine.files.listdir("checkpoints")) == 2
    assert len(machine.files.listdir("wal")) == len(now.segments)
    again = machine.reboot().start()
    assert (again.report.checkpoint_lsn, again.report.records) == (101, 0)
    assert len(again.names()) == 100


def test_keep_segments_keeps_more_than_a_checkpoint_needs_and_clear_wal_does_not() -> None:
    machine = Machine(options=options(keep_segments=3)).start()
    for turn in range(8):
        machine.set(f"k{turn}", b"v")
        machine.engine.rotate()
    machine.engine.checkpoint()
    assert len(machine.engine.info()["wal"]["segments"]) == 9, "one checkpoint alone retires nothing"
    machine.set("more", b"v")
    machine.engine.checkpoint()
    assert len(machine.engine.info()["wal"]["segments"]) == 4
    machine.engine.clear_wal()
    assert len(machine.engine.info()["wal"]["segments"]) <= 2
    assert machine.reboot().start().names() == machine.names()


def test_damage_of_the_newest_checkpoint_costs_nothing() -> None:
    machine = Machine().start()
    machine.set("a", b"1")
    machine.engine.checkpoint()
    machine.set("b", b"2")
    machine.engine.checkpoint()
    machine.set("c", b"3")
    newest = manifest.load(machine.files).checkpoints[-1]
    machine.files.damage(newest.path, checkpoints.HEADER_BYTES + 60)
    again = machine.reboot().start()
    assert again.names() == {"a": b"1", "b": b"2", "c": b"3"}
    assert newest.path in again.report.damaged_checkpoints[0]
    assert again.report.checkpoint_lsn == 2


def test_triggers_say_once_why_a_checkpoint_is_due() -> None:
    machine = Machine(
        options=options(checkpoint_interval=10.0, checkpoint_dirty_keys=5, checkpoint_wal_bytes=4096)
    ).start()
    engine, clock = machine.engine, machine.clock
    assert engine.next_deadline(clock.monotonic()) is None, "nothing changed: an idle engine never wakes"
    machine.set("a", b"1")
    assert engine.due_triggers(clock.monotonic()) is None
    clock.advance(11)
    assert engine.due_triggers(clock.monotonic()) == "interval"
    assert engine.due_triggers(clock.monotonic()) is None
    engine.checkpoint()
    for i in range(6):
        machine.set(f"k{i}", b"1")
    assert engine.due_triggers(clock.monotonic()) == "dirty_keys"
    engine.checkpoint()
    machine.set("big", b"x" * 5000)
    assert engine.due_triggers(clock.monotonic()) == "wal_bytes"
    engine.checkpoint()
    assert engine.checkpoint_plan("interval") is None, "nothing changed since"


def test_segments_double_and_a_large_commit_gets_one_that_holds_it() -> None:
    machine = Machine(
        options=options(max_memory=64 * MIB, segment_bytes=8 * MIB, max_transaction_bytes=4 * MIB)
    ).start()
    for i in range(24 * 20):
        machine.set(f"k{i % 100}", b"x" * 50_000)
    capacities = [one.capacity for one in machine.engine._wal.current.segments]
    assert capacities[:5] == [MIB, 2 * MIB, 4 * MIB, 8 * MIB, 8 * MIB]
    assert machine.reboot().start().names() == machine.names()


@pytest.mark.parametrize("by", ["itself", "successor"])
@pytest.mark.parametrize("operation", ["datasync", "pwrite"])
def test_a_failed_write_or_sync_is_final_and_the_way_back_leads_to_new_files(operation: str, by: str) -> None:
    machine = Machine().start()
    machine.set("safe", b"1", "full")

    def fail(kind: str, path: str) -> None:
        if kind == operation and path.startswith("wal/"):
            raise OSError(errno.EIO, "broken disk")

    machine.files.on_operation = fail
    status, _ = machine.settle(machine.submit([{"op": "set", "key": key("b"), "value": b"2\0"}], "full"))
    assert status != 0
    if machine.event != "failed":
        assert machine.engine.run(0.0) == "failed"
    with pytest.raises(errors.LogFailed) as caught:
        machine.engine.sync()
    assert caught.value.first_lsn is not None and caught.value.errno == errno.EIO
    assert machine.names()["safe"] == b"1", "reads go on"
    refused, _ = machine.settle(machine.submit([{"op": "set", "key": key("c"), "value": b"3\0"}]))
    assert refused < 0
    assert machine.engine.info()["wal"]["failure"]["error"] == "LogFailed"
    machine.files.on_operation = None
    visible = machine.names()
    if by == "successor":  # the writer died before it found its way back
        machine = machine.successor().start()
    else:
        machine.engine.way_back()
    assert machine.names() == visible
    machine.set("d", b"4", "full")
    after = machine.reboot(machine.files.crash(lambda path, sector: False)).start()
    assert after.names() == {**visible, "d": b"4"}


def test_a_full_disk_at_a_rotation_refuses_commits_until_there_is_room() -> None:
    machine = Machine().start()
    machine.set("a", b"1")

    def fail(kind: str, path: str) -> None:
        if kind == "create" and path.startswith("wal/"):
            raise OSError(errno.ENOSPC, "full")

    machine.files.on_operation = fail
    with pytest.raises(errors.DiskFullError):
        machine.engine.rotate()
    refused, _ = machine.settle(machine.submit([{"op": "set", "key": key("b"), "value": b"2\0"}]))
    assert refused < 0
    machine.files.on_operation = None
    machine.clock.advance(10)
    machine.engine.run(machine.clock.monotonic())
    machine.set("c", b"3")
    assert machine.reboot().start().names() == {"a": b"1", "c": b"3"}


def test_an_engine_ends_however_much_is_written() -> None:
    """What was taken is finished; what comes meanwhile stays in its ring, and its client sends it again."""
    machine = Machine().start()
    machine.set("a", b"1")
    count = [0]

    def write_on(kind: str, path: str) -> None:
        if kind == "datasync":
            count[0] += 1
            assert count[0] < 50, "it does not end"
            machine.submit([{"op": "set", "key": key(f"n{count[0]}"), "value": b"2\0"}])

    machine.files.on_operation = write_on
    machine.submit([{"op": "set", "key": key("b"), "value": b"2\0"}])
    machine.engine.stop()
    machine.files.on_operation = None
    after = machine.reboot().start()
    assert after.report.clean and after.names()["a"] == b"1"


def test_on_a_full_disk_a_successor_goes_on_in_the_open_segment() -> None:
    """The log is sound, so no new files are needed: with them the start failed, and the whole group ended."""
    machine = Machine().start()
    machine.set("a", b"1")
    machine.set("b", b"2", "memory")

    def fail(kind: str, path: str) -> None:
        if kind == "create":
            raise OSError(errno.ENOSPC, "full", path)

    machine.files.on_operation = fail
    with pytest.raises(errors.DiskFullError):
        machine.engine.rotate()
    machine.delete("a", "memory")
    after = machine.successor()
    after.files.on_operation = fail
    after.start()
    assert after.report.source == "arena" and after.names() == {"b": b"2"}
    after.set("c", b"3", "full")
    with pytest.raises(errors.DiskFullError):
        after.engine.rotate()
    after.delete("b", "full")
    assert after.reboot(after.files.crash(lambda path, sector: False)).start().names() == {"c": b"3"}
    after.files.on_operation = None
    after.clock.advance(10)
    after.engine.run(after.clock.monotonic())
    after.set("d", b"4", "full")
    left = after.reboot(after.files.crash(lambda path, sector: False)).start()
    assert left.names() == {"c": b"3", "d": b"4"}


@pytest.mark.parametrize("where", ["wal/", "MANIFEST"])
def test_a_full_disk_at_the_start_is_read_and_commits_wait_for_room(where: str) -> None:
    machine = Machine().start()
    machine.set("a", b"1")
    machine.engine.stop()
    files = machine.files.survivor()
    before = sorted(files.listdir("wal"))

    def fail(kind: str, path: str) -> None:
        if kind in ("create", "write") and path.startswith(where):
            raise OSError(errno.ENOSPC, "full", path)

    files.on_operation = fail
    full = machine.reboot(files).start()
    assert full.names() == {"a": b"1"}
    failure = full.engine.info()["wal"]["failure"]
    assert isinstance(errors.from_wire(failure), errors.DiskFullError)
    assert "1024 KiB" in str(errors.from_wire(failure))
    refused, _ = full.settle(full.submit([{"op": "set", "key": key("b"), "value": b"2\0"}]))
    assert refused < 0
    with pytest.raises(errors.DiskFullError):
        full.engine.sync()
    assert full.engine.checkpoint_plan("request") is None
    if where == "wal/":
        assert sorted(files.listdir("wal")) == before, "nothing half-made fills the disk"
    full.clock.advance(10)
    full.engine.run(full.clock.monotonic())
    assert full.engine.info()["wal"]["failure"] is not None
    killed = Machine(files.survivor(), full.options).start()
    assert killed.names() == {"a": b"1"}, "nothing was changed"
    files.on_operation = None
    full.clock.advance(10)
    full.engine.run(full.clock.monotonic())
    full.set("c", b"3", "full")
    assert full.engine.info()["wal"]["failure"] is None
    after = full.reboot(files.crash(lambda path, sector: False)).start()
    assert after.names() == {"a": b"1", "c": b"3"}


def test_a_new_database_on_a_full_disk_is_refused() -> None:
    files = MemoryFiles()

    def fail(kind: str, path: str) -> None:
        if kind == "create" and path.startswith("wal/"):
            raise OSError(errno.ENOSPC, "full", path)

    files.on_operation = fail
    with pytest.raises(OSError, match="full"):
        Machine(files).start()
    files.on_operation = None
    assert Machine(files).start().report.source == "created"


def test_a_database_without_a_log_keeps_what_its_writer_knew() -> None:
    machine = Machine(options=options(logged=False)).start()
    machine.set("a", b"1", "memory")
    assert machine.files.listdir("wal") == []
    heir = machine.successor().start()
    assert heir.names() == {"a": b"1"}
    heir.engine.stop()
    again = heir.reboot(options=options()).start()
    assert again.names() == {}


def test_a_logged_database_is_not_opened_without_its_log() -> None:
    machine = Machine().start()
    machine.set("a", b"1")
    machine.engine.stop()
    with pytest.raises(errors.OptionMismatch):
        machine.reboot(options=options(logged=False)).start()
    assert machine.reboot().start().names() == {"a": b"1"}


def test_a_copied_directory_gets_an_identity_of_its_own() -> None:
    machine = Machine().start()
    machine.set("a", b"1")
    copy = machine.reboot(machine.files.copied((1, 99))).start()
    assert copy.report.new_identity
    assert copy.engine.info()["database"] != machine.engine.info()["database"]
    assert copy.names() == {"a": b"1"}
    copy.set("b", b"2")
    copy.engine.stop()
    assert copy.reboot().start().names() == {"a": b"1", "b": b"2"}
    assert machine.reboot().start().names() == {"a": b"1"}


def test_a_missing_manifest_is_no_new_database() -> None:
    machine = Machine().start()
    machine.set("a", b"1")
    machine.files.unlink("MANIFEST")
    with pytest.raises(errors.CorruptionError, match="MANIFEST is missing"):
        machine.reboot().start()


def test_other_things_are_no_database() -> None:
    files = MemoryFiles()
    files.open("holiday.jpg", create=True)
    with pytest.raises(errors.NotADatabase, match=r"holiday\.jpg"):
        Machine(files).start()
    assert files.listdir() == ["holiday.jpg"]


def test_time_never_goes_back_across_generations_and_restarts() -> None:
    machine = Machine().start()
    machine.set("a", b"1")
    floor = machine.engine.store.figures()["time_floor"]
    assert floor > 0
    machine.engine.compact()
    assert machine.engine.store.figures()["time_floor"] >= floor
    machine.engine.checkpoint()
    machine.engine.stop()
    assert machine.reboot().start().engine.store.figures()["time_floor"] >= floor
