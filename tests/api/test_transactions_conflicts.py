"""Two handles: which transactions conflict, which don't, and what the error says.

Each claim of docs/explanation/isolation.md names a test of this file.
"""

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import memdb

Opener = Callable[..., memdb.Database]
Use = Callable[[memdb.Transaction], object]


@pytest.fixture
def other(opened: Opener, db: memdb.Database) -> memdb.Database:
    """A second handle on the database of ``db``."""
    return opened()


def conflict_of(tx: memdb.Transaction) -> memdb.ConflictError:
    with pytest.raises(memdb.ConflictError) as caught:
        tx.commit()
    assert tx.closed and tx.commit_lsn is None and tx.id is None
    with pytest.raises(memdb.ClosedError, match="conflict"):
        tx.get("a")
    text = str(caught.value)
    assert "Nothing of it was done" in text and "transact" in text
    return caught.value


# ----------------------------------------------------------------------------------------- every kind of it

POINT_READS: dict[str, Use] = {
    "get": lambda tx: tx.get("k"),
    "getitem": lambda tx: tx["k"],
    "in": lambda tx: "k" in tx,
    "get_many": lambda tx: tx.get_many(["j", "k"]),
    "entry": lambda tx: tx.entry("k"),
    "ttl": lambda tx: tx.ttl("k"),
    "if_absent": lambda tx: tx.set("k", 1, if_absent=True),
    "if_version": lambda tx: tx.set("k", 1, if_version=1 << 40),
    "increment": lambda tx: tx.increment("k"),
    "delete": lambda tx: tx.delete("k"),
    "delete_many": lambda tx: tx.delete_many(["k"]),
    "pop": lambda tx: tx.pop("k"),
    "setdefault": lambda tx: tx.setdefault("k", 2),
    "expire": lambda tx: tx.expire("k", 10),
    "persist": lambda tx: tx.persist("k"),
    "keep": lambda tx: tx.set("k", 1, ttl=memdb.KEEP),
}
CHANGES: dict[str, Callable[[memdb.Database], object]] = {
    "set": lambda db: db.set("k", 7),
    "set to the same value": lambda db: db.set("k", 5),
    "delete": lambda db: db.delete("k"),
    "delete_range": lambda db: db.delete_range("a", "z"),
    "clear": lambda db: db.clear(),
}


@pytest.mark.parametrize("read", POINT_READS)
def test_a_key_that_was_read_changed(db: memdb.Database, other: memdb.Database, read: str) -> None:
    for change in CHANGES.values():
        db["k"] = 5
        tx = db.transaction()
        POINT_READS[read](tx)
        tx["mine"] = 1
        change(other)
        error = conflict_of(tx)
        assert error.reason == "changed" and error.keys == ("k",) and error.winner_lsn == other.lsn
        assert f"'k', which the commit at LSN {other.lsn} has changed" in str(error)
        assert "mine" not in db


def test_absence_was_read(db: memdb.Database, other: memdb.Database) -> None:
    tx = db.transaction()
    assert tx.get("k") is None
    tx["mine"] = 1
    other["k"] = 1
    error = conflict_of(tx)
    assert error.reason == "changed" and error.keys == ("k",) and error.winner_lsn == other.lsn
    tx = db.transaction()
    assert "x" not in tx
    tx["mine"] = 1
    other["x"] = 1
    del other["x"]
    tx.commit()  # it is absent again


RANGE_READS: dict[str, Use] = {
    "range": lambda tx: list(tx.range("a", "z")),
    "reverse": lambda tx: list(tx.range("a", "z", reverse=True)),
    "prefix": lambda tx: list(tx.keys(prefix="k")),
    "keys": lambda tx: list(tx.keys()),
    "values": lambda tx: list(tx.values()),
    "items": lambda tx: list(tx.items()),
    "iter": lambda tx: list(tx),
    "reversed": lambda tx: list(reversed(tx)),
    "len": lambda tx: len(tx),
    "len of a view": lambda tx: len(tx.keys(prefix="k")),
    "==": lambda tx: tx == {"k2": 1, "k4": 1, "z9": 1},
    "delete_range": lambda tx: tx.delete_range("k", "l"),
}


