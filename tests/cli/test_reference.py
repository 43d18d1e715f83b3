"""docs/reference/cli.md is a contract: commands, options, exit codes and the shapes of --json."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from cli import reference
from cli.terminal import Terminal
from program import COMMAND, environment

import memdb
from memdb.cli import errors

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
_TEXT = reference.PAGE.read_text()


def test_every_command_stands_on_the_page_as_it_is() -> None:
    assert sorted(reference.marks(_TEXT)) == sorted(reference.parts())
    assert reference.renewed(_TEXT) == _TEXT, "run python -m tests.cli.reference"


def test_every_command_has_its_section() -> None:
    sections = re.findall(r"^## (.+)$", _TEXT, re.MULTILINE)
    assert sections == ["Exit codes", "Keys and values", *(name[6:] for name, _ in reference.commands())]


def test_only_known_commands_return_1() -> None:
    assert set(errors.NO_MEANS) <= {name.removeprefix("memdb ") for name, _ in reference.commands()}


def test_every_command_but_interactive_ones_prints_json() -> None:
    for name, command in reference.commands():
        options = {option for one in command.params for option in one.opts}
        assert "--json" in options, name
        assert all(isinstance(one, click.Argument) or one.help for one in command.params), name  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------- shapes of --json


def _example(name: str) -> Any:
    section = _TEXT.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
    (found,) = re.findall(r"^```json\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return json.loads(found)


def _same_shape(example: Any, actual: Any, at: str = "$") -> None:
    """Every name of the example is there, with a value of the same kind; null stands for any kind."""
    if example is None or actual is None:
        return
    if isinstance(example, dict):
        assert isinstance(actual, dict) and example.keys() <= actual.keys(), f"{at}: {example} and {actual}"
        for name, value in example.items():
            _same_shape(value, actual[name], f"{at}.{name}")
    elif isinstance(example, list):
        assert isinstance(actual, list), at
        if example and actual:
            _same_shape(example[0], actual[0], f"{at}[0]")
    elif isinstance(example, bool) or not isinstance(example, int | float):
        assert type(example) is type(actual), f"{at}: {example!r} and {actual!r}"
    else:
        assert isinstance(actual, int | float) and not isinstance(actual, bool), f"{at}: {actual!r}"


_ARGUMENTS = {
    "check": ["data"],
    "collections": ["data"],
    "compact": ["data"],
    "delete": ["data", "user:2"],
    "delete-where": ["data", "people", '{"_id": "bob"}'],
    "doctor": ["data"],
    "drop-collection": ["data", "people"],
    "explain": ["data", "people", '{"age": {"$gte": 18}}'],
    "find": ["data", "people"],
    "gc": ["data"],
    "get": ["data", "user:1"],
    "index": ["data", "people"],
    "info": ["data"],
    "insert": ["data", "people", '{"_id": "eve"}'],
    "readers": ["data"],
    "rename-collection": ["data", "people", "persons"],
    "scan": ["data", "--prefix", "user:1"],
    "set": ["data", "user:1", "{}"],
    "top": ["data", "--once", "--interval", "0.05", "--probe"],
    "update-where": ["data", "people", "{}", '{"age": 26}'],
}


@pytest.mark.parametrize("name", _ARGUMENTS)
def test_json_has_the_shape_of_the_page(cli: Run, data: str, tmp_path: Path, name: str) -> None:
    with memdb.open(tmp_path / data) as db, db.snapshot():
        db.update({"user:1": {"name": "Alice"}, "user:2": 2})
        people = db.collection("people")
        people.insert({"_id": "bob", "name": "Bob", "age": 25})
        people.create_index("age")
        (tmp_path / data / "MANIFEST.tmp").write_bytes(b"half")  # for gc to speak of
        done = cli(*name.split(), *_ARGUMENTS[name], "--json")
    assert done.returncode == errors.OK, done.stderr
    (actual,) = [json.loads(line) for line in done.stdout.splitlines()]
    example = _example(name)
    if name == "doctor":
        wanted = example["checks"][0]["check"]
        actual["checks"] = [one for one in actual["checks"] if one["check"] == wanted]
    if name != "info":  # more parts than the page has room for
        assert example.keys() == actual.keys()
    _same_shape(example, actual)


def test_json_of_the_files(cli: Run, data: str) -> None:
    cli("set", data, "user:1", "1")
    assert json.loads(cli("stop", data, "--json").stdout).keys() == _example("stop").keys()
    for name in ("wal dump", "checkpoint dump"):
        example = _example(name)
        rows = [json.loads(line) for line in cli(*name.split(), data, "--json").stdout.splitlines()]
        _same_shape(example, next(row for row in rows if row["type"] == example["type"]))


def test_json_of_serve(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "serve", str(tmp_path / "data"), "--json"], stdout=subprocess.PIPE, env=environment()
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "serving":
                break
        process.terminate()
        process.communicate(timeout=60)
    example = _example("serve")
    assert example.keys() == event.keys()
    _same_shape(example, event)


def test_json_of_the_demo(cli: Run) -> None:
    actual = json.loads(cli("demo", "--limit", "1000", "--json").stdout)
    assert actual.keys() == _example("demo").keys()
    _same_shape(_example("demo"), actual)


# ------------------------------------------------------------------------------------------ exit codes


def test_ctrl_c_is_130(cli: Run, data: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "shell", data],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=tmp_path, env=environment(),
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"count\n" * 10_000)  # more than a read-ahead holds: it is at work
        process.stdin.flush()
        assert process.stdout.readline() == b"0\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == errors.INTERRUPTED and err == b"memdb: interrupted\n"


def test_a_reader_that_has_enough_is_no_error(cli: Run, data: str, tmp_path: Path) -> None:
    with memdb.open(tmp_path / data) as db:
        db.update(dict.fromkeys(range(5000), "x" * 100))
        with subprocess.Popen(
            [*COMMAND, "scan", data, "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(),
        ) as process:  # fmt: skip
            assert process.stdout is not None and process.stderr is not None
            process.stdout.readline()
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(timeout=60) == errors.UNREAD


def test_compact_shows_a_bar_on_a_terminal_only(cli: Run, data: str, tmp_path: Path) -> None:
    with memdb.open(tmp_path / data) as db:
        db.update({number: os.urandom(50) for number in range(2000)})
        with Terminal("compact", data, cwd=tmp_path) as terminal:
            terminal.wait_for("generation")
            terminal.wait_for("done in")
            assert terminal.end() == errors.OK
        done = cli("compact", data)
        assert done.returncode == errors.OK and done.stderr == b"" and len(db) == 2000
