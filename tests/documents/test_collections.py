"""Collections: inserting, reading, changing and deleting documents, by themselves and in transactions."""

import pickle
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from documents.conftest import Collection

import memdb


def test_a_document_comes_back_with_an_id_that_sorts_by_time(people: Collection) -> None:
    given = {"name": "Ada", "tags": ["a", {"b": 1}], "pair": (1, 2)}
    ada = people.insert(given)
    assert given == {"name": "Ada", "tags": ["a", {"b": 1}], "pair": (1, 2)}
    assert type(ada["_id"]) is UUID and ada["_id"].version == 7
    assert people.get(ada["_id"]) == {"_id": ada["_id"], **given} and next(iter(ada)) == "_id"
    ids = [people.insert({})["_id"] for _ in range(50)] + [
        one["_id"] for one in people.insert_many([{}] * 50)
    ]
    assert ids == sorted(ids) and len(set(ids)) == 100 and ids[0] > ada["_id"]


@pytest.mark.parametrize("id", [1, "one", b"\x00", (1, "a"), None, 1.5, True, UUID(int=5)])
def test_any_key_is_an_id(people: Collection, id: Any) -> None:
    assert people.insert({"name": "Ada", "_id": id}) == {"_id": id, "name": "Ada"}
    assert people.get(id) == {"_id": id, "name": "Ada"} and people.exists(id)
    with pytest.raises(memdb.DuplicateKeyError) as caught:
        people.insert({"_id": id})
    assert (caught.value.index, caught.value.id, caught.value.collection) == ("_id", id, people.name)
    assert people.delete(id) and not people.delete(id) and people.get(id, "none") == "none"


def test_ids_of_other_types_are_others(people: Collection) -> None:
    people.insert_many([{"_id": 1}, {"_id": 1.0}, {"_id": True}, {"_id": "1"}])
    assert [people.get(id) for id in (1, 1.0, True)] == [{"_id": 1}, {"_id": 1.0}, {"_id": True}]
    assert [type(one["_id"]) for one in people.find({"_id": 1})] == [int, float]
    assert people.find_one({"_id": True}) == {"_id": True}


def test_update_merges_or_takes_operators(people: Collection) -> None:
    people.insert({"_id": 1, "name": "Ada", "age": 30, "in": {"a": 1}})
    assert people.update(1, {"age": 31}) == {"_id": 1, "name": "Ada", "age": 31, "in": {"a": 1}}
    assert people.update(1, {"$inc": {"age": 1, "in.a": 5}, "$unset": {"name": ""}})["in"] == {"a": 6}
    assert people.get(1) == {"_id": 1, "age": 32, "in": {"a": 6}}
    with pytest.raises(KeyError):
        people.update(2, {"age": 1})
    assert people.update(2, {"$inc": {"age": 1}}, upsert=True) == {"_id": 2, "age": 1}
    assert people.update_many([(1, {"age": 1}), (2, {"age": 2})])[1] == {"_id": 2, "age": 2}
    with pytest.raises(KeyError):
        people.update_many([(1, {"age": 9}), (3, {"age": 9})])
    assert people.get(1) == {"_id": 1, "age": 1, "in": {"a": 6}}
    assert people.update_where({"age": {"$lte": 2}}, {"$mul": {"age": 10}}) == 2
    assert people.distinct("age") == [10, 20]


def test_replace(people: Collection) -> None:
    people.insert({"_id": 1, "name": "Ada"})
    assert people.replace(1, {"age": 3}) == {"_id": 1, "age": 3} == people.get(1)
    assert people.replace(1, {"age": 4, "_id": 1}) == {"_id": 1, "age": 4}
    with pytest.raises(KeyError):
        people.replace(2, {})
    assert people.replace(2, {"a": 1}, upsert=True) == {"_id": 2, "a": 1}
    with pytest.raises(ValueError, match="never changes"):
        people.replace(1, {"_id": 2})
    assert people.get(1) == {"_id": 1, "age": 4}


