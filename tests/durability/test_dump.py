"""Dumps: the rows of files, on real files and damaged ones."""

import os
from pathlib import Path

import pytest
from durability.rig import Machine, key

from memdb import errors
from memdb.durability import dump
from memdb.durability.files import RealFiles


@pytest.fixture
def home(tmp_path: Path) -> Path:
    files = RealFiles.at(str(tmp_path))
    try:
        machine = Machine(files).start()
        machine.set("a", b"1")
        machine.delete("a", "full")
        machine.set("b", b"2")
        machine.engine.checkpoint()
        machine.engine.rotate()
        machine.set("c", b"3")
        machine.engine.stop()
        again = Machine(files).start()
        assert again.names() == {"b": b"2", "c": b"3"}
        again.engine.stop()
    finally:
        files.close()
    return tmp_path


def test_files_and_directories_are_private(home: Path) -> None:
    for path in home.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)


def test_wal_rows_of_a_directory(home: Path) -> None:
    rows = list(dump.wal_rows(str(home)))
    commits = [row for row in rows if row["type"] == "commit"]
    assert [row["lsn"] for row in commits] == [2, 3, 4, 5]
    assert commits[0]["operations"][0]["key"] == key("a")
    assert commits[0]["operations"][0]["value"] == b"1\0"
    assert commits[1]["operations"][0]["op"] == "delete"
    links = [row for row in rows if row["type"] == "link"]
    assert [row["previous_segment"] for row in links] == [0, 1, 2]
    assert not [row for row in rows if row["type"] == "damage"]
    second = home / "wal" / sorted(os.listdir(home / "wal"))[1]
    alone = list(dump.wal_rows(str(second)))
    assert [row["lsn"] for row in alone if row["type"] == "commit"] == [5]


def test_checkpoint_rows(home: Path) -> None:
    rows = list(dump.checkpoint_rows(str(home)))
    assert (rows[0]["type"], rows[-1]["type"]) == ("header", "footer")
    plain = {row["key"]: row["value"] for row in rows if row["type"] == "item" and row["key"][0] == 1}
    assert plain == {key("b"): b"2\0"}
    assert rows[-1]["keys"] == len(rows) - 2


def test_damage_is_a_row_and_reading_goes_on(home: Path) -> None:
    path = home / "wal" / min(os.listdir(home / "wal"))
    rows = list(dump.wal_rows(str(path)))
    second = [row for row in rows if row["type"] == "commit"][1]
    data = bytearray(path.read_bytes())
    data[second["offset"] + 40] ^= 1
    path.write_bytes(data)
    after = list(dump.wal_rows(str(path)))
    assert [row["lsn"] for row in after if row["type"] == "commit"] == [2, 4]
    (damage,) = [row for row in after if row["type"] == "damage"]
    assert damage["offset"] == second["offset"]
    checkpoint = next((home / "checkpoints").iterdir())
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    assert list(dump.checkpoint_rows(str(checkpoint)))[-1]["type"] == "damage"


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.NotADatabase):
        list(dump.wal_rows(str(tmp_path)))
    with pytest.raises(errors.NotADatabase):
        list(dump.checkpoint_rows(str(tmp_path / "nothing")))
