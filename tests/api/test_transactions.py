"""One transaction by itself: its mapping, its limits, its end, and who may use it."""

import copy
import os
import pickle
import threading
from collections.abc import Callable, Iterator, MutableMapping
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any

import pytest

import memdb

Opener = Callable[..., memdb.Database]


@pytest.fixture
def tx(db: memdb.Database) -> Iterator[memdb.Transaction]:
    """A transaction over three keys, aborted at the end of the test if it is still open."""
    db.update({"a": 1, "b": b"two", "c": {"three": [3]}})
    transaction = db.transaction()
    yield transaction
    if not transaction.closed:
        transaction.abort()


# --------------------------------------------------------------------------------------------------- mapping


def test_a_transaction_is_a_mutable_mapping_in_key_order(tx: memdb.Transaction) -> None:
    assert isinstance(tx, MutableMapping)
    assert tx["a"] == 1 and tx["b"] == b"two" and tx["c"] == {"three": [3]}
    assert tx.get("missing") is None and tx.get("missing", 7) == 7
    with pytest.raises(KeyError):
        tx["missing"]
    assert "a" in tx and "missing" not in tx and tx.exists("b") and not tx.exists("d")
    assert len(tx) == 3 and list(tx) == ["a", "b", "c"] and list(reversed(tx)) == ["c", "b", "a"]
    assert tx == {"a": 1, "b": b"two", "c": {"three": [3]}} and tx != {"a": 1}
    assert tx.get_many(["c", "x", "a"], 0) == [{"three": [3]}, 0, 1]
    assert bool(tx) and list(tx.keys()) == ["a", "b", "c"] and list(tx.values(limit=1)) == [1]
    assert dict(tx.items(start="b")) == {"b": b"two", "c": {"three": [3]}}
    with pytest.raises(TypeError, match="unhashable"):
        hash(tx)


def test_own_writes_are_read_and_nobody_else_sees_them(db: memdb.Database, tx: memdb.Transaction) -> None:
    tx["a"] = {"new": [1]}
    tx["raw"] = b"bytes"
    tx["from a buffer"] = memoryview(b"view")
    del tx["b"]
    assert tx["a"] == {"new": [1]} and tx["raw"] == b"bytes" and tx["from a buffer"] == b"view"
    tx["a"]["new"].append(2)
    assert tx["a"] == {"new": [1]}, "what a read returns is a copy"
    assert "b" not in tx and len(tx) == 4 and list(tx) == ["a", "c", "from a buffer", "raw"]
    with pytest.raises(KeyError):
        del tx["b"]
    with pytest.raises(KeyError):
        tx["b"]
    assert db == {"a": 1, "b": b"two", "c": {"three": [3]}}
    tx.commit()
    assert db == {"a": {"new": [1]}, "c": {"three": [3]}, "from a buffer": b"view", "raw": b"bytes"}


def test_the_calls_of_a_dict(db: memdb.Database, tx: memdb.Transaction) -> None:
    assert tx.setdefault("a", 9) == 1 and tx.setdefault("d", 4) == 4
    assert tx.pop("a") == 1 and tx.pop("a", None) is None
    with pytest.raises(KeyError):
        tx.pop("a")
    assert tx.popitem() == ("d", 4)
    tx.update({"e": 5}, f=6)
    tx |= {"g": 7}
    tx.update([("h", 8)])
    assert dict(tx) == {"b": b"two", "c": {"three": [3]}, "e": 5, "f": 6, "g": 7, "h": 8}
    tx.clear()
    assert len(tx) == 0 and not tx and list(tx.range(reverse=True)) == []
    with pytest.raises(KeyError, match="no key"):
        tx.popitem()
    tx["only"] = 1
    assert list(tx.items()) == [("only", 1)]
    tx.commit()
    assert db == {"only": 1}


