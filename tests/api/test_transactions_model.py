"""A transaction against a model: after any sequence of calls it reads as a dict, and commits just that."""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, settings

import memdb

KEYS = st.one_of(
    st.integers(0, 12),
    st.sampled_from(
        ["", "a", "aa", "ab", "b", b"", b"a", b"a\0", ("t",), ("t", 1), ("t", 1, 2), ("t", 10), ("u",)]
    ),
)
VALUES = st.one_of(
    st.integers(), st.binary(max_size=4), st.text(max_size=3), st.lists(st.integers(), max_size=2)
)
BOUND = st.one_of(st.none(), KEYS)
PREFIXES = st.one_of(st.none(), st.sampled_from(["a", "", b"a", ("t",), ("t", 1)]))

STEP = st.one_of(
    st.tuples(st.just("set"), KEYS, VALUES),
    st.tuples(st.just("if_absent"), KEYS, VALUES),
    st.tuples(st.just("delete"), KEYS),
    st.tuples(st.just("delete_many"), st.lists(KEYS, max_size=4)),
    st.tuples(st.just("delete_range"), BOUND, BOUND, PREFIXES),
    st.tuples(st.just("update"), st.dictionaries(KEYS, VALUES, max_size=4)),
    st.tuples(st.just("pop"), KEYS),
    st.tuples(st.just("popitem")),
    st.tuples(st.just("clear")),
    st.tuples(st.just("savepoint")),
    st.tuples(st.just("rollback"), st.integers(0, 3)),
    st.tuples(
        st.just("range"), BOUND, BOUND, PREFIXES, st.booleans(), st.one_of(st.none(), st.integers(0, 5))
    ),
    st.tuples(st.just("get_many"), st.lists(KEYS, max_size=4)),
)

Model = dict[Any, Any]


def stored(key: Any) -> bytes:
    from memdb.shm import _kernel

    return _kernel.encode_key(key)


def within(model: Model, start: Any, stop: Any, prefix: Any, reverse: bool = False) -> list[Any]:
    from memdb.shm import _kernel

    keys = sorted((key for key in model if _kernel.in_range(key, start, stop, prefix)), key=stored)
    return keys[::-1] if reverse else keys


class Both:
    """The same call on the transaction and on its model."""

    def __init__(self, tx: memdb.Transaction, model: Model) -> None:
        self.tx, self.model = tx, model
        self.savepoints: list[tuple[Any, Model]] = []

    def set(self, key: Any, value: Any) -> None:
        self.tx[key] = self.model[key] = value

    def if_absent(self, key: Any, value: Any) -> None:
        assert self.tx.set(key, value, if_absent=True) == (key not in self.model)
        self.model.setdefault(key, value)

    def delete(self, key: Any) -> None:
        assert self.tx.delete(key) == (key in self.model)
        self.model.pop(key, None)

    def delete_many(self, keys: list[Any]) -> None:
        there = set(keys) & set(self.model)
        assert self.tx.delete_many(keys) == len(there)
        for key in there:
            del self.model[key]

    def delete_range(self, start: Any, stop: Any, prefix: Any) -> None:
        keys = within(self.model, start, stop, prefix)
        assert self.tx.delete_range(start, stop, prefix=prefix) == len(keys)
        for key in keys:
            del self.model[key]

    def update(self, pairs: Model) -> None:
        self.tx.update(pairs)
        self.model.update(pairs)

    def pop(self, key: Any) -> None:
        assert self.tx.pop(key, "nothing") == self.model.pop(key, "nothing")

    def popitem(self) -> None:
        if self.model:
            last = within(self.model, None, None, None)[-1]
            assert self.tx.popitem() == (last, self.model.pop(last))

    def clear(self) -> None:
        self.tx.clear()
        self.model.clear()

    def savepoint(self) -> None:
        self.savepoints.append((self.tx.savepoint(), dict(self.model)))

    def rollback(self, index: int) -> None:
        if index < len(self.savepoints):
            del self.savepoints[index + 1 :]
            point, then = self.savepoints[index]
            self.tx.rollback_to(point)
            self.model = dict(then)

    def range(self, start: Any, stop: Any, prefix: Any, reverse: bool, limit: int | None) -> None:
        keys = within(self.model, start, stop, prefix, reverse)
        got = list(self.tx.range(start, stop, prefix=prefix, reverse=reverse, limit=limit))
        assert got == [(key, self.model[key]) for key in keys[:limit]]
        view = self.tx.keys(start=start, stop=stop, prefix=prefix)
        assert len(view) == len(keys) and list(view) == within(self.model, start, stop, prefix)

    def get_many(self, keys: list[Any]) -> None:
        assert self.tx.get_many(keys, "nothing") == [self.model.get(key, "nothing") for key in keys]
        for key in keys:
            assert self.tx.get(key, "nothing") == self.model.get(key, "nothing")
            assert (key in self.tx) == (key in self.model)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    before=st.dictionaries(KEYS, VALUES, max_size=12),
    steps=st.lists(STEP, max_size=20),
    isolation=st.sampled_from(["serializable", "snapshot"]),
)
def test_reads_its_own_writes(db: memdb.Database, before: Model, steps: list[Any], isolation: Any) -> None:
    db.clear()
    db.update(before)
    with db.transaction(isolation=isolation) as tx:
        both = Both(tx, dict(before))
        for name, *arguments in steps:
            call: Callable[..., None] = getattr(both, name)
            call(*arguments)
            assert tx == both.model and len(tx) == len(both.model)
        assert list(reversed(tx)) == within(both.model, None, None, None, True)
        assert db == before, "nobody else sees it"
    assert db == both.model


SHORT = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 5)),
        st.tuples(st.just("write"), st.integers(0, 5)),
        st.tuples(st.just("delete"), st.integers(0, 5)),
        st.tuples(st.just("range"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("drop"), st.integers(0, 5), st.integers(0, 5)),
    ),
    min_size=1,
    max_size=4,
)


def run(tx: memdb.Transaction, name: str, steps: list[Any]) -> list[Any]:
    """Does the steps; what it writes depends on all that it read."""
    seen: list[Any] = []
    for step, *arguments in steps:
        if step == "read":
            seen.append(tx.get(*arguments))
        elif step == "range":
            seen.append(list(tx.range(*arguments)))
        elif step == "write":
            tx[arguments[0]] = f"{name}{seen}"
        elif step == "delete":
            seen.append(tx.delete(*arguments))
        else:
            seen.append(tx.delete_range(*arguments))
    return seen


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=SHORT, second=SHORT, before=st.dictionaries(st.integers(0, 5), st.just("b"), max_size=4))
def test_two_transactions_are_as_if_one_after_the_other(
    db: memdb.Database, first: list[Any], second: list[Any], before: Model
) -> None:
    """Both read at the same point, the first commits: if the second may commit, then the result, and what
    each read, is that of some order."""
    db.clear()
    db.update(before)
    one, two = db.transaction(), db.transaction()
    saw_one, saw_two = run(one, "one", first), run(two, "two", second)
    one.commit()
    try:
        two.commit()
    except memdb.ConflictError:
        two_done = False
    else:
        two_done = True
    result = dict(db)
    orders = [
        [("one", first, saw_one), ("two", second, saw_two)],
        [("two", second, saw_two), ("one", first, saw_one)],
    ]
    if not two_done:
        orders = [[("one", first, saw_one)]]
    explained = []
    for order in orders:
        db.clear()
        db.update(before)
        same = True
        for name, steps, saw in order:
            with db.transaction() as tx:
                same &= run(tx, name, steps) == saw
        explained.append(same and dict(db) == result)
    assert any(explained)
