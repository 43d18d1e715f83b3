"""States of the disk that a crash can leave, enumerated: each opens, with all that was promised."""

import pytest
from durability.rig import Machine

from memdb.durability.files import MemoryFiles

SECTOR = 512


def test_a_full_delete_of_what_is_gone_already_makes_its_going_durable() -> None:
    """It writes no record, but what it was answered by must not be lost either."""
    machine = Machine().start()
    machine.set("a", b"1", "full")
    machine.delete("a", "os")
    machine.delete("a", "full")
    after = machine.reboot(machine.files.crash(lambda path, sector: False)).start()
    assert after.names() == {}


def test_an_os_delete_of_what_is_gone_already_writes_its_going() -> None:
    machine = Machine().start()
    machine.set("a", b"1", "os")
    machine.delete("a", "memory")
    machine.delete("a", "os")
    assert machine.reboot().start().names() == {}


@pytest.mark.parametrize("level", ["os", "full"])
def test_what_has_nothing_to_write_does_not_wait_for_what_is_safe_already(level: str) -> None:
    machine = Machine().start()
    machine.set("a", b"1", "full")
    syncs = machine.engine.commit.figures()["syncs"]
    machine.delete("none", level)
    assert machine.engine.commit.figures()["syncs"] == syncs


@pytest.mark.parametrize("room", range(8, 80, 8))
def test_a_record_whose_first_sector_has_stayed_older_is_a_tear(room: int) -> None:
    """It begins ``room`` bytes before the end of a sector, of which only the record before has reached the
    disk; the sectors behind have."""
    machine = Machine(MemoryFiles()).start()
    machine.set("a", b"1", "full")
    tail = machine.engine.commit.figures()["tail"]
    before = machine.engine.commit.figures()["tail"]
    machine.set("b", b"2", "full")
    taken = machine.engine.commit.figures()["tail"] - before
    tail = machine.engine.commit.figures()["tail"] + taken
    machine.set("b", b"2" * (1 + (SECTOR - room - tail) % SECTOR), "full")
    tail = machine.engine.commit.figures()["tail"]
    assert tail % SECTOR == SECTOR - room
    machine.set("lost", b"3" * 2000, "os")
    expected = machine.names()
    del expected["lost"]
    disk = machine.files.crash(lambda path, sector: sector != tail // SECTOR)
    after = machine.reboot(disk).start()
    assert after.names() == expected
    assert [cut.kind for cut in after.report.cuts] == ["torn"]
    assert after.files.exists(after.report.cuts[0].quarantine)
