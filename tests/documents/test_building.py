"""Building an index while others write, across deaths; the check that finds what is wrong."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from documents.conftest import Collection

import memdb
from memdb.documents import building, keyspace
from memdb.documents.catalogue import Definition
from memdb.documents.indexes import Index, IndexDefinition
from memdb.layering import SpaceKey, put

Opener = Callable[..., memdb.Database]


def test_an_index_of_a_filled_collection(people: Collection) -> None:
    people.insert_many({"_id": n, "age": n % 7} for n in range(2500))
    seen: list[tuple[int, int]] = []
    assert people.create_index("age", progress=lambda done, total: seen.append((done, total))) == "age"
    assert seen == [(1000, 2500), (2000, 2500), (2500, 2500)]
    assert people.indexes()[0].ready and people.explain({"age": 3}).keys_examined == 357
    assert (
        people.check().indexes == {"age": 2500} if hasattr(people.check(), "indexes") else people.check().ok
    )


def test_documents_by_bytes(people: Collection) -> None:
    people.insert_many({"_id": n, "text": "x" * 200_000} for n in range(20))
    seen: list[int] = []
    people.create_index("text.size", progress=lambda done, total: seen.append(done))
    assert seen == [6, 12, 18, 20]


def test_a_build_that_meets_a_duplicate_leaves_nothing(people: Collection) -> None:
    people.insert_many({"_id": n, "n": min(n, 1800)} for n in range(2000))
    with pytest.raises(memdb.DuplicateKeyError) as caught:
        people.create_index("n", unique=True)
    assert caught.value.value == 1800 and people.indexes() == []
    people.create_index("n")
    assert people.check().ok


def test_writers_go_on_while_an_index_is_built(people: Collection) -> None:
    people.insert_many({"_id": n, "n": n, "tags": [n, n + 1]} for n in range(3000))
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(first: int) -> None:
        number = first
        try:
            while not stop.is_set():
                number += 7
                id = number * 2654435761 % 3000
                people.update(id, {"$inc": {"n": 1}}, upsert=True)
                people.insert({"_id": f"new {first} {number}", "n": number, "tags": [number]})
                people.delete((id + 1) % 3000)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=write, args=(first,)) for first in range(2)]
    for thread in threads:
        thread.start()
    try:
        for index in ("n", "tags", ["-n", "tags"]):
            people.create_index(index)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures and people.check().ok
    assert len(people.find(sort="n").to_list()) == people.count()


def test_two_builders_share_the_work(people: Collection) -> None:
    people.insert_many({"_id": n, "n": n} for n in range(3000))
    threads = [threading.Thread(target=people.create_index, args=("n",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [index.ready for index in people.indexes()] == [True] and people.check().ok


BUILDER = """
import os, signal, sys
import memdb

def killed(done, total):
    if done >= 1000:
        os.kill(os.getpid(), signal.SIGKILL)

with memdb.open(sys.argv[1], linger=0) as db:
    db.collection("people").create_index("n", progress=killed)
