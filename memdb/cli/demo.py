"""`memdb demo`: the main job on real input, with its processes killed meanwhile.

Owns: the story (load an indexed collection, kill the writer, kill the group, open again, verify everything,
ask it) and its figures.

Invariants:
- What counts as acknowledged is what `insert_many` returned for, in this process; every such document is
  compared, value by value, after the last kill, and every index with the documents.
- Kills are SIGKILL of pids that the engine itself names in `db.info()`.
- The exit code is 1 if an acknowledged document is missing or differs, if a reader read something wrong, if
  `check` finds problems, or if a query's answer differs from what `unicodedata` says.
- No process of the demo is left behind, and no file, except a DIRECTORY that the caller named and a temporary
  in which something went wrong.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from time import monotonic_ns
from typing import Any, TypedDict

import click
import psutil

import memdb
from memdb.cli import errors, output
from memdb.cli.opening import engine_pids
from memdb.cli.unicode_data import COLLECTION, VERSION, characters, document

READERS = 2
BATCH = 250  # documents a commit

INDEXES: tuple[dict[str, Any], ...] = (
    {"fields": "name", "unique": True},
    {"fields": ["category", "name"]},
    {"fields": "numeric", "where": {"numeric": {"$exists": True}}},
)
"""As `create_index` takes them."""

QUERIES: tuple[dict[str, Any], ...] = (
    {"name": "SNOWMAN"},
    {"category": "Sc"},
    {"numeric": {"$gt": 0, "$lt": 1}},
    {"$or": [{"name": "EURO SIGN"}, {"category": "Sm", "mirrored": True}]},
)
"""Filters, each of which an index serves."""


class ReaderReport(TypedDict):
    """What a reader process says at its end; see demo_reader.py."""

    reads: int
    slowest_ns: int
    reads_without_writer: int
    slowest_without_writer_ns: int
    sleeps_without_writer: int
    wrong: list[str]
    wrong_count: int


@dataclass
class Answer:
    """What came of one query, and what it took. Time in seconds."""

    filter: dict[str, Any]
    found: int
    index: str | None
    keys_examined: int
    documents_examined: int
    seconds: float


@dataclass
class Figures:
    """What the demo measured. Times in seconds."""

    records: int = 0
    reads: int = 0
    slowest_read: float = 0.0
    reads_without_writer: int = 0
    slowest_read_without_writer: float = 0.0
    reader_sleeps_without_writer: int = 0
    load_seconds: float = 0.0
    write_pause: float = 0.0
    recovery_seconds: float = 0.0
    verified: int = 0
    lost: int = 0
    wrong_reads: int = 0
    bytes_a_record: float = 0.0
    queries: list[Answer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Nothing lost, nothing wrong."""
        return self.lost == 0 and self.wrong_reads == 0 and not self.problems


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=str))
@click.option("--limit", type=click.IntRange(min=1000), help="Load only the first so many characters.")
@click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")
def demo(directory: str | None, limit: int | None, json_: bool) -> None:
    """Load the Unicode Character Database into an indexed collection, kill processes meanwhile, show that
    nothing is lost, and query it.

    DIRECTORY must be new or empty; without one a temporary directory is used and removed. Exit code 1 if
    anything was lost.
    """
    with errors.reported():
        raise SystemExit(run(directory, limit=limit, json_=json_))


def run(directory: str | None, *, limit: int | None = None, json_: bool = False) -> int:
    """Plays the demo and prints its table; returns the exit code."""
    if directory is not None:
        _refuse_foreign(directory)
        return _played(directory, limit, json_, directory)
    home = tempfile.mkdtemp(prefix="memdb-demo-")
    try:
        code = _played(os.path.join(home, "data"), limit, json_, None)
    except BaseException:
        click.echo(f"memdb: what there is of the database is kept in {home}", err=True)
        raise
    if code == 0:
        shutil.rmtree(home)
    else:
        click.echo(f"memdb: the database is kept in {home}", err=True)
    return code


def _played(directory: str, limit: int | None, json_: bool, given: str | None) -> int:
    figures = Demo(directory, limit, json_).play()
    if json_:
        output.print_json({**asdict(figures), "good": figures.good})
    else:
        show(figures)
        _invite(given, figures)
    return 0 if figures.good else 1


def _refuse_foreign(directory: str) -> None:
    if os.path.isdir(directory) and os.listdir(directory):
        raise click.UsageError(
            f"{directory} is not empty; the demo writes into a new directory only: name another one, or none"
        )


