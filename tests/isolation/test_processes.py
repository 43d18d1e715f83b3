"""Isolation between processes while the writer is killed: each test beside the defect that it must catch."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from isolation import workloads
from isolation.conftest import Crew

SECONDS = [pytest.param(1.0, id="quick"), pytest.param(20.0, id="long", marks=pytest.mark.slow)]
DEFECT_SECONDS = 40.0


def kills(seconds: float) -> int:
    return 2 if seconds < 5 else 10


def is_caught(round_: Callable[[float], bool]) -> bool:
    """Rounds of a workload with a defect, until one of them shows it."""
    end = time.monotonic() + DEFECT_SECONDS
    seconds = 0.2
    while time.monotonic() < end:
        if round_(seconds):
            return True
        seconds = min(2 * seconds, 5.0)
    return False


# -------------------------------------------------------------------------------------- lost updates, read
# skew


def bank(crew: Crew, seconds: float, writers: str, readers: str, killed: int = 0) -> set[int]:
    """All totals that anybody saw."""
    workloads.fill_bank(crew.db)
    works = [(workloads.transfer, seed, seconds, writers) for seed in range(3)]
    *transfers, seen = crew.run(*works, (workloads.audit, 9, seconds, readers), kills=killed)
    assert sum(transfers) > 0
    total = sum(crew.db.values(prefix=("account",)))
    return {*seen, total}


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
@pytest.mark.parametrize("seconds", SECONDS)
def test_no_money_is_lost_or_made(crew: Crew, seconds: float, isolation: str) -> None:
    seen = bank(crew, seconds, isolation, "snapshot", kills(seconds))
    assert seen == {workloads.ACCOUNTS * workloads.MONEY}


def test_without_transactions_money_is_lost(crew: Crew) -> None:
    expected = {workloads.ACCOUNTS * workloads.MONEY}
    assert is_caught(lambda seconds: bank(crew, seconds, "none", "snapshot") != expected)


def test_without_snapshots_totals_are_wrong(crew: Crew) -> None:
    expected = {workloads.ACCOUNTS * workloads.MONEY}
    assert is_caught(lambda seconds: bank(crew, seconds, "serializable", "none") != expected)


# --------------------------------------------------------------------------------------------------- write
# skew


def on_call(crew: Crew, seconds: float, isolation: str, killed: int = 0) -> int:
    """How often nobody was on call."""
    workloads.fill_on_call(crew.db)
    return sum(crew.everywhere(workloads.leave_or_return, seconds, isolation, killed))


@pytest.mark.parametrize("seconds", SECONDS)
def test_somebody_is_on_call(crew: Crew, seconds: float) -> None:
    assert on_call(crew, seconds, "serializable", kills(seconds)) == 0


def test_snapshot_isolation_allows_write_skew(crew: Crew) -> None:
    assert is_caught(lambda seconds: on_call(crew, seconds, "snapshot") > 0)


# ------------------------------------------------------------------------------------------------------
# phantoms


def slots(crew: Crew, seconds: float, isolation: str, killed: int = 0) -> int:
    """The most slots that were taken at one time."""
    return max(crew.everywhere(workloads.take_slots, seconds, isolation, killed))


@pytest.mark.parametrize("seconds", SECONDS)
def test_no_slot_is_taken_beyond_the_last(crew: Crew, seconds: float) -> None:
    assert slots(crew, seconds, "serializable", kills(seconds)) == workloads.SLOTS


def test_snapshot_isolation_allows_phantoms(crew: Crew) -> None:
    assert is_caught(lambda seconds: slots(crew, seconds, "snapshot") > workloads.SLOTS)


# ----------------------------------------------------------------------------------------------------- long
# fork


def fork(crew: Crew, seconds: float, mode: str, killed: int = 0) -> list[Any]:
    """States that two readers saw and that have no order."""
    crew.db.set_many({("fork", "x"): 0, ("fork", "y"): 0})
    *_, seen, seen_backwards = crew.run(
        (workloads.count_up, "x", seconds),
        (workloads.count_up, "y", seconds),
        (workloads.see_both, ["x", "y"], seconds, mode),
        (workloads.see_both, ["y", "x"], seconds, mode),
        kills=killed,
    )
    assert len(seen) > 1 and len(seen_backwards) > 1
    return workloads.forks(seen + seen_backwards)


@pytest.mark.parametrize("isolation", ["serializable", "snapshot"])
@pytest.mark.parametrize("seconds", SECONDS)
def test_all_readers_see_one_order_of_writes(crew: Crew, seconds: float, isolation: str) -> None:
    assert fork(crew, seconds, isolation, kills(seconds)) == []


def test_single_reads_see_two_orders(crew: Crew) -> None:
    assert is_caught(lambda seconds: fork(crew, seconds, "none") != [])


# ------------------------------------------------------------------------------------------------------ the
# ring


def ring(crew: Crew, seconds: float, mode: str, killed: int = 0) -> bool:
    """Was it one cycle over all keys all the time?"""
    workloads.fill_ring(crew.db)
    works = [(workloads.rewire, seed, seconds, mode) for seed in range(3)]
    *rewired, broken = crew.run(*works, (workloads.watch_ring, 9, seconds, mode), kills=killed)
    assert sum(rewired) > 0
    return not broken and sorted(workloads.walk(crew.db)) == list(range(workloads.RING))


@pytest.mark.parametrize("seconds", SECONDS)
def test_the_ring_stays_one_cycle(crew: Crew, seconds: float) -> None:
    assert ring(crew, seconds, "serializable", kills(seconds))


def test_without_transactions_the_ring_breaks(crew: Crew) -> None:
    assert is_caught(lambda seconds: not ring(crew, seconds, "none"))


# -------------------------------------------------------------------------------------------------- exactly
# once


@pytest.mark.parametrize("seconds", SECONDS)
def test_every_acknowledged_change_is_done_once(crew: Crew, seconds: float) -> None:
    """Rule C2: whoever's answer died with the writer gets it from the next one."""
    reports = crew.everywhere(workloads.count, seconds, "", kills(seconds))
    for kind in ("increment", "modify", "compare_and_set", "transact"):
        assert crew.db["count", kind] == sum(done[kind] for done, _ in reports), kind
    left = {key: value for _, one in reports for key, value in one.items()}
    assert dict(crew.db.items(prefix=("piped",))) == left and len(left) > 100


def test_adding_by_hand_loses_some(crew: Crew) -> None:
    def round_(seconds: float) -> bool:
        crew.db.clear()
        done = sum(crew.everywhere(workloads.count_by_hand, seconds, ""))
        return bool(crew.db["count", "hand"] < done)

    assert is_caught(round_)
