"""A reader that is stopped in the middle of an iteration, for long, while others write."""

import os
import signal
from pathlib import Path

import pytest
from life.stage import Program, eventually

import memdb

pytestmark = pytest.mark.life
_LIMIT = 32 << 20
READER = """
import os, sys, memdb
db = memdb.open(sys.argv[1], max_memory="32MiB")
rows = db.range()
seen = [next(rows) for _ in range(10)]
with db.snapshot() as snap:
    assert snap[0] == seen[0][1]
    os.write(1, b"reading\\n")
    turns = 0
    try:
        while True:
            snap[turns % 100]
            list(snap.range(limit=50))
            turns += 1
    except memdb.SnapshotExpired as error:
        assert not isinstance(error, memdb.CorruptionError)
try:
    for _ in rows:
        pass
    raise SystemExit("the iteration went on")
except memdb.SnapshotExpired:
    pass
assert len(db) > 500 and db[0][:1] == b"w"
print("expired")
"""


def test_a_reader_stopped_for_long(data: Path, tmp_path: Path) -> None:
    """Its snapshot is revoked when the arena is full, memory stays within the limit, no write fails; when it
    goes on, it is told SnapshotExpired, and then reads what is there."""
    with memdb.open(data, max_memory="32MiB", linger=0.5) as db:
        db.set_many((n, b"v" * 10_000) for n in range(500))
        with Program.python(tmp_path / "run", "-c", READER, str(data)) as reader:
            reader.expect("reading")
            eventually(db.readers, "its snapshot")
            os.kill(reader.process.pid, signal.SIGSTOP)
            each = db.memory_usage().used // 500
            keys = _LIMIT * 8 // 10 // each  # with what the snapshot keeps, more than there is room for
            for turn, last in enumerate([500, keys, keys]):
                value = b"w" * 9_999 + bytes([turn])
                for first in range(0, last, 100):
                    db.set_many((n, value) for n in range(first, min(first + 100, last)))
                usage = db.memory_usage()
                assert usage.reserved <= _LIMIT * 5 // 4, usage
            assert reader.process.poll() is None
            os.kill(reader.process.pid, signal.SIGCONT)
            assert reader.wait() == 0, reader.stderr
            assert reader.stdout == "reading\nexpired\n" and reader.stderr == ""
        eventually(lambda: len(db.info().clients) == 1, "the reader has gone")
        assert not db.readers()
