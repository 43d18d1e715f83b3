"""Who reads, and who has to stop: revoking pins that are too old, making room when the arena is full (R5).

Owns: the order in which readers give way, and what is known of the pins that were revoked.

Invariants:

* A pin is revoked under pressure only if that can free something: it holds versions, or a traversal is under
  way in it while unlinked memory waits.
* Whoever holds most bytes goes first, and the commit that found no room is tried again after each.
* The group's own checkpoint is never revoked here. What a client writes into its own lease decides nothing:
  only a pin in a lease of the group counts as a checkpoint.
* A revoked pin stands until its owner has acknowledged it (rule R6), unless no read was under way in it: then
  its owner can't read again before it has noticed, and perhaps it never looks.
* Each traversal is revoked at most once between two commits, so a full arena is answered, not tried for ever.

Who: the commit thread.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from memdb.durability.files import Clock
from memdb.shm import _kernel as kernel

__all__ = ["AGES_APART", "Lease", "Pin", "Pressure", "Readers"]

AGES_APART: Final = 0.02
"""Seconds between two looks at the ages of snapshots, at least."""
_POINTS_APART: Final = 0.01
"""Seconds between two revocations of point reads, at least."""
_ENDS_WITHIN: Final = 0.01
"""Seconds that traversals under way have to end by themselves before snapshots give way."""
_LOOK: Final = 0.0005
_SAY_APART: Final = 10.0
"""Seconds between two lines of engine.log about a full arena."""
_TURNS: Final = 64
_ALL: Final = 1 << 20
_IDLE: Final = 1
_ACTIVE: Final = 2
_REVOKED: Final = 3

Lease = tuple[str, kernel.Mapping, bool]
"""(who, the lease, is it the group's own)"""


class Pin(NamedTuple):
    """One slot that is not free. ``since_us`` and ``kind`` are the client's own words."""

    who: str
    lease: kernel.Mapping
    own: bool
    parity: int
    slot: int
    state: int
    lsn: int
    since_us: int
    kind: int

    @property
    def held(self) -> bool:
        """Does it hold anything, not being revoked?"""
        return self.state in (_IDLE, _ACTIVE)

    @property
    def checkpoint(self) -> bool:
        """Is it the group's own checkpoint (or the copy into the next generation)?"""
        return self.own and self.kind == kernel.PIN_CHECKPOINT

    @property
    def place(self) -> tuple[int, int, int]:
        """What tells its slot from every other."""
        return id(self.lease), self.parity, self.slot


class Readers:
    """The pins in all leases, and those that were revoked while nobody read."""

    def __init__(self, leases: Callable[[], Iterable[Lease]]) -> None:
        self._leases = leases
        self._quiet: dict[tuple[int, int, int], int] = {}  # place of a revoked pin -> its LSN

    def pins(self, *parities: int) -> Iterator[Pin]:
        """All slots that are not free, in these arenas."""
        for who, lease, own in self._leases():
            for parity in parities:
                for found in kernel.lease_readers(lease, parity):
                    yield Pin(who, lease, own, parity, *found)

    def revoke(self, pin: Pin) -> bool:
        """Takes a pin from its owner; False: it has moved on by itself."""
        if kernel.lease_revoke_idle(pin.lease, pin.parity, pin.slot, pin.lsn):
            self._quiet[pin.place] = pin.lsn
            return True
        self._quiet.pop(pin.place, None)
        return bool(kernel.lease_revoke(pin.lease, pin.parity, pin.slot, pin.lsn))

    def forget(self, lease: kernel.Mapping) -> None:
        """A lease has gone."""
        for place in [one for one in self._quiet if one[0] == id(lease)]:
            del self._quiet[place]

    def are_in(self, parity: int) -> bool:
        """Could anybody still read in this arena (rule R6)?"""
        if any(kernel.lease_hazards(lease, parity) for _, lease, _ in self._leases()):
            return True
        pins = self.pins(parity)
        return any(pin.state != _REVOKED or self._quiet.get(pin.place) != pin.lsn for pin in pins)

    def revoke_aged(self, limit: float, now_us: int) -> tuple[int, float]:
        """Revokes what was pinned longer than ``limit`` seconds ago: (how many, seconds until the next comes
        of age)."""
        revoked, wait = 0, limit
        for pin in self.pins(0, 1):
            if pin.checkpoint or not pin.since_us or not pin.held:
                continue
            left = limit - (now_us - pin.since_us) / 1e6
            if left <= 0:
                revoked += self.revoke(pin)
            else:
                wait = min(wait, left)
        return revoked, wait


class Pressure:
    """What is done for a commit that finds no room. ``patient``: may wait some milliseconds for readers."""

    def __init__(self, readers: Readers, clock: Clock, log: logging.Logger, *, patient: bool) -> None:
        self._readers, self._clock, self._log, self._patient = readers, clock, log, patient
        self._points_at = 0.0  # when point reads may be revoked again
        self._say_at = 0.0
        self._tried: set[tuple[int, int, int]] = set()  # traversals that were revoked since the last commit
        self._tried_lsn = -1
        self.times = self.revoked = self.refused = 0

    def figures(self) -> dict[str, int]:
        """How often since this writer began: the arena was full, snapshots were revoked for room, commits
        were refused."""
        return {"times": self.times, "revoked": self.revoked, "refused": self.refused}

    def relieve(self, store: kernel.Store, applied_lsn: int, reap: Callable[[], bool]) -> bool:
        """One step towards room; False if there is nothing left to do. ``reap`` deletes what has expired."""
        self.times += 1
        if applied_lsn != self._tried_lsn:
            self._tried.clear()
            self._tried_lsn = applied_lsn
        before = _used(store)
        settle(store)
        if _used(store) < before:
            return True
        if reap():
            settle(store)
            return True
        done = self._revoke_points(store) or self._traversals_end(store) or self._revoke_most(store)
        if done:
            settle(store)
        return done

    def refuse(self, wanted: int) -> None:
        """The commit is answered `full`."""
        self.refused += 1
        now = self._clock.monotonic()
        if now >= self._say_at:
            self._say_at = now + _SAY_APART
            self._log.warning(
                "the arena is full: a commit asked for %d bytes more (%d commits refused so far)",
                wanted,
                self.refused,
            )

    def _revoke_points(self, store: kernel.Store) -> bool:
        """The point reads that are under way (rule R2: a process can be stopped in any). They begin again by
        themselves, so a caller sees nothing."""
        now = self._clock.monotonic()
        if now < self._points_at:
            return False
        waiting = _retired(store) > 0
        revoked = sum(
            self._readers.revoke(pin)
            for pin in self._readers.pins(store.generation & 1)
            if pin.kind == kernel.PIN_POINT
            and pin.state == _ACTIVE
            and (waiting or store.pinned_bytes(pin.lsn))
        )
        if revoked:
            self._points_at = now + _POINTS_APART
        return revoked > 0

    def _traversals_end(self, store: kernel.Store) -> bool:
        """Waits a moment for what is unlinked and only waits for readers that move on; did any come free?"""
        before, parity = _used(store), store.generation & 1
        until = self._clock.monotonic() + _ENDS_WITHIN
        pause = threading.Event()
        while self._patient and _retired(store) and self._clock.monotonic() < until:
            if not any(pin.state == _ACTIVE for pin in self._readers.pins(parity)):
                break
            pause.wait(_LOOK)
            settle(store)
        return _used(store) < before

    def _revoke_most(self, store: kernel.Store) -> bool:
        """The pin that holds most goes; if none holds versions, a traversal that others' memory waits for."""
        standing = [pin for pin in self._readers.pins(store.generation & 1) if pin.held]
        pins = [pin for pin in standing if not pin.checkpoint]
        held = {pin.lsn: int(store.pinned_bytes(pin.lsn)) for pin in pins}
        held.update((pin.lsn, 0) for pin in standing if pin.checkpoint)  # stays pinned, whoever goes
        for pin in sorted(pins, key=lambda one: -held[one.lsn]):
            if held[pin.lsn] and self._revoke(pin, f"it held {held[pin.lsn]} bytes of old versions"):
                return True
        if not _retired(store):
            return False
        for pin in pins:
            if pin.state == _ACTIVE and pin.place not in self._tried:
                self._tried.add(pin.place)
                if self._revoke(pin, f"{_retired(store)} bytes waited for a read in it to end"):
                    return True
        return False

    def _revoke(self, pin: Pin, why: str) -> bool:
        if not self._readers.revoke(pin):
            return False
        self.revoked += 1
        self._log.info("the arena is full: a snapshot at LSN %d of %s was revoked, %s", pin.lsn, pin.who, why)
        return True


def settle(store: kernel.Store) -> None:
    """Reclaims until no more comes free by itself."""
    for _ in range(_TURNS):
        before = _used(store)
        if store.reclaim(_ALL) == 0 and _used(store) == before:
            return


def _used(store: kernel.Store) -> int:
    return int(store.figures()["used_bytes"])


def _retired(store: kernel.Store) -> int:
    return int(store.figures()["retired_bytes"])
