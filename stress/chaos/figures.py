"""How long writes pause after a writer's death, and how fast reads are meanwhile.

Invariants:

* A pause counts if nothing else was done to the group from shortly before the death to the end of the pause:
  no second death, nobody stopped.
* It ends when a client has the answer of an operation that it began after the death.
* Reads are judged by processor time: what a scheduler takes is told apart, as the longest elapsed time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from stress.chaos.oracle import Region

__all__ = ["Pauses", "Slot", "bucket_of", "nanoseconds_of", "quantile", "shown"]

_DYING_NS = 3_000_000
"""A process runs on for a moment after it was sent SIGKILL."""
_STOP_NS = 700_000_000
_CALM_NS = 2_000_000_000
_GIVEN_UP_NS = 60_000_000_000
_RECENT_NS = 20_000_000_000


@dataclass(frozen=True)
class Slot:
    """Reads of a while: elapsed and processor time of the slowest, a histogram of the latter by bucket, and
    one of a plain dict's reads between them."""

    begun: int
    ended: int
    slowest: int
    cpu_slowest: int
    histogram: Counter[int]
    beside: Counter[int]


class Pauses:
    """All pauses of a run, and the reads in them. Times in monotonic nanoseconds."""

    def __init__(self) -> None:
        self.clean: list[int] = []
        """Pauses that count, after a while without new generations."""
        self.hindered: list[int] = []
        """The others: a snapshot that is pinned two generations back has a second's grace (rule G3)."""
        self.reads: Counter[int] = Counter()
        self.reads_meanwhile: Counter[int] = Counter()
        self.beside_meanwhile: Counter[int] = Counter()
        self.slowest_meanwhile = self.cpu_slowest_meanwhile = 0
        self._windows: deque[tuple[int, int]] = deque(maxlen=200)
        self._slots: list[Slot] = []
        self._next = 0  # of the deaths

    def take(self, slots: Sequence[Slot]) -> None:
        """More of what a prober has measured."""
        self._slots += slots

    def judge(
        self,
        deaths: Sequence[int],
        disturbances: Sequence[int],
        switches: Sequence[int],
        regions: Sequence[Region],
    ) -> None:
        """Settles the deaths that a commit has followed, and the reads of that time."""
        now = max((one.heard for one in regions), default=0)
        while self._next < len(deaths):
            death = deaths[self._next]
            resumed = min((one for one in (_resumed(region, death) for region in regions) if one), default=0)
            if not resumed and now - death < _GIVEN_UP_NS:
                break
            self._next += 1
            disturbed = any(death - _STOP_NS < one <= resumed for one in disturbances[-200:] if one != death)
            if resumed and not disturbed:
                calm = all(
                    not death - _CALM_NS < one < death for one in (*disturbances[-200:], *switches[-20:])
                )
                (self.clean if calm else self.hindered).append(resumed - death)
                self._windows.append((death, resumed))
        settled = min([now - _RECENT_NS, *deaths[self._next : self._next + 1]])
        for slot in [one for one in self._slots if one.ended < settled]:
            self._settle(slot)
        self._slots = [one for one in self._slots if one.ended >= settled]

    def _settle(self, slot: Slot) -> None:
        self.reads += slot.histogram
        if any(slot.begun < end and slot.ended > begin for begin, end in self._windows):
            self.reads_meanwhile += slot.histogram
            self.beside_meanwhile += slot.beside
            self.slowest_meanwhile = max(self.slowest_meanwhile, slot.slowest)
            self.cpu_slowest_meanwhile = max(self.cpu_slowest_meanwhile, slot.cpu_slowest)

    def finish(self) -> None:
        """Settles what is left."""
        for slot in self._slots:
            self._settle(slot)
        self._slots.clear()


def shown(pauses: Sequence[int]) -> str:
    """Median and maximum."""
    if not pauses:
        return "none"
    return f"p50 {median(pauses) / 1e9:.3f} s, max {max(pauses) / 1e9:.3f} s of {len(pauses)}"


def _resumed(region: Region, death: int) -> int:
    position = bisect_right(region.begun, death + _DYING_NS)
    return region.acknowledged[position] if position < len(region.acknowledged) else 0


def quantile(histogram: Counter[int], share: float) -> int:
    """Nanoseconds below which that share of the reads was."""
    left = share * histogram.total()
    for bucket in sorted(histogram):
        left -= histogram[bucket]
        if left <= 0:
            return nanoseconds_of(bucket)
    return 0


def bucket_of(nanoseconds: int) -> int:
    """Buckets an eighth of a power of two wide."""
    bits = max(4, nanoseconds.bit_length())
    return bits * 8 + (nanoseconds >> (bits - 4) & 7)


def nanoseconds_of(bucket: int) -> int:
    """The upper end of a bucket."""
    bits, part = divmod(bucket, 8)
    return (9 + part) << (bits - 4)
