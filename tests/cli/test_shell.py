"""`memdb shell`: from a pipe with exit codes, and on a terminal with completion and history."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.terminal import Terminal

import memdb
from memdb.cli import errors
from memdb.cli.shell import Completer
from memdb.cli.shell_commands import COMMANDS, Session

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def _json(cli: Run, data: str, *lines: str, code: int = errors.OK) -> list[Any]:
    done = cli("shell", data, "--json", stdin="\n".join(lines).encode())
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_data_calls_from_a_pipe(cli: Run, data: str) -> None:
    answers = _json(
        cli, data,
        "# a comment", "",
        'set user:1 {"name": "Alice", "ok": true}', "set ('k', 1) 'it is'", "set ('k', 2) 2.5",
        "get user:1", "get ('k', 1)", "count", "count ('k',)",
        "scan ('k',) --reverse --limit 1", "scan --keys --stop ('k',)", "delete user:1 ('k', 1)", "count",
    )  # fmt: skip
    assert answers == [
        {"written": True}, {"written": True}, {"written": True},
        {"key": "user:1", "value": {"name": "Alice", "ok": True}},
        {"key": {"$tuple": ["k", 1]}, "value": "it is"},
        {"count": 3}, {"count": 2},
        {"key": {"$tuple": ["k", 2]}, "value": 2.5}, {"more": True},
        {"key": "user:1"},
        {"deleted": 2}, {"count": 1},
    ]  # fmt: skip


def test_for_people(cli: Run, data: str) -> None:
    text = "set a 1\nset '1' x\nset 1 [1, 2]\nscan\nget '1'\ncount\nset a 2\nget a\nquit\nget a"
    done = cli("shell", data, stdin=text.encode())
    assert done.returncode == errors.OK, done.stderr
    assert done.stdout.decode().splitlines() == ["'1' = 'x'", "a = 1", "1 = [1, 2]", "'x'", "3", "2"]


def test_expiry(cli: Run, data: str) -> None:
    answers = _json(
        cli, data, "set k 1 --ttl 1000", "ttl k", "persist k", "ttl k", "expire k 500", "ttl k",
        "set k 2 --if-absent", code=errors.NO,
    )  # fmt: skip
    assert 990 < answers[1]["ttl"] <= 1000 and answers[2] == {"removed": True}
    assert answers[3] == {"ttl": None} and answers[4] == {"set": True} and 490 < answers[5]["ttl"] <= 500
    assert answers[6] == {"written": False}


def test_increment(cli: Run, data: str) -> None:
    assert _json(cli, data, "incr n", "incr n 5", "incr n -0.5") == [
        {"value": 1},
        {"value": 6},
        {"value": 5.5},
    ]


def test_transactions(cli: Run, data: str, tmp_path: Path) -> None:
    answers = _json(
        cli, data, "set a 1", "begin", "set a 2", "incr n", "get a", "count", "commit",
        "begin --snapshot", "delete a", "count", "abort", "get a", "begin", "commit",
    )  # fmt: skip
    assert answers[4:6] == [{"key": "a", "value": 2}, {"count": 2}]
    assert answers[6]["committed"] and isinstance(answers[6]["lsn"], int)
    assert answers[9:12] == [{"count": 1}, {"aborted": True}, {"key": "a", "value": 2}]
    assert answers[13] == {"committed": True, "lsn": None}


def test_a_transaction_left_open_is_aborted(cli: Run, data: str) -> None:
    done = cli("shell", data, stdin=b"begin\nset a 1\n")
    assert done.returncode == errors.NO and b"was aborted" in done.stderr
    assert cli("get", data, "a").returncode == errors.NO


def test_exit_codes_from_a_pipe(cli: Run, data: str) -> None:
    done = cli("shell", data, stdin=b"get nope\nset a 1\n")
    assert done.returncode == errors.NO and b"no key 'nope'" in done.stderr
    assert cli("get", data, "a").stdout == b"1\n"
    done = cli("shell", data, stdin=b"set a 2\nset a\nset a 3\n")
    assert done.returncode == errors.USAGE and b"line 2: usage: set KEY VALUE" in done.stderr
    assert cli("get", data, "a").stdout == b"2\n"
    done = cli("shell", data, "--readonly", stdin=b"get a\nset a 4\n")
    assert done.returncode == errors.USAGE and b"ReadOnlyError" in done.stderr
    assert cli("shell", data, stdin=b"exit\nnonsense\n").returncode == errors.OK
    assert cli("shell", "nowhere", "--readonly").returncode == errors.PLACE


@pytest.mark.parametrize(
    "line",
    [
        "frobnicate", "get", "get a b", "get 'a", "set a (1", "scan --limit x", "scan --nope", "scan --start",
        "commit", "abort", "expire a soon", "help nonsense", "begin\nbegin", "expire a -1",
    ],
)  # fmt: skip
def test_wrong_lines(cli: Run, data: str, line: str) -> None:
    done = cli("shell", data, stdin=line.encode())
    assert done.returncode == errors.USAGE, done.stderr
    assert b"Traceback" not in done.stderr


def test_help_names_every_command(cli: Run, data: str) -> None:
    answers = _json(cli, data, "help", "help scan")
    assert [row["command"].split()[0] for row in answers[:-1]] == list(COMMANDS)
    assert "--reverse" in answers[-1]["command"]


# ------------------------------------------------------------------------------------------ completion


@pytest.fixture
def complete(data: str, tmp_path: Path) -> Iterator[Callable[[str], list[str]]]:
    with memdb.open(tmp_path / data) as db:
        db.update({"user:1": 1, "user:2": 2, "with space": 3, "it": 4, ("k", 1): 5, ("k", 2): 6, 7: 8})
        db[uuid.UUID(int=5)] = 9
        session = Session(db)

        def candidates(typed: str) -> list[str]:
            begin = max(typed.rfind(" "), typed.rfind("\t")) + 1
            completer = Completer(session, lambda: typed, lambda: begin)
            found = []
            while (one := completer.complete(typed[begin:], len(found))) is not None:
                found.append(typed[:begin] + one)
            return found

        yield candidates


def test_completion(complete: Callable[[str], list[str]]) -> None:
    assert complete("s") == ["set ", "scan "]
    assert complete("get us") == ["get user:1", "get user:2"]
    assert complete("scan --r") == ["scan --reverse "]
    assert complete("get 'wi") == ["get 'with space'"]
    assert complete("get ('k', ") == ["get ('k', 1)", "get ('k', 2)"]
    assert complete("get (") == ["get ('k', 1)", "get ('k', 2)"]
    assert complete("delete user:1 i") == ["delete user:1 it"]
    assert complete("help sc") == ["help scan"]
    assert complete("set user:1 us") == [] and complete("nonsense u") == [] and complete("commit u") == []
    assert complete("get (1, [") == [] and complete("get zzz") == []


def test_completion_survives_a_closed_handle(data: str, tmp_path: Path) -> None:
    db = memdb.open(tmp_path / data)
    session = Session(db)
    db.close()
    assert Completer(session, lambda: "get a", lambda: 4).complete("a", 0) is None


# --------------------------------------------------------------------------------------- on a terminal


def test_on_a_terminal(cli: Run, data: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    with Terminal("shell", data, cwd=tmp_path, XDG_STATE_HOME=str(state)) as terminal:
        terminal.wait_for("memdb data> ")
        terminal.type("set user:77 {'name': 'Alice'}\n")
        terminal.wait_for("memdb data> ")
        terminal.type("get us\t\n")  # Tab
        assert b"{'name': 'Alice'}" in terminal.wait_for("memdb data> ")
        terminal.type("nonsense\n")
        assert b"no command" in terminal.wait_for("memdb data> ")
        terminal.type("begin\n")
        terminal.wait_for("memdb data*> ")
        terminal.type("set a 1\n")
        terminal.wait_for("memdb data*> ")
        terminal.type("half a li")
        terminal.wait_for("half a li")
        terminal.interrupt("memdb data*> ")  # Ctrl-C drops the line, not the transaction
        terminal.type("commit\n")
        assert b"LSN" in terminal.wait_for("memdb data> ")
        terminal.type("\x04")  # Ctrl-D
        assert terminal.end() == errors.OK
    history = state / "memdb" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700
    assert history.read_text().splitlines() == [
        "set user:77 {'name': 'Alice'}", "get user:77", "nonsense", "begin", "set a 1", "commit",
    ]  # fmt: skip
    with Terminal("shell", data, cwd=tmp_path, XDG_STATE_HOME=str(state)) as terminal:
        terminal.wait_for("memdb data> ")
        terminal.type("\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A\n")  # five up
        assert b"{'name': 'Alice'}" in terminal.wait_for("memdb data> ")
        terminal.type("begin\n")
        terminal.wait_for("memdb data*> ")
        terminal.type("exit\n")
        terminal.wait_for("was aborted")
        assert terminal.end() == errors.OK


def test_a_history_that_can_not_be_written_is_told_once(cli: Run, data: str, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    with Terminal("shell", data, cwd=tmp_path, XDG_STATE_HOME=str(tmp_path / "state")) as terminal:
        assert b"no history" in terminal.wait_for("memdb data> ")
        terminal.type("exit\n")
        assert terminal.end() == errors.OK
    with Terminal("shell", data, "--no-history", cwd=tmp_path, HOME=str(tmp_path / "home")) as terminal:
        terminal.wait_for("memdb data> ")
        terminal.type("count\nexit\n")
        assert terminal.end() == errors.OK
    assert not (tmp_path / "home").exists()


def test_a_long_history_is_cut(cli: Run, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from memdb.cli import shell

    monkeypatch.setattr(shell, "_HISTORY_LINES", 5)
    path = tmp_path / "state" / "history"
    path.parent.mkdir()
    path.write_text("".join(f"get {number}\n" for number in range(20)))
    path.chmod(0o644)
    history = shell._History(path)
    history.append("count")
    history.close()
    assert path.read_text().splitlines() == ["get 15", "get 16", "get 17", "get 18", "get 19", "count"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and os.listdir(path.parent) == ["history"]
