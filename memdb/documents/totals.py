"""What is added up over documents: one class for each operator of an aggregation.

Invariants:

* A sum does not depend on the order in which values come.
* Only numbers are summed, a bool is none; null and what is missing count for nothing. Without any value the
  sum is 0 and the others are None.
* The sum of ints is an int, exact; with a float among them a float, rounded once at the end; with a Decimal
  among them a Decimal of 34 digits.
"""

import math
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, Final, Protocol

from memdb.documents.operands import is_number
from memdb.documents.order import compare, rank_of
from memdb.sentinels import MISSING

__all__ = ["DOCUMENTS", "OPERATORS", "Total"]

_DECIMALS: Final = Context(prec=34, traps=[])


class Total(Protocol):
    """One aggregate of one group."""

    def add(self, value: Any) -> None:
        """Counts a value, or MISSING."""

    def result(self) -> Any:
        """The aggregate."""


class _Documents:
    """How many there are."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, value: Any) -> None:
        self._count += 1

    def result(self) -> Any:
        return self._count


class _Count(_Documents):
    """How many have a value that is not null."""

    def add(self, value: Any) -> None:
        if value is not None and value is not MISSING:
            self._count += 1


class _Sum:
    """Ints and Decimals by themselves; floats as parts that do not overlap, so that nothing is lost."""

    def __init__(self) -> None:
        self.count = 0
        self.whole = 0
        self.exact: Decimal | None = None
        self.has_float = False
        self.parts: list[float] = []
        self.beyond = 0.0  # infinities and NaN

    def add(self, value: Any) -> None:
        if not is_number(value):
            return
        self.count += 1
        if type(value) is int:
            self.whole += value
        elif type(value) is float:
            self.has_float = True
            self._add_float(value)
        else:
            self.exact = _DECIMALS.add(self.exact or Decimal(0), value)

    def _add_float(self, value: float) -> None:
        """Shewchuk's sum: each addition keeps what it rounds off as a smaller part."""
        kept = []
        for part in self.parts:
            if abs(value) < abs(part):
                value, part = part, value
            total = value + part
            lost = part - (total - value)
            if lost:
                kept.append(lost)
            value = total
        if math.isfinite(value):
            self.parts = [*kept, value]
        else:
            self.parts, self.beyond = [], self.beyond + value

    def result(self) -> Any:
        if self.exact is not None:
            total = _DECIMALS.add(self.exact, Decimal(self.whole))
            return _DECIMALS.add(total, Decimal(repr(self._floats()))) if self.has_float else total
        if not self.has_float:
            return self.whole
        return self._floats(self.whole)

    def _floats(self, whole: int = 0) -> float:
        """The sum of the floats and an int, rounded once; beyond the range of a float, an infinity."""
        if self.beyond:
            return self.beyond
        total = Fraction(whole) + sum(map(Fraction, self.parts))
        try:
            return float(total)
        except OverflowError:
            return math.inf if total > 0 else -math.inf


class _Average(_Sum):
    """The sum by the number of numbers."""

    def result(self) -> Any:
        if self.count == 0:
            return None
        total = super().result()
        if type(total) is Decimal:
            return _DECIMALS.divide(total, Decimal(self.count))
        try:
            return total / self.count
        except OverflowError:  # an int beyond the range of a float
            return math.inf if total > 0 else -math.inf


class _Extreme:
    """The least or the greatest value in the order of all types."""

    sign: int

    def __init__(self) -> None:
        self._found: Any = None

    def add(self, value: Any) -> None:
        if value is None or value is MISSING:
            return
        rank_of(value)  # also of the only value: whether it has an order must not depend on the others
        if self._found is None or compare(value, self._found) == self.sign:
            self._found = value

    def result(self) -> Any:
        return self._found


class _Least(_Extreme):
    sign = -1


class _Greatest(_Extreme):
    sign = 1


OPERATORS: Final[dict[str, Callable[[], Total]]] = {
    "count": _Count,
    "sum": _Sum,
    "avg": _Average,
    "min": _Least,
    "max": _Greatest,
}
DOCUMENTS: Final[Callable[[], Total]] = _Documents
"""What ``count`` without a field is."""
