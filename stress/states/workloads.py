"""The workloads: what is done before the lights go out.

Owns: the alphabet of public operations, all short words over it, and the long stories.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from stress.states.story import Story

COMMITS = ("put", "delete", "range", "validated", "expiring")
ALPHABET = (
    *(f"{name}:{level}" for name in COMMITS for level in ("os", "full")),
    "checkpoint",
    "rotate",
    "clear_wal",
    "reopen",
)
BASE = ("put:full", "put:os", "checkpoint", "put:os")
"""What every short workload begins with: two keys, a checkpoint, something in the log that is not synced."""
_LONG = """
put:full put:os put:memory checkpoint put:full delete:os validated:full rotate expiring:os range:full put:os
put:memory put:full checkpoint put:os clear_wal put:full put:os reopen put:memory put:os delete:full sync
several:os put:full compact put:os rotate several:full checkpoint put:memory reopen put:os several:os put:full
"""
LONG = _LONG.split()


def words(length: int) -> Iterator[tuple[str, ...]]:
    """All workloads of so many operations."""
    return itertools.product(ALPHABET, repeat=length)


def run(steps: tuple[str, ...] | list[str], base: tuple[str, ...] = ()) -> Story:
    """The story of a workload, from an empty directory on."""
    story = Story().start()
    for step in (*base, *steps):
        story.step(step)
    story.settle_model()
    return story


def shuffled(chance: random.Random, length: int) -> list[str]:
    """A long workload at random."""
    letters = [*ALPHABET, "put:memory", "several:os", "several:full", "sync", "compact"]
    weights = [4 if one.startswith(("put", "several")) else 1 for one in letters]
    return ["put:full", *chance.choices(letters, weights, k=length)]
