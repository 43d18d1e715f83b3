"""Kill points: the writer dies, or the power goes, at every operation on files; what comes back is what was
promised."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from durability.rig import Killed, Machine, key, options

from memdb.durability.files import MemoryFiles

State = dict[str, bytes]
Keep = Callable[[str, int], bool]


@dataclass
class Story:
    """What happened before the end: the state after each commit, and how far each promise goes."""

    states: list[State] = field(default_factory=lambda: [{}])
    acked: int = 0
    acked_full: int = 0
    started: bool = False

    def begin(self, name: str, value: bytes | None) -> None:
        after = dict(self.states[-1])
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
        self.states.append(after)

    def check(self, found: State, at_least: int) -> None:
        assert found in self.states[at_least:], f"not a state from commit {at_least} on: {found}"


def work(machine: Machine, story: Story) -> None:
    """Twelve commits of all levels, with rotations, checkpoints and an end in order."""
    machine.start()
    story.started = True
    for turn in range(12):
        name, level = f"k{turn % 5}", ("memory", "os", "full")[turn % 3]
        value = None if turn % 4 == 3 else b"%d" % turn * 300
        story.begin(name, value)
        if value is None:
            operation = {"op": "delete", "key": key(name)}
        else:
            operation = {"op": "set", "key": key(name), "value": value + b"\0"}
        status, _ = machine.settle(machine.submit([operation], level))
        assert status == 0
        position = len(story.states) - 1
        if level != "memory":
            story.acked = position
        if level == "full":
            story.acked_full = position
        if turn in (4, 9):
            machine.engine.rotate()
        if turn in (3, 7, 10):
            machine.engine.checkpoint()
    machine.engine.stop()
    story.acked = story.acked_full = len(story.states) - 1


def run_until(number: int) -> tuple[Machine, Story, bool]:
    """The work, killed at its ``number``-th operation on files; whether it was."""
    files = MemoryFiles()
    machine, story = Machine(files, options(keep_checkpoints=2, keep_segments=0)), Story()

    def die(kind: str, path: str) -> None:
        if files.operations == number:
            raise Killed(f"{kind} {path}")

    files.on_operation = die
    try:
        work(machine, story)
    except Killed:
        return machine, story, True
    return machine, story, False


def count_operations() -> int:
    machine, _, killed = run_until(-1)
    assert not killed
    return machine.files.operations


OPERATIONS = range(1, count_operations() + 1)


def keep_random(seed: int) -> Keep:
    chance = random.Random(seed)
    share = chance.choice([0.2, 0.5, 0.9])
    return lambda path, sector: chance.random() < share


@pytest.mark.parametrize("part", range(4))
def test_kill_at_every_operation_keeps_what_was_acknowledged(part: int) -> None:
    for number in OPERATIONS[part::4]:
        machine, story, killed = run_until(number)
        assert killed or number > OPERATIONS[-1] - 10, "marks come by time: there may be fewer operations"
        again = machine.reboot().start()
        story.check(again.names(), story.acked)
        assert again.engine.store.audit() == []
        again.set("later", b"1", "full")
        assert again.reboot().start().names()["later"] == b"1"


@pytest.mark.parametrize("part", range(4))
def test_power_cut_at_every_operation_keeps_what_was_synced(part: int) -> None:
    for number in OPERATIONS[part::4]:
        machine, story, _ = run_until(number)
        nothing = machine.reboot(machine.files.crash(lambda path, sector: False)).start()
        story.check(nothing.names(), story.acked_full)
        for seed in range(3):
            some = machine.reboot(machine.files.crash(keep_random(number * 10 + seed))).start()
            story.check(some.names(), story.acked_full)
            for cut in some.report.cuts:
                assert some.files.exists(cut.quarantine)


def test_a_successor_in_the_same_group_keeps_every_level() -> None:
    for number in OPERATIONS:
        machine, story, _ = run_until(number)
        if not story.started or len(story.states) < 2:
            continue
        heir = machine.successor().start()
        found = heir.names()
        story.check(found, max(len(story.states) - 2, story.acked))
        heir.set("later", b"1")
        assert heir.reboot().start().names() == {**found, "later": b"1"}


def test_recovery_killed_at_every_operation_and_repeated_gives_the_same() -> None:
    machine, story, _ = run_until(OPERATIONS[-1] * 2 // 3)
    torn = machine.files.crash(keep_random(7))
    expected = machine.reboot(torn.survivor()).start().names()
    for number in range(1, 200):
        files = torn.survivor()

        def die(kind: str, path: str, files: MemoryFiles = files, number: int = number) -> None:
            if files.operations == number:
                raise Killed(f"{kind} {path}")

        files.on_operation = die
        try:
            machine.reboot(files).start()
        except Killed:
            for after in (
                files.survivor(),
                files.crash(lambda path, sector: False),
                files.crash(keep_random(number)),
            ):
                assert machine.reboot(after).start().names() == expected
        else:
            assert number > 10
            break
    story.check(expected, story.acked_full)
