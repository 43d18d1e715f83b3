"""Commands on documents, from a command line and from `memdb shell`."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import memdb
from memdb.cli import errors
from memdb.cli.program import main
from memdb.layering import SpaceKey

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]

PEOPLE = [
    {"_id": "alice", "name": "Alice", "age": 30, "city": "Bern"},
    {"_id": "bob", "name": "Bob", "age": 25, "city": "Rome"},
    {"_id": "carol", "name": "Carol", "age": 41, "city": "Rome"},
]


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(row)}\n" for row in rows).encode()


def _rows(done: subprocess.CompletedProcess[bytes]) -> list[Any]:
    assert done.returncode == errors.OK, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """As `cli`, within this process: for what needs many commands."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        done = CliRunner().invoke(main, list(arguments), input=stdin, prog_name="memdb")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout_bytes, done.stderr_bytes)

    return run


@pytest.fixture
def people(data: str, tmp_path: Path) -> Iterator[str]:
    """A database with three people, and an engine that stays while the test runs."""
    with memdb.open(tmp_path / data) as db:
        db.collection("people").insert_many(PEOPLE)
        yield data


def test_json_lines_in_and_out(cli: Run, data: str) -> None:
    done = cli("insert", data, "people", "--batch", "2", stdin=b"\n" + _lines(PEOPLE))
    assert done.returncode == errors.OK and done.stdout == b"3 documents inserted\n"
    out = cli("find", data, "people", "--json")
    assert _rows(out) == PEOPLE
    assert _rows(cli("insert", data, "again", "--json", stdin=out.stdout)) == [
        {"_id": row["_id"]} for row in PEOPLE
    ]
    assert _rows(cli("collections", data, "--json")) == [
        {"name": "again", "documents": 3, "indexes": []},
        {"name": "people", "documents": 3, "indexes": []},
    ]


def test_types_that_json_lacks_go_round(here: Run, data: str, tmp_path: Path) -> None:
    given = {"at": {"$datetime": "2026-01-02T03:04:05+00:00"}, "raw": {"$bytes": "AP8="}, "set": [1]}
    (made,) = _rows(here("insert", data, "things", json.dumps(given), "--json"))
    assert uuid.UUID(made["_id"]["$uuid"]).version == 7
    text = json.dumps({"_id": made["_id"]})
    assert _rows(here("find", data, "things", text, "--json")) == [{"_id": made["_id"], **given}]
    later = '{"at": {"$gt": {"$datetime": "2026-01-02T03:04:04+00:00"}}}'
    assert here("find", data, "things", later, "--count").stdout == b"1\n"


def test_find(here: Run, people: str) -> None:
    done = here("find", people, "people", '{"city": "Rome"}', "--sort", "-age", "--fields", "name", "--json")
    assert _rows(done) == [{"_id": "carol", "name": "Carol"}, {"_id": "bob", "name": "Bob"}]
    done = here("find", people, "people", "--sort", "city,-age", "--skip", "1", "--limit", "1")
    assert done.stdout == b"{'_id': 'carol', 'name': 'Carol', 'age': 41, 'city': 'Rome'}\n"
    assert done.stderr == b""
    assert _rows(here("find", people, "people", "--count", "--json")) == [{"count": 3}]


def test_find_shows_people_a_hundred(here: Run, data: str, tmp_path: Path) -> None:
    with memdb.open(tmp_path / data) as db:
        db.collection("many").insert_many([{"_id": number} for number in range(150)])
    done = here("find", data, "many")
    assert done.stdout.count(b"\n") == 100 and b"100 documents shown" in done.stderr
    assert len(_rows(here("find", data, "many", "--json"))) == 150


def test_update_and_delete(here: Run, people: str) -> None:
    done = here("update-where", people, "people", '{"city": "Rome"}', '{"$inc": {"age": 1}}')
    assert done.stdout == b"2 documents updated\n"
    assert _rows(here("find", people, "people", '{"_id": "bob"}', "--json"))[0]["age"] == 26
    assert _rows(here("delete-where", people, "people", '{"age": {"$gt": 40}}', "--json")) == [{"deleted": 1}]
    for arguments in (["delete-where", people, "people", '{"age": 99}'],
                      ["update-where", people, "people", '{"age": 99}', "{}"]):  # fmt: skip
        done = here(*arguments)
        assert done.returncode == errors.NO and b"no document of 'people' matches" in done.stderr
    assert here("find", people, "people", "--count").stdout == b"2\n"


