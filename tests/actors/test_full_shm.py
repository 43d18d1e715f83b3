"""A /dev/shm that is really full (a tmpfs of some MB in a name space of its own), when a group is made, when
it grows, and when one of its actors dies: an error that names it, never a SIGBUS, and it goes on when there
is room."""

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

COMMON = """
import time

def fill():
    with open("/dev/shm/others", "wb", buffering=0) as others:
        try:
            while others.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass

def until(true):
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)

"""

# A reaper takes no room of /dev/shm: it is started at once.
DEATH = """
import os, signal, sys, time, memdb, psutil
place = sys.argv[1]
db = memdb.open(place + "/data", linger=0, max_memory="8MiB", timeout=20)
db["a"] = 1
group = {role: process.pid for role, process in db.info().processes.items()}
refused = "{} can't be started"
for role, sign in (("reaper", "restart 1"), ("checkpointer", refused), ("writer", refused)):
    fill()
    db.delete("b", durability="memory")
    victim = psutil.Process(group[role])
    victim.kill()
    victim.wait(30)
    until(lambda: sign.format(role) in open(place + "/data/engine.log").read())
    assert psutil.pid_exists(group["supervisor"]), f"the death of the {role} ended the group"
    assert db["a"] == 1
    os.unlink("/dev/shm/others")
    db["b"] = role
    db.checkpoint()
    now = {role: process.pid for role, process in db.info().processes.items()}
    assert now[role] != group[role]
    assert {one: pid for one, pid in now.items() if one != role} == {
        one: pid for one, pid in group.items() if one != role}, "somebody else died"
    group = now
assert dict(db) == {"a": 1, "b": "writer"}
db.close()
print("ok")
"""

# Without a checkpointer there is no last checkpoint: what is in the log buffer alone stays there to the end.
END = """
import os, signal, sys, time, memdb, psutil
place = sys.argv[1]
db = memdb.open(place + "/data", linger=0, max_memory="8MiB", timeout=20, sync_interval=60.0)
db["a"] = 1
group = {role: psutil.Process(process.pid) for role, process in db.info().processes.items()}
fill()
group["checkpointer"].kill()
until(lambda: "checkpointer" not in db.info().processes)
db.delete("a", durability="memory")
group["writer"].suspend()
db._control("stop")
until(lambda: not os.path.exists(place + "/data/engine.sock"))
os.unlink("/dev/shm/others")
group["writer"].kill()
psutil.wait_procs(group.values(), 30)
assert not group["supervisor"].is_running()
with memdb.open(place + "/data", linger=0, max_memory="8MiB", timeout=20) as db:
    assert dict(db) == {}, "an acknowledged commit was lost with its writer"
print("ok")
"""

UNLOGGED = """
import os, signal, sys, time, memdb
place = sys.argv[1]
db = memdb.open(place + "/data", linger=0, max_memory="12MiB", timeout=20, durability="none")
model = {n: os.urandom(4000) for n in range(1000)}
db.set_many(model.items())
before = db.info().processes
with open("/dev/shm/others", "wb", buffering=0) as others:
    free = os.statvfs("/dev/shm").f_bavail * os.statvfs("/dev/shm").f_frsize
    others.write(bytes(free - (1 << 20)))
os.kill(before["writer"].pid, signal.SIGKILL)
until(lambda: "the old arena stays" in open(place + "/data/engine.log").read())
assert dict(db) == model
os.unlink("/dev/shm/others")
db["b"] = 1
model["b"] = 1
assert dict(db) == model and db.info().processes["supervisor"].pid == before["supervisor"].pid
db.close()
print("ok")
"""

COMPACT = """
import os, sys, time, memdb
def free():
    now = os.statvfs("/dev/shm")
    return now.f_bavail * now.f_frsize
place = sys.argv[1]
db = memdb.open(place + "/data", linger=0, max_memory="12MiB", timeout=20)
db.set_many((n, os.urandom(4000)) for n in range(1500))
with open("/dev/shm/others", "wb", buffering=0) as others:
    others.write(bytes(free() - (4 << 20)))
before = free()
try:
    db.compact()
except memdb.ArenaFullError as error:
    assert "/dev/shm" in str(error), error
else:
    raise SystemExit("there was room: the test shows nothing")
began = time.monotonic()
while free() < before - (1 << 20):
    assert time.monotonic() - began < 10, f"{free()} of {before} bytes are free"
    time.sleep(0.01)
db["a"] = 1
assert len(db) == 1501
db.close()
print("ok")
"""

CASES = {
    "create": CREATE,
    "grow": GROW,
    "death": DEATH,
    "end": END,
    "unlogged": UNLOGGED,
    "compact": COMPACT,
}


@pytest.mark.parametrize("what", CASES)
def test_a_full_shm(what: str, tmp_path: Path) -> None:
    done = run_confined(COMMON + CASES[what], {"/dev/shm": "16m"}, tmp_path, 2900)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok")
