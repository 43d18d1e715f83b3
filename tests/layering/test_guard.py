"""What a layer asks of a transaction besides reading and writing: a key that must not change, a range that
goes unread."""

from collections.abc import Callable
from typing import Any

import pytest

import memdb
from memdb import values
from memdb.layering import (
    SpaceKey,
    discard_range,
    entry_us,
    guard,
    guard_range,
    put_columns,
    put_many,
)

DEFINITION = SpaceKey(b"\x03definition")
ONE, TWO, END = (SpaceKey(b"\x04" + last) for last in (b"one", b"two", b"zzz"))


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
@pytest.mark.parametrize("change", ["set", "delete", "create"])
def test_a_guarded_key_decides_about_the_commit(db: memdb.Database, isolation: Any, change: str) -> None:
    if change != "create":
        db[DEFINITION] = 1
    tx = db.transaction(isolation=isolation)
    guard(tx, DEFINITION)
    tx[ONE] = 1
    if change == "delete":
        del db[DEFINITION]
    else:
        db[DEFINITION] = 2
    with pytest.raises(memdb.ConflictError) as caught:
        tx.commit()
    assert caught.value.keys == (DEFINITION,) and ONE not in db
    assert ("read the key" if isolation == "serializable" else "relies on the key") in str(caught.value)


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_a_guarded_key_that_stays_is_no_reason(db: memdb.Database, isolation: Any) -> None:
    db[DEFINITION] = 1
    with db.transaction(isolation=isolation) as tx:
        guard(tx, DEFINITION)
        guard(tx, DEFINITION)
        tx[ONE] = 1
        db[TWO] = 2
    assert db[ONE] == 1
    with db.transaction(isolation=isolation) as tx:
        guard(tx, DEFINITION)
        tx[DEFINITION] = 2  # its own write
    assert db[DEFINITION] == 2


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
@pytest.mark.parametrize("change", ["set", "delete", "create", "discard"])
def test_a_guarded_range_decides_about_the_commit(db: memdb.Database, isolation: Any, change: str) -> None:
    if change != "create":
        db[TWO] = 1
    tx = db.transaction(isolation=isolation)
    guard_range(tx, ONE, END)
    tx[DEFINITION] = 1
    if change == "delete":
        del db[TWO]
    elif change == "discard":
        with db.transaction() as other:
            discard_range(other, ONE, END)
    else:
        db[TWO] = 2
    with pytest.raises(memdb.ConflictError) as caught:
        tx.commit()
    assert caught.value.reason == "range" and DEFINITION not in db


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_what_lies_beside_a_guarded_range_is_no_reason(db: memdb.Database, isolation: Any) -> None:
    with db.transaction(isolation=isolation) as tx:
        guard_range(tx, ONE, TWO)
        guard_range(tx, ONE, TWO)
        guard_range(tx, DEFINITION, SpaceKey(b"\x04"))
        tx[ONE] = 1  # its own write
        db[TWO] = 2
        db["mapping"] = 3
    assert db.get_many([ONE, TWO, "mapping"]) == [1, 2, 3]
    with pytest.raises(ValueError, match="one space"), db.transaction(isolation=isolation) as tx:
        guard_range(tx, DEFINITION, END)


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_of_more_ranges_than_a_commit_can_discard_nothing_is_left(db: memdb.Database, isolation: Any) -> None:
    """The last one is deleted key by key, so what others put there makes the commit fail."""
    tx = db.transaction(isolation=isolation)
    for n in range(65):
        discard_range(tx, *(SpaceKey(b"\x04%c%c" % (n, end)) for end in (0, 9)))
    db[SpaceKey(b"\x04\x40\x05")] = 1
    with pytest.raises(memdb.ConflictError):
        tx.commit()


def test_many_are_put_where_the_end_has_room(opened: Callable[..., memdb.Database]) -> None:
    """On the way to it they would take more than a transaction may."""
    db = opened(max_transaction_bytes="16KiB")
    one, two, three = (SpaceKey(b"\x04%d" % n) for n in range(3))
    large, small = values.encode("x" * 9000), values.encode(1)
    with db.transaction() as tx:
        put_many(tx, [(three, large, 0)])
        put_many(tx, [(one, small, 0), (two, large, 0), (three, small, 0)])
        with pytest.raises(memdb.TransactionTooLarge):
            put_many(tx, [(one, None, 0), (three, large, 0)])
        assert tx[one] == 1
    assert db.get_many([one, three]) == [1, 1] and len(db[two]) == 9000


@pytest.mark.parametrize("expires_us", [0, 1 << 60])
def test_columns_are_put_with_the_expiry_that_was_asked_for(db: memdb.Database, expires_us: int) -> None:
    with db.transaction() as tx:
        put_columns(tx, [([ONE.stored], [values.encode(1)]), ([TWO.stored], [values.encode(2)])], expires_us)
        assert [entry_us(tx, key) for key in (ONE, TWO)] == [(1, 0, expires_us), (2, 0, expires_us)]
    for number, key in enumerate((ONE, TWO), 1):
        assert entry_us(db, key) == (number, tx.commit_lsn, expires_us)


def test_what_is_read_at_isolation_snapshot_still_decides_nothing(db: memdb.Database) -> None:
    db[ONE] = 1
    with db.transaction(isolation="snapshot") as tx:
        guard(tx, DEFINITION)
        assert tx[ONE] == 1
        tx[TWO] = 2
        db[ONE] = 3
    assert db.get_many([ONE, TWO]) == [3, 2]


def test_a_range_is_discarded_with_what_others_put_there(db: memdb.Database) -> None:
    db[ONE] = 1
    with db.transaction() as tx:
        discard_range(tx, ONE, END)
        assert list(tx.range(ONE, END)) == []
        tx[ONE] = 5
        db[TWO] = 2
    assert list(db.range(ONE, END)) == [(ONE.stored, 5)]


def test_discarding_can_be_taken_back(db: memdb.Database) -> None:
    db[ONE] = 1
    with db.transaction() as tx:
        before = tx.savepoint()
        discard_range(tx, ONE, END)
        tx.rollback_to(before)
    assert db[ONE] == 1


def test_what_is_no_key_of_a_layer_is_refused(db: memdb.Database) -> None:
    with db.transaction() as tx:
        with pytest.raises(TypeError):
            guard(tx, "plain")  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            discard_range(tx, "a", "b")  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            discard_range(tx, DEFINITION, END)
