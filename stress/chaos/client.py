"""A writing client of the chaos: ``python -m stress.chaos.client DIRECTORY NUMBER SEED LEVELS TIMEOUT``.

Owns: the writes of one region and the checks of its own reads. It tells stdout what it is about to do and
what became of it (see oracle.py), in one ``write`` a line, so that a line is in the pipe as a whole or not at
all.

Invariants:

* Any error of the engine is a violation, but for Timeout and OutcomeUnknown where TIMEOUT is short: the first
  is certainly not done, the second is settled by ``db.outcome``.
* It ends when its stdin is closed, or by SIGKILL at any instruction.
"""

from __future__ import annotations

import os
import random
import select
import sys
import threading
import traceback
from time import monotonic, monotonic_ns

import memdb
from stress.chaos.operations import (
    ACCOUNTS,
    GROUP,
    LEVELS,
    SINGLES,
    TTL_SLOTS,
    VOLATILE,
    Level,
    Model,
    Operation,
    counter_in,
    key_of,
    open_database,
    value,
)

__all__ = ["main", "say"]

_WEIGHTS = {
    "set": 40, "delete": 8, "delete_many": 3, "many": 5, "pipeline": 5, "swap": 6, "group": 8, "clear": 1,
    "count": 7, "transfer": 8, "tally": 3, "volatile": 5, "ttl": 4, "modify": 4, "cas": 4,
}  # fmt: skip
TTLS = (0.3, 0.8, 2.0)
_SETTLE_SECONDS = 60.0


def say(kind: str, text: str = "") -> None:
    """One line: kind, the monotonic nanoseconds, and the rest."""
    os.write(1, f"{kind} {monotonic_ns()} {text}\n".encode())


def levels_of(text: str) -> tuple[Level, ...]:
    """Of their names with commas between them."""
    return tuple(one for one in LEVELS if one in text.split(","))


