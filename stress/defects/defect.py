"""What a seeded defect is, and its application to a text.

Invariant: a mutation whose text is not found exactly once is an error (`Stale`), never a defect that was
tried.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Change", "Defect", "Stale", "mutated"]


class Stale(Exception):
    """The text that a defect replaces is gone, or there twice: the seed has to follow the code."""


@dataclass(frozen=True)
class Change:
    """``before`` becomes ``after`` in ``file`` (relative to the checkout)."""

    file: str
    before: str
    after: str


@dataclass(frozen=True)
class Defect:
    """One defect. ``breaks``: the promise, by its name in the protocols. ``caught_by``: commands, cheapest
    first (trial.py says of what form); the first that fails has caught it."""

    name: str
    breaks: str
    changes: tuple[Change, ...]
    caught_by: tuple[str, ...]
    quick: bool = False
    """Part of the quick tier: Python only, caught within seconds."""

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(change.file for change in self.changes))


def mutated(defect: Defect, texts: dict[str, str]) -> dict[str, str]:
    """``texts`` (by file) with the defect in them. Stale."""
    after = dict(texts)
    for change in defect.changes:
        found = after[change.file].count(change.before)
        if found != 1:
            raise Stale(
                f"{defect.name}: its text is {found} times in {change.file}, not once:\n{change.before}"
            )
        after[change.file] = after[change.file].replace(change.before, change.after)
    return after