class Demo:
    """One run."""

    def __init__(self, directory: str, limit: int | None, quiet: bool) -> None:
        self._directory = directory
        self._limit = limit
        self._quiet = quiet
        self._characters = characters(limit)
        self._acknowledged = 0  # of self._characters, from the first on, insert_many has returned for so many
        self._away = (0, 0)  # monotonic ns: when the writer was killed, when the next write was acknowledged
        self._figures = Figures()

    def play(self) -> Figures:
        """The whole story."""
        self._say(f"Unicode {VERSION}: {len(self._characters):,} named characters into {self._directory}")
        database = memdb.open(self._directory, linger=0)
        with ExitStack() as stack:
            # Registered first, so that it runs last: whatever happens, the engine of this demo ends with it.
            stack.callback(lambda: database.close())  # noqa: PLW0108 - the handle of that moment
            self._define(database)
            readers = stack.enter_context(_readers(self._directory, self._limit))
            self._load(database)
            self._collect(readers)
            self._figures.bytes_a_record = database.memory_usage().used / max(self._acknowledged, 1)
            self._kill_group(database)
            database.close()
            database = self._open_again()
            self._verify(database)
            self._ask(database)
        return self._figures

    def _define(self, database: memdb.Database) -> None:
        found = database.collection(COLLECTION)
        names = [found.create_index(**index) for index in INDEXES]
        self._say(f"collection {COLLECTION!r} with {len(names)} indexes: {'; '.join(names)}")

    def _load(self, database: memdb.Database) -> None:
        found = database.collection(COLLECTION)
        half = len(self._characters) // 2
        started = monotonic_ns()
        with output.bar(shown=not self._quiet) as progress:
            task = progress.add_task("loading", total=len(self._characters))
            while self._acknowledged < len(self._characters):
                end = self._acknowledged + BATCH
                documents = [document(one) for one in self._characters[self._acknowledged : end]]
                if self._acknowledged <= half < end:
                    self._kill_writer(database)
                    before = monotonic_ns()
                    found.insert_many(documents)
                    self._away = (self._away[0], monotonic_ns())
                    self._figures.write_pause = (self._away[1] - before) / 1e9
                else:
                    found.insert_many(documents)
                self._acknowledged += len(documents)
                progress.update(task, completed=self._acknowledged)
        self._figures.records = self._acknowledged
        self._figures.load_seconds = (monotonic_ns() - started) / 1e9
        self._say(
            f"loaded {self._acknowledged:,} documents in {output.seconds(self._figures.load_seconds)}; "
            f"writes paused {output.seconds(self._figures.write_pause)} for a new writer"
        )

    def _kill_writer(self, database: memdb.Database) -> None:
        pid = engine_pids(database)["writer"]
        self._say(f"kill -9 {pid} (the writer), {self._acknowledged:,} documents in")
        self._away = (monotonic_ns(), 0)
        os.kill(pid, signal.SIGKILL)

    def _collect(self, readers: list[subprocess.Popen[str]]) -> None:
        reports = [_stop_reader(reader, *self._away) for reader in readers]
        figures = self._figures
        figures.reads = sum(report["reads"] for report in reports)
        figures.slowest_read = max(report["slowest_ns"] for report in reports) / 1e9
        figures.reads_without_writer = sum(report["reads_without_writer"] for report in reports)
        figures.slowest_read_without_writer = (
            max(report["slowest_without_writer_ns"] for report in reports) / 1e9
        )
        figures.reader_sleeps_without_writer = sum(report["sleeps_without_writer"] for report in reports)
        figures.wrong_reads = sum(report["wrong_count"] for report in reports)
        figures.problems += [f"a reader: {text}" for report in reports for text in report["wrong"]]
        self._say(
            f"{figures.reads_without_writer:,} reads while there was no writer; the slowest took "
            f"{output.seconds(figures.slowest_read_without_writer)}, and readers slept "
            f"{figures.reader_sleeps_without_writer} times"
        )

    def _kill_group(self, database: memdb.Database) -> None:
        pids = engine_pids(database)
        self._say(
            f"kill -9 {' '.join(str(pid) for pid in pids.values())} (the whole group: {', '.join(pids)})"
        )
        victims = [psutil.Process(pid) for pid in pids.values()]
        for pid in pids.values():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # the supervisor's death may have ended it first
        psutil.wait_procs(victims, timeout=10)

    def _open_again(self) -> memdb.Database:
        before = monotonic_ns()
        database = memdb.open(self._directory, linger=0)
        self._figures.recovery_seconds = (monotonic_ns() - before) / 1e9
        self._say(f"opened again in {output.seconds(self._figures.recovery_seconds)}")
        return database

    def _verify(self, database: memdb.Database) -> None:
        figures, found = self._figures, database.collection(COLLECTION)
        with output.bar(shown=not self._quiet) as progress:
            for character in progress.track(self._characters[: self._acknowledged], description="verifying"):
                if found.get(character) == document(character):
                    figures.verified += 1
                else:
                    figures.lost += 1
        count = found.count()
        if count != self._acknowledged:
            figures.problems.append(
                f"{count:,} documents after recovery, {self._acknowledged:,} were acknowledged"
            )
        figures.problems += [f"check: {problem}" for problem in database.check().problems]
        figures.problems += [f"indexes: {problem}" for problem in found.check().problems]

    def _ask(self, database: memdb.Database) -> None:
        """Queries that the indexes serve, each compared with what a look at all characters finds."""
        found = database.collection(COLLECTION)
        known = [document(character) for character in self._characters[: self._acknowledged]]
        for wanted in QUERIES:
            before = monotonic_ns()
            answer = found.find(wanted, sort="_id").to_list()
            seconds = (monotonic_ns() - before) / 1e9
            if answer != [one for one in known if _matches(one, wanted)]:
                self._figures.problems.append(f"the answer to {wanted} is wrong")
            plan = found.explain(wanted)
            self._figures.queries.append(
                Answer(wanted, len(answer), plan.index, plan.keys_examined, plan.documents_examined, seconds)
            )

    def _say(self, text: str) -> None:
        if not self._quiet:
            click.echo(text)


