"""The exact checker: each anomaly in a history made by hand is found; what is sound is left alone."""

from itertools import count
from typing import Any

import pytest
from histories.exact import Exact, check_exact
from histories.history import UNHEARD, Operation

_numbers = count(1)


def done(kind: str, begun: int, ended: int | None, *steps: list[Any], **more: Any) -> Operation:
    """An operation; acknowledged unless told otherwise."""
    outcome = more.pop("outcome", "ok")
    client = more.pop("client", 1)
    return Operation(client, next(_numbers), kind, begun, ended, outcome, list(steps), **more)


def test_a_sound_history_has_no_violation() -> None:
    history = [
        done("call", 1, 2, ["set", "a", "x"], lsn=1),
        done("call", 3, 4, ["add", "n", 2, 2], lsn=2),
        done("transaction", 5, 9, ["get", "a", "x"], ["range", "a", "z", None, [["a", "x"], ["n", 2]]],
             ["set", "b", "y"], ["get", "b", "y"], ["count", "a", "z", 3], at=2, lsn=4),
        done("call", 5, 6, ["append", "zl", "i"], lsn=3, client=2),
        done("snapshot", 10, 11, ["range", "a", "z", 2, [["a", "x"], ["b", "y"]]], at=4, client=3),
        done("call", 12, 13, ["clear", "a", "c", 2], lsn=7),
        done("call", 14, 15, ["delete", "a", False], low=7, high=7),
        done("call", 14, 15, ["get", "zl", ["i"]], low=0, high=9),
        done("call", 16, None, ["add", "n", 2, UNHEARD], outcome="open", lsn=9, client=2),
        done("call", 16, None, ["set", "a", "z"], outcome="open", client=3),
        done("transaction", 16, 17, ["set", "q", "z"], ["clear", "q", "r", 1], at=9, client=4),
        done("snapshot", 17, 18, ["range", "", "zz", None, [["n", 4], ["zl", ["i"]]]], at=9),
    ]  # fmt: skip
    exact = Exact(history)
    assert exact.run() == []
    assert exact.transactions == 6 and exact.model.values == {"zl": ["i"], "n": 4}


