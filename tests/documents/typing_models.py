"""What a type checker makes of collections; mypy reads this file (test_typing.py), nobody runs it."""

from __future__ import annotations

import dataclasses
from typing import Any, assert_type
from uuid import UUID

import msgspec
import pydantic

import memdb
from memdb import Collection, Cursor, IndexView, Page


@dataclasses.dataclass
class Person:
    name: str
    id: UUID | None = None


class Struct(msgspec.Struct):
    name: str


class Model(pydantic.BaseModel):
    name: str


def of_a_model(db: memdb.Database, tx: memdb.Transaction, id: UUID) -> None:
    people = db.collection("people", model=Person)
    assert_type(people, Collection[Person])
    assert_type(tx.collection("people", model=Person), Collection[Person])
    assert_type(people.get(id), Person | None)
    assert_type(people.get(id, 5), Person | int)
    assert_type(people.find_one({"name": "Alice"}), Person | None)
    assert_type(people.find({"name": "Alice"}), Cursor[Person])
    assert_type(people.find(fields=["name"]), Cursor[dict[str, Any]])
    assert_type(people.find_one(fields={"name": 1}), dict[str, Any] | None)
    assert_type(people.page(fields=["name"]), Page[dict[str, Any]])
    assert_type(people.find().first(), Person | None)
    assert_type(people.find().to_list(), list[Person])
    for person in people.find(sort="name"):
        assert_type(person, Person)
    assert_type(people.insert(Person("Alice")), Person)
    assert_type(people.insert_many([Person("Alice")]), list[Person])
    assert_type(people.update(id, {"name": "Bob"}), Person)
    assert_type(people.replace(id, Person("Bob")), Person)
    assert_type(people.page(), Page[Person])
    assert_type(people.page().items, list[Person])
    assert_type(people.page().next, str | None)
    assert_type(people.index("name"), IndexView[Person])
    assert_type(people.index("name").get("Alice"), Person | None)
    assert_type(people.index("name").range("A", "B"), Cursor[Person])
    assert_type(people.delete(id), bool)
    assert_type(people.count(), int)
    assert_type(people.aggregate(all=("count", None), n="count", sum=("sum", "n")), list[dict[str, Any]])


def of_other_models(db: memdb.Database) -> None:
    assert_type(db.collection("a", model=Struct), Collection[Struct])
    assert_type(db.collection("b", model=Model), Collection[Model])
    assert_type(db.collection("b", model=Model).find().first(), Model | None)


def of_dicts(db: memdb.Database) -> None:
    people = db.collection("people")
    assert_type(people, Collection[dict[str, Any]])
    assert_type(people.get("a"), dict[str, Any] | None)
    assert_type(people.find(), Cursor[dict[str, Any]])
    assert_type(people.insert({"name": "Alice"}), dict[str, Any])


def wrong(db: memdb.Database) -> None:
    people = db.collection("people", model=Person)
    people.insert(Struct("Alice"))  # error: arg-type
    people.insert_many([5])  # error: list-item
    _ = people.get("a").name  # error: union-attr
    db.collection("people", model=Person("Alice"))  # error: call-overload
    for person in people.find():
        _ = person.age  # error: attr-defined
