"""What the processes of the isolation tests do: each function works for some seconds and reports what it saw.

Owns: the workloads and the judgement of their reports. Invariant: a workload reads and writes through one
mapping only, so that the same code runs in a transaction of either isolation, and without any: the seeded
defects that show that a test can fail.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import memdb

ACCOUNTS, MONEY = 12, 1000
PAIRS = 2
SLOTS = 5
RING = 9
RETRIES = 100_000  # a workload measures nothing; whether somebody starves is a figure of the benchmarks


def attempt(db: memdb.Database, mode: str, step: Callable[[Any], Any]) -> Any:
    """One step: in a transaction of the isolation *mode*, or (``none``) call by call."""
    if mode == "none":
        return step(db)
    return db.transact(step, isolation=mode, retries=RETRIES)


def until(seconds: float) -> Iterator[int]:
    """Numbers, for so long."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        yield number
        number += 1


# ---------------------------------------------------------------------------------- a bank: lost updates,
# read skew


def fill_bank(db: memdb.Database) -> None:
    db.set_many({("account", n): MONEY for n in range(ACCOUNTS)})


def transfer(db: memdb.Database, seed: int, seconds: float, mode: str) -> int:
    """Money goes from one account to another; the number of transfers."""
    source, done = random.Random(seed), 0

    def step(view: Any) -> None:
        payer, payee = source.sample(range(ACCOUNTS), 2)
        amount = source.randrange(1, 20)
        here, there = view["account", payer], view["account", payee]
        os.sched_yield()
        view["account", payer] = here - amount
        view["account", payee] = there + amount

    for _ in until(seconds):
        attempt(db, mode, step)
        done += 1
    return done


def audit(db: memdb.Database, seed: int, seconds: float, mode: str) -> list[int]:
    """All totals seen: of a snapshot's range, of its points, or (``none``) of single reads."""
    seen = set()
    for _ in until(seconds):
        if mode == "none":
            seen.add(sum(db["account", n] for n in range(ACCOUNTS)))
            continue
        with db.snapshot() as snapshot:
            seen.add(sum(snapshot.values(prefix=("account",))))
            os.sched_yield()
            seen.add(sum(snapshot["account", n] for n in range(ACCOUNTS)))
    return sorted(seen)


# -------------------------------------------------------------------------------------------- on call: write
# skew


def fill_on_call(db: memdb.Database) -> None:
    db.set_many({("on call", pair, who): True for pair in range(PAIRS) for who in range(2)})


def leave_or_return(db: memdb.Database, seed: int, seconds: float, mode: str) -> int:
    """Whoever of a pair leaves sees that the other is on call; how often nobody was."""
    source, nobody = random.Random(seed), 0

    def step(view: Any) -> bool:
        pair, who = source.randrange(PAIRS), source.randrange(2)
        there = [view["on call", pair, one] for one in range(2)]
        os.sched_yield()
        if all(there):
            view["on call", pair, who] = False
        else:
            for one in range(2):
                if not there[one]:
                    view["on call", pair, one] = True
        return any(there)

    for _ in until(seconds):
        nobody += not attempt(db, mode, step)
    return nobody


# -------------------------------------------------------------------------------------------------- slots:
# phantoms


def take_slots(db: memdb.Database, seed: int, seconds: float, mode: str) -> int:
    """A slot is taken only while fewer than all are; the most that were ever seen taken."""
    source, most = random.Random(seed), 0

    def step(view: Any) -> int:
        taken = list(view.keys(prefix=("slot",)))
        os.sched_yield()
        if len(taken) < SLOTS:
            view["slot", source.randrange(1 << 40)] = seed
        else:
            for key in taken:
                del view[key]
        return len(taken)

    for _ in until(seconds):
        most = max(most, attempt(db, mode, step))
    return most


# --------------------------------------------------------------------------------------------------- the
# long fork


def count_up(db: memdb.Database, name: str, seconds: float) -> int:
    """One writer of one key."""
    number = 0
    for number in until(seconds):
        db["fork", name] = number
    return number


