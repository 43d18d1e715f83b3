"""Recovery mode salvage: what is skipped, what damaged checkpoints still give, and how a MANIFEST is
made anew. Never half a transaction, never anything that was not written, nothing lost without a word."""

from dataclasses import replace

import pytest
from durability.rig import Killed, Machine, key, options
from durability.test_damage import offsets

from memdb import errors
from memdb.durability import checkpoints, manifest, segments
from memdb.durability.files import MemoryFiles

FIRST, SECOND = segments.path_of(1), segments.path_of(2)
SALVAGE = options(recovery="salvage")


def salvaged(machine: Machine, files: MemoryFiles | None = None) -> Machine:
    return machine.reboot(files, options=SALVAGE).start()


def opens_again(machine: Machine) -> Machine:
    """The result lasts: strict opens it, it takes commits with new numbers, and opens once more."""
    names, before = machine.names(), machine.engine.store.published
    again = machine.reboot(options=options()).start()
    assert again.names() == names and not again.report.left_out
    assert again.set("afterwards", b"1", "full") > before
    third = again.reboot(again.files.crash(lambda path, sector: False)).start()
    assert third.names() == {**names, "afterwards": b"1"}
    return third


def three_segments() -> Machine:
    """Transactions of two keys each, in three segments, two checkpoints; ended without order."""
    machine = Machine().start()
    for number in range(12):
        name, value = f"{number:02d}", b"%d" % number * 30 + b"\0"
        machine.commit([{"op": "set", "key": key(f"{side}{name}"), "value": value} for side in "ab"], "full")
        if number in (3, 7):
            machine.engine.rotate()
    machine.engine.sync()
    return machine


def both_sides(names: dict[str, bytes]) -> set[str]:
    """The numbers of the transactions that are there; each with both its keys and the right values."""
    found = {name[1:] for name in names}
    assert names == {f"{side}{name}": b"%d" % int(name) * 30 for side in "ab" for name in found}
    return found


def test_a_damaged_record_is_skipped_whole_kept_and_reported() -> None:
    machine = three_segments()
    at, padded, _ = offsets(machine, SECOND)[2]
    machine.files.damage(SECOND, at + padded - 20)
    before = bytes(machine.files.contents(SECOND))
    with pytest.raises(errors.CorruptionError):
        machine.reboot().start()
    again = salvaged(machine)
    assert both_sides(again.names()) == {f"{number:02d}" for number in range(12) if number != 5}
    (cut,) = again.report.cuts
    assert (cut.file, cut.offset, cut.bytes, cut.first_lsn, cut.last_lsn) == (SECOND, at, padded, 7, 7)
    assert again.files.read(cut.quarantine) == before[at : at + padded]
    assert again.report.mode == "salvage" and again.engine.info()["recovery"]["cuts"]
    opens_again(again)


def test_without_damage_salvage_is_strict() -> None:
    machine = three_segments()
    strict, again = machine.reboot().start(), salvaged(machine)
    assert again.names() == strict.names() and not again.report.left_out
    assert again.files.listdir("wal") == strict.files.listdir("wal")
    assert again.files.listdir("checkpoints") == []


def test_the_result_of_a_salvage_survives_damage_to_its_newest_checkpoint() -> None:
    machine = three_segments()
    machine.files.damage(SECOND, offsets(machine, SECOND)[2][0] + 100)
    again = salvaged(machine)
    names = again.names()
    again.set("later", b"1", "full")
    newest = again.files.listdir("checkpoints")[-1]
    again.files.damage(f"checkpoints/{newest}", 5000)
    third = again.reboot(options=options()).start()
    assert third.names() == {**names, "later": b"1"} and third.report.damaged_checkpoints
    assert third.files.exists(f"quarantine/{newest}")


@pytest.mark.parametrize("mode", ["strict", "until_damage", "salvage"])
def test_damage_of_the_newest_checkpoint_loses_nothing_in_any_mode(mode: str) -> None:
    machine = Machine().start()
    for number in range(4):
        machine.set(f"k{number}", b"1", "full")
        machine.engine.checkpoint()
    names, newest = machine.names(), machine.files.listdir("checkpoints")[-1]
    machine.files.damage(f"checkpoints/{newest}", 4200)
    again = machine.reboot(options=options(recovery=mode)).start()
    assert again.names() == names and again.report.cuts == []
    assert again.files.exists(f"quarantine/{newest}") and not again.files.exists(f"checkpoints/{newest}")
    for _ in range(2):  # a damaged one doesn't count as one of the two that retention keeps
        again.engine.checkpoint()
        again.set("x", b"2", "full")
    opens_again(again)