def test_delete_many_and_where(people: Collection) -> None:
    people.insert_many({"_id": n, "n": n} for n in range(10))
    assert people.delete_many([0, 1, 1, 99]) == 2
    assert people.delete_where({"n": {"$gte": 8}}) == 2
    assert [one["n"] for one in people.find()] == [2, 3, 4, 5, 6, 7]
    assert people.delete_where({}) == 6 and people.count() == 0


def test_a_missing_collection_is_empty_and_stays_missing(engine: memdb.Database) -> None:
    ghost = engine.collection("ghost")
    assert ghost.find().to_list() == [] and ghost.get(1) is None and ghost.find_one({"a": 1}) is None
    assert ghost.count() == 0 and ghost.indexes() == [] and ghost.check().ok and ghost.page().items == []
    assert ghost.distinct("a") == [] and not ghost.exists(1)
    assert ghost.delete(1) is False and ghost.delete_where({}) == 0 and ghost.update_where({}, {"a": 1}) == 0
    assert not ghost.drop_index("a") and "ghost" not in engine.collections()


def test_plain_keys_and_collections_never_meet(engine: memdb.Database, people: Collection) -> None:
    before = len(engine)
    people.insert_many({"_id": n} for n in range(5))
    assert len(engine) == before and people.name not in engine and 1 not in engine
    engine["plain"] = 1
    assert people.count() == 5
    del engine["plain"]


def test_one_transaction_over_collections_and_plain_keys(engine: memdb.Database, people: Collection) -> None:
    with engine.transaction() as tx:
        inside = tx.collection(people.name)
        ada = inside.insert({"name": "Ada"})
        people.insert({"_id": 2, "name": "Bob"}, tx=tx)
        tx["count"] = inside.count()
        assert inside.find({"name": "Ada"}).to_list() == [ada] and people.count() == 0
        assert inside.update(2, {"name": "Bo"})["name"] == "Bo"
    assert people.count() == 2 == engine["count"]
    with pytest.raises(ZeroDivisionError), engine.transaction() as tx:
        tx.collection(people.name).delete_where({})
        tx["count"] = 1 / 0
    assert people.count() == 2
    del engine["count"]


def test_a_refused_call_leaves_its_transaction_as_it_was(engine: memdb.Database, people: Collection) -> None:
    people.create_index("email", unique=True)
    people.insert({"_id": 1, "email": "a"})
    with engine.transaction() as tx:
        inside = tx.collection(people.name)
        inside.insert({"_id": 2, "email": "b"})
        with pytest.raises(memdb.DuplicateKeyError):
            inside.insert_many([{"_id": 3, "email": "c"}, {"_id": 4, "email": "a"}])
        with pytest.raises(memdb.DuplicateKeyError):
            inside.insert_many([{"_id": 5, "email": "d"}, {"_id": 6, "email": "d"}])
        with pytest.raises(memdb.UnsupportedType):
            inside.insert_many([{"_id": 7}, {"_id": 8, "email": {1, 2}}])
    assert [one["_id"] for one in people.find()] == [1, 2]


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_who_does_not_know_a_new_index_can_not_commit(
    engine: memdb.Database, people: Collection, isolation: Any
) -> None:
    people.insert({"_id": 1, "age": 1})
    tx = engine.transaction(isolation=isolation)
    tx.collection(people.name).insert({"_id": 2, "age": 2})
    people.create_index("age")
    with pytest.raises(memdb.ConflictError):
        tx.commit()
    tx = engine.transaction(isolation=isolation)
    tx.collection(people.name).insert({"_id": 2, "age": 2})
    people.insert({"_id": 3, "age": 3})  # another document is no reason
    tx.commit()
    assert people.index("age").range().to_list() == people.find().to_list()


