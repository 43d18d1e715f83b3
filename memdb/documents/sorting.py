"""Sorting: what ``sort=`` says, and the bytes by which documents are compared.

Owns: :func:`sort_keys` and :func:`sorter`.

Invariants:

* Documents sort in memory exactly as the entries of an index on the same fields do: the bytes are the same.
* Of an array the least element counts, in descending order the greatest; an empty one comes before null.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from memdb.documents.operands import is_integral, name_of
from memdb.documents.paths import Path, index_values, is_array
from memdb.errors import UnsupportedType
from memdb.layering import encode_compound, encode_ordered

__all__ = ["Sort", "check_one_path", "sort_keys", "sorter"]

Sort = str | Iterable[str | tuple[str, int]] | Mapping[str, int]


def sort_keys(sort: Sort | None, what: str = "sort") -> list[tuple[str, bool]]:
    """The paths of a sort and whether each is descending.

    *sort*: ``"age"``, ``"-age"``, a list of those, a list of (path, 1 or -1), or a mapping of paths to 1 or
    -1. None: no paths. *what* they are of, for errors. Raises TypeError, ValueError. Cost: none.

    >>> sort_keys(["city", "-age"]), sort_keys([("age", -1)])
    ([('city', False), ('age', True)], [('age', True)])
    """
    if sort is None:
        return []
    if isinstance(sort, str):
        check_one_path(sort, what)
        sort = [sort]
    if not isinstance(sort, Iterable):
        raise TypeError(f"{what} takes a path, as 'age' or '-age', or a list of some, not {name_of(sort)}")
    keys = [_read(one, what) for one in (sort.items() if isinstance(sort, Mapping) else sort)]
    for number, (path, _) in enumerate(keys):
        if any(path == other for other, _ in keys[:number]):
            raise ValueError(f"{what} names {path!r} twice; take out one of them")
    return keys


def check_one_path(text: str, what: str) -> None:
    """Raises ValueError for several paths with commas between, as the command line has them: as one path they
    would name a field that no document has. A list takes any path, also one with a comma."""
    if "," in text:
        listed = [part.strip() for part in text.split(",")]
        raise ValueError(f"{what} takes several paths as a list, {listed!r}, and not as one text, {text!r}")


def _read(one: Any, what: str) -> tuple[str, bool]:
    path, direction = one, 1
    if is_array(one) and len(one) == 2:
        path, direction = one
    elif isinstance(one, str) and one.startswith("-"):
        path, direction = one[1:], -1
    if not isinstance(path, str) or not is_integral(direction) or direction not in (1, -1):
        raise TypeError(f"{what} takes a path, as 'age' or '-age', or a pair, as ('age', -1), not {one!r}")
    if not all(path.split(".")) or path.startswith("$"):
        raise ValueError(f"{what} names the path {path!r}, and a path is names with dots between, as 'a.b'")
    return path, direction == -1


def sorter(keys: Sequence[tuple[str, bool]]) -> Callable[[Mapping[str, Any]], bytes]:
    """The function that gives the bytes by which documents sort, for the keys of :func:`sort_keys`.

    It raises UnsupportedType, naming the path, for a value without an order (a set, a complex number, a time
    of day). Cost: of the function, about 1 µs a key.

    >>> sorted([{"n": 2}, {}, {"n": [3, 1]}], key=sorter([("n", False)]))
    [{}, {'n': [3, 1]}, {'n': 2}]
    """
    paths = [Path(path) for path, _ in keys]
    descending = tuple(is_descending for _, is_descending in keys)
    pairs = list(zip(paths, descending, strict=True))

    def key_of(doc: Mapping[str, Any]) -> bytes:
        return encode_compound(tuple([_value(doc, *pair) for pair in pairs]), descending)

    def explained(doc: Mapping[str, Any]) -> bytes:
        try:
            return key_of(doc)
        except UnsupportedType as error:
            named = ", ".join(repr(path.text) for path in paths)
            raise UnsupportedType(
                f"sorting by {named}: {error}", type_name=error.type_name, path=error.path
            ) from None

    return explained


def _value(doc: Mapping[str, Any], path: Path, is_descending: bool) -> Any:
    """The value of a document that counts."""
    if len(path.parts) == 1:
        value = doc.get(path.text)
        if not is_array(value):
            return value
    values, _ = index_values(doc, path)
    if len(values) == 1:
        return values[0]
    return (max if is_descending else min)(values, key=encode_ordered)
