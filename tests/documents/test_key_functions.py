"""Indexes by a function: found by its name, or registered; without it nobody writes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documents import key_functions
from documents.conftest import Collection

import memdb
from memdb.documents import building, indexes
from memdb.documents.indexes import IndexDefinition


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process knows no function that an earlier create_index has registered."""
    monkeypatch.setattr(indexes, "_functions", {})


def test_documents_by_what_the_function_gives(people: Collection) -> None:
    people.insert_many([{"_id": 1, "name": "Ada Lovelace"}, {"_id": 2, "name": "Bob"}])
    assert people.create_index("by_len", key=key_functions.length) == "by_len"
    people.create_index("initials", key=key_functions.initials, unique=True)
    assert people.index("by_len").get(3) == people.get(2) and people.index("initials").get("L") == people.get(
        1
    )
    people.update(2, {"name": "Robert"})
    assert people.index("by_len").range(4, 8).to_list() == [people.get(2)]
    with pytest.raises(memdb.DuplicateKeyError):
        people.insert({"name": "Lou"})
    (by_len, _) = people.indexes()
    assert by_len.key == "documents.key_functions:length" and by_len.fields == ()
    with pytest.raises(memdb.IndexMismatch):
        people.create_index("by_len", key=key_functions.initials)
    people.delete(1)
    assert len(people.index("initials").range().to_list()) == 1


def test_a_function_is_imported_by_its_name(people: Collection, forgetful: None) -> None:
    people.create_index("by_len", key=key_functions.length)
    indexes._functions.clear()
    people.insert({"_id": 1, "name": "Ada"})
    assert people.index("by_len").get(3) == people.get(1)


def test_without_the_function_nobody_writes(
    engine: memdb.Database, people: Collection, forgetful: None
) -> None:
    people.create_index("by_len", key=lambda document: len(document.get("name", "")))
    people.insert({"_id": 1, "name": "Ada"})
    indexes._functions.clear()
    for call in (
        lambda: people.insert({"_id": 2}),
        lambda: people.update(1, {"name": "Bo"}),
        lambda: people.delete(1),
        lambda: people.delete_where({}),
        lambda: people.check(),
    ):
        with pytest.raises(memdb.IndexMismatch, match=r"keys=\{'by_len': function\}") as caught:
            call()
        assert (caught.value.index, caught.value.function) == ("by_len", None)
    assert people.get(1) == {"_id": 1, "name": "Ada"} and people.index("by_len").get(3) == people.get(1)
    knowing = engine.collection(people.name, keys={"by_len": key_functions.length})
    knowing.update(1, {"name": "Bo"})
    assert people.index("by_len").get(2) == people.get(1)
    with pytest.raises(TypeError):
        engine.collection(people.name, keys={"by_len": 5})  # type: ignore[dict-item]
    engine.drop_collection(people.name)  # nothing knows the function when the test is over


def test_another_program_without_the_function_is_refused(engine: memdb.Database, people: Collection) -> None:
    people.create_index("by_len", key=key_functions.length)
    people.insert({"_id": 1, "name": "Ada"})
    program = f"""
import memdb
with memdb.open({engine.path!r}) as db:
    people = db.collection({people.name!r})
    print(people.index("by_len").get(3))
    try:
        people.insert({{"_id": 2, "name": "Bob"}})
    except memdb.IndexMismatch as error:
        print(error.function)
    people = db.collection({people.name!r}, keys={{"by_len": lambda one: len(one["name"])}})
    people.insert({{"_id": 2, "name": "Bobby"}})
"""
    package = str(Path(memdb.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={"PYTHONPATH": package, "PATH": ""},
        text=True,
        capture_output=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["{'_id': 1, 'name': 'Ada'}", "documents.key_functions:length"]
    assert people.index("by_len").get(5) == people.get(2)


def test_a_function_that_fails_ends_the_build_and_the_write(people: Collection) -> None:
    people.insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 0}])
    with pytest.raises(ZeroDivisionError):
        people.create_index("broken", key=key_functions.broken)
    assert people.indexes() == []
    people.delete(2)
    people.create_index("broken", key=key_functions.broken)
    with pytest.raises(ZeroDivisionError) as caught:
        people.insert({"_id": 3, "n": 0})
    (note,) = caught.value.__notes__
    assert f"index 'broken' of collection {people.name!r}, for the document 3" in note
    assert people.count() == 1


def test_names_of_functions() -> None:
    def local(document: dict[str, Any]) -> int:
        return 1

    assert indexes.function_name(key_functions.length) == "documents.key_functions:length"
    assert indexes.function_name(local) == indexes.function_name(lambda document: 1) == ""


def test_the_function_of_an_index_that_was_never_committed(
    engine: memdb.Database, people: Collection
) -> None:
    """Its number is given again, to an index that another process makes by another function."""
    people.insert({"_id": 1, "name": "Ada"})
    tx = engine.transaction()
    people.create_index("lost", key=lambda document: -1, tx=tx)
    tx.abort()
    wanted = IndexDefinition("by_len", (), False, None, "documents.key_functions:length")
    definition, index = engine.transact(
        lambda tx: building.define(tx, people.name, wanted, lambda index: None)
    )
    building.build(engine, people.name, definition, index, None)
    people.insert({"_id": 2, "name": "Bob"})
    assert [one["_id"] for one in people.index("by_len").find(3)] == [1, 2]