def test_index_and_explain(here: Run, people: str) -> None:
    done = here("index", people, "people", "city,-age", "--json")
    assert _rows(done) == [
        {"name": "city,-age", "fields": ["city", "-age"], "key": None, "unique": False, "where": None,
         "ready": True}
    ]  # fmt: skip
    (plan,) = _rows(here("explain", people, "people", '{"city": "Rome"}', "--sort", "-age", "--json"))
    assert (plan["index"], plan["returned"], plan["sorted_in_memory"]) == ("city,-age", 2, False)
    assert b"city,-age" in here("explain", people, "people", '{"city": "Rome"}').stdout
    done = here(
        "index", people, "people", "--name", "adult", "--where", '{"age": {"$gte": 18}}', "--", "-age"
    )
    assert done.returncode == errors.OK, done.stderr
    assert b"adult" in done.stdout and b"$gte" in done.stdout
    done = here("index", people, "people", "city", "--unique")
    assert done.returncode == errors.USAGE and b"DuplicateKeyError" in done.stderr
    assert b"city,-age" not in here("index", people, "people", "--drop", "city,-age").stdout
    done = here("index", people, "people", "--drop", "city,-age")
    assert done.returncode == errors.NO and b"no index 'city,-age'; there are: adult" in done.stderr
    (left,) = _rows(here("index", people, "people", "--json"))
    assert (left["name"], left["where"]) == ("adult", {"age": {"$gte": 18}})


def test_drop_and_rename(here: Run, people: str) -> None:
    assert here("rename-collection", people, "people", "persons").returncode == errors.OK
    assert _rows(here("find", people, "persons", "--json")) == PEOPLE
    assert _rows(here("drop-collection", people, "persons", "--json")) == [{"dropped": "persons"}]
    assert here("collections", people, "--json").stdout == b""


def test_no_such_collection(here: Run, people: str) -> None:
    for name, *rest in (
        ["find", "nope"], ["explain", "nope"], ["delete-where", "nope", "{}"], ["index", "nope"],
        ["update-where", "nope", "{}", '{"a": 1}'], ["drop-collection", "nope"],
        ["index", "nope", "--drop", "x"], ["rename-collection", "nope", "other"],
    ):  # fmt: skip
        done = here(name, people, *rest)
        assert done.returncode == errors.NO, name
        assert b"no collection 'nope'; there are: people" in done.stderr and done.stdout == b""
    assert [row["name"] for row in _rows(here("collections", people, "--json"))] == ["people"]


WRONG = [
    (["find", "people", "{oops"], "FILTER"),
    (["find", "people", "[1]"], "FILTER"),
    (["find", "people", '{"age": {"$get": 1}}'], "InvalidFilter"),
    (["find", "people", "--sort", "a,,b"], "FIELDS"),
    (["insert", "people", "5"], "DOCUMENT"),
    (["insert", "people", '{"_id": "bob"}'], "DuplicateKeyError"),
    (["update-where", "people", "{}", "7"], "CHANGES"),
    (["update-where", "people", "{}", '{"$inc": {"name": 1}}'], "name"),
    (["index", "people", "--unique"], "FIELDS"),
    (["index", "people", "age", "--drop", "age"], "--drop"),
    (["insert", "people", '{"a": {"$uuid": "x"}}'], "uuid"),
    (["rename-collection", "people", "people2", "x"], "x"),
]


def test_wrong_usage(here: Run, people: str) -> None:
    for (name, *rest), word in WRONG:
        done = here(name, people, *rest)
        assert done.returncode == errors.USAGE, (name, rest, done.stderr)
        assert word in done.stderr.decode() and b"Traceback" not in done.stderr
    assert _rows(here("find", people, "people", "--json")) == PEOPLE


def test_what_was_inserted_before_an_error_is_told(here: Run, people: str) -> None:
    rows = [{"_id": number} for number in range(5)]
    done = here("insert", people, "people", "--batch", "2", stdin=_lines(rows) + b'{"half\n')
    assert done.returncode == errors.USAGE
    assert done.stdout == b"4 documents inserted\n" and b"line 6" in done.stderr
    assert here("find", people, "people", "--count").stdout == b"7\n"


def test_check_compares_indexes_with_documents(here: Run, people: str, tmp_path: Path) -> None:
    (facts,) = _rows(here("check", people, "--json"))
    assert facts["ok"] and facts["collections"] == 1
    with memdb.open(tmp_path / people) as db:
        found = db.collection("people")
        found.create_index("age")
        entries = list(
            db.range(SpaceKey(bytes.fromhex("04000000010001")), SpaceKey(bytes.fromhex("04000000010002")))
        )
        assert len(entries) == 3
        db.transact(lambda tx: tx.delete(SpaceKey(entries[0][0])))
        done = here("check", people, "--json")
        assert done.returncode == errors.NO
        facts = json.loads(done.stdout)
        assert not facts["ok"] and facts["problems"][0]["where"] == "people, index age"


def test_commands_that_only_look_make_no_database(here: Run, tmp_path: Path) -> None:
    for arguments in (["collections"], ["find", "people"], ["explain", "people"], ["index", "people"],
                      ["index", "people", "age"], ["delete-where", "people", "{}"]):  # fmt: skip
        name, *rest = arguments
        assert here(name, "nowhere", *rest).returncode == errors.PLACE
    assert not (tmp_path / "nowhere").exists()


