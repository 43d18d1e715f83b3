"""The reader pool: scans that readers work at are those of the caller alone, whoever dies, is slow, lies."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import memdb
from memdb import layering, pool, values
from memdb.actors import reader, wire
from memdb.documents import parallel
from memdb.shm import _kernel

FIRST, LAST = b"\x04\0\0\0\1\0\0", b"\x04\0\0\0\1\0\1"
DOCUMENTS = 3000
OLD = {"age": {"$gte": 50}}

Opener = Callable[..., memdb.Database]


def key(number: int) -> Any:
    return layering.SpaceKey(FIRST + number.to_bytes(4, "big"))


def fill(db: memdb.Database, count: int = DOCUMENTS, padding: int = 0) -> None:
    with db.transaction() as tx:
        for i in range(count):
            tx[key(i)] = {"_id": i, "age": i % 100, "name": f"n{i}", "padding": "x" * padding}


def alone(snapshot: memdb.Snapshot, filter: dict[str, Any] | None = None) -> list[bytes]:
    """What the caller finds without any reader."""
    task = parallel._task(filter or {})
    evaluate = task.make(task.arguments)
    stored = (one for batch in snapshot._stored(FIRST, LAST, 100, 1 << 16) for one in batch)
    return [one for one in stored if evaluate(one) is not None]


def scan(snapshot: memdb.Snapshot, filter: dict[str, Any] | None = None, **options: Any) -> Iterator[bytes]:
    return pool.scan(snapshot, parallel._task(filter or {}), FIRST, LAST, **options)


def pids(db: memdb.Database) -> dict[str, int]:
    return {role: one.pid for role, one in db.info().processes.items() if role.startswith("reader-")}


def wait_until(true: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        os.sched_yield()


def all_can_be_had(db: memdb.Database) -> bool:
    """Can a client have a socket to each reader (they have started, and the writer knows their leases)?"""
    sockets = db._attachment.reader_sockets(8, [])
    for _, sock in sockets:
        sock.close()
    return len(sockets) == db._attachment.options.query_workers


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PART_KEYS", 150)


@pytest.fixture
def crowd(opened: Opener) -> memdb.Database:
    """3,000 documents and two readers that can be had."""
    db = opened(query_workers=2)
    fill(db)
    wait_until(lambda: all_can_be_had(db))
    return db


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[memdb.Database]:
    """The same for all tests that leave group and documents as they are."""
    place = tmp_path_factory.mktemp("served") / "data"
    with memdb.open(place, linger=0.0, max_memory="64MiB", query_workers=2) as db:
        fill(db)
        wait_until(lambda: all_can_be_had(db))
        yield db


@pytest.fixture
def by_readers(monkeypatch: pytest.MonkeyPatch) -> list[pool._Part]:
    """The parts that no reader did."""
    done_here: list[pool._Part] = []
    whole = pool._Scan._alone

    def noted(self: pool._Scan, part: pool._Part) -> Iterator[Any]:
        done_here.append(part)
        return whole(self, part)

    monkeypatch.setattr(pool._Scan, "_alone", noted)
    return done_here


# ------------------------------------------------------------------------------------------------- results


def test_it_finds_what_the_caller_finds_while_others_write(
    crowd: memdb.Database, by_readers: list[pool._Part]
) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with crowd.transaction() as tx:
                tx[key(number % DOCUMENTS)] = {"_id": -1, "age": 99}
                tx.delete(key((number * 7) % DOCUMENTS))

    with crowd.snapshot() as before:
        expected = alone(before, OLD)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            assert list(scan(before, OLD)) == expected
            assert parallel.count(before, FIRST, LAST, OLD) == len(expected) == DOCUMENTS // 2
            for _ in range(3):
                with crowd.snapshot() as now:
                    assert list(scan(now, OLD)) == alone(now, OLD)
        finally:
            stop.set()
            writer.join()
    assert by_readers == []


def test_the_whole_range_and_parts_of_it(served: memdb.Database, by_readers: list[pool._Part]) -> None:
    with served.snapshot() as snap:
        everything = alone(snap)
        assert list(scan(snap)) == everything
        looked: list[int] = []
        names = [one["name"] for one in parallel.scan(snap, FIRST, LAST, {"age": 7}, looked=looked.append)]
        assert names == [f"n{i}" for i in range(7, DOCUMENTS, 100)] and sum(looked) == DOCUMENTS
        low, high = key(333).stored, key(2777).stored
        task = parallel._task({})
        assert list(pool.scan(snap, task, low, high)) == everything[333:2777]
        assert list(pool.scan(snap, task, high, low)) == []
    assert by_readers == []


def test_expiry_is_judged_at_the_snapshots_time(opened: Opener) -> None:
    db = opened(query_workers=1)
    fill(db)
    wait_until(lambda: all_can_be_had(db))
    with db.transaction() as tx:
        expires_us = layering.expiry_us(tx, 2.0)  # one instant for all
        for i in range(0, DOCUMENTS, 2):
            layering.put(tx, key(i), {"_id": i}, expires_us)
    with db.snapshot() as snap:
        seen = len(alone(snap))
        wait_until(lambda: db.get(key(0)) is None)
        assert len(list(scan(snap))) == seen == DOCUMENTS
    with db.snapshot() as snap:
        assert len(list(scan(snap))) == DOCUMENTS // 2


def test_what_an_evaluation_raises_is_raised_here(served: memdb.Database) -> None:
    with pytest.raises(memdb.InvalidFilter), served.snapshot() as snap:
        list(scan(snap, {"$where": "1"}))
    with served.snapshot() as snap:  # and the reader serves on
        assert list(scan(snap, OLD)) == alone(snap, OLD)
        assert all(one.restarts == 0 for one in served.info().processes.values())


# ------------------------------------------------------------------------------------------------- options


def test_without_workers_there_is_no_reader(opened: Opener) -> None:
    db = opened()
    fill(db)
    assert pids(db) == {}
    with db.snapshot() as snap:
        assert list(scan(snap, OLD)) == alone(snap, OLD)


def test_as_many_readers_as_were_asked_for_and_no_other_number(opened: Opener, data: Path) -> None:
    opened(query_workers=3)
    again = opened(query_workers=3)
    assert sorted(pids(again)) == ["reader-1", "reader-2", "reader-3"]
    with pytest.raises(memdb.OptionMismatch, match="query_workers"):
        opened(query_workers=2)
    for pid in pids(again).values():
        assert str(data).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()


# ------------------------------------------------------------------------------------------------- deaths


def test_readers_killed_in_the_middle(crowd: memdb.Database) -> None:
    with crowd.snapshot() as snap:
        expected = alone(snap)
        found = scan(snap)
        first = [next(found) for _ in range(200)]
        before = pids(crowd)
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        assert first + list(found) == expected
        wait_until(lambda: len(pids(crowd)) == 2 and not set(pids(crowd).values()) & set(before.values()))
        assert all(crowd.info().processes[role].restarts == 1 for role in before)
        wait_until(lambda: all_can_be_had(crowd))
        assert list(scan(snap)) == expected


def test_readers_that_are_stopped_hold_nobody_up(
    served: memdb.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_PATIENCE", 0.3)
    stopped = pids(served).values()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        with served.snapshot() as snap:
            assert list(scan(snap, OLD)) == alone(snap, OLD)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)


def test_a_revoked_snapshot_is_expired_whatever_the_readers_found(opened: Opener) -> None:
    """Of documents so large that a part of the range comes in several answers."""
    db = opened(query_workers=1, max_memory="128MiB")
    fill(db, 2000, padding=5000)
    wait_until(lambda: all_can_be_had(db))
    snap = db.snapshot()
    found = scan(snap)
    next(found)
    client, parity, _, lsn, _ = snap._lending()
    mine = [pin for pin in _kernel.lease_readers(client.lease_mapping, parity) if pin[2] == lsn]
    assert sum(_kernel.lease_revoke(client.lease_mapping, parity, pin[0], lsn) for pin in mine) == 1
    given = 0
    with pytest.raises(memdb.SnapshotExpired):
        for _ in found:
            given += 1
    assert given * 5000 <= reader.BATCH_BYTES, "more than the rest of what had come before"


def test_a_revoked_snapshot_is_expired_although_the_readers_found_nothing(
    served: memdb.Database, by_readers: list[pool._Part]
) -> None:
    """What they did not find may be gone since nothing has kept it."""
    with served.snapshot() as snap:
        found = scan(snap, {"_id": 0})
        next(found)
        client, parity, _, lsn, _ = snap._lending()
        mine = [pin for pin in _kernel.lease_readers(client.lease_mapping, parity) if pin[2] == lsn]
        for pin in mine:
            _kernel.lease_revoke(client.lease_mapping, parity, pin[0], lsn)
        with pytest.raises(memdb.SnapshotExpired):
            list(found)
    assert not by_readers


def test_a_closed_snapshot_ends_a_scan(served: memdb.Database) -> None:
    snap = served.snapshot()
    found = scan(snap)
    next(found)
    snap.close()
    with pytest.raises(memdb.ClosedError):
        list(found)


def test_the_writer_dies_in_the_middle(crowd: memdb.Database) -> None:
    with crowd.snapshot() as snap:
        expected = alone(snap)
        found = scan(snap)
        first = [next(found) for _ in range(200)]
        os.kill(crowd.info().processes["writer"].pid, signal.SIGKILL)
        crowd["after"] = 1
        assert first + list(found) == expected
        assert list(scan(snap)) == expected  # in the generation before the present one


CLIENT = """
import sys, memdb
from memdb import pool
from memdb.documents import parallel
pool.PART_KEYS = 150
db = memdb.open(sys.argv[1])
print(len(db._attachment.reader_sockets(8, [])), flush=True)
with db.snapshot() as snap:
    first, last = bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])
    list(parallel.scan(snap, first, last, {"bomb": {"$regex": "^(a|aa)+$"}}))
