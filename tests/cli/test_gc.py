"""`memdb gc` removes what dead engines left, and nothing that a living one uses."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from program import COMMAND, environment

import memdb
from memdb.actors.locks import GROUP_BYTE, STARTER_BYTE, FileLock
from memdb.cli import errors, leftovers

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def _kill_group(db: memdb.Database) -> None:
    """As a machine without mercy does: all at once, and until the kernel says that they are gone."""
    group = [psutil.Process(one.pid) for one in db.info().processes.values()]
    for process in group:
        process.send_signal(signal.SIGSTOP)
    for process in group:
        process.kill()
    for process in group:
        _wait(process)


def _wait(process: psutil.Process) -> None:
    try:
        process.wait(timeout=60)
    except psutil.NoSuchProcess:
        pass


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where memory-only databases of this test have their homes."""
    place = tmp_path / "run"
    place.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    return place


def _gc(cli: Run, *arguments: str) -> list[dict[str, Any]]:
    done = cli("gc", *arguments, "--json")
    assert done.returncode == errors.OK, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["leftovers"]
    # Other tests and programs of this user may leave segments meanwhile.
    return [one for one in found if one["kind"] != "segment"]


def test_a_home_of_a_dead_memory_only_database(cli: Run, runtime: Path) -> None:
    alive, dead = memdb.open(), memdb.open()
    alive["k"] = 1
    _kill_group(dead)
    assert len(os.listdir(runtime)) == 2
    (found,) = _gc(cli, "--dry-run")
    assert (found["kind"], found["path"], found["stale"], found["removed"]) == (
        "memory home", dead.path, True, False,
    )  # fmt: skip
    assert os.path.exists(dead.path)
    (found,) = _gc(cli)
    assert found["removed"] and not os.path.exists(dead.path)
    assert alive["k"] == 1 and os.listdir(runtime) == [os.path.basename(alive.path)]
    assert _gc(cli) == []
    alive.close()
    dead.close()


def test_a_home_that_may_be_starting_is_kept(cli: Run, runtime: Path) -> None:
    home = runtime / f"memdb-{os.geteuid()}-{secrets.token_hex(8)}"
    home.mkdir(mode=0o700)
    (found,) = _gc(cli)
    assert not found["stale"] and not found["removed"] and home.exists()
    (home / "engine.log").write_text("")
    descriptor = os.open(home, os.O_RDONLY)
    with FileLock(descriptor, "GROUP", STARTER_BYTE) as starter:
        assert starter.acquire(wait=False)
        assert _gc(cli) == [] and home.exists()
    os.close(descriptor)
    (found,) = _gc(cli)
    assert found["removed"] and not home.exists()


def test_names_that_are_not_ours(cli: Run, runtime: Path) -> None:
    for name in (f"memdb-{os.geteuid()}-mine", f"memdb-{os.geteuid() + 1}-{'0' * 16}", "other"):
        (runtime / name).mkdir()
        (runtime / name / "engine.log").write_text("")
    (runtime / f"memdb-{os.geteuid()}-{'1' * 16}").symlink_to(runtime / "other")
    assert _gc(cli) == [] and len(os.listdir(runtime)) == 4


def _litter(place: Path) -> list[Path]:
    litter = [place / "MANIFEST.tmp", place / "checkpoints" / f"{7:020d}-{8:016x}.tmp"]
    for path in litter:
        path.write_bytes(b"half")
    return litter


def test_a_directory_of_a_dead_engine(cli: Run, runtime: Path, data: str, tmp_path: Path) -> None:
    place = tmp_path / data
    db = memdb.open(place, linger=60.0)
    db["k"] = 1
    litter = _litter(place)
    kept = _gc(cli, data)
    assert [one["stale"] for one in kept] == [False, False] and all(path.exists() for path in litter)
    _kill_group(db)
    before = {path.name for path in place.rglob("*")}
    assert {Path(one["path"]).name for one in _gc(cli, data, "--dry-run")} == {
        "engine.sock", litter[0].name, litter[1].name,
    }  # fmt: skip
    assert {path.name for path in place.rglob("*")} == before
    assert all(one["removed"] for one in _gc(cli, data))
    assert before - {path.name for path in place.rglob("*")} == {
        "engine.sock", litter[0].name, litter[1].name,
    }  # fmt: skip
    db.close()
    with memdb.open(place, linger=0) as again:
        assert again["k"] == 1


@pytest.mark.parametrize(("name", "byte"), [("GROUP", GROUP_BYTE), ("GROUP", STARTER_BYTE), ("LOCK", 0)])
def test_each_lock_alone_protects(
    cli: Run, runtime: Path, data: str, tmp_path: Path, name: str, byte: int
) -> None:
    cli("set", data, "k", "1")
    cli("stop", data)
    litter = _litter(tmp_path / data)
    descriptor = os.open(tmp_path / data, os.O_RDONLY)
    with FileLock(descriptor, name, byte) as lock:
        assert lock.acquire(wait=False)
        assert not any(one["removed"] for one in _gc(cli, data))
    os.close(descriptor)
    assert all(path.exists() for path in litter)


def test_what_can_hold_data_is_never_touched(cli: Run, runtime: Path, data: str, tmp_path: Path) -> None:
    cli("set", data, "k", "1")
    cli("stop", data)
    place = tmp_path / data
    (place / "quarantine").mkdir(exist_ok=True)
    (place / "quarantine" / "0000000000000001-4096.cut").write_bytes(b"cut")
    (place / "wal" / "0000000000000009.log").write_bytes(b"unknown")
    before = sorted(path.name for path in place.rglob("*"))
    assert _gc(cli, data) == []
    assert sorted(path.name for path in place.rglob("*")) == before


def test_no_database(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    for name in ("foreign", "nowhere"):
        assert cli("gc", name).returncode == errors.PLACE
    assert os.listdir(tmp_path / "foreign") == []


@pytest.fixture
def segment() -> Iterator[Path]:
    path = Path("/dev/shm") / f"mdb-{secrets.token_hex(8)}"
    yield path
    path.unlink(missing_ok=True)


def test_a_segment_goes_when_nobody_has_it_open(segment: Path) -> None:
    holder = (
        f"import mmap, os\nfd = os.open({str(segment)!r}, os.O_RDWR | os.O_CREAT, 0o600)\n"
        "os.ftruncate(fd, 4096)\nmapping = mmap.mmap(fd, 4096)\nos.close(fd)\n"
        "print('mapped', flush=True)\ninput()"
    )
    with subprocess.Popen(
        [COMMAND[0], "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == b"mapped\n"
        (found,) = _segments(segment, remove=True)
        assert not found.stale and not found.removed and segment.exists()
        process.communicate(b"\n", timeout=60)
    (found,) = _segments(segment, remove=False)
    assert found.stale and segment.exists()
    (found,) = _segments(segment, remove=True)
    assert found.removed and not segment.exists()


def _segments(segment: Path, *, remove: bool) -> list[leftovers.Leftover]:
    names = os.listdir("/dev/shm")
    assert segment.name in names
    found = leftovers.in_shared_memory(remove=remove)
    return [one for one in found if one.path == str(segment)]


def test_for_people(cli: Run, runtime: Path, data: str, tmp_path: Path) -> None:
    cli("set", data, "k", "1")
    cli("stop", data)
    (tmp_path / data / "MANIFEST.tmp").write_bytes(b"half")
    assert b"would remove half-written file" in cli("gc", data, "--dry-run").stdout
    assert b"removed half-written file" in cli("gc", data).stdout
