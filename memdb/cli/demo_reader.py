"""One reader process of the demo: looks characters up, by id and by name, and ranges over them until it is
told to stop.

`python -P -m memdb.cli.demo_reader DIRECTORY SEED LIMIT`. On stdout: `ready` once the first read is done;
at the end one JSON object (Report).
On stdin: `stop START END`, where START … END (CLOCK_MONOTONIC, nanoseconds) is the time in which there was
no writer.

Invariants:
- Every answer is checked against `unicodedata`. The loader writes in the order of ids, so once a
  character has been seen every one before it must be there, and a range has no gaps.
- What is timed is the call alone. Whether a read *waited* is asked of the kernel: a thread that sleeps is
  counted as a voluntary context switch.
"""

from __future__ import annotations

import json
import random
import resource
import select
import sys
import unicodedata
from collections.abc import Callable
from time import monotonic_ns
from typing import Any

import memdb
from memdb.cli.unicode_data import COLLECTION, characters, document

_LOOKUPS = 32
_NAMES = 8
_RANGE = 16
_RANGES = 2


class Batch:
    """What one round of reads took."""

    __slots__ = ("end", "reads", "sleeps", "slowest", "start")

    def __init__(self, start: int, end: int, reads: int, slowest: int, sleeps: int) -> None:
        self.start, self.end, self.reads, self.slowest, self.sleeps = start, end, reads, slowest, sleeps


class Reader:
    """The reads and their record. One thread."""

    def __init__(self, database: memdb.Database, seed: int, limit: int | None) -> None:
        self._found = database.collection(COLLECTION)
        self._all = characters(limit)
        self._random = random.Random(seed)
        self._seen = -1  # index of the last character that was ever found
        self.batches: list[Batch] = []
        self.wrong: list[str] = []

    def round(self) -> None:
        """Some lookups by id and by name, and two ranges, each timed and checked."""
        lookups = [self._random.randrange(len(self._all)) for _ in range(_LOOKUPS + _NAMES)]
        names = [unicodedata.name(self._all[index]) for index in lookups[_LOOKUPS:]]
        starts = [self._random.randrange(max(self._seen, 0) + 1) for _ in range(_RANGES)]
        sleeps = _sleeps()
        start = before = monotonic_ns()
        slowest = 0
        found = []
        for index in lookups[:_LOOKUPS]:
            found.append(self._found.get(self._all[index]))
            now = monotonic_ns()
            slowest, before = max(slowest, now - before), now
        for name in names:
            found.append(self._found.find_one({"name": name}))
            now = monotonic_ns()
            slowest, before = max(slowest, now - before), now
        ranges = []
        for index in starts:
            wanted = {"_id": {"$gte": self._all[index]}}
            ranges.append(self._found.find(wanted, sort="_id", limit=_RANGE).to_list())
            now = monotonic_ns()
            slowest, before = max(slowest, now - before), now
        self.batches.append(Batch(start, before, len(lookups) + _RANGES, slowest, _sleeps() - sleeps))
        self._check_lookups(lookups, found)
        for index, items in zip(starts, ranges, strict=True):
            self._check_range(index, items)

    def _check_lookups(self, lookups: list[int], found: list[dict[str, Any] | None]) -> None:
        for index, value in zip(lookups, found, strict=True):
            character = self._all[index]
            if value is None:
                if index <= self._seen:
                    self.wrong.append(f"U+{ord(character):04X} is gone, though a later character was there")
                continue
            self._seen = max(self._seen, index)
            if value != document(character):
                self.wrong.append(f"U+{ord(character):04X} reads {value!r}")

    def _check_range(self, index: int, found: list[dict[str, Any]]) -> None:
        expected = self._all[index : index + len(found)]
        if [one["_id"] for one in found] != expected:
            self.wrong.append(f"a range from U+{ord(self._all[index]):04X} has a gap")
        elif any(one != document(character) for one, character in zip(found, expected, strict=True)):
            self.wrong.append(f"a range from U+{ord(self._all[index]):04X} holds a wrong document")

    def report(self, start: int, end: int) -> dict[str, object]:
        """Totals, and the same for the rounds that overlap the time without a writer."""
        during = [batch for batch in self.batches if batch.end >= start and batch.start <= end]
        return {
            "reads": sum(batch.reads for batch in self.batches),
            "slowest_ns": _largest(self.batches, lambda batch: batch.slowest),
            "reads_without_writer": sum(batch.reads for batch in during),
            "slowest_without_writer_ns": _largest(during, lambda batch: batch.slowest),
            "sleeps_without_writer": sum(batch.sleeps for batch in during),
            "wrong": self.wrong[:10],
            "wrong_count": len(self.wrong),
        }


def _largest(batches: list[Batch], value: Callable[[Batch], int]) -> int:
    return max((value(batch) for batch in batches), default=0)


def _sleeps() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def main() -> None:
    """Reads until `stop` comes or the demo's end of stdin is closed."""
    directory, seed, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with memdb.open(directory, create=False, readonly=True) as database:
        reader = Reader(database, seed, limit or None)
        reader.round()
        reader.batches.clear()  # the first round warms imports and page tables up
        print("ready", flush=True)
        while not select.select([sys.stdin], [], [], 0)[0]:
            reader.round()
        words = sys.stdin.readline().split()
        start, end = (int(words[1]), int(words[2])) if len(words) == 3 else (0, 0)
        print(json.dumps(reader.report(start, end)), flush=True)


if __name__ == "__main__":
    main()
