"""Random writes, many of them refused: after each of them every index equals its collection, and a refused
one has changed nothing, also in the middle of a transaction."""

import random
from typing import Any

import pytest
from documents.conftest import Collection

import memdb

INDEXES: list[tuple[Any, dict[str, Any]]] = [
    ("a", {"unique": True}),
    ("-b", {}),
    (["a", "-c"], {}),
    ("c", {"unique": True, "where": {"b": {"$exists": True}}}),
    ("b", {"name": "partial", "where": {"a": {"$gt": 0}}}),
    ("b", {"name": "unique partial", "unique": True, "where": {"c": 1}}),
    ("a.x", {}),
    ("by function", {"key": lambda document: [str(document.get("a")), type(document.get("b")).__name__]}),
]
ROUNDS = 20
CALLS = 25


class Writer:
    """Makes what is written, and writes it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self) -> Any:
        few = ["a", "b", 1, 2, None, True, [1, 2], ["a", 1], [], {"x": 1}, 1.0, "c"]
        rare: list[Any] = [{1}, "x" * 2000, object(), bytearray(b"q"), "\ud800", ("a",)]
        return self.random.choice(few if self.random.random() < 0.93 else rare)

    def document(self, id: Any = None) -> dict[str, Any]:
        names = self.random.sample("abc", self.random.randint(0, 3))
        return {**({} if id is None else {"_id": id}), **{name: self.value() for name in names}}

    def change(self) -> Any:
        path = self.random.choice(["a", "b", "c", "a.x", "b.0", "c.x.y"])
        each: dict[str, Any] = {"$each": [1, 3]}
        operators = [
            *(
                {"$set": {path: self.value()}},
                {"$unset": {path: 1}},
                {"$inc": {path: 1}},
                {"$pop": {path: 1}},
            ),
            *({"$push": {path: self.value()}}, {"$pull": {path: 1}}, {"$rename": {path: "b"}}),
            *({"$addToSet": {path: each}}, {"$min": {path: 1}}, {"$mul": {path: 2}}),
        ]
        return self.document() if self.random.random() < 0.3 else self.random.choice(operators)

    def write(self, people: Collection) -> None:
        turn, ids = (
            self.random.random(),
            [self.random.randint(0, 8) for _ in range(self.random.randint(1, 5))],
        )
        upsert = self.random.random() < 0.4
        ttl: Any = self.random.choice([None, None, 1000])
        if turn < 0.35:
            given = self.random.random() < 0.5
            people.insert_many([self.document(id if given else None) for id in ids], ttl=ttl)
        elif turn < 0.65:
            people.update_many([(id, self.change()) for id in ids], upsert=upsert)
        elif turn < 0.75:
            people.update(ids[0], self.change(), upsert=upsert, ttl=self.random.choice([memdb.KEEP, ttl]))
        elif turn < 0.8:
            people.replace(ids[0], self.document(), upsert=upsert)
        elif turn < 0.88:
            people.update_where(
                {self.random.choice("abc"): self.random.choice([1, None, "a"])}, self.change()
            )
        elif turn < 0.94:
            people.delete_many(ids)
        else:
            people.delete_where({self.random.choice("abc"): self.random.choice([1, "a"])})


def held(people: Collection) -> dict[str, str]:
    return {repr(one["_id"]): repr(one) for one in people.find()}


def write_and_look(writer: Writer, people: Collection) -> None:
    before = held(people)
    try:
        writer.write(people)
    except (memdb.Error, KeyError, TypeError, ValueError) as error:
        assert held(people) == before, error
    report = people.check()
    assert report.ok, (report, people.indexes())


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_indexes_stay_equal_to_their_collection(
    engine: memdb.Database, people: Collection, seed: int
) -> None:
    writer = Writer(seed)
    for fields, how in writer.random.sample(INDEXES, writer.random.randint(1, 4)):
        people.create_index(fields, **how)
    for _ in range(CALLS):
        if writer.random.random() < 0.5:
            write_and_look(writer, people)
            continue
        isolation: Any = writer.random.choice(["serializable", "snapshot"])
        with engine.transaction(isolation=isolation) as tx:
            inside = tx.collection(people.name)
            write_and_look(writer, inside)
            savepoint, before = tx.savepoint(), held(inside)
            for _ in range(writer.random.randint(0, 4)):
                write_and_look(writer, inside)
            if writer.random.random() < 0.3:
                tx.rollback_to(savepoint)
                assert held(inside) == before and inside.check().ok
            wanted = held(inside)
            is_kept = writer.random.random() < 0.7
            if not is_kept:
                tx.abort()
        assert not is_kept or held(people) == wanted
