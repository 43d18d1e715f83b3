"""``python -m stress life``: runs the tests with the marker ``life`` and prints their count as figures.

Owns: nothing but the call; the tests are in tests/life. Skipped ones are named by pytest, and counted apart.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2] / "tests" / "life"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None but the function."""
    parser.set_defaults(function=main)


def main(arguments: argparse.Namespace) -> int:
    """0 if all that ran passed."""
    command = [sys.executable, "-m", "pytest", str(TESTS), "-m", "life", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=TESTS.parents[1], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="")
    found = re.findall(r"(\d+) (passed|failed|error|skipped)", done.stdout)
    counts = {word: int(count) for count, word in found}
    passed, failed = counts.get("passed", 0), counts.get("failed", 0) + counts.get("error", 0)
    print(f"FIGURE hard cases of life: {passed} of {passed + failed} passed (wanted all)")
    print(f"FIGURE hard cases skipped: {counts.get('skipped', 0)} (wanted 0)")
    print(f"{passed} passed, {failed} failed")
    return int(done.returncode != 0)
