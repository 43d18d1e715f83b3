"""Keys and values as text: how they are typed on a command line and how they are printed.

Owns: the types that `--key-type` and `--value-type` name, and the tagged JSON that `--json` prints.

Invariants:
- What JSON has is printed as itself; everything else is an object with one key that begins with `$`
  (`{"$bytes": "aGk="}`, `{"$tuple": […]}`), and so is a map whose own only key begins with
  `$`. So the notation loses nothing: 1, 1.0 and true differ, `"a"` and `b"a"` differ, and values that
  differ print differently.
- `from_json` is the inverse of `to_json`. What only looks like a tag (`{"$set": {…}}`, `{"$gt": 5}`) is what
  it is: a part of an update or a filter.
- Nothing typed is evaluated: `literal` is `ast.literal_eval`, which makes values and calls nothing.
"""

from __future__ import annotations

import ast
import base64
import datetime
import decimal
import json
import math
import uuid
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any

KEY_TYPES = ("str", "int", "float", "bool", "none", "bytes", "hex", "uuid", "datetime", "literal")
VALUE_TYPES = ("auto", "json", "text", "bytes", "hex", "literal")


class NotationError(ValueError):
    """A key or value on the command line is not what its type says. The message is for people."""


def parse_key(text: str, kind: str = "str") -> Any:
    """The key that `text` stands for; `kind` is one of KEY_TYPES.

    >>> parse_key("user:1"), parse_key("7", "int"), parse_key("('k', 1)", "literal")
    ('user:1', 7, ('k', 1))
    """
    return _parse(text, kind, _KEY_PARSERS, "key")


def parse_value(text: str, kind: str = "auto") -> Any:
    """The value that `text` stands for; `auto` is JSON where the text is JSON, and otherwise the text itself.

    >>> parse_value('{"n": 1}'), parse_value("hello"), parse_value("1", "text")
    ({'n': 1}, 'hello', '1')
    """
    if kind == "auto":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return _parse(text, kind, _VALUE_PARSERS, "value")


def _parse(text: str, kind: str, parsers: Mapping[str, Callable[[str], Any]], what: str) -> Any:
    try:
        return parsers[kind](text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        shown = text if len(text) <= 60 else text[:57] + "…"
        raise NotationError(f"the {what} {shown!r} is not of type {kind}: {error}") from error


def _bool(text: str) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in known:
        raise ValueError("expected true or false")
    return known[text.lower()]


def _none(text: str) -> None:
    if text.lower() not in ("none", "null", ""):
        raise ValueError("expected none")


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # bytes that are no UTF-8 reach a program this way


_KEY_PARSERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": _bool,
    "none": _none,
    "bytes": _encoded,
    "hex": bytes.fromhex,
    "uuid": uuid.UUID,
    "datetime": datetime.datetime.fromisoformat,
    "literal": ast.literal_eval,
}
_VALUE_PARSERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "text": str,
    "bytes": _encoded,
    "hex": bytes.fromhex,
    "literal": ast.literal_eval,
}


class Written(dict[str, Any]):
    """A filter in the JSON that is typed for it: `to_json` leaves it as it is."""


def written(filter: Mapping[str, Any]) -> Written:
    """A filter as it is typed: its operators are no tags, its values have them.

    >>> to_json(written({"at": {"$gt": datetime.date(2026, 1, 2)}}))
    {'at': {'$gt': {'$date': '2026-01-02'}}}
    """
    return Written({name: _written(one) for name, one in filter.items()})


def _written(value: Any) -> Any:
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _written(one) for name, one in value.items()}
    return [_written(one) for one in value] if isinstance(value, list) else to_json(value)


def to_json(value: Any) -> Any:
    """`value` as something that `json.dumps` takes, tagged where JSON has no such type.

    >>> to_json((1, b"hi"))
    {'$tuple': [1, {'$bytes': 'aGk='}]}
    """
    if value is None or isinstance(value, bool | str | int | Written):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return _map_to_json(value)
    return _tagged(value)


def _map_to_json(value: dict[Any, Any]) -> Any:
    plain = all(isinstance(key, str) for key in value)
    like_a_tag = plain and (
        (len(value) == 1 and next(iter(value)).startswith("$")) or value.keys() == {"$datetime", "zone"}
    )
    if plain and not like_a_tag:
        return {key: to_json(item) for key, item in value.items()}
    return {"$map": [[to_json(key), to_json(item)] for key, item in value.items()]}


