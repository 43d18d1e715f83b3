"""A command line in a process of its own, and a database that ends with the test."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from program import COMMAND, environment

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def cli(tmp_path: Path) -> Run:
    """Runs `memdb` with the arguments, in the test's directory; stdout and stderr are captured as bytes."""

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            cwd=tmp_path,
            timeout=110,
            env=environment(),
        )

    return run


@pytest.fixture
def data(cli: Run) -> Iterator[str]:
    """The name of a directory for a database; its engine is ended after the test."""
    yield "data"
    cli("stop", "data")
