"""pytest-xdist on a suite that uses the plugin, one of whose workers dies in the middle of a test."""

import os
import re
from pathlib import Path

import pytest
from life.stage import Program, needs

pytestmark = [pytest.mark.life, needs("xdist")]
SUITE = """
import os, signal
import pytest
import memdb

@pytest.mark.parametrize("turn", range(12))
def test_own(memdb_db, turn):
    assert len(memdb_db) == 0
    memdb_db.set_many((n, turn) for n in range(50))
    assert set(memdb_db.values()) == {turn}

@pytest.mark.parametrize("turn", range(60))
def test_shared(memdb_shared, turn):
    assert len(memdb_shared) == 0
    memdb_shared["turn"] = turn
    assert memdb_shared.increment("turn") == turn + 1

def test_of_memory(memdb_factory):
    first = memdb_factory(None)
    first["a"] = 1
    assert memdb_factory("other").get("a") is None

def test_that_kills_its_worker(memdb_db):
    memdb_db["a"] = 1
    with memdb_db.snapshot() as snap:
        assert snap["a"] == 1
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_suite_under_xdist(tmp_path: Path) -> None:
    suite = tmp_path / "suite"
    suite.mkdir()
    (suite / "test_suite.py").write_text(SUITE)
    (suite / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    arguments = ["-m", "pytest", "-q", "-n", "4", "-p", "no:memdb", "-p", "memdb.pytest_plugin"]
    arguments += ["-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}", str(suite)]
    before = set(os.listdir("/dev/shm"))
    with Program.python(tmp_path / "run", *arguments) as program:
        assert program.wait() == 1, program.stdout
        assert re.search(r"\b1 failed, 73 passed\b", program.stdout), program.stdout
        assert "test_that_kills_its_worker" in program.stdout and "crashed" in program.stdout
        assert program.stderr == ""
    assert not {name for name in set(os.listdir("/dev/shm")) - before if name.startswith("sem.mdb")}
