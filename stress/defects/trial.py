"""Trying to catch: one command in the scratch copy, and what its end means.

Owns: the forms of commands, their environment and time limits, and what a run leaves behind.

Forms (`Defect.caught_by`):

    pytest FILE::TEST [...]     tests of the copy, with the copy's kernel
    ctest NAME MODE             a C test of the kernel (dev/ctest)
    model NAME                  the models of one protocol, with GenMC (tests/models/run)
    stress COMMAND [...]        another part of this harness

Invariants:

* Only a failed test is a catch. A test that can't be collected, a build that fails, a name that is unknown
  in the code, a tool that is not there: none of these is.
* What a run leaves behind ends with it: every process that it started has the run's own temporary directory
  in its environment or command line.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from time import monotonic

import psutil

from stress.defects.scratch import BuildFailed, Scratch

__all__ = ["CAUGHT", "MISSING", "PASSED", "Trial", "attempt", "batch"]

PASSED, CAUGHT, HUNG, BROKEN, MISSING = "passed", "caught", "hung", "broken", "missing"
_SECONDS = {"pytest": 100.0, "ctest": 240.0, "model": 120.0, "stress": 240.0}
_NOT_BUILT = re.compile(
    r"does not build|does not compile|: error: |undefined reference|ninja: build stopped|\bunreadable\b"
)
_NO_PROGRAM = re.compile(
    r"\b(NameError|UnboundLocalError|SyntaxError|IndentationError|ImportError|ModuleNotFoundError)\b"
)
_UNUSED_PLUGINS = ("cacheprovider", "hypothesispytest", "xdist")  # the second takes longer than most tests
_PYTEST_FAILED = 1
_SKIPPED = re.compile(r"^\d+ skipped in ", re.MULTILINE)


@dataclass(frozen=True)
class Trial:
    """One command's end. ``verdict``: passed, caught, hung (longer than the limit: it waits for ever),
    broken (no test: why is in ``output``), missing (the tool is not installed here, or the test says
    so by skipping)."""

    command: str
    verdict: str
    seconds: float
    output: str


def attempt(scratch: Scratch, command: str, at_least: float = 0.0) -> Trial:
    """Runs one command in the copy as it is now; it has ``at_least`` so many seconds before it counts as
    hung."""
    kind = command.split()[0]
    if kind == "model" and shutil.which("genmc") is None:
        return Trial(command, MISSING, 0.0, "genmc is not installed")
    if kind in ("pytest", "stress"):
        try:
            scratch.kernel()
        except BuildFailed as error:
            return Trial(command, BROKEN, 0.0, str(error))
    began = monotonic()
    code, output = _run(scratch, _argv(command), max(_SECONDS[kind], at_least))
    return Trial(command, _verdict(kind, code, output), monotonic() - began, output)


def batch(scratch: Scratch, commands: list[str]) -> list[Trial]:
    """Several pytest commands in one process, for when all are expected to pass; else one after the other."""
    if len(commands) > 1 and all(one.startswith("pytest ") for one in commands):
        joined = "pytest " + " ".join(one.removeprefix("pytest ") for one in commands)
        together = attempt(scratch, joined, _SECONDS["pytest"] * len(commands))
        if together.verdict == PASSED:
            share = together.seconds / len(commands)
            return [Trial(one, PASSED, share, together.output) for one in commands]
    return [attempt(scratch, one) for one in commands]


def _argv(command: str) -> list[str]:
    kind, *words = shlex.split(command)
    if kind == "pytest":
        unused = [word for name in _UNUSED_PLUGINS for word in ("-p", f"no:{name}")]
        return [sys.executable, "-m", "pytest", "-q", "-x", *unused, "-m", "", *words]
    if kind == "ctest":
        return ["dev/ctest", *words]
    if kind == "model":
        return ["tests/models/run", *words]
    if kind == "stress":
        return [sys.executable, "-m", "stress", *words]
    raise ValueError(f"no such form of command: {command}")


def _verdict(kind: str, code: int | None, output: str) -> str:
    if code == 0:
        return MISSING if kind == "pytest" and _SKIPPED.search(output) else PASSED
    if code is None:
        return HUNG
    if _NOT_BUILT.search(output) or _NO_PROGRAM.search(output):
        return BROKEN
    if kind == "pytest" and code != _PYTEST_FAILED:
        return BROKEN  # nothing collected, a bad name, an error of pytest itself
    return CAUGHT


def _run(scratch: Scratch, argv: list[str], limit: float) -> tuple[int | None, str]:
    """(exit code, or None after the limit; what it printed)."""
    home = scratch.home / "tmp"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MEMDB_"))}
    environment = {
        **kept,
        "TMPDIR": str(home),
        "PATH": os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", ""),
        "PYTHON": sys.executable,
        "HYPOTHESIS_STORAGE_DIRECTORY": str(home / "hypothesis"),
    }
    environment.pop("PYTHONPATH", None)
    with open(scratch.home / "output", "wb+") as out:
        process = subprocess.Popen(
            argv, cwd=scratch.root, env=environment, stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        code: int | None
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process, str(home))
        out.seek(0)
        return code, out.read().decode(errors="replace")


def _end(process: subprocess.Popen[bytes], home: str) -> None:
    """Ends what the command has started: its session, and engines, whose command lines name its directory."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for one in psutil.process_iter():
        try:
            if one.pid != os.getpid() and any(home in word for word in one.cmdline()):
                one.kill()
        except psutil.Error:  # it ended meanwhile
            continue
