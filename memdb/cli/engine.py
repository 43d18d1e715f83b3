"""Commands on the engine: info, check, compact, stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click
from rich.table import Table

import memdb
from memdb.cli import errors, output
from memdb.cli.opening import opened, stop_engine
from memdb.info import Problem


@click.command()
@click.argument("directory", type=click.Path(path_type=str))
@click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")
def info(directory: str, json_: bool) -> None:
    """Show the engine of DIRECTORY: processes, memory, log, checkpoints, last recovery, readers and
    clients.
    """
    with errors.reported():
        with opened(directory, readonly=True) as db:
            facts = db.info().to_dict()
        if json_:
            output.print_json(facts)
            return
        console = output.out()
        for shown in info_tables(facts):
            console.print(shown)


_FOR_RATES = ("time", "counts")
"""Of Info, what tells a program something and people nothing: a monotonic clock, keys by key space."""


def info_tables(facts: Mapping[str, Any]) -> Iterable[Table]:
    """One table for the plain figures and one for each part of Info that has parts of its own."""
    plain = {
        name: readable(name, value)
        for name, value in facts.items()
        if not _has_parts(value) and name not in _FOR_RATES and value != []
    }
    if plain:
        yield output.facts(plain)
    for name, value in facts.items():
        if not _has_parts(value):
            continue
        rows = _rows(value)
        if rows:
            columns = list(dict.fromkeys(column for row in rows for column in row))
            cells = [[readable(column, row.get(column)) for column in columns] for row in rows]
            headings = [column.removesuffix("_us").replace("_", " ") for column in columns]
            yield output.table(headings, cells, title=name.replace("_", " "))
        elif isinstance(value, Mapping) and value:
            shown = {k: readable(k, v) for k, v in value.items() if k not in _FOR_RATES}
            yield output.facts(shown, title=name.replace("_", " "))


def _has_parts(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return (
        isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)
    )


def _rows(value: Any) -> list[dict[str, Any]]:
    """The rows of a list of maps, or of a map of maps (its keys become the column `name`); else nothing."""
    if isinstance(value, Mapping):
        if value and all(isinstance(item, Mapping) for item in value.values()):
            return [{"name": name, **item} for name, item in value.items()]
        return []
    return [dict(item) for item in value]


def readable(name: str, value: Any) -> str:
    """A figure for people: bytes and seconds by the name's unit, nested parts in short."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if name.endswith("bytes") or name in ("rss", "size", "limit"):
            return output.size(value)
        if name.endswith("seconds") or name in ("age", "duration"):
            return output.seconds(float(value))
        if name == "time_us" or name == "started":
            return output.moment(value * 1e6 if name == "started" else value)
        return (
            f"{value:,}"
            if isinstance(value, int) and "pid" not in name
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
        )
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {readable(str(key), item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(readable("", item) for item in value)
    return str(value)


@click.command()
@click.argument("directory", type=click.Path(path_type=str))
@click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")
def check(directory: str, json_: bool) -> None:
    """Check arena, log and checkpoints of DIRECTORY, and that the indexes of each collection equal its
    documents. Exit code 1 if there are problems.
    """
    with errors.reported():
        with opened(directory, readonly=True) as db:
            report = db.check()
            names = db.collections()
            of_indexes = [problem for name in names for problem in _check_collection(db, name)]
        facts = report.to_dict()
        facts["problems"] = [*facts["problems"], *(problem.to_dict() for problem in of_indexes)]
        facts["ok"] = not facts["problems"]
        facts["collections"] = len(names)
        problems = [*report.problems, *of_indexes]
        if json_:
            output.print_json(facts)
        else:
            plain = {
                name: readable(name, value) for name, value in facts.items() if name not in ("ok", "problems")
            }
            output.out().print(output.facts(plain))
            for problem in problems:
                click.echo(str(problem), err=True)
            click.echo(output.plural(len(problems), "problem") if problems else "no problems")
        if problems:
            raise SystemExit(errors.NO)


def _check_collection(db: memdb.Database, name: str) -> list[Problem]:
    try:
        return db.collection(name).check().problems
    except memdb.IndexMismatch as error:  # an index by a function that this program lacks
        click.echo(f"memdb: not checked: {error}", err=True)
        return []


@click.command()
@click.argument("directory", type=click.Path(path_type=str))
@click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")
def stop(directory: str, json_: bool) -> None:
    """End the engine of DIRECTORY, with a last checkpoint. Clients that are open start a new one
    with their next write.
    """
    with errors.reported():
        stopped = stop_engine(directory)
        if json_:
            output.print_json({"stopped": stopped})
        elif not stopped:
            click.echo(f"no engine runs for {directory}")


@click.command()
@click.argument("directory", type=click.Path(path_type=str))
@click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")
def compact(directory: str, json_: bool) -> None:
    """Build the arena of DIRECTORY anew, packed and without holes. Reads go on; commits wait meanwhile, about
    a second for a million keys. A second arena is needed while it lasts.
    """
    with errors.reported():
        with opened(directory, create=False) as db:
            before = db.memory_usage()
            begun = time.monotonic()
            with _built_keys(db, before.keys):
                db.compact()
            seconds = time.monotonic() - begun
            after = db.memory_usage()
        if json_:
            output.print_json({"seconds": seconds, "before": before.to_dict(), "after": after.to_dict()})
            return
        columns: list[str | tuple[str, str]] = ["", ("before", "right"), ("after", "right")]
        old, new = before.to_dict(), after.to_dict()
        rows = [[name, *(_figure(name, one[name]) for one in (old, new))] for name in old]
        output.out().print(output.table(columns, rows))
        click.echo(f"done in {output.seconds(seconds)}")


def _figure(name: str, value: int) -> str:
    return f"{value:,}" if name in ("generation", "keys") else output.size(value)


@contextmanager
def _built_keys(db: memdb.Database, total: int) -> Iterator[None]:
    """A bar of the keys that the next generation holds already, as the writer counts them."""
    if not output.err().is_terminal:
        yield
        return
    from memdb.shm import _kernel

    board = db._attachment.client.board_mapping
    ended = threading.Event()

    def watch() -> None:
        begun = _kernel.board_words(board)["progress_done"]
        with output.bar() as progress:
            task = progress.add_task("building", total=total or None)
            while not ended.wait(0.1):
                progress.update(task, completed=_kernel.board_words(board)["progress_done"] - begun)

    watcher = threading.Thread(target=watch, name="memdb-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
