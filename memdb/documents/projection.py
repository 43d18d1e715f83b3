"""Projections: which fields of a document a query returns.

Owns: :func:`compile_projection`.

Invariants:

* Fields are either chosen or left out, never both; ``_id`` comes along unless it is left out by name.
* A path through an array concerns each document in it; choosing drops its other elements, leaving out keeps
  them. Fields keep their order. The argument is not changed, and what is kept whole is shared with it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from memdb.documents.operands import is_integral, name_of

__all__ = ["Projection", "compile_projection"]

Projection = Callable[[Mapping[str, Any]], dict[str, Any]]
_Tree = dict[str, Any]  # of names; None where a path ends


def compile_projection(fields: Iterable[str] | Mapping[str, Any] | None) -> Projection | None:
    """A function that makes of a document one with some of its fields; None if it would be all of them.

    *fields*: a list of paths to choose, or a mapping of paths to 1 (choose these) or 0 (leave these out).
    Raises TypeError, ValueError. Cost: of the function, the fields of a document.

    >>> compile_projection(["a.b"])({"_id": 1, "a": [{"b": 2, "c": 3}], "d": 4})
    {'_id': 1, 'a': [{'b': 2}]}
    >>> compile_projection({"_id": 0, "a": 0})({"_id": 1, "a": 2, "d": 4})
    {'d': 4}
    """
    if fields is None or (isinstance(fields, Mapping) and not fields):
        return None
    wanted = _read(fields)
    has_id = wanted.pop("_id", True)
    kinds = set(wanted.values())
    if len(kinds) == 2:
        chosen = next(path for path, is_in in wanted.items() if is_in)
        left_out = next(path for path, is_in in wanted.items() if not is_in)
        raise ValueError(
            f"fields choose {chosen!r} and leave out {left_out!r}; do one of both (only _id may be left out "
            "where others are chosen)"
        )
    is_choice = kinds.pop() if kinds else has_id
    tree = _tree_of(wanted)
    if is_choice:
        if has_id:
            tree = {"_id": None, **tree}
        return lambda doc: _choose(doc, tree)
    if not has_id:
        tree["_id"] = None
    return lambda doc: _leave_out(doc, tree)


def _read(fields: Iterable[str] | Mapping[str, Any]) -> dict[str, bool]:
    if isinstance(fields, str | bytes):
        raise TypeError(f"fields are a list of paths, as in [{fields!r}], or a mapping of them to 0 or 1")
    wanted: dict[str, bool] = {}
    for path in fields:
        if not isinstance(path, str):
            raise TypeError(f"fields name a path by a str, not by {name_of(path)} ({path!r})")
        parts = path.split(".")
        if not all(parts) or any(part.startswith("$") for part in parts):
            raise ValueError(
                f"fields name the path {path!r}, and a path is names with dots between, as 'a.b', and no $"
            )
        wanted[path] = _is_chosen(path, fields[path]) if isinstance(fields, Mapping) else True
    return wanted


def _is_chosen(path: str, value: Any) -> bool:
    if type(value) is not bool and (not is_integral(value) or value not in (0, 1)):
        raise ValueError(f"fields map {path!r} to {value!r}; use 1 to choose it, 0 to leave it out")
    return bool(value)


def _tree_of(paths: Iterable[str]) -> _Tree:
    tree: _Tree = {}
    for path in paths:
        *above, last = path.split(".")
        node = tree
        for name in above:
            node = node.setdefault(name, {})
            if node is None:
                raise ValueError(f"fields name {path!r} and a path that it lies in; take out one of them")
        if last in node:
            raise ValueError(f"fields name {path!r} and a path inside it; take out one of them")
        node[last] = None
    return tree


def _choose(doc: Mapping[str, Any], tree: _Tree) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for name, value in doc.items():
        if name not in tree:
            continue
        inner = tree[name]
        if inner is None:
            chosen[name] = value
        elif type(value) is dict:
            chosen[name] = _choose(value, inner)
        elif type(value) is list or type(value) is tuple:
            chosen[name] = _choose_in(value, inner)
    return chosen


def _choose_in(array: Iterable[Any], tree: _Tree) -> list[Any]:
    chosen: list[Any] = []
    for element in array:
        if type(element) is dict:
            chosen.append(_choose(element, tree))
        elif type(element) is list or type(element) is tuple:
            chosen.append(_choose_in(element, tree))
    return chosen


def _leave_out(doc: Mapping[str, Any], tree: _Tree) -> dict[str, Any]:
    left: dict[str, Any] = {}
    for name, value in doc.items():
        inner = tree.get(name, tree)  # the tree itself: a name that is not in it
        if inner is tree:
            left[name] = value
        elif inner is not None:
            left[name] = _leave_out_of(value, inner)
    return left


def _leave_out_of(value: Any, tree: _Tree) -> Any:
    if type(value) is dict:
        return _leave_out(value, tree)
    if type(value) is list or type(value) is tuple:
        return [_leave_out_of(element, tree) for element in value]
    return value
