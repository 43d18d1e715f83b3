"""Collections of objects: every call gives objects and takes them, and what does not fit leaves nothing."""

from __future__ import annotations

import pickle
from typing import Any
from uuid import UUID

import pydantic
import pytest
from documents.people import KINDS, Colour, DataAddress, DataPerson, alice

import memdb
from memdb.errors import ModelError

each_kind = pytest.mark.parametrize(("person", "address"), KINDS, ids=["dataclass", "msgspec", "pydantic"])


class LaxAddress(pydantic.BaseModel):
    city: str = "Rome"
    lines: list[str] = []


class LaxPerson(pydantic.BaseModel):
    name: str
    age: int = 0
    address: LaxAddress | None = None
    id: int | None = None


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A collection of its own for each test: they share one engine."""
    return str(request.node.name)[:100]


@each_kind
def test_every_call(engine: memdb.Database, name: str, person: Any, address: Any) -> None:
    people = engine.collection(name, model=person)
    given = alice(person, address)
    stored = people.insert(given)
    assert type(stored) is person and stored.id.version == 7 and given.id is None
    bob, carol = people.insert_many([person(name="Bob", age=25), person(name="Carol", age=41)])
    assert people.get(stored.id) == stored and people.get("nobody") is None
    assert people.find_one({"name": "Bob"}) == bob
    assert people.find({"age": {"$gte": 30}}, sort="-age").to_list() == [carol, stored]
    assert people.find(sort="age", limit=1).first() == bob
    assert [one.name for one in people.page(sort="age", limit=2).items] == ["Bob", "Alice"]
    people.create_index("tags")
    assert people.explain({"tags": "x"}).index == "tags"
    assert people.index("tags").get("x") == stored
    bob = people.update(bob.id, {"$inc": {"age": 1}, "$set": {"colour": "blue"}})
    assert (bob.age, bob.colour) == (26, Colour.BLUE)
    assert people.replace(bob.id, person(name="Robert")) == person(name="Robert", id=bob.id)
    assert [one.age for one in people.update_many([(bob.id, {"age": 5})])] == [5]
    assert people.update_where({"name": "Robert"}, {"$set": {"age": 6}}) == 1
    assert people.find({"name": "Robert"}, fields=["age"]).to_list() == [{"_id": bob.id, "age": 6}]
    with engine.transaction() as tx:
        inside = tx.collection(name, model=person)
        assert inside.insert(person(name="Dan")).name == "Dan" and inside.count() == 4
    assert people.delete(bob.id) and people.check().ok


@each_kind
def test_what_does_not_fit_leaves_nothing(
    engine: memdb.Database, name: str, person: Any, address: Any
) -> None:
    people = engine.collection(name, model=person)
    good = people.insert(person(name="Alice"))
    wrong = person(name="Bob")
    wrong.age = "old"
    before = engine.lsn
    for call in (
        lambda: people.insert(wrong),
        lambda: people.insert_many([person(name="Carol"), wrong]),
        lambda: people.insert(address(city="Bern")),
        lambda: people.insert({"name": 5}),
        lambda: people.replace(good.id, wrong),
        lambda: people.update(good.id, {"age": "old"}),
        lambda: people.update(good.id, {"$unset": {"name": ""}}),
        lambda: people.update(UUID(int=1), {"age": 5}, upsert=True),
        lambda: people.update_where({}, {"age": "old"}),
    ):
        with pytest.raises(ModelError):
            call()
    with pytest.raises(ModelError, match=r"after this change .* nothing was written, mend the change"):
        people.update(good.id, {"age": "old"})
    assert engine.lsn == before and people.find().to_list() == [good]


def test_one_collection_with_and_without_a_model(engine: memdb.Database, name: str) -> None:
    plain, people = engine.collection(name), engine.collection(name, model=DataPerson)
    plain.insert_many([{"_id": UUID(int=1), "name": "Alice"}, {"_id": UUID(int=2), "nome": "Bob"}])
    found = people.find()
    assert next(iter(found)) == DataPerson("Alice", id=UUID(int=1))
    with pytest.raises(ModelError) as caught:
        next(found)
    assert (caught.value.id, caught.value.field) == (UUID(int=2), "name")
    assert people.count() == 2 and people.delete(UUID(int=2))
    plain.update(UUID(int=1), {"later": 1})
    people.update(UUID(int=1), {"age": 5})
    kept = plain.get(UUID(int=1))
    assert kept is not None and kept["later"] == 1
    people.replace(UUID(int=1), DataPerson("Alice"))
    assert "later" not in (plain.get(UUID(int=1)) or {})


def test_wrong_models(engine: memdb.Database, name: str) -> None:
    for wrong in (int, "Person", DataAddress("x")):
        with pytest.raises(TypeError, match="class"):
            engine.collection(name, model=wrong)  # type: ignore[call-overload]


def test_what_a_lax_model_takes_for_something_else_is_stored_as_that(engine: memdb.Database) -> None:
    people = engine.collection("lax", model=LaxPerson)
    people.create_index("age")
    people.insert(LaxPerson(id=1, name="Ada"))
    changes: list[Any] = [{"age": "31"}, {"$set": {"age": "31"}}, {"$set": {"address": {"lines": ("a",)}}}]
    for change in changes:
        assert people.update(1, change).age == 31
    assert people.find_one({"age": 31}) == people.get(1)
    plain = engine.collection("lax").get(1)
    assert plain == {"_id": 1, "name": "Ada", "age": 31, "address": {"city": "Rome", "lines": ["a"]}}
    assert people.check().ok
    engine.drop_collection("lax")


@each_kind
def test_a_typed_collection_pickles(engine: memdb.Database, name: str, person: Any, address: Any) -> None:
    people = engine.collection(name, model=person)
    people.insert(alice(person, address))
    again = pickle.loads(pickle.dumps(people))
    assert again.find().to_list() == people.find().to_list() and type(again.find_one()) is person
    engine.drop_collection(name)
