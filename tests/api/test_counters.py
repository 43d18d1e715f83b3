"""increment, compare_and_set, modify: atomic steps on one key, from many threads and processes."""

import enum
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

import memdb

Opener = Callable[..., memdb.Database]
Call = Callable[[memdb.Database], object]

WRITES: list[Call] = [
    lambda db: db.increment("k"),
    lambda db: db.compare_and_set("k", memdb.MISSING, 1),
    lambda db: db.modify("k", lambda old: 1),
]

INTS = [
    value + near
    for value in (0, 32, 127, 128, 255, 256, 2**15, 2**16, 2**31, 2**32, 2**63, 2**64, 10**40)
    for near in (-1, 0, 1)
]


def test_increment(db: memdb.Database) -> None:
    assert db.increment("a") == 1 and db.increment("a", 10) == 11 and db.increment("a", by=-12) == -1
    assert db["a"] == -1 and type(db["a"]) is int
    assert db.increment("b", 0) == 0 and db["b"] == 0
    assert db.increment("f", 1.5) == 1.5 and db.increment("f") == 2.5 and type(db["f"]) is float
    assert db.increment("a", 0.5) == -0.5
    assert db.increment("a", 1, durability="full") == 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_ints_are_exact(db: memdb.Database, sign: int) -> None:
    for value in INTS:
        db["n"] = sign * value
        for by in (1, -1, 2**70):
            expected = db["n"] + by
            assert db.increment("n", by) == expected and db["n"] == expected and type(db["n"]) is int
        db["m"] = 0
        assert db.increment("m", sign * value) == sign * value == db["m"]


def test_what_is_counted_is_stored_as_set_would(db: memdb.Database) -> None:
    for value in [*INTS, *(-one for one in INTS)]:
        db["set"], db["counted"] = value, 0
        db.increment("counted", value)
        assert db.compare_and_set("counted", value, value) and db["counted"] == db["set"]


@pytest.mark.parametrize(
    "value", [True, "1", b"1", None, [1], Decimal(1), 1j, {"n": 1}], ids=lambda one: repr(one)
)
def test_only_numbers_are_incremented(db: memdb.Database, value: Any) -> None:
    db["n"] = value
    before = db.lsn
    with pytest.raises(TypeError, match=rf"'n'.*{type(value).__name__}"):
        db.increment("n")
    with pytest.raises(TypeError, match=f"not {type(value).__name__}"):
        db.increment("other", value)
    assert db.lsn == before and db["n"] == value


def test_subclasses_of_numbers_count_as_numbers(db: memdb.Database) -> None:
    class Step(enum.IntEnum):
        TWO = 2

    assert db.increment("n", Step.TWO) == 2 and type(db["n"]) is int
    db.increment("huge", 10**400)
    with pytest.raises(OverflowError):
        db.increment("huge", 0.5)
    assert db["huge"] == 10**400
    assert math.isinf(db.increment("inf", math.inf))


def test_increment_takes_an_expired_key_for_missing(db: memdb.Database) -> None:
    db.set("n", 41, ttl=0.05)
    entry = db.entry("n")
    assert entry is not None and entry.expires_at is not None
    threading.Event().wait(0.1)
    assert db.increment("n") == 1 and db.ttl("n") is None


