"""A command line in a process of its own, and a database that ends with the test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def cli(tmp_path: Path) -> Run:
    """Runs `memdb` with the arguments, in the test's directory; stdout and stderr are captured as bytes."""

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "memdb.cli", *arguments],
            input=stdin,
            capture_output=True,
            check=False,
            cwd=tmp_path,
            timeout=110,
            env={**os.environ, "COLUMNS": "200"},
        )

    return run


@pytest.fixture
def data(cli: Run) -> Iterator[str]:
    """The name of a directory for a database; its engine is ended after the test."""
    yield "data"
    cli("stop", "data")
