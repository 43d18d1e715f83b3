"""`python -m stress bench [ROWS…]`: every figure that memdb has set itself, beside its peer, in one run.

Owns: the run: places, data sets, which rows, the table. The rows are in bench_reads.py, bench_writes.py,
bench_transactions.py, bench_documents.py and bench_life.py.
Invariant: a figure is never a test; the exit code says only whether the run came to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import memdb
from stress import load, measure
from stress.measure import Row

RowFunction = Callable[["Bench"], Iterator[Row]]


class Bench:
    """One run: a directory of its own, and the loaded databases that rows share."""

    def __init__(self, home: Path, stack: ExitStack, scale: float) -> None:
        self.home = home
        self._stack = stack
        self._scale = scale
        self._databases: dict[int, memdb.Database] = {}
        self._keys: dict[int, list[bytes]] = {}

    def count(self, wanted: int) -> int:
        """So many, or fewer in a quick run (`--scale`)."""
        return max(int(wanted * self._scale), 10)

    def keys(self, count: int) -> list[bytes]:
        """The keys of the data set of this size."""
        if count not in self._keys:
            self._keys[count] = load.keys(count)
        return self._keys[count]

    def directory(self, name: str) -> Path:
        """A place for one row's files."""
        return self.home / name

    def database(self, count: int) -> memdb.Database:
        """memdb with `count` keys, loaded at random with 30 % overwritten; shared by the rows,
        which leave its keys as they are.
        """
        if count not in self._databases:
            print(f"loading {count:,} keys", file=sys.stderr)
            database = memdb.open(self.directory(f"memdb-{count}"), linger=0, max_memory="2GiB")
            self._stack.callback(database.close)
            load.fill(database.set_many, self.keys(count))
            self._databases[count] = database
        return self._databases[count]

    def release(self) -> None:
        """Closes the shared databases, so that a row which measures processes has the machine for itself."""
        for database in self._databases.values():
            database.close()
        self._databases.clear()

    @contextmanager
    def workers(self, *commands: tuple[str, Path | str, int, float]) -> Iterator[list[subprocess.Popen[str]]]:
        """Worker processes that have said `ready`; `go` starts them."""
        started: list[subprocess.Popen[str]] = []
        try:
            for kind, directory, count, seconds in commands:
                started.append(worker(kind, directory, count, seconds))
            for process in started:
                assert process.stdout is not None
                if process.stdout.readline() != "ready\n":
                    raise RuntimeError(f"a worker did not start: exit code {process.wait()}")
            yield started
        finally:
            for process in started:
                process.kill()
                process.communicate()


def worker(kind: str, directory: Path | str, count: int, seconds: float) -> subprocess.Popen[str]:
    """Starts a process of stress/worker.py."""
    command = [sys.executable, "-m", "stress.worker", kind, str(directory), str(count), str(seconds)]
    here = str(Path(__file__).resolve().parent.parent)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=here)


def go(processes: list[subprocess.Popen[str]]) -> None:
    """Starts workers that are ready."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a worker has measured; closes its stdin, which ends one that works without end."""
    output, _ = process.communicate()
    result: dict[str, Any] = json.loads(output)
    return result


def rows() -> dict[str, RowFunction]:
    """All rows by name, in the order of the run."""
    from stress import bench_documents, bench_life, bench_reads, bench_transactions, bench_writes

    parts = (bench_reads, bench_writes, bench_transactions, bench_documents, bench_life)
    return {name: row for part in parts for name, row in part.ROWS.items()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `bench`."""
    parser.add_argument(
        "rows", nargs="*", metavar="ROWS", help=f"which rows; all unless given: {' '.join(rows())}"
    )
    parser.add_argument(
        "--dir",
        type=Path,
        help="where the databases go: a directory on the disk to be measured (default: a temporary one)",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="a share of the keys, for a quick look (default 1: 100 k and 1 M keys)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(function=main)


def main(arguments: argparse.Namespace) -> int:
    """Runs the rows and prints the table."""
    known = rows()
    chosen = arguments.rows or list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        print(
            f"stress bench: no such row: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr
        )
        return 2
    home = Path(tempfile.mkdtemp(prefix="memdb-bench-", dir=arguments.dir))
    measured: list[Row] = []
    try:
        with ExitStack() as stack:
            bench = Bench(home, stack, arguments.scale)
            for name in chosen:
                print(f"measuring {name}", file=sys.stderr)
                measured += known[name](bench)
    finally:
        shutil.rmtree(home)
    if arguments.json:
        print(json.dumps([{**asdict(row), "reached": row.reached} for row in measured]))
    else:
        print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {Path(memdb.__file__).parent}\n")
        print(measure.show(measured))
    return 0