@pytest.mark.parametrize("read", RANGE_READS)
def test_a_range_that_was_read_changed(db: memdb.Database, other: memdb.Database, read: str) -> None:
    """Phantoms: a key that comes, one that goes, one that gets another value."""
    changes: list[tuple[Callable[[], object], tuple[str, ...]]] = [
        (lambda: other.set("k3", 1), ("k3",)),
        (lambda: other.set("k2", 2), ("k2",)),
        (lambda: other.delete("k4"), ()),
        (lambda: other.delete_range("k", "l"), ()),
        (lambda: other.set_many({"k1": 1, "k5": 1}), ("k1", "k5")),
    ]
    for change, keys in changes:
        db.clear()
        db.update({"k2": 1, "k4": 1, "z9": 1})
        tx = db.transaction()
        RANGE_READS[read](tx)
        tx["~mine"] = 1
        change()
        error = conflict_of(tx)
        assert error.reason == "range" and error.keys == keys and error.winner_lsn == other.lsn
        assert f"LSN {other.lsn}" in str(error) and all(repr(key) in str(error) for key in keys)


def test_a_range_counts_as_far_as_it_was_read(db: memdb.Database, other: memdb.Database) -> None:
    db.set_many((n, n) for n in range(100))

    def outcome(read: Use, change: int) -> bool:
        db.delete("mine")
        tx = db.transaction()
        read(tx)
        tx["mine"] = 1
        other[change] = -1
        try:
            tx.commit()
        except memdb.ConflictError as error:
            assert error.keys == (change,)
            return False
        return True

    def some(tx: memdb.Transaction) -> list[Any]:
        return list(itertools.islice(tx.range(10, 50), 5))

    def backwards(tx: memdb.Transaction) -> list[Any]:
        return list(tx.range(10, 50, reverse=True, limit=5))

    assert outcome(some, 9) and outcome(some, 15) and outcome(some, 50)
    assert not outcome(some, 10) and not outcome(some, 14)
    assert outcome(backwards, 44) and outcome(backwards, 50) and outcome(backwards, 10)
    assert not outcome(backwards, 45) and not outcome(backwards, 49)
    assert outcome(lambda tx: tx.range(10, 50), 20), "an iterator that nobody asked has read nothing"
    assert outcome(lambda tx: bool(tx), 1) and not outcome(lambda tx: bool(tx), 0)
    assert outcome(lambda tx: tx.popitem(), 98) and not outcome(lambda tx: tx.popitem(), 99)


def test_own_writes_are_not_reads(db: memdb.Database, other: memdb.Database) -> None:
    db.update({"a": 1, "b": 1, "c": 1})
    tx = db.transaction()
    tx["a"] = 2
    tx.clear()
    tx["b"] = 3
    assert tx.get("a") is None and tx["b"] == 3 and list(tx) == ["b"] and tx.increment("b") == 4
    other.update({"a": 9, "b": 9, "c": 9, "d": 9})
    tx.commit()
    assert db == {"b": 4}


def test_blind_writes_never_conflict(db: memdb.Database, other: memdb.Database) -> None:
    tx = db.transaction()
    tx["a"] = 1
    tx.update({"b": 2})
    other.update({"a": 9, "b": 9})
    db.compact()
    tx.commit()
    assert db == {"a": 1, "b": 2}


def test_reading_only_never_conflicts(db: memdb.Database, other: memdb.Database) -> None:
    db.update({"a": 1, "b": 2})
    with db.transaction() as tx:
        assert tx["a"] == 1
        other.update({"a": 9, "c": 9})
        assert dict(tx) == {"a": 1, "b": 2} and tx.get("c") is None
        db.compact()
        assert tx["b"] == 2
        before = db.lsn
    assert tx.commit_lsn is None and db.lsn == before


def test_a_value_that_was_read_expires(db: memdb.Database, other: memdb.Database) -> None:
    reads: list[Use] = [
        lambda tx: tx["s"],
        lambda tx: list(tx),
        lambda tx: tx.get_many(["s"]),
        lambda tx: len(tx),
    ]
    for read in reads:
        db.set("s", 1, ttl=0.3)
        tx = db.transaction()
        read(tx)
        tx["mine"] = 1
        wait_until(lambda: "s" not in db)
        error = conflict_of(tx)
        assert error.reason == "expired" and error.keys == ("s",) and "'s'" in str(error)
    tx = db.transaction()
    tx["unrelated"] = tx.get("x")
    tx.commit()


