"""A client of the stress: `python -m stress.client DIRECTORY NUMBER SEED`. Writes its own keys, reads
everybody's, reports to stdout (see oracle.py).

Ends when its stdin is closed, or by SIGKILL at any instruction. Any error of the engine is a violation:
whoever dies, a caller sees a delay at most.
"""

from __future__ import annotations

import os
import random
import select
import sys
import traceback

import memdb
from stress.oracle import ACCOUNTS, GROUP, KEYS, Model, Operation, bank_of, counter_of, value

BANK = ("account", "transfer", "transfers")


class Client:
    """The operations of one client, and the model of its own keys."""

    def __init__(self, database: memdb.Database, number: int, seed: int) -> None:
        self._db = database
        self._number = number
        self._random = random.Random(seed)
        self._model: Model = {}
        self._counter = 0

    def write(self) -> None:
        """One operation, announced before and confirmed after."""
        self._counter += 1
        kind = self._random.choices(
            ("set", "delete", "group", "count", "transfer", "clear"), weights=(55, 12, 11, 9, 12, 1)
        )[0]
        operation = Operation(kind, self._random.randrange(KEYS), self._counter)
        say(operation.line())
        self._perform(operation)
        say("A\n")
        self._model = operation.apply(self._number, self._model)

    def _perform(self, operation: Operation) -> None:
        key = ("single", self._number, operation.index)
        if operation.kind == "set":
            self._db[key] = value(key, operation.counter)
        elif operation.kind == "delete":
            existed = self._db.delete(key)
            if existed != (key in self._model):
                say(f"V delete of {key} says {existed}\n")
        elif operation.kind == "group":
            keys = [("group", self._number, index) for index in range(GROUP)]
            self._db.set_many({key: value(key, operation.counter) for key in keys})
        elif operation.kind == "count":
            number, key = self._db.increment(("count", self._number, 0)), ("count", self._number, 0)
            if number != self._model.get(key, 0) + 1:
                say(f"V increment of {key} says {number}, after {self._model.get(key, 0)}\n")
        elif operation.kind == "transfer":
            self._db.transact(self._transfer, retries=10_000)
        else:
            self._db.delete_range(prefix=("single", self._number))

    def _transfer(self, tx: memdb.Transaction) -> None:
        payer, payee = self._random.sample(range(ACCOUNTS), 2)
        amount = self._random.randrange(100)
        tx["account", payer] -= amount
        tx["account", payee] += amount
        own = ("transfer", self._number, 0)
        tx[own] = tx.get(own, 0) + 1
        tx.increment(("transfers",))

    def read_own(self) -> None:
        """What was acknowledged to me is what I read."""
        for _ in range(20):
            key = ("single", self._number, self._random.randrange(KEYS))
            stored = self._db.get(key)
            found = None if stored is None else counter_of(key, stored)
            if found != self._model.get(key):
                say(f"V {key} reads {found}, written was {self._model.get(key)}\n")
        own = {
            key: counter_of(key, stored) for key, stored in self._db.range(prefix=("single", self._number))
        }
        if own != {key: counter for key, counter in self._model.items() if key[0] == "single"}:
            say("V a range over my own keys differs from what I wrote\n")

    def read_all(self) -> None:
        """At one point in time every group is whole and every value belongs to its key."""
        groups: dict[int, list[int | str]] = {}
        with self._db.snapshot() as snapshot:
            for key, stored in snapshot.range(prefix=("group",)):
                groups.setdefault(key[1], []).append(counter_of(key, stored))
            bank = {key: stored for kind in BANK for key, stored in snapshot.range(prefix=(kind,))}
            again = {key: counter_of(key, stored) for key, stored in snapshot.range(prefix=("group",))}
        for problem in bank_of(bank):
            say(f"V {problem}\n")
        for client, counters in groups.items():
            if len(counters) != GROUP or len(set(counters)) != 1 or isinstance(counters[0], str):
                say(f"V the group of client {client} is not whole: {counters}\n")
        if len(again) != sum(map(len, groups.values())):
            say("V a snapshot changed between two reads\n")
        say(f"R {2 * len(again)}\n")


def say(line: str) -> None:
    """One write, so that a line is in the pipe as a whole or not at all."""
    os.write(1, line.encode()[:4000])


def main() -> None:
    """See the module."""
    directory, number, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        with memdb.open(directory, create=False, timeout=60.0, open_timeout=60.0) as database:
            client = Client(database, number, seed)
            rounds = 0
            while not select.select([sys.stdin], [], [], 0)[0]:
                client.write()
                rounds += 1
                if rounds % 10 == 0:
                    client.read_own()
                if rounds % 50 == 0:
                    client.read_all()
    except memdb.Error as error:
        where = "".join(traceback.format_tb(error.__traceback__)[-1:]).replace("\n", " ").strip()
        say(f"V {type(error).__name__}: {error} [{where}]\n")
        raise


if __name__ == "__main__":
    main()
