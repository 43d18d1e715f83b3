"""What every part of the fuzzer makes: cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class Violation(Exception):
    """What must not be, although nothing raised or crashed."""


@dataclass(frozen=True)
class Case:
    """``data``: the input, kept if something is wrong. ``run``: does it and says what became of it, for the
    figures; it raises `Violation`, or what no caller is told to expect."""

    data: bytes
    run: Callable[[], str]
