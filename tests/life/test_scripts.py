"""Scripts without a file and without a guard: ``python -c``, a script from stdin, an unguarded one with a
pool, one behind a pipe."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from life.stage import Program, check_quiet, package_path

import memdb

pytestmark = pytest.mark.life
WORK = """
import sys, memdb
db = memdb.open({path!r}, max_memory="64MiB", linger=1.0)
db.increment("runs")
with db.snapshot() as snap:
    print(snap["runs"])
"""


def runs(data: Path) -> int:
    with memdb.open(data, max_memory="64MiB", linger=1.0) as db:
        return int(db["runs"])


def test_from_a_command_line_from_stdin_and_interactive(data: Path, tmp_path: Path) -> None:
    """Each without close(), which is optional: the output is what was printed, and nothing on stderr."""
    work = WORK.format(path=str(data))
    python = [sys.executable, "-P", "-X", "dev"]
    ways: list[tuple[list[str], str | None]] = [
        ([*python, "-c", work], None),
        ([*python, "-"], work),
        ([*python], work),
        ([*python, "-i", "-q", "-c", work], "db['runs'] == 4 or db.nothing\n"),
    ]
    for number, (command, stdin) in enumerate(ways, 1):
        with Program(tmp_path / f"way{number}", *command, stdin=stdin) as program:
            assert program.wait() == 0, program.stderr
            assert program.stdout.startswith(f"{number}\n"), program.stdout
            if number < 4:
                assert program.stdout == f"{number}\n"
            check_quiet(program.stderr.replace("ResourceWarning: unclosed", ""))
    assert runs(data) == 4


def test_a_pipe_ends_with_its_program(data: Path) -> None:
    """The engine, which stays, holds neither end: `python -c ... | cat` is over when the script is."""
    script = WORK.format(path=str(data)).replace("linger=1.0", "linger=20.0")
    began = time.monotonic()
    done = subprocess.run(
        ["sh", "-c", '"$@" 2>&1 | cat', "sh", sys.executable, "-P", "-c", script],
        capture_output=True,
        text=True,
        env=package_path(),
        check=True,
        timeout=60,
    )
    assert done.stdout == "1\n" and done.stderr == ""
    assert time.monotonic() - began < 15.0
    subprocess.run(
        [sys.executable, "-P", "-m", "memdb.cli", "stop", str(data)],
        env=package_path(),
        check=True,
        capture_output=True,
    )


def test_without_a_guard(data: Path, tmp_path: Path) -> None:
    """Spawned children import an unguarded script again, which opens at its top, up to the guarded pool."""
    script = tmp_path / "script.py"
    script.write_text(
        WORK.format(path=str(data))
        + "from multiprocessing import get_context\n"
        + "if __name__ == '__main__':\n"
        + "    with get_context('spawn').Pool(2) as pool:\n"
        + "        pool.map(db.increment, ['runs'] * 20)\n"
        + "    print('sum', db['runs'])\n"
    )
    with Program.python(tmp_path / "run", str(script)) as program:
        assert program.wait() == 0, program.stderr
        assert program.stdout.endswith("sum 23\n"), program.stdout  # main, two children, twenty calls
        check_quiet(program.stderr)
    assert os.path.isdir(data)
