"""Memory, descriptors, shared memory and disk of a running chaos: flat, or it leaks.

Owns: the samples, and the judgement. Invariants:

* A line is drawn through the samples of one process's life only, so that a death is no decrease.
* What grows by more than its tolerance over the time watched, both by the line through all samples and from
  the first to the last third, is a violation; it is told with the numbers.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import linear_regression, median
from time import monotonic

__all__ = ["Growth", "Watch"]

MIB = 1 << 20
TOLERANCES: Mapping[str, float] = {
    "private memory": 6 * MIB,
    "descriptors": 4,
    "segments mapped": 2,
    "shared memory": 24 * MIB,
    "disk": 64 * MIB,
}
_WARM_UP = 15.0
_SHORTEST = 300.0
"""Seconds of a life that are not judged, and how many of the rest there must be."""


@dataclass(frozen=True)
class Growth:
    """Of one figure of one process. ``grown``: by the line, over the time watched."""

    who: str
    what: str
    seconds: float
    first: float
    last: float
    grown: float

    @property
    def is_violation(self) -> bool:
        """More than its tolerance, both ways."""
        return self.share_of_tolerance > 1

    @property
    def share_of_tolerance(self) -> float:
        """1.0: as much as is tolerated."""
        return min(self.grown, self.last - self.first) / TOLERANCES[self.what]

    @property
    def tolerance(self) -> str:
        """What is tolerated, with its unit."""
        figure = TOLERANCES[self.what]
        return f"{figure:.0f}" if figure < MIB else f"{figure / MIB:.0f} MiB"

    def __str__(self) -> str:
        scale, unit = (1, "") if self.what in ("descriptors", "segments mapped") else (MIB, " MiB")
        return (
            f"{self.who}: {self.what} {self.first / scale:.1f} -> {self.last / scale:.1f}{unit} in "
            f"{self.seconds:.0f} s ({self.grown * 3600 / self.seconds / scale:+.1f}{unit} an hour)"
        )


class Watch:
    """Samples by process and figure."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._samples: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        self.peaks: dict[str, float] = defaultdict(float)

    def look(self, processes: Mapping[str, int]) -> None:
        """One sample of each process; ``processes``: pid by name, a name for each life."""
        now = monotonic()
        segments: dict[tuple[int, int], int] = {}
        for role, pid in processes.items():
            try:
                self._of_process(now, f"{role} {pid}", pid, segments)
            except OSError:  # it ended meanwhile
                continue
        self._note(now, "all", "shared memory", float(sum(segments.values())))
        self._note(now, "all", "disk", float(_disk(self._directory)))

    def _of_process(self, now: float, name: str, pid: int, segments: dict[tuple[int, int], int]) -> None:
        base = Path(f"/proc/{pid}")
        status = base.joinpath("status").read_text()
        private = next((line for line in status.splitlines() if line.startswith("RssAnon:")), None)
        if private is None:
            return
        descriptors = os.listdir(base / "fd")
        for one in descriptors:
            try:
                target, found = os.readlink(base / "fd" / one), os.stat(base / "fd" / one)
            except OSError:
                continue
            if target.startswith(("/dev/shm/", "/memfd:")):
                segments[found.st_dev, found.st_ino] = found.st_blocks * 512
        maps = base.joinpath("maps").read_text().splitlines()
        mapped = {line.split()[4] for line in maps if "/dev/shm/" in line or "/memfd:" in line}
        self._note(now, name, "private memory", float(private.split()[1]) * 1024)
        self._note(now, name, "descriptors", float(len(descriptors)))
        self._note(now, name, "segments mapped", float(len(mapped)))

    def _note(self, now: float, who: str, what: str, figure: float) -> None:
        self._samples[who, what].append((now, figure))
        self.peaks[what] = max(self.peaks[what], figure)

    def growths(self) -> list[Growth]:
        """Of every life that was long enough to tell."""
        found = []
        for (who, what), samples in self._samples.items():
            begun = samples[0][0] + _WARM_UP
            late = [one for one in samples if one[0] >= begun]
            if len(late) < 9 or late[-1][0] - late[0][0] < _SHORTEST:
                continue
            seconds = late[-1][0] - late[0][0]
            slope = linear_regression(*zip(*late, strict=True)).slope
            third = len(late) // 3
            first, last = (median(one for _, one in part) for part in (late[:third], late[-third:]))
            found.append(Growth(who, what, seconds, first, last, slope * seconds))
        return found


def _disk(directory: Path) -> int:
    total = 0
    for place, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                continue
    return total
