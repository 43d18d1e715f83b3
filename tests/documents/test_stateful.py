"""Collections against a model: a state machine over documents, indexes, transactions, deaths and reopens.

Invariants of the model's side: a transaction that commits is, call by call, what its calls would be now, one
after the other: it is done to the model at its commit, and must give there what it gave.
"""

import contextlib
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from documents.model import Model, Refused
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

import memdb
from memdb.documents.keyspace import id_bytes
from memdb.documents.sorting import sort_keys, sorter

names = st.sampled_from(["one", "two"])
ids = st.integers(0, 7) | st.sampled_from(["a", "b"])
scalars = st.integers(0, 4) | st.sampled_from(["x", "y", None, 2.5])
values = scalars | scalars | st.lists(scalars, max_size=3)
fields = st.dictionaries(st.sampled_from(["a", "b", "c"]), values, max_size=3)
documents = st.builds(lambda id, one: {"_id": id, **one}, ids, fields)
paths = st.sampled_from(["a", "b", "-a", "c"])
conditions = (
    scalars
    | st.builds(
        lambda op, value: {op: value}, st.sampled_from(["$eq", "$gt", "$gte", "$lt", "$lte", "$ne"]), scalars
    )
    | st.builds(lambda some: {"$in": some}, st.lists(scalars, max_size=3))
)
simple = st.dictionaries(st.sampled_from(["a", "b", "c", "_id"]), conditions, max_size=2)
filters = simple | st.builds(lambda one, other: {"$or": [one, other]}, simple, simple)
changes = (
    fields
    | st.builds(lambda name, value: {"$set": {name: value}}, st.sampled_from("abc"), values)
    | st.builds(lambda name: {"$unset": {name: ""}}, st.sampled_from("abc"))
)
sorts = (
    st.none() | st.sampled_from(["a", "-a", "b", "_id", "-_id"]) | st.just(["a", "-b"]) | st.just(["-c", "a"])
)
wheres = st.none() | st.none() | st.sampled_from([{"a": {"$gt": 1}}, {"b": {"$exists": True}}])
compounds = st.lists(paths, min_size=1, max_size=2, unique_by=lambda path: path.lstrip("-")).map(tuple)
ERRORS = (memdb.Error, KeyError, ValueError)


