"""Each anomaly as two or three transactions interleaved step by step: which isolation lets it happen.

Invariant: the schedule is fixed, so that a verdict is exact: a conflict must come, or must not.
"""

from collections.abc import Callable
from typing import Any

import pytest

import memdb

Anomaly = Callable[[memdb.Database, str], None]


def _lost_update(db: memdb.Database, isolation: str) -> None:
    db["n"] = 1
    with db.transaction(isolation=isolation) as first:
        seen = first["n"]
        with db.transaction(isolation=isolation) as second:
            second["n"] += 10
        first["n"] = seen + 1
    assert db["n"] != 2


def _blind_first_updater(db: memdb.Database, isolation: str) -> None:
    """Neither has read the key: serially, the last one wins; snapshot isolation lets the first one win."""
    db["n"] = 1
    with db.transaction(isolation=isolation) as first:
        first["n"] = 2
        with db.transaction(isolation=isolation) as second:
            second["n"] = 3
    assert db["n"] == 2


def _write_skew(db: memdb.Database, isolation: str) -> None:
    db.update(a=1, b=1)
    with db.transaction(isolation=isolation) as first:
        if first["a"] + first["b"] == 2:
            first["a"] = 0
        with db.transaction(isolation=isolation) as second:
            if second["a"] + second["b"] == 2:
                second["b"] = 0


def _write_skew_over_absence(db: memdb.Database, isolation: str) -> None:
    with db.transaction(isolation=isolation) as first:
        if "b" not in first:
            first["a"] = 0
        with db.transaction(isolation=isolation) as second:
            if "a" not in second:
                second["b"] = 0


def _phantom(db: memdb.Database, isolation: str) -> None:
    with db.transaction(isolation=isolation) as first:
        first["sum"] = sum(first.values(prefix=("part",)))
        with db.transaction(isolation=isolation) as second:
            second["part", 1] = 5


def _phantom_by_delete(db: memdb.Database, isolation: str) -> None:
    db["part", 1] = 5
    with db.transaction(isolation=isolation) as first:
        first["sum"] = sum(first.values(prefix=("part",)))
        with db.transaction(isolation=isolation) as second:
            del second["part", 1]


def _phantom_of_the_length(db: memdb.Database, isolation: str) -> None:
    with db.transaction(isolation=isolation) as first:
        first["length"] = len(first)
        with db.transaction(isolation=isolation) as second:
            second["another"] = 5


def _predicate_skew(db: memdb.Database, isolation: str) -> None:
    """Both count a range and write into it: each would have counted the other's."""
    with db.transaction(isolation=isolation) as first:
        first["part", 1] = len(list(first.keys(prefix=("part",))))
        with db.transaction(isolation=isolation) as second:
            second["part", 2] = len(list(second.keys(prefix=("part",))))


def _read_only_anomaly(db: memdb.Database, isolation: str) -> None:
    """Fekete's: with the reader's answer there is no serial order, though the two writers alone have one."""
    db.update(x=0, y=0)
    with db.transaction(isolation=isolation) as withdrawal:
        total = withdrawal["x"] + withdrawal["y"]
        with db.transaction(isolation=isolation) as deposit:
            deposit["y"] += 20
        with db.transaction(isolation=isolation) as report:
            assert (report["x"], report["y"]) == (0, 20)
        withdrawal["x"] = -11 if total < 10 else -10


@pytest.mark.parametrize(
    ("anomaly", "prevented_by"),
    [
        (_lost_update, {"serializable", "snapshot"}),
        (_blind_first_updater, {"snapshot"}),
        (_write_skew, {"serializable"}),
        (_write_skew_over_absence, {"serializable"}),
        (_phantom, {"serializable"}),
        (_phantom_by_delete, {"serializable"}),
        (_phantom_of_the_length, {"serializable"}),
        (_predicate_skew, {"serializable"}),
        (_read_only_anomaly, {"serializable"}),
    ],
)
@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_an_anomaly(db: memdb.Database, anomaly: Anomaly, prevented_by: set[str], isolation: str) -> None:
    if isolation not in prevented_by:
        anomaly(db, isolation)
        return
    before = db.lsn
    with pytest.raises(memdb.ConflictError) as caught:
        anomaly(db, isolation)
    assert caught.value.reason in ("changed", "range")
    assert caught.value.winner_lsn in (None, 0) or before < caught.value.winner_lsn <= db.lsn


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_read_skew_is_never_seen(db: memdb.Database, isolation: str) -> None:
    """Every read is of one point in time; a transaction that only reads never conflicts."""
    db.update(a=1, b=1, z=1)
    with db.transaction(isolation=isolation) as tx:
        assert tx["a"] == 1
        db.update(a=2, b=2)
        del db["z"]
        db["c"] = 2
        assert tx["b"] == 1 and tx.get_many(["a", "b", "c", "z"]) == [1, 1, None, 1]
        assert list(tx.items()) == [("a", 1), ("b", 1), ("z", 1)] and len(tx) == 3
    assert tx.commit_lsn is None


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
def test_what_is_written_apart_does_not_conflict(db: memdb.Database, isolation: str) -> None:
    db.update({("a", n): 0 for n in range(10)} | {("b", n): 0 for n in range(10)})
    with db.transaction(isolation=isolation) as first:
        first["a", "sum"] = sum(first.values(prefix=("a",)))
        with db.transaction(isolation=isolation) as second:
            second["b", "sum"] = sum(second.values(prefix=("b",)))
        db["c"] = 1
    assert db["a", "sum"] == db["b", "sum"] == 0 and first.commit_lsn > second.commit_lsn


def test_a_conflict_changes_nothing_and_names_keys_and_winner(db: memdb.Database) -> None:
    db.update(dict.fromkeys(range(50), 0))
    with pytest.raises(memdb.ConflictError) as caught, db.transaction() as tx:
        for n in range(50):
            tx[n] += 1
        db[7] = 70
        winner = db.lsn
    assert list(caught.value.keys) == [7] and caught.value.winner_lsn == winner
    assert dict(db) == {**dict.fromkeys(range(50), 0), 7: 70}
    assert db.transact(_bump_all) == 50 and db[7] == 71


def _bump_all(tx: Any) -> int:
    for key in list(tx):
        tx[key] += 1
    return len(tx)


def test_a_range_counts_as_read_only_as_far_as_it_was_read(db: memdb.Database) -> None:
    db.update(dict.fromkeys(range(100), 0))
    with db.transaction() as tx:
        first = next(iter(tx.items(start=10)))
        tx["first"] = first[0]
        db[90] = 1
    assert db["first"] == 10
    with pytest.raises(memdb.ConflictError), db.transaction() as tx:
        rows = iter(tx.items(start=10))
        tx["some"] = [next(rows)[0] for _ in range(5)]
        db[12] = 1
    with pytest.raises(memdb.ConflictError), db.transaction() as tx:
        last = next(iter(tx.range(reverse=True, stop=100)))
        tx["last"] = last[0]
        db[99.5] = 1
        db[99] = 1


def test_a_writer_that_sees_its_own_writes_only_does_not_conflict(db: memdb.Database) -> None:
    with db.transaction() as tx:
        tx["mine"] = 1
        assert tx["mine"] == 1 and tx.pop("mine") == 1 and "mine" not in tx
        tx["mine"] = 2
        db["mine"] = 5
    assert db["mine"] == 2, "it was written before it was read: nothing of it was read from the database"
