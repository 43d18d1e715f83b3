"""The commands on keys: get, set, delete, scan.

Invariant: KEY and VALUE are what notation.py says; nothing typed is evaluated.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from memdb.cli import errors, notation, output
from memdb.cli.opening import opened

PATH = click.Path(path_type=str)


def as_json(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --json."""
    return click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")(command)


def typed_key(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option --key-type."""
    return click.option(
        "-k", "--key-type", type=click.Choice(notation.KEY_TYPES), default="str", show_default=True,
        help="What KEY is; `literal` is Python's notation, as in \"('user', 1)\".",
    )(command)  # fmt: skip


@click.command()
@click.argument("directory", type=PATH)
@click.argument("key")
@typed_key
@click.option("--ttl", is_flag=True, help="Print the seconds until it expires instead; nothing if it stays.")
@as_json
def get(directory: str, key: str, key_type: str, ttl: bool, json_: bool) -> None:
    """Print the value of KEY. Exit code 1 if there is none."""
    with errors.reported():
        parsed = notation.parse_key(key, key_type)
        with opened(directory, readonly=True) as db:
            entry = db.entry(parsed)
            left = db.ttl(parsed) if entry is not None and (ttl or json_) else None
        if entry is None:
            click.echo(f"memdb: no key {parsed!r} in {directory}", err=True)
            raise SystemExit(errors.NO)
        if json_:
            output.print_json({"key": entry.key, "value": entry.value, "version": entry.version, "ttl": left})
        elif ttl:
            if left is not None:
                click.echo(f"{left:.3f}")
        elif isinstance(entry.value, bytes) and not sys.stdout.isatty():
            sys.stdout.buffer.write(entry.value)
        else:
            click.echo(entry.value if isinstance(entry.value, str) else notation.to_text(entry.value))


@click.command("set")
@click.argument("directory", type=PATH)
@click.argument("key")
@click.argument("value")
@typed_key
@click.option(
    "-t", "--value-type", type=click.Choice(notation.VALUE_TYPES), default="auto", show_default=True,
    help="What VALUE is; `auto` is JSON where it is JSON, and text otherwise.",
)  # fmt: skip
@click.option(
    "--durability", type=click.Choice(["memory", "os", "full"]), help="When the write counts as done."
)
@click.option("--if-absent", is_flag=True, help="Only if there is no such key; exit code 1 otherwise.")
@click.option("--ttl", type=float, help="Seconds after which it expires; without it, it stays.")
@as_json
def set_(
    directory: str, key: str, value: str, key_type: str, value_type: str, durability: str | None,
    if_absent: bool, ttl: float | None, json_: bool,
) -> None:  # fmt: skip
    """Store VALUE under KEY; `-` reads VALUE from standard input, to its last byte. A VALUE that begins
    with - goes after `--`, as in `-- -5`. Creates the database if there is none.
    """
    with errors.reported():
        parsed_key = notation.parse_key(key, key_type)
        parsed_value = _read_value(value_type) if value == "-" else notation.parse_value(value, value_type)
        with opened(directory) as db:
            written = db.set(parsed_key, parsed_value, ttl=ttl, if_absent=if_absent, durability=durability)
        if json_:
            output.print_json({"written": written})
        if not written:
            click.echo(f"memdb: {parsed_key!r} exists, and was left as it is", err=True)
            raise SystemExit(errors.NO)


def _read_value(kind: str) -> Any:
    data = sys.stdin.buffer.read()
    if kind == "bytes":
        return data
    try:
        return notation.parse_value(data.decode("utf-8"), kind)
    except UnicodeDecodeError as error:
        raise notation.NotationError(
            f"standard input is not UTF-8 ({error}); store it with --value-type bytes"
        ) from error


@click.command()
@click.argument("directory", type=PATH)
@click.argument("key")
@typed_key
@as_json
def delete(directory: str, key: str, key_type: str, json_: bool) -> None:
    """Delete KEY. Exit code 1 if there is none."""
    with errors.reported():
        parsed = notation.parse_key(key, key_type)
        with opened(directory, create=False) as db:
            deleted = db.delete(parsed)
        if json_:
            output.print_json({"deleted": deleted})
        if not deleted:
            click.echo(f"memdb: no key {parsed!r} in {directory}", err=True)
            raise SystemExit(errors.NO)


@click.command()
@click.argument("directory", type=PATH)
@click.option("--start", help="First key (inclusive).")
@click.option("--stop", help="Last key (exclusive).")
@click.option("--prefix", help="Keys that begin with this; of tuples, with these elements.")
@typed_key
@click.option("--reverse", is_flag=True, help="From the last key to the first.")
@click.option("--limit", type=click.IntRange(min=0), help="At most so many; for people 100 unless given.")
@click.option("--keys-only", is_flag=True, help="Leave values out.")
@as_json
def scan(
    directory: str, start: str | None, stop: str | None, prefix: str | None, key_type: str, reverse: bool,
    limit: int | None, keys_only: bool, json_: bool,
) -> None:  # fmt: skip
    """Print keys and values in key order, as of one moment. With --json: one object a line."""
    with errors.reported():
        bounds = {
            name: None if text is None else notation.parse_key(text, key_type)
            for name, text in (("start", start), ("stop", stop), ("prefix", prefix))
        }
        with opened(directory, readonly=True) as db:
            if json_:
                for key, value in db.range(**bounds, reverse=reverse, limit=limit):
                    output.print_json({"key": key} if keys_only else {"key": key, "value": value})
                return
            shown = 100 if limit is None else limit
            # One more than is shown tells whether there is more.
            rows = list(db.range(**bounds, reverse=reverse, limit=shown + 1))
        _print_scan(rows, shown, limit is None, keys_only)


def _print_scan(rows: list[tuple[Any, Any]], shown: int, may_note: bool, keys_only: bool) -> None:
    columns = ["key"] if keys_only else ["key", "value"]
    width = 200
    cells = [
        [notation.to_text(key, width)]
        if keys_only
        else [notation.to_text(key, width), notation.to_text(value, width)]
        for key, value in rows[:shown]
    ]
    output.out().print(output.table(columns, cells))
    if may_note and len(rows) > shown:
        output.err().print(f"{shown} keys shown; there are more: use --limit, --start or --json")
