"""Seeded defects over again, for the parts of the harness: a part that lets them pass is blind, however well the
tests see them. Not in the quick tier: each part runs whole where the defect is not in."""

from collections.abc import Iterable
from dataclasses import replace

from stress.defects.defect import Defect

__all__ = ["seen_by_parts"]

_SEEN = (
    (
        "states",
        "stress states --first",
        ("log-sync-skipped", "rename-not-synced", "lsn-used-again-after-a-cut"),
    ),
    ("damage", "stress damage --seed 1 --first --part log", ("hole-below-d-cut", "damage-called-a-tear")),
    (
        "damage",
        "stress damage --seed 1 --first --part segments",
        ("cut-in-silence", "another-checkpoint-in-its-place"),
    ),
    ("damage", "stress damage --seed 1 --first --part checkpoint", ("salvage-names-no-lost-keys",)),
    ("faults", "stress faults --seed 1 --only calls", ("commits-taken-after-a-failure",)),
)
"""(part, its command, seeded defects that it has to see)"""


def seen_by_parts(known: Iterable[Defect]) -> tuple[Defect, ...]:
    """The same defects under names of their own, each with the part as the only command."""
    by_name = {one.name: one for one in known}
    return tuple(
        replace(by_name[name], name=f"{part}-sees-{name}", caught_by=(command,), quick=False)
        for part, command, names in _SEEN
        for name in names
    )
