"""Updates: MongoDB's update operators over documents, checked once and applied to one document after another.

Owns: :func:`compile_update`, the class :class:`Update`, and how a value is written at a path. changes.py has
what each operator makes of the value that is there.

Invariants:

* ``Update.apply`` never changes its argument nor what it was compiled from: containers on the way to a change
  are copied once, the others are shared.
* What is wrong with an update itself is InvalidFilter when it is compiled (ValueError: fields mixed with
  operators, two changes at one place); what does not fit a document is TypeError when it is applied, and
  nothing of it is done.
* Changes are applied in the order of their paths, so new fields come in an order of their own, as MongoDB's.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from memdb.documents import changes as _changes
from memdb.documents.keyspace import id_bytes
from memdb.documents.operands import copied, name_of, refuse_update
from memdb.documents.paths import Path, is_array
from memdb.sentinels import MISSING

__all__ = ["Update", "compile_update", "upsert_base"]

_PADDING: Final = 1_500_000
"""Elements that a write beyond the end of an array may add: MongoDB's limit."""

Change = Callable[[Any], Any]


class _Step(NamedTuple):
    """A change at *path*; of ``$rename`` the value comes from *source* and *change* is None."""

    path: Path
    op: str
    change: Change | None
    source: Path | None


class Update:
    """A compiled update. ``fields``: the top-level fields that it may change.

    Made by :func:`compile_update`; immutable.

    >>> compile_update({"$inc": {"n": 1}}).apply({"_id": 1, "n": 2})
    {'_id': 1, 'n': 3}
    """

    __slots__ = ("_merged", "_steps", "fields")

    def __init__(self, merged: dict[str, Any], steps: list[_Step]) -> None:
        self._merged = merged
        self._steps = sorted(steps, key=lambda step: _order_of(step.path))
        paths = [path for step in steps for path in (step.path, step.source) if path is not None]
        self.fields: Final = frozenset([*merged, *(path.parts[0] for path in paths)])

    def apply(self, doc: Mapping[str, Any]) -> dict[str, Any]:
        """The document after the update: a new dict, which shares what did not change.

        Raises TypeError if the update does not fit the document, ValueError if it would change ``_id``.
        Cost: the top level of the document, and the containers on the way to each change.

        >>> compile_update({"$push": {"tags": "x"}, "$unset": {"n": 1}}).apply({"_id": 1, "n": 2})
        {'_id': 1, 'tags': ['x']}
        """
        edit = _Edit(doc)
        for name, value in self._merged.items():
            edit.root[name] = copied(value)
        for step in self._steps:
            if step.source is not None:
                edit.rename(step.source, step.path)
            elif step.change is None:
                edit.remove(step.path)
            else:
                edit.change(step.path, step.op, step.change)
        if "_id" in self.fields:
            _check_id(doc.get("_id", MISSING), edit.root.get("_id", MISSING))
        return edit.root


def compile_update(changes: Mapping[str, Any]) -> Update:
    """Checks and compiles an update: fields to be set (``{"age": 31}`` merges one level deep), or operators.

    Raises ValueError if both are mixed, InvalidFilter for an unknown operator, a wrong operand, or two
    changes at one place. Cost: some microseconds for each change.

    >>> compile_update({"age": 31}).apply({"_id": 1, "age": 30, "name": "Al"})
    {'_id': 1, 'age': 31, 'name': 'Al'}
    """
    if not isinstance(changes, Mapping):
        refuse_update("", f"changes are a mapping of fields, or of operators, not {name_of(changes)}")
    for name in changes:
        if type(name) is not str:
            refuse_update("", f"a field is named by a str, not by {name_of(name)} ({name!r})")
    try:
        return _compiled(changes)
    except RecursionError:
        refuse_update("", "a value in it is nested without end, or much too deep; make it flatter")


