"""What must be true, known outside of the database: the regions of all clients as they told them over pipes.

Owns: the history of each region, what of it a reader may see at a time, and the verdict over an observation.
A pipe outlives its writer, so what a client said before it was killed is known.

Lines of a client: ``I`` an operation begins; then ``A`` it was acknowledged, or ``N`` it is certainly not
done; ``O`` an unknown outcome was settled; ``L`` its levels; ``V`` a violation that it saw itself. All times
are monotonic nanoseconds of one machine.

Invariants:

* A snapshot taken between t0 and t1 shows, of a region, the state after n operations, with n at least what
  was acknowledged before t0, at least what any snapshot taken before t0 has shown, and at most what had begun
  at t1. Of a pipeline that was under way it may show any part.
* A state is judged only when no line about that time can be missing: the client has said something later,
  has ended, or is known to be silent.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from stress.chaos.operations import DURABLE, VOLATILE, Changes, Model, Operation, digest, moved

__all__ = ["Cleared", "Observation", "Region"]

_KEPT, _DROPPED = 40_000, 20_000
_CLOCK_NS = 20_000_000
"""How far the clock of expiry may be behind the kernel's last tick: it is that tick, and a time floor."""
_TTL_NS = (300_000_000, 800_000_000, 2_000_000_000)


@dataclass(frozen=True)
class Observation:
    """What one snapshot showed of one region. ``tick``: the kernel's last tick before it; ``volatile``,
    ``ttl``: counters by index."""

    tick: int
    begun: int
    ended: int
    model: Model
    volatile: dict[int, int]
    ttl: dict[int, int]
    reader: str


@dataclass(slots=True)
class _Entry:
    """An operation that changes the region. ``partly``: of a pipeline, each key's old and new counter."""

    operation: Operation
    begun: int
    before: int
    after: int
    ended: int | None = None
    partly: list[tuple[tuple[str, int], int | None, int | None]] | None = None


@dataclass(slots=True)
class _Write:
    """A write of the volatile keys or of a slot with a time to live."""

    counter: int
    begun: int
    ended: int | None = None
    lives: int = 0


@dataclass(slots=True)
class _Settled:
    """A durable commit that was acknowledged at a time, and the volatile one before it: the log keeps their
    order, so it made that durable, too, unless all processes had died in between."""

    time: int
    counter: int
    begun: int
    acknowledged: int


