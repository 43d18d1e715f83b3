"""Two pid namespaces on one directory, as two containers that share a volume."""

import os
import signal
import sys
from pathlib import Path

import pytest
from life.stage import Program, eventually, may

import memdb

pytestmark = [
    pytest.mark.life,
    pytest.mark.skipif(
        not may("unshare", "--pid", "--fork", "--mount-proc", "--ipc", "true"),
        reason="needs the right to make pid namespaces (root)",
    ),
]
CONTAINER = """
import os, sys, memdb
path, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
assert os.getpid() == 1, os.getpid()
db = memdb.open(path, max_memory="64MiB", linger=0.5)
told = 0
while count < 0 or told < count:
    def once(tx):
        tx.increment("sum")
        tx["of", name] = told + 1
    db.transact(once, retries=100)
    told += 1
    if told % 50 == 0:
        os.write(1, b"%d\\n" % told)
assert db["of", name] == told
print("done")
"""


def container(place: Path, data: Path, name: str, count: int) -> Program:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "--ipc", "--kill-child=SIGKILL"]
    return Program(place, *command, sys.executable, "-P", "-c", CONTAINER, str(data), name, str(count))


def last(program: Program) -> int:
    return max((int(line) for line in program.stdout.split() if line.isdigit()), default=0)


def test_two_pid_namespaces(data: Path, tmp_path: Path) -> None:
    """Both have pid 1. The one with the engine is killed as a whole; the other goes on with a new engine, and
    no transaction is lost or doubled."""
    with container(tmp_path / "first", data, "first", -1) as first:
        eventually(lambda: last(first) >= 50, "the first container's engine serves")
        with container(tmp_path / "second", data, "second", 1500) as second:
            eventually(lambda: last(second) >= 100, "the second joins")
            os.kill(first.process.pid, signal.SIGKILL)
            killed_at = last(first)
            assert second.wait() == 0, second.stderr
            assert second.stdout.endswith("done\n") and second.stderr == ""
    with memdb.open(data, max_memory="64MiB", linger=0) as db:
        assert db["of", "second"] == 1500
        assert db["of", "first"] >= killed_at
        assert db["sum"] == db["of", "first"] + 1500
