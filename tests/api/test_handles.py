"""Opening, closing, sharing: options, places, threads, forks, pickles, and the calls that run the engine."""

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from program import environment, store_pid

import memdb

Opener = Callable[..., memdb.Database]


def test_open_close_open(opened: Opener, data: Path) -> None:
    db = opened()
    assert db.path == str(data) and not db.closed
    db["a"] = [1]
    db.close()
    db.close()
    assert db.closed and "closed" in repr(db)
    with opened() as again:
        assert again["a"] == [1]
    assert again.closed


def test_a_closed_handle(opened: Opener) -> None:
    db = opened()
    db["a"] = 1
    iterator = iter(db)
    db.close()
    calls: list[Callable[[], object]] = [
        lambda: db["a"],
        lambda: db.get("a"),
        lambda: db.set("a", 1),
        lambda: db.delete("a"),
        lambda: "a" in db,
        lambda: len(db),
        lambda: list(db),
        lambda: next(iterator),
        lambda: db.get_many(["a"]),
        lambda: db.set_many({"a": 1}),
        lambda: db.delete_many(["a"]),
        lambda: db.update(a=1),
        lambda: db.pop("a"),
        lambda: db.popitem(),
        lambda: db.clear(),
        lambda: db.setdefault("a"),
        lambda: db.delete_range(),
        lambda: db.snapshot(),
        lambda: db.entry("a"),
        lambda: db.lsn,
        lambda: db.durable_lsn,
        lambda: db.info(),
        lambda: db.readers(),
        lambda: db.sync(),
        lambda: db.checkpoint(),
        lambda: db.rotate_wal(),
        lambda: db.clear_wal(),
        lambda: db.compact(),
        lambda: db.check(),
        lambda: db.disk_usage(),
        lambda: db.memory_usage(),
        lambda: db.outcome(bytes(24)),
        lambda: db.__enter__(),
        lambda: list(db.range()),
        lambda: db.exists("a"),
        lambda: db == {},
    ]
    for number, call in enumerate(calls):
        with pytest.raises(memdb.ClosedError, match="closed"):
            call()
            pytest.fail(f"call {number} did not raise")


def test_handles_share_one_attachment(opened: Opener, data: Path) -> None:
    one, other = opened(), opened(Path(os.path.relpath(data)))
    one["a"] = 1
    assert other["a"] == 1 and len(one.info().clients) == 1
    one.close()
    assert other["a"] == 1


def test_readonly(opened: Opener) -> None:
    writer, db = opened(), opened(readonly=True)
    writer["a"] = 1
    assert db["a"] == 1 and list(db) == ["a"]
    calls: list[Callable[[], object]] = [
        lambda: db.__setitem__("b", 1),
        lambda: db.set("b", 1),
        lambda: db.__delitem__("a"),
        lambda: db.delete("a"),
        lambda: db.set_many({}),
        lambda: db.delete_many([]),
        lambda: db.update(),
        lambda: db.pop("zz", 1),
        lambda: db.popitem(),
        lambda: db.setdefault("a"),
        lambda: db.clear(),
        lambda: db.delete_range(5, 1),
        lambda: db.__ior__({}),
    ]
    for call in calls:
        with pytest.raises(memdb.ReadOnlyError, match="readonly"):
            call()
    assert dict(writer) == {"a": 1}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"unknown": 1}, TypeError),
        ({"durability": "fsync"}, ValueError),
        ({"max_memory": "1 parsec"}, ValueError),
        ({"max_memory": 1.5}, TypeError),
        ({"linger": "2"}, TypeError),
        ({"segment_bytes": "1MiB", "max_transaction_bytes": "1MiB"}, ValueError),
        ({"keep_checkpoints": 1}, ValueError),
        ({"readonly": "yes"}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"ttl": 1}, TypeError),
    ],
    ids=repr,
)
def test_bad_options(data: Path, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        memdb.open(data, **options)
    assert not data.exists()


@pytest.mark.parametrize("path", [5, b"data", "a\0b", object()], ids=lambda path: type(path).__name__)
def test_bad_paths(path: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        memdb.open(path)


def test_other_options(opened: Opener) -> None:
    opened(max_memory="64MiB")
    with pytest.raises(memdb.OptionMismatch, match="max_memory") as caught:
        opened(max_memory="32MiB")
    assert ("max_memory", 32 << 20, 64 << 20) in caught.value.mismatches


def test_places_that_are_none(opened: Opener, data: Path) -> None:
    data.mkdir()
    (data / "letter.txt").write_text("dear")
    with pytest.raises(memdb.NotADatabase, match=r"letter\.txt"):
        opened()
    with pytest.raises(memdb.NotADatabase):
        opened(data / "letter.txt")
    with pytest.raises(memdb.NotADatabase):
        opened(data / "letter.txt" / "inside")
    with pytest.raises(memdb.NotADatabase, match="create"):
        opened(data.parent / "missing", create=False)
    assert not (data.parent / "missing").exists()


def test_threads_share_a_handle(db: memdb.Database) -> None:
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for n in range(200):
                db[name, n] = n
                assert db[name, n] == n
            assert len(list(db.range(prefix=(name,)))) == 200
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(db) == 1600


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_handles_cross_into_other_processes(db: memdb.Database, method: str) -> None:
    db["parent"] = 1
    context = multiprocessing.get_context(method)
    children = [context.Process(target=store_pid, args=(db, f"child {n}")) for n in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert set(db.values(prefix="child")) == {child.pid for child in children}
    db["after"] = 1


def test_a_pickle_is_path_and_options(opened: Opener) -> None:
    db = opened(durability="full", timeout=12)
    copy = pickle.loads(pickle.dumps(db))
    db["a"] = 1
    assert copy["a"] == 1 and copy.path == db.path
    copy.close()
    assert db["a"] == 1


def test_unrelated_processes_share_a_directory(db: memdb.Database, data: Path) -> None:
    program = (
        "import memdb, sys\n"
        "db = memdb.open(sys.argv[1])\n"
        "db[sys.argv[2]] = db['n'] + int(sys.argv[2])\n"
        "print(db[sys.argv[2]])\n"
    )
    db["n"] = 10
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(data), str(n)], stdout=subprocess.PIPE, text=True
        )
        for n in range(4)
    ]
    assert [run.communicate(timeout=60)[0] for run in runs] == [f"{10 + n}\n" for n in range(4)]
    assert db == {"n": 10, "0": 10, "1": 11, "2": 12, "3": 13}


