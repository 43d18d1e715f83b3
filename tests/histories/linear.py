"""Single-key linearizability: is there one order of the calls on a key that explains all their answers?

Owns: the search, key by key (linearizability is local: a history is linearizable if each key's is). Walks the
begins and ends in order of time and keeps the set of *configurations* that explain what has ended so far: the
value, and which of the calls under way have taken effect. A call has to take effect by its end, and need not
before: so configurations are extended at ends only.

Invariants: a call whose outcome is open may take effect at any time from its begin on, or never: it stays
under way for good. Memory depends on how many calls overlap and how many are open, not on the length.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

from histories.history import UNHEARD, Operation

__all__ = ["LinearityUndecided", "check_linear", "linearize"]

_Configuration = tuple[Any, frozenset[int]]
_MOST = 20_000
_REFUSED = object()


class LinearityUndecided(Exception):
    """More configurations than can be looked at: too many calls of one key overlap or are open."""


def check_linear(operations: Iterable[Operation], initial: dict[str, Any] | None = None) -> list[str]:
    """Violations of all single calls on one key: ``get``, ``set``, ``delete``, ``add`` and ``swap``.

    Only of keys that nothing else has touched: give it those of registers and counters.
    """
    calls: dict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.outcome in ("ok", "open"):
            calls[operation.steps[0][1]].append(operation)
    wrong = []
    for key, of_key in sorted(calls.items()):
        problem = linearize(of_key, (initial or {}).get(key))
        if problem is not None:
            wrong.append(f"{key}: {problem}")
    return wrong


def linearize(calls: list[Operation], value: Any = None) -> str | None:
    """What is wrong with the calls on one key whose first value is *value*; None if nothing is."""
    moments: list[tuple[int, bool, int]] = []
    for number, call in enumerate(calls):
        moments.append((call.begun, False, number))
        if call.outcome == "ok" and call.ended is not None:
            moments.append((call.ended, True, number))
    moments.sort(key=itemgetter(0, 1))
    under_way: set[int] = set()
    possible: set[_Configuration] = {(value, frozenset())}
    for _, ends, number in moments:
        if not ends:
            under_way.add(number)
            continue
        before = possible
        possible = _with(number, possible, under_way, calls)
        under_way.discard(number)
        if not possible:
            call = calls[number]
            values = sorted({repr(value) for value, _ in before})[:10]
            others = ", ".join(f"{calls[one].name} {calls[one].steps[0]}" for one in sorted(under_way)[:8])
            return (
                f"no order explains {call.name} {call.steps[0]}: when it ended, the key could be "
                f"{' or '.join(values)}; under way were {others or 'no others'}"
            )
    return None


def _with(
    number: int, possible: set[_Configuration], under_way: set[int], calls: list[Operation]
) -> set[_Configuration]:
    """The configurations in which *number* has taken effect, and is forgotten."""
    reached: set[_Configuration] = set()
    seen, work = set(possible), list(possible)
    while work:
        value, done = work.pop()
        if number in done:
            reached.add((value, done - {number}))
            continue
        for other in under_way:
            if other in done:
                continue
            after = _apply(calls[other].steps[0], value)
            if after is _REFUSED:
                continue
            one = (after, done | {other})
            if one not in seen:
                seen.add(one)
                work.append(one)
        if len(seen) > _MOST:
            raise LinearityUndecided(f"{len(under_way)} calls of one key are under way at once")
    return reached


def _apply(step: list[Any], value: Any) -> Any:
    """The value after a call, or _REFUSED if its answer can't be right."""
    answer = step[-1]
    match step:
        case ["get", _, _]:
            return value if answer in (value, UNHEARD) else _REFUSED
        case ["set", _, new]:
            return new
        case ["delete", _, _]:
            return None if answer in (value is not None, UNHEARD) else _REFUSED
        case ["add", _, by, _]:
            total = (value or 0) + by
            return total if answer in (total, UNHEARD) else _REFUSED
        case ["swap", _, expected, new, _]:
            done = value == expected
            if answer not in (done, UNHEARD):
                return _REFUSED
            return new if done else value
        case _:
            raise ValueError(f"no call of one key: {step!r}")
