"""What clients and the log have written, in the form that the checkers read.

Invariant: a line that a kill has cut is no line; an operation without an end is one that nobody was told of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from histories.attribution import Record
from histories.history import UNHEARD, Operation

from memdb.durability.dump import wal_rows
from memdb.errors import CorruptionError
from memdb.shm import _kernel as kernel
from memdb.values import decode

__all__ = ["read_client", "read_log"]

_WITHOUT_ANSWER = frozenset({"set", "append"})


def read_client(path: Path, client: int) -> tuple[list[Operation], dict[str, int], int]:
    """The operations of one client, the names that the engine gave it, and how many outcomes it had to ask
    for."""
    operations: dict[int, Operation] = {}
    names: dict[str, int] = {}
    settled = 0
    for text in path.read_bytes().split(b"\n")[:-1]:
        line = json.loads(text)
        if "P" in line:
            operations[line["P"]] = _begun(line, client)
        elif "E" in line:
            _end(operations[line["E"]], line)
            settled += line.get("settled", 0)
        else:
            names[line["C"]] = client
    return list(operations.values()), names, settled


def _begun(line: dict[str, Any], client: int) -> Operation:
    return Operation(
        client,
        line["P"],
        line["k"],
        line["b"],
        None,
        "open",
        line["s"],
        isolation=line.get("i", "serializable"),
        at=line.get("at"),
        low=line.get("low"),
    )


def _end(operation: Operation, line: dict[str, Any]) -> None:
    operation.outcome, operation.ended = line["o"], line["e"]
    operation.lsn, operation.high = line.get("lsn"), line["high"]
    for step, answer in zip(operation.steps, line.get("a", ()), strict="a" in line):
        if step[0] not in _WITHOUT_ANSWER:
            assert step[-1] == UNHEARD
            step[-1] = answer


def read_log(directory: Path, problems: list[str]) -> Iterator[Record]:
    """All commits in the log of a database that nobody has open; damage goes to *problems*."""
    for row in wal_rows(str(directory)):
        if row["type"] == "damage":
            problems.append(f"{row['file']} at {row['offset']}: {row['message']}")
        elif row["type"] == "commit":
            changes = [_change(one) for one in row["operations"]]
            yield Record(row["lsn"], row["client"], row["request"], changes)


def _change(operation: dict[str, Any]) -> tuple[Any, ...]:
    key = _key(operation["key"])
    if operation["op"] == "set":
        return "set", key, decode(operation["value"])
    if operation["op"] == "delete":
        return "delete", key
    return "clear", key, _key(operation["value"])


def _key(stored: bytes) -> Any:
    try:
        return kernel.decode_key(stored)
    except CorruptionError:
        return stored  # not of the clients' key space
