"""Typed collections: objects of a dataclass, msgspec.Struct or pydantic model in, and the same out.

Owns: ``adapter_for``, which finds out what a class is, and ``Adapter``, which makes documents of its objects
and objects of documents; the shapes of msgspec and pydantic classes. Those of dataclasses: annotations.py.

Invariants:

* msgspec and pydantic are imported only if the class that was given is one of theirs.
* Nothing is stored that the model would not read again: what ``dump`` makes has been checked by ``load``'s
  own rules.
* The id of a document is the field ``_id`` of the model, else its field ``id``; a value of None there, or
  none at all, means that the collection makes the id, a UUID. Without such a field the id is not seen.
* What does not fit is a ModelError that names model, document, field and reason.
"""

import dataclasses
import enum
import functools
import re
import sys
import uuid
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, Generic, TypeVar

from memdb.documents.annotations import Unusable, dataclass_shape
from memdb.documents.shapes import Mismatch, Shape, seen, type_name
from memdb.errors import ModelError

__all__ = ["Adapter", "adapter_for"]

T = TypeVar("T")

_GENERATED: Final = uuid.UUID("01890000-0000-7000-8000-000000000000")
"""Stands for an id that the collection will make, when it is asked whether the model takes one."""


class Adapter(Generic[T]):
    """Makes documents of the objects of one class, and objects of documents. Made by ``adapter_for``.

    ``id_field``: the stored name of the field that is the id, None if the model has none.
    """

    __slots__ = ("_shape", "_takes_generated", "id_field", "model")

    def __init__(self, model: type[T], shape: Shape, id_field: str | None) -> None:
        self.model = model
        self.id_field = id_field
        self._shape = shape
        self._takes_generated = False

    def __reduce__(self) -> Any:
        return adapter_for, (self.model,)

    def dump(self, item: T | Mapping[str, Any]) -> dict[str, Any]:
        """The document of an object: a new dict, with ``_id`` first if the object has an id. A mapping is
        what the model makes of it.

        Raises ModelError if the object is of another class or holds what its annotations don't say.
        """
        if type(item) is not self.model and isinstance(item, Mapping):
            return self._dump_mapping(item)
        try:
            document: dict[str, Any] = self._shape.dump(item)
        except Mismatch as error:
            raise self._refused(item, error) from error.__cause__
        name = self.id_field
        if name is None:
            return document
        found = document.pop(name, None)
        if found is not None:
            return {"_id": found, **document}
        if not self._takes_generated:
            self._check_generated(item, {name: _GENERATED, **document})
        return document

    def _dump_mapping(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Read as a stored document is, so with defaults; but a name that the model lacks is refused here."""
        try:
            item = self._shape.load(self._named(given))
        except Mismatch as error:
            raise self._refused(given, error) from error.__cause__
        document = self.dump(item)
        for name in given:
            if name not in document and name not in ("_id", self.id_field):
                raise self._refused(given, Mismatch("the model has no such field", f".{name}"))
        if "_id" in given and "_id" not in document and given["_id"] is not None:
            return {"_id": given["_id"], **document}  # of a model that does not see the id
        return document

    def _named(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """As the model has it: the id under the name of its field, or left out."""
        given = dict(document)
        if self.id_field != "_id" and "_id" in given:
            found = given.pop("_id")
            if self.id_field is not None:
                given[self.id_field] = found
        return given

    def _check_generated(self, item: T, document: dict[str, Any]) -> None:
        """Once is enough: whether the field takes a UUID depends on its type alone."""
        try:
            self._shape.load(document)
        except Mismatch as error:
            if error.field == self.id_field:
                reason = f"no id was given, and the one that a collection makes is a UUID: {error.reason}"
                error = Mismatch(reason, *error.steps)
            raise self._refused(item, error) from error.__cause__
        self._takes_generated = True

    def load(self, document: Mapping[str, Any]) -> T:
        """The object of a stored document.

        Raises ModelError if the model does not take it.
        """
        try:
            item: T = self._shape.load(self._named(document))
        except Mismatch as error:
            raise self._unreadable(document.get("_id"), error) from error.__cause__
        return item

    def load_changed(self, document: Mapping[str, Any]) -> T:
        """The object of a document as a change would leave it. Raises ModelError if the model does not take
        it."""
        try:
            item: T = self._shape.load(self._named(document))
        except Mismatch as error:
            found = document.get("_id")
            where = f" at {error.field}" if error.field else ""
            text = (
                f"after this change the document with _id {found!r} would be no {type_name(self.model)}"
                f"{where}: {error.reason}; nothing was written, mend the change"
            )
            raise self._error(text, found, error) from error.__cause__
        return item

    def _refused(self, item: object, error: Mismatch) -> ModelError:
        name = type_name(self.model)
        if isinstance(item, Mapping):
            given = item.get("_id")
        elif type(item) is not self.model:
            text = f"{error.reason}; give a {name}, or use the collection without model="
            return self._error(f"this collection holds {name}: {text}", None, error)
        else:
            given = getattr(item, self.id_field, None) if self.id_field is not None else None
        where = f" at {error.field}" if error.field else ""
        text = f"this {name} can't be stored{where}: {error.reason}; nothing was written, mend the object"
        return self._error(text, given, error)

    def _unreadable(self, found: object, error: Mismatch) -> ModelError:
        where = f" at {error.field}" if error.field else ""
        return self._error(
            f"the document with _id {found!r} is no {type_name(self.model)}{where}: {error.reason}; mend it "
            "through the collection without model=, or have the model take it",
            found,
            error,
        )

    def _error(self, text: str, found: object, error: Mismatch) -> ModelError:
        return ModelError(text, model=type_name(self.model), id=found, field=error.field, reason=error.reason)


def adapter_for(model: type[T]) -> Adapter[T]:
    """The adapter of a class: a dataclass, a ``msgspec.Struct`` or a pydantic model.

    Raises TypeError for anything else, ModelError for a class whose objects can't be stored and read again
    as they are. Cost: the annotations are read once for each class.

    >>> @dataclasses.dataclass
    ... class Person:
    ...     name: str
    ...     id: uuid.UUID | None = None
    >>> adapter_for(Person).dump(Person("Alice"))
    {'name': 'Alice'}
    """
    if not isinstance(model, type):
        raise TypeError(f"model= takes a class, not {seen(model)}")
    known: Adapter[T] = _adapter_of(model)  # type: ignore[arg-type] # a class is hashable
    return known


@functools.lru_cache(maxsize=256)
def _adapter_of(model: Any) -> Adapter[Any]:
    try:
        shape = _foreign(model)
        if shape is None and dataclasses.is_dataclass(model):
            shape = dataclass_shape(model, _foreign, {})  # type: ignore[arg-type] # a class, as was seen
    except Unusable as error:
        field = "".join(error.steps).removeprefix(".") or None
        where = f" at {field}" if field else ""
        raise ModelError(
            f"{type_name(model)} can't be the model of a collection{where}: {error.reason}",
            model=type_name(model),
            field=field,
            reason=error.reason,
        ) from error
    if shape is None:
        raise TypeError(
            f"model= takes a dataclass, a msgspec.Struct or a pydantic model, and {type_name(model)} is none"
        )
    return Adapter(model, shape, _id_field(model))


def _foreign(kind: type) -> Shape | None:
    """The shape of a class of msgspec or pydantic, whose modules are imported if it is one; else None."""
    msgspec, pydantic = sys.modules.get("msgspec"), sys.modules.get("pydantic")
    if msgspec is not None and issubclass(kind, msgspec.Struct):
        return _struct_shape(kind)
    if pydantic is not None and (
        issubclass(kind, pydantic.BaseModel) or pydantic.dataclasses.is_pydantic_dataclass(kind)
    ):
        return _pydantic_shape(kind)
    return None


def _id_field(model: Any) -> str | None:
    """The stored name of the field that is the id: called ``_id``, or having that alias; else ``id``."""
    pydantic = getattr(model, "__pydantic_fields__", None)
    if pydantic is not None:
        for name, field in pydantic.items():
            if "_id" in (name, field.alias, field.validation_alias, field.serialization_alias):
                return str(name)
        return "id" if "id" in pydantic else None
    if hasattr(model, "__struct_encode_fields__"):
        stored = dict(zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True))
        return "_id" if "_id" in stored.values() else stored.get("id")
    names = {field.name for field in dataclasses.fields(model)}
    return next((name for name in ("_id", "id") if name in names), None)


def _checked(kind: type, dump: Callable[[Any], Any], load: Callable[[Any], Any]) -> Shape:
    """The shape of a class that has its own checks, which writing makes as reading does."""

    def checked(item: Any) -> Any:
        if type(item) is not kind:
            raise Mismatch(f"{_class_of(item, kind)} where the model says {type_name(kind)}")
        document = dump(item)
        load(document)
        return document

    return Shape(type_name(kind), checked, load, frozenset({dict}))


def _class_of(item: object, kind: type) -> str:
    return f"{type_name(type(item))}, a subclass," if isinstance(item, kind) else seen(item)


# ---------------------------------------------------------------------------------------------------- msgspec

_KEPT: Final = (bytes, bytearray, memoryview, datetime, date, time, timedelta, uuid.UUID, Decimal)
"""Types that the value codec stores, and that msgspec would else make text of."""

_PLACE: Final = re.compile(r"(.*?)(?: - at (.*))?", re.DOTALL)


def _struct_shape(kind: Any) -> Shape:
    import msgspec

    if kind.__struct_config__.array_like:
        raise Unusable("with array_like=True it is written without names, and a document has names")

    def dump(item: Any) -> Any:
        try:
            return msgspec.to_builtins(item, builtin_types=_KEPT)
        except (TypeError, ValueError, AttributeError) as error:
            raise Mismatch(str(error)) from error

    def load(document: Any) -> Any:
        try:
            return msgspec.convert(document, kind, builtin_types=_KEPT)
        except msgspec.ValidationError as error:
            raise _of_msgspec(str(error)) from error

    return _checked(kind, dump, load)


def _of_msgspec(text: str) -> Mismatch:
    """msgspec's sentence, with its place apart from it.

    >>> _of_msgspec("Expected `str`, got `int` - at `$.tags[1]`").field
    'tags[1]'
    """
    found = _PLACE.fullmatch(text)
    reason, place = (found[1], found[2]) if found is not None else (text, None)
    steps = [place.replace("`", "").removeprefix("$")] if place else []
    return Mismatch(reason.replace("`", ""), *(step for step in steps if step))


# --------------------------------------------------------------------------------------------------- pydantic


def _pydantic_shape(kind: Any) -> Shape:
    """By the names of fields, not their aliases; the two ways of an alias can differ, a name can't."""
    import pydantic
    from pydantic_core import PydanticSerializationError

    if tuple(int(part) for part in pydantic.VERSION.split(".")[:2]) < (2, 11):
        raise Unusable(f"it needs pydantic 2.11 or later, and this is {pydantic.VERSION}; update pydantic")
    if issubclass(kind, pydantic.RootModel):
        raise Unusable("a RootModel has no fields, and a document has; wrap it in a model")
    whole: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(kind)

    def dump(item: Any) -> Any:
        try:
            return _plain(whole.dump_python(item, by_alias=False, round_trip=True, warnings="error"))
        except PydanticSerializationError as error:
            # Its text does not tell the way to the value; reading what it would write does, if that fails.
            load(_plain(whole.dump_python(item, by_alias=False, round_trip=True, warnings=False)))
            raise _of_serializer(str(error)) from error
        except (ValueError, TypeError) as error:  # of a serializer of the model's own
            raise Mismatch(str(error)) from error

    def load(document: Any) -> Any:
        try:
            # A strict model is strict with what is put in; what the store holds of an Enum is its value.
            return whole.validate_python(document, by_alias=False, by_name=True, strict=False)
        except pydantic.ValidationError as error:
            raise _of_pydantic(error.errors(include_url=False, include_context=False)) from error

    return _checked(kind, dump, load)


def _of_pydantic(errors: Any) -> Mismatch:
    first = errors[0]
    steps = [f"[{one}]" if isinstance(one, int) else f".{one}" for one in first["loc"]]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    had = "" if first["type"] == "missing" else f", and it is {seen(first['input'])}"
    return Mismatch(f"{first['msg']}{had}{more}", *steps)


def _of_serializer(text: str) -> Mismatch:
    """pydantic's warning about a field whose value is not of its type, as one sentence."""
    place = re.search(r"field_name='([^']*)'", text)
    lines = text.splitlines()
    reason = lines[1].strip() if len(lines) > 1 else text
    reason = reason.removeprefix("PydanticSerializationUnexpectedValue(").removesuffix(")")
    return Mismatch(reason, *([f".{place[1]}"] if place else []))


_LEAVES: Final = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, memoryview,
     Decimal, uuid.UUID, date, time, datetime, timedelta}
)  # fmt: skip


def _plain(value: Any) -> Any:
    """With the values of Enums, and with sets as arrays, which indexes and filters look into."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if kind is dict:
        result = {}
        for name, item in value.items():
            try:
                result[_plain(name)] = _plain(item)
            except Mismatch as error:
                raise error.at(f".{name}" if isinstance(name, str) else f"[{name!r}]") from None
        return result
    if kind in (list, tuple, set, frozenset):
        items: list[Any] = []
        for item in value:
            try:
                items.append(_plain(item))
            except Mismatch as error:
                raise error.at(f"[{len(items)}]") from None
        return tuple(items) if kind is tuple else items
    raise Mismatch(
        f"{type_name(kind)} has no stored form; give its field a serializer (pydantic.PlainSerializer) "
        "that makes one of Python's plain types of it"
    )