A = ["set", "a", 1]
UNSOUND: dict[str, tuple[list[Operation], str]] = {
    "dirty read": (
        [done("call", 1, 9, ["set", "a", 1], lsn=5), done("snapshot", 2, 3, ["get", "a", 1], at=4)],
        "None is right",
    ),
    "newest instead of the snapshot": (
        [
            done("call", 1, 2, ["set", "a", 1], lsn=1),
            done("transaction", 3, 9, ["get", "b", None], ["get", "a", 2], at=1),
            done("call", 4, 5, ["set", "a", 2], lsn=2, client=2),
        ],
        "1 is right",
    ),
    "own write not seen": (
        [done("transaction", 1, 2, ["set", "a", 1], ["get", "a", None], at=0, lsn=1)],
        "1 is right",
    ),
    "lost update": (
        [
            done("call", 1, 2, ["set", "a", 1], lsn=1),
            done("transaction", 3, 9, ["get", "a", 1], ["set", "a", 2], at=1, lsn=3, isolation="snapshot"),
            done("call", 4, 5, ["set", "a", 5], lsn=2, client=2),
        ],
        "lost update",
    ),
    "lost update of a cleared range": (
        [
            done("call", 1, 2, ["set", "a", 1], lsn=1),
            done("transaction", 3, 9, ["clear", "a", "b", 1], at=1, lsn=3, isolation="snapshot"),
            done("call", 4, 5, ["set", "aa", 5], lsn=2, client=2),
        ],
        "lost update",
    ),
    "stale point read": (
        [
            done("transaction", 1, 9, ["get", "a", None], ["set", "b", 1], at=0, lsn=2),
            done("call", 2, 3, ["set", "a", 5], lsn=1, client=2),
        ],
        "just before its commit",
    ),
    "phantom": (
        [
            done("transaction", 1, 9, ["range", "a", "c", None, []], ["set", "z", 1], at=0, lsn=2),
            done("call", 2, 3, ["set", "b", 5], lsn=1, client=2),
        ],
        "just before its commit",
    ),
    "phantom of a count": (
        [
            done("transaction", 1, 9, ["count", "a", "c", 0], ["set", "z", 1], at=0, lsn=2),
            done("call", 2, 3, ["set", "b", 5], lsn=1, client=2),
        ],
        "just before its commit",
    ),
    "applied twice": (
        [
            done("call", 1, 2, ["add", "n", 1, 1], lsn=1),
            done("call", 3, 4, ["add", "n", 1, 3], lsn=3),
        ],
        "2 is right",
    ),
    "acknowledged and lost": (
        [done("call", 1, 2, ["set", "a", 1])],
        "no commit is known",
    ),
    "an acknowledged transaction that is lost": (
        [done("transaction", 1, 2, ["set", "a", 1], at=0)],
        "no commit of ['a'] is known",
    ),
    "refused and done": (
        [done("transaction", 1, 2, ["set", "a", 1], at=0, lsn=1, outcome="conflict")],
        "and yet committed",
    ),
    "a refused transaction read what never was": (
        [done("transaction", 1, 2, ["get", "a", 7], at=0, outcome="conflict")],
        "None is right",
    ),
    "one LSN twice": (
        [done("call", 1, 2, ["set", "a", 1], lsn=1), done("call", 1, 2, ["set", "b", 1], lsn=1, client=2)],
        "is also that of",
    ),
    "an old snapshot": (
        [done("call", 1, 2, ["set", "a", 1], lsn=1), done("snapshot", 3, 4, ["get", "a", None], at=0)],
        "had ended before",
    ),
    "two snapshots in the wrong order": (
        [
            done("call", 1, 9, ["set", "a", 1], lsn=1),
            done("snapshot", 2, 3, ["get", "a", 1], at=1, client=2),
            done("snapshot", 4, 5, ["get", "a", None], at=0, client=3),
        ],
        "had ended before",
    ),
    "a commit below one that had ended": (
        [done("call", 1, 2, ["set", "a", 1], lsn=2), done("call", 3, 4, ["set", "b", 1], lsn=1)],
        "had ended before",
    ),
    "a stale single read": (
        [
            done("call", 1, 2, ["set", "a", 1], lsn=1),
            done("call", 3, 4, ["set", "a", 2], lsn=2),
            done("call", 5, 6, ["get", "a", 1], low=0, high=2, client=2),
        ],
        "true at no LSN from 2 to 2",
    ),
    "a single read of what is not yet there": (
        [
            done("call", 1, 9, ["set", "a", 1], lsn=5),
            done("call", 3, 4, ["get", "a", 1], low=0, high=4, client=2),
        ],
        "true at no LSN",
    ),
    "a deletion of what is there finds nothing": (
        [done("call", 1, 2, A, lsn=1), done("call", 3, 4, ["delete", "a", False], low=1, high=1)],
        "true at no LSN",
    ),
    "a cleared range had nothing in it": (
        [done("call", 1, 2, A, lsn=1), done("call", 3, 4, ["clear", "a", "b", 0], low=1, high=1)],
        "true at no LSN",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNSOUND)
def test_an_anomaly_is_found(name: str) -> None:
    history, text = UNSOUND[name]
    violations = check_exact(history)
    assert any(text in one for one in violations), violations


def test_what_came_and_went_unseen_is_no_lost_update() -> None:
    meanwhile = [
        done("call", 4, 5, ["set", "a", 5], lsn=1, client=2),
        done("call", 6, 7, ["delete", "a", True], lsn=2, client=2),
    ]
    writer = done("transaction", 3, 9, ["set", "a", 2], at=0, lsn=3, isolation="snapshot")
    assert check_exact([writer, *meanwhile]) == []
    assert check_exact([writer, *meanwhile[:1]])


def test_a_cleared_range_that_was_empty_writes_nothing() -> None:
    history = [
        done("transaction", 3, 9, ["clear", "a", "b", 0], ["set", "z", 1], at=0, lsn=2, isolation="snapshot"),
        done("call", 4, 5, ["set", "a", 5], lsn=1, client=2),
        done("call", 10, 11, ["get", "a", 5], low=2, high=2),
    ]
    assert check_exact(history) == []


def test_write_skew_is_for_snapshot_transactions_only() -> None:
    def history(isolation: str) -> list[Operation]:
        return [
            done("transaction", 1, 9, ["get", "a", None], ["set", "b", 1], at=0, lsn=1, isolation=isolation),
            done("transaction", 1, 9, ["get", "b", None], ["set", "a", 1], at=0, lsn=2, isolation=isolation),
        ]

    assert check_exact(history("snapshot")) == []
    assert len(check_exact(history("serializable"))) == 1


def test_a_deletion_that_finds_nothing_is_a_read() -> None:
    def history(isolation: str) -> list[Operation]:
        steps: list[list[Any]] = [["delete", "a", False], ["set", "b", 1]]
        return [
            done("transaction", 1, 9, *steps, at=0, lsn=2, isolation=isolation),
            done("call", 2, 3, ["set", "a", 5], lsn=1, client=2),
            done("snapshot", 10, 11, ["range", "", "z", None, [["a", 5], ["b", 1]]], at=2),
        ]

    assert check_exact(history("snapshot")) == []
    assert len(check_exact(history("serializable"))) >= 1


def test_a_single_read_may_see_any_state_of_its_time() -> None:
    history = [done("call", at, at + 1, ["set", "a", at], lsn=at) for at in (1, 3, 5)]
    reads = [done("call", 2, 9, ["get", "a", value], low=0, high=5, client=2) for value in (1, 3, 5)]
    assert check_exact(history + reads) == []
    assert len(check_exact([*history, done("call", 2, 9, ["get", "a", None], low=0, high=5, client=2)])) == 0
    assert len(check_exact([*history, done("call", 3, 9, ["get", "a", None], low=0, high=5, client=2)])) == 1


def test_the_state_before_is_part_of_it() -> None:
    assert check_exact([done("snapshot", 1, 2, ["get", "a", 1], at=7)], {"a": 1}) == []
