"""Ranges, views and iteration: bounds, both directions, one consistent snapshot."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import memdb


@pytest.fixture
def numbers(db: memdb.Database) -> memdb.Database:
    db.set_many((n, str(n)) for n in range(1000))
    return db


def test_range(numbers: memdb.Database) -> None:
    db = numbers
    assert list(db.range(3, 6)) == [(3, "3"), (4, "4"), (5, "5")]
    assert [key for key, _ in db.range(reverse=True, limit=3)] == [999, 998, 997]
    assert [key for key, _ in db.range(3, 6, reverse=True)] == [5, 4, 3]
    assert list(db.range(6, 3)) == [] and list(db.range(limit=0)) == [] and list(db.range(2.0, 3.0)) == []
    assert list(db.range()) == [(n, str(n)) for n in range(1000)]
    assert list(db.range(reverse=True)) == [(n, str(n)) for n in reversed(range(1000))]
    assert list(db.range(start=998)) == [(998, "998"), (999, "999")]


def test_iteration_both_ways(numbers: memdb.Database) -> None:
    assert list(numbers) == list(range(1000)) and list(reversed(numbers)) == list(range(999, -1, -1))


@pytest.mark.parametrize("limit", [-1, "5", 1.0], ids=repr)
def test_bad_limits(numbers: memdb.Database, limit: Any) -> None:
    for call in (numbers.range, numbers.keys, numbers.values, numbers.items):
        with pytest.raises((TypeError, ValueError)):
            call(limit=limit)


def test_views_take_keywords_only(db: memdb.Database) -> None:
    for call in (db.keys, db.values, db.items):
        with pytest.raises(TypeError):
            call(1)  # type: ignore[call-arg]


def test_views(numbers: memdb.Database) -> None:
    db = numbers
    keys, values, items = db.keys(start=5, stop=8), db.values(start=5, stop=8), db.items(start=5, stop=8)
    assert (list(keys), list(values), list(items)) == (
        [5, 6, 7],
        ["5", "6", "7"],
        [(5, "5"), (6, "6"), (7, "7")],
    )
    assert len(keys) == len(values) == len(items) == 3
    assert 5 in keys and 8 not in keys and 5.0 not in keys
    assert "6" in values and "8" not in values
    assert (5, "5") in items and (5, "6") not in items and (8, "8") not in items and 5 not in items
    assert list(reversed(keys)) == [7, 6, 5] and list(reversed(values)) == ["7", "6", "5"]
    assert list(reversed(db.keys(limit=3))) == [2, 1, 0] and len(db.keys(limit=3)) == 3
    assert 3 not in db.keys(limit=3) and 2 in db.keys(limit=3)
    assert keys & {5, 99} == {5} and keys | {1} == {1, 5, 6, 7} and keys == {5, 6, 7} and keys - {5} == {6, 7}
    db[6.5] = "new"
    assert len(db.keys()) == 1001 and list(db.keys(start=5, stop=8)) == [5, 6, 7]
    assert "keys" in repr(keys).lower() and "start=5" in repr(keys)


def test_prefixes_and_bounds_together(db: memdb.Database) -> None:
    db.update(
        {
            "user:1": 1,
            "user:2": 2,
            "user:3": 3,
            "v": 4,
            b"user:1": 5,
            ("user", 1): 6,
            ("user", 10): 7,
            ("user", 1, 2): 8,
        }
    )
    assert list(db.keys(prefix="user:")) == ["user:1", "user:2", "user:3"]
    assert list(db.keys(prefix="user:", start="user:2")) == ["user:2", "user:3"]
    assert list(db.keys(prefix="user:", stop="user:2")) == ["user:1"]
    assert list(db.keys(prefix=("user", 1))) == [("user", 1), ("user", 1, 2)]
    assert list(db.keys(prefix=("user",))) == [("user", 1), ("user", 1, 2), ("user", 10)]
    assert list(db.keys(prefix=b"")) == [b"user:1"] and list(db.keys(prefix="")) == [
        "user:1",
        "user:2",
        "user:3",
        "v",
    ]
    assert list(db.keys(prefix=(), reverse=True)) == [("user", 10), ("user", 1, 2), ("user", 1)]
    assert len(db.keys(prefix="user:")) == 3 and "v" not in db.keys(prefix="user:")


def test_iteration_reads_one_snapshot(numbers: memdb.Database) -> None:
    db = numbers
    iterator = iter(db.items())
    first = next(iterator)
    for n in range(1000):
        db[n] = "changed"
    db.clear()
    db["later"] = 1
    assert [first, *iterator] == [(n, str(n)) for n in range(1000)]
    assert list(db) == ["later"]


def test_the_snapshot_is_taken_at_the_first_next(db: memdb.Database) -> None:
    iterator = db.range()
    db["a"] = 1
    assert list(iterator) == [("a", 1)]


def test_changing_while_iterating_is_safe(numbers: memdb.Database) -> None:
    for key in numbers:
        del numbers[key]
    assert len(numbers) == 0


def test_an_iterator_can_be_closed(numbers: memdb.Database) -> None:
    with numbers.range() as iterator:
        next(iterator)
        assert len(numbers.readers()) == 1
    assert list(iterator) == [] and numbers.readers() == []
    iterator.close()
    abandoned = numbers.range()
    next(abandoned)
    del abandoned
    gc.collect()
    assert numbers.readers() == []


def test_iterators_end_with_their_handle(opened: Callable[..., memdb.Database]) -> None:
    db = opened()
    db.set_many((n, n) for n in range(1000))
    other = opened()
    iterator = iter(db)
    next(iterator)
    db.close()
    with pytest.raises(memdb.ClosedError):
        list(iterator)
    assert len(other) == 1000


def test_many_iterators_at_once(numbers: memdb.Database) -> None:
    iterators = [iter(numbers) for _ in range(500)]
    assert all(next(one) == 0 for one in iterators)
    more = [iter(numbers) for _ in range(50)]
    with pytest.raises(memdb.Error, match="511"):
        for one in more:
            next(one)
    for one in iterators:
        one.close()  # type: ignore[attr-defined]
    assert list(numbers.keys(limit=2)) == [0, 1]


def test_values_of_all_sizes_in_one_scan(db: memdb.Database) -> None:
    pairs = {n: bytes([n]) * (3**n) for n in range(12)}
    db.set_many(pairs)
    assert dict(db.items()) == pairs and dict(db.items(reverse=True)) == pairs


_bound = st.none() | st.integers(-1, 41)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(_bound, _bound, st.booleans(), st.none() | st.integers(0, 50))
def test_any_range_is_that_of_a_sorted_list(
    sparse: memdb.Database, start: int | None, stop: int | None, reverse: bool, limit: int | None
) -> None:
    expected = [n for n in range(0, 40, 2) if (start is None or n >= start) and (stop is None or n < stop)]
    size = len(expected)
    expected = (expected[::-1] if reverse else expected)[:limit]
    assert [key for key, _ in sparse.range(start, stop, reverse=reverse, limit=limit)] == expected
    view = sparse.keys(start=start, stop=stop, reverse=reverse, limit=limit)
    assert list(view) == expected and len(view) == len(expected) and list(reversed(view)) == expected[::-1]
    assert len(sparse.keys(start=start, stop=stop)) == size


@pytest.fixture
def sparse(db: memdb.Database) -> memdb.Database:
    db.set_many((n, n) for n in range(0, 40, 2))
    return db
