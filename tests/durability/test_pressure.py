"""A full arena (R5): who gives way and in which order, what is refused, and that it can be used again."""

import mmap
import os
import struct

import pytest
from durability.rig import MIB, Machine, key, options

from memdb import errors
from memdb.durability.pressure import settle
from memdb.shm import _kernel as kernel

FULL = -1
_SLOTS_AT, _SLOT, _USED_AT = 64 * 3 + 64 * 64, 32, 72
"""Where a lease has its reader slots, the bytes of one, and the word that says how many were ever used."""


class Client:
    """A client process that only reads: its lease, and readers in it."""

    def __init__(self, machine: Machine, number: int, *, system: bool = False) -> None:
        size = kernel.lease_bytes()
        self.id, self.machine = bytes([number]) * 16, machine
        fd = os.memfd_create(f"lease{number}")
        os.ftruncate(fd, size)
        self.lease = kernel.Mapping(fd, size, writable=True)
        kernel.lease_init(self.lease, self.id)
        self.memory = mmap.mmap(fd, size)
        os.close(fd)
        machine.engine.add_lease(self.lease, self.id, system=system)

    @property
    def parity(self) -> int:
        return kernel.page_word(self.machine.segs.page) & 1

    def snapshot(self, kind: int = kernel.PIN_SNAPSHOT) -> kernel.Reader:
        return kernel.Reader(self.machine.segs.arenas[self.parity], self.parity, self.lease, kind)

    def stop_inside(self, kind: int = kernel.PIN_SNAPSHOT, slot: int = 100) -> None:
        """What the lease of a process shows that was stopped in the middle of a traversal."""
        lsn = int(self.machine.engine.store.published)
        at = _SLOTS_AT + (self.parity * 512 + slot) * _SLOT
        struct.pack_into("<I", self.memory, _USED_AT, slot + 1)
        word = 2 << 62 | 1 << 61 | 7 << 48 | lsn
        struct.pack_into("<QQQQ", self.memory, at, word, self.machine.clock.time_us(), 0, kind)

    def states(self) -> list[int]:
        return [state for _, state, _, _, _ in kernel.lease_readers(self.lease, self.parity)]


def small(**changes: object) -> Machine:
    return Machine(options=options(max_memory=4 * MIB, **changes)).start()


def write(machine: Machine, name: str, value: bytes = b"x" * 1000) -> int:
    request = machine.submit([{"op": "set", "key": key(name), "value": value + b"\0"}])
    while (status := machine.settle(request)[0]) == -100:  # a checkpoint was due
        pass
    return status


def fill(machine: Machine, prefix: str = "k") -> int:
    """Writes keys until the arena is full; how many there are."""
    number = 0
    while (status := write(machine, f"{prefix}{number:05}")) == 0:
        number += 1
    assert status == FULL
    return number


def rewrite(machine: Machine, keys: range) -> int:
    """How many of the keys could be written again."""
    return sum(write(machine, f"k{number:05}", b"y" * 1000) == 0 for number in keys)


def test_a_full_arena_takes_deletes_and_then_writes_again() -> None:
    machine = small()
    count = fill(machine)
    assert count > 2500, "of 4 MiB"
    assert write(machine, "k00000", b"z" * 1000) == FULL, "an update needs a version more"
    deletes = [{"op": "delete", "key": key(f"k{number:05}")} for number in range(count)]
    status, _ = machine.settle(machine.submit(deletes))
    assert status == 0
    assert machine.names() == {}
    assert fill(machine, "n") >= count - 50
    assert not machine.engine.store.audit()


def test_deletes_one_by_one_find_room_too() -> None:
    machine = small()
    count = fill(machine)
    for number in range(count):
        machine.delete(f"k{number:05}")
    assert machine.names() == {}
    assert fill(machine, "n") >= count - 50


def test_an_idle_snapshot_gives_way_and_the_write_goes_on() -> None:
    machine = small()
    for number in range(2500):
        assert write(machine, f"k{number:05}") == 0
    snapshot = Client(machine, 1).snapshot()
    assert rewrite(machine, range(2500)) == 2500
    assert rewrite(machine, range(2500)) == 2500
    with pytest.raises(Exception, match="revoked"):
        snapshot.get(key("k00000"))
    assert machine.engine.info()["pressure"]["revoked"] == 1
    assert machine.engine.info()["pressure"]["refused"] == 0


