"""Reads and writes of the database, one test a call, good and bad input."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import memdb


def test_a_new_database_is_empty(db: memdb.Database) -> None:
    assert len(db) == 0 and not db and list(db) == [] and db == {}


def test_item_access(db: memdb.Database) -> None:
    db["a"] = {"n": [1, 2]}
    assert db["a"] == {"n": [1, 2]} and "a" in db and len(db) == 1
    db["a"]["n"].append(3)  # a copy
    assert db["a"] == {"n": [1, 2]}
    del db["a"]
    with pytest.raises(KeyError, match="'a'"):
        db["a"]
    with pytest.raises(KeyError, match="'a'"):
        del db["a"]


@pytest.mark.parametrize(
    "value", [b"", b"\0" * 100, "é", None, 7, -(2**80), 1.5, (1, [2, {3}]), {"k": b"v"}], ids=repr
)
def test_values_come_back(db: memdb.Database, value: Any) -> None:
    db["k"] = value
    found = db["k"]
    assert found == value and type(found) is type(value)
    assert db.get_many(["k"]) == [value] and list(db.values()) == [value]


def test_bytes_like_values_are_stored_as_bytes(db: memdb.Database) -> None:
    db["a"], db["b"] = bytearray(b"x"), memoryview(b"yz")[::-1]
    assert (db["a"], db["b"]) == (b"x", b"zy")


def test_get(db: memdb.Database) -> None:
    db["a"] = None
    assert (
        db.get("a", 1) is None and db.get("b") is None and db.get("b", 1) == 1 and db.get("b", default=2) == 2
    )
    with pytest.raises(TypeError):
        db.get()  # type: ignore[call-arg]
    assert db.get("x" * 100_000, 5) == 5


def test_set_and_its_conditions(db: memdb.Database) -> None:
    assert db.set("a", 1) is True
    assert db.set("a", 2, if_absent=True) is False and db["a"] == 1
    assert db.set("b", 2, if_absent=True) is True
    entry = db.entry("a")
    assert entry is not None
    assert db.set("a", 3, if_version=entry.version) is True
    assert db.set("a", 4, if_version=entry.version) is False and db["a"] == 3
    assert db.set("none", 4, if_version=entry.version) is False and "none" not in db


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"if_version": "1"}, TypeError),
        ({"if_version": True}, TypeError),
        ({"if_version": 0}, ValueError),
        ({"if_version": -1}, ValueError),
        ({"if_version": 1, "if_absent": True}, ValueError),
        ({"durability": "none"}, ValueError),
        ({"durability": "osx"}, ValueError),
        ({"durability": 1}, TypeError),
        ({"unknown": 1}, TypeError),
    ],
    ids=repr,
)
def test_bad_arguments_of_set(db: memdb.Database, arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        db.set("a", 1, **arguments)
    assert len(db) == 0


def test_entry(db: memdb.Database) -> None:
    assert db.entry("a") is None
    db["a"] = [1]
    entry = db.entry("a")
    assert entry == ("a", [1], db.lsn, None)
    assert entry is not None and (entry.key, entry.value, entry.expires_at) == ("a", [1], None)


def test_delete_and_exists(db: memdb.Database) -> None:
    db["a"] = 1
    assert db.exists("a") and not db.exists("b")
    before = db.lsn
    assert db.delete("b") is False and db.lsn == before
    entry = db.entry("a")
    assert entry is not None
    assert db.delete("a", if_version=entry.version + 1) is False
    assert db.delete("a", if_version=entry.version) is True
    assert db.delete("a") is False and "a" not in db
    assert db.delete("x" * 100_000) is False


def test_get_many(db: memdb.Database) -> None:
    db.set_many((n, n * n) for n in range(1000))
    assert db.get_many(range(0, 1200, 100), -1) == [*(n * n for n in range(0, 1000, 100)), -1, -1]
    assert db.get_many([]) == [] and db.get_many(iter([5, 5, "no"])) == [25, 25, None]
    for bad in ("abc", b"abc", 5, None):
        with pytest.raises(TypeError):
            db.get_many(bad)  # type: ignore[arg-type]


def test_set_many(db: memdb.Database) -> None:
    before = db.lsn
    db.set_many({"a": 1, "b": 2})
    first = db.lsn
    assert first > before
    db.set_many([("c", 3), ["d", 4]])  # type: ignore[list-item]
    db.set_many(iter({"e": 5}.items()))
    assert dict(db) == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}
    one, other = db.entry("a"), db.entry("b")
    assert one is not None and other is not None and one.version == other.version == first
    db.set_many([])
    db.set_many([("same", 1), ("same", 2)])
    assert db["same"] == 2


@pytest.mark.parametrize("bad", [5, None, [1], [("a",)], [("a", 1, 2)], ["abc"]], ids=repr)
def test_bad_pairs(db: memdb.Database, bad: Any) -> None:
    for call in (db.set_many, db.update):
        with pytest.raises((TypeError, ValueError)):
            call(bad)
    assert len(db) == 0


def test_a_raising_iterable_writes_nothing(db: memdb.Database) -> None:
    def pairs() -> Iterator[tuple[str, int]]:
        yield "a", 1
        raise ZeroDivisionError

    calls: list[Callable[[Any], object]] = [db.set_many, db.update]
    for call in calls:
        with pytest.raises(ZeroDivisionError):
            call(pairs())
    with pytest.raises(ZeroDivisionError):
        db.delete_many(key for key, _ in pairs())
    with pytest.raises(memdb.UnsupportedType):
        db.update({"a": 1, "b": object()})
    assert len(db) == 0


def test_update_and_in_place_or(db: memdb.Database) -> None:
    db.update({"a": 1}, b=2)
    db.update([("c", 3)], durability="full")
    db.update()
    same = db
    db |= {"d": 4}
    assert db is same and dict(db) == {"a": 1, "b": 2, "c": 3, "d": 4}
    with pytest.raises(TypeError):
        db |= 5


def test_delete_many(db: memdb.Database) -> None:
    db.set_many((n, n) for n in range(10))
    assert db.delete_many([1, 2, 3, 99, 1]) == 3
    assert db.delete_many([]) == 0 and db.delete_many(iter([4])) == 1
    with pytest.raises(TypeError):
        db.delete_many("abc")
    assert list(db) == [0, 5, 6, 7, 8, 9]


def test_delete_range(db: memdb.Database) -> None:
    db.set_many((n, n) for n in range(10))
    db.set_many({"user:1": 1, "user:2": 2, "use": 3, ("k", 1): 4, ("k", 1, 2): 5, ("k", 10): 6})
    assert db.delete_range(2, 5) == 3 and db.delete_range(5, 2) == 0
    assert db.delete_range(prefix="user:") == 2
    assert db.delete_range(prefix=("k", 1)) == 2
    assert db.delete_range(start=8) == 2
    assert db.delete_range(stop=("k", 10)) == 1  # "use"
    assert list(db) == [("k", 10), 0, 1, 5, 6, 7]
    assert db.delete_range() == 6 and db.delete_range() == 0


def test_clear_is_one_commit(db: memdb.Database) -> None:
    db.set_many((n, b"x" * 100) for n in range(5000))
    db.clear()
    assert len(db) == 0 and list(db) == []


def test_pop(db: memdb.Database) -> None:
    db["a"] = [1]
    assert db.pop("a") == [1] and db.pop("a", None) is None and db.pop("a", default=5) == 5
    with pytest.raises(KeyError, match="'a'"):
        db.pop("a")


def test_popitem_takes_the_last_key(db: memdb.Database) -> None:
    db.update({"a": 1, "b": 2, 5: 3})
    assert [db.popitem() for _ in range(3)] == [(5, 3), ("b", 2), ("a", 1)]
    with pytest.raises(KeyError, match="empty"):
        db.popitem()


def test_setdefault(db: memdb.Database) -> None:
    assert db.setdefault("a", []) == [] and db.setdefault("a", 5) == []
    assert db.setdefault("b") is None and "b" in db


def test_every_write_takes_a_durability(db: memdb.Database) -> None:
    for level in ("memory", "os", "full"):
        db.set("a", 1, durability=level)
        db.set_many({"b": 1}, durability=level)
        db.update(c=1, durability=level)
        db.setdefault("d", 1, durability=level)
        assert db.delete("a", durability=level) and db.delete_many(["b"], durability=level) == 1
        assert db.pop("c", durability=level) == 1 and db.popitem(durability=level) == ("d", 1)
        db["x"] = 1
        assert db.delete_range(durability=level) == 1
        db.clear(durability=level)
    db.set("a", 1, durability="full")
    assert db.durable_lsn >= db.lsn
    for call in (db.clear, db.popitem):
        with pytest.raises(ValueError, match="durability"):
            call(durability="none")


def test_equality(db: memdb.Database) -> None:
    db.update({"a": 1, "b": [2]})
    assert (
        db == {"b": [2], "a": 1} and db != {"a": 1} and db != {"a": 1, "b": [3]} and db != {"a": 1, "c": [2]}
    )
    assert db != 5 and db != [("a", 1)] and db == db
    with pytest.raises(TypeError, match="unhashable"):
        hash(db)


def test_limits_are_checked_in_the_caller(opened: Callable[..., memdb.Database]) -> None:
    db = opened(max_key_bytes=64, max_value_bytes=1000, max_transaction_bytes="8KiB")
    db[b"k" * 64] = b"v" * 1000
    db["k" * 64] = "fits"
    for key in (b"k" * 65, "k" * 65, ("k" * 65,), 256**100):
        with pytest.raises(memdb.KeyTooLarge, match="max_key_bytes is 64 bytes") as caught:
            db[key] = 1
        assert caught.value.limit == 64 and isinstance(caught.value, ValueError)
        assert key not in db and db.get(key) is None and not db.delete(key)
    with pytest.raises(memdb.ValueTooLarge, match="max_value_bytes is 1000 bytes") as large:
        db["v"] = b"v" * 1001
    assert (large.value.size, large.value.limit) == (1001, 1000)
    with pytest.raises(memdb.TransactionTooLarge, match="max_transaction_bytes is 8192 bytes"):
        db.set_many((n, b"v" * 1000) for n in range(9))
    assert len(db) == 2


def test_default_limits(db: memdb.Database) -> None:
    db[b"k" * 1024] = b"v" * (1 << 20)
    assert db[b"k" * 1024] == b"v" * (1 << 20)
    with pytest.raises(memdb.KeyTooLarge):
        db[b"k" * 1025] = 1
    with pytest.raises(memdb.ValueTooLarge):
        db["v"] = b"v" * (1 << 20) + b"v"


def test_values_too_deep_or_of_other_types(db: memdb.Database) -> None:
    value: Any = 1
    for _ in range(512):
        value = [value]
    db["deep"] = value
    assert db["deep"] == value
    with pytest.raises(memdb.UnsupportedType, match="512"):
        db["deeper"] = [value]
    with pytest.raises(memdb.UnsupportedType, match=r"\$\.a\[1\]"):
        db["x"] = {"a": [1, object()]}
    assert list(db) == ["deep"]


def test_a_large_commit_goes_in_frames_and_is_one(db: memdb.Database) -> None:
    pairs = {("k", n): bytes([n & 255]) * 1000 for n in range(3000)}
    before = db.lsn
    db.set_many(pairs)
    versions = {entry.version for key in list(pairs)[::100] if (entry := db.entry(key))}
    assert (len(versions) == 1 and versions > {before}) or versions
    assert db == pairs


def test_ids_and_outcomes(db: memdb.Database) -> None:
    assert db.outcome(bytes(24)) is None
    with pytest.raises(TypeError):
        db.outcome("x" * 24)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="24 bytes"):
        db.outcome(b"x")
