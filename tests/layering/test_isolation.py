"""Transactions over keys of layers: validation of what was read there, phantoms, ranges that stay apart."""

import itertools
from collections.abc import Callable

import pytest

import memdb
from memdb import layering, values
from memdb.layering import CATALOGUE, COLLECTIONS, SpaceKey

Opener = Callable[..., memdb.Database]
Use = Callable[[memdb.Transaction], object]

SPACES = (CATALOGUE, COLLECTIONS)


def at(space: int, name: str) -> SpaceKey:
    return SpaceKey(bytes([space]) + name.encode())


def whole(space: int) -> tuple[SpaceKey, SpaceKey]:
    return SpaceKey(bytes([space])), SpaceKey(bytes([space + 1]))


@pytest.fixture
def db(shared: memdb.Database) -> memdb.Database:
    """The module's database, emptied."""
    return shared


@pytest.fixture
def other(two_handles: list[memdb.Database]) -> memdb.Database:
    """A second handle on the database of ``db``."""
    return two_handles[1]


def conflict_of(tx: memdb.Transaction) -> memdb.ConflictError:
    with pytest.raises(memdb.ConflictError) as caught:
        tx.commit()
    return caught.value


POINT_READS: dict[str, Callable[[SpaceKey], Use]] = {
    "get": lambda key: lambda tx: tx.get(key),
    "in": lambda key: lambda tx: key in tx,
    "get_many": lambda key: lambda tx: tx.get_many([key]),
    "get_many of a layer": lambda key: lambda tx: layering.get_many(tx, [key.stored]),
    "payloads": lambda key: lambda tx: layering.payloads(tx, [key]),
    "entry_us": lambda key: lambda tx: layering.entry_us(tx, key),
    "delete": lambda key: lambda tx: tx.delete(key),
    "if_absent": lambda key: lambda tx: tx.set(key, 1, if_absent=True),
}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("read", POINT_READS)
def test_a_key_that_was_read_changed(
    db: memdb.Database, other: memdb.Database, read: str, space: int
) -> None:
    key = at(space, "k")
    for was_there, change in itertools.product((True, False), ("set", "delete", "range")):
        db.delete(key)
        if was_there:
            db[key] = 1
        elif change != "set":
            continue
        tx = db.transaction()
        POINT_READS[read](key)(tx)
        tx["result"] = 1
        if change == "set":
            other[key] = 2
        elif change == "delete":
            del other[key]
        else:
            assert other.delete_range(*whole(space)) == 1
        error = conflict_of(tx)
        assert error.reason == "changed" and error.keys == (key,) and repr(key) in str(error)


RANGE_READS: dict[str, Callable[[SpaceKey, SpaceKey], Use]] = {
    "range": lambda start, stop: lambda tx: list(tx.range(start, stop)),
    "reverse": lambda start, stop: lambda tx: list(tx.range(start, stop, reverse=True)),
    "count": lambda start, stop: lambda tx: len(tx.keys(start=start, stop=stop)),
    "payloads": lambda start, stop: lambda tx: list(layering.scan_payloads(tx, start, stop)),
    "delete_range": lambda start, stop: lambda tx: tx.delete_range(start, stop),
}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("read", RANGE_READS)
def test_phantoms(db: memdb.Database, other: memdb.Database, read: str, space: int) -> None:
    bounds = at(space, "b"), at(space, "d")
    for change in ("new", "changed", "deleted"):
        other.delete_range(*whole(space))
        other.set_many({at(space, "a"): 1, at(space, "b"): 2})
        tx = db.transaction()
        RANGE_READS[read](*bounds)(tx)
        tx["result"] = 1
        if change == "new":
            other[at(space, "c")] = 3
        elif change == "changed":
            other[at(space, "b")] = 3
        else:
            del other[at(space, "b")]
        error = conflict_of(tx)
        assert error.reason == "range"
        if change != "deleted":
            assert error.keys == (at(space, "c" if change == "new" else "b"),)


@pytest.mark.parametrize("space", SPACES)
def test_what_lies_elsewhere_is_no_conflict(db: memdb.Database, other: memdb.Database, space: int) -> None:
    elsewhere = SPACES[1 - SPACES.index(space)]
    with db.transaction() as tx:
        assert tx.get(at(space, "k")) is None and list(tx.range(at(space, "b"), at(space, "d"))) == []
        tx["result"] = tx[at(space, "own")] = 1
        other.set_many({"k": 1, at(elsewhere, "k"): 1, at(elsewhere, "c"): 1, at(space, "d"): 1})
        other.delete_range("a", "z")
    assert db["result"] == db[at(space, "own")] == 1