def see_both(db: memdb.Database, names: list[str], seconds: float, mode: str) -> list[tuple[int, ...]]:
    """What a reader sees of both keys, in its own order of reading."""
    seen = set()
    for _ in until(seconds):
        if mode == "none":
            found = {name: db["fork", name] for name in names}
        else:
            with db.transaction(isolation=mode) as tx:
                found = {name: tx["fork", name] for name in names}
        seen.add(tuple(found[name] for name in sorted(names)))
    return sorted(seen)


def forks(seen: list[tuple[int, ...]]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Pairs of states of which neither can have been before the other."""
    ordered = sorted(set(seen))
    return [(a, b) for a, b in pairwise(ordered) if b[1] < a[1]]


# ---------------------------------------------------------------------------------------------------------
# the ring


def fill_ring(db: memdb.Database) -> None:
    db.set_many({("ring", n): (n + 1) % RING for n in range(RING)})


def rewire(db: memdb.Database, seed: int, seconds: float, mode: str) -> int:
    """Turns a -> b -> c -> d into a -> c -> b -> d, somewhere in the ring; how often."""
    source, done = random.Random(seed), 0

    def step(view: Any) -> None:
        a = source.randrange(RING)
        b = view["ring", a]
        c = view["ring", b]
        d = view["ring", c]
        os.sched_yield()
        view["ring", a] = c
        view["ring", c] = b
        view["ring", b] = d

    for _ in until(seconds):
        attempt(db, mode, step)
        done += 1
    return done


def walk(view: Any) -> list[int]:
    """The ring from 0 on, until a key comes again."""
    seen, at = [0], view["ring", 0]
    while at not in seen:
        seen.append(at)
        at = view["ring", at]
    return seen


def watch_ring(db: memdb.Database, seed: int, seconds: float, mode: str) -> list[list[int]]:
    """Every walk, in snapshots, that was not one cycle over all keys."""
    broken = []
    for _ in until(seconds):
        with db.snapshot() as snapshot:
            seen = walk(snapshot)
            if len(seen) != RING or snapshot["ring", seen[-1]] != 0:
                broken.append(seen)
    return broken[:5]


# ------------------------------------------------------------------------------------------------------
# exactly once


Counted = tuple[dict[str, int], dict[Any, int]]


def count(db: memdb.Database, seed: int, seconds: float, mode: str) -> Counted:
    """Adds to numbers in every way there is; how often each was acknowledged, and what pipelines left."""
    done = {"increment": 0, "modify": 0, "compare_and_set": 0, "transact": 0, "pipeline": 0}
    left: dict[Any, int] = {}

    def step(tx: Any) -> None:
        tx["count", "transact"] = tx.get(("count", "transact"), 0) + 1

    for number in until(seconds):
        kind = list(done)[number % len(done)]
        key = ("count", kind)
        if kind == "increment":
            db.increment(key)
        elif kind == "modify":
            db.modify(key, _add_one, 0)
        elif kind == "compare_and_set":
            old = db.get(key, memdb.MISSING)
            while not db.compare_and_set(key, old, 1 if old is memdb.MISSING else old + 1):
                old = db.get(key, memdb.MISSING)
        elif kind == "transact":
            attempt(db, "serializable", step)
        else:
            pairs = {("piped", seed, number % 500, n): number for n in range(5)}
            with db.pipeline() as pipeline:
                for one, value in pairs.items():
                    pipeline.set(one, value)
            left |= pairs
        done[kind] += 1
    return done, left


def count_by_hand(db: memdb.Database, seed: int, seconds: float, mode: str) -> int:
    """What `db["n"] += 1` does, and the manual warns of."""
    done = 0
    for _ in until(seconds):
        value = db.get(("count", "hand"), 0)
        os.sched_yield()
        db["count", "hand"] = value + 1
        done += 1
    return done


def _add_one(value: int) -> int:
    return value + 1
