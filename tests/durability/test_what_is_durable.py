"""What a manifest says is true before it counts: at each step that makes one the truth, or deletes a file, a
power cut is thought of, and what it would leave is looked at."""

import pytest
from durability.rig import Machine, options

from memdb import errors
from memdb.durability import checkpoints, judge, manifest, recovery, segments
from memdb.durability.files import MemoryFiles, _MemoryFile
from memdb.durability.manifest import Manifest


def after_a_power_cut(files: MemoryFiles, but: str = "") -> MemoryFiles:
    """Only what is durable; ``but``: a name that shall be kept, whatever it holds."""
    return files.crash(lambda path, sector: path == but and sector == -1)


def check_named(files: MemoryFiles, named: Manifest) -> None:
    """All that ``named`` needs is whole in ``files``."""
    known = frozenset((named.database, *named.ancestors))
    for checkpoint in named.checkpoints:
        checkpoints.verify(files, checkpoint)
    for entry in named.segments:
        path = segments.path_of(entry.number)
        image = files.read(path)
        assert image is not None and len(image) >= entry.capacity, f"{path} is not there"
        segments.check_header(image, entry, known)
        ended = entry.end is not None
        judged = judge.judge_ended(image, path, entry) if ended else judge.judge_open(image, path, entry, 0)
        assert judged.kind == "whole", f"{path} is {judged.kind}"
        assert judged.link is not None, f"{path} has no link"
    if named.checkpoints or named.segments:
        assert recovery.check(files, named) >= max(one.lsn for one in (*named.checkpoints, _Nothing))


class _Nothing:
    lsn = 0


def work(machine: Machine) -> None:
    """Commits of all levels, rotations, checkpoints, retention, another generation, an end in order."""
    machine.start()
    for turn in range(14):
        machine.set(f"k{turn % 5}", b"%d" % turn * 300, ("os", "memory", "full")[turn % 3])
        if turn % 4 == 1:
            machine.engine.checkpoint()  # right behind a commit of level memory
        if turn % 5 == 2:
            machine.engine.rotate()
        if turn == 8:
            machine.engine.compact()
    machine.engine.stop()


def test_what_a_manifest_names_is_durable_before_it() -> None:
    """Invariants 6 and 10, rule L1: bytes and names of segments and checkpoints, and the log up to each."""
    files = MemoryFiles()
    machine, seen = Machine(files, options(keep_checkpoints=2, keep_segments=0)), []

    def look(kind: str, path: str) -> None:
        if kind == "rename" and path == "MANIFEST":
            left = after_a_power_cut(files, "MANIFEST.tmp")
            data = left.read("MANIFEST.tmp")
            assert data is not None
            named = manifest.decode(data)
            check_named(left, named)
            seen.append(named)

    files.on_operation = look
    work(machine)
    assert len(seen) > 8 and len(seen[-1].checkpoints) == 2


def test_short_writes_are_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system may take less than it was given, at every write."""
    whole = _MemoryFile.pwrite

    def short(file: _MemoryFile, data: bytes | memoryview, offset: int) -> int:
        return whole(file, memoryview(data)[: max(1, len(data) // 3)], offset)

    monkeypatch.setattr(_MemoryFile, "pwrite", short)
    machine = Machine(options=options(keep_checkpoints=2, keep_segments=0))
    work(machine)
    expected = machine.names()
    left = machine.reboot(after_a_power_cut(machine.files)).start()
    assert (left.names(), left.report.damaged_checkpoints) == (expected, [])
    for checkpoint in left.engine._wal.current.checkpoints:
        checkpoints.verify(left.files, checkpoint)


def test_a_segment_is_synced_whole_before_the_next_one_is_named() -> None:
    machine = Machine().start()
    machine.set("a", b"1" * 2000, "memory")
    machine.engine.rotate()
    left = machine.reboot(after_a_power_cut(machine.files)).start()
    assert left.names() == {"a": b"1" * 2000}


def test_nothing_is_deleted_that_a_durable_manifest_names() -> None:
    """Invariant 10: a crash between the two leaves files that no manifest names, never the other way."""
    files = MemoryFiles()
    machine, gone = Machine(files, options(keep_checkpoints=2, keep_segments=0)), []

    def look(kind: str, path: str) -> None:
        if kind == "unlink" and path.endswith((".log", ".ckpt")):
            data = after_a_power_cut(files).read("MANIFEST")
            assert data is not None
            named = manifest.decode(data)
            paths = {segments.path_of(one.number) for one in named.segments}
            assert path not in paths | {one.path for one in named.checkpoints}
            gone.append(path)

    files.on_operation = look
    work(machine)
    assert {path.partition("/")[0] for path in gone} == {"wal", "checkpoints"}


def test_the_log_reaches_back_to_the_oldest_checkpoint() -> None:
    """Rule L10: with the newest checkpoint gone the one before it and the log still hold everything."""
    machine = Machine(options=options(keep_checkpoints=2, keep_segments=0)).start()
    for turn in range(4):
        machine.set(f"before {turn}", b"1")
        machine.engine.checkpoint()
        machine.set(f"behind {turn}", b"2")
        machine.engine.rotate()
    machine.engine.checkpoint()
    machine.engine.stop()
    everything = machine.names()
    newest = machine.engine._wal.current.checkpoints[-1]
    machine.files.damage(newest.path, checkpoints.HEADER_BYTES + 40)
    again = machine.reboot().start()
    assert again.report.damaged_checkpoints and again.names() == everything


def test_a_checkpoint_that_does_not_read_back_does_not_count() -> None:
    """Invariant 10: the disk loses a bit of a new checkpoint; it is told, and the log and the old ones
    stay."""
    machine = Machine().start()
    machine.set("a", b"1")
    machine.engine.checkpoint()
    machine.set("b", b"2", "full")

    def lie(kind: str, path: str) -> None:
        if kind == "datasync" and path.startswith("checkpoints/"):
            machine.files.contents(path)[checkpoints.HEADER_BYTES + 40] ^= 1

    machine.files.on_operation = lie
    with pytest.raises(errors.CorruptionError, match="checkpoints/"):
        machine.engine.checkpoint()
    machine.files.on_operation = None
    assert [one.lsn for one in machine.engine._wal.current.checkpoints] == [2]
    again = machine.reboot().start()
    assert (again.report.damaged_checkpoints, again.names()) == ([], {"a": b"1", "b": b"2"})


def test_a_checkpoint_that_a_start_has_found_damaged_is_written_again() -> None:
    """Rule L6: the state is the same, but at least two that can be read are kept."""
    machine = Machine().start()
    machine.set("a", b"1")
    machine.engine.checkpoint()
    machine.engine.stop()
    named = machine.engine._wal.current.checkpoints[-1]
    machine.files.damage(named.path, checkpoints.HEADER_BYTES + 40)
    again = machine.reboot().start()
    assert again.report.damaged_checkpoints
    again.engine.checkpoint()
    checkpoints.verify(again.files, again.engine._wal.current.checkpoints[-1])
    assert again.reboot().start().report.damaged_checkpoints == []