def test_the_whole_of_neighbouring_spaces(db: memdb.Database, other: memdb.Database) -> None:
    """Ranges that touch at the border of two spaces stay two: no range lies in more than one."""
    db.set_many({"k": 1, at(CATALOGUE, "k"): 1, at(COLLECTIONS, "k"): 1})
    with db.transaction() as tx:
        assert [len(list(tx.range(*whole(space)))) for space in SPACES] == [1, 1] and list(tx) == ["k"]
        tx["done"] = 1
    for space in SPACES:
        tx = db.transaction()
        assert [len(list(tx.range(*whole(one)))) for one in SPACES] == [1, 1]
        tx["done"] = 2
        other[at(space, "k")] = 2
        assert conflict_of(tx).reason == "range"
    with db.transaction() as tx:
        assert [tx.delete_range(*whole(space)) for space in SPACES] == [1, 1]
        tx.clear()
        tx[at(COLLECTIONS, "new")] = 2
        assert list(tx.range(*whole(COLLECTIONS))) == [(b"\x04new", 2)] and len(tx) == 0
    assert list(db) == [] and list(db.range(*whole(CATALOGUE))) == []
    assert list(db.range(*whole(COLLECTIONS))) == [(b"\x04new", 2)] and db.check().ok


def test_too_many_reads_are_drawn_together_space_by_space(opened: Opener) -> None:
    """What was read takes more than a commit may: it is told as ranges, few of them, none across spaces."""
    db = opened(max_transaction_bytes="8KiB", max_key_bytes=64)
    other = opened(max_transaction_bytes="8KiB", max_key_bytes=64)
    kinds: list[Callable[[int], object]] = [
        lambda n: ("m", n),
        lambda n: at(CATALOGUE, f"{n:05}"),
        lambda n: at(COLLECTIONS, f"{n:05}"),
    ]
    for kind in kinds:
        tx = db.transaction()
        for n in range(0, 2000, 2):
            assert [tx.get(one(n)) for one in kinds] == [None] * 3
        tx["result"] = 1
        other[kind(501)] = 1  # between keys that were read
        other.delete(kind(501))
        other.set_many({kind(5000): 1})  # behind all of them
        error = conflict_of(tx)
        assert error.reason == "range"
        with db.transaction() as again:
            for n in range(0, 2000, 2):
                assert [again.get(one(n)) for one in kinds] == [None] * 3
            again["result"] = 1
            if kind is not kinds[0]:
                other["n"] = 1  # behind all that was read of the mapping
        other.delete(kind(5000))


def test_isolation_snapshot_judges_what_is_written(db: memdb.Database, other: memdb.Database) -> None:
    key = at(COLLECTIONS, "k")
    db[key] = 1
    with db.transaction(isolation="snapshot") as tx:
        assert tx[key] == 1 and list(tx.range(*whole(COLLECTIONS))) == [(key.stored, 1)]
        other[key] = 2
        tx["result"] = 1
    tx = db.transaction(isolation="snapshot")
    layering.put_many(tx, [(key.stored, values.encode(3), 0)])
    other[key] = 4
    assert conflict_of(tx).keys == (key,) and db[key] == 4


def test_a_value_that_was_read_expires(db: memdb.Database) -> None:
    key = at(COLLECTIONS, "k")
    db.set(key, 1, ttl=0.3)
    tx = db.transaction()
    assert tx[key] == 1
    tx["result"] = 1
    while key in db:
        pass
    error = conflict_of(tx)
    assert error.reason == "expired" and error.keys == (key,)


def test_savepoints_and_ranges(db: memdb.Database) -> None:
    a, b = at(COLLECTIONS, "a"), at(COLLECTIONS, "b")
    db.set_many({a: 1, b: 2, at(CATALOGUE, "a"): 3})
    with db.transaction() as tx:
        before = tx.savepoint()
        assert tx.delete_range(a, b) == 1 and tx.delete_range(*whole(CATALOGUE)) == 1
        assert list(tx.range(*whole(COLLECTIONS))) == [(b.stored, 2)]
        tx.rollback_to(before)
        assert tx.get_many([a, at(CATALOGUE, "a")]) == [1, 3]
        tx.delete_range(b, whole(COLLECTIONS)[1])
    assert list(db.range(*whole(COLLECTIONS))) == [(a.stored, 1)]


def test_one_transaction_over_all_spaces(db: memdb.Database, other: memdb.Database) -> None:
    """Seen together or not at all, also by snapshots."""
    keys = ["k", at(CATALOGUE, "k"), at(COLLECTIONS, "k")]
    for n in range(20):
        before = other.snapshot()
        with db.transaction() as tx:
            for key in keys:
                tx[key] = n
        assert before.get_many(keys, -1) == [n - 1] * 3 and other.get_many(keys) == [n] * 3
        before.close()