def test_in_memory_only() -> None:
    with memdb.open(linger=0, max_memory="16MiB") as db:
        db["a"] = 1
        assert db["a"] == 1
        copy = pickle.loads(pickle.dumps(db))
        assert copy["a"] == 1
        copy.close()
        place = db.path
        assert [
            one for one in Path(place).rglob("*") if one.suffix in (".log", ".ckpt") and "wal" in one.parts
        ] == []
        pickled = pickle.dumps(db)
    assert not Path(place).exists()
    with pytest.raises(memdb.EngineDied, match=r"memory-only .* open a new one"):
        pickle.loads(pickled)
    assert not Path(place).exists()


def test_a_memory_only_database_that_was_stopped_says_so() -> None:
    with memdb.open(max_memory="16MiB") as db:
        db._attachment.stop()
        assert not Path(db.path).exists()
        with pytest.raises(memdb.EngineDied, match="memory-only") as caught:
            db["a"] = 1
        assert "put it back" not in str(caught.value)


def test_names_that_are_no_utf8(opened: Opener, tmp_path: Path) -> None:
    """Of a directory, and of a client's command line: the engine tells both, and must not die of them."""
    odd = os.fsdecode(b"\xff\xfe")
    db = opened(tmp_path / odd)
    before = db.info()
    assert before.path == db.path == str(tmp_path / odd)
    program = "import sys, memdb; db = memdb.open(sys.argv[2]); db['a'] = 1; input()"
    command = ["python", "-c", program, odd, db.path]  # what is told of a command line is its beginning
    with subprocess.Popen(
        command, executable=sys.executable, stdin=subprocess.PIPE, env=environment()
    ) as client:
        while "a" not in db and client.poll() is None:
            pass
        after = db.info()
        client.communicate(b"\n", timeout=60)
    assert [odd in one["command"] for one in after.clients if one["pid"] == client.pid] == [True]
    assert after.processes["supervisor"].pid == before.processes["supervisor"].pid
    assert json.loads(json.dumps(after.to_dict()))["path"] == db.path