class Machine(RuleBasedStateMachine):
    """One handle, which is sometimes opened anew, and at most one transaction beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="documents-")
        self.place = Path(self.directory.name) / "data"
        self.db = memdb.open(self.place, linger=0.0, max_memory="32MiB", durability="memory")
        self.model = Model()
        self.tx: Any = None
        self.seen = Model()
        self.calls: list[tuple[str, tuple[Any, ...], Any]] = []

    def teardown(self) -> None:
        try:
            if self.tx is not None:
                self.tx.abort()
            for name in self.db.collections():
                report = self.db.collection(name).check()
                assert report.ok, report
            self.equal(self.db, self.model)
        finally:
            self.db.close()
            self.directory.cleanup()

    # ---- what is done, by itself or in the transaction

    def outside(self, method: str, *arguments: Any) -> None:
        expected = on_model(self.model, method, arguments)
        assert on_database(self.db, None, method, arguments) == expected

    def inside(self, method: str, *arguments: Any) -> None:
        expected = on_model(self.seen, method, arguments)
        given = on_database(self.db, self.tx, method, arguments)
        if given == "SnapshotExpired":  # two generations were built since it began: writers were killed
            self.abort()
            return
        assert given == expected
        self.calls.append((method, arguments, expected))

    def do(self, is_inside: bool, method: str, *arguments: Any) -> None:
        (self.inside if is_inside and self.tx is not None else self.outside)(method, *arguments)

    @rule(inside=st.booleans(), name=names, some=st.lists(documents, max_size=4))
    def insert_many(self, inside: bool, name: str, some: list[Any]) -> None:
        self.do(inside, "insert_many", name, some)

    @rule(inside=st.booleans(), name=names, id=ids, change=changes, upsert=st.booleans())
    def update(self, inside: bool, name: str, id: Any, change: Any, upsert: bool) -> None:
        self.do(inside, "update", name, id, change, upsert)

    @rule(inside=st.booleans(), name=names, id=ids, one=fields)
    def replace(self, inside: bool, name: str, id: Any, one: Any) -> None:
        self.do(inside, "replace", name, id, one)

    @rule(inside=st.booleans(), name=names, some=st.lists(ids, max_size=3))
    def delete_many(self, inside: bool, name: str, some: Any) -> None:
        self.do(inside, "delete_many", name, some)

    @rule(inside=st.booleans(), name=names, filter=filters, change=changes)
    def update_where(self, inside: bool, name: str, filter: Any, change: Any) -> None:
        self.do(inside, "update_where", name, filter, change)

    @rule(inside=st.booleans(), name=names, filter=filters)
    def delete_where(self, inside: bool, name: str, filter: Any) -> None:
        self.do(inside, "delete_where", name, filter)

    @rule(
        inside=st.booleans(),
        name=names,
        index=st.sampled_from("ijk"),
        on=compounds,
        unique=st.booleans(),
        where=wheres,
    )
    def create_index(self, inside: bool, name: str, index: str, on: Any, unique: bool, where: Any) -> None:
        self.do(inside, "create_index", name, index, on, unique, where)

    @rule(inside=st.booleans(), name=names, index=st.sampled_from("ijk"))
    def drop_index(self, inside: bool, name: str, index: str) -> None:
        self.do(inside, "drop_index", name, index)

    @rule(inside=st.booleans(), name=names)
    def drop_collection(self, inside: bool, name: str) -> None:
        self.do(inside, "drop_collection", name)

    @rule(inside=st.booleans(), old=names, new=names)
    def rename_collection(self, inside: bool, old: str, new: str) -> None:
        self.do(inside, "rename_collection", old, new)

    # ---- transactions

    @precondition(lambda self: self.tx is None)
    @rule(isolation=st.just("serializable"))
    def begin(self, isolation: Any) -> None:
        self.tx = self.db.transaction(isolation=isolation)
        self.seen, self.calls = self.model.copy(), []

    @precondition(lambda self: self.tx is not None)
    @rule()
    def commit(self) -> None:
        tx, self.tx = self.tx, None
        try:
            tx.commit()
        except memdb.ConflictError:
            return
        if tx.commit_lsn is None:  # it has only read, and holds at the time of its snapshot
            return
        for method, arguments, given in self.calls:
            assert on_model(self.model, method, arguments) == given, "the transaction was not serializable"

    @precondition(lambda self: self.tx is not None)
    @rule()
    def abort(self) -> None:
        self.tx.abort()
        self.tx = None

    # ---- deaths

    @rule(role=st.sampled_from(["writer", "writer", "reaper", "supervisor"]))
    def kill(self, role: str) -> None:
        # It has gone already, and is not replaced yet.
        with contextlib.suppress(ProcessLookupError, KeyError):
            os.kill(self.db.info().processes[role].pid, signal.SIGKILL)

    @precondition(lambda self: self.tx is None)
    @rule()
    def reopen(self) -> None:
        self.db.close()
        self.db = memdb.open(self.place, linger=0.0, max_memory="32MiB", durability="memory")

    # ---- what is read

    @rule(name=names, filter=filters, sort=sorts, limit=st.none() | st.integers(1, 4), inside=st.booleans())
    def query(self, name: str, filter: Any, sort: Any, limit: Any, inside: bool) -> None:
        in_tx = inside and self.tx is not None
        if in_tx and self.is_revoked():
            return
        model = self.seen if in_tx else self.model
        collection = (self.tx if in_tx else self.db).collection(name)
        wanted = ordered(model, name, filter, sort)
        found = [one["_id"] for one in collection.find(filter, sort=sort, limit=limit)]
        if sort is None:
            assert len(found) == len(wanted[:limit]) and set(found) <= set(wanted)
        elif "_id" in sort or "-_id" in sort:
            assert found == wanted[:limit], collection.explain(filter, sort=sort)
        else:  # documents that are equal there come as a compound index may have them
            by, stored = sorter(sort_keys(sort)), model.collections.get(name)
            places = [[by(stored.documents[id]) for id in some] for some in (found, wanted[:limit]) if stored]
            assert len(found) == len(wanted[:limit]) and len(set(found)) == len(found), (found, wanted)
            assert not places or places[0] == places[1], collection.explain(filter, sort=sort)
            assert set(found) <= set(wanted)
        assert collection.count(filter) == len(wanted)
        one = collection.find_one(filter)
        assert (one is None) == (not wanted) and (one is None or one["_id"] in wanted)

    @rule(name=names, filter=filters, sort=sorts, limit=st.integers(1, 5))
    def pages(self, name: str, filter: Any, sort: Any, limit: int) -> None:
        collection, found, after = self.db.collection(name), [], None
        while True:
            page = collection.page(filter, sort=sort, limit=limit, after=after)
            found += [one["_id"] for one in page.items]
            after = page.next
            if after is None:
                break
        assert found == ordered(self.model, name, filter, "_id" if sort is None else sort)

    @rule()
    def everything(self) -> None:
        self.equal(self.db, self.model)
        if self.tx is not None and not self.is_revoked():
            self.equal(self.tx, self.seen)

    def is_revoked(self) -> bool:
        """Whether the transaction has lost its snapshot; it is over then."""
        try:
            self.tx.collections()
        except memdb.SnapshotExpired:
            self.abort()
            return True
        return False

    def equal(self, source: Any, model: Model) -> None:
        assert source.collections() == sorted(model.collections)
        for name, stored in model.collections.items():
            collection = source.collection(name)
            assert {one["_id"]: one for one in collection.find()} == stored.documents
            assert {index.name for index in collection.indexes()} == set(stored.indexes)


def ordered(model: Model, name: str, filter: Any, sort: Any) -> list[Any]:
    """The ids that a filter finds, in the order of a sort: by id where it is equal, in its last direction."""
    if name not in model.collections:
        return []
    stored = model.collections[name]
    found = sorted(stored.found(filter), key=id_bytes)
    keys = sort_keys(sort)
    if keys and keys[-1][1]:
        found.reverse()
    by = sorter([key for key in keys if key[0] != "_id"])
    return sorted(found, key=lambda id: by(stored.documents[id]))


def on_model(model: Model, method: str, arguments: tuple[Any, ...]) -> Any:
    before = model.copy()
    try:
        return getattr(model, method)(*arguments)
    except Refused as error:
        model.collections = before.collections
        return str(error)


def on_database(db: memdb.Database, tx: Any, method: str, arguments: tuple[Any, ...]) -> Any:
    try:
        if method in ("drop_collection", "rename_collection"):
            return getattr(db, method)(*arguments, tx=tx)
        name, *rest = arguments
        collection = (db if tx is None else tx).collection(name)
        if method == "create_index":
            index, fields, unique, where = rest
            return collection.create_index(list(fields), name=index, unique=unique, where=where)
        return getattr(collection, method)(*rest)
    except ERRORS as error:
        if isinstance(error, memdb.ConflictError):
            raise
        return type(error).__name__


def run(examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=checks,
            phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        ),
    )


def test_collections_are_what_the_model_says() -> None:
    run(3, 25)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_collections_are_what_the_model_says_at_length() -> None:
    run(int(os.environ.get("MEMDB_EXAMPLES", "60")), 80)
