"""Databases to be damaged, each with what is true of it: the state at every LSN.

Owns: the databases, in memory, made by the engine itself and left as a killed writer leaves them.

Invariants: every commit writes two keys (so half a transaction shows) or one large value of zeros (so that a
flipped bit can look like a tear); a scene never changes once it is made, except for the moment of a case.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from durability.rig import Machine, key, options

from memdb.durability import checkpoints
from memdb.durability.files import MemoryFiles
from memdb.options import EngineOptions

Versions = dict[bytes, tuple[bytes, int]]
"""Stored key to stored value and the LSN of its commit."""
KIB = 1024


def small(**changes: object) -> EngineOptions:
    """Options of a database whose segments have 64 KiB, the least there is."""
    fixed: dict[str, object] = {
        "max_memory": 4 << 20, "segment_bytes": 64 * KIB, "max_transaction_bytes": 16 * KIB,
        "max_value_bytes": 8 * KIB, "keep_checkpoints": 2, "keep_segments": 100,
    }  # fmt: skip
    return options(**{**fixed, **changes})


@dataclass
class Scene:
    """A directory and its truth. ``durable``: the highest LSN that a power cut could not have taken."""

    files: MemoryFiles
    states: dict[int, Versions]
    writes: dict[int, dict[bytes, bytes | None]]
    durable: int
    seed: int

    @property
    def latest(self) -> int:
        return max(self.states)

    def path(self, directory: str, position: int) -> str:
        """The file at a position of a directory: 0 the first, -1 the last."""
        return f"{directory}/{self.files.listdir(directory)[position]}"


@dataclass
class Writer:
    """A machine, and what it has committed."""

    seed: int
    machine: Machine = field(default_factory=lambda: Machine(options=small()))
    states: dict[int, Versions] = field(default_factory=lambda: {1: {}})
    writes: dict[int, dict[bytes, bytes | None]] = field(default_factory=dict)
    durable: int = 1

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.machine.start()

    def commit(self, changes: dict[str, bytes | None], level: str) -> int:
        """One transaction; None deletes."""
        operations = []
        for name, value in changes.items():
            if value is None:
                operations.append({"op": "delete", "key": key(name)})
            else:
                operations.append({"op": "set", "key": key(name), "value": value + b"\0"})
        lsn = int(self.machine.commit(operations, level))
        after = dict(self.states[max(self.states)])
        stored = {key(name): None if value is None else value + b"\0" for name, value in changes.items()}
        self.writes[lsn] = stored
        for place, content in stored.items():
            after.pop(place, None)
            if content is not None:
                after[place] = (content, lsn)
        self.states[lsn] = after
        if level == "full":
            self.durable = lsn
        return lsn

    def pair(self, level: str = "full", names: int = 12, size: int = 40) -> None:
        """Two keys in one transaction."""
        one = self.random.randrange(names)
        value = self.random.randbytes(self.random.randrange(size // 2, size))
        self.commit({f"a{one:02d}": value, f"b{one:02d}": value[::-1]}, level)

    def zeros(self, level: str, length: int = 1100) -> None:
        """A value that holds a whole sector of zeros wherever it lies."""
        self.commit({f"z{self.random.randrange(4)}": bytes(length)}, level)

    def sync(self) -> None:
        self.machine.engine.sync()
        self.durable = max(self.states)

    def checkpoint(self) -> None:
        self.machine.engine.checkpoint()
        self.durable = max(self.states)

    def scene(self) -> Scene:
        """What a killed writer leaves."""
        files = self.machine.files
        assert isinstance(files, MemoryFiles)
        return Scene(files.survivor(), dict(self.states), dict(self.writes), self.durable, self.seed)


def short_log(seed: int) -> Scene:
    """One segment, no checkpoint: about 4 KiB of log, first durable, then not."""
    writer = Writer(seed)
    for turn in range(8):
        writer.pair()
        if turn == 4:
            newest = writer.writes[max(writer.writes)]
            writer.commit({name[2:-1].decode(): None for name in newest}, "full")
    writer.zeros("full", 600)
    writer.sync()
    for _ in range(3):
        writer.pair("os")
    writer.zeros("os")
    writer.pair("os")
    return writer.scene()


def ends_durable(seed: int) -> Scene:
    """As an idle database is: all of it synced, the newest commit and its mark side by side."""
    writer = Writer(seed)
    for _ in range(14):
        writer.pair("full")
    writer.sync()
    return writer.scene()


def long_log(seed: int) -> Scene:
    """A segment of 64 KiB, full but for its end."""
    writer = Writer(seed)
    machine = writer.machine
    while machine.engine.info()["wal"]["tail"] < 55 * KIB:
        writer.pair(writer.random.choice(("full", "os")), names=60, size=120)
        if writer.random.random() < 0.05:
            writer.zeros("full")
    writer.sync()
    for _ in range(4):
        writer.pair("os")
    return writer.scene()


def with_checkpoints(seed: int) -> Scene:
    """Two checkpoints; the log goes back to the older one only."""
    writer = Writer(seed, Machine(options=small(keep_segments=0)))
    for _ in range(3):
        for _ in range(14):
            writer.pair("os", names=40, size=150)
        writer.machine.engine.rotate()
        writer.checkpoint()
    for _ in range(6):
        writer.pair("full")
    writer.sync()
    writer.pair("os")
    return writer.scene()


def with_small_blocks(seed: int) -> Scene:
    """The same, with many blocks in a checkpoint: the two keys of a commit are seldom in one."""
    usual, checkpoints.BLOCK_BYTES = checkpoints.BLOCK_BYTES, KIB  # type: ignore[misc]
    try:
        return with_checkpoints(seed)
    finally:
        checkpoints.BLOCK_BYTES = usual  # type: ignore[misc]


def many_segments(seed: int) -> Scene:
    """Four segments in two lives, one checkpoint in between, a log back to the beginning."""
    writer = Writer(seed)
    for turn in range(3):
        for _ in range(6):
            writer.pair("full")
        writer.machine.engine.rotate()
        if turn == 1:
            writer.checkpoint()
            writer.machine = writer.machine.reboot().start()
    for _ in range(5):
        writer.pair("full")
    writer.sync()
    writer.pair("os")
    return writer.scene()


SCENES: dict[str, Callable[[int], Scene]] = {
    "short log": short_log,
    "ends durable": ends_durable,
    "long log": long_log,
    "checkpoints": with_checkpoints,
    "small blocks": with_small_blocks,
    "segments": many_segments,
}