def test_conditions_are_judged_in_the_transaction(db: memdb.Database, tx: memdb.Transaction) -> None:
    version = db.entry("a").version  # type: ignore[union-attr]
    assert tx.entry("a") == ("a", 1, version, None) and tx.entry("missing") is None
    assert not tx.set("a", 2, if_absent=True) and not tx.set("a", 2, if_version=version + 1)
    assert tx["a"] == 1
    assert tx.set("a", 2, if_version=version) and tx["a"] == 2
    assert not tx.set("a", 3, if_version=version), "an own write has no version yet"
    assert tx.entry("a").version == 0  # type: ignore[union-attr]
    assert tx.set("n", 1, if_absent=True) and not tx.set("n", 2, if_absent=True)
    assert not tx.delete("n", if_version=version) and tx.delete("n") and not tx.delete("n")
    assert tx.delete("b", if_version=db.entry("b").version)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="exclude"):
        tx.set("a", 1, if_absent=True, if_version=version)
    with pytest.raises(ValueError, match="no version"):
        tx.set("a", 1, if_version=0)
    with pytest.raises(TypeError, match="if_version"):
        tx.delete("a", if_version="1")  # type: ignore[arg-type]
    tx.commit()
    assert db == {"a": 2, "c": {"three": [3]}}


def test_many(db: memdb.Database, tx: memdb.Transaction) -> None:
    tx.set_many({"x": 1, "y": 2})
    tx.set_many([("z", 3), ("x", 4)])

    def broken() -> Iterator[tuple[str, int]]:
        yield "never", 1
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        tx.set_many(broken())
    with pytest.raises(ValueError, match="length 1"):
        tx.update([("never", 1), ("odd",)])  # type: ignore[list-item]
    with pytest.raises(memdb.UnsupportedType):
        tx.update({"never": 1, "bad": object()})
    assert "never" not in tx
    assert tx.delete_many(["x", "x", "a", "missing"]) == 2
    with pytest.raises(TypeError, match="iterable of keys"):
        tx.delete_many("abc")
    with pytest.raises(TypeError, match="iterable of keys"):
        tx.get_many("abc")
    assert tx.get_many(["x", "a", "y", "z"]) == [None, None, 2, 3]
    tx.set_many((key, tx[key] * 10) for key in ("y", "z"))  # the iterable reads the transaction
    tx.commit()
    assert db == {"b": b"two", "c": {"three": [3]}, "y": 20, "z": 30}


def test_increment(db: memdb.Database, tx: memdb.Transaction) -> None:
    assert tx.increment("a") == 2 and tx.increment("a", 2.5) == 4.5 and tx.increment("new", -3) == -3
    with pytest.raises(TypeError):
        tx.increment("b")
    with pytest.raises(TypeError):
        tx.increment("a", "1")  # type: ignore[arg-type]
    tx.commit()
    assert db["a"] == 4.5 and db["new"] == -3


def test_ranges_delete(db: memdb.Database) -> None:
    db.set_many((("k", n), n) for n in range(100))
    db["other"] = 1
    with db.transaction() as tx:
        tx["k", 20] = "own"
        tx["k", 200] = "own, behind"
        assert tx.delete_range(("k", 10), ("k", 30)) == 20
        assert tx.delete_range(("k", 10), ("k", 30)) == 0
        tx["k", 15] = "back"
        assert list(tx.keys(start=("k", 8), stop=("k", 32))) == [
            ("k", 8),
            ("k", 9),
            ("k", 15),
            ("k", 30),
            ("k", 31),
        ]
        assert list(tx.values(start=("k", 9), stop=("k", 31), reverse=True)) == [30, "back", 9]
        assert tx.delete_range(prefix=("k",)) == 82
        assert list(tx) == ["other"]
        tx["k", 1] = 1
        assert tx.delete_range(("x",), ("a",)) == 0
    assert db == {"other": 1, ("k", 1): 1}


def test_more_ranges_than_a_commit_has(db: memdb.Database) -> None:
    db.set_many((n, n) for n in range(300))
    with db.transaction() as tx:
        for n in range(0, 300, 3):
            assert tx.delete_range(n, n + 2) == 2
        assert list(tx) == list(range(2, 300, 3))
    assert list(db) == list(range(2, 300, 3))


