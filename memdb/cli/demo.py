"""`memdb demo`: the main job on real input, with its processes killed meanwhile.

Owns: the story (load, kill the writer, kill the group, open again, verify everything) and its figures.

Invariants:
- What counts as acknowledged is what `db.set` returned for, in this process; every such record is compared,
  value by value, after the last kill.
- Kills are SIGKILL of pids that the engine itself names in `db.info()`.
- The exit code is 1 if an acknowledged record is missing or differs, if a reader read something wrong, or
  if `check` finds problems.
- No process of the demo is left behind, and no file, except a DIRECTORY that the caller named and a temporary
  in which something went wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from time import monotonic_ns
from typing import TypedDict

import click
import psutil

import memdb
from memdb.cli import output
from memdb.cli.opening import engine_pids
from memdb.cli.unicode_data import VERSION, characters, record

READERS = 2


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
    problems: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Nothing lost, nothing wrong."""
        return self.lost == 0 and self.wrong_reads == 0 and not self.problems


def run(directory: str | None, *, limit: int | None = None, json_: bool = False) -> int:
    """Plays the demo and prints its table; returns the exit code."""
    if directory is not None:
        _refuse_foreign(directory)
        return _played(directory, limit, json_)
    home = tempfile.mkdtemp(prefix="memdb-demo-")
    try:
        code = _played(os.path.join(home, "data"), limit, json_)
    except BaseException:
        click.echo(f"memdb: what there is of the database is kept in {home}", err=True)
        raise
    if code == 0:
        shutil.rmtree(home)
    else:
        click.echo(f"memdb: the database is kept in {home}", err=True)
    return code


def _played(directory: str, limit: int | None, json_: bool) -> int:
    figures = Demo(directory, limit, json_).play()
    if json_:
        output.print_json({**asdict(figures), "good": figures.good})
    else:
        show(figures)
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
        self._acknowledged = 0  # records of self._characters[:n] for which db.set has returned
        self._away = (0, 0)  # monotonic ns: when the writer was killed, when the next write was acknowledged
        self._figures = Figures()

    def play(self) -> Figures:
        """The whole story."""
        self._say(f"Unicode {VERSION}: {len(self._characters):,} named characters into {self._directory}")
        database = memdb.open(self._directory, linger=0)
        with ExitStack() as stack:
            # Registered first, so that it runs last: whatever happens, the engine of this demo ends with it.
            stack.callback(lambda: database.close())  # noqa: PLW0108 - the handle of that moment
            readers = stack.enter_context(_readers(self._directory, self._limit))
            self._load(database)
            self._collect(readers)
            self._figures.bytes_a_record = database.memory_usage().used / max(self._acknowledged, 1)
            self._kill_group(database)
            database.close()
            database = self._open_again()
            self._verify(database)
        return self._figures

    def _load(self, database: memdb.Database) -> None:
        half = len(self._characters) // 2
        started = monotonic_ns()
        with output.bar(shown=not self._quiet) as progress:
            task = progress.add_task("loading", total=len(self._characters))
            for index, character in enumerate(self._characters):
                properties = record(character)
                if index == half:
                    self._kill_writer(database)
                    before = monotonic_ns()
                    database.set(character, properties)
                    self._away = (self._away[0], monotonic_ns())
                    self._figures.write_pause = (self._away[1] - before) / 1e9
                else:
                    database.set(character, properties)
                self._acknowledged = index + 1
                if index % 512 == 0:
                    progress.update(task, completed=index)
            progress.update(task, completed=len(self._characters))
        self._figures.records = self._acknowledged
        self._figures.load_seconds = (monotonic_ns() - started) / 1e9
        self._say(
            f"loaded {self._acknowledged:,} records in {output.seconds(self._figures.load_seconds)}; "
            f"writes paused {output.seconds(self._figures.write_pause)} for a new writer"
        )

    def _kill_writer(self, database: memdb.Database) -> None:
        pid = engine_pids(database)["writer"]
        self._say(f"kill -9 {pid} (the writer), {self._acknowledged:,} records in")
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
        figures = self._figures
        with output.bar(shown=not self._quiet) as progress:
            for character in progress.track(self._characters[: self._acknowledged], description="verifying"):
                if database.get(character) == record(character):
                    figures.verified += 1
                else:
                    figures.lost += 1
        if len(database) != self._acknowledged:
            figures.problems.append(
                f"{len(database):,} keys after recovery, {self._acknowledged:,} were acknowledged"
            )
        figures.problems += [f"check: {problem}" for problem in database.check().problems]

    def _say(self, text: str) -> None:
        if not self._quiet:
            click.echo(text)


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
        "records": f"{figures.records:,}",
        "reads": f"{figures.reads:,} by {READERS} processes",
        "slowest read": output.seconds(figures.slowest_read),
        "reads without a writer": f"{figures.reads_without_writer:,}, slowest {slowest}, {waited}",
        "pause of writes": output.seconds(figures.write_pause),
        "recovery time": output.seconds(figures.recovery_seconds),
        "bytes a record": f"{figures.bytes_a_record:.0f}",
        "verified": f"{figures.verified:,} of {figures.records:,}",
    }
    output.out().print(output.facts(rows))
    for problem in figures.problems:
        click.echo(f"memdb: {problem}", err=True)
    if figures.good:
        click.echo("Nothing was lost, and no read was wrong.")
    else:
        click.echo(f"memdb: {figures.lost:,} records lost, {figures.wrong_reads:,} wrong reads", err=True)
