"""What commands print: tables and bars for people, JSON for programs.

Owns: the two consoles (stdout for answers, stderr for progress) and the shapes of tables.
Invariant: with `--json` stdout holds JSON only; progress bars always go to stderr, and only to a terminal.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from memdb.cli.notation import to_json

if TYPE_CHECKING:  # loaded when something is printed with it: a short call would spend most of its time there
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table


def out() -> Console:
    """The console for answers. Made per use, so that a redirected stdout is seen."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


def err() -> Console:
    """The console for progress and remarks."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on one line."""
    click.echo(json.dumps(to_json(value), ensure_ascii=False))


def table(
    columns: Sequence[str | tuple[str, str]], rows: Iterable[Sequence[object]], title: str | None = None
) -> Table:
    """A table; a column is its heading, or (heading, "left" | "right")."""
    from rich.table import Table
    from rich.text import Text

    result = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        heading, side = (column, "left") if isinstance(column, str) else column
        result.add_column(heading, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        # Text, not str: stored data must not be read as console markup.
        result.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    return result


def facts(pairs: Mapping[str, object], title: str | None = None) -> Table:
    """A table of names and values without headings."""
    from rich.table import Table
    from rich.text import Text

    result = Table(title=title, title_justify="left", show_header=False)
    result.add_column(style="bold")
    result.add_column(overflow="fold")
    for name, value in pairs.items():
        result.add_row(Text(name), Text("" if value is None else str(value)))
    return result


def verdicts(rows: Iterable[tuple[str, str, str]], styles: Mapping[str, str]) -> Table:
    """A table of checks: name, verdict in its colour, text."""
    from rich.table import Table
    from rich.text import Text

    result = Table(show_header=False)
    result.add_column(style="bold")
    result.add_column()
    result.add_column(overflow="fold")
    for name, verdict, text in rows:
        result.add_row(Text(name), Text(verdict, style=styles[verdict]), Text(text))
    return result


def bar(*, shown: bool = True) -> Progress:
    """A progress bar on stderr that leaves no trace when it is done; `shown=False` for `--json`."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not shown or not console.is_terminal,
    )


def size(count: float | None) -> str:
    """Bytes with a binary unit, for people.

    >>> size(1536), size(10)
    ('1.5 KiB', '10 B')
    """
    if count is None:
        return "-"
    number = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def plural(count: int, noun: str) -> str:
    """A number of things.

    >>> plural(1, "key"), plural(1200, "key")
    ('1 key', '1,200 keys')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def moment(time_us: float) -> str:
    """A time since 1970, in UTC.

    >>> moment(1795253203940485)
    '2026-11-21 09:26:43.940Z'
    """
    when = datetime.datetime.fromtimestamp(time_us / 1e6, datetime.UTC)
    return when.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"


def seconds(value: float | None) -> str:
    """A time span with the unit that suits it.

    >>> seconds(0.0000042), seconds(0.0123), seconds(2.5)
    ('4.2 µs', '12.3 ms', '2.5 s')
    """
    if value is None:
        return "-"
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if abs(value) < limit:
            return f"{value * factor:.1f} {unit}"
    return f"{value:.1f} s"
