"""Both ways of building a generation, held against each other (rule G1): from the dead writer's arena and log
buffer, and from checkpoint and log."""

from __future__ import annotations

from typing import cast

from durability.rig import Killed, Machine

from stress.states.check import Violation
from stress.states.disk import Disk
from stress.states.story import Entry, Keys, Story, everything, plain


def heir_of(story: Story) -> Machine:
    """A new writer of the same group, over a copy of the files as they are after a kill."""
    dead = story.machine
    return Machine(
        files=cast(Disk, story.files.inner).copy(),
        options=dead.options,
        segs=dead.segs,
        client=dead.client,
        lease=dead.lease,
        predecessor=True,
        first_request=dead.request,
    )


def compare(story: Story) -> None:
    """After a workload: keys, values, LSNs, expiry, outcomes and counts are the same both ways, and the
    model's. Raises Violation."""
    by_disk = Machine(cast(Disk, story.files.inner).copy(), story.options).start()
    by_arena = heir_of(story).start()
    if by_arena.report.source != "arena" or by_disk.report.source != "disk":
        raise Violation(f"built from {by_arena.report.source} and {by_disk.report.source}")
    one, other = everything(by_arena), everything(by_disk)
    if one != other:
        raise Violation(f"the arena gives {_only(one, other)}, the disk {_only(other, one)}")
    if plain(one) != story.keys_at(by_arena.report.lsn):
        raise Violation("both differ from the model")
    counts = [machine.engine.store.figures()["counts"] for machine in (by_arena, by_disk)]
    if counts[0] != counts[1]:
        raise Violation(f"the arena counts {counts[0]} keys, the disk {counts[1]}")
    for machine in (by_arena, by_disk):
        if faults := machine.engine.store.audit():
            raise Violation(f"the arena's audit: {faults}")


def _only(one: Keys, other: Keys) -> list[tuple[bytes, Entry]]:
    return [(key, entry) for key, entry in one.items() if other.get(key) != entry][:3]


def killed_at(words: list[str], base: list[str], place: int) -> Story | None:
    """The workload, killed before its ``place``-th change to files; None: it was over before."""
    story = Story()
    note = story.files.hook
    assert note is not None

    def die(kind: str, path: str) -> None:
        note(kind, path)
        if len(story.files.trace.operations) >= place:
            raise Killed

    try:
        story.start()
        for word in base:
            story.step(word)
        story.files.hook = die
        for word in words:
            story.step(word)
    except Killed:
        story.settle_model()
        return story
    return None


def compare_killed(story: Story) -> bool:
    """After a kill in the middle: the heir has every commit that was acknowledged, of any level, and the disk
    then gives the same. False: nothing was committed yet."""
    if not story.commits:
        return False
    heir = heir_of(story).start()
    found = everything(heir)
    last = max(story.commits)
    allowed = [story.keys_at(last)]
    for commit in story.outstanding.values():
        after = dict(story.keys_at(last))
        commit.effect(after, heir.report.lsn)
        allowed.append(after)
    if plain(found) not in allowed:
        raise Violation(f"the heir holds {_only(plain(found), allowed[0])}, not the model at LSN {last}")
    by_disk = Machine(cast(Disk, heir.files).copy(), story.options).start()
    other = everything(by_disk)
    if other != found:
        raise Violation(f"the arena gives {_only(found, other)}, the disk {_only(other, found)}")
    return True
