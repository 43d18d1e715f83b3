"""Torn or damaged (rule L3): what is cut, what is refused, and what until_damage leaves out."""

import errno
from dataclasses import replace

import pytest
from durability.rig import Machine, options

from memdb import errors
from memdb.durability import judge, manifest, segments
from memdb.durability.files import MemoryFiles
from memdb.durability.manifest import SegmentEntry
from memdb.shm import _kernel as kernel

SEGMENT = segments.path_of(1)


def offsets(machine: Machine, path: str = SEGMENT) -> list[tuple[int, int, int]]:
    """(offset, padded, type) of every record of a segment."""
    image = bytes(machine.files.contents(path))
    salt = segments.read_header(image, path).salt
    found, offset = [], kernel.SEGMENT_HEADER
    while (record := kernel.record_read(image, offset, salt)).verdict == kernel.RECORD_GOOD:
        found.append((offset, record.padded, record.type))
        offset += record.padded
    return found


def written(level: str = "full", size: int = 40) -> Machine:
    machine = Machine().start()
    for i in range(5):
        machine.set(f"k{i}", b"%d" % i * size, level)
    return machine


def test_every_flipped_byte_of_a_durable_record_is_corruption() -> None:
    machine = written()
    machine.engine.sync()
    at, padded, _ = offsets(machine)[2]
    for offset in range(at, at + padded, 5):
        copy = machine.files.survivor()
        copy.damage(SEGMENT, offset, 0x10)
        with pytest.raises(errors.CorruptionError) as caught:
            machine.reboot(copy).start()
        assert (caught.value.file, caught.value.offset, caught.value.lsn) == (SEGMENT, at, 3)


def test_a_flipped_bit_of_the_header_is_corruption() -> None:
    machine = written()
    machine.files.damage(SEGMENT, 20)
    with pytest.raises(errors.CorruptionError) as caught:
        machine.reboot().start()
    assert (caught.value.file, caught.value.offset) == (SEGMENT, 0)


