"""Random documents, filters and updates, small enough to meet each other, made of a seed.

What they are made of leaves out where mongomock is known to differ from MongoDB by values alone (0 and 1
beside bools, NaN, fields of embedded documents in another order); mongomock_rules.py has the other rules.
"""

from __future__ import annotations

import random
from typing import Any

NUMBERS = [2, 3, 2.0, 3.5, -4, 7]
TEXTS = ["a", "b", "ab", "ba", ""]
NAMES = ["a", "b", "c"]
PATHS = [*NAMES, "a.b", "a.c", "b.a", "a.b.c", "a.0", "b.1", "a.0.b", "a.b.0"]


def scalar(rng: random.Random) -> Any:
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(NUMBERS)
    if kind < 0.75:
        return rng.choice(TEXTS)
    if kind < 0.87:
        return None
    return rng.random() < 0.5


def value(rng: random.Random, depth: int = 2) -> Any:
    kind = rng.random()
    if depth == 0 or kind < 0.5:
        return scalar(rng)
    if kind < 0.75:
        return embedded(rng, depth - 1)
    return [value(rng, depth - 1) for _ in range(rng.randrange(4))]


def embedded(rng: random.Random, depth: int) -> dict[str, Any]:
    names = sorted(rng.sample(NAMES, rng.randrange(len(NAMES) + 1)))
    return {name: value(rng, depth) for name in names}


def document(rng: random.Random) -> dict[str, Any]:
    return embedded(rng, 3)


# ---------------------------------------------------------------------------------------------------- filters


def filter_of(rng: random.Random, depth: int = 2) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(rng.choice([1, 1, 1, 2])):
        if depth and rng.random() < 0.25:
            name = rng.choice(["$and", "$or", "$nor"])
            made[name] = [filter_of(rng, depth - 1) for _ in range(rng.choice([1, 2, 2, 3]))]
        else:
            made[rng.choice(PATHS)] = condition(rng)
    return made


def condition(rng: random.Random) -> Any:
    if rng.random() < 0.25:
        return value(rng)
    names = rng.sample(list(OPERATORS), rng.choice([1, 1, 1, 2]))
    made: dict[str, Any] = {}
    for name in names:
        made.update(OPERATORS[name](rng))
    return made


def _values(rng: random.Random) -> list[Any]:
    return [value(rng, 1) for _ in range(rng.randrange(1, 4))]


def _pattern(rng: random.Random) -> dict[str, Any]:
    made = {"$regex": rng.choice(["a", "^a", "b$", "^A", "^$", "a|b"])}
    return {**made, "$options": rng.choice(["i", "m", "is"])} if rng.random() < 0.4 else made


def _simple(rng: random.Random) -> dict[str, Any]:
    name = rng.choice(
        ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$regex", "$type"]
    )
    return OPERATORS[name](rng)


def _element(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.5:
        return {"$elemMatch": _simple(rng)}
    names = rng.sample(NAMES, rng.choice([1, 2]))
    return {"$elemMatch": {name: scalar(rng) if rng.random() < 0.5 else _simple(rng) for name in names}}


def _all(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.3:
        return {"$all": [_element(rng) for _ in range(rng.choice([1, 2]))]}
    return {"$all": _values(rng)}


OPERATORS: dict[str, Any] = {
    "$eq": lambda rng: {"$eq": value(rng)},
    "$ne": lambda rng: {"$ne": value(rng)},
    "$gt": lambda rng: {"$gt": value(rng)},
    "$gte": lambda rng: {"$gte": value(rng)},
    "$lt": lambda rng: {"$lt": value(rng)},
    "$lte": lambda rng: {"$lte": value(rng)},
    "$in": lambda rng: {"$in": _values(rng)},
    "$nin": lambda rng: {"$nin": _values(rng)},
    "$exists": lambda rng: {"$exists": rng.random() < 0.5},
    "$type": lambda rng: {
        "$type": rng.choice(["number", "string", "object", "array", "bool", "int", "double"])
    },
    "$regex": _pattern,
    "$not": lambda rng: {"$not": _simple(rng)},
    "$all": _all,
    "$elemMatch": _element,
    "$size": lambda rng: {"$size": rng.randrange(4)},
}


# ---------------------------------------------------------------------------------------------------- updates


def update_of(rng: random.Random) -> dict[str, Any]:
    """An update of one or two operators at places that do not conflict."""
    paths = rng.sample(NAMES, 2)
    made: dict[str, Any] = {}
    for name in paths[: rng.choice([1, 1, 2])]:
        path = name if rng.random() < 0.7 else f"{name}.{rng.choice([*NAMES, '0', '1'])}"
        op = rng.choice(list(CHANGES))
        made.setdefault(op, {})[path] = CHANGES[op](rng)
    if rng.random() < 0.1:
        made = {"$rename": {paths[0]: paths[1]}}
    return made


def _push(rng: random.Random) -> Any:
    if rng.random() < 0.4:
        return scalar(rng)
    made: dict[str, Any] = {"$each": [scalar(rng) for _ in range(rng.randrange(4))]}
    if rng.random() < 0.4:
        made["$position"] = rng.randrange(4)
    if rng.random() < 0.4:
        made["$slice"] = rng.randrange(-3, 4)
    return made


def _pull(rng: random.Random) -> Any:
    kind = rng.random()
    if kind < 0.5:
        return scalar(rng)
    if kind < 0.75:
        return {rng.choice(["$gt", "$lte", "$ne"]): rng.choice(NUMBERS)}
    return {rng.choice(NAMES): scalar(rng)}


def _each(rng: random.Random) -> Any:
    return value(rng, 1) if rng.random() < 0.5 else {"$each": _values(rng)}


CHANGES: dict[str, Any] = {
    "$set": value,
    "$unset": lambda rng: "",
    "$inc": lambda rng: rng.choice(NUMBERS),
    "$min": scalar,
    "$max": scalar,
    "$push": _push,
    "$pull": _pull,
    "$addToSet": _each,
    "$pop": lambda rng: rng.choice([1, -1]),
}
