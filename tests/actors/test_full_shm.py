"""A /dev/shm that is really full (a tmpfs of some MB in a name space of its own), when a group is made and
when it grows: an error that names it, never a SIGBUS, and it goes on when there is room."""

from pathlib import Path

import pytest
from actors.confined import WHY, may_mount, run_confined

pytestmark = pytest.mark.skipif(not may_mount(), reason=WHY)

CREATE = """
import os, subprocess, sys, memdb
place, sizes = sys.argv[1], range(256, 12 << 10, int(sys.argv[2]))
refused = served = 0
for kib in sizes:
    subprocess.run(["mount", "-o", f"remount,size={kib}k", "/dev/shm"], check=True)
    try:
        with memdb.open(f"{place}/d{kib}", linger=0, max_memory="64MiB", durability="os") as db:
            db["a"] = b"x" * 1000
            assert db["a"] == b"x" * 1000
            served += 1
    except (memdb.ArenaFullError, memdb.DiskFullError) as error:
        assert "/dev/shm" in str(error) and ("KiB are" in str(error) or "room" in str(error)), error
        refused += 1
    assert not os.listdir("/dev/shm"), os.listdir("/dev/shm")
assert refused and served, (refused, served)
print("ok", refused, served)
"""

GROW = """
import os, subprocess, sys, memdb
place = sys.argv[1]
db = memdb.open(place + "/data", linger=0, max_memory="256MiB", timeout=20)
group = {role: process.pid for role, process in db.info().processes.items()}
model, n = {}, 0
for turn in range(3):
    while True:
        try:
            db[n] = b"x" * 4000
        except memdb.ArenaFullError as error:
            assert "/dev/shm is full" in str(error), f"the wrong limit is named: {error}"
            break
        model[n] = b"x" * 4000
        n += 1
    assert len(db) == len(model) and db[n - 1] == b"x" * 4000
    db.delete(n - 1)
    del model[n - 1]
    assert dict(db.range()) == model
    size = 24 + 8 * turn
    subprocess.run(["mount", "-o", f"remount,size={size}m", "/dev/shm"], check=True)
    db["room", turn] = turn
    model["room", turn] = turn
assert group == {role: process.pid for role, process in db.info().processes.items()}, "somebody died"
assert dict(db) == model
db.close()
with memdb.open(place + "/data", linger=0, max_memory="256MiB", timeout=20) as db:
    assert dict(db) == model
print("ok", n)
"""


@pytest.mark.parametrize("what", ["create", "grow"])
def test_a_full_shm(what: str, tmp_path: Path) -> None:
    done = run_confined({"create": CREATE, "grow": GROW}[what], {"/dev/shm": "16m"}, tmp_path, 2900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok")