# ----------------------------------------------------------------------------------------- time to live


def test_expiry_in_a_transaction(db: memdb.Database) -> None:
    db["plain"] = 1
    db.set_many({"x": 1})
    with db.transaction() as tx:
        assert tx.set("s", b"v", ttl=100) and tx.set("t", [1], ttl=timedelta(seconds=50))
        assert 99 < (tx.ttl("s") or 0) <= 100 and 49 < (tx.ttl("t") or 0) <= 50 and tx.ttl("plain") is None
        with pytest.raises(KeyError):
            tx.ttl("missing")
        assert tx.expire("plain", 30) and not tx.expire("missing", 30)
        assert tx["plain"] == 1 and 29 < (tx.ttl("plain") or 0) <= 30
        assert tx.persist("t") and not tx.persist("t") and not tx.persist("missing") and tx["t"] == [1]
        tx.set_many({"x": 2, "y": 3}, ttl=10)
        assert tx.increment("x") == 3 and 9 < (tx.ttl("x") or 0) <= 10
        tx["y"] = 4
        assert tx.ttl("y") is None
        for wrong in (0, -1, float("nan"), 1e12):
            with pytest.raises(ValueError, match="ttl"):
                tx.set("s", 1, ttl=wrong)
        with pytest.raises(TypeError, match="ttl"):
            tx.expire("s", None)  # type: ignore[arg-type]
    for key, least in (("s", 98), ("plain", 28), ("x", 8)):
        assert least < db.entry(key).expires_at - memdb_time() <= least + 2, key  # type: ignore[union-attr,operator]
    assert db.entry("t").expires_at is None  # type: ignore[union-attr]


def memdb_time() -> float:
    import time

    return time.time()


def test_an_own_write_outlives_its_ttl_within_the_transaction(db: memdb.Database) -> None:
    with db.transaction() as tx:
        tx.set("s", 1, ttl=0.001)
        threading.Event().wait(0.05)
        assert tx["s"] == 1 and list(tx) == ["s"] and 0 < (tx.ttl("s") or 0) < 0.01
    assert "s" not in db


# ------------------------------------------------------------------------------------------------ savepoints


