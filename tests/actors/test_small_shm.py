"""A /dev/shm smaller than max_memory: writes end before its last page, so that a dead writer's successor and
the next clients find room (rules C3 and G3)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from actors.confined import WHY, may_mount

import memdb

pytestmark = pytest.mark.skipif(not may_mount(), reason=WHY)
FULL = """
import os, random, signal, sys
import memdb
path, size, leaves = sys.argv[1], int(sys.argv[2]), random.Random(7)
options = {"linger": 0, "max_memory": "256MiB"}

def fill(db, many):
    try:
        while True:
            db.set_many((leaves.random(), b"v" * size) for _ in range(many))
    except memdb.ArenaFullError as error:
        return error

with memdb.open(path, **options) as db:
    fill(db, 500)
    error = fill(db, 1)
    free, total = db.info().shm.free, db.info().shm.total
    assert error.limit == total and "/dev/shm is full" in str(error) and "65536 KiB" in str(error), error
    assert free > 6 << 20, free
    keys = len(db)
    del db[next(iter(db))]
    os.kill(db.info().processes["writer"].pid, signal.SIGKILL)
    del db[next(iter(db))]                       # by the successor
    assert len(db) == keys - 2
    assert os.statvfs("/dev/shm").f_bavail > 0
with memdb.open(path, **options) as db:          # and recovered from disk
    assert len(db) == keys - 2
    if os.fork() == 0:
        assert len(db) == keys - 2               # a lease more
        os._exit(0)
    assert os.wait()[1] == 0
    for key in list(db.keys(limit=2000)):
        del db[key]
    assert len(db) == keys - 2002
print("ok", keys)
"""


@pytest.mark.parametrize("size", [20, 1000])
def test_writes_leave_a_margin_on_a_small_dev_shm(tmp_path: Path, size: int) -> None:
    """Random keys, small values: the rebuild lays them out less tightly than they were."""
    environment = {**os.environ, "PYTHONPATH": str(Path(memdb.__path__[0]).parent)}
    program = f"{sys.executable} -P - {tmp_path / 'data'} {size}"
    inside = f"mount -t tmpfs -o size=64m tmpfs /dev/shm && exec {program}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", inside],
        input=FULL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok")
