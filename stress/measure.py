"""How a figure is measured and shown: paired runs, medians, a table.

Owns: Row and its verdict. Invariant: memdb and its peer are timed in turns in one run, and a ratio is the
median of the ratios of such pairs, so that
a machine that slows down in the middle slows both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Row:
    """One figure. `ratio` is compared with `target`; `better` says on which side of it is good."""

    name: str
    what: str
    memdb: float
    unit: str
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    target: float | None = None
    better: str = "less"

    @property
    def compared(self) -> float:
        """What is held against the target: the ratio, or the figure itself where there is no peer."""
        return self.memdb if self.ratio is None else self.ratio

    @property
    def reached(self) -> bool | None:
        """None where the row has no target."""
        if self.target is None:
            return None
        return self.compared <= self.target if self.better == "less" else self.compared >= self.target


def paired(
    one: Callable[[int], float], other: Callable[[int], float], rounds: int
) -> tuple[float, float, float]:
    """Medians of both, and the median of one ÷ other. The argument is the number of the round; who
    begins alternates.
    """
    ones, others = [], []
    for number in range(rounds):
        if number % 2:
            others.append(other(number))
            ones.append(one(number))
        else:
            ones.append(one(number))
            others.append(other(number))
    return median(ones), median(others), median(a / b for a, b in zip(ones, others, strict=True))


def percentile(values: list[int], share: float) -> float:
    """The value below which `share` (0 … 1) of them lie."""
    ordered = sorted(values)
    return float(ordered[min(int(len(ordered) * share), len(ordered) - 1)])


def readable(value: float | None, unit: str) -> str:
    """A figure with its unit."""
    if value is None:
        return "-"
    if unit == "s":
        for limit, factor, name in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
            if abs(value) < limit:
                return f"{value * factor:.2f} {name}"
        return f"{value:.2f} s"
    return f"{value:,.0f} {unit}" if abs(value) >= 100 else f"{value:.2f} {unit}"


def show(rows: list[Row]) -> str:
    """The rows as a Markdown table, fit for a document."""
    lines = ["| figure | memdb | peer | ratio | to reach | |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        peer = "-" if row.peer is None else f"{readable(row.peer, row.unit)} ({row.peer_name})"
        sign = "≤" if row.better == "less" else "≥"
        unit = "" if row.ratio is not None else row.unit
        target = (
            "-"
            if row.target is None
            else f"{sign} {readable(row.target, unit).strip() if unit else f'{row.target:g}'}"
        )
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = {None: "", True: "reached", False: "**missed**"}[row.reached]
        lines.append(
            f"| {row.what} | {readable(row.memdb, row.unit)} | {peer} | {ratio} | {target} | {verdict} |"
        )
    return "\n".join(lines)


def rate(slices: list[tuple[float, float, int]], *spans: tuple[float, float]) -> float:
    """Writes a second of one writer, from the pieces of time that lie within one of the spans."""
    rates = [
        number / (end - begin)
        for begin, end, number in slices
        if any(after <= begin and end <= until for after, until in spans)
    ]
    if not rates:
        raise RuntimeError("it was over before a writer's slice of time was")
    return median(rates)
