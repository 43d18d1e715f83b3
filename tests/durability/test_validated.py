"""Commits that say what they have read (rule C6), through the engine: its generations, and its figures."""

import struct

from durability.rig import CLIENT, Machine, key

from memdb.shm import _kernel as kernel

VALIDATE = 4
REPEAT = 2
CONFLICT = 4
GENERATION = 5
POINT = 1


def section(lsn: int, word: int, points: dict[str, int]) -> bytes:
    entries = b"".join(
        struct.pack("<BBHIQ", 1, 0, len(key(name)), 0, seen) + key(name) for name, seen in points.items()
    )
    size = (40 + len(entries) + 7) // 8 * 8
    return (struct.pack("<IIQQQQ", size, len(points), lsn, 0, word, 0) + entries).ljust(size, b"\0")


def validated_set(machine: Machine, reads: bytes, name: str, flags: int = VALIDATE) -> tuple[int, int]:
    """(status, reason) of one validated commit, under the next request number."""
    request, machine.request = machine.request, machine.request + 1
    payload = reads + kernel.ops_build([{"op": "set", "key": key(name), "value": b"t\0"}])
    assert kernel.lease_submit(machine.lease, machine.segs.board, request % 64, request, payload, flags=flags)
    machine.engine.run(machine.clock.monotonic())
    state, status, found, _, count = kernel.lease_result(machine.lease, request % 64)
    assert (state, found) == (3, request)
    return status, count


def test_a_snapshot_of_another_generation_conflicts() -> None:
    machine = Machine().start()
    seen = machine.set("a", b"1")
    reads = section(seen, kernel.page_word(machine.segs.page), {"a": seen, "none": 0})
    assert validated_set(machine, reads, "first") == (0, 1)
    machine.engine.compact()
    assert validated_set(machine, reads, "second") == (CONFLICT, GENERATION)
    reads = section(seen, kernel.page_word(machine.segs.page), {"a": seen})
    assert validated_set(machine, reads, "second") == (0, 1)
    machine.set("a", b"2")
    assert validated_set(machine, reads, "third") == (CONFLICT, POINT)
    assert machine.engine.commit.figures()["conflicts"] == 2  # of this generation's loop
    again = machine.successor().start()
    assert validated_set(again, reads, "third") == (CONFLICT, GENERATION)
    reads = section(1, kernel.page_word(machine.segs.page), {"none": 0})
    assert validated_set(again, reads, "third") == (0, 1)
    assert sorted(again.names()) == ["a", "first", "second", "third"]


def test_what_a_dead_writer_had_applied_is_answered_and_not_judged() -> None:
    machine = Machine().start()
    reads = section(1, kernel.page_word(machine.segs.page), {"a": 0})
    assert validated_set(machine, reads, "a") == (0, 1)  # by its own effect the reads are void
    lsn = machine.engine.store.published
    again = machine.successor().start()
    again.request -= 1  # sent again
    assert validated_set(again, reads, "a", VALIDATE | REPEAT) == (0, 1)
    assert kernel.lease_result(again.lease, (again.request - 1) % 64)[3] == lsn
    assert again.engine.store.published == lsn
    assert validated_set(again, reads, "a", VALIDATE | REPEAT) == (CONFLICT, GENERATION)
    assert kernel.lease_client(again.lease) == CLIENT