@dataclass
class Region:
    """What one client has told so far."""

    client: int
    model: Model = field(default_factory=dict)
    operations: int = 0
    outcomes: int = 0
    withdrawn: int = 0
    tallies: int = 0
    closed: bool = False
    heard: int = 0
    """Time of its last line."""
    acknowledged: list[int] = field(default_factory=list)
    """Times of acknowledgements of late, ascending: pauses are measured by them."""
    begun: list[int] = field(default_factory=list)
    """When those operations had begun."""
    levels: str = ""
    violations: list[str] = field(default_factory=list)
    _open: tuple[Operation, int] | None = None
    _undo: Changes = field(default_factory=dict)
    _digest: int = 0
    _entries: list[_Entry] = field(default_factory=list)
    _first: int = 0  # number of the first entry that is kept
    _seen: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=64))
    _volatile: list[_Write] = field(default_factory=list)
    _seen_volatile: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=64))
    _durable: list[_Settled] = field(default_factory=list)
    _ttl: dict[int, list[_Write]] = field(default_factory=dict)

    # ---------------------------------------------------------------------------------------------- hearing

    def hear(self, line: str) -> None:
        """Takes one whole line of the client."""
        kind, time, text = line.rstrip("\n").split(" ", 2)
        now = int(time)
        if kind == "I":
            self._begin(Operation.parse(text), now)
        elif kind == "A":
            self._acknowledge(now)
        elif kind == "N":
            self._take_back()
        elif kind == "O":
            self.outcomes += 1
        elif kind == "L":
            self.levels = text
        elif kind == "V":
            self.violations.append(f"client {self.client}: {text}")
        self.heard = now

    def _begin(self, operation: Operation, now: int) -> None:
        self._open = operation, now
        if operation.kind == "volatile":
            self._volatile.append(_Write(operation.counter, now))
            return
        if operation.kind == "ttl":
            slot, which = operation.index
            self._ttl.setdefault(slot, []).append(_Write(operation.counter, now, None, _TTL_NS[which]))
            return
        changes = operation.changes(self.model)
        self._undo = {key: self.model.get(key) for key in changes}
        before = self._digest
        for key, new in changes.items():
            self._digest = moved(self._digest, key, self.model.get(key), new)
        entry = _Entry(operation, now, before, self._digest)
        if operation.kind == "pipeline":
            entry.partly = [(key, self._undo[key], new) for key, new in changes.items()]
        operation.apply(self.model)
        self._entries.append(entry)
        if len(self._entries) > _KEPT:
            del self._entries[:_DROPPED]
            self._first += _DROPPED

    def _acknowledge(self, now: int) -> None:
        assert self._open is not None
        operation, begun = self._open
        self._open = None
        self.operations += 1
        self.tallies += operation.kind == "tally"
        self.acknowledged.append(now)
        self.begun.append(begun)
        if len(self.acknowledged) > _KEPT:
            del self.acknowledged[:_DROPPED], self.begun[:_DROPPED]
        if operation.kind == "volatile":
            self._volatile[-1].ended = now
        elif operation.kind == "ttl":
            self._ttl[operation.index[0]][-1].ended = now
            if len(self._ttl[operation.index[0]]) > _KEPT:
                del self._ttl[operation.index[0]][:_DROPPED]
        else:
            self._entries[-1].ended = now
        if operation.level in DURABLE and self._volatile:
            last = next((one for one in reversed(self._volatile) if one.ended is not None), None)
            if last is not None and (not self._durable or self._durable[-1].counter != last.counter):
                self._durable.append(_Settled(now, last.counter, last.begun, last.ended or 0))
                if len(self._volatile) > _KEPT:
                    del self._volatile[:_DROPPED]
                del self._durable[:-_KEPT]

    def _take_back(self) -> None:
        """The open operation is certainly not done."""
        assert self._open is not None
        operation, _ = self._open
        self._open = None
        self.withdrawn += 1
        if operation.kind == "volatile":
            self._volatile.pop()
            return
        if operation.kind == "ttl":
            self._ttl[operation.index[0]].pop()
            return
        self._digest = self._entries.pop().before
        for key, old in self._undo.items():
            if old is None:
                self.model.pop(key, None)
            else:
                self.model[key] = old

    # ---------------------------------------------------------------------------------------------- judging

    @property
    def open_tally(self) -> bool:
        """Is an increment of everybody's number open?"""
        return self._open is not None and self._open[0].kind == "tally"

    def can_judge(self, observation: Observation) -> bool:
        """Is all known that this client had done and begun then?"""
        return self.closed or self.heard > observation.ended

    def judge(self, seen: Observation, losses: list[tuple[int, int]], kills: Sequence[int] = ()) -> list[str]:
        """What is wrong with an observation. ``losses``: times in which a whole group could be killed;
        ``kills``: when a supervisor or a writer was, ascending."""
        wrong = []
        explained = self._explain(seen)
        if explained is None:
            wrong.append(self._unexplained(seen))
        else:
            self._seen.append((seen.ended, explained))
        wrong += self._judge_volatile(seen, losses, kills)
        wrong += self._judge_ttl(seen)
        return [f"{seen.reader} sees of client {self.client}: {one}" for one in wrong]

    def _bounds(self, seen: Observation) -> tuple[int, int]:
        """The least and the greatest number of entries that it may show, counted in those that are kept."""
        done = bisect_left(self._entries, seen.begun, key=_ended)
        shown = max((number for time, number in self._seen if time <= seen.begun), default=0)
        return max(done, shown - self._first), bisect_right(self._entries, seen.ended, key=_begun)

    def _explain(self, seen: Observation) -> int | None:
        least, most = self._bounds(seen)
        found = digest(seen.model)
        if not self._entries:
            return self._first if found == self._digest else None
        for number in range(least, most + 1):
            before = self._entries[number].before if number < len(self._entries) else self._digest
            if before == found:
                return self._first + number
            if number < most:
                partly = self._entries[number].partly
                if partly is not None and _is_part(partly, before, seen.model, found):
                    return self._first + number
        return None

    def _unexplained(self, seen: Observation) -> str:
        least, most = self._bounds(seen)
        missing = {key: one for key, one in self.model.items() if seen.model.get(key) != one}
        extra = {key: one for key, one in seen.model.items() if self.model.get(key) != one}
        told = [
            f"{one.operation.line()} {one.begun - seen.begun:+d}"
            f"..{'open' if one.ended is None else one.ended - seen.begun}"
            for one in self._entries[max(0, least - 3) : most + 2][-24:]
        ]
        return (
            f"no state between {least + self._first} and {most + self._first} operations (snapshot taken in "
            f"{(seen.ended - seen.begun) / 1000:.0f} us); against the newest state it lacks {missing} and "
            f"has {extra}; operations about then, ns from the snapshot: {told}"
        )

    def _judge_volatile(
        self, seen: Observation, losses: list[tuple[int, int]], kills: Sequence[int]
    ) -> list[str]:
        counters = set(seen.volatile.values())
        if len(counters) > 1 or len(seen.volatile) not in (0, VOLATILE):
            return [f"a commit of {VOLATILE} keys in part: {seen.volatile}"]
        shown = counters.pop() if counters else 0
        written = bisect_left(self._volatile, shown, key=_write_counter)
        if shown and (written == len(self._volatile) or self._volatile[written].counter != shown):
            return [f"commit {shown} of level memory, which was withdrawn or never begun"]
        known = bisect_right(self._durable, seen.begun, key=_settled_at)
        least = next(
            (one.counter for one in reversed(self._durable[:known]) if not _was_lost(one, losses, kills)), 0
        )
        known = bisect_right(self._volatile, seen.ended, key=_write_begun)
        most = self._volatile[known - 1].counter if known else 0
        for one in reversed(self._volatile[:known]):
            if one.ended is not None and one.ended <= seen.begun and not _could_be_lost(one.ended, losses):
                least = max(least, one.counter)
                break
        for time, counter in self._seen_volatile:
            if time <= seen.begun and not _could_be_lost(time, losses):
                least = max(least, counter)
        most = max(most, least)
        if not least <= shown <= most:
            return [f"commit {shown} of level memory, which must be between {least} and {most}"]
        self._seen_volatile.append((seen.ended, shown))
        return []

    def _judge_ttl(self, seen: Observation) -> list[str]:
        wrong = [
            f"ttl {slot} shows {seen.ttl[slot]}, and was never written"
            for slot in seen.ttl.keys() - self._ttl.keys()
        ]
        for slot, writes in self._ttl.items():
            shown = seen.ttl.get(slot)
            known = bisect_right(writes, seen.ended, key=_write_begun)
            may = writes[max(0, known - 40) : known]  # some lie open, or in the time of the snapshot
            done = [one for one in may if one.ended is not None and one.ended <= seen.begun]
            newest = done[-1] if done else None
            if shown is None:
                if newest is not None:  # it is there, or what lies open behind it, while all of them live
                    until = min(one.begun + one.lives for one in may[len(done) - 1 :])
                    if seen.ended < until:
                        left = (until - seen.ended) / 1e9
                        wrong.append(f"ttl {slot}: {newest.counter} is gone {left:.3f} s before its time")
                continue
            one = next((one for one in may if one.counter == shown), None)
            if one is None or (newest is not None and one.counter < newest.counter):
                wrong.append(f"ttl {slot} shows {shown}, newest is {newest.counter if newest else None}")
            elif one.ended is not None and seen.tick > one.ended + one.lives + _CLOCK_NS:
                late = (seen.tick - one.ended - one.lives) / 1e9
                wrong.append(f"ttl {slot}: {shown} is there {late:.3f} s after its time")
        return wrong


