"""`memdb wal dump` and `memdb checkpoint dump`: what the files of a database say, record by record.

Reads files only; no engine is started or asked, so both work on a copy, on damaged files and beside a
running engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import click

from memdb.cli import errors, notation, output

_WIDTH = 60


@click.group()
def wal() -> None:
    """The write-ahead log."""


@click.group()
def checkpoint() -> None:
    """The checkpoints."""


def _show(rows: Iterable[Mapping[str, Any]], limit: int | None, json_: bool) -> None:
    if json_:
        for row in islice(rows, limit):
            output.print_json(row)
        return
    shown = 100 if limit is None else limit
    taken = [dict(row) for row in islice(rows, shown + 1)]
    columns = list(dict.fromkeys(name for row in taken for name in row))
    cells = [[_cell(row.get(name)) for name in columns] for row in taken[:shown]]
    output.out().print(output.table([name.replace("_", " ") for name in columns], cells))
    if limit is None and len(taken) > shown:
        output.err().print(f"{shown} rows shown; there are more: use --limit or --json")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    return notation.to_text(value, _WIDTH)


_LIMIT = click.option(
    "--limit", type=click.IntRange(min=0), help="At most so many rows; for people 100 unless given."
)
_JSON = click.option("--json", "json_", is_flag=True, help="Print one JSON object a row, for programs.")


@wal.command("dump")
@click.argument("path", type=click.Path(path_type=str))
@click.option("--from-lsn", type=click.IntRange(min=0), default=0, help="Only records from this LSN on.")
@_LIMIT
@_JSON
def wal_dump(path: str, from_lsn: int, limit: int | None, json_: bool) -> None:
    """Print the records of the log of a database directory, or of one segment file: PATH."""
    from memdb.durability import dump as files

    with errors.reported():
        rows = (row for row in files.wal_rows(path) if (row.get("lsn") or 0) >= from_lsn)
        _show(rows, limit, json_)


@checkpoint.command("dump")
@click.argument("path", type=click.Path(path_type=str))
@_LIMIT
@_JSON
def checkpoint_dump(path: str, limit: int | None, json_: bool) -> None:
    """Print the newest checkpoint of a database directory, or one checkpoint file: PATH."""
    from memdb.durability import dump as files

    with errors.reported():
        _show(files.checkpoint_rows(path), limit, json_)
