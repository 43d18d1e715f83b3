"""Paths: what a filter, an index, a projection and a group find at the same path of the same document."""

import random
from typing import Any

import pytest
from documents.random_queries import PATHS, document

from memdb.documents.paths import EMPTY, Path, any_at, distinct_values, index_values, value_of
from memdb.documents.projection import compile_projection
from memdb.sentinels import MISSING


def seen(doc: dict[str, Any], path: str) -> list[Any]:
    """What a filter is shown: values of fields as they are, then the elements that the path numbers."""
    leaves: list[Any] = []
    numbered: list[Any] = []
    any_at(
        doc, Path(path), lambda value: bool(leaves.append(value)), lambda value: bool(numbered.append(value))
    )
    return leaves + numbered


@pytest.mark.parametrize(
    ("doc", "path", "filtered", "indexed", "grouped"),
    [
        ({"a": 1}, "a", [1], [1], 1),
        ({}, "a", [MISSING], [None], MISSING),
        ({"a": None}, "a", [None], [None], None),
        ({"a": []}, "a", [[]], [EMPTY], []),
        ({"a": [1, [2]]}, "a", [[1, [2]]], [1, [2]], [1, [2]]),
        ({"a": {"b": 1}}, "a.b", [1], [1], 1),
        ({"a": 4}, "a.b", [MISSING], [None], MISSING),
        ({"a": []}, "a.b", [], [None], []),
        ({"a": [4]}, "a.b", [], [None], []),
        ({"a": [{"b": 1}, {}, 5]}, "a.b", [1, MISSING], [1, None, None], [1]),
        ({"a": [{"b": [1, 2]}]}, "a.b", [[1, 2]], [1, 2], [[1, 2]]),
        ({"a": [{"b": []}]}, "a.b", [[]], [EMPTY], [[]]),
        ({"a": [5, 6]}, "a.1", [6], [6], []),
        ({"a": [5]}, "a.1", [], [None], []),
        ({"a": [[5, 6]]}, "a.0", [[5, 6]], [5, 6], [[]]),
        ({"a": [{"0": 7}]}, "a.0", [7, {"0": 7}], [7, {"0": 7}], [7]),
        ({"a": [0, [{"b": 1}]]}, "a.1.b", [1], [1], [[]]),
        ({"a": [{"b": 1}]}, "a.0.b", [MISSING, 1], [None, 1], []),
        ({"a": ({"b": 1},)}, "a.b", [1], [1], [1]),
        ({"a": {"b": [{"c": 1}, {"c": 2}]}}, "a.b.c", [1, 2], [1, 2], [1, 2]),
    ],
)
def test_what_is_at_a_path(
    doc: Any, path: str, filtered: list[Any], indexed: list[Any], grouped: Any
) -> None:
    assert seen(doc, path) == filtered
    assert index_values(doc, Path(path))[0] == indexed
    assert value_of(doc, Path(path)) == grouped
    found = [one for one in indexed if one is not EMPTY and (one is not None or None in filtered)]
    assert distinct_values(doc, Path(path)) == found


def test_whether_an_array_was_met() -> None:
    for doc in ({"a": [1]}, {"a": []}, {"a": (1,)}):
        assert index_values(doc, Path("a"))[1]
        assert index_values(doc, Path("a.b"))[1]
    for doc in ({"a": 1}, {}, {"a": {"b": 1}}, {"a": {"b": {"c": [1]}}}):
        assert not index_values(doc, Path("a.b"))[1]


def test_an_index_leads_to_all_that_a_filter_sees() -> None:
    """Else a query by index would miss documents that a scan finds."""
    rng = random.Random(5)
    arrays = 0
    for _ in range(3000):
        doc = document(rng)
        for path in PATHS:
            values, met_array = index_values(doc, Path(path))
            arrays += met_array
            for value in seen(doc, path):
                elements = value if isinstance(value, list) and value else [value]
                for one in elements:
                    expected = None if one is MISSING else EMPTY if one == [] and value == [] else one
                    assert any(expected is have or expected == have for have in values), (doc, path, value)
            assert met_array or len(values) == 1
    assert arrays > 100


def test_projection_chooses() -> None:
    doc = {"_id": 1, "a": {"b": 1, "c": 2}, "d": [{"b": 1, "c": 2}, 5, [{"b": 3}]], "e": 7}
    for fields in (["e"], {"e": 1}, {"e": True}, ("e",)):
        assert compile_projection(fields)(doc) == {"_id": 1, "e": 7}  # type: ignore[misc]
    chosen = [
        (["a.b", "d.b"], {"_id": 1, "a": {"b": 1}, "d": [{"b": 1}, [{"b": 3}]]}),
        (["e", "a.x"], {"_id": 1, "a": {}, "e": 7}),
        (["e.x"], {"_id": 1}),
        (["_id"], {"_id": 1}),
        ([], {"_id": 1}),
        ({"_id": 0, "e": 1}, {"e": 7}),
        ({"_id": 1}, {"_id": 1}),
        (["zz"], {"_id": 1}),
    ]
    for fields, expected in chosen:
        new = compile_projection(fields)(doc)  # type: ignore[misc, arg-type]
        assert list(new.items()) == list(expected.items()), fields


def test_projection_leaves_out() -> None:
    doc = {"_id": 1, "a": {"b": 1, "c": 2}, "d": [{"b": 1, "c": 2}, 5, [{"b": 3}]], "e": 7}
    left: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"a": 0, "d": False}, {"_id": 1, "e": 7}),
        ({"_id": 0}, {"a": doc["a"], "d": doc["d"], "e": 7}),
        ({"_id": 0, "d": 0, "a": 0.0}, {"e": 7}),
        ({"a.b": 0, "e": 0, "d.b": 0}, {"_id": 1, "a": {"c": 2}, "d": [{"c": 2}, 5, [{}]]}),
        ({"e.x": 0, "zz": 0, "a": 0, "d": 0}, {"_id": 1, "e": 7}),
    ]
    for fields, expected in left:
        assert list(compile_projection(fields)(doc).items()) == list(expected.items()), fields  # type: ignore[misc]
    assert compile_projection(None) is None
    assert compile_projection({}) is None


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ("name", TypeError, r"as in \['name'\]"),
        ([5], TypeError, "by a str, not by int"),
        (["a", "a.b"], ValueError, "take out one of them"),
        (["a.b", "a"], ValueError, "take out one of them"),
        (["a."], ValueError, "names with dots between"),
        (["$a"], ValueError, "names with dots between"),
        (["a.$"], ValueError, "and no [$]"),
        ({"a": 1, "b": 0}, ValueError, "choose 'a' and leave out 'b'"),
        ({"a": 2}, ValueError, "use 1 to choose it"),
        ({"a": {"$slice": 1}}, ValueError, "use 1 to choose it"),
    ],
)
def test_projections_that_are_refused(fields: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        compile_projection(fields)
