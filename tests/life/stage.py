"""What the hard cases of life share: programs in sessions of their own, and ways to find and hit processes.

Owns: starting a program with the package under test on its path and its output in files; waiting for
something that is seen; killing parts of an engine.

Invariants:

* Every program is the leader of a session, and ``finish`` leaves none of its group behind.
* The engine of a database is not of that session: what happens to the program does not happen to it.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import memdb

__all__ = ["PROGRAMS", "Program", "check_quiet", "eventually", "kill_actor", "may", "needs", "package_path"]

PROGRAMS = Path(__file__).with_name("programs")
_LOOK = 0.01


def package_path(*more: Path | str) -> dict[str, str]:
    """An environment in which the package under test, and *more*, are found."""
    places = [str(Path(memdb.__file__).resolve().parent.parent), *map(str, more)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places), "PYTHONUNBUFFERED": "1"}


def needs(*modules: str) -> pytest.MarkDecorator:
    """Skips, and says so, where a real program is not installed: the extra ``life`` has them all."""
    missing = [one for one in modules if importlib.util.find_spec(one) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {missing}; pip install '.[life]'")


def may(*command: str) -> bool:
    """May this user do that (make namespaces, mount)?"""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def eventually(true: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Returns once *true* says so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(_LOOK)


def kill_actor(db: memdb.Database, role: str = "writer") -> int:
    """kill -9 of one process of the engine; its pid."""
    pid = db.info().processes[role].pid
    os.kill(pid, signal.SIGKILL)
    return pid


class Program:
    """A program that runs in a session of its own, its output in two files."""

    def __init__(
        self, place: Path, *command: str, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> None:
        place.mkdir(exist_ok=True)
        self._out, self._err = place / "stdout", place / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=out,
                stderr=err,
                cwd=place,
                env=dict(env or package_path()),
                start_new_session=True,
            )
        if self.process.stdin is not None and stdin is not None:
            self.process.stdin.write(stdin.encode())
            self.process.stdin.close()

    @classmethod
    def python(cls, place: Path, *arguments: str, env: Mapping[str, str] | None = None) -> "Program":
        """The interpreter of the test."""
        return cls(place, sys.executable, "-P", *arguments, env=env)

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def signal(self, number: int) -> None:
        """To the program alone."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 90.0) -> int:
        """Its exit code."""
        return self.process.wait(seconds)

    def expect(self, text: str, seconds: float = 60.0) -> None:
        """Waits until it has printed *text*."""
        eventually(
            lambda: text in self.stdout + self.stderr or self.process.poll() is not None, text, seconds
        )
        assert text in self.stdout + self.stderr, self.stdout + self.stderr

    def finish(self) -> None:
        """Ends the whole group, if any of it is left."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()


def check_quiet(text: str) -> None:
    """What a program wrote has no trace of trouble."""
    for word in ("Traceback", "Exception ignored", "ResourceWarning", "Segmentation fault", "Bus error"):
        assert word not in text, text
