"""A group in narrow places: 64 MB of /dev/shm, no permission, many deaths of one writer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from actors.group_tools import python, wait_until

import memdb

SMALL = """
import memdb, os, sys
path, steps = sys.argv[1], 0
os.umask(0)
def fill(db):
    value = b"v" * 1000
    for first in range(0, 1 << 20, 500):
        try:
            db.set_many(((first + n), value) for n in range(500))
        except (memdb.ArenaFullError, memdb.DiskFullError) as error:
            return first, error
    raise SystemExit("64 MB of shared memory held a gigabyte")
with memdb.open(path, linger=0, max_memory="256MiB") as db:
    count, error = fill(db)
    assert count > 5000, count
    assert "/dev/shm" in str(error) or "max_memory" in str(error), error
    assert len(db) == count and db[0] == b"v" * 1000  # nothing of the refused commit is there
    assert db.delete_range(stop=count // 2) == count // 2  # deletes find room
    db["after"] = 1                                        # and so do writes, then
with memdb.open(path, linger=0, max_memory="256MiB") as db:
    assert db["after"] == 1 and len(db) == count - count // 2 + 1, len(db)
    import signal
    os.kill(db.info().processes["writer"].pid, signal.SIGKILL)
    db["again"] = 2                                        # the next generation, with room for one arena only
    assert db["again"] == 2 and len(db) == count - count // 2 + 2
print("ok", count)
"""


def _may_mount() -> bool:
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    tried = subprocess.run(
        [unshare, "--mount", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True, check=False
    )
    return tried.returncode == 0


@pytest.mark.skipif(not _may_mount(), reason="needs the right to mount a /dev/shm of its own")
def test_64_mb_of_shared_memory(tmp_path: Path) -> None:
    """What a container has by default: it works, says what is full, and loses nothing."""
    environment = {**os.environ, "PYTHONPATH": str(Path(memdb.__path__[0]).parent)}
    inside = f"mount -t tmpfs -o size=64m tmpfs /dev/shm && exec {sys.executable} -P - {tmp_path / 'data'}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", inside],
        input=SMALL,
        capture_output=True,
        text=True,
        env=environment,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ok")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody who may not")
def test_no_permission(tmp_path: Path) -> None:
    """Another user is told whose directory it is and what to do, and nothing is made there."""
    with memdb.open(tmp_path / "data", linger=0) as db:
        db["a"] = 1
    for part in (tmp_path, *list(tmp_path.parents)[:2]):
        part.chmod(0o755)
    code = (
        "import os, sys, memdb, memdb.database\n"  # that user may not read this interpreter's library
        "os.setgid(65534); os.setuid(65534)\n"
        "for path in (sys.argv[1], sys.argv[2]):\n"
        "    try:\n"
        "        memdb.open(path)\n"
        "    except (OSError, memdb.Error) as error:\n"
        "        print(type(error).__name__, error)\n"
        "    else:\n"
        "        print('opened')\n"
    )
    told, _ = python(code, tmp_path / "data", tmp_path / "new").communicate(timeout=60)
    lines = told.splitlines()
    assert len(lines) == 2 and "opened" not in lines, told
    assert all(f"{tmp_path}" in line and "belongs to user 0" in line and "65534" in line for line in lines), (
        told
    )
    assert not (tmp_path / "new").exists()


def test_a_supervisor_keeps_nothing_of_dead_writers(tmp_path: Path) -> None:
    """Descriptors, mappings and threads stay what they are, however many writers it has buried."""
    with memdb.open(tmp_path / "data", linger=0, max_memory="64MiB") as db:
        supervisor = psutil.Process(db.info().processes["supervisor"].pid)

        def bury() -> None:
            writer = psutil.Process(db.info().processes["writer"].pid)
            writer.kill()
            db["n"] = db.get("n", 0) + 1
            wait_until(lambda: not writer.is_running(), 30, "the dead writer is reaped")

        for _ in range(3):
            bury()
        before = (supervisor.num_fds(), len(supervisor.memory_maps(grouped=False)), supervisor.num_threads())
        for _ in range(8):
            bury()
        after = (supervisor.num_fds(), len(supervisor.memory_maps(grouped=False)), supervisor.num_threads())
        assert db["n"] == 11
        assert all(now <= then + 1 for now, then in zip(after, before, strict=True)), (before, after)
