"""Filters over whatever documents can hold: nothing raises, and what must be opposite is opposite."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from datetime import time as clock
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from documents import random_queries
from hypothesis import given
from hypothesis import strategies as st
from mongomock.filtering import filter_applies

from memdb import values
from memdb.documents.filters import compile_filter
from memdb.errors import InvalidFilter

ODD = [
    *(None, True, False, 0, 1, -1, 2**70, 1.0, -0.0, float("nan"), float("inf"), 1e300),
    *(Decimal("NaN"), Decimal("sNaN"), Decimal("1E+6000"), Decimal("1.0")),
    *("", "a", "1", b"", b"a", UUID(int=1), datetime(1, 1, 1), datetime(9999, 12, 31, tzinfo=UTC)),
    *(clock(1), 1j, {1, "a"}, frozenset(), (), [], {}, {1: 2}),
]
odd = st.recursive(
    st.sampled_from(ODD),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=3)
    ),
    max_leaves=5,
)
documents = st.dictionaries(st.sampled_from(["a", "b"]), odd, max_size=2)
paths = st.sampled_from(["a", "b", "a.b", "a.0", "a.0.b", "a.a.a"])
tests = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), odd),
    st.tuples(st.sampled_from(["$in", "$nin", "$all"]), st.lists(odd, max_size=3)),
    st.tuples(st.just("$regex"), st.sampled_from(["a", "^", "1$"])),
    st.tuples(st.just("$mod"), st.sampled_from([[2, 0], [3, -1]])),
    st.tuples(st.just("$size"), st.integers(0, 3)),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$type"), st.sampled_from(["number", "string", "array", "null", "set", "decimal"])),
).map(lambda pair: {pair[0]: pair[1]})


@given(
    documents,
    paths,
    st.recursive(tests, lambda inner: inner.map(lambda one: {"$elemMatch": one}), max_leaves=2),
)
def test_no_document_is_too_odd(doc: dict[str, Any], path: str, condition: dict[str, Any]) -> None:
    try:
        plain = compile_filter({path: condition})
    except InvalidFilter as error:
        assert error.path is not None
        return
    found = plain.matches(doc)
    assert type(found) is bool
    for same in ({"$and": [{path: condition}]}, {"$or": [{path: condition}]}, plain.source):
        assert compile_filter(same).matches(doc) is found
    for opposite in ({path: {"$not": condition}}, {"$nor": [{path: condition}]}):
        assert compile_filter(opposite).matches(doc) is not found
    sent: Any = values.decode(values.encode(plain.source))
    assert compile_filter(sent).matches(doc) is found


@given(documents, paths)
def test_what_is_there_is_found_by_itself(doc: dict[str, Any], path: str) -> None:
    value: Any = doc
    for part in path.split("."):
        if type(value) is not dict or part not in value:
            return
        value = value[part]
    assert compile_filter({path: {"$eq": value}}).matches(doc)
    assert compile_filter({path: {"$in": [value]}}).matches(doc)


@pytest.mark.slow
def test_a_filter_takes_a_fifth_of_mongomocks_time() -> None:
    """A ratio of processor times in one process; the best of several turns, since the machine may be busy."""
    rng = random.Random(1)
    docs = [{"_id": n, "age": rng.randrange(100), **random_queries.document(rng)} for n in range(5000)]
    filters: list[dict[str, Any]] = [
        {"age": 30},
        {"age": {"$gt": 30}},
        {"age": {"$gte": 30, "$lt": 50}, "a": {"$ne": "x"}},
        {"a": "ab"},
        {"a.b": {"$gt": 2}},
        {"$or": [{"age": {"$lt": 5}}, {"b": None}]},
    ]
    for filter in filters:
        matches = compile_filter(filter).matches
        ours = min(processor_time(matches, docs) for _ in range(5))
        theirs = min(processor_time(partial(filter_applies, filter), docs) for _ in range(3))
        assert ours <= theirs / 5, (filter, ours, theirs)


def processor_time(matches: Callable[[Any], object], docs: list[Any]) -> float:
    start = time.process_time()
    for doc in docs:
        matches(doc)
    return time.process_time() - start
