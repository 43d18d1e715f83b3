"""What the tests of the process group share: finding its processes, waiting, unrelated Python processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

import memdb
from memdb.attach import Attachment

Opener = Callable[..., Attachment]


def processes_of(directory: Path | str) -> list[psutil.Process]:
    """Every process that has the directory in its command line and is an engine's."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "memdb.actors.group" in command and any(str(directory) in part for part in command):
            found.append(process)
    return found


def signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    """One may take another with it before its own turn comes."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def wait_until(true: Callable[[], object], seconds: float = 30.0, what: str = "") -> None:
    """Waits for something that another process does; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what or true}"
        time.sleep(0.01)


def python(code: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """An unrelated Python process that can import the same memdb."""
    environment = {**os.environ, "PYTHONPATH": str(Path(memdb.__path__[0]).parent)}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        env=options.pop("env", environment),
        **options,
    )