# ------------------------------------------------------------------------- when no checkpoint is whole


def many_blocks(monkeypatch: pytest.MonkeyPatch, *, rotate: bool = True) -> Machine:
    """Two checkpoints of many small blocks, and a log that goes back to the older one only."""
    monkeypatch.setattr(checkpoints, "BLOCK_BYTES", 4096)
    machine = Machine(options=options(keep_checkpoints=2, keep_segments=0)).start()
    for turn in range(3):
        for number in range(0, 40, turn + 1):
            machine.set(f"k{number:02d}", b"%d" % turn * 400)
        if turn == 1:
            machine.delete("k08")
        machine.engine.rotate()
        machine.engine.checkpoint()
    machine.set("k05", b"last", "full")
    assert machine.files.listdir("wal")[0] != "0000000000000001.log"
    return machine


def block_offsets(machine: Machine, name: str) -> list[int]:
    file = machine.files.open(name)
    header = checkpoints.read_header(file, name)
    footer = checkpoints.read_footer(file, name, header.salt)
    end = checkpoints.HEADER_BYTES + footer.size
    return [at for at, _, _, _ in checkpoints.blocks(file, name, header.salt, end)]


@pytest.mark.parametrize("into", [4, 40])  # its header; its items
def test_blocks_of_two_damaged_checkpoints_and_the_log_between_make_up_for_each_other(
    monkeypatch: pytest.MonkeyPatch, into: int
) -> None:
    machine = many_blocks(monkeypatch)
    older, newer = (f"checkpoints/{name}" for name in machine.files.listdir("checkpoints"))
    machine.files.damage(older, block_offsets(machine, older)[3] + into)
    machine.files.damage(newer, block_offsets(machine, newer)[1] + into)
    expected = machine.versions()
    with pytest.raises(errors.CorruptionError) as caught:
        machine.reboot().start()
    assert caught.value.command == "memdb recover DIRECTORY --mode salvage"
    again = salvaged(machine)
    assert again.versions() == expected
    assert again.report.lost_keys == [] and len(again.report.damaged_checkpoints) == 2
    assert all(again.files.exists(f"quarantine/{name.rpartition('/')[2]}") for name in (older, newer))
    opens_again(again)


@pytest.mark.parametrize("into", [4, 40])
def test_keys_that_no_block_holds_are_named(monkeypatch: pytest.MonkeyPatch, into: int) -> None:
    machine = many_blocks(monkeypatch)
    names = machine.names()
    for name in machine.files.listdir("checkpoints"):
        machine.files.damage(f"checkpoints/{name}", block_offsets(machine, f"checkpoints/{name}")[2] + into)
    again = salvaged(machine)
    (hole,) = again.report.lost_keys
    lost = names.keys() - again.names().keys()
    assert lost and {**again.names(), **{name: names[name] for name in lost}} == names
    assert all((hole.after or b"") < key(name) < (hole.before or b"\xff") for name in lost)
    assert again.names()["k05"] == b"last"
    opens_again(again)


def test_a_checkpoint_cut_short_gives_what_is_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = many_blocks(monkeypatch)
    names = machine.names()
    older, newer = (f"checkpoints/{name}" for name in machine.files.listdir("checkpoints"))
    machine.files.unlink(older)
    del machine.files.contents(newer)[block_offsets(machine, newer)[4] + 100 :]
    again = salvaged(machine)
    (hole,) = again.report.lost_keys
    assert hole.before is None and again.names().items() <= names.items() and len(again.names()) > 20
    opens_again(again)


def test_nothing_is_made_up_when_nothing_is_left() -> None:
    machine = Machine(options=options(keep_checkpoints=2, keep_segments=0)).start()
    for number in range(3):
        machine.set(f"k{number}", b"1", "full")
        machine.engine.rotate()
        machine.engine.checkpoint()
    machine.set("late", b"1", "full")
    for name in machine.files.listdir("checkpoints"):
        machine.files.unlink(f"checkpoints/{name}")
    again = salvaged(machine)
    assert set(again.names()) == {"k2", "late"}
    assert [(hole.after, hole.before) for hole in again.report.lost_keys] == [(None, None)]


# -------------------------------------------------------------------------------------------- the manifest