def test_damage_above_what_is_durable_is_no_tear_without_a_sector_of_zeros() -> None:
    machine = written("os")
    at, padded, _ = offsets(machine)[-1]
    machine.files.damage(SEGMENT, at + padded // 2)
    with pytest.raises(errors.CorruptionError, match="no sector of zeros"):
        machine.reboot().start()


def test_a_tear_above_what_is_durable_is_cut_kept_and_reported() -> None:
    machine = written("os", size=1500)
    records = offsets(machine)
    at = records[-2][0]
    sector = (at // 512 + 1) * 512
    machine.files.contents(SEGMENT)[sector : sector + 512] = bytes(512)  # a page that did not reach the disk
    before = bytes(machine.files.contents(SEGMENT))
    again = machine.reboot().start()
    assert sorted(again.names()) == ["k0", "k1", "k2"], "the whole record behind the hole is cut, too"
    (cut,) = again.report.cuts
    assert (cut.file, cut.offset, cut.first_lsn, cut.last_lsn) == (SEGMENT, at, 5, 6)
    kept = again.files.read(cut.quarantine)
    assert kept == before[at : at + cut.bytes]
    lsn = again.set("new", b"1")
    assert lsn > cut.last_lsn, "numbers that were handed out are not used again"
    third = again.reboot().start()
    assert third.report.cuts == []
    assert sorted(third.names()) == ["k0", "k1", "k2", "new"]


def test_a_hole_below_a_durable_record_is_damage_though_it_looks_torn() -> None:
    machine = written("os", size=600)
    machine.engine.sync()  # its mark says what is durable
    at = offsets(machine)[2][0]
    sector = (at // 512 + 1) * 512
    machine.files.contents(SEGMENT)[sector : sector + 512] = bytes(512)
    with pytest.raises(errors.CorruptionError, match="was durable"):
        machine.reboot().start()


def test_a_durable_tail_that_is_gone_is_damage() -> None:
    machine = written("full")
    machine.engine.rotate()
    machine.set("z", b"1", "full")
    machine.engine.stop()
    last = segments.path_of(2)
    at, padded, _ = next(one for one in offsets(machine, last) if one[2] == kernel.RECORD_COMMIT)
    machine.files.contents(last)[at : at + padded] = bytes(padded)
    with pytest.raises(errors.CorruptionError) as caught:
        machine.reboot().start()
    assert caught.value.file == last


def test_until_damage_stops_before_it_and_says_what_is_left_out() -> None:
    machine = written()
    machine.engine.rotate()
    machine.set("late", b"1", "full")
    machine.engine.sync()
    at = offsets(machine)[3][0]
    machine.files.damage(SEGMENT, at + 90)
    with pytest.raises(errors.CorruptionError):
        machine.reboot().start()
    lenient = machine.reboot(options=options(recovery="until_damage")).start()
    assert sorted(lenient.names()) == ["k0", "k1"]
    assert {cut.file for cut in lenient.report.cuts} == {SEGMENT, segments.path_of(2)}
    assert all(lenient.files.exists(cut.quarantine) for cut in lenient.report.cuts)
    lenient.set("new", b"1")
    strict = lenient.reboot(options=options()).start()
    assert sorted(strict.names()) == ["k0", "k1", "new"]


def test_a_missing_segment_is_damage() -> None:
    machine = written()
    machine.engine.rotate()
    machine.files.unlink(SEGMENT)
    with pytest.raises(errors.CorruptionError, match="missing"):
        machine.reboot().start()


def test_a_segment_that_the_manifest_leaves_out_is_a_gap() -> None:
    machine = written()
    machine.engine.checkpoint()
    machine.set("above the checkpoint", b"1", "full")
    machine.engine.rotate()
    machine.set("behind the gap", b"1", "full")
    now = machine.engine._wal.current
    machine.engine.stop()
    manifest.store(machine.files, replace(now, segments=now.segments[1:]))
    with pytest.raises(errors.CorruptionError, match="has a gap"):
        machine.reboot().start()


def test_files_of_another_database_are_refused() -> None:
    """Same names, numbers, LSNs: what tells them apart is the salt, the database's id and the digest."""
    ours, theirs = Machine().start(), Machine().start()
    for machine, value in ((ours, b"ours"), (theirs, b"theirs")):
        machine.set("a", value, "full")
        machine.engine.checkpoint()
        machine.set("b", value, "full")
        machine.engine.checkpoint()
    swapped = ours.files.survivor()
    swapped.contents(SEGMENT)[:] = theirs.files.contents(SEGMENT)
    with pytest.raises(errors.CorruptionError, match="is not the segment that the MANIFEST names"):
        ours.reboot(swapped).start()
    entry = ours.engine._wal.current.segments[0]
    header = segments.SegmentHeader(b"another database", entry.number, entry.salt, entry.capacity, 1)
    renamed = ours.files.survivor()
    renamed.contents(SEGMENT)[: kernel.SEGMENT_HEADER] = header.encode()
    with pytest.raises(errors.CorruptionError, match="belongs to another database"):
        ours.reboot(renamed).start()
    newest = ours.engine._wal.current.checkpoints[-1].path
    replaced = ours.files.survivor()
    replaced.contents(newest)[:] = theirs.files.contents(newest)
    again = ours.reboot(replaced).start()
    assert newest in again.report.damaged_checkpoints[0]
    assert again.names() == {"a": b"ours", "b": b"ours"}


def test_a_segment_continues_the_one_before_it() -> None:
    """Rule L1: a log whose last record of one segment is not the one that the next links to was never
    written."""
    machine = written()
    machine.engine.rotate()
    machine.set("next", b"1", "full")
    at = next(place for place, _, kind in reversed(offsets(machine)) if kind == kernel.RECORD_COMMIT)
    image, now = machine.files.contents(SEGMENT), machine.engine._wal.current
    entry = now.segments[0]
    machine.engine.stop()
    found = kernel.record_read(bytes(image), at, entry.salt)
    other = kernel.record_build(
        kernel.RECORD_COMMIT, found.lsn, found.durable_lsn, b"another client!!", 1, 1, 1, 1, found.body,
        salt=entry.salt, offset=at,
    )  # fmt: skip
    image[at:] = bytes(len(image) - at)
    image[at : at + len(other)] = other
    crc = kernel.record_read(bytes(image), at, entry.salt).header_crc
    assert entry.end is not None and crc != entry.end.crc
    ended = replace(entry, end=replace(entry.end, offset=at + len(other), crc=crc))
    manifest.store(machine.files, replace(now, segments=(ended, *now.segments[1:])))
    with pytest.raises(errors.CorruptionError, match="does not continue"):
        machine.reboot().start()


def test_every_flipped_byte_of_the_manifest_is_corruption() -> None:
    machine = written()
    data = bytes(machine.files.contents("MANIFEST"))
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 0x04
        with pytest.raises(errors.CorruptionError):
            manifest.decode(bytes(bad))
    with pytest.raises(errors.CorruptionError):
        manifest.decode(data[:-1])


def test_a_later_format_is_named_not_called_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = written()
    now = manifest.load(machine.files)
    assert now is not None
    monkeypatch.setattr(manifest, "FORMAT", 2)
    later = manifest.encode(now)
    monkeypatch.undo()
    with pytest.raises(errors.FormatTooNew) as caught:
        manifest.decode(later)
    assert (caught.value.found, caught.value.supported) == (2, 1)


def test_every_single_zeroed_sector_above_the_durable_part_is_recovered_from() -> None:
    machine = written("os", size=900)
    begin, end = offsets(machine)[1][0], sum(offsets(machine)[-1][:2])
    whole = machine.names()
    for sector in range(-(-begin // 512), -(-end // 512)):
        copy = machine.files.survivor()
        copy.contents(SEGMENT)[sector * 512 : sector * 512 + 512] = bytes(512)
        again = machine.reboot(copy).start()
        found = again.names()
        assert found == {name: whole[name] for name in sorted(whole)[: len(found)]}
        assert again.report.cuts


def test_the_judge_sees_d_behind_a_hole() -> None:
    salt = 99

    def record(lsn: int, durable: int, offset: int) -> bytes:
        return kernel.record_build(
            kernel.RECORD_COMMIT, lsn, durable, b"c" * 16, 1, 1, 1, 0, bytes(8), salt=salt, offset=offset
        )

    image = bytearray(kernel.SEGMENT_HEADER + 4096)
    at = kernel.SEGMENT_HEADER
    image[at : at + 88] = record(5, 0, at)
    behind = at + 1024
    image[behind : behind + 88] = record(9, 7, behind)
    entry = SegmentEntry(1, salt, len(image), 1, 1)
    found = judge.judge_open(bytes(image), "x", entry, 0)
    assert (found.kind, found.last_lsn, found.durable_lsn, found.lost_lsn) == ("damaged", 5, 7, 9)
    image[behind : behind + 88] = record(9, 5, behind)
    assert judge.judge_open(bytes(image), "x", entry, 0).kind == "torn"


def test_a_segment_of_another_length_is_damage() -> None:
    """It has its full size before its first record: a shorter one ends where nobody has ended it."""
    machine = written()
    machine.engine.sync()
    names, content = machine.names(), bytes(machine.files.contents(SEGMENT))
    end = sum(offsets(machine)[-1][:2])
    for length in (*range(0, end + 600, 89), end, len(content) - 1):
        copy = machine.files.survivor()
        copy.contents(SEGMENT)[:] = content[:length]
        with pytest.raises(errors.CorruptionError) as caught:
            machine.reboot(copy).start()
        assert caught.value.file == SEGMENT and caught.value.offset <= length and caught.value.command
    longer = machine.files.survivor()
    longer.contents(SEGMENT).extend(b"x" * 100)
    assert machine.reboot(longer).start().names() == names


def test_no_lost_sector_takes_a_durable_commit_and_all_that_says_so() -> None:
    """The last mark lies in another sector than the commit that it speaks for."""
    for size in range(1, 200, 11):
        machine = Machine().start()
        machine.set("first", b"1", "full")
        machine.set("second", b"x" * size, "full")
        machine.engine.sync()
        names, at = machine.names(), offsets(machine)[2][0]
        for sector in range(at // 512, sum(offsets(machine)[-1][:2]) // 512 + 1):
            copy = machine.files.survivor()
            copy.contents(SEGMENT)[sector * 512 : sector * 512 + 512] = bytes(512)
            try:
                assert machine.reboot(copy).start().names() == names
            except errors.CorruptionError as error:
                assert error.file == SEGMENT and error.lsn


def test_a_checkpoint_of_a_later_state_than_the_log_reaches_is_kept() -> None:
    machine = written("os")
    machine.engine.checkpoint()
    (name,) = machine.files.listdir("checkpoints")
    later = bytes(machine.files.contents(f"checkpoints/{name}"))
    older = machine.files.survivor()
    older.unlink(f"checkpoints/{name}")
    now = manifest.load(older)
    assert now is not None
    manifest.store(older, replace(now, checkpoints=(), durable_lsn=1))
    older.contents(SEGMENT)[offsets(machine)[3][0] :] = bytes(
        len(older.contents(SEGMENT)) - offsets(machine)[3][0]
    )
    older.open(f"checkpoints/{name}", create=True).write_all(later, 0)
    again = machine.reboot(older).start()
    assert sorted(again.names()) == ["k0", "k1"]
    assert again.files.read(f"quarantine/beyond-{name}") == later
    assert any(name in note for note in again.report.notes)


def test_what_a_disk_refuses_to_give_is_zeros_for_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    files = MemoryFiles()
    file = files.open("a", create=True)
    file.write_all(b"x" * (10 * 4096), 0)
    plain = file.pread

    def pread(length: int, offset: int) -> bytes:
        if offset < 3 * 4096 + 100 < offset + length:
            raise OSError(errno.EIO, "unreadable")
        return plain(length, offset)

    monkeypatch.setattr(file, "pread", pread)
    data = segments.read_around(file, 10 * 4096, 0)
    assert data == b"x" * (3 * 4096) + bytes(4096) + b"x" * (6 * 4096)


def test_a_segment_continues_the_one_below_the_checkpoint() -> None:
    """Also where that one is below the checkpoint, and is not read itself."""
    machine = written()
    machine.engine.rotate()
    machine.engine.checkpoint()
    machine.set("z", b"1", "full")
    found = manifest.load(machine.files)
    assert found is not None and found.segments[0].end is not None
    other = replace(found.segments[0].end, crc=found.segments[0].end.crc ^ 1)
    files = machine.files.survivor()
    manifest.store(files, found.with_end(1, other))
    with pytest.raises(errors.CorruptionError, match="does not continue") as caught:
        machine.reboot(files).start()
    assert caught.value.file == segments.path_of(2)


def test_a_database_of_which_until_damage_left_nothing_goes_on_from_the_beginning() -> None:
    """It was refused after the next crash: the log, it said, does not go back to the beginning."""
    machine = written()
    machine.files.damage(SEGMENT, kernel.SEGMENT_HEADER + 55)  # in the record that links it
    empty = machine.reboot(options=options(recovery="until_damage")).start()
    assert empty.state() == {}
    empty.set("after", b"1", "full")
    again = empty.reboot().start()
    assert list(again.state().values()) == [b"1\0"]
