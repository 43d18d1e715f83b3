"""What the conversions of typed models have in common: a shape, and what is said of a value that has another.

Owns: ``Shape`` (one type of a model: how its values are stored and read again) and ``Mismatch``.

Invariants:

* ``dump`` gives what the value codec stores, ``load`` takes what it reads; both check, and change neither.
* A shape that is ``same`` stores its values as they are; only of others can two in a union be confused.
* A Mismatch knows where: whoever passes it on adds the step that it knows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["ANYTHING", "Mismatch", "Shape", "seen", "type_name"]

_SHOWN: Final = 60  # characters of a value in an error


class Mismatch(Exception):
    """A value is not what its place in the model says. ``steps``: the way to it, the outermost first."""

    def __init__(self, reason: str, *steps: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = list(steps)

    def at(self, step: str) -> "Mismatch":
        """The same, one level further out: a step is ``.name``, ``[3]`` or ``['key']``."""
        self.steps.insert(0, step)
        return self

    @property
    def field(self) -> str | None:
        """The path of the value, as in ``address.lines[2]``; None for the whole."""
        return "".join(self.steps).removeprefix(".") or None


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """One type of a model. ``text``: how it is called in errors; ``stored``: the types that stand for it in
    the store, None if any may.

    ``exact``: a value of just this type is stored, and read, as it is, without a call.
    """

    text: str
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]
    stored: frozenset[type] | None
    same: bool = False
    exact: type | None = None


def _itself(value: Any) -> Any:
    return value


ANYTHING: Final = Shape("anything", _itself, _itself, None, same=True)
"""What ``Any`` says: it is left to the value codec, which refuses what it can't store."""


def type_name(kind: type) -> str:
    """A type as errors name it.

    >>> type_name(int), type_name(dataclass.__class__)
    ('int', 'function')
    """
    return kind.__qualname__


def seen(value: object) -> str:
    """A value as errors show it: its type and, in short, itself.

    >>> seen("abc"), seen(None)
    ("str ('abc')", 'None')
    """
    if value is None:
        return "None"
    text = repr(value)
    return f"{type_name(type(value))} ({text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'})"
