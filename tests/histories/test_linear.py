"""Single-key linearizability: what no order explains is found; what one explains is left alone."""

import random
from itertools import count
from typing import Any

import pytest
from histories import linear
from histories.history import UNHEARD, Operation
from histories.linear import LinearityUndecided, check_linear, linearize

_numbers = count(1)


def call(begun: int, ended: int | None, *step: Any) -> Operation:
    """A call on one key, open if it has no end."""
    outcome = "open" if ended is None else "ok"
    return Operation(1, next(_numbers), "call", begun, ended, outcome, [list(step)])


SOUND = {
    "one after the other": [call(1, 2, "set", "k", "a"), call(3, 4, "get", "k", "a")],
    "either order": [
        call(1, 9, "set", "k", "a"), call(1, 9, "set", "k", "b"), call(10, 11, "get", "k", "a"),
    ],
    "seen before it has ended": [call(1, 9, "set", "k", "a"), call(3, 4, "get", "k", "a")],
    "not seen before it has ended": [call(1, 9, "set", "k", "a"), call(3, 4, "get", "k", None)],
    "open and done": [
        call(1, None, "set", "k", "a"), call(5, 6, "get", "k", None), call(7, 8, "get", "k", "a"),
    ],
    "open and never done": [call(1, None, "set", "k", "a"), call(5, 6, "get", "k", None)],
    "counter": [
        call(1, 9, "add", "k", 2, 3), call(1, 9, "add", "k", 1, 1), call(10, 11, "get", "k", 3),
    ],
    "counter with an open one": [
        call(1, None, "add", "k", 5, UNHEARD), call(2, 3, "add", "k", 1, 1), call(4, 5, "add", "k", 1, 7),
    ],
    "swap": [
        call(1, 2, "set", "k", "a"), call(3, 9, "swap", "k", "a", "b", True),
        call(3, 9, "swap", "k", "a", "c", False), call(10, 11, "get", "k", "b"),
    ],
    "delete": [
        call(1, 2, "set", "k", "a"), call(3, 9, "delete", "k", True), call(3, 9, "delete", "k", False),
    ],
}  # fmt: skip

UNSOUND = {
    "stale": [
        call(1, 2, "set", "k", "a"), call(3, 4, "set", "k", "b"), call(5, 6, "get", "k", "a"),
    ],
    "lost": [call(1, 2, "set", "k", "a"), call(5, 6, "get", "k", None)],
    "never written": [call(1, 2, "set", "k", "a"), call(5, 6, "get", "k", "z")],
    "new, then old": [
        call(1, 2, "set", "k", "a"), call(3, 20, "set", "k", "b"),
        call(5, 6, "get", "k", "b"), call(7, 8, "get", "k", "a"),
    ],
    "an open one done and undone": [
        call(1, None, "set", "k", "a"), call(5, 6, "get", "k", "a"), call(7, 8, "get", "k", None),
    ],
    "an open one before its begin": [call(1, 2, "get", "k", "a"), call(3, None, "set", "k", "a")],
    "counter applied twice": [call(1, 2, "add", "k", 1, 1), call(3, 4, "add", "k", 1, 3)],
    "two increments, one answer": [call(1, 9, "add", "k", 1, 1), call(1, 9, "add", "k", 1, 1)],
    "both swaps succeed": [
        call(1, 2, "set", "k", "a"),
        call(3, 9, "swap", "k", "a", "b", True), call(3, 9, "swap", "k", "a", "c", True),
    ],
    "a swap fails without cause": [
        call(1, 2, "set", "k", "a"), call(3, 4, "swap", "k", "a", "b", False),
    ],
    "both deletions find it": [
        call(1, 2, "set", "k", "a"), call(3, 9, "delete", "k", True), call(3, 9, "delete", "k", True),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_what_an_order_explains(name: str) -> None:
    assert linearize(SOUND[name]) is None


@pytest.mark.parametrize("name", UNSOUND)
def test_what_no_order_explains(name: str) -> None:
    assert "no order explains" in (linearize(UNSOUND[name]) or "")


def test_keys_are_judged_apart_and_refused_calls_not_at_all() -> None:
    refused = call(1, 2, "set", "k", "z")
    refused.outcome = "not done"
    history = [refused, call(3, 4, "get", "k", None), call(1, 2, "set", "j", "a")]
    assert check_linear(history) == []
    wrong = check_linear([*history, call(5, 6, "get", "j", None)])
    assert len(wrong) == 1 and wrong[0].startswith("j: ")


def _simulated(seed: int) -> list[Operation]:
    """Four clients whose calls take effect at a random moment between begin and end."""
    choose = random.Random(seed)
    effects = []
    for client in range(4):
        at = 0.0
        for number in range(150):
            begun = at + choose.random()
            effect = begun + choose.random() * 3
            at = effect + choose.random() * 3
            effects.append((effect, begun, at, f"{client}.{number}"))
    value, calls = None, []
    for _, begun, ended, name in sorted(effects):
        kind = choose.choice(("set", "get", "delete", "swap"))
        step: list[Any] = [kind, "k"]
        if kind == "set":
            step, value = [*step, name], name
        elif kind == "get":
            step.append(value)
        elif kind == "delete":
            step.append(value is not None)
            value = None
        else:
            expected = value if choose.random() < 0.5 else "other"
            step += [expected, name, expected == value]
            value = name if expected == value else value
        calls.append(call(int(begun * 1e6), int(ended * 1e6), *step))
    return calls


@pytest.mark.parametrize("seed", range(5))
def test_a_long_history_that_has_an_order(seed: int) -> None:
    calls = _simulated(seed)
    assert linearize(calls) is None
    reads = [one for one in calls if one.steps[0][0] == "get" and one.steps[0][2]]
    reads[-1].steps[0][2] = reads[0].steps[0][2]
    assert linearize(calls) is not None


def test_too_many_open_calls_are_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_MOST", 1000)
    history = [call(1, None, "add", "k", 2**n, UNHEARD) for n in range(20)] + [call(2, 3, "get", "k", -1)]
    with pytest.raises(LinearityUndecided):
        linearize(history)