@pytest.mark.parametrize("change", ["drop", "rename"])
def test_who_writes_to_a_dropped_or_renamed_collection_can_not_commit(
    engine: memdb.Database, people: Collection, change: str
) -> None:
    people.insert({"_id": 1})
    tx = engine.transaction(isolation="snapshot")
    tx.collection(people.name).insert({"_id": 2})
    if change == "drop":
        engine.drop_collection(people.name)
    else:
        engine.rename_collection(people.name, "another")
    with pytest.raises(memdb.ConflictError):
        tx.commit()
    engine.drop_collection("another")


def test_drop_takes_everything_and_rename_nothing(engine: memdb.Database, people: Collection) -> None:
    people.create_index("n")
    people.insert_many({"_id": n, "n": n} for n in range(10))
    engine.rename_collection(people.name, "renamed")
    renamed = engine.collection("renamed")
    assert people.count() == 0 and renamed.count() == 10 and renamed.check().ok
    assert renamed.explain({"n": 3}).index == "n" and renamed.get(3) == {"_id": 3, "n": 3}
    people.insert({"_id": "new"})
    with pytest.raises(ValueError, match="exists"):
        engine.rename_collection("renamed", people.name)
    with pytest.raises(KeyError, match="no collection"):
        engine.rename_collection("nobody", "somebody")
    assert engine.drop_collection("renamed") and not engine.drop_collection("renamed")
    assert renamed.count() == 0 and renamed.indexes() == [] and people.count() == 1
    renamed.insert({"_id": 1, "n": 1})
    assert renamed.count() == 1 and renamed.indexes() == []
    engine.drop_collection("renamed")


def test_a_kept_definition_is_of_no_collection_made_anew(engine: memdb.Database, people: Collection) -> None:
    people.create_index("n", unique=True)
    people.insert({"_id": 1, "n": 1})
    assert people.get(1) == people.find_one({"n": 1}) == people.find_one({"_id": 1}) == {"_id": 1, "n": 1}
    engine.drop_collection(people.name)
    assert people.get(1) is people.find_one({"n": 1}) is people.find_one({"_id": 1}) is None
    engine.collection(people.name).insert({"_id": 1, "n": 2})
    assert people.find_one({"n": 1}) is None
    assert people.get(1) == people.find_one({"n": 2}) == people.find_one({"_id": 1}) == {"_id": 1, "n": 2}


def test_create_and_list(engine: memdb.Database, people: Collection) -> None:
    before = engine.collections()
    made = engine.create_collection("a made one")
    assert engine.collections() == sorted([*before, "a made one"])
    with pytest.raises(ValueError, match="exists"):
        engine.create_collection("a made one")
    with engine.transaction() as tx:
        engine.drop_collection("a made one", tx=tx)
        engine.create_collection(people.name, tx=tx).insert({"_id": 1})
        assert tx.collections() == sorted([*before, people.name]) and made.indexes() == []
    assert people.count() == 1 and "a made one" not in engine.collections()


@pytest.mark.parametrize("name", ["", "x" * 121, "ü" * 61])
def test_names_have_limits(engine: memdb.Database, name: str) -> None:
    with pytest.raises(ValueError, match="bytes in UTF-8"):
        engine.collection(name)
    with pytest.raises(TypeError):
        engine.collection(b"people")  # type: ignore[call-overload]


def test_ttl_takes_the_entries_along(engine: memdb.Database, people: Collection) -> None:
    people.create_index("name", unique=True)
    people.insert({"_id": 1, "name": "Ada"}, ttl=timedelta(seconds=0.05))
    people.insert({"_id": 2, "name": "Bob"}, ttl=3600)
    people.insert({"_id": 3, "name": "Cyd"})
    people.update(2, {"age": 3})  # keeps it
    people.update(3, {"name": "Cid"}, ttl=3600)
    assert people.check().ok
    deadline = threading.Event()
    while people.get(1) is not None:
        deadline.wait(0.01)
    assert people.find_one({"name": "Ada"}) is None and people.count({"name": "Ada"}) == 0
    assert people.count() == 2 and people.check().ok
    people.insert({"_id": 4, "name": "Ada"})  # the name is free
    for ttl in (3600, 7200, 1800, None):
        people.update(4, {"age": 4}, ttl=ttl)
        assert people.check().ok
    people.update(2, {"age": 4}, ttl=0.05)
    people.replace(3, {"name": "Cid"})  # without a ttl it has none
    while people.get(2) is not None:
        deadline.wait(0.01)
    assert [one["_id"] for one in people.find(sort="name")] == [4, 3] and people.check().ok