def _tagged(value: Any) -> Any:
    if isinstance(value, tuple):
        return {"$tuple": [to_json(item) for item in value]}
    if isinstance(value, frozenset):
        return {"$frozenset": sorted((to_json(item) for item in value), key=json.dumps)}
    if isinstance(value, set):
        return {"$set": sorted((to_json(item) for item in value), key=json.dumps)}
    if isinstance(value, datetime.datetime):
        zone = getattr(value.tzinfo, "key", None)
        return (
            {"$datetime": value.isoformat()}
            if zone is None
            else {"$datetime": value.isoformat(), "zone": zone}
        )
    if isinstance(value, datetime.date):
        return {"$date": value.isoformat()}
    if isinstance(value, datetime.time):
        return {"$time": value.isoformat()}
    if isinstance(value, datetime.timedelta):
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    for kind, tag in ((decimal.Decimal, "$decimal"), (uuid.UUID, "$uuid"), (complex, "$complex")):
        if isinstance(value, kind):
            return {tag: str(value)}
    return {"$repr": repr(value)}


def from_json(value: Any) -> Any:
    """The value whose tagged JSON this is. Raises NotationError for a tag with content that it can't have.

    >>> from_json({"when": {"$date": "2026-01-02"}, "age": {"$gt": 5}})
    {'when': datetime.date(2026, 1, 2), 'age': {'$gt': 5}}
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    reader = _UNTAGGED.get(tag)
    if reader is None or not isinstance(value[tag], reader[0]) or set(value) - {tag} - reader[2]:
        return {key: from_json(item) for key, item in value.items()}
    try:
        return reader[1](*value.values())
    except (ValueError, TypeError, ArithmeticError, LookupError, OSError) as error:
        raise NotationError(f"{json.dumps(value)} is no {tag.removeprefix('$')}: {error}") from error


def _read_datetime(text: str, zone: str | None = None) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    if zone is None:
        return moment
    # The fold is not in the text; the offset that is there says which of two equal wall clocks it was.
    found = moment.replace(tzinfo=zoneinfo.ZoneInfo(zone))
    return found if found.utcoffset() == moment.utcoffset() else found.replace(fold=1)


_UNTAGGED: dict[str, tuple[type, Callable[..., Any], set[str]]] = {
    "$bytes": (str, lambda text: base64.b64decode(text, validate=True), set()),
    "$tuple": (list, lambda items: tuple(map(from_json, items)), set()),
    "$set": (list, lambda items: set(map(from_json, items)), set()),
    "$frozenset": (list, lambda items: frozenset(map(from_json, items)), set()),
    "$datetime": (str, _read_datetime, {"zone"}),
    "$date": (str, datetime.date.fromisoformat, set()),
    "$time": (str, datetime.time.fromisoformat, set()),
    "$timedelta": (list, lambda parts: datetime.timedelta(*parts), set()),
    "$decimal": (str, decimal.Decimal, set()),
    "$uuid": (str, uuid.UUID, set()),
    "$complex": (str, complex, set()),
    "$float": (str, float, set()),
    "$map": (list, lambda pairs: {from_json(key): from_json(item) for key, item in pairs}, set()),
}
"""By tag: the type of its content, what reads it, and names that may stand beside it."""


def parse_document(text: str, what: str) -> Any:
    """The map that tagged JSON stands for: a document, a filter or changes, as `what` says.

    >>> parse_document('{"age": {"$gt": 5}}', "FILTER")
    {'age': {'$gt': 5}}
    """
    shown = text if len(text) <= 60 else text[:57] + "…"
    try:
        value = from_json(json.loads(text))
    except RecursionError as error:
        raise NotationError(f"{what} {shown!r} is nested too deep") from error
    except NotationError:
        raise
    except ValueError as error:
        raise NotationError(
            f'{what} must be a JSON object, as in \'{{"name": "Alice"}}\', not {shown!r}: {error}'
        ) from error
    if not isinstance(value, dict):
        raise NotationError(f'{what} must be a JSON object, as in \'{{"name": "Alice"}}\', not {shown!r}')
    return value


def dumps(value: Any) -> str:
    """One line of tagged JSON."""
    return json.dumps(to_json(value), ensure_ascii=False)


def to_text(value: Any, width: int | None = None) -> str:
    """`value` in Python's notation, for people; cut to `width` characters where given."""
    text = repr(value)
    if width is not None and len(text) > width:
        return text[: max(width - 1, 1)] + "…"
    return text
