"""The types of collections, as mypy sees them in a program of a user."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import memdb

PROGRAM = Path(__file__).with_name("typing_models.py")
ROOT = Path(memdb.__file__).resolve().parents[1]
INSTALLED = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib")}
"""What is installed mypy finds by itself, and refuses to be pointed at; a checkout it must be told of."""


@pytest.mark.timeout(300)
def test_mypy_agrees(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Each `assert_type` holds, and each line marked with an error has just that one."""
    config = tmp_path / "mypy.ini"
    cache = getattr(pytestconfig, "cache", None)  # None: the plugin is switched off
    kept = tmp_path / "mypy" if cache is None else cache.mkdir("mypy")  # what the last run knew of modules
    environment = dict(os.environ) if ROOT in INSTALLED else os.environ | {"MYPYPATH": str(ROOT)}
    config.write_text("[mypy]\nstrict = true\nfollow_imports = silent\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(kept),
         "--no-error-summary", "--show-error-codes", "--hide-error-context", str(PROGRAM)],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    lines = PROGRAM.read_text().splitlines()
    expected = {
        (number, found[1])
        for number, line in enumerate(lines, 1)
        if (found := re.search(r"# error: ([\w-]+)$", line)) is not None
    }
    told = {
        (int(found[1]), found[2])
        for found in re.finditer(r"^[^:\n]+:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    }
    assert told == expected and expected, done.stdout