def _matches(properties: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """What the demo's own filters mean, told without memdb."""
    for name, condition in wanted.items():
        if name == "$or":
            if not any(_matches(properties, one) for one in condition):
                return False
        elif isinstance(condition, dict):
            value = properties.get(name)
            if value is None or not condition["$gt"] < value < condition["$lt"]:
                return False
        elif properties.get(name) != condition:
            return False
    return True


@contextmanager
def _readers(directory: str, limit: int | None) -> Iterator[list[subprocess.Popen[str]]]:
    """Reader processes that have done their first read; none of them is left at the end."""
    started: list[subprocess.Popen[str]] = []
    try:
        for seed in range(READERS):
            command = [
                sys.executable,
                "-P",
                "-m",
                "memdb.cli.demo_reader",
                directory,
                str(seed),
                str(limit or 0),
            ]
            started.append(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment()
                )
            )
        for reader in started:
            assert reader.stdout is not None
            if reader.stdout.readline() != "ready\n":
                raise memdb.Error(
                    f"a reader process of the demo did not start (exit code {reader.wait()}); "
                    "its message is above"
                )
        yield started
    finally:
        for reader in started:
            reader.kill()
            reader.communicate()


def _environment() -> dict[str, str]:
    """The reader imports this very package, wherever it lies."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(memdb.__file__)))
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": package if not inherited else f"{package}{os.pathsep}{inherited}"}


def _stop_reader(reader: subprocess.Popen[str], start: int, end: int) -> ReaderReport:
    answer, _ = reader.communicate(f"stop {start} {end}\n", timeout=60)
    if reader.returncode != 0 or not answer:
        raise memdb.Error(
            f"a reader process of the demo died (exit code {reader.returncode}); its message is above"
        )
    report: ReaderReport = json.loads(answer)
    return report


def show(figures: Figures) -> None:
    """The short table, and the verdict."""
    slowest = output.seconds(figures.slowest_read_without_writer)
    sleeps = figures.reader_sleeps_without_writer
    waited = f"{sleeps} waited" if sleeps else "none waited"
    rows = {
        "documents": f"{figures.records:,} in {len(INDEXES)} indexes",
        "reads": f"{figures.reads:,} by {READERS} processes",
        "slowest read": output.seconds(figures.slowest_read),
        "reads without a writer": f"{figures.reads_without_writer:,}, slowest {slowest}, {waited}",
        "pause of writes": output.seconds(figures.write_pause),
        "recovery time": output.seconds(figures.recovery_seconds),
        "bytes a document": f"{figures.bytes_a_record:.0f}, with its index entries",
        "verified": f"{figures.verified:,} of {figures.records:,}",
    }
    output.out().print(output.facts(rows))
    output.out().print(_queries_table(figures.queries))
    for problem in figures.problems:
        click.echo(f"memdb: {problem}", err=True)
    if figures.good:
        click.echo("Nothing was lost, and no read was wrong.")
    else:
        click.echo(f"memdb: {figures.lost:,} documents lost, {figures.wrong_reads:,} wrong reads", err=True)


def _queries_table(answers: list[Answer]) -> Any:
    right = [("found", "right"), ("looked at", "right"), ("time", "right")]
    cells = [
        [
            json.dumps(one.filter), one.index or "no index", f"{one.found:,}", f"{one.documents_examined:,}",
            output.seconds(one.seconds),
        ]
        for one in answers
    ]  # fmt: skip
    return output.table(["find", "index", *right], cells)


def _invite(directory: str | None, figures: Figures) -> None:
    """How to go on with what was loaded."""
    if not figures.good:
        return
    example = f"{COLLECTION} '{json.dumps(QUERIES[1])}' --fields name"
    if directory is None:
        click.echo("`memdb demo DIRECTORY` keeps the collection, for questions of yours.")
    else:
        click.echo(f"Ask it yourself: memdb find {shlex.quote(directory)} {example}")