def test_savepoints(db: memdb.Database, tx: memdb.Transaction) -> None:
    tx["a"] = 2
    first = tx.savepoint()
    tx["a"] = 3
    tx["d"] = 4
    tx.delete_range("b", "d")
    second = tx.savepoint()
    tx.clear()
    tx["e"] = 5
    assert dict(tx) == {"e": 5}
    tx.rollback_to(second)
    assert dict(tx) == {"a": 3, "d": 4}
    tx["a"] = 6
    tx.rollback_to(second)  # it stays
    assert dict(tx) == {"a": 3, "d": 4}
    tx.rollback_to(first)
    assert dict(tx) == {"a": 2, "b": b"two", "c": {"three": [3]}}
    with pytest.raises(ValueError, match="gone"):
        tx.rollback_to(second)
    third = tx.savepoint()
    with pytest.raises(ValueError, match="gone"):
        tx.rollback_to(second)
    with db.transaction() as other, pytest.raises(ValueError, match="another transaction"):
        other.rollback_to(third)
    with pytest.raises(TypeError, match="savepoint"):
        tx.rollback_to(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pickle.dumps(third)
    tx.commit()
    assert db == {"a": 2, "b": b"two", "c": {"three": [3]}}


def test_what_was_rolled_back_is_not_written(db: memdb.Database) -> None:
    tx = db.transaction()
    start = tx.savepoint()
    tx["a"] = 1
    tx.rollback_to(start)
    tx.commit()
    assert tx.commit_lsn is None and tx.id is None and len(db) == 0


# --------------------------------------------------------------------------------------------------- its end


def test_ids_and_lsns(db: memdb.Database) -> None:
    with db.transaction() as tx:
        assert tx.lsn == db.lsn and tx.commit_lsn is None and tx.id is None and not tx.closed
        tx["a"] = 1
    assert tx.closed and tx.commit_lsn == db.lsn == db.entry("a").version  # type: ignore[union-attr]
    assert type(tx.id) is bytes and len(tx.id) == 24 and db.outcome(tx.id) is True
    before = db.lsn
    with db.transaction() as reader:
        assert reader["a"] == 1 and list(reader) == ["a"]
    assert reader.commit_lsn is None and reader.id is None and db.lsn == before
    with db.transaction() as empty:
        empty.delete_range("x", "y")
        assert not empty.delete("missing")
    assert empty.id is None and db.lsn == before
    seen = set()
    for n in range(5):
        with db.transaction() as tx:
            tx["a"] = n
        seen.add(tx.id)
    assert len(seen) == 5


def test_an_exception_aborts_and_propagates(db: memdb.Database) -> None:
    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        tx["a"] = 1
        1 / 0  # noqa: B018
    assert len(db) == 0 and tx.closed and tx.id is None
    with pytest.raises(memdb.ClosedError, match="was aborted"):
        tx["a"]


def test_after_its_end(db: memdb.Database) -> None:
    with db.transaction() as tx:
        tx["a"] = 1
        scan, point = tx.range(), tx.savepoint()
        assert next(scan) == ("a", 1)
        tx.commit()
    uses: list[Callable[[], Any]] = [
        lambda: tx["a"],
        lambda: tx.get("a"),
        lambda: "a" in tx,
        lambda: len(tx),
        lambda: list(tx),
        lambda: next(scan),
        lambda: tx.get_many(["a"]),
        lambda: tx.entry("a"),
        lambda: tx.set("a", 1),
        lambda: tx.update(a=1),
        lambda: tx.delete("a"),
        lambda: tx.pop("a", None),
        lambda: tx.clear(),
        lambda: tx.increment("a"),
        lambda: tx.expire("a", 1),
        lambda: tx.savepoint(),
        lambda: tx.rollback_to(point),
        lambda: tx.commit(),
        lambda: tx.abort(),
        lambda: tx.__enter__(),
    ]
    for use in uses:
        with pytest.raises(memdb.ClosedError, match=r"committed at LSN \d+; begin a new one"):
            use()
    gone = db.transaction()
    gone.abort()
    gone.abort()
    with pytest.raises(memdb.ClosedError, match="aborted"):
        gone.commit()
    assert "ended" in repr(gone) and "serializable" in repr(gone)


def test_dropped_transactions_give_their_snapshots_back(db: memdb.Database) -> None:
    db["a"] = 1
    for n in range(600):  # more than there are reader slots
        tx = db.transaction()
        tx["a"] = n
        assert next(iter(tx)) == "a"
    del tx
    assert db["a"] == 1 and not db.readers()


def test_arguments(db: memdb.Database, opened: Opener) -> None:
    with pytest.raises(ValueError, match="isolation='dirty' is unknown: use 'serializable' or 'snapshot'"):
        db.transaction(isolation="dirty")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        db.transaction(isolation=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="durability"):
        db.transaction(durability="often")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout"):
        db.transaction(timeout=0)
    with pytest.raises(TypeError, match="timeout"):
        db.transaction(timeout="1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        db.transaction("serializable")  # type: ignore[misc]
    with db.transaction(isolation="snapshot", durability="full", timeout=5) as tx:
        assert tx.isolation == "snapshot"
        tx["a"] = 1
    assert tx.commit_lsn is not None and db.durable_lsn >= tx.commit_lsn


def test_limits_are_checked_when_a_write_is_made(opened: Opener) -> None:
    db = opened(max_key_bytes=16, max_value_bytes=1000, max_transaction_bytes="64KiB")
    with db.transaction() as tx:
        with pytest.raises(memdb.KeyTooLarge):
            tx["k" * 17] = 1
        with pytest.raises(memdb.ValueTooLarge):
            tx["k"] = b"v" * 1001
        with pytest.raises(memdb.ValueTooLarge):
            tx.update({"first": 1, "k": "v" * 1001})
        with pytest.raises(memdb.UnsupportedType):
            tx["k"] = object()
        with pytest.raises(memdb.UnsupportedType):
            tx[object()] = 1
        assert not tx.delete("k" * 100) and "k" * 100 not in tx and len(tx) == 0
        for n in range(64):
            tx[n] = b"v" * 900
        with pytest.raises(memdb.TransactionTooLarge, match="max_transaction_bytes") as caught:
            for n in range(64, 80):
                tx[n] = b"v" * 900
        assert caught.value.limit and caught.value.size and caught.value.size > caught.value.limit
        written = len(tx)
        with pytest.raises(memdb.TransactionTooLarge):
            tx.set_many(
                {1000: b"v" * 900, 1001: b"v" * 900, 1002: b"v" * 900, 1003: b"v" * 900, 1004: b"v" * 900}
            )
        assert len(tx) == written
        tx[0] = b"smaller"
    assert len(db) == written and db[0] == b"smaller"


def test_large_transactions_are_streamed(opened: Opener) -> None:
    db = opened(max_memory="128MiB")
    db["before"] = 1
    with db.transaction() as tx:
        assert tx["before"] == 1
        for n in range(8000):
            tx[n] = bytes([n & 255]) * 1000
        assert len(tx) == 8001
    assert len(db) == 8001 and db[7999] == bytes([7999 & 255]) * 1000


def test_large_reads_are_validated_as_ranges(opened: Opener) -> None:
    """What was read takes more room than a transaction has: it is sent as ranges, which hold more."""
    db = opened(max_transaction_bytes="64KiB")
    for part in range(10):
        db.set_many((("key", part, n), n) for n in range(500))
    keys = list(db)
    with db.transaction() as tx:
        assert tx.get_many(keys[::2]) == [key[2] for key in keys[::2]]
        tx["sum"] = 1
    assert db["sum"] == 1
    tx = db.transaction()
    tx.get_many(keys[::2])
    tx["sum"] = 2
    db[keys[100]] = "changed"
    with pytest.raises(memdb.ConflictError) as caught:
        tx.commit()
    assert caught.value.reason == "range" and caught.value.keys == (keys[100],)


@pytest.mark.parametrize("longest", [40_000, 64_997])  # with its frame 65,000 bytes: no key may be longer
def test_reads_of_keys_longer_than_any_that_can_be_written(opened: Opener, longest: int) -> None:
    """They don't fit as they are: the transaction counts as having read more."""
    db = opened(max_transaction_bytes="64KiB")
    for keys in ([b"x" * longest, b"y" * longest], [b"a", b"b" * 30_000, b"c" * longest]):
        with db.transaction() as tx:
            assert tx.get_many(keys) == [None, None, None][: len(keys)]
            tx["sum"] = 1
        tx = db.transaction()
        tx.get_many(keys)
        tx["sum"] = 2
        db[b"xz" if len(keys) == 2 else b"a"] = 1
        with pytest.raises(memdb.ConflictError):
            tx.commit()
        db.clear()


# --------------------------------------------------------------------------------------------------- who


def test_a_readonly_handle_reads(opened: Opener) -> None:
    db = opened()
    db["a"] = 1
    reader = opened(readonly=True)
    with reader.transaction() as tx:
        assert tx["a"] == 1 and list(tx) == ["a"]
        for write in (
            lambda: tx.set("a", 2),
            lambda: tx.clear(),
            lambda: tx.delete("a"),
            lambda: tx.increment("a"),
        ):
            with pytest.raises(memdb.ReadOnlyError):
                write()
    assert db["a"] == 1


def test_transactions_are_not_pickled_or_copied(tx: memdb.Transaction) -> None:
    for attempt in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="can't be pickled"):
            attempt(tx)  # type: ignore[operator]
    with pytest.raises(TypeError):
        pickle.dumps(tx.range())


def test_a_child_can_not_use_it(db: memdb.Database, tx: memdb.Transaction) -> None:
    tx["a"] = 2
    scan = tx.range()
    assert next(scan) == ("a", 2)
    child = os.fork()
    if child == 0:
        refused = 0
        for use in (
            lambda: tx["a"],
            lambda: tx.set("a", 1),
            lambda: next(scan),
            tx.commit,
            tx.abort,
            lambda: len(tx),
        ):
            try:
                use()
            except memdb.ForkedHandleError as error:
                refused += "begin one" in str(error)
            except memdb.Error:
                os._exit(99)
        try:
            with tx:
                pass
        except memdb.ForkedHandleError:
            refused += 1
        tx = scan = None  # type: ignore[assignment]
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    tx.commit()
    assert db["a"] == 2


def test_two_threads_at_once_get_an_error(db: memdb.Database) -> None:
    inside, done = threading.Event(), threading.Event()

    def slow() -> Iterator[tuple[str, int]]:
        inside.set()
        assert done.wait(30)
        yield "a", 1

    with db.transaction() as tx:
        worker = threading.Thread(target=tx.update, args=(slow(),))
        worker.start()
        assert inside.wait(30)
        for use in (lambda: tx["a"], lambda: tx.set("b", 1), lambda: list(tx), tx.commit, tx.abort):
            with pytest.raises(memdb.Error, match="in use by another thread"):
                use()
        done.set()
        worker.join(30)
        tx["b"] = 2  # one after the other is fine
    assert db == {"a": 1, "b": 2}


@pytest.mark.parametrize("end", ["commit", "abort"])
@pytest.mark.parametrize("call", ["set_many", "delete_many", "get_many", "get"])
def test_a_call_cannot_end_its_own_transaction(db: memdb.Database, call: str, end: str) -> None:
    class Zone(tzinfo):
        def utcoffset(self, when: datetime | None) -> timedelta:
            getattr(tx, end)()
            return timedelta(0)

    def arguments() -> Iterator[Any]:
        getattr(tx, end)()
        yield ("a", 1) if call == "set_many" else "a"

    with db.transaction() as tx:
        tx["b"] = 2
        with pytest.raises(memdb.Error, match="inside one of its own calls"):
            getattr(tx, call)(datetime(2000, 1, 1, tzinfo=Zone()) if call == "get" else arguments())
        assert list(tx.items()) == [("b", 2)], "it goes on as it was"
    assert db == {"b": 2}


def test_an_iterator_that_is_closed_while_it_decodes(
    db: memdb.Database, tx: memdb.Transaction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding may let another thread in. What is at hand is decoded to its end all the same."""
    key = ("m", 99, "t" * 200)
    db.update({("m", n): "other" * 10 for n in range(20)} | {key: Decimal("1.5")})

    def closing(text: str) -> Decimal:
        scan.close()
        monkeypatch.undo()
        assert len(list(db.values())) == 24, "what the iterator would give back is used again"
        return Decimal(text)

    with db.transaction() as reader:
        scan = iter(reader.range(prefix=("m",), reverse=True))
        monkeypatch.setattr("memdb.values.Decimal", closing)
        assert next(scan) == (key, Decimal("1.5"))
        assert list(scan) == []


def test_calls_on_the_database_are_outside(db: memdb.Database) -> None:
    with db.transaction(isolation="snapshot") as tx:
        tx["a"] = 1
        db["b"] = 2
        assert "a" not in db and "b" not in tx
        with db.transaction() as other:
            other["c"] = 3
        assert "c" in db and "c" not in tx
    assert db == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_transaction_does_not_end_inside_its_own_call(db: memdb.Database, end: str) -> None:
    with db.transaction() as tx:

        def pairs() -> Iterator[tuple[str, int]]:
            yield "a", 1
            getattr(tx, end)()
            yield "b", 2

        for call in (tx.update, tx.set_many):
            with pytest.raises(memdb.Error, match="inside one of its own calls"):
                call(pairs())
        with pytest.raises(memdb.Error, match="inside one of its own calls"):
            tx.delete_many(key for key, _ in pairs())
        tx["c"] = 3
    assert dict(db) == {"c": 3}
