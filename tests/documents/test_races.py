"""Random calls of threads beside builds, drops and renames: indexes equal their collection afterwards."""

import contextlib
import os
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from documents.conftest import Collection

import memdb
from memdb.documents import building

REFUSALS = (memdb.DuplicateKeyError, memdb.ConflictError, memdb.IndexMismatch, KeyError, ValueError)
VALUES = [0, 1, 2, 3, [0, 1], [2, 3], [1, 3]]
Work = Callable[[random.Random], None]


def write(rng: random.Random, people: Collection, tx: memdb.Transaction | None) -> None:
    """One call of few documents and values, so that they meet."""
    id, n, ttl = rng.randrange(8), rng.choice(VALUES), rng.choice([None, None, 3600, 7200, 0.02])
    calls: list[Callable[[], Any]] = [
        lambda: people.insert({"_id": id, "n": n, "m": rng.randrange(3)}, ttl=ttl, tx=tx),
        lambda: people.insert_many([{"n": rng.randrange(4)} for _ in range(2)], ttl=ttl, tx=tx),
        lambda: people.update(id, {"n": n}, tx=tx),
        lambda: people.update(id, {"n": n}, ttl=ttl, tx=tx),
        lambda: people.update(id, {"m": 5}, upsert=True, ttl=ttl, tx=tx),
        lambda: people.update_many([(rng.randrange(8), {"n": rng.choice(VALUES)}) for _ in range(3)], tx=tx),
        lambda: people.update_where({"n": rng.randrange(4)}, {"$set": {"n": n}}, tx=tx),
        lambda: people.replace(id, {"n": n}, upsert=True, ttl=ttl, tx=tx),
        lambda: people.delete(id, tx=tx),
        lambda: people.delete_where({"n": rng.randrange(4)}, tx=tx),
    ]
    rng.choice(calls)()


def define(rng: random.Random, engine: memdb.Database, people: Collection) -> None:
    unique, isolation = rng.random() < 0.5, rng.choice(["snapshot", "serializable"])
    choice = rng.random()
    if choice < 0.5:
        people.create_index("n", name="unique" if unique else "n", unique=unique)
    elif choice < 0.7:
        with engine.transaction(isolation=isolation) as tx:
            people.create_index(["m", "n"], tx=tx)
            os.sched_yield()
    elif choice < 0.85:
        people.drop_index(rng.choice(["unique", "n", "m,n"]))
    elif choice < 0.9:
        engine.drop_collection(people.name)
    else:
        engine.rename_collection(people.name, f"{people.name} aside")
        engine.rename_collection(f"{people.name} aside", people.name)


def in_threads(works: list[Work], seed: int, calls: int) -> None:
    failures: list[BaseException] = []

    def run(work: Work, number: int) -> None:
        rng = random.Random(seed * 100 + number)
        for _ in range(calls):
            try:
                with contextlib.suppress(*REFUSALS):
                    work(rng)
            except BaseException as error:
                failures.append(error)
                raise

    threads = [threading.Thread(target=run, args=(work, n)) for n, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def check(engine: memdb.Database, people: Collection) -> None:
    report = people.check()
    assert report.ok, report
    with engine.transaction() as tx:
        inside = tx.collection(people.name)
        unique = [one.name for one in inside.indexes() if one.ready and one.unique]
        held = [one.get("n") for one in inside.find()]
    flat = [one for value in held for one in (value if isinstance(value, list) else [value])]
    assert not unique or len(set(flat)) == len(flat), held


@pytest.mark.parametrize("seed", range(4))
def test_indexes_equal_their_collection_whatever_meets(
    engine: memdb.Database, people: Collection, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_BATCH", 2)

    def write_once(rng: random.Random) -> None:
        write(rng, people, None)

    def write_several(rng: random.Random) -> None:
        with engine.transaction(isolation=rng.choice(["snapshot", "serializable"])) as tx:
            for _ in range(rng.randrange(1, 4)):
                with contextlib.suppress(memdb.DuplicateKeyError, KeyError):  # the transaction goes on
                    write(rng, people, tx)

    def define_once(rng: random.Random) -> None:
        define(rng, engine, people)

    for number in range(40):
        in_threads(
            [write_once, write_several, write_several, define_once, define_once], seed * 100 + number, 8
        )
        check(engine, people)
        if number % 4 == 3:
            engine.drop_collection(people.name)
