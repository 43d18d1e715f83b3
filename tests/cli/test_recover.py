"""`memdb recover`: the dry run changes nothing, --yes does what it has shown, an engine keeps it away."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.test_reference import _example, _same_shape

import memdb
from memdb.cli import errors

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def _written(path: Path) -> Path:
    """A database of two segments and no checkpoint but the last; nothing runs on it."""
    with memdb.open(path, linger=0, keep_checkpoints=2) as db:
        for number in range(50):
            db.set(number, b"x" * 100, durability="full")
        db.rotate_wal()
        db.set("last", 1, durability="full")
    return path


def _flip(file: Path, offset: int) -> None:
    with file.open("r+b") as opened:
        opened.seek(offset)
        byte = opened.read(1)[0]
        opened.seek(offset)
        opened.write(bytes([byte ^ 0x10]))


def _damage_log(path: Path) -> None:
    """A record in the middle of the first segment, and the checkpoint that would make up for it."""
    _flip(path / "wal" / "0000000000000001.log", 8192)
    for checkpoint in (path / "checkpoints").iterdir():
        _flip(checkpoint, 4200)


def _contents(path: Path) -> dict[str, str]:
    return {
        str(one.relative_to(path)): hashlib.blake2b(one.read_bytes()).hexdigest()
        for one in sorted(path.rglob("*"))
        if one.is_file()
    }


def test_a_sound_database_loses_nothing(cli: Run, tmp_path: Path) -> None:
    path = _written(tmp_path / "data")
    before = _contents(path)
    done = cli("recover", "data")
    assert done.returncode == errors.OK and b"nothing is lost" in done.stdout, done.stderr
    assert _contents(path) == before
    assert cli("recover", "data", "--yes").returncode == errors.OK
    with memdb.open(path) as db:
        assert len(db) == 51


@pytest.mark.parametrize(("mode", "keys"), [("until-damage", None), ("salvage", 50)])
def test_damage_is_shown_first_and_left_out_then(
    cli: Run, tmp_path: Path, mode: str, keys: int | None
) -> None:
    path = _written(tmp_path / "data")
    _damage_log(path)
    with pytest.raises(memdb.CorruptionError) as caught:
        memdb.open(path)
    error = caught.value
    assert error.command == f"memdb recover {path} --mode until-damage" and error.command in str(error)
    assert error.file == "wal/0000000000000001.log" and error.offset and error.lsn
    before = _contents(path)
    refused = cli("recover", "data")
    assert refused.returncode == errors.DAMAGE and b"--mode until-damage" in refused.stderr
    shown = cli("recover", "data", "--mode", mode, "--json")
    assert shown.returncode == errors.NO
    facts = json.loads(shown.stdout)
    example = _example("recover")
    assert example.keys() == facts.keys()
    _same_shape(example, facts)
    assert _contents(path) == before | {
        name: text for name, text in _contents(path).items() if name == "engine.log"
    }
    assert facts["keys"] == keys or (keys is None and 0 < facts["keys"] < 50)
    done = cli("recover", "data", "--mode", mode, "--yes", "--json")
    kept = json.loads(done.stdout)
    assert done.returncode == errors.NO and kept["changed"] and kept["keys"] == facts["keys"]
    assert [cut["offset"] for cut in kept["cuts"]] == [cut["offset"] for cut in facts["cuts"]]
    assert all((path / cut["quarantine"]).stat().st_size == cut["bytes"] for cut in kept["cuts"])
    with memdb.open(path) as db:
        assert len(db) == facts["keys"] and all(value in (1, b"x" * 100) for value in db.values())
        assert ("last" in db) is (mode == "salvage")


def test_a_lost_manifest_is_made_anew(cli: Run, tmp_path: Path) -> None:
    path = _written(tmp_path / "data")
    (path / "MANIFEST").unlink()
    assert b"--mode salvage" in cli("recover", "data").stderr
    done = cli("recover", "data", "--mode", "salvage", "--yes")
    assert done.returncode == errors.OK and b"made anew" in done.stdout, done.stderr
    with memdb.open(path) as db:
        assert len(db) == 51


def test_an_engine_keeps_it_away(cli: Run, tmp_path: Path) -> None:
    with memdb.open(tmp_path / "data", linger=0) as db:
        db["k"] = 1
        for arguments in ([], ["--yes"]):
            done = cli("recover", "data", *arguments)
            assert done.returncode == errors.LIMIT
            assert str(db.info().processes["supervisor"].pid).encode() in done.stderr
            assert b"memdb stop data" in done.stderr


def test_what_is_no_database_is_left_alone(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    for name in ("other", "missing"):
        assert cli("recover", name, "--yes").returncode == errors.PLACE
    assert [one.name for one in (tmp_path / "other").iterdir()] == ["file"]


def test_open_takes_the_modes_too(tmp_path: Path) -> None:
    path = _written(tmp_path / "data")
    _damage_log(path)
    with memdb.open(path, recovery="salvage") as db:
        assert len(db) == 50
        report = db.info().recovery
        assert report.mode == "salvage" and len(report.cuts) == 1 and report.cuts[0]["quarantine"]
