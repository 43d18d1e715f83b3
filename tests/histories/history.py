"""What a client did and saw: the one form that all checkers of histories read.

Owns: ``Operation``, and the overlay in which its steps are run again. Knows nothing of the engine, so that a
checker can be tried on a history written by hand.

Invariants:

* Values are unique where a checker needs it: nobody stores one text in a register twice, no item is appended
  to two lists or twice to one.
* Times are of one monotonic clock for all processes; ``begun`` is taken before the call, ``ended`` after it.
* A step is a list: its name, then its arguments, then what was answered. They are run in their order, each
  seeing the writes of those before it:

  ====================================  =============================================================
  ``get key value``                     None stands for absence, here and below
  ``range start stop limit pairs``      ``pairs``: [key, value] in key order; ``limit`` None: all of them
  ``count start stop number``
  ``set key value``
  ``delete key existed``
  ``clear start stop number``           delete_range
  ``add key by result``                 increment
  ``swap key expected new done``        compare_and_set
  ``append key item``                   to the list under the key: a read and a write
  ====================================  =============================================================

  An answer of "?" was never heard: the client died, or had to ask for the outcome.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["UNHEARD", "WRITES", "Operation", "Overlay", "has_effect", "run_steps"]

UNHEARD = "?"
Step = list[Any]
Lookup = Callable[[str], Any]
Scan = Callable[[str, str], Iterable[tuple[str, Any]]]

WRITES = frozenset({"set", "delete", "clear", "add", "swap", "append"})


@dataclass(slots=True)
class Operation:
    """One call, one transaction, or one snapshot, of one client."""

    client: int
    number: int
    kind: str
    """``call``, ``transaction`` or ``snapshot``."""
    begun: int
    ended: int | None
    """None: the client died meanwhile."""
    outcome: str
    """``ok``, ``conflict``, ``not done``, or ``open``: nobody was told."""
    steps: list[Step] = field(default_factory=list)
    isolation: str = "serializable"
    at: int | None = None
    """The LSN that its snapshot sees."""
    lsn: int | None = None
    """The LSN of its commit."""
    low: int | None = None
    """Of a single read: an LSN that was published before it began."""
    high: int | None = None
    """Of a single read: the LSN that was published when it had ended."""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.kind} {self.client}.{self.number}"


class Overlay:
    """A state, and the changes of one transaction on top of it."""

    def __init__(self, lookup: Lookup, scan: Scan) -> None:
        self._lookup, self._scan = lookup, scan
        self.changes: dict[str, Any] = {}
        """New values by key; None: deleted."""
        self.cleared: list[tuple[str, str]] = []

    def get(self, key: str) -> Any:
        """The value, or None."""
        return self.changes[key] if key in self.changes else self._lookup(key)

    def put(self, key: str, value: Any) -> None:
        """A new value; None deletes."""
        self.changes[key] = value

    def items(self, start: str, stop: str) -> Iterator[tuple[str, Any]]:
        """In key order."""
        own = sorted(key for key in self.changes if start <= key < stop)
        below = [pair for pair in self._scan(start, stop) if pair[0] not in self.changes]
        for key in own:
            if self.changes[key] is not None:
                at = bisect_left(below, key, key=lambda pair: pair[0])
                below.insert(at, (key, self.changes[key]))
        return iter(below)


def run_steps(steps: Iterable[Step], state: Overlay) -> list[str]:
    """Runs the steps; what was answered otherwise than the state says, one text each."""
    wrong = []
    for step in steps:
        told, answer = step[-1], _run(step, state)
        if step[0] not in ("set", "append") and told != UNHEARD and told != answer:
            wrong.append(f"{step[0]} {step[1:-1]} answered {told!r}, and {answer!r} is right")
    return wrong


def _run(step: Step, state: Overlay) -> Any:
    match step:
        case ["get", key, _]:
            return state.get(key)
        case ["range", start, stop, limit, _]:
            return [list(pair) for pair in state.items(start, stop)][:limit]
        case ["count", start, stop, _]:
            return sum(1 for _ in state.items(start, stop))
        case ["set", key, value]:
            state.put(key, value)
        case ["append", key, item]:
            state.put(key, [*(state.get(key) or ()), item])
        case ["delete", key, _]:
            if state.get(key) is None:
                return False  # a read, and no write
            state.put(key, None)
            return True
        case ["clear", start, stop, _]:
            gone = [key for key, _ in state.items(start, stop)]
            if gone:  # else it is a read, and no write
                state.cleared.append((start, stop))
            for key in gone:
                state.put(key, None)
            return len(gone)
        case ["add", key, by, _]:
            total = (state.get(key) or 0) + by
            state.put(key, total)
            return total
        case ["swap", key, expected, new, _]:
            if state.get(key) != expected:
                return False
            state.put(key, new)
            return True
        case _:
            raise ValueError(f"no such step: {step!r}")
    return None


def has_effect(operation: Operation) -> bool:
    """Does it say that it has changed something?"""
    for step in operation.steps:
        if step[0] in ("set", "add", "append") or (step[0] in WRITES and step[-1] not in (False, 0, UNHEARD)):
            return True
    return False
