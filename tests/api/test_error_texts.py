"""Every error of the table, provoked for real, says what happened, who or what is concerned, the limit with
its unit where there is one, and what to do next.

Owns: one provoked instance of each error, as a user would meet it. Invariant: no error here is made by the
test; where a failing disk or a foreign container is needed, the disk fails below libc (shim/shim.c) or a
real process holds the real lock.
"""

import errno
import os
import pickle
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import api.error_cases_collections  # noqa: F401 - adds its cases
import pytest
from api.error_scene import CASES, Scene, case
from peer import Peer

import memdb
from memdb import errors

LATER = {
    "HistoryLost": "watch and backup",
}
"""Errors of the API that nothing a user can call raises yet, and what will."""


@pytest.fixture
def scene(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    one = Scene(data, tmp_path, monkeypatch)
    yield one
    for close in reversed(one.closing):
        close()


# ------------------------------------------------------------------------------------------------------ use


@case(memdb.ClosedError, what="closed", who="{path}", next="open it again")
def a_closed_handle(scene: Scene) -> None:
    db = scene.open()
    db.close()
    db.get("a")


@case(memdb.ClosedError, what="closed", who="snapshot", next="take a new one")
def a_closed_snapshot(scene: Scene) -> None:
    snapshot = scene.open().snapshot()
    snapshot.close()
    snapshot.get("a")


@case(memdb.ClosedError, what="ended|over|closed|committed", who="transaction", next="begin|new|again")
def an_ended_transaction(scene: Scene) -> None:
    with scene.open().transaction() as tx:
        tx["a"] = 1
    tx["a"] = 2


def _in_a_child(use: Callable[[], object]) -> None:
    """Raises here what *use* raises in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        told = b""
        try:
            use()
        except memdb.Error as error:
            told = pickle.dumps(error)
        finally:
            os.write(writing, told)
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    if told:
        raise pickle.loads(told)


@case(memdb.ForkedHandleError, what="belongs to the process that took it", who="snapshot", next="take one")
def a_snapshot_in_a_child(scene: Scene) -> None:
    with scene.open().snapshot() as snapshot:
        _in_a_child(lambda: snapshot.get("a"))


@case(memdb.ForkedHandleError, what="belongs to the process", who="transaction", next="begin|take|open|start")
def a_transaction_in_a_child(scene: Scene) -> None:
    with scene.open().transaction() as tx:
        _in_a_child(lambda: tx.get("a"))


@case(
    memdb.OptionMismatch,
    what="other options: max_memory is",
    who="{path}",
    limit=r"67108864 bytes|64 ?MiB",
    next="Leave them out|close all",
    facts=("mismatches",),
)
def another_max_memory(scene: Scene) -> None:
    scene.open()
    scene.open(max_memory="128MiB")


@case(
    memdb.OptionMismatch,
    what="linger",
    who="{path}",
    next="[Ll]eave|stop|close",
    facts=("mismatches",),
)
def another_linger_in_another_process(scene: Scene) -> None:
    scene.open()
    Peer(scene.path, linger=77.0)


@case(
    memdb.UnsupportedType,
    what="can't store|no codec knows",
    who=r"object at \$\.a\[1\]",
    next="convert it",
    facts=("type_name", "path"),
)
def an_object_inside_a_value(scene: Scene) -> None:
    scene.open()["k"] = {"a": [1, object()]}


@case(memdb.UnsupportedType, what="NaN", who="float.*key", next="use |instead")
def a_nan_as_a_key(scene: Scene) -> None:
    scene.open()[float("nan")] = 1


@case(
    memdb.KeyTooLarge,
    what="key takes \\d+ bytes|key of \\d+ bytes|key.*\\d+ bytes",
    who="max_key_bytes",
    limit="1024 bytes",
    next="open|larger|shorter|hash",
    facts=("size", "limit"),
)
def a_long_key(scene: Scene) -> None:
    scene.open()["k" * 5000] = 1


@case(
    memdb.ValueTooLarge,
    what=r"value takes \d+ bytes",
    who="max_value_bytes",
    limit="1048576 bytes",
    next="in parts|larger",
    facts=("size", "limit"),
)
def a_large_value(scene: Scene) -> None:
    scene.open()["k"] = bytes(2 << 20)


@case(
    memdb.TransactionTooLarge,
    what=r"\d+|more than",
    who="max_transaction_bytes",
    limit=r"1048576 bytes",
    next="smaller|larger|parts|fewer",
    facts=("limit",),
)
def a_large_commit(scene: Scene) -> None:
    scene.open(max_transaction_bytes="1MiB").set_many((n, bytes(1000)) for n in range(5000))


@case(
    memdb.TransactionTooLarge,
    what=r"\d+|more than",
    who="max_transaction_bytes",
    limit=r"1048576 bytes",
    next="smaller|larger|parts|fewer",
    facts=("limit",),
)
def a_large_transaction(scene: Scene) -> None:
    with scene.open(max_transaction_bytes="1MiB").transaction() as tx:
        for n in range(5000):
            tx[n] = bytes(1000)


@case(memdb.ReadOnlyError, what="readonly=True", who="this handle", next="open another")
def a_write_through_a_readonly_handle(scene: Scene) -> None:
    scene.open()
    scene.open(readonly=True)["a"] = 1


# -------------------------------------------------------------------------------------------------- places


@case(memdb.NotADatabase, what="does not exist", who="{path}", next="create=", facts=("path",))
def a_missing_directory(scene: Scene) -> None:
    scene.open(create=False)


@case(
    memdb.NotADatabase, what="holds other things", who="{path}", next="directory of its own", facts=("path",)
)
def a_directory_of_other_things(scene: Scene) -> None:
    scene.path.mkdir()
    (scene.path / "letters.txt").write_text("dear")
    scene.open()


@case(memdb.UnsupportedFilesystem, what="NFS", who="{path}", next="allow_network_fs=True", facts=("path",))
def a_network_file_system(scene: Scene) -> None:
    """The table of mounts is the one thing that a test can't have without being root."""
    from memdb import filesystems

    scene.path.mkdir()
    scene.monkeypatch.setattr(filesystems, "unreliable_kind", lambda path: "NFS")
    scene.open()


@case(memdb.UnsupportedPlatform, what="Linux 5.8", who="darwin", next="container or machine")
def another_platform(scene: Scene) -> None:
    scene.monkeypatch.setattr(sys, "platform", "darwin")
    try:
        scene.open()
    finally:
        scene.monkeypatch.undo()


HOLD_GROUP = """
import os, sys
from memdb.actors import locks
os.mkdir(sys.argv[1])
lock = locks.FileLock(os.open(sys.argv[1], os.O_RDONLY), "GROUP", locks.GROUP_BYTE)
assert lock.acquire(wait=False)
{foreign}
lock.write_note("somebody else's engine")
print("held", flush=True)
sys.stdin.read()
"""


@case(
    memdb.ContainerMismatch,
    what="another container",
    who=r"{path}.*somebody else's engine",
    next="give both|run both",
    facts=("path",),
)
def an_engine_of_another_container(scene: Scene) -> None:
    scene.process(HOLD_GROUP.format(foreign="locks.own_pid_namespace = lambda: 4026531999"))
    scene.open(open_timeout=0.3)


@case(
    memdb.OpenTimeout,
    what="no progress in opening",
    who=r"{path}.*somebody else's engine",
    limit=r"for 0\.3 s",
    next="engine.log|open_timeout=",
    facts=("seconds",),
)
def an_engine_that_does_not_answer(scene: Scene) -> None:
    scene.process(HOLD_GROUP.format(foreign=""))
    scene.open(open_timeout=0.3)


@case(
    memdb.FormatTooNew,
    what="format 2",
    who="{path}.*MANIFEST|MANIFEST.*{path}",
    limit="up to 1",
    next="newer memdb",
    facts=("found", "supported"),
)
def a_manifest_of_a_later_version(scene: Scene) -> None:
    from memdb.durability import manifest

    scene.open().close()
    file = scene.path / "MANIFEST"
    now = manifest.decode(file.read_bytes())
    scene.monkeypatch.setattr(manifest, "FORMAT", manifest.FORMAT + 1)
    file.write_bytes(manifest.encode(now))
    scene.monkeypatch.undo()
    scene.open()


# --------------------------------------------------------------------------------------------- concurrency


@case(
    memdb.ConflictError,
    what="changed",
    who=r"'account'.*LSN \d+|LSN \d+.*'account'",
    next="again|transact",
    facts=("reason", "keys", "winner_lsn"),
)
def a_lost_race(scene: Scene) -> None:
    db = scene.open()
    db["account"] = 1
    with db.transaction() as tx:
        tx["account"] += 1
        db["account"] = 5


@case(
    memdb.ConflictError,
    what="range",
    who=r"LSN \d+",
    next="again|transact",
    facts=("reason",),
)
def a_phantom(scene: Scene) -> None:
    db = scene.open()
    with db.transaction() as tx:
        tx["sum"] = sum(tx.values(prefix=("part",)))
        db["part", 1] = 5


@case(
    memdb.ConflictError,
    what="generation|writer|engine",
    who="transaction",
    next="again|transact",
    facts=("reason",),
)
def a_new_generation_below_a_transaction(scene: Scene) -> None:
    db = scene.open()
    db["a"] = 1
    with db.transaction() as tx:
        tx["a"] += 1
        db.compact()


@case(
    memdb.Timeout,
    what="did not take the write.*certainly not done",
    who=r"pid \d+|writer",
    limit=r"for 0\.3 s",
    next="try again|engine.log",
    facts=("seconds",),
)
def a_stopped_writer(scene: Scene) -> None:
    db = scene.open(timeout=0.3)
    writer = db.info().processes["writer"].pid
    os.kill(writer, signal.SIGSTOP)
    scene.closing.append(lambda: os.kill(writer, signal.SIGCONT))
    db["a"] = 1


@case(
    memdb.OutcomeUnknown,
    what="took the write and it could not be settled",
    who="writer",
    limit=r"0\.3 s",
    next="db.outcome",
    facts=("id",),
)
def a_sync_that_hangs(scene: Scene) -> None:
    steering, peer = scene.shim(timeout=0.3)
    steering.order("sync:wal", "hold", sticky=True)
    scene.closing.append(steering.cancel)
    peer.call("set", "a", 1, durability="full")


@case(
    memdb.SnapshotExpired,
    what="revoked",
    who=r"snapshot at LSN \d+",
    limit=r"snapshot_max_age.*0\.3 s|0\.3 s.*snapshot_max_age",
    next="take a new one",
    facts=("lsn",),
)
def a_snapshot_held_too_long(scene: Scene) -> None:
    db = scene.open(snapshot_max_age=0.3)
    db["a"] = 1
    deadline = time.monotonic() + 20
    with db.snapshot() as snapshot:
        while time.monotonic() < deadline:
            assert snapshot["a"] == 1
            threading.Event().wait(0.01)


# -------------------------------------------------------------------------------------------------- limits


def _fill(db: memdb.Database) -> None:
    for n in range(100_000):
        db[n] = b"x" * 1000


@case(
    memdb.ArenaFullError,
    what="arena is at its limit",
    who="max_memory",
    limit="4194304 bytes",
    next="delete something.*larger max_memory",
    facts=("limit",),
)
def a_full_arena(scene: Scene) -> None:
    _fill(scene.open(max_memory="4MiB"))


@case(
    memdb.ArenaFullError,
    what="arena is at its limit",
    who=r"pid \d+",
    limit="4194304 bytes",
    next="delete|close",
    facts=("limit", "pins"),
)
def a_full_arena_and_who_pins_it(scene: Scene) -> None:
    """A view can't be revoked (rule R4): what it holds stays, and its holder is named."""
    db = scene.open(max_memory="4MiB")
    db["big"] = bytes(600_000)
    with db.snapshot() as snapshot:
        view = snapshot.view("big")
        scene.closing.append(view.release)
    del db["big"]
    _fill(db)


@case(
    memdb.DiskFullError,
    what="No space left|no room|full",
    who="checkpoint",
    next="[Mm]ake room|[Ff]ree|delete",
    facts=("errno", "file"),
)
def a_full_disk_below_a_checkpoint(scene: Scene) -> None:
    steering, peer = scene.shim()
    peer.call("set", "a", 1)
    steering.order("write:checkpoints", "fail", value=errno.ENOSPC, sticky=True)
    scene.closing.append(steering.cancel)
    peer.call("checkpoint")


@case(
    memdb.DiskError,
    what="could not be written: .*Input/output error",
    who="{path}.*checkpoints/",
    next="look at the disk",
    facts=("errno", "file"),
)
def a_disk_that_refuses_a_checkpoint(scene: Scene) -> None:
    steering, peer = scene.shim()
    peer.call("set", "a", 1)
    steering.order("write:checkpoints", "fail", value=errno.EIO, sticky=True)
    scene.closing.append(steering.cancel)
    peer.call("checkpoint")


def _overfill(db: memdb.Database) -> None:
    with db.pipeline() as pipeline:
        for n in range(8000):
            pipeline.set(n, b"x" * 1000)


@case(
    memdb.PipelineError,
    what=r"\d+ of (the )?\d+|\d+ .*failed",
    who="ArenaFullError|arena",
    next="results",
    facts=("results",),
)
def a_pipeline_into_a_full_arena(scene: Scene) -> None:
    _overfill(scene.open(max_memory="4MiB"))


# -------------------------------------------------------------------------------------------------- damage


@case(
    memdb.CorruptionError,
    what="does not check|damaged",
    who="{path}.*MANIFEST|MANIFEST.*{path}",
    next="restore|backup|recovery=|memdb check",
    facts=("file",),
)
def a_damaged_manifest(scene: Scene) -> None:
    scene.open().close()
    file = scene.path / "MANIFEST"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    scene.open()


@case(
    memdb.LogFailed,
    what="could not be written or synced|sync of .* failed",
    who="log|wal/",
    next="look at the disk|db.info",
    facts=("errno",),
)
def a_disk_that_refuses_a_sync(scene: Scene) -> None:
    steering, peer = scene.shim()
    steering.order("sync:wal", "fail", value=errno.EIO, sticky=True)
    scene.closing.append(steering.cancel)
    try:
        peer.call("set", "a", 1, durability="full")
    except memdb.OutcomeUnknown:  # rule L5: it was in flight
        peer.call("sync")


@case(memdb.EngineDied, what="has ended", who="memory-only database", next="open a new one")
def a_memory_only_engine_that_was_killed(scene: Scene) -> None:
    db = memdb.open(linger=0, max_memory="64MiB")
    scene.closing += [lambda: shutil.rmtree(db.path, ignore_errors=True), db.close]
    db["a"] = 1
    for process in db.info().processes.values():
        os.kill(process.pid, signal.SIGKILL)
    db["a"] = 2


@case(
    memdb.EngineDied,
    what="has ended and could not be started again",
    who="{path}",
    next="open|restore|engine.log",
    facts=("log_file",),
)
def an_engine_whose_directory_was_removed(scene: Scene) -> None:
    db = scene.open()
    group = [process.pid for process in db.info().processes.values()]
    shutil.rmtree(scene.path)
    for pid in group:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it has noticed by itself
            continue
    db["a"] = 1


@case(
    memdb.WriterPoisoned,
    what=r"killed|died",
    who=r"LSN \d+",
    limit=r"3 times|three times",
    next="reads go on|engine.log|stop|memdb",
    facts=("lsn",),
)
def a_record_that_kills_its_writer(scene: Scene) -> None:
    db = scene.open()
    db["a"] = 1
    for _ in range(3):
        processes = db.info().processes
        if "writer" in processes:
            _kill_and_wait(db, processes["writer"].pid)
    db["a"] = 2


def _kill_and_wait(db: memdb.Database, pid: int) -> None:
    os.kill(pid, signal.SIGSEGV)
    deadline = time.monotonic() + 20
    while True:
        writer = db.info().processes.get("writer")
        if writer is None or writer.pid != pid:
            return
        assert time.monotonic() < deadline


# ------------------------------------------------------------------------------------------------ the test


KNOWN: dict[str, str] = {}
"""Texts that are still to be mended; a mended one fails here until it is taken off."""


def _named(name: str) -> Any:
    known = KNOWN.get(name)
    return pytest.param(name, marks=[pytest.mark.xfail(reason=known, raises=AssertionError)] if known else [])


@pytest.mark.parametrize("name", [_named(name) for name in CASES])
def test_an_error_says_what_who_limit_and_next(name: str, scene: Scene) -> None:
    expected = CASES[name]
    with pytest.raises(expected.kind) as caught:
        expected.provoke(scene)
    error = caught.value
    assert type(error) is expected.kind
    text = str(error)
    print(text)
    for part, pattern in (
        ("what", expected.what),
        ("who", expected.who.replace("{path}", re.escape(str(scene.path)))),
        ("limit", expected.limit),
        ("next", expected.next),
    ):
        assert re.search(pattern, text, re.DOTALL), f"it does not say {part} ({pattern!r}): {text}"
    for fact in expected.facts:
        assert getattr(error, fact) not in (None, ()), f"{fact} is unknown: {text}"
    assert len(text) > 40 and not re.search(r"(?<!use )\bNone\b", text) and "\n" not in text.strip()


def test_every_error_is_provoked() -> None:
    """A new error without a provocation here is found at once, as is one that can be raised by now."""
    there = {name for name in errors.__all__ if name not in ("Error", "from_wire")}
    provoked = {one.kind.__name__ for one in CASES.values()}
    assert not LATER.keys() & provoked, "it is provoked now: take it off the list"
    assert provoked == there - LATER.keys()