def test_a_collection_pickles_as_its_database_and_name(engine: memdb.Database, people: Collection) -> None:
    people.insert({"_id": 1})
    again = pickle.loads(pickle.dumps(people))
    assert again.get(1) == {"_id": 1}
    again._db.close()
    with engine.transaction() as tx, pytest.raises(TypeError, match="pickled"):
        pickle.dumps(tx.collection(people.name))


def test_threads_that_add_to_one_document_lose_nothing(people: Collection) -> None:
    people.insert({"_id": 1, "n": 0})

    def work() -> None:
        for _ in range(25):
            people.update(1, {"$inc": {"n": 1}})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert people.get(1) == {"_id": 1, "n": 100}


def test_levels_and_transactions_exclude_each_other(engine: memdb.Database, people: Collection) -> None:
    assert people.insert({"_id": 1}, durability="os") == {"_id": 1}
    with engine.transaction() as tx, pytest.raises(ValueError, match="durability"):
        people.insert({"_id": 2}, tx=tx, durability="os")
    with pytest.raises(TypeError, match="Transaction"):
        people.insert({"_id": 2}, tx=engine)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Transaction"):
        engine.create_collection("another", tx=engine)  # type: ignore[arg-type]
    with engine.transaction() as tx, pytest.raises(ValueError, match="durability"):
        people.create_index("name", tx=tx, durability="os")


def test_a_transaction_of_another_database_is_refused(
    engine: memdb.Database, people: Collection, tmp_path: Path
) -> None:
    (tmp_path / "same").symlink_to(engine.path)
    with memdb.open(linger=0.0, max_memory="16MiB") as other, other.transaction() as tx:
        for call in (
            lambda: people.insert({"_id": 1}, tx=tx),
            lambda: people.get(1, tx=tx),
            lambda: engine.create_collection("another", tx=tx),
            lambda: engine.collections(tx=tx),
        ):
            with pytest.raises(ValueError, match="begin one of this database"):
                call()
        assert tx.collections() == []
    with memdb.open(tmp_path / "same") as same, same.transaction() as tx:
        people.insert({"_id": 1}, tx=tx)
    assert people.exists(1)


def test_each_write_is_acknowledged_at_its_level(engine: memdb.Database, people: Collection) -> None:
    made = f"{people.name}, made"
    people.insert({"_id": 1, "name": "Ada"})
    for write in (
        lambda: engine.create_collection(made, durability="full"),
        lambda: engine.rename_collection(made, f"{made} again", durability="full"),
        lambda: engine.drop_collection(f"{made} again", durability="full"),
        lambda: people.create_index("name", durability="full"),
        lambda: people.drop_index("name", durability="full"),
        lambda: people.delete(1, durability="full"),
    ):
        before = engine.lsn
        write()
        assert engine.durable_lsn > before


