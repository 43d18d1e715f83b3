"""Which record of the log is which operation: so single calls get LSNs, and what died under way its outcome.

Owns: the match of a write-ahead log with what clients said they did. A client does one thing after another,
so its records come in the order of its operations; a record has to hold what the operation wrote.

Invariants that it checks: one request of a client is in the log once; a record is somebody's operation, and
the next one of that client; what was acknowledged with an LSN is there, at that LSN. (Of a call,
which has none, the exact checker says it.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from histories.history import UNHEARD, WRITES, Operation, has_effect

__all__ = ["Record", "attribute"]

_LOOK_AHEAD = 100
_ENDS_WITH = object()
_ANYTHING = object()


@dataclass(frozen=True, slots=True)
class Record:
    """A commit in the log; ``changes``: ("set", key, value), ("delete", key), ("clear", start, stop)."""

    lsn: int
    client: str
    request: int
    changes: list[tuple[Any, ...]]


def attribute(
    records: Iterable[Record], operations: Iterable[Operation], owners: Mapping[str, int]
) -> list[str]:
    """Sets ``lsn`` of all operations that are in the log, and ``outcome`` of open ones; returns violations.

    ``owners``: which process a client of the engine is, as far as its processes said so. ``records`` in the
    order of the log.
    """
    waiting: dict[int, deque[Operation]] = {}
    missing: dict[int, Operation] = {}
    for operation in sorted(operations, key=lambda one: one.number):
        if _may_be_logged(operation):
            waiting.setdefault(operation.client, deque()).append(operation)
            if operation.outcome == "ok" and operation.lsn is not None and has_effect(operation):
                missing[id(operation)] = operation
    wrong: list[str] = []
    known = dict(owners)
    requests: dict[tuple[str, int], int] = {}
    last = 0
    for record in records:
        if record.lsn <= last:
            wrong.append(f"LSN {record.lsn} is in the log behind {last}")
        last = record.lsn
        twice = requests.setdefault((record.client, record.request), record.lsn)
        if twice != record.lsn:
            wrong.append(f"request {record.request} of {record.client} is committed at {twice} and {last}")
            continue
        if record.client not in known:
            _find_owner(record, waiting, known)
        queue = waiting.get(known.get(record.client, -1), deque())
        found = _take(record, queue)
        if found is None:
            told = f"; expected {queue[0].name} {queue[0].steps}" if queue else ""
            wrong.append(f"LSN {record.lsn} of {record.client}: nobody wrote {record.changes}{told}"[:1500])
            continue
        if found.lsn not in (None, record.lsn):
            wrong.append(f"{found.name} was told LSN {found.lsn}, and the log has {record.lsn}")
        found.lsn = record.lsn
        missing.pop(id(found), None)
    for one in missing.values():
        wrong.append(f"{one.name} was acknowledged at LSN {one.lsn}, and the log does not have it")
    return wrong


def _may_be_logged(operation: Operation) -> bool:
    if operation.outcome == "ok":
        return has_effect(operation) or any(step[-1] == UNHEARD for step in operation.steps)
    return operation.outcome == "open" and any(step[0] in WRITES for step in operation.steps)


def _find_owner(record: Record, waiting: Mapping[int, deque[Operation]], known: dict[str, int]) -> None:
    """A client that died before it could say who it was in the group that it had just joined."""
    fitting = [client for client, queue in waiting.items() if queue and _fits(record, queue[0])]
    if len(fitting) == 1:
        known[record.client] = fitting[0]


def _take(record: Record, queue: deque[Operation]) -> Operation | None:
    """The next operation that the record fits. Those that it passes over are not in the log."""
    for at, operation in enumerate(islice(queue, _LOOK_AHEAD)):
        if _fits(record, operation):
            for _ in range(at + 1):
                queue.popleft()
            return operation
    return None


def _fits(record: Record, operation: Operation) -> bool:
    expected, ranges = _expected(operation)
    if operation.kind == "call" and ranges and not record.changes:
        return False
    for change in record.changes:
        if change[0] == "clear":  # neighbours may have been drawn together, and what was empty left out
            if not any(start <= change[1] and change[2] <= stop for start, stop in _joined(ranges)):
                return False
            continue
        value = change[2] if change[0] == "set" else None
        wanted = expected.pop(change[1], UNHEARD)
        if wanted is _ANYTHING:
            continue
        if isinstance(wanted, tuple) and wanted[0] is _ENDS_WITH:
            if not value or value[-1] != wanted[1]:
                return False
        elif wanted != value or (wanted == UNHEARD):
            return False
    return all(wanted is None for wanted in expected.values())  # a deletion of nothing may be left out


def _joined(ranges: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that meet, drawn together."""
    apart: list[tuple[str, str]] = []
    for start, stop in sorted(ranges):
        if apart and start <= apart[-1][1]:
            start, last = apart.pop()
            stop = max(stop, last)
        apart.append((start, stop))
    return apart


def _expected(operation: Operation) -> tuple[dict[str, Any], set[tuple[str, str]]]:
    """Last value by key (None: deleted), and cleared ranges."""
    values: dict[str, Any] = {}
    ranges: set[tuple[str, str]] = set()
    for step in operation.steps:
        match step:
            case ["set", key, value]:
                values[key] = value
            case ["append", key, item]:
                values[key] = (_ENDS_WITH, item)
            case ["delete", key, _]:
                values[key] = None
            case ["add", key, _, result]:
                values[key] = _ANYTHING if result == UNHEARD else result
            case ["swap", key, _, new, done]:
                if done is not False:
                    values[key] = new
            case ["clear", start, stop, _]:
                ranges.add((start, stop))
                values = {
                    key: value for key, value in values.items() if value is None or not start <= key < stop
                }
    return values, ranges
