"""Objects of dataclasses, msgspec and pydantic as documents: what is stored, what comes back, what is
refused and how."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing
from datetime import UTC, date, datetime
from enum import IntFlag, StrEnum
from typing import Annotated, Any, Literal, NewType
from uuid import UUID, uuid4

import msgspec
import pydantic
import pytest
from documents.people import KINDS, STORED, Colour, DataAddress, DataPerson, PydanticPerson, alice
from program import environment

from memdb import errors, values
from memdb.documents.models import adapter_for

each_kind = pytest.mark.parametrize(("person", "address"), KINDS, ids=["dataclass", "msgspec", "pydantic"])


# ------------------------------------------------------------------------------------------- every kind


@each_kind
def test_a_document_and_back(person: Any, address: Any) -> None:
    adapter = adapter_for(person)
    given = alice(person, address, id=uuid4())
    document = adapter.dump(given)
    assert document == {"_id": given.id, **STORED} and next(iter(document)) == "_id"
    assert "id" not in document
    stored = values.decode(values.encode(document))
    found = adapter.load(stored)  # type: ignore[arg-type]
    assert found == given and type(found) is person and type(found.colour) is Colour
    assert type(found.former[0]) is address and type(found.tags) is set


@each_kind
def test_without_an_id_the_collection_makes_it(person: Any, address: Any) -> None:
    adapter = adapter_for(person)
    document = adapter.dump(person(name="Alice"))
    assert "_id" not in document and "id" not in document
    made = uuid4()
    assert adapter.load({"_id": made, **document}).id == made


@each_kind
def test_loading_leaves_the_document_alone(person: Any, address: Any) -> None:
    document = {"_id": uuid4(), "name": "Alice", "tags": ["x"]}
    before = repr(document)
    adapter_for(person).load(document)
    assert repr(document) == before


@each_kind
def test_what_is_missing_gets_its_default_and_what_is_unknown_is_left_out(person: Any, address: Any) -> None:
    found = adapter_for(person).load({"_id": uuid4(), "name": "Alice", "later": 1})
    assert found.age == 0 and found.former == [] and not hasattr(found, "later")


@each_kind
@pytest.mark.parametrize(
    ("change", "field", "word"),
    [
        ({"age": "30"}, "age", "int"),
        ({"address": {"lines": []}}, "address", "city"),
        ({"former": [{"city": "Rome"}, {"city": "Oslo", "lines": "x"}]}, "former[1].lines", "list"),
        ({"by_kind": {"work": {"city": 1}}}, "by_kind", "str"),
        ({"colour": "green"}, "colour", "green"),
        ({"born": 5.5e300}, "born", "datetime"),
        ({"name": None}, "name", "str"),
    ],
)
def test_what_does_not_fit_on_reading(
    person: Any, address: Any, change: dict[str, Any], field: str, word: str
) -> None:
    if person is PydanticPerson and field == "age":
        change = {"age": "thirty"}  # it takes "30" for a number
    with pytest.raises(errors.ModelError) as caught:
        adapter_for(person).load({"_id": 7, "name": "Alice", **change} | {"_id": UUID(int=7)})
    error = caught.value
    assert error.model == person.__name__ and error.id == UUID(int=7)
    assert error.field is not None and error.field.startswith(field)
    assert error.reason and error.reason in str(error) and "mend it" in str(error)
    assert str(UUID(int=7)) in str(error) and field in str(error)


@each_kind
@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("age", "thirty", "age"),
        ("name", 7, "name"),
        ("colour", "green", "colour"),
        ("tags", {1}, "tags"),
        ("address", 5, "address"),
        ("size", (1.0,), "size"),
        ("born", date(2020, 1, 1), "born"),
    ],
)
def test_what_does_not_fit_on_writing(person: Any, address: Any, name: str, value: Any, field: str) -> None:
    given = person(name="Alice", id=UUID(int=9))
    setattr(given, name, value)
    with pytest.raises(errors.ModelError) as caught:
        adapter_for(person).dump(given)
    error = caught.value
    assert error.model == person.__name__ and error.id == UUID(int=9)
    assert error.field is not None and error.field.startswith(field), error
    assert "nothing was written" in str(error) and field in str(error)


@each_kind
def test_deep_places_are_named_on_writing(person: Any, address: Any) -> None:
    given = person(name="Alice", former=[address(city="Rome"), address(city="Oslo")])
    given.former[1].city = 5
    with pytest.raises(errors.ModelError) as caught:
        adapter_for(person).dump(given)
    assert caught.value.field == "former[1].city"


def test_a_value_that_pydantic_would_take_for_another_is_told_by_its_field() -> None:
    given = PydanticPerson(name="Alice")
    given.age = "3"  # type: ignore[assignment]
    with pytest.raises(errors.ModelError, match="Expected `int`") as caught:
        adapter_for(PydanticPerson).dump(given)
    assert caught.value.field == "age"


@each_kind
def test_other_objects_are_refused(person: Any, address: Any) -> None:
    adapter = adapter_for(person)
    child = type("Child", (person,), {"__annotations__": {}})
    for other in (5, address(city="Rome"), None, child(name="Alice")):
        with pytest.raises(errors.ModelError, match=f"holds {person.__name__}") as caught:
            adapter.dump(other)
        assert caught.value.field is None and caught.value.reason


@each_kind
def test_a_mapping_is_what_the_model_makes_of_it(person: Any, address: Any) -> None:
    adapter = adapter_for(person)
    given = alice(person, address, id=uuid4())
    assert adapter.dump({"_id": given.id, **STORED}) == adapter.dump(given)
    assert adapter.dump({"name": "Alice"}) == adapter.dump(person(name="Alice"))
    for wrong, field in (({"name": 5}, "name"), ({"age": 5}, ""), ({"name": "x", "agee": 5}, "agee")):
        with pytest.raises(errors.ModelError, match="can't be stored") as caught:
            adapter.dump(wrong)
        assert field in (caught.value.field or "")


@each_kind
def test_an_adapter_is_made_once(person: Any, address: Any) -> None:
    assert adapter_for(person) is adapter_for(person)


def test_an_error_pickles() -> None:
    import pickle

    with pytest.raises(errors.ModelError) as caught:
        adapter_for(DataPerson).load({"_id": 1, "age": 2})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.model, again.id, again.field) == ("DataPerson", 1, "name")


# ------------------------------------------------------------------------------------------------- ids


@dataclasses.dataclass
class Underscored:
    _id: int
    id: str = "its own"


@dataclasses.dataclass
class Nameless:
    name: str


class RenamedStruct(msgspec.Struct, rename={"key": "_id", "full_name": "name"}, forbid_unknown_fields=True):
    full_name: str
    key: int | None = None


class NamelessStruct(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class AliasedModel(pydantic.BaseModel, extra="forbid"):
    full_name: str = pydantic.Field(alias="name")
    key: int | None = pydantic.Field(None, alias="_id")


class NamelessModel(pydantic.BaseModel, extra="forbid"):
    name: str


def test_a_field_called_id_with_an_underscore_goes_before_one_called_id() -> None:
    adapter = adapter_for(Underscored)
    assert adapter.dump(Underscored(5)) == {"_id": 5, "id": "its own"}
    assert adapter.load({"_id": 5, "id": "x"}) == Underscored(5, "x")


def test_renamed_fields() -> None:
    struct = adapter_for(RenamedStruct)
    assert struct.dump(RenamedStruct("Alice", 5)) == {"_id": 5, "name": "Alice"}
    assert struct.load({"_id": 5, "name": "Alice"}) == RenamedStruct("Alice", 5)
    model = adapter_for(AliasedModel)  # stored by the names of fields, the id apart
    given = AliasedModel(name="Alice", _id=5)  # type: ignore[call-arg]
    assert model.dump(given) == {"_id": 5, "full_name": "Alice"}
    assert model.load({"_id": 5, "full_name": "Alice"}) == given


@pytest.mark.parametrize("kind", [Nameless, NamelessStruct, NamelessModel])
def test_a_model_without_an_id_does_not_see_it(kind: Any) -> None:
    adapter = adapter_for(kind)
    assert adapter.id_field is None and adapter.dump(kind(name="Alice")) == {"name": "Alice"}
    assert adapter.load({"_id": 5, "name": "Alice"}) == kind(name="Alice")
    assert adapter.dump({"_id": 5, "name": "Alice"}) == {"_id": 5, "name": "Alice"}


@dataclasses.dataclass
class Numbered:
    name: str
    id: int | None = None


class NumberedStruct(msgspec.Struct):
    name: str
    id: int | None = None


class NumberedModel(pydantic.BaseModel):
    name: str
    id: str | None = None


@pytest.mark.parametrize(("kind", "given"), [(Numbered, 5), (NumberedStruct, 5), (NumberedModel, "five")])
def test_an_id_that_a_collection_can_not_make_has_to_be_given(kind: Any, given: Any) -> None:
    adapter = adapter_for(kind)
    with pytest.raises(errors.ModelError, match="no id was given") as caught:
        adapter.dump(kind(name="Alice"))
    assert caught.value.field == "id" and "UUID" in str(caught.value)
    assert adapter.dump(kind(name="Alice", id=given)) == {"_id": given, "name": "Alice"}


# ----------------------------------------------------------------------------------------- dataclasses

Metres = NewType("Metres", float)


class Flags(IntFlag):
    A = 1
    B = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float = 0


@dataclasses.dataclass
class Tree:
    name: str
    children: list[Tree] = dataclasses.field(default_factory=list)
    parent: Tree | None = None


@dataclasses.dataclass(kw_only=True)
class Many:
    kind: Literal["a", 1] = "a"
    flags: Flags = Flags.A
    height: Annotated[Metres, "up"] = Metres(0.0)
    place: Point | str | None = None
    free: Any = None
    shared: typing.ClassVar[int] = 7
    ahead: typing.Sequence[int] = ()
    frozen: frozenset[int] = frozenset()
    by_point: dict[tuple[int, int], Point] = dataclasses.field(default_factory=dict)
    pair: tuple[int, Point] | None = None
    any_list: list = dataclasses.field(default_factory=list)  # type: ignore[type-arg]
    later: int = dataclasses.field(init=False, default=3)


def _round(kind: Any, given: Any) -> Any:
    adapter = adapter_for(kind)
    return adapter.load(values.decode(values.encode(adapter.dump(given))))  # type: ignore[arg-type]


def test_what_annotations_can_say() -> None:
    given = Many(
        kind=1, flags=Flags.A | Flags.B, height=Metres(1.5), place=Point(1, 2), free={"x": {1}}, ahead=[1],
        frozen=frozenset({1, 2}), by_point={(1, 2): Point(3.0)}, pair=(1, Point(2.0)), any_list=[1, "a"],
    )  # fmt: skip
    given.later = 9
    found = _round(Many, given)
    assert found == given and found.later == 9 and type(found.place) is Point and type(found.place.x) is float
    assert _round(Many, Many(place="here", ahead=[])).place == "here"
    assert "shared" not in adapter_for(Many).dump(Many(ahead=[]))


def test_a_dataclass_that_holds_itself() -> None:
    given = Tree("root", [Tree("leaf"), Tree("twig", [Tree("leaf")])])
    assert _round(Tree, given) == given
    given.children[1].children[0].name = 5  # type: ignore[assignment]
    with pytest.raises(errors.ModelError) as caught:
        adapter_for(Tree).dump(given)
    assert caught.value.field == "children[1].children[0].name"


def test_types_are_exact() -> None:
    adapter = adapter_for(DataPerson)
    for change in ({"age": True}, {"age": 1.0}, {"born": date(2020, 1, 1)}, {"name": b"x"}, {"size": [1]}):
        with pytest.raises(errors.ModelError):
            adapter.load({"name": "x", **change})
    assert adapter.load({"name": "x", "size": [1, 2]}).size == (1.0, 2.0)  # JSON has no tuples
    point = adapter_for(Point)
    assert type(point.dump(Point(1))["x"]) is float
    for number in (True, "1", 2**53 + 1, 10**400):
        with pytest.raises(errors.ModelError, match="float"):
            point.dump(Point(number))  # type: ignore[arg-type]


def test_the_deepest_place_of_a_union_is_told() -> None:
    with pytest.raises(errors.ModelError) as caught:
        adapter_for(Many).load({"place": {"x": "wide"}})
    assert caught.value.field == "place.x"
    with pytest.raises(errors.ModelError, match=r"Point \| str \| None"):
        adapter_for(Many).load({"place": 5})


@dataclasses.dataclass
class Positive:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("below zero")


def test_post_init_judges_both_ways() -> None:
    adapter = adapter_for(Positive)
    given = Positive(1)
    given.number = -1
    for act in (lambda: adapter.dump(given), lambda: adapter.load({"number": -1})):
        with pytest.raises(errors.ModelError, match="below zero"):
            act()


@dataclasses.dataclass
class HoldsOthers:
    struct: RenamedStruct
    model: AliasedModel


def test_other_kinds_inside_a_dataclass() -> None:
    given = HoldsOthers(RenamedStruct("Alice", 1), AliasedModel(name="Bob", _id=2))  # type: ignore[call-arg]
    assert _round(HoldsOthers, given) == given
    given.struct.full_name = 5  # type: ignore[assignment]
    with pytest.raises(errors.ModelError) as caught:
        adapter_for(HoldsOthers).dump(given)
    assert caught.value.field == "struct.name"


class Shout(StrEnum):
    A = "a"


def _dataclass_of(annotation: Any) -> type:
    return dataclasses.make_dataclass("Odd", [("field", annotation)])


@pytest.mark.parametrize(
    "annotation",
    [
        type[int], typing.Callable[[], int], dataclasses.InitVar[int], Shout | str, Point | DataAddress,
        dict[str, int] | Point, list[Point] | set[int], "nowhere.Nothing", bytearray, Literal[Colour.RED],
        Any | Point,
    ],
)  # fmt: skip
def test_fields_that_could_not_be_read_again_are_refused_at_once(annotation: Any) -> None:
    with pytest.raises(errors.ModelError, match="can't be the model of a collection") as caught:
        adapter_for(_dataclass_of(annotation))
    assert caught.value.model == "Odd" and caught.value.reason


def test_an_attribute_that_was_deleted() -> None:
    given = DataPerson("Alice")
    del given.name
    with pytest.raises(errors.ModelError, match="no such attribute"):
        adapter_for(DataPerson).dump(given)


# ---------------------------------------------------------------------------------- msgspec, pydantic


class Bare(msgspec.Struct, array_like=True):
    name: str


class Listed(pydantic.RootModel[list[int]]):
    pass


@pytest.mark.parametrize("kind", [Bare, Listed])
def test_models_without_names_are_refused(kind: Any) -> None:
    with pytest.raises(errors.ModelError, match=r"has names|has no fields"):
        adapter_for(kind)


@pytest.mark.parametrize("other", [int, dict, object, "Person", None, Colour, list[int], DataPerson("x")])
def test_what_is_no_model(other: Any) -> None:
    with pytest.raises(TypeError, match="class"):
        adapter_for(other)


class Meta(msgspec.Struct):
    age: Annotated[int, msgspec.Meta(ge=0)] = 0
    odd: Any = None
    unset: int | msgspec.UnsetType = msgspec.UNSET


def test_constraints_of_msgspec_hold_both_ways() -> None:
    adapter = adapter_for(Meta)
    for act in (lambda: adapter.dump(Meta(-1)), lambda: adapter.load({"age": -1})):
        with pytest.raises(errors.ModelError) as caught:
            act()
        assert caught.value.field == "age"
    assert adapter.dump(Meta(1)) == {"age": 1, "odd": None}
    with pytest.raises(errors.ModelError, match="complex"):
        adapter.dump(Meta(odd=1j))


class Strict(pydantic.BaseModel, strict=True):
    colour: Colour = Colour.RED
    age: Annotated[int, pydantic.Field(ge=0)] = 0
    secret: pydantic.SecretStr | None = None
    at: datetime = datetime(2020, 1, 1, tzinfo=UTC)
    tags: set[str] = {"x"}

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return 2 * self.age


def test_a_strict_model_reads_what_it_wrote() -> None:
    given = Strict(age=3, colour=Colour.BLUE)
    document = adapter_for(Strict).dump(given)
    assert document["tags"] == ["x"] and document["colour"] == "blue" and "double" not in document
    assert _round(Strict, given) == given


def test_constraints_of_pydantic_hold_both_ways() -> None:
    adapter = adapter_for(Strict)
    given = Strict()
    given.age = -1  # it does not validate assignments
    for act in (lambda: adapter.dump(given), lambda: adapter.load({"age": -1})):
        with pytest.raises(errors.ModelError, match="greater than or equal to 0") as caught:
            act()
        assert caught.value.field == "age"
    given.age = "3"  # type: ignore[assignment]
    with pytest.raises(errors.ModelError):
        adapter.dump(given)


def test_a_secret_is_not_stored_as_stars() -> None:
    with pytest.raises(errors.ModelError, match="SecretStr has no stored form") as caught:
        adapter_for(Strict).dump(Strict(secret=pydantic.SecretStr("x")))
    assert caught.value.field == "secret"


@pydantic.dataclasses.dataclass
class Checked:
    name: str
    id: UUID | None = None
    age: Annotated[int, pydantic.Field(ge=0)] = 0


def test_a_pydantic_dataclass() -> None:
    given = Checked("Alice", uuid4(), 3)
    assert _round(Checked, given) == given
    with pytest.raises(errors.ModelError, match="greater than"):
        adapter_for(Checked).load({"name": "x", "age": -1})


def test_neither_library_is_imported_for_a_dataclass() -> None:
    program = """
import dataclasses, sys
from memdb.documents.models import adapter_for
@dataclasses.dataclass
class Person:
    name: str
adapter_for(Person).dump(Person("Alice"))
print(sorted({"msgspec", "pydantic"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.strip() == "[]", done.stdout
