"""Forks in the middle of everything, fifty first opens at one moment, and openers that come and go."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from life.stage import PROGRAMS, Program, check_quiet, eventually, package_path

import memdb

pytestmark = pytest.mark.life


def test_a_fork_with_threads_a_snapshot_a_view_and_a_transaction(data: Path, tmp_path: Path) -> None:
    with Program.python(tmp_path / "run", "-X", "dev", str(PROGRAMS / "forks.py"), str(data)) as program:
        assert program.wait() == 0, program.stderr
        assert program.stdout == "ok\n"
        check_quiet(program.stderr)


FIRST_OPENS = """
import os, sys, memdb
path, count = sys.argv[1], 50
ready, go = os.pipe(), os.pipe()
for number in range(count):
    if os.fork() == 0:
        os.write(ready[1], b"r")
        os.close(go[1])
        os.read(go[0], 1)              # the end of the file comes to all at one moment
        with memdb.open(path, max_memory="64MiB", linger=60.0, open_timeout=60.0) as db:
            db.increment("opened")
            engine = db.info().processes["supervisor"].pid
            os.write(1, b"%d\\n" % engine)
        os._exit(0)
for _ in range(count):
    os.read(ready[0], 1)
os.close(go[1])
codes = {os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(count)}
sys.exit(codes != {0})
"""


def test_fifty_first_opens_start_one_group(data: Path, tmp_path: Path) -> None:
    with Program.python(tmp_path / "run", "-c", FIRST_OPENS, str(data)) as program:
        assert program.wait() == 0, program.stderr
        engines = program.stdout.split()
        assert len(engines) == 50 and len(set(engines)) == 1, set(engines)
        assert program.stderr == ""
    with memdb.open(data, max_memory="64MiB") as db:
        assert db["opened"] == 50
    subprocess.run([sys.executable, "-P", "-m", "memdb", "stop", str(data)], check=True, env=package_path())
    log = (data / "engine.log").read_text()
    assert len(set(re.findall(r"group ([0-9a-f]{32}) serves", log))) <= 1


COME_AND_GO = """
import sys, memdb
count = 0
while count < int(sys.argv[2]):
    with memdb.open(sys.argv[1]) as db:
        assert db["a"] == 1
        if count % 10 == 0:
            snap = db.snapshot().__enter__()     # gone with its process's attachment
            assert snap["a"] == 1
            snap.close()
    count += 1
print(count)
"""


def figures(db: memdb.Database) -> tuple[int, int]:
    """(descriptors, pages resident) of the engine's processes together."""
    processes = [psutil.Process(one.pid) for one in db.info().processes.values()]
    return sum(one.num_fds() for one in processes), sum(one.memory_info().rss for one in processes)


def test_openers_that_come_and_go(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight hundred times, as fast as they can: descriptors, memory and leases stay as they were."""
    with memdb.open(data, max_memory="64MiB", linger=0.5) as db:
        db["a"] = 1

        def round_of(turns: int) -> int:
            command = [sys.executable, "-P", "-c", COME_AND_GO, str(data), str(turns)]
            both = [
                subprocess.Popen(command, stdout=subprocess.PIPE, env=package_path(), text=True) for _ in "ab"
            ]
            return sum(int(one.communicate(timeout=100)[0]) for one in both)

        round_of(20)
        eventually(lambda: len(db.info().clients) == 1, "the clients have gone")
        before, free = figures(db), db.info().shm.free
        began = time.monotonic()
        count = round_of(400)
        seconds = time.monotonic() - began
        eventually(lambda: len(db.info().clients) == 1, "the clients have gone")
        after = figures(db)
        with capsys.disabled():
            print(f"\nFIGURE openers that come and go: {count / seconds:.0f} a second (wanted 500)")
        assert count == 800
        assert after[0] <= before[0] + 2, (before, after)
        assert after[1] <= before[1] + (8 << 20), (before, after)
        assert db.info().shm.total == 0 or free - db.info().shm.free < 64 << 20
    assert os.path.isdir(data)