def test_info_is_typed_and_printable(db: memdb.Database, data: Path) -> None:
    db["a"] = 1
    info = db.info()
    assert {"supervisor", "writer", "checkpointer", "reaper"} <= set(info.processes)
    for process in info.processes.values():
        assert process.pid > 0 and process.restarts == 0
    assert info.path == str(data) and str(info.processes["writer"].pid) in str(info)
    assert [client["pid"] for client in info.clients] == [os.getpid()]
    found = json.loads(json.dumps(info.to_dict()))
    assert found["processes"]["writer"]["pid"] == info.processes["writer"].pid
    for part in ("arena", "wal", "checkpoints", "recovery", "readers", "clients", "options"):
        assert part in found
    assert info.arena.limit == 64 << 20 and info.options["linger"] == 0


def test_running_it(db: memdb.Database, data: Path) -> None:
    db.set_many((n, b"x" * 100) for n in range(2000))
    assert db.sync() == db.lsn == db.durable_lsn
    assert db.checkpoint() >= db.lsn
    db.rotate_wal()
    db["b"] = 1
    db.clear_wal()
    db.compact()
    db["c"] = 2
    assert len(db) == 2002 and db["b"] == 1 and db[77] == b"x" * 100
    report = db.check()
    assert report.ok and report and report.problems == [] and "no problems" in str(report)
    assert report.figures["keys"] == 2002, "those of the mapping, and none of the engine's own"
    json.dumps(report.to_dict())
    disk = db.disk_usage()
    assert disk.wal > 0 and disk.checkpoints > 0 and disk.total > disk.wal + disk.checkpoints
    assert disk.files >= 3, "the manifest, a segment and a checkpoint"
    memory = db.memory_usage()
    assert memory.keys == 2002 and 0 < memory.used <= memory.limit == 64 << 20
    assert memory.to_dict()["used"] == memory.used and disk.to_dict()["wal"] == disk.wal


def test_a_full_arena_says_so_and_deletes_make_room(opened: Opener) -> None:
    db = opened(max_memory="4MiB")
    with pytest.raises(memdb.ArenaFullError, match="max_memory") as caught:
        for n in range(100_000):
            db[n] = b"x" * 1000
    assert isinstance(caught.value, MemoryError)
    assert db[0] == b"x" * 1000
    kept = len(db)
    assert kept > 1000 and db.delete_range(0, kept // 2) == kept // 2
    for n in range(100):
        db["again", n] = b"x" * 1000
    assert len(db.keys(prefix=("again",))) == 100


def test_version_and_names() -> None:
    assert memdb.__version__ and "open" in dir(memdb) and "Database" in dir(memdb)
    for name in memdb.__all__:
        assert getattr(memdb, name) is not None
    with pytest.raises(AttributeError):
        memdb.nothing  # noqa: B018
    assert (
        not memdb.MISSING
        and repr(memdb.MISSING) == "memdb.MISSING"
        and pickle.loads(pickle.dumps(memdb.MISSING)) is memdb.MISSING
    )


def test_a_checkout_without_its_kernel_does_not_shadow_the_installed_package(tmp_path: Path) -> None:
    package = Path(memdb.__path__[0])
    shutil.copytree(package, tmp_path / "memdb", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    program = "import memdb; print(memdb.open.__module__, memdb.Database.__module__, *memdb.__path__)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == f"memdb memdb.database {package}\n"


def test_options_that_exclude_each_other_leave_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="segment_bytes"):
        memdb.open(tmp_path / "new", segment_bytes="32MiB")
    assert list(tmp_path.iterdir()) == []


def test_an_option_is_compared_with_the_running_engine_not_with_the_defaults(opened: Opener) -> None:
    opened(segment_bytes="16MiB", max_transaction_bytes="8MiB")
    opened(segment_bytes="16MiB").close()
    with pytest.raises(memdb.OptionMismatch, match="segment_bytes is 16MiB, not 32MiB"):
        opened(segment_bytes="32MiB")


def test_a_new_group_has_the_options_of_the_one_that_died(opened: Opener, data: Path) -> None:
    db = opened(max_memory="64MiB")
    memdb.open(data).close()
    for process in db.info().processes.values():
        os.kill(process.pid, signal.SIGKILL)
    db["a"] = 1
    assert db.info().options.max_memory == 64 << 20


def test_info_of_a_stopped_supervisor_ends_with_timeout(opened: Opener) -> None:
    db = opened(timeout=0.3)
    db["a"] = 1
    supervisor = db.info().processes["supervisor"].pid
    os.kill(supervisor, signal.SIGSTOP)
    try:
        for call in (db.info, db.readers, db.disk_usage):
            with pytest.raises(memdb.Timeout, match="not answered"):
                call()
        assert db["a"] == 1
    finally:
        os.kill(supervisor, signal.SIGCONT)
    assert db.info().phase == "serving"
