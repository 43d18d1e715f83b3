"""Where mongomock does not follow MongoDB: rules over a filter (or an update) and a document.

Each rule has a name, and test_mongomock.py a case that shows what MongoDB does, and that mongomock does not.
A rule may leave out more than is wrong, never less; what is left out is covered by tests of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

MISSING = object()


def leaves(filter: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of a filter with their conditions, also those inside of ``$and``, ``$or`` and ``$nor``."""
    for name, operand in filter.items():
        if name in ("$and", "$or", "$nor"):
            for one in operand:
                yield from leaves(one)
        else:
            yield name, operand


def operators(condition: Any) -> Iterator[tuple[str, Any]]:
    """The operators of a condition, also inside of ``$not``; a value is ``$eq``."""
    if not isinstance(condition, dict) or not any(name.startswith("$") for name in condition):
        yield "$eq", condition
        return
    for name, operand in condition.items():
        yield name, operand
        if name == "$not":
            yield from operators(operand)


def reached(node: Any, parts: list[str]) -> Iterator[Any]:
    """The values that mongomock may see at a path, arrays as a whole; MISSING where it ends early."""
    if not parts:
        yield node
    elif isinstance(node, dict):
        yield from reached(node[parts[0]], parts[1:]) if parts[0] in node else [MISSING]
    elif isinstance(node, list):
        if parts[0].isdecimal() and int(parts[0]) < len(node):
            yield from reached(node[int(parts[0])], parts[1:])
        for element in node:
            if isinstance(element, dict):
                yield from reached(element, parts)
    else:
        yield MISSING


def runs_through_scalar(node: Any, parts: list[str]) -> bool:
    if not parts:
        return False
    if isinstance(node, dict):
        return parts[0] in node and runs_through_scalar(node[parts[0]], parts[1:])
    if isinstance(node, list):
        inner = [element for element in node if isinstance(element, dict)]
        if parts[0].isdecimal() and int(parts[0]) < len(node):
            inner.append({parts[0]: node[int(parts[0])]})
        return any(runs_through_scalar(element, parts) for element in inner)
    return True


def numbers_documents(node: Any, parts: list[str]) -> bool:
    """Whether a number in the path meets an array that holds documents, or another array."""
    if not parts or not isinstance(node, dict | list):
        return False
    if isinstance(node, dict):
        return parts[0] in node and numbers_documents(node[parts[0]], parts[1:])
    if parts[0].isdecimal():
        return any(isinstance(element, dict | list) for element in node)
    return any(numbers_documents(element, parts) for element in node if isinstance(element, dict))


def _is_nested(values: list[Any]) -> bool:
    return any(isinstance(one, list) and any(isinstance(inner, list) for inner in one) for one in values)


def _has_array(values: list[Any]) -> bool:
    return any(isinstance(one, list) for one in values)


Rule = Callable[[str, Any, dict[str, Any]], bool]


def _at(path: str, doc: dict[str, Any]) -> list[Any]:
    return list(reached(doc, path.split(".")))


