"""`memdb wal dump` and `memdb checkpoint dump`: what the files of a database say, record by record.

Reads files only; no engine is started or asked, so both work on a copy, on damaged files and beside a
running engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import click

import memdb
from memdb.cli import errors, notation, output

_WIDTH = 80
_FIXED = ("file", "offset", "type", "lsn", "time_us")


@click.group()
def wal() -> None:
    """The write-ahead log."""


@click.group()
def checkpoint() -> None:
    """The checkpoints."""


def _show(rows: Iterable[Mapping[str, Any]], limit: int | None, json_: bool) -> None:
    if json_:
        for row in islice(rows, limit):
            output.print_json(_decoded(row))
        return
    shown = 100 if limit is None else limit
    taken = [_decoded(row) for row in islice(rows, shown + 1)]
    columns: list[str | tuple[str, str]] = [
        "file",
        ("offset", "right"),
        "type",
        ("lsn", "right"),
        "time",
        "content",
    ]
    output.out().print(output.table(columns, (_cells(row) for row in taken[:shown])))
    if limit is None and len(taken) > shown:
        output.err().print(f"{shown} rows shown; there are more: use --limit or --json")


def _decoded(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with keys and values as Python objects; those of the system stay bytes."""
    result = {**row, **_objects(row)}
    if "operations" in row:
        result["operations"] = [{**operation, **_objects(operation)} for operation in row["operations"]]
    return result


def _objects(row: Mapping[str, Any]) -> dict[str, Any]:
    from memdb.cli import stored

    key, value = row.get("key"), row.get("value")
    if not isinstance(key, bytes):
        return {}
    is_set = row.get("op", "set") == "set" and isinstance(value, bytes)
    try:
        return stored.objects(key, value if is_set else None)
    except memdb.Error:  # damaged, or the bound of a range, which need not be a key: shown as it is
        return {}


def _cells(row: Mapping[str, Any]) -> list[str]:
    """One line of the table: the file's number without zeros; what has no column of its own as text."""
    name = str(row.get("file", "")).rsplit("/", 1)[-1].lstrip("0")
    rest = [
        f"{field} {value if isinstance(value, str) else notation.to_text(value, _WIDTH)}"
        for field, value in row.items()
        if field not in (*_FIXED, "operations") and value is not None
    ]
    rest += [_operation(one) for one in row.get("operations") or ()]
    fixed = [str(row.get(field, "")) for field in ("offset", "type", "lsn")]
    return [name, *fixed, _time(row), "\n".join(_joined(rest))]


def _operation(operation: Mapping[str, Any]) -> str:
    text = f"{operation.get('op')} {notation.to_text(operation.get('key'), _WIDTH)}"
    return (
        f"{text} = {notation.to_text(operation['value'], _WIDTH)}" if operation.get("op") == "set" else text
    )


def _joined(parts: list[str]) -> list[str]:
    """Short facts share a line."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(part) < _WIDTH:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


def _time(row: Mapping[str, Any]) -> str:
    return output.moment(row["time_us"]) if row.get("time_us") else ""


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