def _compiled(changes: Mapping[str, Any]) -> Update:
    operators = [name for name in changes if name.startswith("$")]
    if not operators:
        return _merge(changes)
    if len(operators) < len(changes):
        field = next(name for name in changes if not name.startswith("$"))
        raise ValueError(
            f"an update mixes the operator {operators[0]} with the field {field!r}: pass fields alone, or "
            f"put them under $set, as in {{'$set': {{{field!r}: …}}}}"
        )
    return Update({}, _read_steps(changes))


def upsert_base(id: Any) -> dict[str, Any]:
    """What an update that finds no document is applied to: a document with this id alone.

    >>> compile_update({"$inc": {"n": 1}}).apply(upsert_base(7))
    {'_id': 7, 'n': 1}
    """
    return {"_id": id}


def _merge(changes: Mapping[str, Any]) -> Update:
    for name in changes:
        if "." in name:
            refuse_update(
                name,
                "a dotted path changes an inner field only under an operator, as in "
                f"{{'$set': {{{name!r}: …}}}}; fields that are merged are named without dots",
            )
    return Update({name: copied(value) for name, value in changes.items()}, [])


def _read_steps(changes: Mapping[str, Any]) -> list[_Step]:
    steps: list[_Step] = []
    for op, fields in changes.items():
        if op not in _changes.READERS and op not in ("$unset", "$rename"):
            known = ", ".join(sorted({*_changes.READERS, "$unset", "$rename"}))
            refuse_update(op, f"there is no update operator {op}; there are {known}")
        if not isinstance(fields, Mapping):
            refuse_update(
                op, f"{op} takes a mapping of paths, as in {{'{op}': {{'a.b': …}}}}, not {fields!r}"
            )
        for text, operand in fields.items():
            steps.append(_read_step(op, text, operand))
    _check_conflicts(steps)
    return steps


def _read_step(op: str, text: Any, operand: Any) -> _Step:
    path = _read_path(op, text)
    if op == "$unset":
        return _Step(path, op, None, None)
    if op == "$rename":
        return _Step(_read_path(f"{op}.{text}", operand), op, None, path)
    return _Step(path, op, _changes.READERS[op](operand, f"{op}.{text}"), None)


def _read_path(where: str, text: Any) -> Path:
    if not isinstance(text, str):
        refuse_update(where, f"a path is a str, not {name_of(text)} ({text!r})")
    path = Path(text)
    for part in path.parts:
        if not part:
            refuse_update(where, f"the path {text!r} has an empty part; take out a dot")
        if part.startswith("$"):
            refuse_update(
                where,
                f"the path {text!r} has the part {part!r}: positional operators are not supported; name an "
                "element by its number, or change the array as a whole",
            )
    return path


def _check_conflicts(steps: list[_Step]) -> None:
    """No path may be another one, nor lie inside of it."""
    taken: dict[tuple[str, ...], str] = {}
    paths = [(path, step.op) for step in steps for path in (step.path, step.source) if path is not None]
    for path, op in sorted(paths, key=lambda one: len(one[0].parts)):
        for length in range(1, len(path.parts) + 1):
            other = taken.get(path.parts[:length])
            if other is not None:
                at = ".".join(path.parts[:length])
                refuse_update(
                    f"{op}.{path.text}",
                    f"{other} changes {at!r} too, and which comes first is not defined; make two updates",
                )
        taken[path.parts] = op


def _order_of(path: Path) -> list[tuple[bool, int, str]]:
    """Names in the order of their letters, numbers by value and before names."""
    return [(index < 0, index, part) for part, index in zip(path.parts, path.indexes, strict=True)]


def _check_id(old: Any, new: Any) -> None:
    # Equal is not enough: -0.0 and (True,) are other keys than 0.0 and (1,).
    if type(old) is type(new) and old == new and id_bytes(old) == id_bytes(new):
        return
    if new is MISSING:
        raise ValueError(f"the _id {old!r} of a document can't be removed; delete the document")
    raise ValueError(
        f"the _id of a document can't change, here from {old!r} to {new!r}: insert a new document and delete "
        "the old one"
    )


