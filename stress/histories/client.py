"""A client that writes down what it does: ``python -m stress.histories.client`` and, in this order,
directory, file, number, seed, levels with commas between them, time-out in seconds.

Owns: the workload and the lines of its file. Invariants:

* One line is one ``write``, so that a kill leaves whole lines, and what was written outlives the writer.
* Before anything is sent that may change the database, the file says what it is (``P``); afterwards, what
  became of it (``E``). An operation of which only the first is there died under way; only OutcomeUnknown
  leaves one open, until it is settled: whatever else is raised, it was not done.
* It ends when its stdin is closed, or by SIGKILL at any instruction.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import threading
from collections.abc import Callable
from time import monotonic, monotonic_ns
from typing import Any

from histories.history import UNHEARD

import memdb

__all__ = ["main"]

_SETTLE_SECONDS = 60.0
_FULL = 40
"""Items of a list, after which all go over to other lists, registers and counters: none gets long."""
_LISTS, _REGISTERS, _COUNTERS, _THINGS = 4, 2, 2, 40
_HASTY_SECONDS = 5.0
_ABOVE_ALL = 1 << 62
_encode = json.JSONEncoder(separators=(",", ":")).encode
Step = list[Any]


class Client:
    """One thing after another, all of it written down."""

    def __init__(
        self, database: memdb.Database, file: int, number: int, seed: int, levels: list[str]
    ) -> None:
        self._db, self._file, self._client = database, file, number
        self._random = random.Random(seed)
        self._levels = levels
        self._number = self._items = self._era = 0
        self._full = False
        self._id = b""
        self._values: dict[str, Any] = {}
        """What registers were last seen to hold, to be swapped."""
        self._pause = threading.Event()
        kinds: dict[Callable[[], None], int] = {
            self._list_transaction: 30,
            self._thing_transaction: 14,
            self._booking: 14,
            self._snapshot: 9,
            self._list_append: 4,
            self._register: 14,
            self._counter: 10,
            self._thing_call: 10,
        }
        self._kinds, self._weights = list(kinds), list(kinds.values())

    def act(self) -> None:
        """One operation."""
        self._number += 1
        self._era = self._db.get("E", 0)
        if self._full:
            self._full = False
            era, level = self._era + 1, self._level()
            self._call([["set", "E", era]], lambda: [self._db.set("E", era, durability=level) and era])
        else:
            self._random.choices(self._kinds, self._weights)[0]()

    # ------------------------------------------------------------------------------------------------- lines

    def _say(self, line: dict[str, Any]) -> None:
        os.write(self._file, (_encode(line) + "\n").encode())

    def _say_who(self) -> None:
        """Under which name the engine knows this process now."""
        now = self._db._attachment.client.client_id
        if now != self._id:
            self._id = now
            self._say({"C": now.hex()})

    def _fresh(self) -> str:
        self._items += 1
        return f"{self._client}.{self._items}"

    def _level(self) -> Any:
        return self._random.choice(self._levels)

    # ---------------------------------------------------------------------------------------- single calls

    def _call(self, steps: list[Step], call: Callable[[], list[Any]]) -> list[Any] | None:
        """A call whose answers to *steps* are what *call* returns; None if it was not done, or unheard."""
        self._say_who()
        begun, low = monotonic_ns(), self._db.lsn
        self._say({"P": self._number, "k": "call", "b": begun, "low": low, "s": steps})
        try:
            answers = call()
        except memdb.Timeout:
            self._end("not done")
            return None
        except memdb.OpenTimeout:
            self._end("not done")
            raise
        except memdb.OutcomeUnknown as error:
            self._end(self._settle(error), settled=1)
            return None
        ended = monotonic_ns()
        self._end("ok", ended=ended, answers=answers)
        return answers

    def _end(self, outcome: str, *, ended: int = 0, answers: Any = None, **more: Any) -> None:
        line = {"E": self._number, "e": ended or monotonic_ns(), "o": outcome, "high": self._high(), **more}
        if answers is not None:
            line["a"] = answers
        self._say(line)
        self._say_who()

    def _high(self) -> int:
        """What is published now. Where no group could be joined in time to say it, above all: that it was
        acknowledged has to be written down all the same."""
        try:
            return self._db.lsn
        except (memdb.Timeout, memdb.OpenTimeout):
            return _ABOVE_ALL

    def _outcome(self, id: bytes) -> bool | None:
        try:
            return self._db.outcome(id)
        except (memdb.Timeout, memdb.OpenTimeout):  # no group to be asked in a hasty client's time
            return None

    def _settle(self, error: memdb.OutcomeUnknown) -> str:
        assert error.id is not None
        until = monotonic() + _SETTLE_SECONDS
        while (done := self._outcome(error.id)) is None:
            if monotonic() > until:
                raise error
            self._pause.wait(0.003)  # it is a question that is asked again, not a wait for an event
        return "ok" if done else "not done"

    def _list(self, number: int | None = None) -> str:
        return f"L{self._era}.{self._random.randrange(_LISTS) if number is None else number}"

    def _list_append(self) -> None:
        key, item, db = self._list(), self._fresh(), self._db
        level = self._level()

        def call() -> list[Any]:
            db.modify(key, lambda old: [*old, item], default=[], durability=level)
            return [item]

        self._call([["append", key, item]], call)

    def _register(self) -> None:
        key, db = f"R{self._era}.{self._random.randrange(_REGISTERS)}", self._db
        kind = self._random.choices(("get", "set", "swap", "delete"), (40, 30, 25, 5))[0]
        level = self._level()
        if kind == "get":
            answers = self._call([["get", key, UNHEARD]], lambda: [db.get(key)])
            self._values[key] = answers[0] if answers else None
            return
        new = self._fresh()
        if kind == "set":
            self._call([["set", key, new]], lambda: [db.set(key, new, durability=level) and new])
        elif kind == "delete":
            self._call([["delete", key, UNHEARD]], lambda: [db.delete(key, durability=level)])
        else:
            old = self._values.get(key)
            expected = memdb.MISSING if old is None else old
            self._call(
                [["swap", key, old, new, UNHEARD]],
                lambda: [db.compare_and_set(key, expected, new, durability=level)],
            )
        if len(self._values) > 50:
            self._values.clear()

    def _counter(self) -> None:
        key, db = f"C{self._era}.{self._random.randrange(_COUNTERS)}", self._db
        if self._random.random() < 0.25:
            self._call([["get", key, UNHEARD]], lambda: [db.get(key)])
            return
        by, level = self._random.randrange(1, 5), self._level()
        self._call([["add", key, by, UNHEARD]], lambda: [db.increment(key, by, durability=level)])

    def _thing(self) -> str:
        return f"M{self._random.randrange(_THINGS):02}"

    def _range(self) -> tuple[str, str]:
        start = self._random.randrange(_THINGS)
        return f"M{start:02}", f"M{min(start + self._random.randrange(1, 9), _THINGS):02}"

    def _thing_call(self) -> None:
        kind = self._random.choices(("set", "many", "delete", "clear", "get"), (30, 30, 15, 10, 15))[0]
        db, level, key, value = self._db, self._level(), self._thing(), self._fresh()
        if kind == "set":
            self._call([["set", key, value]], lambda: [db.set(key, value, durability=level) and value])
        elif kind == "many":
            pairs = dict.fromkeys(sorted({self._thing() for _ in range(5)}), value)

            def call() -> list[Any]:
                db.set_many(pairs, durability=level)
                return [value] * len(pairs)

            self._call([["set", key, value] for key in pairs], call)
        elif kind == "delete":
            self._call([["delete", key, UNHEARD]], lambda: [db.delete(key, durability=level)])
        elif kind == "clear":
            start, stop = self._range()
            self._call(
                [["clear", start, stop, UNHEARD]], lambda: [db.delete_range(start, stop, durability=level)]
            )
        else:
            self._call([["get", key, UNHEARD]], lambda: [db.get(key)])

    # ------------------------------------------------------------------------------- transactions, snapshots

    def _run(self, step: Step, target: Any) -> None:
        """One step in a transaction or snapshot; its answer is added to it."""
        match step:
            case ["get", key]:
                found = target.get(key)
                self._full |= isinstance(found, list) and len(found) >= _FULL
                step.append(found)
            case ["range", start, stop, limit]:
                step.append([list(pair) for pair in target.range(start, stop, limit=limit)])
            case ["count", start, stop]:
                step.append(len(target.keys(start=start, stop=stop)))
            case ["set", key, value]:
                target.set(key, value)
            case ["append", key, item]:
                target.set(key, [*target.get(key, ()), item])
            case ["delete", key]:
                step.append(target.delete(key))
            case ["clear", start, stop]:
                step.append(target.delete_range(start, stop))
            case ["add", key, by]:
                step.append(target.increment(key, by))

    def _let_others_come(self, share: float) -> None:
        """Between a snapshot and its use, now and then."""
        if self._random.random() < share:
            os.sched_yield()

    def _transaction(self, steps: list[Step]) -> None:
        isolation: Any = self._random.choice(("serializable", "serializable", "snapshot"))
        gives_up = self._random.random() < 0.03
        self._say_who()
        begun = monotonic_ns()
        tx = self._db.transaction(isolation=isolation, durability=self._level())
        line = {"P": self._number, "k": "transaction", "b": begun, "i": isolation, "at": tx.lsn, "s": steps}
        self._let_others_come(0.3)
        for at, step in enumerate(steps):
            try:
                self._run(step, tx)
            except memdb.SnapshotExpired:  # two generations old, or for want of memory: it may not go on
                tx.abort()
                line["s"] = steps[:at]
                gives_up = True
                break
        self._let_others_come(0.2)
        self._say(line)
        if gives_up:
            tx.abort()
            self._end("conflict")
            return
        try:
            tx.commit()
        except memdb.ConflictError:
            self._end("conflict")
        except memdb.Timeout:
            self._end("not done")
        except memdb.OpenTimeout:
            self._end("not done")
            raise
        except memdb.OutcomeUnknown as error:
            self._end(self._settle(error), settled=1)
        else:
            self._end("ok", ended=monotonic_ns(), lsn=tx.commit_lsn)

    def _list_transaction(self) -> None:
        choose = self._random
        lists = [f"L{self._era}.{one}" for one in choose.sample(range(_LISTS), choose.randrange(1, 4))]
        steps: list[Step] = [["get", key] for key in lists]
        for key in choose.sample(lists, choose.choice((0, 1, 1, min(2, len(lists))))):
            steps.append(["append", key, self._fresh()])
            if choose.random() < 0.1:
                steps.append(["append", key, self._fresh()])
            if choose.random() < 0.2:
                steps.append(["get", key])
        self._transaction(steps)

    def _thing_transaction(self) -> None:
        choose = self._random
        steps: list[Step] = []
        written: set[str] = set()
        for _ in range(choose.randrange(2, 6)):
            kind = choose.choices(
                ("get", "range", "count", "set", "delete", "clear", "add"), (20, 14, 8, 30, 8, 4, 10)
            )[0]
            start, stop = self._range()
            key = self._thing()
            if kind == "range":
                steps.append([kind, start, stop, choose.choice((None, 1, 2, 4))])
            elif kind in ("count", "clear"):
                steps.append([kind, start, stop])
            elif kind == "get":
                steps.append([kind, key])
            elif kind == "add":
                steps.append([kind, f"N{choose.randrange(3)}", choose.randrange(1, 5)])
            elif kind == "set":
                written.add(key)
                steps.append([kind, key, self._fresh()])
            elif key not in written:
                steps.append([kind, key])
        self._transaction(steps)

    def _booking(self) -> None:
        """Looks at all of a row, and takes or leaves one place in it: each is news to all who looked."""
        row = self._random.randrange(_THINGS // 10)
        place = f"M{row}{self._random.randrange(10)}"
        look: Step = ["count" if self._random.random() < 0.5 else "range", f"M{row}", f"M{row}:"]
        steps: list[Step] = [look if look[0] == "count" else [*look, None]]
        steps.append(["set", place, self._fresh()] if self._random.random() < 0.6 else ["delete", place])
        self._transaction(steps)

    def _snapshot(self) -> None:
        self._say_who()
        steps: list[Step] = [["get", self._list(one)] for one in range(_LISTS)]
        steps += [["range", "M", "N", None], ["count", *self._range()], ["get", "N0"]]
        self._random.shuffle(steps)
        begun = monotonic_ns()
        done = 0
        with self._db.snapshot() as snapshot:
            at = snapshot.lsn
            self._let_others_come(0.6)
            try:
                for step in steps:
                    self._run(step, snapshot)
                    done += 1
            except memdb.SnapshotExpired:
                pass
        self._say({"P": self._number, "k": "snapshot", "b": begun, "at": at, "s": steps[:done]})
        self._end("ok")


def main() -> None:
    """See the module."""
    directory, path, number, seed, levels, timeout = sys.argv[1:]
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with memdb.open(directory, open_timeout=60.0, timeout=float(timeout)) as database:
        client = Client(database, file, int(number), int(seed), levels.split(","))
        client._say_who()
        rounds = 0
        while rounds % 16 or not select.select([sys.stdin], [], [], 0)[0]:
            try:
                client.act()
            except memdb.OpenTimeout:  # hasty, and no group could be joined in time
                if float(timeout) >= _HASTY_SECONDS:
                    raise
            rounds += 1
    os.close(file)


if __name__ == "__main__":
    main()
