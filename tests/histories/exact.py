"""The exact checker: replays committed operations in the order of their LSNs against a sorted dict.

Owns: what snapshot isolation, serializability and real-time order mean when LSNs are known. Linear in the
length of the history (but for one sort of nearly sorted numbers), with constant memory a key and none for
past versions: every check is made when the model stands at the LSN that it is about.

What is checked, of each operation:

* ``at``: all that it answered is what its steps give on the model at that LSN, own writes on top; of refused
  ones too.
* ``lsn`` of a single call, or of a serializable transaction: the same on the model just before that LSN.
* ``lsn`` of a transaction of isolation ``snapshot``: what it writes nobody else changed since ``at`` (where
  nothing was at ``at`` and nothing is before ``lsn``, something may have come and gone).
* a call without a commit (a read, or a write whose condition failed): its answer was true at some LSN between
  ``low`` and ``high``.
* no LSN twice; a call that said ok and changes something has one, a refused one has none.
* real time: what begins after another has ended sees it (its snapshot, its commit and its reads are not
  below the other's), over all clients, so also monotone for each of them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from typing import Any

from histories.history import Operation, Overlay, has_effect, run_steps

__all__ = ["Exact", "check_exact"]

_COMMIT, _READ, _END = 0, 1, 2
_OF_ONE_KEY = frozenset({"get", "delete", "swap"})
_ANY = ""
"""Where reads of ranges wait: for any change."""


class Model:
    """The state at one LSN, and when each key changed last."""

    def __init__(self, initial: Mapping[str, Any]) -> None:
        self.values: dict[str, Any] = dict(initial)
        self.changed: dict[str, int] = {}
        self._keys = sorted(self.values)
        self._known = set(self._keys)

    def scan(self, start: str, stop: str) -> Iterator[tuple[str, Any]]:
        """What is there."""
        for key in self.known(start, stop):
            value = self.values.get(key)
            if value is not None:
                yield key, value

    def known(self, start: str, stop: str) -> list[str]:
        """Keys that are or were there."""
        return self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, stop)]

    def apply(self, changes: Mapping[str, Any], lsn: int) -> None:
        """A commit."""
        for key, value in changes.items():
            if value is None and self.values.pop(key, None) is None:
                continue
            if value is not None:
                self.values[key] = value
            self.changed[key] = lsn
            if key not in self._known:
                self._known.add(key)
                insort(self._keys, key)


class Exact:
    """One pass over one history; see the module."""

    def __init__(self, operations: Iterable[Operation], initial: Mapping[str, Any] | None = None) -> None:
        self.model = Model(initial or {})
        self.violations: list[str] = []
        self.transactions = self.reads = 0
        """How many commits were replayed, and how many operations were compared."""
        self._operations = list(operations)
        self._pending: dict[int, tuple[Overlay, set[str]]] = {}
        """Of transactions that read and are not committed yet: what they see, and what they write where
        nothing was."""
        self._waiting: dict[str, dict[int, Operation]] = defaultdict(dict)

    def run(self) -> list[str]:
        """All violations."""
        self._check_outcomes()
        self._check_real_time()
        for lsn, _, phase, operation in sorted(self._events(), key=itemgetter(0, 2)):
            if phase == _COMMIT:
                self._commit(operation, lsn)
            elif operation.at is not None:
                self._read(operation)
            else:
                self._single_read(operation, last=phase == _END)
        return self.violations

    def _say(self, operation: Operation, text: str) -> None:
        self.violations.append(f"{operation.name}: {text}"[:1500])

    # ------------------------------------------------------------------------------------ LSNs and outcomes

    def _check_outcomes(self) -> None:
        owners: dict[int, Operation] = {}
        for operation in self._operations:
            if operation.lsn is None:
                if operation.kind == "call" and operation.outcome == "ok" and has_effect(operation):
                    self._say(operation, "was acknowledged, and no commit is known of it")
                continue
            if operation.outcome in ("conflict", "not done"):
                self._say(operation, f"{operation.outcome}, and yet committed at LSN {operation.lsn}")
            other = owners.setdefault(operation.lsn, operation)
            if other is not operation:
                self._say(operation, f"LSN {operation.lsn} is also that of {other.name}")
            if operation.at is not None and operation.at >= operation.lsn:
                self._say(operation, f"commits at LSN {operation.lsn}, with a snapshot at {operation.at}")

    def _check_real_time(self) -> None:
        """Sweeps over begins and ends: at a begin, nothing may be below what had ended."""
        moments: list[tuple[int, bool, Operation]] = []
        for operation in self._operations:
            moments.append((operation.begun, False, operation))
            if operation.ended is not None:
                moments.append((operation.ended, True, operation))
        moments.sort(key=itemgetter(0, 1))  # at one moment begins come first: neither is before the other
        highest, whose = 0, ""
        for _, ends, operation in moments:
            known = [one for one in (operation.at, operation.lsn) if one is not None]
            if ends:
                top = max(known, default=operation.low or 0)
                if top > highest:
                    highest, whose = top, operation.name
                continue
            lowest = min(known, default=None)
            if lowest is not None and lowest < highest:
                self._say(operation, f"is at LSN {lowest}, and {whose}, at {highest}, had ended before")
            if operation.low is not None:  # a single read: from now on, no state below is an excuse
                operation.low = max(operation.low, highest)

    # -------------------------------------------------------------------------------------------- the replay

    def _events(self) -> Iterator[tuple[int, int, int, Operation]]:
        for number, operation in enumerate(self._operations):
            if operation.lsn is not None:
                yield operation.lsn, number, _COMMIT, operation
            if operation.at is not None:
                yield operation.at, number, _READ, operation
            elif operation.low is not None and operation.outcome == "ok" and operation.lsn is None:
                high = operation.high if operation.high is not None else operation.low
                if high < operation.low:
                    self._say(operation, f"ended at LSN {high}, and {operation.low} was seen before it began")
                    continue
                yield operation.low, number, _READ, operation
                yield high, number, _END, operation

    def _overlay(self) -> Overlay:
        return Overlay(self.model.values.get, self.model.scan)

    def _read(self, operation: Operation) -> None:
        state = self._overlay()
        self.reads += 1
        for text in run_steps(operation.steps, state):
            self._say(operation, f"at LSN {operation.at}: {text}")
        if operation.lsn is not None:
            missing = {key for key in state.changes if self.model.values.get(key) is None}
            self._pending[id(operation)] = state, missing
        elif operation.outcome == "ok":
            changed = [key for key, new in state.changes.items() if self.model.values.get(key) != new]
            if changed:
                self._say(operation, f"was acknowledged, and no commit of {changed} is known")

    def _commit(self, operation: Operation, lsn: int) -> None:
        self.transactions += 1
        if operation.at is not None and operation.isolation == "snapshot":
            pending = self._pending.pop(id(operation), None)
            if pending is None:  # it was said already that the snapshot is not below the commit
                return
            state, missing = pending
            self._check_first_committer(operation, state, missing, lsn)
        else:
            self._pending.pop(id(operation), None)
            state = self._overlay()
            for text in run_steps(operation.steps, state):
                self._say(operation, f"just before its commit at LSN {lsn}: {text}")
        self.model.apply(state.changes, lsn)
        for key in (state.changes.keys() | {_ANY}) & self._waiting.keys():
            for number, reader in list(self._waiting[key].items()):
                if not run_steps(reader.steps, self._overlay()):
                    del self._waiting[key][number]

    def _check_first_committer(
        self, operation: Operation, state: Overlay, missing: set[str], lsn: int
    ) -> None:
        assert operation.at is not None
        written = set(state.changes)
        for start, stop in state.cleared:
            between = set(self.model.known(start, stop)) - written
            written |= between
            missing |= between
        for key in sorted(written):
            if key in missing and self.model.values.get(key) is None:
                continue  # nothing was there and nothing is: what came and went meanwhile is no loss
            changed = self.model.changed.get(key, 0)
            if changed > operation.at:
                self._say(
                    operation,
                    f"writes {key} at LSN {lsn} over the commit at {changed}, which its snapshot at "
                    f"{operation.at} does not see: a lost update",
                )

    def _single_read(self, operation: Operation, *, last: bool) -> None:
        key = operation.steps[0][1] if operation.steps[0][0] in _OF_ONE_KEY else _ANY
        if last:
            if self._waiting.get(key, {}).pop(id(operation), None) is not None:
                self._say(
                    operation,
                    f"{operation.steps[0]} was true at no LSN from {operation.low} to {operation.high}; "
                    f"at the last the key is {self.model.values.get(key)!r}",
                )
            return
        self.reads += 1
        if run_steps(operation.steps, self._overlay()):
            self._waiting[key][id(operation)] = operation


def check_exact(operations: Iterable[Operation], initial: Mapping[str, Any] | None = None) -> list[str]:
    """Violations of a history; see the module. ``initial``: the state before it."""
    return Exact(operations, initial).run()
