"""Reaping: what has expired is deleted in the background, a bounded amount at a time (rule R3).

Owns: when the next batch is due, and its pace.

Invariants:

* Nothing here decides what has expired: a batch deletes each key only if it still has when it is committed.
* Time never goes back: the floor is raised to the time of a batch before it is judged.
* Writers lose a tenth at most: a batch that took t, with the reclaiming that followed it, makes for a pause
  of 16 t before the next. Not so while nobody writes, nor under pressure.
* No clock is looked at while no key has a time to live, and nothing wakes up.
* One batch is under way at a time; what it did not delete is handed out again.

Who: the commit thread.
"""

from typing import Final

from memdb.durability.files import Clock
from memdb.shm import _kernel as kernel

__all__ = ["Reaping"]

_BATCH: Final = 256
_PAUSES: Final = 20
"""How many times as long as a batch took the writers have for themselves. Nine would be a tenth if a batch
cost no more than the time it takes; what it drives out of the caches costs about as much again."""
_AFTER_MOST: Final = 8
"""How many times as long as a batch its reclaiming is taken to be, at most: that figure has the writers' own,
too."""
_BUSY: Final = 0.005
"""Seconds until the next look if the last batch still waits for its log, or nothing can be taken now."""
_LONGEST: Final = 60.0
"""Seconds between two looks at the clock, at most: it may be set forward."""
_FAR: Final = 365 * 86400.0


class Reaping:
    """``at``: the monotonic time of the next batch."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: int | None = None
        self._ended = self._took = 0.0  # when the last batch was over, and how long it took
        self._after: float | None = 0.0  # seconds of reclaiming that it has caused; None: not known yet
        self._reclaimed = self._commits = 0  # the commit loop's figures of then
        self.at = clock.monotonic() + _FAR
        self.batches = self.deletes = 0

    def figures(self) -> dict[str, int]:
        """Since this writer began: batches, and expired keys that were handed out to be deleted."""
        return {"batches": self.batches, "deletes": self.deletes}

    def look(self, store: kernel.Store) -> float:
        """When the next batch is due; called before each wait."""
        if store.next_expiry != self._seen:
            self._plan(store)
        return self.at

    def _plan(self, store: kernel.Store) -> None:
        now, self._seen = self._clock.monotonic(), store.next_expiry
        if self._seen is None:
            self.at = now + _FAR
            return
        wait = (self._seen - self._now_us(store)) / 1e6
        self.at = now + min(max(wait, 0.0), _LONGEST)

    def _now_us(self, store: kernel.Store) -> int:
        return max(self._clock.time_us(), int(store.figures()["time_floor"]))

    def batch(self, store: kernel.Store, commit: kernel.Commit, lease: kernel.Mapping) -> int:
        """Deletes a batch of what is due; the commit loop's event that the caller has to meet first, or 0."""
        began, figures = self._clock.monotonic(), commit.figures()
        if figures["commits"] > self._commits and began < self._rest_until(began, figures["reclaim_us"]):
            self.at = self._rest_until(began, figures["reclaim_us"])
            return 0
        before = self.batches
        done, event = self._commit_batch(store, commit, lease)
        ended = self._clock.monotonic()
        if self.batches > before:
            figures = commit.figures()
            self._ended, self._took, self._after = ended, ended - began, None
            self._reclaimed, self._commits = figures["reclaim_us"], figures["commits"]
        self._plan(store)
        if not done:
            self.at = max(self.at, ended + _BUSY)
        return event

    def _rest_until(self, now: float, reclaim_us: int) -> float:
        """When the writers have had their parts. What a batch costs is not over when it is answered: its
        keys leave the index later. So the first pause is for the batch, the rest for what it showed."""
        first = self._ended + _PAUSES * self._took
        if self._after is None:
            if now < first:
                return first
            self._after = min((reclaim_us - self._reclaimed) / 1e6, _AFTER_MOST * self._took)
        return first + _PAUSES * self._after

    def for_room(self, store: kernel.Store, commit: kernel.Commit, lease: kernel.Mapping) -> bool:
        """A batch without a pace, while a commit waits for room; was anything deleted?"""
        if store.next_expiry is None or store.next_expiry > self._now_us(store):
            return False
        before = self.deletes
        done, _ = self._commit_batch(store, commit, lease)
        return done and self.deletes > before

    def _commit_batch(
        self, store: kernel.Store, commit: kernel.Commit, lease: kernel.Mapping
    ) -> tuple[bool, int]:
        """(could a batch be taken, the event that keeps it from being decided)"""
        now_us = self._now_us(store)
        if store.next_expiry is None or store.next_expiry > now_us:
            return True, 0
        if not commit.group_done():
            return False, 0
        store.raise_time_floor(now_us)
        payload, count = store.expired(now_us, _BATCH)
        if count == 0:
            return (
                False,
                0,
            )  # a commit that is not published yet changes them, or there are only more to look at
        if not commit.submit_group(lease, payload):
            return False, 0
        status = commit.take_group(lease)
        if status != kernel.STATUS_OK:
            return False, max(-status, 0)
        self.batches += 1
        self.deletes += count
        return True, 0
