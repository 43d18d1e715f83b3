"""Type annotations of dataclasses, made into shapes: what may stand in a field, how it is stored and read.

Owns: the table of what annotations mean; dataclasses, also nested and recursive ones.

Invariants:

* A shape is made once for an annotation; values are then only compared and converted.
* Types are exact, as those of the value codec: True is no int, a datetime no date, a subclass of a dataclass
  not that dataclass. An int may stand where float is said, as type checkers have it, and is stored as float.
* What a union stores tells which of its types it was; one of which that isn't true is refused when the model
  is looked at, not when a document is read.
"""

import collections.abc
import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import repeat
from typing import Annotated, Any, Final, Literal, NewType, TypeVar, Union
from uuid import UUID

from memdb.documents.shapes import ANYTHING, Mismatch, Shape, seen, type_name

__all__ = ["Nested", "Unusable", "dataclass_shape", "shape_of"]

Nested = Callable[[type], Shape | None]
"""The shape of a class of another kind (msgspec, pydantic), None for any other class."""

_SCALARS: Final = (bool, int, str, bytes, Decimal, UUID, datetime, date, time, timedelta)
_NONE: Final = type(None)


class Unusable(Exception):
    """A model that can't be stored and read again as it is. ``steps``: the fields that lead there."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []


def shape_of(annotation: Any, nested: Nested, known: dict[type, Shape]) -> Shape:
    """The shape of an annotation. *known*: the dataclasses met so far, so that one may hold itself.

    Raises Unusable for what has no stored form.
    """
    annotation = _bare(annotation)
    if annotation in (Any, object) or isinstance(annotation, TypeVar):
        return ANYTHING
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return _union([shape_of(one, nested, known) for one in arguments])
    if origin is Literal:
        return _literal(arguments)
    container = _CONTAINERS.get(origin or annotation)
    if container is not None:
        return container(arguments, lambda one: shape_of(one, nested, known))
    if isinstance(annotation, type) and origin is None:
        return _of_class(annotation, nested, known)
    if annotation is None:
        return _scalar(_NONE)
    raise Unusable(f"{_said(annotation)} has no stored form; use one of Python's plain types, or Any")


def _bare(annotation: Any) -> Any:
    """Without what says nothing about the stored form."""
    while True:
        origin = typing.get_origin(annotation)
        if origin in (Annotated, typing.Final):
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # `type X = …` of Python 3.12
            annotation = annotation.__value__
        else:
            return annotation


def _of_class(kind: type, nested: Nested, known: dict[type, Shape]) -> Shape:
    if kind in _SCALARS or kind is _NONE:
        return _scalar(kind)
    if kind in _NUMBERS:
        return _number(kind)
    if issubclass(kind, enum.Enum):
        return _enumeration(kind)
    other = nested(kind)
    if other is not None:
        return other
    if dataclasses.is_dataclass(kind):
        return dataclass_shape(kind, nested, known)
    raise Unusable(
        f"{_said(kind)} has no stored form; use one of Python's plain types, an Enum, a dataclass, or Any"
    )


# ---------------------------------------------------------------------------------------------------- scalars


def _scalar(kind: type) -> Shape:
    text = "None" if kind is _NONE else type_name(kind)

    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise Mismatch(f"{seen(value)} where the model says {text}")
        return value

    return Shape(text, check, check, frozenset({kind}), same=True, exact=kind)


_NUMBERS: Final[dict[type, tuple[type, ...]]] = {float: (int,), complex: (int, float)}
"""Which numbers may stand where another is said."""


def _number(kind: type) -> Shape:
    taken = _NUMBERS[kind]

    def convert(value: Any) -> Any:
        if type(value) is kind:
            return value
        if type(value) in taken:
            try:
                converted = kind(value)
            except OverflowError:
                converted = None
            if converted == value:
                return converted
            raise Mismatch(f"{seen(value)} where the model says {type_name(kind)}, which can't hold it")
        raise Mismatch(f"{seen(value)} where the model says {type_name(kind)}")

    return Shape(type_name(kind), convert, convert, frozenset({kind}), same=True, exact=kind)


def _enumeration(kind: type[enum.Enum]) -> Shape:
    text = type_name(kind)

    def dump(value: Any) -> Any:
        if type(value) is not kind:
            raise Mismatch(f"{seen(value)} where the model says {text}")
        return value.value

    def load(value: Any) -> Any:
        try:
            return kind(value)
        except ValueError as error:
            raise Mismatch(f"{seen(value)}, which is no value of {text}") from error

    return Shape(text, dump, load, frozenset(type(one.value) for one in kind))


def _literal(values: tuple[Any, ...]) -> Shape:
    text = f"one of {', '.join(repr(one) for one in values)}"
    if any(isinstance(one, enum.Enum) for one in values):
        raise Unusable("a Literal of members of an Enum has no stored form; use the Enum")
    allowed = frozenset((type(one), one) for one in values)

    def check(value: Any) -> Any:
        if isinstance(value, collections.abc.Hashable) and (type(value), value) in allowed:
            return value
        raise Mismatch(f"{seen(value)} where the model says {text}")

    return Shape(text, check, check, frozenset(type(one) for one in values), same=True)


def _union(shapes: list[Shape]) -> Shape:
    """Tries the types in their order, those first that a value is of exactly."""
    text = " | ".join(shape.text for shape in shapes)
    _check_distinct(shapes)
    exact = {shape.exact for shape in shapes if shape.exact is not None}

    def convert(value: Any, ways: list[Callable[[Any], Any]]) -> Any:
        if type(value) in exact:
            return value
        deepest: Mismatch | None = None
        for way in ways:
            try:
                return way(value)
            except Mismatch as error:
                if error.steps and (deepest is None or len(error.steps) > len(deepest.steps)):
                    deepest = error
        if deepest is not None:  # it is of that type, but for one place in it
            raise deepest
        raise Mismatch(f"{seen(value)} where the model says {text}")

    dumps, loads = [shape.dump for shape in shapes], [shape.load for shape in shapes]
    stored: frozenset[type] | None = frozenset()
    for shape in shapes:
        stored = None if stored is None or shape.stored is None else stored | shape.stored
    return Shape(
        text,
        lambda value: convert(value, dumps),
        lambda value: convert(value, loads),
        stored,
        same=all(shape.same for shape in shapes),
    )


def _check_distinct(shapes: list[Shape]) -> None:
    """Refuses a union of which the stored form does not tell which of its types it was."""
    for index, one in enumerate(shapes):
        for other in shapes[:index]:
            alike = one.stored is None or other.stored is None or one.stored & other.stored
            if alike and not (one.same and other.same):
                raise Unusable(
                    f"{other.text} | {one.text} can't be told apart when they are read again: "
                    "both are stored alike; use one class with a field that says which it is"
                )


# ------------------------------------------------------------------------------------------------- containers

_Of = Callable[[Any], Shape]


def _items(ways: Iterable[Callable[[Any], Any]], values: Any) -> list[Any]:
    """Each value in its own way."""
    result: list[Any] = []
    try:
        for way, value in zip(ways, values, strict=False):
            result.append(way(value))
    except Mismatch as error:
        raise error.at(f"[{len(result)}]") from None
    return result


def _sequence(arguments: tuple[Any, ...], of: _Of) -> Shape:
    item = of(arguments[0]) if arguments else ANYTHING
    text = f"list[{item.text}]"

    def converted(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            if type(value) is not list:
                raise Mismatch(f"{seen(value)} where the model says {text}")
            return _items(repeat(convert), value)

        return run

    return Shape(text, converted(item.dump), converted(item.load), frozenset({list}), same=item.same)


def _set_of(kind: type) -> Callable[[tuple[Any, ...], _Of], Shape]:
    """A set is stored as an array, which indexes and filters look into."""

    def shape(arguments: tuple[Any, ...], of: _Of) -> Shape:
        item = of(arguments[0]) if arguments else ANYTHING
        text = f"{type_name(kind)}[{item.text}]"

        def dump(value: Any) -> Any:
            if type(value) is not kind:
                raise Mismatch(f"{seen(value)} where the model says {text}")
            return _items(repeat(item.dump), value)

        def load(value: Any) -> Any:
            if type(value) not in (list, set, frozenset):
                raise Mismatch(f"{seen(value)} where the model says {text}")
            return kind(_items(repeat(item.load), value))

        return Shape(text, dump, load, frozenset({list}))

    return shape


def _tuple(arguments: tuple[Any, ...], of: _Of) -> Shape:
    if not arguments or arguments[-1] is Ellipsis:
        item = of(arguments[0]) if arguments else ANYTHING
        return _tuple_shape(f"tuple[{item.text}, ...]", lambda size: [item] * size, item.same)
    items = [of(one) for one in arguments if one != ()]
    text = f"tuple[{', '.join(item.text for item in items) or '()'}]"
    return _tuple_shape(text, lambda size: items if size == len(items) else None, all(i.same for i in items))


def _tuple_shape(text: str, items: Callable[[int], list[Shape] | None], same: bool) -> Shape:
    def shapes(value: Any, taken: tuple[type, ...]) -> list[Shape]:
        found = items(len(value)) if type(value) in taken else None
        if found is None:
            raise Mismatch(f"{seen(value)} where the model says {text}")
        return found

    def dump(value: Any) -> Any:
        return tuple(_items([one.dump for one in shapes(value, (tuple,))], value))

    def load(value: Any) -> Any:  # what comes from JSON has lists
        return tuple(_items([one.load for one in shapes(value, (tuple, list))], value))

    return Shape(text, dump, load, frozenset({tuple}), same=same)


def _mapping(arguments: tuple[Any, ...], of: _Of) -> Shape:
    key, item = (of(arguments[0]), of(arguments[1])) if arguments else (ANYTHING, ANYTHING)
    text = f"dict[{key.text}, {item.text}]"

    def converted(keys: Callable[[Any], Any], items: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            if type(value) is not dict:
                raise Mismatch(f"{seen(value)} where the model says {text}")
            result = {}
            for name, one in value.items():
                try:
                    result[keys(name)] = items(one)
                except Mismatch as error:
                    raise error.at(f"[{name!r}]") from None
            return result

        return run

    same = key.same and item.same
    return Shape(
        text, converted(key.dump, item.dump), converted(key.load, item.load), frozenset({dict}), same
    )


_CONTAINERS: Final[dict[Any, Callable[[tuple[Any, ...], _Of], Shape]]] = {
    list: _sequence,
    collections.abc.Sequence: _sequence,
    collections.abc.MutableSequence: _sequence,
    set: _set_of(set),
    collections.abc.MutableSet: _set_of(set),
    frozenset: _set_of(frozenset),
    collections.abc.Set: _set_of(frozenset),
    tuple: _tuple,
    dict: _mapping,
    collections.abc.Mapping: _mapping,
    collections.abc.MutableMapping: _mapping,
}


# ------------------------------------------------------------------------------------------------ dataclasses


def dataclass_shape(kind: type, nested: Nested, known: dict[type, Shape]) -> Shape:
    """The shape of a dataclass: a map of its fields by their names.

    Reading calls the class, so its ``__post_init__`` runs, and writing runs it too: a ValueError or TypeError
    of it is a Mismatch.
    """
    if kind in known:
        return known[kind]
    fields = _Fields(kind)
    shape = Shape(type_name(kind), fields.dump, fields.load, frozenset({dict}))
    known[kind] = shape
    fields.fill(nested, known)
    return shape


class _Fields:
    """The fields of a dataclass. In ``_plan``: name, shape, is there a default, does ``__init__`` take it?"""

    def __init__(self, kind: type) -> None:
        self._kind = kind
        self._judges = hasattr(kind, "__post_init__")  # an object may have changed since it ran
        self._plan: list[tuple[str, Shape, bool, bool]] = []

    def fill(self, nested: Nested, known: dict[type, Shape]) -> None:
        hints = _hints(self._kind)
        for name, one in self._kind.__dataclass_fields__.items():  # type: ignore[attr-defined]
            if isinstance(hints.get(name), dataclasses.InitVar):
                reason = "an InitVar is not kept by the object, so the object can't be read again"
                raise _unusable(reason, name)
            if name not in {field.name for field in dataclasses.fields(self._kind)}:
                continue  # a ClassVar
            try:
                shape = shape_of(hints[name], nested, known)
            except Unusable as error:
                error.steps.insert(0, f".{name}")
                raise
            missing = dataclasses.MISSING
            optional = one.default is not missing or one.default_factory is not missing
            self._plan.append((name, shape, optional, one.init))

    def dump(self, item: Any) -> dict[str, Any]:
        if type(item) is not self._kind:
            raise Mismatch(_other_class(item, self._kind))
        document = {}
        for name, shape, _, _ in self._plan:
            try:
                value = getattr(item, name)
            except AttributeError as error:
                raise Mismatch("the object has no such attribute now", f".{name}") from error
            if type(value) is not shape.exact:
                try:
                    value = shape.dump(value)
                except Mismatch as error:
                    raise error.at(f".{name}") from None
            document[name] = value
        if self._judges:
            self.load(document)
        return document

    def load(self, document: Any) -> Any:
        if type(document) is not dict:
            raise Mismatch(f"{seen(document)} where the model says {type_name(self._kind)}")
        given: dict[str, Any] = {}
        later: dict[str, Any] = {}
        for name, shape, optional, in_init in self._plan:
            if name not in document:
                if not optional and in_init:
                    raise Mismatch("it is missing, and the model has no default for it", f".{name}")
                continue
            value = document[name]
            if type(value) is not shape.exact:
                try:
                    value = shape.load(value)
                except Mismatch as error:
                    raise error.at(f".{name}") from None
            (given if in_init else later)[name] = value
        try:
            item = self._kind(**given)
        except (ValueError, TypeError) as error:
            raise Mismatch(f"{type_name(self._kind)} refused it: {error}") from error
        for name, value in later.items():
            object.__setattr__(item, name, value)  # also of a frozen one
        return item


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, localns={kind.__name__: kind}, include_extras=True)
    except (NameError, TypeError, SyntaxError) as error:
        raise Unusable(
            f"the annotations of {type_name(kind)} can't be read ({error}); "
            "name types that its module has when it runs"
        ) from error


def _unusable(reason: str, name: str) -> Unusable:
    error = Unusable(reason)
    error.steps.append(f".{name}")
    return error


def _other_class(item: object, kind: type) -> str:
    if isinstance(item, kind):
        return (
            f"{type_name(type(item))}, a subclass, where the model says {type_name(kind)}: "
            "it would come back as that"
        )
    return f"{seen(item)} where the model says {type_name(kind)}"


def _said(annotation: Any) -> str:
    return type_name(annotation) if isinstance(annotation, type) else str(annotation)
