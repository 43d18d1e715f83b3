"""Keys and values as text: how they are typed on a command line and how they are printed.

Owns: the types that `--key-type` and `--value-type` name, and the tagged JSON that `--json` prints.

Invariants:
- What JSON has is printed as itself; everything else is an object with one key that begins with `$`
  (`{"$bytes": "aGk="}`, `{"$tuple": […]}`), and so is a map whose own only key begins with
  `$`. So the notation loses nothing: 1, 1.0 and true differ, `"a"` and `b"a"` differ, and values that
  differ print differently.
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


def to_json(value: Any) -> Any:
    """`value` as something that `json.dumps` takes, tagged where JSON has no such type.

    >>> to_json((1, b"hi"))
    {'$tuple': [1, {'$bytes': 'aGk='}]}
    """
    if value is None or isinstance(value, bool | str | int):
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
    if plain and not (len(value) == 1 and next(iter(value)).startswith("$")):
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


def dumps(value: Any) -> str:
    """One line of tagged JSON."""
    return json.dumps(to_json(value), ensure_ascii=False)


def to_text(value: Any, width: int | None = None) -> str:
    """`value` in Python's notation, for people; cut to `width` characters where given."""
    text = repr(value)
    if width is not None and len(text) > width:
        return text[: max(width - 1, 1)] + "…"
    return text