"""


def evaluates(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"


def processor_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def test_a_client_that_dies_sets_its_reader_free(
    opened: Opener, data: Path, by_readers: list[pool._Part]
) -> None:
    db = opened(query_workers=1)
    with db.transaction() as tx:
        for i in range(DOCUMENTS):
            tx[key(i)] = {"_id": i, "age": i % 100, "bomb": "a" * 60 + "b"}  # would take years
    wait_until(lambda: all_can_be_had(db))
    (before,) = pids(db).values()
    environment = {**os.environ, "PYTHONPATH": str(Path(memdb.__path__[0]).parent)}
    command = [sys.executable, "-P", "-c", CLIENT, str(data), FIRST.hex(), LAST.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as client:
        assert client.stdout is not None and client.stdout.readline() == "1\n"
        idle = processor_seconds(before)
        wait_until(lambda: processor_seconds(before) > idle + 0.2)  # more than what a connection takes
        client.kill()
    wait_until(lambda: not evaluates(before))
    with db.snapshot() as snap:
        assert list(scan(snap, OLD)) == alone(snap, OLD)
    assert not by_readers and list(pids(db).values()) == [before]


def test_after_a_fork_the_parent_goes_on_and_the_child_has_its_own(served: memdb.Database) -> None:
    with served.snapshot() as snap:
        expected = alone(snap, OLD)
        found = scan(snap, OLD)
        first = next(found)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                list(found)  # what it has already, then no more
            except memdb.ForkedHandleError:
                with served.snapshot() as own:
                    code = 0 if list(scan(own, OLD)) == expected else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [first, *found] == expected


# ------------------------------------------------------------------------------------- slow and hostile


def test_a_slow_client_holds_up_nobody_and_no_memory(opened: Opener) -> None:
    db = opened(query_workers=1, max_memory="128MiB")
    fill(db, 2000, padding=5000)
    wait_until(lambda: all_can_be_had(db))
    with db.snapshot() as snap:
        slow = pool._Scan(snap, parallel._task({}), FIRST, LAST, ordered=True, counts=False)
        batches = slow.batches()
        next(batches)
        assert list(scan(snap, OLD)) == alone(snap, OLD)
        assert slow._waiting_bytes < pool._AHEAD_BYTES + (2 << 20)
        batches.close()
        wait_until(lambda: not [pin for pin in db.readers() if "reader-" in pin.command])


def asked(**other: Any) -> dict[str, Any]:
    part = {"id": 0, "job": "documents.filter", "arguments": b"\x80\x01", "start": FIRST, "stop": LAST}
    return {**part, "parity": 0, "generation": 1, "lsn": 1, "time": 1, "counts": False, **other}


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": -1},
        {"id": True},
        {"job": 7},
        {"job": "x" * 200},
        {"arguments": None},
        {"start": b""},
        {"stop": b"x" * (1 << 17)},
        {"parity": 2},
        {"generation": "1"},
        {"lsn": 0},
        {"lsn": 1 << 48},
        {"time": -1},
        {"counts": 1},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_part_is_what_it_says(wrong: dict[str, Any]) -> None:
    assert reader.parse_part(asked()).job == "documents.filter"
    with pytest.raises(wire.Disconnected):
        reader.parse_part(asked(**wrong))


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff\xff\xff\xff",
        b"\4\0\0\0junk",
        wire.encode({"op": "scan"}),
        wire.encode(asked(counts=None)),
        b"".join(wire.encode(asked(id=i)) for i in range(50)),
    ],
    ids=["long", "junk", "empty", "type", "many"],
)
def test_who_sends_anything_else_is_cut_off(served: memdb.Database, sent: bytes) -> None:
    before = pids(served)
    ((_, sock),) = served._attachment.reader_sockets(1, [])
    with sock:
        sock.settimeout(20)
        sock.sendall(sent)
        received = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b"found" not in received
    assert pids(served) == before


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"job": "os.system"}, "no job"),
        ({"arguments": b"\xc1\x01"}, "CorruptionError"),
        ({"lsn": (1 << 48) - 1}, "published"),
        ({"generation": 99}, "generation"),
    ],
)
def test_a_part_that_can_not_be_done_is_refused(
    served: memdb.Database, wrong: dict[str, Any], why: str
) -> None:
    with served.snapshot() as snap:
        _, parity, generation, lsn, moment = snap._lending()
        part = asked(parity=parity, generation=generation, lsn=lsn, time=moment)
        ((_, sock),) = served._attachment.reader_sockets(1, [])
        with sock:
            buffer, deadline = bytearray(), time.monotonic() + 20
            wire.send(sock, {**part, **wrong}, deadline)
            answer = wire.receive(sock, buffer, [], deadline)
            assert why in answer["refused"] and answer["resume"] == FIRST
            wire.send(sock, part, deadline)
            assert len(wire.receive(sock, buffer, [], deadline)["found"]) == reader.BATCH_KEYS


def test_what_is_no_document_is_damage_and_no_readers_death(served: memdb.Database) -> None:
    before = pids(served)
    with served.transaction() as tx:
        document, tx[key(7)] = tx[key(7)], [1]
    try:
        with served.snapshot() as snap:
            with pytest.raises(memdb.CorruptionError, match="a list, not a dict"):
                list(scan(snap, OLD))
            with pytest.raises(memdb.CorruptionError, match="a list, not a dict"):
                alone(snap, OLD)
    finally:
        with served.transaction() as tx:
            tx[key(7)] = document
    assert pids(served) == before


def test_too_many_connections_are_closed_and_the_rest_serves(served: memdb.Database) -> None:
    sockets = [
        sock for _ in range(reader.CONNECTIONS_MAX) for _, sock in served._attachment.reader_sockets(2, [])
    ]
    ((_, last),) = served._attachment.reader_sockets(1, [])
    with last:
        last.settimeout(20)
        assert last.recv(1) == b""
    with served.snapshot() as snap:
        assert list(scan(snap, OLD)) == alone(snap, OLD)
    for sock in sockets:
        sock.close()


@pytest.mark.slow
def test_an_evaluation_without_end_is_refused_and_done_by_who_asked(opened: Opener) -> None:
    """Two seconds of processor time: then the reader is free for others."""
    db = opened(query_workers=1)
    with db.transaction() as tx:
        for i in range(400):
            tx[key(i)] = {"_id": i, "bomb": "a" * 60 + "b"}
    wait_until(lambda: all_can_be_had(db))
    with db.snapshot() as snap:
        _, parity, generation, lsn, moment = snap._lending()
        arguments = values.encode({"bomb": {"$regex": "^(a|aa)+$"}})
        part = asked(parity=parity, generation=generation, lsn=lsn, time=moment, arguments=arguments)
        ((_, sock),) = db._attachment.reader_sockets(1, [])
        with sock:
            deadline = time.monotonic() + 60
            wire.send(sock, part, deadline)
            assert "processor time" in wire.receive(sock, bytearray(), [], deadline)["refused"]


@pytest.mark.slow
def test_a_stopped_reader_takes_no_descriptors_of_the_supervisor(served: memdb.Database) -> None:
    stopped = pids(served).values()
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(2000):
            sockets = served._attachment.reader_sockets(2, [])
            for _, sock in sockets:
                sock.close()
            if not sockets:
                break
        else:
            pytest.fail("sockets to readers that hear nothing, without end")
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    wait_until(lambda: all_can_be_had(served))


def test_a_supervisor_without_descriptors_keeps_no_sockets(served: memdb.Database) -> None:
    """One socket pair was made, and no descriptor was left to hand it over."""
    wait_until(lambda: all_can_be_had(served))
    supervisor = psutil.Process(served.info().processes["supervisor"].pid)
    before = supervisor.num_fds()
    _, hard = resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE)
    for room in range(12):
        resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (before + room, hard))
        for _ in range(3):
            for _, sock in served._attachment.reader_sockets(2, []):
                sock.close()
        resource.prlimit(supervisor.pid, resource.RLIMIT_NOFILE, (hard, hard))
        wait_until(lambda: supervisor.num_fds() <= before)