def with_everything() -> Machine:
    """Segments of two starts, checkpoints, a rotation, a torn end."""
    machine = Machine().start()
    for number in range(6):
        machine.set(f"k{number}", b"%d" % number * 50, "full")
        if number in (1, 3):
            machine.engine.rotate()
        if number in (2, 4):
            machine.engine.checkpoint()
    machine = machine.reboot().start()
    machine.set("second life", b"1", "full")
    machine.engine.sync()
    return machine


@pytest.mark.parametrize("how", ["damaged", "missing", "old copy"])
def test_a_manifest_is_made_anew_from_the_files(how: str) -> None:
    machine = Machine().start()
    old = bytes(machine.files.contents("MANIFEST"))
    machine = with_everything()
    names, before = machine.names(), bytes(machine.files.contents("MANIFEST"))
    if how == "missing":
        machine.files.unlink("MANIFEST")
    elif how == "damaged":
        machine.files.damage("MANIFEST", 100)
    else:
        found = manifest.decode(before)
        assert found.segments[1].end is not None
        early = manifest.Manifest(
            **{**vars(found), "segments": found.segments[:1], "checkpoints": (), "next_segment": 2}
        )
        machine.files.contents("MANIFEST")[:] = manifest.encode(early)
    assert old
    for mode in ("strict", "until_damage"):
        with pytest.raises(errors.CorruptionError) as caught:
            machine.reboot(options=options(recovery=mode)).start()
        assert caught.value.file == "MANIFEST" and caught.value.offset is not None and caught.value.lsn
        assert caught.value.command == "memdb recover DIRECTORY --mode salvage"
        assert caught.value.command in str(caught.value)
    again = salvaged(machine)
    assert again.names() == names and again.report.new_manifest
    (cut,) = again.report.cuts
    assert cut.file == "MANIFEST" and (how == "missing" or again.files.exists(cut.quarantine))
    now = manifest.load(again.files)
    assert now is not None and now.database == manifest.decode(before).database
    opens_again(again)


def test_a_new_manifest_passes_over_what_an_earlier_recovery_left_out() -> None:
    machine = three_segments()
    machine.files.damage(SECOND, offsets(machine, SECOND)[2][0] + 100)
    left_out = bytes(machine.files.contents(segments.path_of(3)))
    lenient = machine.reboot(options=options(recovery="until_damage")).start()
    names = lenient.names()
    assert both_sides(names) == {"00", "01", "02", "03", "04"}
    lenient.set("new", b"1", "full")
    third = segments.path_of(3)
    lenient.files.open(third, create=True).write_all(left_out, 0)  # as if it had not been deleted yet
    lenient.files.unlink("MANIFEST")
    again = salvaged(lenient)
    assert again.names() == {**names, "new": b"1"}
    assert [cut.kind for cut in again.report.cuts if cut.file == third] == ["foreign"]


def test_files_of_two_databases_without_a_manifest_are_refused() -> None:
    machine, other = with_everything(), three_segments()
    machine.files.unlink("MANIFEST")
    path = segments.path_of(9)
    machine.files.open(path, create=True).write_all(bytes(other.files.contents(FIRST)), 0)
    with pytest.raises(errors.CorruptionError, match="several databases"):
        salvaged(machine)


# --------------------------------------------------------------------------- segments missing or mistaken


def test_a_missing_segment_is_left_out_by_name() -> None:
    machine = three_segments()
    machine.files.unlink(SECOND)
    again = salvaged(machine)
    assert both_sides(again.names()) == {"00", "01", "02", "03", "08", "09", "10", "11"}
    (cut,) = again.report.cuts
    assert (cut.kind, cut.file, cut.first_lsn, cut.last_lsn, cut.quarantine) == ("missing", SECOND, 6, 9, "")
    opens_again(again)


def test_swapped_segments_are_found_by_what_they_hold() -> None:
    machine = three_segments()
    first, second = machine.files.contents(FIRST), machine.files.contents(SECOND)
    first[:], second[:] = bytes(second), bytes(first)
    names = machine.names()
    with pytest.raises(errors.CorruptionError):
        machine.reboot().start()
    again = salvaged(machine)
    assert again.names() == names
    opens_again(again)


