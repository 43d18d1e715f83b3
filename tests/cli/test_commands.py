"""The commands, run as a user runs them: what they print, to where, and their exit codes."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from program import COMMAND, environment

import memdb
from memdb import errors as memdb_errors
from memdb import layering, values
from memdb.cli import errors

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def test_set_get_delete(cli: Run, data: str) -> None:
    assert cli("set", data, "user:1", '{"name": "Alice", "tags": [1, null]}').returncode == errors.OK
    done = cli("get", data, "user:1", "--json")
    found = json.loads(done.stdout)
    assert (found["key"], found["value"]) == ("user:1", {"name": "Alice", "tags": [1, None]})
    assert isinstance(found["version"], int)
    assert cli("get", data, "user:1").stdout == b"{'name': 'Alice', 'tags': [1, None]}\n"
    assert cli("delete", data, "user:1").returncode == errors.OK
    assert cli("delete", data, "user:1").returncode == errors.NO
    done = cli("get", data, "user:1")
    assert done.returncode == errors.NO
    assert done.stdout == b"" and b"no key 'user:1'" in done.stderr


def test_text_and_bytes_come_out_as_they_are(cli: Run, data: str) -> None:
    cli("set", data, "text", "héllo wörld")
    assert cli("get", data, "text").stdout == "héllo wörld\n".encode()
    raw = bytes(range(256))
    assert cli("set", data, "raw", "-", "--value-type", "bytes", stdin=raw).returncode == errors.OK
    assert cli("get", data, "raw").stdout == raw


def test_names_that_are_no_utf8_are_shown_escaped(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = os.fsdecode(b"data\xff")
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    assert cli("set", odd, "a", "1").returncode == errors.OK
    try:
        done = cli("info", odd, "--json")
        assert done.returncode == errors.OK and json.loads(done.stdout)["path"].endswith(odd)
        done = cli("info", odd)
        assert done.returncode == errors.OK and rb"data\udcff" in done.stdout
    finally:
        assert cli("stop", odd).returncode == errors.OK


def test_keys_of_every_type(cli: Run, data: str) -> None:
    keys = {
        "str": "1",
        "int": "1",
        "float": "1.0",
        "bool": "true",
        "bytes": "1",
        "literal": "('a', 1)",
        "none": "none",
    }
    for kind, text in keys.items():
        assert cli("set", data, text, kind, "-k", kind).returncode == errors.OK
    for kind, text in keys.items():
        assert cli("get", data, text, "-k", kind).stdout.decode().strip() == kind


def test_set_if_absent(cli: Run, data: str) -> None:
    assert cli("set", data, "k", "1", "--if-absent", "--json").stdout == b'{"written": true}\n'
    done = cli("set", data, "k", "2", "--if-absent", "--json")
    assert done.returncode == errors.NO and json.loads(done.stdout) == {"written": False}
    assert cli("get", data, "k").stdout == b"1\n"


def test_scan(cli: Run, data: str, tmp_path: Path) -> None:
    with memdb.open(tmp_path / data) as db:
        db.set_many({("k", number): number for number in range(150)})
        db["other"] = b"x"
        done = cli("scan", data, "--json")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert len(rows) == 151
        assert {"key": "other", "value": {"$bytes": "eA=="}} in rows
        done = cli("scan", data, "--json", "-k", "literal", "--prefix", "('k',)", "--reverse", "--limit", "2")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert [row["value"] for row in rows] == [149, 148]
        bounds = ("--start", "('k', 3)", "--stop", "('k', 5)")
        done = cli("scan", data, "--json", "-k", "literal", *bounds, "--keys-only")
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        assert rows == [{"key": {"$tuple": ["k", 3]}}, {"key": {"$tuple": ["k", 4]}}]
        done = cli("scan", data)
        assert b"('k', 0)" in done.stdout and b"('k', 140)" not in done.stdout
        assert b"100 keys shown" in done.stderr


def test_stored_text_is_not_read_as_markup(cli: Run, data: str) -> None:
    cli("set", data, "[bold]k[/bold]", "[red]v")
    assert b"[bold]k[/bold]" in cli("scan", data).stdout


def test_info(cli: Run, data: str) -> None:
    cli("set", data, "k", "1")
    facts = json.loads(cli("info", data, "--json").stdout)
    assert {"supervisor", "writer", "checkpointer", "reaper"} <= facts["processes"].keys()
    assert all(isinstance(process["pid"], int) for process in facts["processes"].values())
    shown = cli("info", data)
    assert shown.returncode == errors.OK
    for word in (b"supervisor", b"writer", b"arena", b"wal"):
        assert word in shown.stdout
    assert facts["arena"]["keys"] == 1
    # For people: a year instead of seconds since 1970, and nothing that only programs can use.
    assert f"{time.gmtime(facts['started']).tm_year}-".encode() in shown.stdout
    assert b"counts" not in shown.stdout and b"e+09" not in shown.stdout


def test_check(cli: Run, data: str) -> None:
    cli("set", data, "k", "1")
    done = cli("check", data, "--json")
    assert done.returncode == errors.OK and json.loads(done.stdout)["problems"] == []
    assert b"no problems" in cli("check", data).stdout


def test_stop_ends_the_engine_and_starts_none(cli: Run, data: str, tmp_path: Path) -> None:
    cli("set", data, "k", "1")
    with memdb.open(tmp_path / data) as db:
        engine = [psutil.Process(process.pid) for process in db.info().processes.values()]
        assert json.loads(cli("stop", data, "--json").stdout) == {"stopped": True}
        assert not [process for process in engine if _runs(process)]
    assert json.loads(cli("stop", data, "--json").stdout) == {"stopped": False}
    assert cli("get", data, "k").stdout == b"1\n"


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE  # ended, and init has not looked yet
    except psutil.NoSuchProcess:
        return False


def test_dumps_need_no_engine(cli: Run, data: str, tmp_path: Path) -> None:
    cli("set", data, "dumped", "1")
    cli("stop", data)
    rows = [json.loads(line) for line in cli("wal", "dump", data, "--json").stdout.splitlines()]
    assert any("dumped" in json.dumps(row) for row in rows)
    done = cli("checkpoint", "dump", data, "--json")
    assert done.returncode == errors.OK and b"dumped" in done.stdout
    assert cli("wal", "dump", data).returncode == cli("checkpoint", "dump", data).returncode == errors.OK
    segment = sorted((tmp_path / data / "wal").glob("*.log"))[0]
    assert cli("wal", "dump", str(segment), "--limit", "1").returncode == errors.OK
    assert json.loads(cli("stop", data, "--json").stdout) == {"stopped": False}


def test_dumps_name_the_keys_of_collections(cli: Run, data: str, tmp_path: Path) -> None:
    document, entry = b"\x04\0\0\0\x01\0\0\x15\x07", b"\x04\0\0\0\x01\0\x02 Rome\0\x01\x15\x07"
    with memdb.open(tmp_path / data, linger=0) as db, db.transaction() as tx:
        items = [
            (b"\x03\x02people\0", {"id": 1}),
            (document, {"_id": 7}),
            (entry, b"\x15\x07"),
            (b"\x04odd", 1),
        ]
        layering.put_many(tx, [(key, values.encode(value), 0) for key, value in items])
    expected = [
        ({"catalogue": "people"}, {"id": 1}),
        ({"collection": 1, "id": 7}, {"_id": 7}),
        (
            {"collection": 1, "index": 2, "values": {"$bytes": "IFJvbWUAAQ=="}, "id": 7},
            {"$bytes": base64.b64encode(b"\x15\x07").decode()},
        ),
    ]
    rows = [json.loads(line) for line in cli("checkpoint", "dump", data, "--json").stdout.splitlines()]
    found = [(row["key"], row["value"]) for row in rows if row["type"] == "item"]
    assert [item for item in found if item in expected] == expected
    assert ({"$bytes": base64.b64encode(b"\x04odd").decode()}, {"$bytes": "AQE="}) in found, "as it is"
    rows = [json.loads(line) for line in cli("wal", "dump", data, "--json").stdout.splitlines()]
    operations = [one for row in rows for one in row.get("operations") or ()]
    assert [(one["key"], one["value"]) for one in operations[:3]] == expected
    shown = cli("checkpoint", "dump", data).stdout
    assert b"{'catalogue': 'people'}" in shown and b"'index': 2" in shown


@pytest.mark.parametrize(
    "command",
    [
        ["get", "k"], ["delete", "k"], ["scan"], ["info"], ["check"], ["compact"], ["stop"],
        ["shell", "--readonly"],
    ],
)  # fmt: skip
def test_no_such_database(cli: Run, command: list[str], tmp_path: Path) -> None:
    name, *rest = command
    done = cli(name, "nowhere", *rest)
    assert done.returncode == errors.PLACE, done.stderr
    assert done.stdout == b"" and b"nowhere" in done.stderr and b"Traceback" not in done.stderr
    assert b"create" not in done.stderr, "an argument that nobody gave"
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_of_other_things(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").write_text("x")
    done = cli("set", "foreign", "k", "1")
    assert done.returncode == errors.PLACE and b"NotADatabase" in done.stderr
    done = cli("demo", "foreign")
    assert done.returncode == errors.USAGE and b"not empty" in done.stderr
    assert os.listdir(tmp_path / "foreign") == ["letter.txt"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["get", "data", "x", "-k", "int"],
        ["set", "data", "k", "{oops", "-t", "json"],
        ["set", "data", "k", "-", "-t", "json"],
        ["get", "data"],
        ["scan", "data", "--limit", "-1"],
        ["get", "data", "[1]", "-k", "literal"],
        ["nonsense"],
    ],
)
def test_wrong_usage(cli: Run, data: str, arguments: list[str]) -> None:
    cli("set", data, "k", "1")
    done = cli(*arguments)
    assert done.returncode == errors.USAGE, done.stderr
    assert b"Traceback" not in done.stderr and done.stderr


def test_a_value_that_begins_like_an_option(cli: Run, data: str) -> None:
    done = cli("set", data, "k", "-15")
    assert done.returncode == errors.USAGE and b"goes after --" in done.stderr
    assert cli("set", data, "k", "--", "-15").returncode == errors.OK
    assert cli("get", data, "k").stdout == b"-15\n"
    assert b"goes after" not in cli("get", data, "k", "--nonsense").stderr


def test_too_large_is_wrong_usage(cli: Run, data: str) -> None:
    done = cli("set", data, "k" * 5000, "1")
    assert done.returncode == errors.USAGE and b"KeyTooLarge" in done.stderr


def test_every_public_error_has_an_exit_code() -> None:
    kinds = [
        kind
        for kind in vars(memdb_errors).values()
        if isinstance(kind, type) and issubclass(kind, memdb_errors.Error)
    ]
    assert kinds
    for kind in kinds:
        assert errors.exit_code(kind("why")) in errors.EXIT_CODES
    assert errors.exit_code(memdb.CorruptionError("why")) == errors.DAMAGE
    assert errors.exit_code(memdb.OpenTimeout("why")) == errors.PLACE
    assert errors.exit_code(memdb.ArenaFullError("why")) == errors.LIMIT
    assert errors.exit_code(PermissionError("why")) == errors.PLACE


def test_help_and_version() -> None:
    for arguments in (["--help"], ["--version"], ["wal", "--help"], ["demo", "--help"]):
        done = subprocess.run(
            [*COMMAND, *arguments], env=environment(), capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0 and done.stdout
