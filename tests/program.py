"""Processes of a test that import the very package that the test imports, installed or of the checkout."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import memdb

COMMAND = [sys.executable, "-P", "-m", "memdb.cli"]
"""The program `memdb`."""


def store_pid(db: memdb.Database, key: str) -> None:
    """The main function of a child that got a handle. A spawned child finds it here by its name."""
    assert db["parent"] == 1
    db[key] = os.getpid()
    db.close()


def environment() -> dict[str, str]:
    """For subprocess: where the package lies, and a wide terminal."""
    package = str(Path(memdb.__file__).resolve().parent.parent)
    return {**os.environ, "PYTHONPATH": package, "COLUMNS": "200"}