# ----------------------------------------------------------------------------------------------- one document


class _Edit:
    """A document in the making. Containers are copied when they are first written to."""

    __slots__ = ("_own", "root")

    def __init__(self, doc: Mapping[str, Any]) -> None:
        self.root: dict[str, Any] = dict(doc)
        self._own: dict[int, Any] = {}  # containers made here, by identity; held, so that it stays theirs

    def change(self, path: Path, op: str, change: Change) -> None:
        old = self._read(path)
        try:
            new = change(old)
        except _changes.Unfit as error:
            raise TypeError(f"{op} of {path.text!r}: {error}") from None
        if new is not old:
            self._write(path, new)

    def remove(self, path: Path) -> None:
        if self._read(path) is MISSING:
            return
        parent = self._open(path)
        if type(parent) is dict:
            del parent[path.parts[-1]]
        else:
            parent[path.indexes[-1]] = None  # the other elements keep their places

    def rename(self, source: Path, target: Path) -> None:
        self._refuse_arrays(source)
        value = self._read(source)
        if value is MISSING:
            return
        self._refuse_arrays(target)
        self.remove(source)
        self._write(target, value)

    def _refuse_arrays(self, path: Path) -> None:
        node: Any = self.root
        for part in path.parts[:-1]:
            node = node.get(part, MISSING)
            if is_array(node):
                raise TypeError(
                    f"$rename of {path.text!r}: {part!r} is an array, and elements have no names to change; "
                    "use $set and $unset"
                )
            if type(node) is not dict:
                return

    def _read(self, path: Path) -> Any:
        """The value at *path*; elements of arrays are named by their numbers."""
        node: Any = self.root
        for part, index in zip(path.parts, path.indexes, strict=True):
            if type(node) is dict:
                node = node.get(part, MISSING)
            elif is_array(node) and 0 <= index < len(node):
                node = node[index]
            else:
                return MISSING
        return node

    def _write(self, path: Path, value: Any) -> None:
        parent = self._open(path)
        self._put(parent, path, len(path.parts) - 1, value)

    def _open(self, path: Path) -> Any:
        """The container that the last part of *path* is in, with all above it ready to be changed."""
        node: Any = self.root
        for place in range(len(path.parts) - 1):
            child = self._child(node, path, place)
            if id(child) not in self._own:
                if child is MISSING:
                    child = {}
                elif type(child) is dict:
                    child = dict(child)
                elif is_array(child):
                    child = list(child)
                else:
                    raise TypeError(
                        f"there can be no {path.text!r} in this document: "
                        f"{'.'.join(path.parts[: place + 1])!r} is of type {name_of(child)} and has no "
                        "fields; unset it first"
                    )
                self._own[id(child)] = child
                self._put(node, path, place, child)
            node = child
        return node

    def _child(self, node: Any, path: Path, place: int) -> Any:
        if type(node) is dict:
            return node.get(path.parts[place], MISSING)
        index = path.indexes[place]
        return node[index] if 0 <= index < len(node) else MISSING

    def _put(self, node: Any, path: Path, place: int, value: Any) -> None:
        if type(node) is dict:
            node[path.parts[place]] = value
            return
        index = path.indexes[place]
        above = ".".join(path.parts[:place])
        if index < 0:
            raise TypeError(
                f"there can be no {path.text!r} in this document: {above!r} is an array, and "
                f"{path.parts[place]!r} is no number of an element"
            )
        if index < len(node):
            node[index] = value
            return
        if index - len(node) > _PADDING:
            raise ValueError(
                f"writing {path.text!r} would add {index - len(node)} nulls to {above!r} of {len(node)} "
                f"elements (at most {_PADDING}); use $push"
            )
        node.extend([None] * (index - len(node)))
        node.append(value)
