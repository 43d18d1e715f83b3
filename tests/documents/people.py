"""The same model three times, for tests that hold for every kind, and what else those tests need."""

from __future__ import annotations

import dataclasses
import enum
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pydantic


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class DataAddress:
    city: str
    lines: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class DataPerson:
    name: str
    age: int = 0
    id: UUID | None = None
    colour: Colour = Colour.RED
    address: DataAddress | None = None
    former: list[DataAddress] = dataclasses.field(default_factory=list)
    by_kind: dict[str, DataAddress] = dataclasses.field(default_factory=dict)
    tags: set[str] = dataclasses.field(default_factory=set)
    size: tuple[float, float] = (0.0, 0.0)
    born: datetime | None = None
    balance: Decimal = Decimal(0)
    raw: bytes = b""


class StructAddress(msgspec.Struct):
    city: str
    lines: list[str] = []


class StructPerson(msgspec.Struct):
    name: str
    age: int = 0
    id: UUID | None = None
    colour: Colour = Colour.RED
    address: StructAddress | None = None
    former: list[StructAddress] = []
    by_kind: dict[str, StructAddress] = {}
    tags: set[str] = set()
    size: tuple[float, float] = (0.0, 0.0)
    born: datetime | None = None
    balance: Decimal = Decimal(0)
    raw: bytes = b""


class PydanticAddress(pydantic.BaseModel):
    city: str
    lines: list[str] = []


class PydanticPerson(pydantic.BaseModel):
    name: str
    age: int = 0
    id: UUID | None = None
    colour: Colour = Colour.RED
    address: PydanticAddress | None = None
    former: list[PydanticAddress] = []
    by_kind: dict[str, PydanticAddress] = {}
    tags: set[str] = set()
    size: tuple[float, float] = (0.0, 0.0)
    born: datetime | None = None
    balance: Decimal = Decimal(0)
    raw: bytes = b""


KINDS: list[tuple[Any, Any]] = [
    (DataPerson, DataAddress),
    (StructPerson, StructAddress),
    (PydanticPerson, PydanticAddress),
]


def alice(person: Any, address: Any, **more: Any) -> Any:
    """An object with something in every field but the id."""
    return person(
        name="Alice", age=30, colour=Colour.BLUE, address=address(city="Bern", lines=["a", "b"]),
        former=[address(city="Rome"), address(city="Oslo")], by_kind={"work": address(city="Genf")},
        tags={"x"}, size=(1.0, 2.5), born=datetime(1990, 1, 2, 3, 4, 5, 678, UTC),
        balance=Decimal("1.10"), raw=b"\x00\xff", **more,
    )  # fmt: skip


STORED = {
    "name": "Alice", "age": 30, "colour": "blue", "address": {"city": "Bern", "lines": ["a", "b"]},
    "former": [{"city": "Rome", "lines": []}, {"city": "Oslo", "lines": []}],
    "by_kind": {"work": {"city": "Genf", "lines": []}}, "tags": ["x"], "size": (1.0, 2.5),
    "born": datetime(1990, 1, 2, 3, 4, 5, 678, UTC), "balance": Decimal("1.10"), "raw": b"\x00\xff",
}  # fmt: skip
"""What ``alice`` is in the store, the id apart."""