def test_who_holds_most_goes_first_and_the_others_stay() -> None:
    machine = small()

    def make(keys: range) -> None:
        assert rewrite(machine, keys) == len(keys)

    clients = [Client(machine, one) for one in (1, 2, 3, 4)]
    few, most, some, none = clients
    make(range(100))
    first = few.snapshot()
    make(range(100, 1000))
    second = most.snapshot()
    make(range(1000))
    make(range(1000, 1300))
    third = some.snapshot()
    make(range(1000, 1300))
    last = none.snapshot()
    more = 1300
    while machine.engine.info()["pressure"]["revoked"] == 0:
        make(range(more, more + 1))
        more += 1
    assert [client.states() for client in clients] == [[1], [3], [1], [1]]
    for one in (first, third, last):
        assert one.get(key("k00000")) is not None
    second.close()
    while machine.engine.info()["pressure"]["revoked"] == 1:
        make(range(more, more + 1))
        more += 1
    assert [client.states() for client in clients] == [[1], [], [3], [1]]
    while write(machine, f"k{more:05}") == 0:
        more += 1
    assert [client.states() for client in clients] == [[3], [], [3], [3]], "it held outcomes of commits"


def test_of_two_at_one_point_in_time_both_go_if_that_is_needed() -> None:
    machine = small()
    for number in range(2500):
        assert write(machine, f"k{number:05}") == 0
    twins = [Client(machine, one) for one in (1, 2)]
    kept = [twin.snapshot() for twin in twins]
    assert rewrite(machine, range(2500)) == 2500
    assert rewrite(machine, range(2500)) == 2500
    assert [twin.states() for twin in twins] == [[3], [3]]
    assert len(kept) == 2


def test_nobody_is_revoked_who_holds_nothing() -> None:
    machine = small()
    fill(machine)
    client = Client(machine, 1)
    snapshot = client.snapshot()
    for number in range(20):
        assert write(machine, f"other{number}") == FULL
    assert client.states() == [1]
    assert snapshot.get(key("k00000")) is not None
    assert machine.engine.info()["pressure"]["refused"] > 0


@pytest.mark.parametrize("kind", [kernel.PIN_POINT, kernel.PIN_SNAPSHOT, kernel.PIN_CHECKPOINT])
def test_a_reader_stopped_inside_a_traversal_gives_way(kind: int) -> None:
    """Rule R2. What a client says of its own pin (that it were a checkpoint) protects nothing."""
    machine = small()
    for number in range(2500):
        assert write(machine, f"k{number:05}") == 0
    client = Client(machine, 1)
    client.stop_inside(kind)
    for _ in range(4):
        assert rewrite(machine, range(2500)) == 2500
    assert client.states() == [3], "revoked, and not acknowledged"


def test_the_groups_own_checkpoint_never_gives_way() -> None:
    machine = small()
    for number in range(2500):
        assert write(machine, f"k{number:05}") == 0
    group = Client(machine, 1, system=True)
    checkpoint = group.snapshot(kernel.PIN_CHECKPOINT)
    client = Client(machine, 2)
    snapshot = client.snapshot()
    assert rewrite(machine, range(2500)) < 2500, "refused at the end"
    assert group.states() == [1]
    assert client.states() == [1], "it holds nothing that the checkpoint does not"
    checkpoint.close()
    assert rewrite(machine, range(2500)) == 2500, "usable again once the reader is gone"
    assert client.states() == [3]
    assert not snapshot.parity & ~1


def test_a_dead_readers_pins_go_with_its_lease() -> None:
    machine = small()
    for number in range(2500):
        assert write(machine, f"k{number:05}") == 0
    client = Client(machine, 1)
    client.stop_inside()
    machine.engine.remove_lease(client.id)
    for _ in range(3):
        assert rewrite(machine, range(2500)) == 2500
    assert machine.engine.info()["pressure"]["revoked"] == 0


def test_commits_that_wait_for_a_sync_are_settled_before_a_commit_is_refused() -> None:
    """What is applied and not published keeps the versions under it."""
    machine = small()
    assert rewrite(machine, range(2300)) == 2300
    operations = [
        {"op": "set", "key": key(f"k{number:05}"), "value": b"z" * 1000 + b"\0"} for number in range(50)
    ]
    for _ in range(15):
        for _ in range(4):
            last = machine.submit(operations, "full")
        assert machine.settle(last)[0] == 0
    assert machine.engine.info()["pressure"]["refused"] == 0


def test_a_snapshot_in_the_old_generation_is_no_candidate_and_its_arena_comes_back() -> None:
    machine = small()
    for number in range(2500):
        assert write(machine, f"k{number:05}") == 0
    client = Client(machine, 1)
    old = client.snapshot()
    parity = client.parity
    machine.engine.compact()
    assert rewrite(machine, range(2500)) == 2500
    assert rewrite(machine, range(2500)) == 2500
    assert [one[1] for one in kernel.lease_readers(client.lease, parity)] == [1]
    assert machine.engine._old_arena == parity
    old.close()
    machine.clock.advance(2)
    machine.engine.run(machine.clock.monotonic())
    assert machine.engine._old_arena is None