RULES: dict[str, Rule] = {
    "an empty document as a value": lambda path, condition, doc: condition == {},
    "a path through a scalar": lambda path, condition, doc: runs_through_scalar(doc, path.split(".")),
    "a number in a path to documents": lambda path, condition, doc: numbers_documents(doc, path.split(".")),
    "$gte of null and a missing field": lambda path, condition, doc: any(
        op in ("$gte", "$lte") and operand is None for op, operand in operators(condition)
    ),
    "$options inside of $not": lambda path, condition, doc: any(
        op == "$not" and "$options" in operand for op, operand in operators(condition)
    ),
    "$size of what is no array": lambda path, condition, doc: (
        any(op == "$size" for op, _ in operators(condition))
        and any(not isinstance(value, list) for value in _at(path, doc))
    ),
    "an array compared with arrays in an array": lambda path, condition, doc: (
        any(isinstance(operand, list) for _, operand in operators(condition)) and _is_nested(_at(path, doc))
    ),
    "$not or $exists where nothing is found": lambda path, condition, doc: (
        any(op in ("$not", "$exists") for op, _ in operators(condition)) and not _at(path, doc)
    ),
    "$exists of several documents": lambda path, condition, doc: (
        any(op == "$exists" for op, _ in operators(condition)) and len(_at(path, doc)) > 1
    ),
    "$regex in $elemMatch of arrays in an array": lambda path, condition, doc: (
        "$regex" in repr(condition) and "$elemMatch" in repr(condition) and _is_nested(_at(path, doc))
    ),
    "an array listed in $in": lambda path, condition, doc: (
        any(op in ("$in", "$nin") and _has_array(operand) for op, operand in operators(condition))
        and any(isinstance(value, list) for value in _at(path, doc))
    ),
    "$all of what is no array": lambda path, condition, doc: (
        any(op == "$all" for op, _ in operators(condition))
        and not all(isinstance(value, list) for value in _at(path, doc))
    ),
}


def rule_of(filter: dict[str, Any], doc: dict[str, Any]) -> str | None:
    """The name of the rule for which mongomock's answer does not count, or None."""
    for path, condition in leaves(filter):
        for name, rule in RULES.items():
            if rule(path, condition, doc):
                return name
    return None


# ---------------------------------------------------------------------------------------------------- updates


def _value_at(doc: Any, path: str) -> Any:
    """What an update finds at a path, or MISSING."""
    for part in path.split("."):
        if isinstance(doc, dict):
            doc = doc.get(part, MISSING)
        elif isinstance(doc, list) and part.isdecimal() and int(part) < len(doc):
            doc = doc[int(part)]
        else:
            return MISSING
    return doc


def _kind(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return "other"
    return "text" if isinstance(value, str) else "number"


def _above(path: str, doc: dict[str, Any]) -> Any:
    above = path.rpartition(".")[0]
    return _value_at(doc, above) if above else doc


def _has_array_in(value: Any) -> bool:
    return isinstance(value, list) and _has_array(value)


def _has_twins(operand: Any) -> bool:
    values = operand.get("$each", []) if isinstance(operand, dict) else []
    return any(one == other for n, one in enumerate(values) for other in values[:n])


Change = Callable[[str, str, Any, dict[str, Any]], bool]

UPDATE_RULES: dict[str, Change] = {
    "$min and $max of several types": lambda op, path, operand, doc: (
        op in ("$min", "$max")
        and (_kind(operand) == "other" or _value_at(doc, path) is not MISSING)
        and (_kind(operand) == "other" or _kind(_value_at(doc, path)) != _kind(operand))
    ),
    "$pop of what is missing": lambda op, path, operand, doc: (
        op == "$pop" and _value_at(doc, path) is MISSING
    ),
    "$unset, $min and $max of elements": lambda op, path, operand, doc: (
        op in ("$unset", "$min", "$max") and isinstance(_above(path, doc), list)
    ),
    "$pull of documents beside arrays": lambda op, path, operand, doc: (
        op == "$pull" and isinstance(operand, dict) and _has_array_in(_value_at(doc, path))
    ),
    "equal values in $each of $addToSet": lambda op, path, operand, doc: (
        op == "$addToSet" and _has_twins(operand)
    ),
    "$pull, $addToSet and $push below what is no document": lambda op, path, operand, doc: (
        op in ("$pull", "$addToSet", "$push") and "." in path and not isinstance(_above(path, doc), dict)
    ),
}


def update_rule_of(changes: dict[str, Any], doc: dict[str, Any]) -> str | None:
    """The name of the rule for which mongomock's result does not count, or None."""
    for op, fields in changes.items():
        for path, operand in fields.items():
            for name, rule in UPDATE_RULES.items():
                if rule(op, path, operand, doc):
                    return name
    return None