"""


@pytest.mark.parametrize("also", ["nobody", "writer", "group"])
def test_a_build_goes_on_after_a_death(opened: Opener, data: Path, also: str) -> None:
    """The builder dies in the middle, with it the writer or all; the index was kept meanwhile, and is
    finished."""
    db = opened()
    people = db.collection("people")
    people.insert_many({"_id": n, "n": n} for n in range(3000))
    done = subprocess.run(
        [sys.executable, "-P", "-c", BUILDER, str(data)],
        env={**os.environ, "PYTHONPATH": str(Path(memdb.__file__).parent.parent)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    processes = db.info().processes
    for role in {"nobody": (), "writer": ("writer",), "group": tuple(processes)}[also]:
        os.kill(processes[role].pid, signal.SIGKILL)
    assert [index.ready for index in people.indexes()] == [False]
    assert people.explain({"n": 5}).stage == "scan"
    people.update(5, {"n": -5})
    people.update(2900, {"n": -2900})
    people.insert({"_id": "new", "n": -1})
    seen: list[int] = []
    people.create_index("n", progress=lambda done, total: seen.append(done))
    assert seen[0] == 2000 and people.check().ok
    assert [one["_id"] for one in people.find({"n": {"$lt": 0}})] == [2900, 5, "new"]


def test_an_index_in_a_transaction(engine: memdb.Database, people: Collection) -> None:
    people.insert_many({"_id": n, "n": n} for n in range(50))
    with engine.transaction() as tx:
        inside = tx.collection(people.name)
        inside.insert({"_id": 50, "n": 50})
        inside.create_index("n", unique=True)
        assert inside.explain({"n": 50}).index == "n" and people.indexes() == []
    assert people.explain({"n": 50}).index == "n"
    with pytest.raises(memdb.DuplicateKeyError), engine.transaction() as tx:
        tx.collection(people.name).insert({"_id": 51, "n": 50})
    with engine.transaction() as tx:
        assert tx.collection(people.name).drop_index("n")
        tx.collection(people.name).insert({"_id": 51, "n": 50})
    assert people.indexes() == [] and people.count() == 52


def test_a_dropped_index_ends_its_build(people: Collection) -> None:
    people.insert_many({"_id": n, "n": n} for n in range(3000))
    with pytest.raises(memdb.IndexMismatch, match="dropped"):
        people.create_index("n", progress=lambda done, total: people.drop_index("n"))
    assert people.indexes() == []


def defined(
    engine: memdb.Database, people: Collection, unique: bool = False
) -> tuple[Definition, Index, bytes]:
    """An index of n that is begun, and up to which document its build has to go."""
    wanted = IndexDefinition("n", (("n", False),), unique)
    definition, index = engine.transact(
        lambda tx: building.define(tx, people.name, wanted, lambda index: None)
    )
    return definition, index, building._last_document(engine, definition)


def go_on(engine: memdb.Database, people: Collection, index: Index, last: bytes) -> None:
    """The rest of a build that was begun so."""
    while engine.transact(lambda tx: building._step(tx, people.name, index, 1000, last)) is not None:
        pass


def test_a_build_goes_on_in_no_other_collection(engine: memdb.Database, people: Collection) -> None:
    """The collection is made anew under its builder, with larger ids, and its index by somebody else: the
    number of the index is the same."""
    people.insert_many({"_id": n, "n": n} for n in range(50))
    _, index, last = defined(engine, people)
    engine.drop_collection(people.name)
    people.insert_many({"_id": n, "n": n} for n in range(100, 120))
    assert defined(engine, people)[1].n == index.n
    with pytest.raises(memdb.IndexMismatch, match="dropped"):
        go_on(engine, people, index, last)
    building._give_up(engine, people.name, index)
    assert [one.ready for one in people.indexes()] == [False]
    people.create_index("n")
    assert people.find({"n": {"$gte": 100}}).explain().keys_examined == 20


@pytest.mark.parametrize("change", ["update", "delete", "ttl"])
@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_the_second_of_two_comes_before_the_build_reaches_the_first(
    engine: memdb.Database, people: Collection, change: str, isolation: Any
) -> None:
    """While a unique index is built a second document may have a value that the build has not met yet: the
    entry is its own, whatever becomes of the first."""
    people.insert({"_id": 1, "n": 7})
    _, index, last = defined(engine, people, unique=True)
    people.insert({"_id": 2, "n": 7})
    with engine.transaction(isolation=isolation) as tx:
        if change == "update":
            people.update(1, {"n": 8}, tx=tx)
        elif change == "delete":
            people.delete(1, tx=tx)
        else:
            people.update(1, {}, ttl=3600, tx=tx)
    if change == "ttl":
        with pytest.raises(memdb.DuplicateKeyError):
            go_on(engine, people, index, last)
        return
    go_on(engine, people, index, last)
    assert people.check().ok and people.find_one({"n": 7}) == {"_id": 2, "n": 7}
    with pytest.raises(memdb.DuplicateKeyError):
        people.insert({"_id": 3, "n": 7})


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_the_build_reaches_the_first_of_two_under_its_writer(
    engine: memdb.Database, people: Collection, isolation: Any
) -> None:
    """The writer of the first saw the entry of the second; that goes, and the build makes one of the
    first."""
    people.insert({"_id": 1, "n": 7})
    _, index, last = defined(engine, people, unique=True)
    people.insert({"_id": 2, "n": 7})
    tx = engine.transaction(isolation=isolation)
    people.update(1, {"n": 8}, tx=tx)
    people.delete(2)
    engine.transact(lambda tx: building._step(tx, people.name, index, 1000, last))
    with pytest.raises(memdb.ConflictError):
        tx.commit()
    go_on(engine, people, index, last)


@pytest.mark.parametrize("change", ["update", "insert", "delete"])
@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_who_writes_beside_an_index_in_a_transaction(
    engine: memdb.Database, people: Collection, change: str, isolation: Any
) -> None:
    people.insert_many({"_id": n, "n": n} for n in range(5))
    tx = engine.transaction(isolation=isolation)
    people.create_index("n", tx=tx)
    if change == "update":
        people.update(2, {"n": 22})
    elif change == "insert":
        people.insert({"_id": 9, "n": 9})
    else:
        people.delete(2)
    with pytest.raises(memdb.ConflictError):
        tx.commit()
    assert people.indexes() == []


@pytest.mark.parametrize("damage", ["missing entry", "strange entry", "other expiry", "wrong id", "no mark"])
def test_the_check_finds(engine: memdb.Database, damage: str) -> None:
    people = engine.collection("damaged")
    people.create_index("n")
    people.insert_many({"_id": n, "n": [n, n + 1]} for n in range(5))
    assert people.check().ok
    with engine.transaction() as tx:
        definition = people._defined(tx)
        assert definition is not None
        index = definition.indexes[0]
        entry = index.entries("damaged", {"n": 2}, keyspace.id_bytes(2))[0]
        if damage == "missing entry":
            tx.delete(SpaceKey(entry))
        elif damage == "strange entry":
            other = index.entries("damaged", {"n": 77}, keyspace.id_bytes(2))[0]
            put(tx, SpaceKey(other), keyspace.id_bytes(2))
        elif damage == "other expiry":
            put(tx, SpaceKey(entry), keyspace.id_bytes(2), 1 << 60)
        elif damage == "wrong id":
            put(tx, SpaceKey(entry), keyspace.id_bytes(99))
        else:
            tx.delete(SpaceKey(index.mark))
    report = people.check()
    assert not report.ok and report.problems[0].where == "damaged, index n"
    engine.drop_collection("damaged")


def test_unique_holds_among_processes_that_race(opened: Opener, data: Path) -> None:
    db = opened()
    people = db.collection("people")
    people.create_index("email", unique=True)
    program = """
import sys
import memdb
with memdb.open(sys.argv[1]) as db:
    people, done = db.collection("people"), 0
    for n in range(150):
        try:
            people.insert({"email": n})
            done += 1
        except memdb.DuplicateKeyError:
            continue
print(done)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(memdb.__file__).parent.parent)}
    racing: list[Any] = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", program, str(data)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    done = [int(process.communicate()[0]) for process in racing]
    assert sum(done) == 150 == people.count() and people.check().ok
