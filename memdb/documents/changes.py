"""What each update operator makes of a value: ``change(old) -> new``; MISSING is one that is not there.

Owns: a reader for each operator, which checks its operand and returns the change.

Invariants:

* A change never alters *old*, and returns it as it is where nothing is to be done.
* What does not fit the value is :class:`Unfit`, whose text says what is there and what the operator needs.
"""

import decimal
import operator
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import cmp_to_key
from typing import Any, Final

from memdb.documents.filters import matcher_of_elements
from memdb.documents.operands import copied, is_integral, is_number, name_of, refuse_update, shown
from memdb.documents.order import compare, same
from memdb.documents.paths import Path, is_array
from memdb.documents.predicates import is_ordered
from memdb.sentinels import MISSING

__all__ = ["READERS", "Unfit"]

Change = Callable[[Any], Any]


class Unfit(Exception):
    """An operator can't be applied to the value that a document has there."""


def _read_set(operand: Any, where: str) -> Change:
    value = copied(operand)
    return lambda old: copied(value)


# ---------------------------------------------------------------------------------------------------- numbers

_DECIMALS: Final = decimal.Context(prec=34, traps=[])
"""Decimals are counted with as many digits as MongoDB's have; what is undefined is NaN."""


def _read_arithmetic(op: str, compute: Callable[[Any, Any], Any]) -> Callable[[Any, str], Change]:
    def read(operand: Any, where: str) -> Change:
        if not is_number(operand):
            refuse_update(where, f"{op} takes a number, not {shown(operand)}")

        def change(old: Any) -> Any:
            if old is MISSING:
                return operand if op == "$inc" else type(operand)(0)
            if not is_number(old):
                raise Unfit(f"it is of type {name_of(old)}, and {op} needs a number; set it to one first")
            return compute(old, operand)

        return change

    return read


def _computer(
    plain: Callable[[Any, Any], Any], exact: Callable[[Any, Any], Any]
) -> Callable[[Any, Any], Any]:
    def compute(old: Any, operand: Any) -> Any:
        if type(old) is Decimal or type(operand) is Decimal:
            return exact(_as_decimal(old), _as_decimal(operand))
        try:
            return plain(old, operand)
        except OverflowError:
            raise Unfit(
                "an int beyond 1.8e308 and a float have no common type; use an int or a Decimal"
            ) from None

    return compute


def _as_decimal(number: Any) -> Decimal:
    return Decimal(repr(number)) if type(number) is float else Decimal(number)


def _read_extreme(op: str, replaces: Callable[[int], bool]) -> Callable[[Any, str], Change]:
    def read(operand: Any, where: str) -> Change:
        if not is_ordered(operand):
            refuse_update(where, f"{op} compares, and {name_of(operand)} has no order")
        value = copied(operand)

        def change(old: Any) -> Any:
            if old is MISSING:
                return copied(value)
            if not is_ordered(old):
                raise Unfit(f"it is of type {name_of(old)}, which has no order, and {op} compares; use $set")
            return copied(value) if replaces(compare(value, old)) else old

        return change

    return read


# ----------------------------------------------------------------------------------------------------- arrays


def _array(old: Any, op: str) -> Any:
    if not is_array(old):
        raise Unfit(f"it is of type {name_of(old)}, and {op} needs an array; set it to one first")
    return old


def _has_operators(operand: Any) -> bool:
    return isinstance(operand, Mapping) and any(
        isinstance(name, str) and name.startswith("$") for name in operand
    )


def _read_each(op: str, operand: Any, where: str, modifiers: frozenset[str]) -> list[Any]:
    """The elements to be added: those of ``$each``, or the operand itself."""
    if not _has_operators(operand):
        return [copied(operand)]
    for name in operand:
        if name != "$each" and name not in modifiers:
            known = ", ".join(["$each", *sorted(modifiers)])
            refuse_update(where, f"{op} has no modifier {name!r}; there are {known}")
    if "$each" not in operand:
        refuse_update(where, f"the modifiers of {op} need $each, as in {{'$each': [1, 2]}}")
    elements = operand["$each"]
    if not is_array(elements):
        refuse_update(f"{where}.$each", f"$each takes a list of elements, not {shown(elements)}")
    return [copied(one) for one in elements]


