"""Programs where a file system really is full or descriptors run out: those of the tests, in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from actors import test_descriptors, test_full_disk, test_full_shm
from actors.confined import WHY, may_mount, run_confined

import memdb

__all__ = ["PROGRAMS", "run_all"]


def _on_full_disk(code: str) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    return lambda place: run_confined(code, {str(place): "5m"}, place)


def _on_full_shm(code: str, step: int) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    return lambda place: run_confined(code, {"/dev/shm": "16m"}, place, step, timeout=600)


def _by_itself(code: str) -> Callable[[Path], subprocess.CompletedProcess[str]]:
    def run(place: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", code, str(place / "data")]
        variables = {**os.environ, "PYTHONPATH": str(Path(memdb.__path__[0]).parent)}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=300, check=False, env=variables
        )

    return run


PROGRAMS = {
    "full disk: log": _on_full_disk(test_full_disk.LOG),
    "full disk: checkpoint": _on_full_disk(test_full_disk.CHECKPOINT),
    "full disk: manifest": _on_full_disk(test_full_disk.MANIFEST),
    "full disk: start": _on_full_disk(test_full_disk.START),
    "full /dev/shm: creation, 47 sizes": _on_full_shm(test_full_shm.CREATE, 256),
    "full /dev/shm: growth": _on_full_shm(test_full_shm.GROW, 0),
    "no descriptors: a client": _by_itself(test_descriptors.CLIENT),
}


def run_all(place: Path, names: tuple[str, ...] | None) -> Iterator[tuple[str, str | None]]:
    """(program, None or how it ended)."""
    mounts = may_mount()
    for name, run in PROGRAMS.items():
        if names is not None and name not in names:
            continue
        if name.startswith("full") and not mounts:
            yield name, f"SKIPPED: {WHY}"
            continue
        directory = place / name.replace(" ", "-").replace("/", "-").replace(":", "")
        directory.mkdir()
        done = run(directory)
        good = done.returncode == 0 and done.stdout.startswith("ok")
        yield name, None if good else f"exit code {done.returncode}: {done.stderr[-2000:]}"