def test_an_old_arena_comes_back_also_if_a_revoked_idle_snapshot_is_never_looked_at() -> None:
    machine = small(snapshot_max_age=5.0)
    machine.set("a", b"1")
    client = Client(machine, 1)
    kept = client.snapshot()
    parity = client.parity
    machine.engine.compact()
    machine.clock.advance(1)
    machine.engine.run(machine.clock.monotonic())
    assert machine.engine._old_arena == parity
    machine.clock.now_us += 10**15  # the slot's own time is the real clock's
    for _ in range(3):
        machine.clock.advance(2)
        machine.engine.run(machine.clock.monotonic())
    assert [one[1] for one in kernel.lease_readers(client.lease, parity)] == [3]
    assert machine.engine._old_arena is None
    assert kept.parity == parity


def test_however_old_the_groups_own_checkpoint_is_not_revoked_for_its_age() -> None:
    machine = small(snapshot_max_age=5.0)
    machine.set("a", b"1")
    group, client = Client(machine, 1, system=True), Client(machine, 2)
    checkpoint, snapshot = group.snapshot(kernel.PIN_CHECKPOINT), client.snapshot()
    machine.clock.now_us += 10**15  # the slot's own time is the real clock's
    machine.engine.revoke_aged()
    assert (group.states(), client.states()) == ([1], [3])
    checkpoint.close()
    snapshot.close()


def test_an_old_arena_stays_while_a_revoked_traversal_has_not_acknowledged() -> None:
    machine = small(snapshot_max_age=5.0)
    machine.set("a", b"1")
    client = Client(machine, 1)
    client.stop_inside()
    parity = client.parity
    machine.engine.compact()
    for _ in range(4):
        machine.clock.advance(4)
        machine.engine.run(machine.clock.monotonic())
    assert [one[1] for one in kernel.lease_readers(client.lease, parity)] == [3]
    assert machine.engine._old_arena == parity, "rule R6: it may still read there"
    machine.engine.remove_lease(client.id)
    machine.engine.run(machine.clock.monotonic())
    assert machine.engine._old_arena is None


def test_max_memory_may_change_at_reopen_and_an_arena_that_is_too_small_loses_nothing() -> None:
    machine = Machine(options=options(max_memory=16 * MIB)).start()
    for number in range(7000):
        assert write(machine, f"k{number:05}") == 0
    expected = machine.names()
    machine.engine.checkpoint()
    machine.engine.stop()
    small_again = machine.reboot(options=options(max_memory=4 * MIB))
    with pytest.raises(errors.ArenaFullError, match=r"7\d\d\d keys") as refused:
        small_again.start()
    assert refused.value.limit == 4 * MIB and refused.value.needed is not None
    assert str(refused.value.limit) in str(refused.value) and str(refused.value.needed) in str(refused.value)
    enough = refused.value.needed
    assert 7 * MIB < enough < 12 * MIB
    fits = small_again.reboot(small_again.files, options=options(max_memory=enough)).start()
    assert fits.names() == expected
    assert write(fits, "one more") == 0
    fits.engine.stop()
    larger = fits.reboot(options=options(max_memory=32 * MIB)).start()
    assert larger.names().keys() == expected.keys() | {"one more"}
    assert fill(larger, "n") > 15000


def test_a_content_between_the_limit_and_its_quarter_opens_and_takes_deletes() -> None:
    machine = Machine(options=options(max_memory=8 * MIB)).start()
    for number in range(4200):
        assert write(machine, f"k{number:05}") == 0
    machine.engine.stop()
    tight = machine.reboot(options=options(max_memory=4 * MIB)).start()
    assert len(tight.names()) == 4200
    assert write(tight, "k00001", b"y" * 1000) == FULL
    for number in range(1500):
        tight.delete(f"k{number:05}")
    assert write(tight, "new") == 0


def test_an_idle_snapshot_costs_at_most_one_version_a_key() -> None:
    machine = small()
    assert rewrite(machine, range(300)) == 300
    snapshot = Client(machine, 1).snapshot()
    for _ in range(20):
        assert rewrite(machine, range(300)) == 300
    settle(machine.engine.store)
    machine.set("one more", b"1")  # the figures are those of the last commit; its own two are not pruned yet
    figures = machine.engine.store.figures()
    assert figures["versions"] <= 2 * figures["cells"] + 2
    assert snapshot.get(key("k00000")) is not None
