"""A disk that is really full (a tmpfs of some MB): the log, the checkpoint, the manifest, the start."""

from pathlib import Path

import pytest
from actors.confined import WHY, may_mount, run_confined

pytestmark = pytest.mark.skipif(not may_mount(), reason=WHY)

COMMON = """
import errno, os, signal, sys, time, memdb
place = sys.argv[1]
ballast = place + "/ballast"

def fill(leave=0):
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError as error:
        assert error.errno == errno.ENOSPC
    os.close(file)
    os.truncate(ballast, max(os.path.getsize(ballast) - leave, 0))

def empty():
    os.unlink(ballast)

def until_it_goes_on(db, key):
    began = time.monotonic()
    while True:
        try:
            db.set(key, 1, durability="full")
            return
        except memdb.DiskFullError:
            assert time.monotonic() - began < 20, "it does not go on by itself"
            time.sleep(0.05)

def told(error, *parts):
    assert isinstance(error, memdb.DiskFullError) and error.errno == errno.ENOSPC, repr(error)
    text = str(error)
    assert place in text and "No space left" in text and "free some space" in text, text
    for part in parts:
        assert part in text, text

def refused(db, call):
    try:
        call()
    except memdb.Error as error:
        return error
    raise SystemExit("it was not refused")

options = {"linger": 0, "max_memory": "32MiB", "max_transaction_bytes": "512KiB", "segment_bytes": "1MiB",
           "checkpoint_wal_bytes": "1TiB", "checkpoint_dirty_keys": 10**9}
"""

LOG = (
    COMMON
    + """
model = {}
db = memdb.open(place + "/data", **options)
db["first"] = 1
model["first"] = 1
fill()
for n in range(100000):
    try:
        db[n] = b"x" * 4000
    except memdb.Error as error:
        told(error, "the next log segment", "reads and deletes go on")
        break
    model[n] = b"x" * 4000
assert dict(db) == model
for n in list(model)[1:200]:
    db.delete(n, durability="full")
    del model[n]
db.delete_range(0, 220)
model = {k: v for k, v in model.items() if not (isinstance(k, int) and k < 220)}
assert dict(db) == model
failure = db.info().wal.failure
told(refused(db, lambda: db.set("no", 1)), "the next log segment")
assert failure, "info() does not say it"
before = db.info().processes
os.kill(before["writer"].pid, signal.SIGKILL)
assert db.delete(220)
del model[220]
assert dict(db) == model
now = db.info().processes
assert now["writer"].pid != before["writer"].pid and now["supervisor"].pid == before["supervisor"].pid
empty()
until_it_goes_on(db, "after")
model["after"] = 1
assert dict(db) == model
db.close()
with memdb.open(place + "/data", **options) as db:
    assert dict(db) == model
print("ok", n)
"""
)

CHECKPOINT = (
    COMMON
    + """
db = memdb.open(place + "/data", **options)
for n in range(150):
    db[n] = b"x" * 4000
fill(leave=64 << 10)
told(refused(db, db.checkpoint), "checkpoint")
db["writes go on"] = 1
before = os.listdir(place + "/data/checkpoints")
assert len(db) == 151
empty()
db.checkpoint()
db.close()
with memdb.open(place + "/data", **options) as db:
    assert len(db) == 151 and db[149] == b"x" * 4000
    left = [name for name in os.listdir(place + "/data/checkpoints") if name.endswith(".tmp")]
    assert not left, left
print("ok", before)
"""
)

MANIFEST = (
    COMMON
    + """
db = memdb.open(place + "/data", **options)
db["a"] = 1
db.sync()
deadline = time.monotonic() + 20
while len(os.listdir(place + "/data/wal")) < 2:  # the spare segment is there
    assert time.monotonic() < deadline
    time.sleep(0.01)
time.sleep(0.1)
fill()
told(refused(db, db.rotate_wal), "MANIFEST")
assert db["a"] == 1
told(refused(db, lambda: db.set("b", 1)), "MANIFEST")
del db["a"]
db.sync()
empty()
until_it_goes_on(db, "b")
db.close()
with memdb.open(place + "/data", **options) as db:
    assert dict(db) == {"b": 1}
print("ok")
"""
)

START = (
    COMMON
    + """
with memdb.open(place + "/data", **options) as db:
    db["a"] = 1
fill()
db = memdb.open(place + "/data", **options)
assert db["a"] == 1
told(refused(db, lambda: db.set("b", 1)))
empty()
until_it_goes_on(db, "b")
assert dict(db) == {"a": 1, "b": 1}
db.close()
print("ok")
"""
)


@pytest.mark.parametrize("what", ["log", "checkpoint", "manifest", "start"])
def test_a_full_disk(what: str, tmp_path: Path) -> None:
    """It leaves reads (and, where it can, deletes), says so, and goes on by itself when there is room."""
    code = {"log": LOG, "checkpoint": CHECKPOINT, "manifest": MANIFEST, "start": START}[what]
    done = run_confined(code, {str(tmp_path): "5m"}, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok")
