"""Whole directories of a running engine, copied file by file with cp while a client writes.

Owns: the engine, the writing process, the copies, and the verdict: what opens is a state between the commits
that were acknowledged before cp began and those that were sent before it ended; else it is refused by name.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import threading
from collections import Counter
from pathlib import Path

import memdb
from memdb.durability import offline
from memdb.durability.files import RealFiles
from memdb.errors import CorruptionError
from stress.damage.verdicts import Violation, check_refusal

_LIMIT = 64 << 20


class _Load(threading.Thread):
    """Commits a growing number in two keys, and tells how far it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self.acknowledged = self.sent = 0
        self.problem: BaseException | None = None
        self._end = threading.Event()

    def run(self) -> None:
        try:
            with memdb.open(
                self._path, linger=0, durability="full", max_memory="64MiB", segment_bytes="1MiB",
                max_transaction_bytes="256KiB", max_value_bytes="64KiB", checkpoint_wal_bytes="700KiB",
                keep_checkpoints=2, keep_segments=0,
            ) as db:  # fmt: skip
                for number in itertools.count(1):
                    if self._end.is_set():
                        return
                    self.sent = number
                    pad = b"x" * 3000
                    db.update({"one": number, "two": number, f"pad{number % 50}": pad})
                    self.acknowledged = number
        except memdb.Error as error:
            self.problem = error

    def stop(self) -> None:
        self._end.set()
        self.join()


def copies(place: Path, count: int) -> Counter[str]:
    """Copies a live directory ``count`` times; the verdicts. Raises Violation."""
    source, verdicts = place / "live", Counter[str]()
    load = _Load(source)
    load.start()
    try:
        while load.acknowledged < 20 and load.is_alive():
            load.join(0.01)
        for number in range(count):
            copy = place / f"copy{number}"
            before = load.acknowledged
            # A copy in use changes under cp: files that go meanwhile make it complain, and it goes on.
            subprocess.run(["cp", "-a", str(source), str(copy)], check=False, stderr=subprocess.DEVNULL)
            verdicts[_verdict(copy, before, load.sent)] += 1
            shutil.rmtree(copy)
            # A while, so that other segments and checkpoints are there: as much as the load does in it.
            goal = load.acknowledged + 40
            while load.acknowledged < goal and load.is_alive():
                load.join(0.005)
    finally:
        load.stop()
    if load.problem is not None:
        raise Violation(f"the original suffered from being copied: {load.problem}")
    with memdb.open(source, linger=0) as db:
        if db["one"] != load.acknowledged:
            raise Violation(f"the original has {db['one']}, acknowledged was {load.acknowledged}")
    return verdicts


def _verdict(copy: Path, before: int, after: int) -> str:
    files = RealFiles(os.open(copy, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        offline.preview(files, "strict", _LIMIT)
    except CorruptionError as error:
        check_refusal(error, None)
        return "refused"
    finally:
        files.close()
    with memdb.open(copy, linger=0) as db:  # the whole engine, under a new identity
        one, two = db["one"], db["two"]
        if one != two or not before <= one <= after:
            raise Violation(
                f"a copy has {one} and {two}; {before} was acknowledged before it was begun, {after} sent"
            )
        db["one"] = -1
    return "right"