# ------------------------------------------------------------------------------------------------ the shell


def _shell(run: Run, data: str, *lines: str, code: int = errors.OK) -> list[Any]:
    done = run("shell", data, "--json", stdin="\n".join(lines).encode())
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_shell(here: Run, data: str) -> None:
    answers = _shell(
        here, data,
        "insert people {'_id': 1, 'age': 30} {'_id': 2, 'age': 25}", "index people age", "index people",
        "find people {'age': {'$gt': 26}}", 'find people {"age": null} --count',
        "find people --sort -age --limit 1",
        "update-where people {} {'$inc': {'age': 1}}",
        "find people --sort -age --fields age",
        "explain people {'age': 26}", "delete-where people {'_id': 1}", "collections",
        "rename-collection people folk", "drop-collection folk", "collections",
    )  # fmt: skip
    index = {"name": "age", "fields": ["age"], "key": None, "unique": False, "where": None, "ready": True}
    assert answers[:6] == [{"_id": 1}, {"_id": 2}, index, index, {"_id": 1, "age": 30}, {"count": 0}]
    assert answers[6:11] == [
        {"_id": 1, "age": 30}, {"more": True}, {"updated": 2}, {"_id": 1, "age": 31}, {"_id": 2, "age": 26},
    ]  # fmt: skip
    assert answers[11]["index"] == "age" and answers[12] == {"deleted": 1}
    assert answers[13:] == [
        {"name": "people", "documents": 1, "indexes": ["age"]},
        {"renamed": "people", "to": "folk"},
        {"dropped": "folk"},
    ]


def test_the_shell_for_people(here: Run, people: str) -> None:
    done = here(
        "shell",
        people,
        stdin=b"find people {'name': 'Bob'}\nfind people --count\nupdate-where people {} {'a': 1}",
    )
    assert done.stdout.decode().splitlines() == [
        "{'_id': 'bob', 'name': 'Bob', 'age': 25, 'city': 'Rome'}", "3", "3 documents updated",
    ]  # fmt: skip


def test_documents_in_a_transaction_of_the_shell(here: Run, people: str) -> None:
    answers = _shell(
        here, people, "begin", "insert people {'_id': 5}", "set k 1", "find people --count", "abort",
        "find people --count", "begin", "delete-where people {'_id': 'bob'}", "commit", "find people --count",
    )  # fmt: skip
    counts = [answer["count"] for answer in answers if "count" in answer]
    assert counts == [4, 3, 2]
    answers = _shell(here, people, "begin", "insert new {'_id': 5}", "find new", "collections", "abort")
    assert {"_id": 5} in answers and "new" in [answer.get("name") for answer in answers]
    for line in ("index people age", "drop-collection people", "rename-collection people x"):
        done = here("shell", people, stdin=f"begin\n{line}\n".encode())
        assert done.returncode == errors.USAGE and b"`commit` or `abort`" in done.stderr


def test_the_shell_reads_the_tags_of_json(here: Run, people: str) -> None:
    line = 'insert people {"_id": 7, "day": {"$date": "2026-01-02"}}'
    done = here("shell", people, stdin=f'{line}\nfind people {{"day": {{"$date": "2026-01-02"}}}}\n'.encode())
    assert done.stdout.decode() == "7\n{'_id': 7, 'day': datetime.date(2026, 1, 2)}\n"
    done = here("shell", people, stdin=b'insert people {"$uuid": "x"}')
    assert done.returncode == errors.USAGE and b"is no uuid" in done.stderr


def test_the_shell_completes_collections(tmp_path: Path, data: str, people: str) -> None:
    from memdb.cli.shell import Completer
    from memdb.cli.shell_commands import Session

    with memdb.open(tmp_path / data) as db:
        db.create_collection("two words")
        completer = Completer(Session(db), lambda: "find ", lambda: 5)
        assert completer.candidates("find p", 5) == ["people"]
        assert completer.candidates("find ", 5) == ["'two words'", "people"]
        assert completer.candidates("find people ", 12) == []


def test_wrong_lines_of_the_shell(here: Run, people: str) -> None:
    lines = [
        "find", "insert people", "insert people 5", "find people 5", "find people --limit x",
        "find people {'$nope': 1}", "index people --unique", "update-where people {} 5",
    ]  # fmt: skip
    for line in lines:
        done = here("shell", people, stdin=line.encode())
        assert done.returncode == errors.USAGE, (line, done.stderr)
        assert b"Traceback" not in done.stderr


def test_no_such_collection_in_the_shell(here: Run, people: str) -> None:
    done = here("shell", people, stdin=b"index people --drop nope")
    assert done.returncode == errors.NO and b"no index 'nope'; there is none" in done.stderr
    for line in ("find nope", "explain nope", "delete-where nope {}", "index nope", "drop-collection nope"):
        done = here("shell", people, stdin=line.encode())
        assert done.returncode == errors.NO and b"no collection 'nope'" in done.stderr
