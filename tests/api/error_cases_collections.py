"""The errors of collections, each provoked as a user would meet it: cases of test_error_texts.py."""

import dataclasses

from api.error_scene import Scene, case

import memdb


@dataclasses.dataclass
class Person:
    name: str
    age: int


@case(
    memdb.DuplicateKeyError,
    what="has a document with the _id 1",
    who="'people'",
    next="replace|update|leave _id out",
    facts=("collection", "index", "value", "id"),
)
def an_id_that_is_taken(scene: Scene) -> None:
    people = scene.open().collection("people")
    people.insert({"_id": 1})
    people.insert({"_id": 1})


@case(
    memdb.DuplicateKeyError,
    what="the unique index 'email' holds 'a' of the document 1 already",
    who="'people'.*and 2 would be the second",
    next="change one of them",
    facts=("collection", "index", "value", "id"),
)
def a_value_that_is_taken(scene: Scene) -> None:
    people = scene.open().collection("people")
    people.create_index("email", unique=True)
    people.insert_many([{"_id": 1, "email": "a"}, {"_id": 2, "email": "a"}])


@case(
    memdb.InvalidFilter,
    what=r"there is no operator \$near",
    who=r"at age\.\$near",
    next=r"there are \$eq",
    facts=("path",),
)
def an_operator_that_is_none(scene: Scene) -> None:
    scene.open().collection("people").find({"age": {"$near": 1}})


@case(
    memdb.IndexMismatch,
    what=r"exists as \(email, unique\), and \(name\) is asked for",
    who="'people': index 'email'",
    next=r"drop_index\(\) it first|another name=",
    facts=("collection", "index"),
)
def another_index_of_that_name(scene: Scene) -> None:
    people = scene.open().collection("people")
    people.create_index("email", unique=True)
    people.create_index("name", name="email")


@case(
    memdb.IndexMismatch,
    what="which this process doesn't have: without it the index would go stale",
    who="'people': index 'initial'",
    next=r"Register it: db\.collection",
    facts=("collection", "index"),
)
def a_key_function_that_is_not_here(scene: Scene) -> None:
    people = scene.open().collection("people")
    people.create_index("initial", key=lambda document: document["name"][0])
    scene.monkeypatch.setattr("memdb.documents.indexes._functions", {})  # as in a process of its own
    people.insert({"name": "Ada"})


@case(
    memdb.ModelError,
    what=r"at age: str \('old'\) where the model says int",
    who="this Person",
    next="nothing was written, mend the object",
    facts=("model", "field", "reason"),
)
def an_object_that_is_no_person(scene: Scene) -> None:
    scene.open().collection("people", model=Person).insert({"name": "Ada", "age": "old"})


@case(
    memdb.ModelError,
    what=r"is no Person at name: int \(1\) where the model says str",
    who="the document with _id 5",
    next="mend it through the collection without model=|have the model take it",
    facts=("model", "id", "field", "reason"),
)
def a_document_that_is_no_person(scene: Scene) -> None:
    db = scene.open()
    db.collection("people").insert({"_id": 5, "name": 1, "age": 2})
    db.collection("people", model=Person).get(5)
