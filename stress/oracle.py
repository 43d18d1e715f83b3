"""What a client of the stress has done, as seen from outside.

Owns: the operations, their effect on a model, and the lines in which a client reports them over a pipe. The
pipe outlives the client, so that what it said before
it was killed is known.

Invariants:
- A client says what it is about to do (`I …`) before the call and that it was acknowledged (`A`) after it.
  So at its death at most one operation is open.
- Every state that the database may hold is `states()`: the acknowledged operations, with the open one done
  as a whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

KEYS = 150
GROUP = 5
ACCOUNTS = 8
MONEY = 10_000
"""What is in the accounts together, whatever is transferred."""
Model = dict[tuple[str, int, int], int]


@dataclass(frozen=True)
class Operation:
    """`set`, `delete`: one key of `single`. `group`: all keys of the client's group to one counter.
    `clear`: all of `single`. `count`: one more in the client's number. `transfer`: a transaction moves money
    between two accounts of all clients, and counts that for this client and for all.
    """

    kind: str
    index: int = 0
    counter: int = 0

    def apply(self, client: int, model: Model) -> Model:
        """The model after it."""
        changed = dict(model)
        if self.kind == "set":
            changed["single", client, self.index] = self.counter
        elif self.kind == "delete":
            changed.pop(("single", client, self.index), None)
        elif self.kind == "group":
            changed.update({("group", client, index): self.counter for index in range(GROUP)})
        elif self.kind in ("count", "transfer"):
            key = (self.kind, client, 0)
            changed[key] = changed.get(key, 0) + 1
        elif self.kind == "clear":
            changed = {key: counter for key, counter in changed.items() if key[0] != "single"}
        return changed

    def line(self) -> str:
        """As reported before the call."""
        return f"I {json.dumps([self.kind, self.index, self.counter])}\n"


@dataclass
class Oracle:
    """What one client has reported so far."""

    client: int
    model: Model = field(default_factory=dict)
    open: Operation | None = None
    acknowledged: int = 0
    reads: int = 0
    violations: list[str] = field(default_factory=list)

    def hear(self, line: str) -> None:
        """Takes one whole line of the client."""
        word, _, rest = line.rstrip("\n").partition(" ")
        if word == "I":
            self.open = Operation(*json.loads(rest))
        elif word == "A":
            assert self.open is not None
            self.model = self.open.apply(self.client, self.model)
            self.open = None
            self.acknowledged += 1
        elif word == "R":
            self.reads += int(rest)
        elif word == "V":
            self.violations.append(f"client {self.client}: {rest}")

    def states(self) -> list[Model]:
        """Every state that may be in the database."""
        return [self.model] if self.open is None else [self.model, self.open.apply(self.client, self.model)]


def value(key: Sequence[Any], counter: int) -> dict[str, Any]:
    """A value that names its own key, so that a reader who knows nothing else can tell a foreign or
    torn one.
    """
    return {"key": list(key), "counter": counter, "pad": "p" * (counter % 400)}


def accounts() -> dict[tuple[str, int], int]:
    """What all transfers begin with."""
    return {("account", number): MONEY // ACCOUNTS for number in range(ACCOUNTS)}


def bank_of(stored: dict[Any, Any]) -> list[str]:
    """What is wrong with all that transfers have written, at one point in time."""
    money = sum(value for key, value in stored.items() if key[0] == "account")
    transfers = sum(value for key, value in stored.items() if key[0] == "transfer")
    wrong = [] if money == MONEY else [f"the accounts hold {money} together, and not {MONEY}"]
    if stored.get(("transfers",), 0) != transfers:
        wrong.append(
            f"{transfers} transfers of all clients, and {stored.get(('transfers',), 0)} were counted"
        )
    return wrong


def counter_of(key: object, stored: object) -> int | str:
    """The counter of a stored value, or what is wrong with it."""
    if not isinstance(key, tuple) or not isinstance(stored, dict):
        return f"{key!r} holds {stored!r}"
    counter = stored.get("counter")
    if not isinstance(counter, int) or stored != value(key, counter):
        return f"{key!r} holds {stored!r}"
    return counter