@pytest.mark.parametrize("changes", [{"term": 9}, {"capacity": 1 << 21}], ids=["link", "header"])
def test_what_strict_would_not_open_again_salvage_does_not_leave(changes: dict[str, int]) -> None:
    machine = three_segments()
    found = manifest.decode(bytes(machine.files.contents("MANIFEST")))
    last = replace(found.segments[-1], **changes)
    machine.files.contents("MANIFEST")[:] = manifest.encode(found.with_segment(last))
    with pytest.raises(errors.CorruptionError):
        machine.reboot().start()
    again = salvaged(machine)
    assert again.names() == machine.names()
    opens_again(again)


def test_what_is_left_out_of_a_segment_under_another_name_is_kept() -> None:
    machine = three_segments()
    offset, size, _ = offsets(machine, SECOND)[2]
    machine.files.damage(SECOND, offset + 100)
    left_out = bytes(machine.files.contents(SECOND))[offset : offset + size]
    machine.files.rename(SECOND, "wal/moved.log")
    again = salvaged(machine)
    assert both_sides(again.names()) == {f"{number:02d}" for number in range(12) if number != 5}
    (cut,) = again.report.cuts
    assert cut.file == "wal/moved.log"
    assert bytes(again.files.contents(cut.quarantine))[: len(left_out)] == left_out
    opens_again(again)


def test_a_segment_of_another_database_is_not_read() -> None:
    machine, other = three_segments(), three_segments()
    machine.files.contents(SECOND)[:] = bytes(other.files.contents(SECOND))
    again = salvaged(machine)
    assert both_sides(again.names()) == {"00", "01", "02", "03", "08", "09", "10", "11"}
    (cut,) = again.report.cuts
    assert cut.kind == "foreign" and again.files.exists(cut.quarantine)


def test_a_damaged_header_costs_no_commit() -> None:
    machine = three_segments()
    machine.files.damage(SECOND, 40)
    names = machine.names()
    again = salvaged(machine)
    assert again.names() == names and [cut.bytes for cut in again.report.cuts] == [4096]
    opens_again(again)


@pytest.mark.parametrize("harm", ["missing", "header", "link"])
def test_until_damage_leaves_out_a_whole_segment_and_opens_again(harm: str) -> None:
    machine = three_segments()
    if harm == "missing":
        machine.files.unlink(SECOND)
    else:
        machine.files.damage(SECOND, 40 if harm == "header" else 4100)
    lenient = machine.reboot(options=options(recovery="until_damage")).start()
    assert both_sides(lenient.names()) == {"00", "01", "02", "03"}
    assert {cut.file for cut in lenient.report.cuts} == {SECOND, segments.path_of(3)}
    opens_again(lenient)


# --------------------------------------------------------------------------------------- foreign files


def test_files_of_others_are_never_deleted() -> None:
    machine, other = with_everything(), three_segments()
    segment = bytes(other.files.contents(FIRST))
    machine.files.open(segments.path_of(500), create=True).write_all(segment, 0)
    machine.files.open("checkpoints/notes.txt", create=True).write_all(b"mine", 0)
    names = machine.names()
    again = machine.reboot().start()
    assert again.names() == names
    assert again.files.read("quarantine/foreign-0000000000000500.log") == segment
    assert again.files.read("checkpoints/notes.txt") == b"mine"


# ------------------------------------------------------------------------------------------ crash-safe


@pytest.mark.parametrize(
    "harm",
    [
        "checkpoints",
        pytest.param("record", marks=pytest.mark.slow),
        pytest.param("manifest", marks=pytest.mark.slow),
    ],
)
def test_a_salvage_killed_at_every_operation_and_repeated_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    machine = many_blocks(monkeypatch)
    if harm == "record":
        newest = f"wal/{machine.files.listdir('wal')[-1]}"
        machine.files.damage(newest, offsets(machine, newest)[1][0] + 90)
    elif harm == "manifest":
        machine.files.damage("MANIFEST", 50)
    else:
        for name in machine.files.listdir("checkpoints"):
            machine.files.damage(f"checkpoints/{name}", 5000)
    expected = salvaged(machine).names()
    for number in range(1, 200):
        files = machine.files.survivor()

        def die(kind: str, path: str, files: MemoryFiles = files, number: int = number) -> None:
            if files.operations == number:
                raise Killed(f"{kind} {path}")

        files.on_operation = die
        try:
            salvaged(machine, files)
        except Killed:
            after = files.survivor() if number % 2 else files.crash(lambda path, sector: False)
            assert salvaged(machine, after).names() == expected
        else:
            assert number > 10
            return
    pytest.fail("it never came to its end")