def _read_push(operand: Any, where: str) -> Change:
    added = _read_each("$push", operand, where, frozenset({"$position", "$slice", "$sort"}))
    modifiers = operand if _has_operators(operand) else {}
    position = _read_whole(modifiers, "$position", where)
    kept = _read_whole(modifiers, "$slice", where)
    arrange = _read_sort(modifiers["$sort"], f"{where}.$sort") if "$sort" in modifiers else None

    def change(old: Any) -> Any:
        array = [] if old is MISSING else list(_array(old, "$push"))
        place = len(array) if position is None else position
        array[place:place] = [copied(one) for one in added]
        if arrange is not None:
            arrange(array)
        if kept is not None:
            array = array[:kept] if kept >= 0 else array[kept:]
        return array

    return change


def _read_whole(modifiers: Mapping[str, Any], name: str, where: str) -> int | None:
    if name not in modifiers:
        return None
    number = modifiers[name]
    if not is_integral(number):
        refuse_update(f"{where}.{name}", f"{name} takes an int, not {shown(number)}")
    return int(number)


def _read_sort(operand: Any, where: str) -> Callable[[list[Any]], None]:
    """``$sort`` of ``$push``: 1 or -1 for the elements themselves, or paths into them with 1 or -1."""
    if isinstance(operand, Mapping) and operand:
        keys = [
            (_sort_key(Path(_text(path, where))), _direction(one, where)) for path, one in operand.items()
        ]
    else:
        keys = [(cmp_to_key(_compare_elements), _direction(operand, where))]

    def arrange(array: list[Any]) -> None:
        for key, is_descending in reversed(keys):
            array.sort(key=key, reverse=is_descending)

    return arrange


def _text(path: Any, where: str) -> str:
    if not isinstance(path, str) or not all(path.split(".")) or path.startswith("$"):
        refuse_update(where, f"$sort takes paths like 'a.b', not {shown(path)}")
    return path


def _direction(operand: Any, where: str) -> bool:
    if not is_integral(operand) or operand not in (1, -1):
        refuse_update(where, f"$sort takes 1 or -1, or a mapping of paths to those, not {shown(operand)}")
    return bool(operand == -1)


def _sort_key(path: Path) -> Callable[[Any], Any]:
    by_order = cmp_to_key(_compare_elements)
    return lambda element: by_order(_inner(element, path))


def _compare_elements(first: Any, second: Any) -> int:
    for one in (first, second):
        if not is_ordered(one):
            raise Unfit(f"it has an element of type {name_of(one)}, which has no order, and $sort needs one")
    return compare(first, second)


def _inner(element: Any, path: Path) -> Any:
    for part, index in zip(path.parts, path.indexes, strict=True):
        if type(element) is dict:
            element = element.get(part)
        elif is_array(element) and 0 <= index < len(element):
            element = element[index]
        else:
            return None
    return element


def _read_add_to_set(operand: Any, where: str) -> Change:
    added = _read_each("$addToSet", operand, where, frozenset())

    def change(old: Any) -> Any:
        present = [] if old is MISSING else list(_array(old, "$addToSet"))
        size = len(present)
        for one in added:
            if not any(same(one, other) for other in present):
                present.append(copied(one))
        return old if len(present) == size and old is not MISSING else present

    return change


def _read_pull(operand: Any, where: str) -> Change:
    pulls = matcher_of_elements(operand, where)

    def change(old: Any) -> Any:
        if old is MISSING:
            return old
        left = [element for element in _array(old, "$pull") if not pulls(element)]
        return old if len(left) == len(old) else left

    return change


def _read_pop(operand: Any, where: str) -> Change:
    if not is_integral(operand) or operand not in (1, -1):
        refuse_update(where, f"$pop takes 1 (the last element) or -1 (the first), not {shown(operand)}")
    is_last = operand == 1

    def change(old: Any) -> Any:
        if old is MISSING or not _array(old, "$pop"):
            return old
        return list(old[:-1] if is_last else old[1:])

    return change


READERS: Final[dict[str, Callable[[Any, str], Change]]] = {
    "$set": _read_set,
    "$inc": _read_arithmetic("$inc", _computer(operator.add, _DECIMALS.add)),
    "$mul": _read_arithmetic("$mul", _computer(operator.mul, _DECIMALS.multiply)),
    "$min": _read_extreme("$min", lambda order: order < 0),
    "$max": _read_extreme("$max", lambda order: order > 0),
    "$push": _read_push,
    "$pull": _read_pull,
    "$addToSet": _read_add_to_set,
    "$pop": _read_pop,
}
"""The operators that make a new value of the old one; ``$unset`` and ``$rename`` are paths only."""