@pytest.mark.parametrize(
    ("stored", "expected", "is_same"),
    [
        (1, 1, True),
        (1, True, False),
        (1, 1.0, False),
        (True, 1, False),
        (1.0, 1, False),
        (0.0, -0.0, True),
        (math.nan, math.nan, True),
        (None, None, True),
        (None, memdb.MISSING, False),
        ("a", b"a", False),
        (b"a", bytearray(b"a"), True),
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({1: "x"}, {True: "x"}, False),
        ([1, [2]], [1, [2.0]], False),
        ([1], (1,), False),
        ({1, 2, 3}, {3, 2, 1}, True),
        ({1, 2}, {1, 2.0}, False),
        (frozenset({1}), {1}, False),
        (Decimal("1.0"), Decimal("1.00"), True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        (2**70, 2**70, True),
    ],
    ids=repr,
)
def test_compare_and_set(db: memdb.Database, stored: Any, expected: Any, is_same: bool) -> None:
    db["k"] = stored
    before = db.lsn
    assert db.compare_and_set("k", expected, "new") is is_same
    assert (db["k"] == "new") is is_same and (db.lsn > before) is is_same


def test_compare_and_set_of_absence(db: memdb.Database) -> None:
    before = db.lsn
    assert db.compare_and_set("k", memdb.MISSING, memdb.MISSING) is True and db.lsn == before
    assert db.compare_and_set("k", 1, 2) is False and "k" not in db
    assert db.compare_and_set("k", memdb.MISSING, 1, ttl=100) is True and db.ttl("k") is not None
    assert db.compare_and_set("k", memdb.MISSING, 2) is False
    assert db.compare_and_set("k", memdb.MISSING, memdb.MISSING) is False and db["k"] == 1
    assert db.compare_and_set("k", 1, memdb.MISSING, durability="full") is True and "k" not in db
    for arguments in (("k", object(), 1), ("k", 1, object()), (object(), 1, 2)):
        with pytest.raises(memdb.UnsupportedType):
            db.compare_and_set(*arguments)
    with pytest.raises(memdb.KeyTooLarge):
        db.compare_and_set("x" * 100_000, memdb.MISSING, 1)


def test_modify(db: memdb.Database) -> None:
    seen: list[Any] = []

    def note(old: Any) -> Any:
        seen.append(old)
        return [*(old or []), len(seen)]

    assert db.modify("k", note) == [1] and db.modify("k", note) == [1, 2] and db["k"] == [1, 2]
    assert seen == [memdb.MISSING, [1]]
    assert db.modify("d", lambda tags: tags | {"x"}, default=set()) == {"x"}
    assert db.modify("d", lambda old: memdb.MISSING) is memdb.MISSING and "d" not in db
    before = db.lsn
    assert db.modify("d", lambda old: memdb.MISSING) is memdb.MISSING and db.lsn == before
    assert db.modify("raw", lambda old: old + b"x", b"", ttl=50) == b"x" and db.ttl("raw") is not None
    assert db.modify("raw", lambda old: old, durability="full") == b"x" and db.ttl("raw") is None


def test_modify_writes_nothing_if_it_fails(db: memdb.Database) -> None:
    db["k"] = [1]
    before = db.lsn
    with pytest.raises(ZeroDivisionError):
        db.modify("k", lambda old: 1 // 0)
    with pytest.raises(memdb.UnsupportedType):
        db.modify("k", lambda old: object())
    with pytest.raises(memdb.UnsupportedType):
        db.modify("new", lambda old: 1, default=object())
    with pytest.raises(TypeError, match="callable"):
        db.modify("k", 5)  # type: ignore[arg-type]
    assert db.lsn == before and dict(db) == {"k": [1]}


def test_modify_looks_again_where_somebody_was_faster(db: memdb.Database) -> None:
    calls: list[Any] = []

    def append(old: list[int]) -> list[int]:
        calls.append(list(old))
        if len(calls) < 4:  # somebody else writes between reading and writing
            db["k"] = [len(calls)]
        old.append(99)
        return old

    assert db.modify("k", append, default=[0]) == [3, 99] == db["k"]
    assert calls == [[0], [1], [2], [3]]


def test_the_default_is_whole_at_each_call(db: memdb.Database) -> None:
    default: list[int] = []
    calls: list[Any] = []

    def append(old: list[int]) -> list[int]:
        calls.append(list(old))
        if len(calls) < 3:
            db["k"] = 0
            del db["k"]
            db["k"] = 1
            del db["k"]
            if len(calls) == 2:
                db["k"] = [7]
        old.append(1)
        return old

    assert db.modify("k", append, default=default) in ([1], [7, 1]) and default == []
    assert all(seen in ([], [7]) for seen in calls)


@pytest.mark.parametrize("call", WRITES)
def test_read_only_and_closed(opened: Opener, call: Call) -> None:
    opened()
    reader = opened(readonly=True)
    with pytest.raises(memdb.ReadOnlyError):
        call(reader)
    reader.close()
    with pytest.raises(memdb.ClosedError):
        call(reader)


def _count(db: memdb.Database, times: int) -> None:
    for n in range(times):
        db.increment("hot")
        db.modify("list", lambda old: (old + 1) % 1000, 0)
        while not db.compare_and_set("cas", value := db.get("cas", 0), value + 1):
            pass
        db.increment(("own", os.getpid()), n)


def test_no_step_is_lost_between_processes_when_the_writer_dies(db: memdb.Database) -> None:
    db["cas"] = 0
    context = multiprocessing.get_context("fork")
    times = 150
    workers = [context.Process(target=_count, args=(db, times)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for goal in (50, 150):
        while db.get("hot", 0) < goal:
            threading.Event().wait(0.01)
        os.kill(db.info().processes["writer"].pid, signal.SIGKILL)
    for worker in workers:
        worker.join(100)
        assert worker.exitcode == 0
    assert db["hot"] == db["cas"] == 3 * times and db["list"] == 3 * times % 1000
    assert [db["own", worker.pid] for worker in workers] == [times * (times - 1) // 2] * 3


def test_threads_share_a_counter(db: memdb.Database) -> None:
    threads = [threading.Thread(target=lambda: [db.increment("n") for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db["n"] == 800