def test_each_call_can_be_part_of_a_transaction(engine: memdb.Database, people: Collection) -> None:
    people.create_index("age")
    with engine.transaction() as tx:
        eve = people.insert({"name": "Eve", "age": 30}, tx=tx)
        age = people.index("age")
        assert age.get(30) is None and age.get(30, tx=tx) == eve
        assert age.find(30, tx=tx).to_list() == age.range(20, 40, tx=tx).to_list() == [eve]
        assert people.index("age", tx=tx).get(30) == tx.collection(people.name).index("age").get(30) == eve
        with engine.transaction() as other, pytest.raises(ValueError, match="another transaction"):
            people.index("age", tx=tx).get(30, tx=other)
    assert age.get(30) == eve


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda people: people.insert([1]), TypeError),
        (lambda people: people.insert({1: 2}), TypeError),
        (lambda people: people.insert({"$set": {"a": 1}}), ValueError),
        (lambda people: people.insert({"_id": [1]}), memdb.UnsupportedType),
        (lambda people: people.insert({"a": object()}), memdb.UnsupportedType),
        (lambda people: people.insert({"a": 1}, ttl=0), ValueError),
        (lambda people: people.insert({"_id": "x" * 2000}), memdb.KeyTooLarge),
        (lambda people: people.insert({"a": "x" * (1 << 21)}), memdb.ValueTooLarge),
        (lambda people: people.insert_many({"a": 1}), TypeError),
        (lambda people: people.insert_many([{"_id": 7}, {"_id": 7}]), memdb.DuplicateKeyError),
        (lambda people: people.insert_many([{"_id": 7}, {"_id": 0}]), memdb.DuplicateKeyError),
        (lambda people: people.update(0, {"a": 1, "$set": {"b": 1}}), ValueError),
        (lambda people: people.update(0, {"$nope": {"b": 1}}), memdb.InvalidFilter),
        (lambda people: people.update(0, {"_id": 5}), ValueError),
        (lambda people: people.update_many([(0, {"b": 1}, 3)]), ValueError),
        (lambda people: people.update_many([1, 2]), ValueError),
        (lambda people: people.update_many({"a": 1}), TypeError),
        (lambda people: people.update_where({"a": {"$nope": 1}}, {"b": 1}), memdb.InvalidFilter),
        (lambda people: people.update_where({}, {"$inc": {"text": 1}}), TypeError),
        (lambda people: people.delete_many("ab"), TypeError),
        (lambda people: people.delete_where({"$nope": 1}), memdb.InvalidFilter),
        (lambda people: people.find(limit=-1), ValueError),
        (lambda people: people.find(skip="1"), TypeError),
        (lambda people: people.find({"a": {"$gtt": 1}}), memdb.InvalidFilter),
        (lambda people: people.find("a"), memdb.InvalidFilter),
        (lambda people: people.page(limit=0), ValueError),
        (lambda people: people.page(after="nonsense"), ValueError),
        (lambda people: people.page(after=5), TypeError),
    ],
)
def test_bad_input_is_refused_and_nothing_is_done(people: Collection, call: Any, error: type) -> None:
    people.insert({"_id": 0, "text": "t"})
    people.insert({"_id": 1, "text": 1})
    before = people.find().to_list()
    with pytest.raises(error):
        call(people)
    assert people.find().to_list() == before


def test_a_read_only_handle_reads_and_does_not_write(engine: memdb.Database, people: Collection) -> None:
    people.insert({"_id": 1})
    people.create_index("there")
    with memdb.open(engine.path, readonly=True) as other:
        same = other.collection(people.name)
        assert same.get(1) == {"_id": 1}
        for call in (
            lambda: same.insert({}),
            lambda: same.delete(1),
            lambda: same.create_index("a"),
            lambda: other.create_collection("b"),
            lambda: other.drop_collection(people.name),
            # Also where nothing would change.
            lambda: same.update(2, {"a": 1}),
            lambda: same.replace(2, {"a": 1}),
            lambda: same.delete(2),
            lambda: same.create_index("there"),
            lambda: same.drop_index("a"),
            lambda: other.collection("nowhere").delete_where({}),
            lambda: other.drop_collection("nowhere"),
            lambda: other.rename_collection("nowhere", "elsewhere"),
            lambda: other.transact(lambda tx: same.update(2, {"a": 1}, tx=tx)),
        ):
            with pytest.raises(memdb.ReadOnlyError):
                call()