@dataclass(frozen=True)
class Cleared:
    """The region of a dead client that was deleted in one transaction between ``begun`` and ``ended``."""

    region: Region
    begun: int
    ended: int

    def can_judge(self, observation: Observation) -> bool:
        """All is known of it."""
        return True

    def judge(self, seen: Observation, losses: list[tuple[int, int]], kills: Sequence[int] = ()) -> list[str]:
        """What is wrong with an observation: before it was cleared as ever, and nothing of it afterwards."""
        is_there = bool(seen.model or seen.volatile or seen.ttl)
        if is_there and seen.begun > self.ended:
            return [f"{seen.reader} sees client {self.region.client}, which was cleared away: {seen}"]
        if not is_there and seen.ended >= self.begun:
            return []
        return self.region.judge(seen, losses, kills)


def _ended(entry: _Entry) -> int:
    return 1 << 62 if entry.ended is None else entry.ended


def _begun(entry: _Entry) -> int:
    return entry.begun


def _write_begun(write: _Write) -> int:
    return write.begun


def _write_counter(write: _Write) -> int:
    return write.counter


def _settled_at(one: _Settled) -> int:
    return one.time


def _was_lost(one: _Settled, losses: list[tuple[int, int]], kills: Sequence[int]) -> bool:
    """May all processes have died before the durable commit could follow? Also between its own and the moment
    in which its client heard of it."""
    if not _could_be_lost(one.acknowledged, losses):
        return False
    after = bisect_left(kills, one.begun)
    return after < len(kills) and kills[after] <= one.time


def _could_be_lost(acknowledged: int, losses: list[tuple[int, int]]) -> bool:
    return any(begin < acknowledged <= end for begin, end in losses)


def _is_part(
    partly: list[tuple[tuple[str, int], int | None, int | None]], before: int, model: Model, found: int
) -> bool:
    """Is it the state before a pipeline, with some of its writes done?"""
    now = before
    for key, old, new in partly:
        shown = model.get(key)
        if shown not in (old, new):
            return False
        now = moved(now, key, old, shown)
    return now == found
