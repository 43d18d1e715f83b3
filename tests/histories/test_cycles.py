"""The black-box checker: each anomaly in a history made by hand is found; what is sound is left alone."""

import random
from itertools import count
from typing import Any

import pytest
from histories.cycles import Cycles, check_cycles
from histories.history import Operation

_numbers = count(1)
_ITEMS = count(1)


def txn(*steps: tuple[Any, ...], isolation: str = "serializable", outcome: str = "ok", begun: int = 0,
        ended: int | None = 100) -> Operation:  # fmt: skip
    """A transaction; all of them overlap unless times are given. ("r", key, "ab"), ("a", key, "c")."""
    names = {"r": "get", "a": "append"}
    made = [[names[name], "L" + key, list(what) if name == "r" else what] for name, key, what in steps]
    return Operation(1, next(_numbers), "transaction", begun, ended, outcome, made, isolation)


def found(*operations: Operation) -> set[str]:
    return {one.name for one in check_cycles(operations)}


def test_a_sound_history_has_no_anomaly() -> None:
    assert found(
        txn(("a", "x", "1"), begun=0, ended=1),
        txn(("r", "x", "1"), ("a", "x", "2"), ("r", "x", "12"), begun=2, ended=9),
        txn(("r", "x", "1"), ("a", "x", "9"), outcome="conflict", begun=3, ended=8),
        txn(("r", "x", "12"), ("a", "y", "3"), ("a", "y", "4"), begun=10, ended=11),
        txn(("r", "x", "12"), ("r", "y", ""), begun=10, ended=11),
        txn(("a", "y", "5"), outcome="open", begun=12, ended=None),
        txn(("r", "x", "12"), ("r", "y", "345"), begun=13, ended=14),
        txn(("a", "y", "6"), outcome="open", begun=12, ended=None),
    ) == set()  # fmt: skip


ANOMALIES = {
    "G0": [
        txn(("a", "x", "1"), ("a", "y", "2")),
        txn(("a", "x", "3"), ("a", "y", "4")),
        txn(("r", "x", "13"), ("r", "y", "42")),
    ],
    "G1a": [txn(("a", "x", "1"), outcome="conflict"), txn(("r", "x", "1"))],
    "G1b": [txn(("a", "x", "1"), ("a", "x", "2")), txn(("r", "x", "1")), txn(("r", "x", "12"))],
    "G1c": [txn(("a", "x", "1"), ("r", "y", "2")), txn(("a", "y", "2"), ("r", "x", "1"))],
    "G-single": [
        txn(("r", "x", ""), ("r", "y", "2")),
        txn(("a", "x", "1"), ("a", "y", "2")),
        txn(("r", "x", "1")),
    ],
    "G2": [
        txn(("r", "x", ""), ("a", "y", "1")),
        txn(("r", "y", ""), ("a", "x", "2")),
        txn(("r", "x", "2"), ("r", "y", "1")),
    ],
    "internal": [txn(("a", "x", "1"), ("r", "x", ""))],
    "incompatible order": [
        txn(("a", "x", "1")), txn(("a", "x", "2")), txn(("r", "x", "12")), txn(("r", "x", "2"))
    ],
    "lost append": [
        txn(("a", "x", "1"), begun=0, ended=1), txn(("a", "x", "2"), begun=0, ended=1),
        txn(("r", "x", "2"), begun=2, ended=3),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ANOMALIES)
def test_an_anomaly_is_found(name: str) -> None:
    assert name in found(*ANOMALIES[name])


@pytest.mark.parametrize("name", ["G0", "G1a", "G1b", "G1c", "G-single"])
def test_snapshot_isolation_excludes_it_too(name: str) -> None:
    weaker = [Operation(**{**_fields(one), "isolation": "snapshot"}) for one in ANOMALIES[name]]
    assert name in found(*weaker)


def test_write_skew_is_allowed_between_snapshot_transactions_only() -> None:
    first, second, reader = ANOMALIES["G2"]
    weak = [Operation(**{**_fields(one), "isolation": "snapshot"}) for one in (first, second)]
    assert found(*weak, reader) == set()
    assert found(weak[0], second, reader) == set(), "the one that owes what it has read comes first"


def test_a_read_only_snapshot_owes_what_it_has_read() -> None:
    """Two readers that saw two independent writes in two orders (long fork)."""
    assert "G2" in found(
        txn(("a", "x", "1")), txn(("a", "y", "2")),
        txn(("r", "x", "1"), ("r", "y", ""), isolation="snapshot"),
        txn(("r", "x", ""), ("r", "y", "2"), isolation="snapshot"),
    )  # fmt: skip


def test_fekete_read_only_anomaly() -> None:
    history = [
        txn(("r", "x", ""), ("r", "y", ""), ("a", "x", "1")),
        txn(("r", "y", ""), ("a", "y", "2")),
        txn(("r", "x", ""), ("r", "y", "2")),
        txn(("r", "x", "1")),
    ]
    assert "G2" in found(*history)


def test_real_time_is_a_dependency() -> None:
    """Each key alone is in order; the two ends say otherwise."""
    assert found(
        txn(("a", "x", "1"), begun=0, ended=1),
        txn(("a", "y", "2"), begun=2, ended=3),
        txn(("r", "y", "2"), ("r", "x", ""), begun=0, ended=9),
        txn(("r", "x", "1"), begun=10, ended=11),
    ) == {"G-single"}


def test_a_lost_update_of_lists_is_found() -> None:
    history = [
        txn(("r", "x", ""), ("a", "x", "1")),
        txn(("r", "x", ""), ("a", "x", "2")),
        txn(("r", "x", "12")),
    ]
    assert "G-single" in found(*history)


def test_a_long_serial_history_is_sound_and_one_swap_in_it_is_found() -> None:
    choose = random.Random(4)
    lists: dict[str, str] = dict.fromkeys("pqrs", "")
    history = []
    for at in range(2000):
        if at % 500 == 499:
            lists = {chr(ord(max(lists)) + 1 + n): "" for n in range(4)}
        read, written = choose.sample(sorted(lists), 2)
        item = chr(0x4E00 + next(_ITEMS))
        history.append(txn(("r", read, lists[read]), ("a", written, item), begun=2 * at, ended=2 * at + 5))
        lists[written] += item
    checker = Cycles(history)
    assert checker.run() == [] and checker.edges > 4000
    reads = [one for one in history if len(one.steps[0][2]) > 40]
    victim = reads[len(reads) // 2]
    victim.steps[0][2] = victim.steps[0][2][:-20]
    assert {one.name for one in check_cycles(history)} & {"G-single", "G2", "lost append"}


def _fields(operation: Operation) -> dict[str, Any]:
    return {name: getattr(operation, name) for name in Operation.__slots__}
