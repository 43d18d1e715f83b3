"""Every fault at every call of the file seam, in process: see tests/durability/fault_story.py for the life
that is lived and the verdict."""

from __future__ import annotations

import random
from collections.abc import Iterator

from durability.fault_story import Violation, calls_of, play
from durability.faulty import Fault, faults_at

__all__ = ["all_faults", "play_all"]


def all_faults() -> list[tuple[Fault, bool]]:
    """(fault, is it a life in which the log fails by itself, too)"""
    return [
        (fault, broken)
        for broken in (False, True)
        for number, call in enumerate(calls_of(broken_log=broken), 1)
        for fault in faults_at(number, call)
    ]


def play_all(chance: random.Random, count: int | None) -> Iterator[tuple[str, str | None]]:
    """(fault, None or the violation) of all, or of ``count`` that are drawn."""
    faults = all_faults()
    if count is not None:
        faults = chance.sample(faults, count)
    for fault, broken in faults:
        try:
            play(fault, broken_log=broken)
        except Violation as violation:
            yield str(fault), str(violation)
        else:
            yield str(fault), None