def wait_until(done: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def test_a_new_generation(db: memdb.Database, other: memdb.Database) -> None:
    db["a"] = 1
    for isolation in ("serializable", "snapshot"):
        tx = db.transaction(isolation=isolation)  # type: ignore[arg-type]
        tx["a"] = tx["a"] + 1
        other.compact()
        assert tx.get("b") is None
        error = conflict_of(tx)
        assert error.reason == "generation" and error.keys == () and error.winner_lsn is None
        assert "built anew" in str(error)
    assert db.transact(lambda tx: tx.increment("a")) == 2


def test_a_snapshot_that_was_revoked(opened: Opener) -> None:
    db = opened(snapshot_max_age=1)
    db.update({"a": 1, "b": 1})
    validated, lookups, reads = db.transaction(), db.transaction(isolation="snapshot"), db.transaction()
    assert validated["a"] == 1
    validated["b"] = 2
    lookups["b"] = 3
    reads["c"] = 1
    wait_until(lambda: is_revoked(reads))
    with pytest.raises(memdb.SnapshotExpired, match="run the transaction again"):
        reads["a"]
    error = conflict_of(lookups)
    assert error.reason == "snapshot" and "revoked" in str(error)
    validated.commit()  # what it read still holds, and that can be told without its snapshot
    assert db["b"] == 2


def is_revoked(tx: memdb.Transaction) -> bool:
    try:
        tx.get("nothing")
    except memdb.SnapshotExpired:
        return True
    return False


def test_a_lost_window(db: memdb.Database, other: memdb.Database) -> None:
    """Ranges are judged by the keys of recent commits, of which a bounded number is kept."""
    tx = db.transaction()
    assert list(tx.range("a", "b")) == []
    tx["mine"] = 1
    for part in range(35):
        other.set_many((("x", part, n), b"") for n in range(2000))
    error = conflict_of(tx)
    assert error.reason == "window" and error.keys == () and "65,536 keys" in str(error)
    point = db.transaction()
    assert point.get("a") is None
    point["mine"] = 1
    for part in range(35):
        other.set_many((("x", part, n), b"") for n in range(2000))
    point.commit()  # points need no window


# ------------------------------------------------------------------------------------------------ anomalies


def test_lost_update(db: memdb.Database, other: memdb.Database) -> None:
    for isolation in ("serializable", "snapshot"):
        db["n"] = 10
        first = db.transaction(isolation=isolation)  # type: ignore[arg-type]
        second = other.transaction(isolation=isolation)  # type: ignore[arg-type]
        first["n"] += 1
        second["n"] += 1
        first.commit()
        assert conflict_of(second).keys == ("n",)
        assert db["n"] == 11


def test_write_skew(db: memdb.Database, other: memdb.Database) -> None:
    """Two doctors on call; each leaves if the other stays."""

    def leave(handle: memdb.Database, who: str, isolation: Any) -> memdb.Transaction:
        tx = handle.transaction(isolation=isolation)
        if sum(tx.get_many(["alice", "bob"])) > 1:
            tx[who] = 0
        return tx

    db.update({"alice": 1, "bob": 1})
    first, second = leave(db, "alice", "serializable"), leave(other, "bob", "serializable")
    first.commit()
    assert conflict_of(second).keys == ("alice",)
    assert db["alice"] + db["bob"] == 1
    db.update({"alice": 1, "bob": 1})
    first, second = leave(db, "alice", "snapshot"), leave(other, "bob", "snapshot")
    first.commit()
    second.commit()  # isolation "snapshot" allows it
    assert db["alice"] + db["bob"] == 0


def test_phantom(db: memdb.Database, other: memdb.Database) -> None:
    """Two bookings, each of which found the room free."""

    def book(handle: memdb.Database, who: str, isolation: Any) -> memdb.Transaction:
        tx = handle.transaction(isolation=isolation)
        assert not list(tx.range(prefix=("room", 1)))
        tx["room", 1, who] = "10:00"
        return tx

    first, second = book(db, "alice", "serializable"), book(other, "bob", "serializable")
    first.commit()
    assert conflict_of(second).keys == (("room", 1, "alice"),)
    db.clear()
    first, second = book(db, "alice", "snapshot"), book(other, "bob", "snapshot")
    first.commit()
    second.commit()
    assert len(db) == 2


def test_read_only_anomaly_and_long_fork(db: memdb.Database, other: memdb.Database) -> None:
    """Readers see commits in one order: whoever sees the second has the first."""
    db.update({"x": 0, "y": 0})
    first, second = db.transaction(), other.transaction()
    first["x"] = first["x"] + 1
    second["y"] = second["y"] + 1
    before = db.transaction()
    first.commit()
    between = db.transaction()
    second.commit()
    after = other.transaction()
    seen = [(tx["x"], tx["y"]) for tx in (before, between, after)]
    assert seen == [(0, 0), (1, 0), (1, 1)]


def test_snapshot_isolation_judges_what_it_writes(db: memdb.Database, other: memdb.Database) -> None:
    def begun() -> memdb.Transaction:
        db.clear()
        db.update({"a": 1, "b": 1, "c": 1})
        return db.transaction(isolation="snapshot")

    tx = begun()
    assert list(tx) == ["a", "b", "c"] and tx["b"] == 1
    tx["a"] = 2
    other["b"] = other["d"] = 5
    tx.commit()  # reads are not judged
    writes: list[Use] = [
        lambda tx: tx.set("a", 2),
        lambda tx: tx.delete("a"),
        lambda tx: tx.clear(),
        lambda tx: tx.delete_range("a", "b"),
    ]
    for write in writes:
        tx = begun()
        write(tx)
        other["a"] = 5
        error = conflict_of(tx)
        assert error.keys == ("a",) and re.search("it (writes|deletes)", str(error))
    tx = begun()
    tx["new"] = 1
    other["new"] = 2
    assert conflict_of(tx).keys == ("new",)
    tx = begun()
    db.set("t", 1, ttl=0.2)
    tx.abort()
    tx = db.transaction(isolation="snapshot")
    tx["t"] = 2
    wait_until(lambda: "t" not in db)
    assert conflict_of(tx).reason == "expired"


# -------------------------------------------------------------------------------------------------- transact


def test_transact_repeats(db: memdb.Database, other: memdb.Database) -> None:
    db["n"] = 0
    calls: list[int] = []

    def add(tx: memdb.Transaction) -> int:
        calls.append(tx["n"])
        if len(calls) < 4:
            other["n"] += 10
        tx["n"] += 1
        return int(tx["n"])

    assert db.transact(add) == 31 and calls == [0, 10, 20, 30] and db["n"] == 31

    def never(tx: memdb.Transaction) -> None:
        calls.append(0)
        tx["n"] += 1
        other["n"] += 1

    calls.clear()
    with pytest.raises(memdb.ConflictError) as caught:
        db.transact(never, retries=3)
    assert len(calls) == 4 and "4 times" in caught.value.__notes__[0]
    calls.clear()
    with pytest.raises(memdb.ConflictError):
        db.transact(never, retries=0)
    assert len(calls) == 1


def test_transact_passes_other_errors_on(db: memdb.Database) -> None:
    def fails(tx: memdb.Transaction) -> None:
        tx["a"] = 1
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        db.transact(fails)
    assert len(db) == 0
    assert db.transact(lambda tx: tx.abort()) is None
    assert db.transact(lambda tx: tx.isolation, isolation="snapshot") == "snapshot"
    with pytest.raises(ValueError, match="retries"):
        db.transact(fails, retries=-1)
    with pytest.raises(TypeError, match="function"):
        db.transact(3)  # type: ignore[arg-type]


def test_transactional(db: memdb.Database, other: memdb.Database) -> None:
    db.update({"a": 10, "b": 0})

    @db.transactional
    def move(tx: memdb.Transaction, source: str, target: str, *, amount: int = 1) -> int:
        """Moves money."""
        tx[source] -= amount
        tx[target] += amount
        return int(tx[source])

    assert move("a", "b", amount=3) == 7 and db == {"a": 7, "b": 3}
    assert move.__name__ == "move" and move.__doc__ == "Moves money."

    @db.transactional(retries=0, isolation="snapshot")
    def touch(tx: memdb.Transaction) -> str:
        tx["a"] = 1
        other["a"] = 2
        return tx.isolation

    with pytest.raises(memdb.ConflictError):
        touch()

    async def coroutine(tx: memdb.Transaction) -> None: ...

    def generator(tx: memdb.Transaction) -> Iterator[int]:
        yield 1

    for wrong in (coroutine, generator):
        with pytest.raises(TypeError, match="coroutine or generator function"):
            db.transactional(wrong)
        with pytest.raises(TypeError, match="coroutine or generator function"):
            db.transact(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="retry"):
        db.transactional(retry=3)  # type: ignore[call-overload]


def test_threads_that_add_to_the_same_keys(opened: Opener, db: memdb.Database) -> None:
    names = ["a", "b", "c", "d"]
    db.update(dict.fromkeys(names, 0))
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        handle = opened() if seed % 2 else db
        try:
            for n in range(50):
                source, target = names[(seed + n) % 4], names[(seed * 3 + n + 1) % 4]

                def move(tx: memdb.Transaction, source: str = source, target: str = target) -> None:
                    tx[source] -= 1
                    tx[target] += 1

                handle.transact(move, retries=1000)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures and sum(db.get_many(names)) == 0
