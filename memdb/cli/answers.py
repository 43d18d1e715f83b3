"""What a command of `memdb shell` takes and what it answers: the types that all of them share.

Invariant: answers are plain data; the shell prints them for people or as JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from memdb.cli import words
from memdb.cli.notation import NotationError

__all__ = ["NOTHING", "Answer", "Command", "UsageError", "number"]

NOTHING: Final = object()
"""An answer has no value; None would be one."""


class UsageError(NotationError):
    """A line that is no command. The message is for people."""


@dataclass(frozen=True)
class Answer:
    """``data``: what --json prints, one document each. For people: the ``tables``, the ``text``, the
    ``value`` (NOTHING: none) and, where ``rows`` or ``each``, the data themselves, as keys with values or as
    values; ``more``: there would be more rows.
    ``no``: why the answer is no, None if it is not.
    """

    data: list[Any] = field(default_factory=list)
    text: str = ""
    value: Any = NOTHING
    tables: list[Any] = field(default_factory=list)
    rows: bool = False
    each: bool = False
    more: bool = False
    no: str | None = None


@dataclass(frozen=True)
class Command:
    """``usage``: its arguments; ``options``: name → whether it takes a word; ``keys``: does it take keys?
    ``collections``: is the first argument a collection?
    """

    usage: str
    help: str
    run: Callable[[Any, list[str], dict[str, str]], Answer]
    most: int = 0
    least: int = 0
    options: dict[str, bool] = field(default_factory=dict)
    keys: bool = False
    collections: bool = False


def number(text: str, what: str) -> int | float:
    """The number that a word stands for; `what` it is, for the error."""
    value = words.parse(text)
    if type(value) not in (int, float):
        raise UsageError(f"{what} is a number, not {text}")
    return value  # type: ignore[no-any-return]
