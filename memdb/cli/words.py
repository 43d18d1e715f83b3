"""The words of a line of `memdb shell`: how a line is cut, what a word stands for, how a key is written.

Invariants:
- A word that is a Python literal is that value, and so are `UUID('…')`, `datetime('…')`, `date('…')` and
  `Decimal('…')`; every other word is text. Quotes make text of anything: `'1'`. Nothing is evaluated.
- `write` and `parse` are inverse for every key that there can be.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from memdb.cli.notation import NotationError

__all__ = ["Word", "parse", "parse_value", "split", "write"]

_OPENING, _CLOSING, _QUOTES = "([{", ")]}", "'\""
_CALLS: Final[dict[str, Callable[[str], Any]]] = {
    "UUID": uuid.UUID,
    "datetime": datetime.datetime.fromisoformat,
    "date": datetime.date.fromisoformat,
    "Decimal": decimal.Decimal,
}


@dataclass(frozen=True)
class Word:
    """One word as typed; ``start``: its place in the line; ``whole``: its quotes and brackets are closed."""

    text: str
    start: int
    whole: bool = True


def split(line: str) -> list[Word]:
    """The words of a line; quotes and brackets keep spaces together.

    >>> [word.text for word in split("set ('user', 1) {'a': 1}")]
    ['set', "('user', 1)", "{'a': 1}"]
    """
    words, at = list[Word](), 0
    while at < len(line):
        if line[at].isspace():
            at += 1
            continue
        end, whole = _end_of_word(line, at)
        words.append(Word(line[at:end], at, whole))
        at = end
    return words


def _end_of_word(line: str, start: int) -> tuple[int, bool]:
    quote, depth, at = "", 0, start
    nests = line[start] in _OPENING or _is_call(line, start)
    while at < len(line):
        one = line[at]
        if quote:
            if one == "\\":
                at += 1
            elif one == quote:
                quote = ""
        elif one in _QUOTES and (depth > 0 or line[start:at].lower() in ("", "b")):
            quote = one
        elif nests and one in _OPENING:
            depth += 1
        elif nests and one in _CLOSING:
            depth -= 1
        elif one.isspace() and depth <= 0:
            return at, True
        at += 1
    return min(at, len(line)), not quote and depth <= 0


def _is_call(line: str, start: int) -> bool:
    return any(line.startswith(f"{name}(", start) for name in _CALLS)


class _Calls(ast.NodeTransformer):
    """Puts the value in the place of a call of one of the few known names with one text."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(ast.Name(name), [ast.Constant(str(text))], []) if name in _CALLS:
                return ast.copy_location(ast.Constant(_CALLS[name](text)), node)
        return node


def _literal(text: str) -> Any:
    """Raises ValueError, SyntaxError and what a number or a date that is none raises."""
    return ast.literal_eval(_Calls().visit(ast.parse(text, mode="eval")))


_NO_LITERAL = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, decimal.InvalidOperation)


def _must_be_literal(text: str) -> bool:
    quoted = text[:1] in _QUOTES or (text[:1] in "bB" and text[1:2] and text[1:2] in _QUOTES)
    return bool(quoted) or text[:1] in _OPENING or _is_call(text, 0)


def parse(text: str) -> Any:
    """What a word stands for. Raises NotationError.

    >>> parse("user:1"), parse("1"), parse("'1'"), parse("('user', 1)")
    ('user:1', 1, '1', ('user', 1))
    """
    try:
        return _literal(text)
    except _NO_LITERAL as error:
        if _must_be_literal(text):
            raise NotationError(f"{text} is no literal: {error}; text is 'quoted'") from error
        return text


def parse_value(text: str) -> Any:
    """As `parse`; JSON is taken, too: `{"a": true}`, `null`."""
    try:
        return _literal(text)
    except _NO_LITERAL:
        try:
            return json.loads(text)
        except ValueError:
            return parse(text)


def write(key: Any) -> str:
    """The word that stands for a key.

    >>> write("user:1"), write("1"), write(("user", 1))
    ('user:1', "'1'", "('user', 1)")
    """
    if isinstance(key, str):
        bare = key and not key.startswith("-") and len(split(key)) == 1 and split(key)[0].text == key
        return key if bare and not _must_be_literal(key) and parse(key) == key else repr(key)
    return _nested(key)


def _nested(key: Any) -> str:
    if isinstance(key, tuple):
        inner = ", ".join(_nested(one) for one in key)
        return f"({inner},)" if len(key) == 1 else f"({inner})"
    if isinstance(key, datetime.datetime):
        return f"datetime({key.isoformat()!r})"
    if isinstance(key, float) and key in (float("inf"), float("-inf")):
        return "1e999" if key > 0 else "-1e999"
    return repr(key)
