"""What a start from disk has done and left out: for db.info().recovery, the manifest, and `memdb recover`.

Owns: the shapes only. Nothing is left out without a Cut or a KeyHole that says so (invariant 13).
"""

from dataclasses import dataclass, field
from typing import Any

from memdb.durability.manifest import Manifest
from memdb.shm import _kernel as kernel

__all__ = ["Cut", "KeyHole", "Recovered", "RecoveryReport", "summary"]


@dataclass
class Cut:
    """Bytes that recovery left out; ``first_lsn`` to ``last_lsn``: what they may have held (0: no commit).

    ``kind``: torn (the end of a log after a crash), damage, missing, foreign (of another database or place),
    or manifest. ``quarantine``: where the bytes are kept; empty for what is missing.
    """

    file: str
    offset: int
    bytes: int
    first_lsn: int
    last_lsn: int
    kind: str
    quarantine: str
    why: str = ""


@dataclass
class KeyHole:
    """Stored keys between two others, both exclusive (None: no bound), that no whole block of any checkpoint
    holds: what was there and is not in the log above is gone."""

    after: bytes | None
    before: bytes | None


@dataclass
class RecoveryReport:
    """What a start did. ``source``: created, disk, or arena (a new generation was read from the old one)."""

    source: str
    lsn: int = 0
    checkpoint_lsn: int = 0
    records: int = 0
    keys: int = 0
    seconds: float = 0.0
    clean: bool = True
    """The last writer ended in order; otherwise LSNs go on above a gap."""
    mode: str = "strict"
    damaged_checkpoints: list[str] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    lost_keys: list[KeyHole] = field(default_factory=list)
    new_identity: bool = False
    new_manifest: bool = False
    """The MANIFEST could not be used, and was made anew from the files."""
    notes: list[str] = field(default_factory=list)

    @property
    def left_out(self) -> bool:
        """Is anything missing that a file held or should have held?"""
        return bool(self.cuts or self.lost_keys or self.damaged_checkpoints)


@dataclass
class Recovered:
    """A filled store, not yet open, and the manifest that says so (not yet stored)."""

    store: kernel.Store
    manifest: Manifest
    lsn: int
    """Numbers go on above it."""
    follows: int
    """Of the state; the next segment's commits are applied to it."""
    report: RecoveryReport


def summary(report: RecoveryReport, now_us: int) -> dict[str, Any]:
    """What of a report the manifest keeps: only starts that left something out."""
    return {
        "time_us": now_us,
        "lsn": report.lsn,
        "mode": report.mode,
        "cuts": [vars(cut) for cut in report.cuts],
        "lost_keys": [vars(hole) for hole in report.lost_keys],
        "damaged_checkpoints": report.damaged_checkpoints,
    }