class Client:
    """The operations of one client, and the model of its region."""

    def __init__(
        self, database: memdb.Database, number: int, seed: int, levels: tuple[Level, ...], hasty: bool
    ) -> None:
        self._db, self._number, self._hasty = database, number, hasty
        self._random = random.Random(seed)
        self._levels, self._level = levels, levels[0]
        self._left = 0  # operations until another level is chosen: a full one makes all before it durable
        self._model: Model = {}
        self._counter = 0
        self._pause = threading.Event()

    def obey(self, line: str) -> None:
        """``L levels``: no other levels from now on, which is confirmed."""
        self._levels, self._left = levels_of(line.split()[1]), 0
        say("L", ",".join(self._levels))

    def write(self) -> None:
        """One operation, announced before and confirmed after."""
        operation = self._choose()
        say("I", operation.line())
        try:
            self._perform(operation)
        except (memdb.Timeout, memdb.OpenTimeout):  # the latter: no group could be joined in time to ask
            if not self._hasty:
                raise
            say("N")
            return
        except memdb.OutcomeUnknown as error:
            if not self._hasty:
                raise
            if not self._settled(error):
                say("N")
                return
        say("A")
        operation.apply(self._model)

    def _choose(self) -> Operation:
        choose = self._random
        kind = choose.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))[0]
        if kind == "pipeline" and self._hasty:
            kind = "many"
        several = {"many": 8, "delete_many": 4, "pipeline": 12, "swap": 2}.get(kind, 1)
        index = choose.sample(range(SINGLES), several)
        if kind == "pipeline":
            index = [one if choose.random() < 0.7 else ~one for one in index]
        elif kind == "ttl":
            index = [choose.randrange(TTL_SLOTS), choose.randrange(len(TTLS))]
        self._counter += 1
        if self._left == 0:
            self._level, self._left = choose.choice(self._levels), choose.randint(1, 150)
        self._left -= 1
        level: Level = "memory" if kind == "volatile" else self._level
        return Operation(kind, tuple(index), self._counter, level)

    def _settled(self, error: memdb.OutcomeUnknown) -> bool:
        """Was it done? It must be known in a minute."""
        until = monotonic() + _SETTLE_SECONDS
        assert error.id is not None
        while (done := self._outcome(error.id)) is None:
            if monotonic() > until:
                say("V", f"the outcome of {error.id!r} is not known after {_SETTLE_SECONDS:g} s")
                raise error
            self._pause.wait(0.003)  # it is a question that is asked again, not a wait for an event
        say("O", str(done))
        return done

    def _outcome(self, id: bytes) -> bool | None:
        try:
            return self._db.outcome(id)
        except memdb.OpenTimeout:  # no group to be asked in this client's hasty time
            return None

    def _perform(self, operation: Operation) -> None:
        kind, number, counter = operation.kind, self._number, operation.counter
        level = operation.level
        first = key_of(number, "s", operation.index[0] if operation.index[0] >= 0 else 0)
        if kind == "set":
            self._db.set(first, value(number, "s", operation.index[0], counter), durability=level)
        elif kind == "modify":
            self._db.modify(
                first,
                lambda _: value(number, "s", operation.index[0], counter),
                default=b"",
                durability=level,
            )
        elif kind == "cas":
            old = self._stored("s", operation.index[0])
            new = value(number, "s", operation.index[0], counter)
            if not self._db.compare_and_set(
                first, memdb.MISSING if old is None else old, new, durability=level
            ):
                say("V", f"compare_and_set of {first} found another value than {self._of(first)}")
        elif kind == "delete":
            self._expect(
                kind,
                first,
                self._db.delete(first, durability=level),
                ("s", operation.index[0]) in self._model,
            )
        elif kind == "delete_many":
            keys = [key_of(number, "s", one) for one in operation.index]
            there = sum(("s", one) in self._model for one in operation.index)
            self._expect(kind, first, self._db.delete_many(keys, durability=level), there)
        elif kind == "many":
            pairs = {key_of(number, "s", one): value(number, "s", one, counter) for one in operation.index}
            self._db.set_many(pairs, durability=level)
        elif kind == "group":
            pairs = {key_of(number, "g", one): value(number, "g", one, counter) for one in range(GROUP)}
            self._db.set_many(pairs, durability=level)
        elif kind == "volatile":
            pairs = {key_of(number, "v", one): value(number, "v", one, counter) for one in range(VOLATILE)}
            self._db.set_many(pairs, durability=level)
        elif kind == "ttl":
            slot, which = operation.index
            bytes_ = value(number, "t", slot, counter)
            self._db.set(key_of(number, "t", slot), bytes_, ttl=TTLS[which], durability=level)
        elif kind == "clear":
            self._db.delete_range(prefix=("c", number, "s"), durability=level)
        elif kind == "count":
            key = key_of(number, "n", 0)
            self._expect(
                kind, key, self._db.increment(key, durability=level), self._model.get(("n", 0), 0) + 1
            )
        elif kind == "tally":
            self._db.increment(("tally",), durability=level)
        elif kind == "pipeline":
            self._pipeline(operation)
        else:
            change = self._transfer if kind == "transfer" else lambda tx: self._swap(tx, operation)
            self._db.transact(change, retries=10_000, durability=level)

    def _pipeline(self, operation: Operation) -> None:
        with self._db.pipeline(durability=operation.level) as pipeline:
            for one in operation.index:
                if one >= 0:
                    stored = value(self._number, "s", one, operation.counter)
                    pipeline.set(key_of(self._number, "s", one), stored)
                else:
                    pipeline.delete(key_of(self._number, "s", ~one))

    def _swap(self, tx: memdb.Transaction, operation: Operation) -> None:
        gone, new = operation.index
        tx.delete(key_of(self._number, "s", gone))
        tx[key_of(self._number, "s", new)] = value(self._number, "s", new, operation.counter)

    def _transfer(self, tx: memdb.Transaction) -> None:
        payer, payee = self._random.sample(range(ACCOUNTS), 2)
        amount = self._random.randrange(100)
        tx["account", payer] -= amount
        tx["account", payee] += amount
        own = key_of(self._number, "x", 0)
        tx[own] = tx.get(own, 0) + 1
        tx.increment(("transfers",))

    # ---------------------------------------------------------------------------------------------- reading

    def _stored(self, kind: str, index: int) -> bytes | None:
        counter = self._model.get((kind, index))
        return None if counter is None else value(self._number, kind, index, counter)

    def _of(self, key: tuple[str, int, str, int]) -> int | None:
        return self._model.get((key[2], key[3]))

    def _expect(self, what: str, key: object, found: object, expected: object) -> None:
        if found != expected:
            say("V", f"{what} of {key} says {found}, and not {expected}")

    def look(self) -> None:
        """Reads its own region; a hasty client may meet a change of arenas that takes longer."""
        try:
            self.read_own()
        except memdb.OpenTimeout:
            if not self._hasty:
                raise

    def read_own(self) -> None:
        """What was acknowledged to me is what I read."""
        for index in self._random.sample(range(SINGLES), 10):
            key = key_of(self._number, "s", index)
            if self._db.get(key) != self._stored("s", index):
                say("V", f"{key} reads {_told(key, self._db.get(key))}, written was {self._of(key)}")
        found = {
            (key[2], key[3]): counter_in(key, stored)
            for kind in "gsnx"
            for key, stored in self._db.range(prefix=("c", self._number, kind))
        }
        if found != self._model:
            missing = {key: one for key, one in self._model.items() if found.get(key) != one}
            extra = {key: one for key, one in found.items() if self._model.get(key) != one}
            say("V", f"my own region: written {missing}, read {extra}")


def _told(key: tuple[str, int, str, int], stored: object) -> object:
    counter = None if stored is None else counter_in(key, stored)
    return stored if stored is not None and counter is None else counter


def main() -> None:
    """See the module."""
    directory, number, seed, levels, timeout = sys.argv[1:]
    try:
        with open_database(directory, float(timeout)) as database:
            client = Client(database, int(number), int(seed), levels_of(levels), hasty=float(timeout) < 10)
            say("L", levels)
            rounds = 0
            while True:
                if select.select([sys.stdin], [], [], 0)[0]:
                    line = sys.stdin.readline()
                    if not line:
                        break
                    client.obey(line)
                client.write()
                rounds += 1
                if rounds % 20 == 0:
                    client.look()
    except memdb.Error as error:
        where = "".join(traceback.format_tb(error.__traceback__)[-2:]).replace("\n", " ").strip()
        say("V", f"{type(error).__name__}: {error} [{where}]".replace("\n", " "))
        raise


if __name__ == "__main__":
    main()
