"""A workload over one engine in this process, with all that was promised at each moment, and the model.

Owns: the operations that a workload is made of, and the model: a dict of keys per LSN, computed from the
operations alone.

Invariant: promises are noted at every change to files, before it is made, from the result cells and the arena
themselves: an acknowledgement that comes before its sync is seen to.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from durability.recording import RecordingFiles
from durability.rig import LEVELS, Machine, key

from memdb.durability.files import Files
from memdb.options import EngineOptions
from memdb.shm import _kernel as kernel
from stress.states.disk import Disk

SECOND_US = 1_000_000
HAS_TTL = 1
VALIDATE = 4
DONE = 3
EMPTY_LSN = 1

Entry = tuple[bytes, int, int]
"""Value, LSN, expiry (0: none)."""
Keys = dict[bytes, Entry]
Effect = Callable[[Keys, int], None]


def small_options(**changes: Any) -> EngineOptions:
    """An engine that costs little to start."""
    small = {
        "max_memory": 4 << 20,
        "segment_bytes": 64 << 10,
        "max_transaction_bytes": 16 << 10,
        "max_value_bytes": 8 << 10,
        "max_key_bytes": 256,
        "keep_checkpoints": 2,
        "keep_segments": 0,
    }
    return EngineOptions(**{**small, **changes})


@dataclass(frozen=True, slots=True)
class Note:
    """What holds from the ``place``-th operation of the trace on, before it is done."""

    place: int
    acknowledged: tuple[tuple[int, str], ...] = ()
    """(LSN, level) of answers that were not noted before; the LSN of one that had nothing to write is that of
    the state that it found."""
    published: int = 0
    handed_out: int = 0
    durable: int = 0
    """An LSN that sync(), checkpoint() or stop() has said to be durable."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a recovery owes: ``full``: at least this LSN after a power cut; ``os``: after a kill; new LSNs are
    above ``handed_out``."""

    full: int
    os: int
    handed_out: int


@dataclass(slots=True)
class _Commit:
    level: str
    effect: Effect


@dataclass
class Story:
    """One workload: drives the machine, notes what it promises, and knows what should be there."""

    files: RecordingFiles = field(default_factory=lambda: RecordingFiles(Disk()))
    options: EngineOptions = field(default_factory=small_options)

    def __post_init__(self) -> None:
        self.commits: dict[int, _Commit] = {}
        self.notes: list[Note] = []
        self.outstanding: dict[int, _Commit] = {}
        self.starts: list[int] = []
        self.steps: list[str] = []
        self.machine = Machine(self.files, self.options)
        self.files.hook = self._before
        self._told = Note(0)

    # -------------------------------------------------------------------------------------- noting

    def _before(self, kind: str, path: str) -> None:
        self.note()

    def note(self, durable: int = 0) -> None:
        """Notes what holds now."""
        machine = self.machine
        if machine.engine._commit is None:
            return
        acknowledged = []
        for request in list(self.outstanding):
            state, status, found, lsn, _ = kernel.lease_result(machine.lease, request % 64)
            if state == DONE and found == request:
                commit = self.outstanding.pop(request)
                if status == 0 and lsn:
                    self.commits.setdefault(lsn, commit)
                    acknowledged.append((lsn, commit.level))
        applied = machine.engine.commit.figures()["applied_lsn"]
        published = int(machine.engine.store.published)
        told = self._told
        if acknowledged or durable or (published, applied) != (told.published, told.handed_out):
            place = len(self.files.trace.operations)
            self._told = Note(place, tuple(acknowledged), published, applied, durable)
            self.notes.append(self._told)

    def promise(self, place: int) -> Promise:
        """What was promised just before the ``place``-th operation was done."""
        full = os = handed_out = published = 0
        for one in self.notes:
            if one.place > place:
                break
            published, handed_out = max(published, one.published), max(handed_out, one.handed_out)
            for lsn, level in one.acknowledged:
                full = max(full, lsn if level == "full" else 0)
                os = max(os, lsn if level != "memory" else 0)
            full = max(full, one.durable)
        for lsn, commit in self.commits.items():
            if lsn <= published:
                full = max(full, lsn if commit.level == "full" else 0)
                os = max(os, lsn if commit.level != "memory" else 0)
        return Promise(full, max(os, full), handed_out)

    # ------------------------------------------------------------------------------------- the model

    def settle_model(self) -> None:
        """Once, when all is done: the keys at each LSN."""
        self._lsns = sorted(self.commits)
        self._states: list[Keys] = [{}]
        for lsn in self._lsns:
            after = dict(self._states[-1])
            self.commits[lsn].effect(after, lsn)
            self._states.append(dict(sorted(after.items())))

    def keys_at(self, lsn: int) -> Keys:
        """All keys in order, as of that LSN."""
        return self._states[bisect_right(self._lsns, lsn)]

    # ------------------------------------------------------------------------------------ operations

    def start(self) -> Story:
        """Starts the engine."""
        self.machine.start()
        self.note()
        return self

    def step(self, words: str) -> None:
        """One public operation: `put:full`, `checkpoint`…"""
        self.starts.append(len(self.files.trace.operations))
        self.steps.append(words)
        name, _, level = words.partition(":")
        number = len(self.steps)
        if name == "put":
            self.put("abc"[number % 3], (b"%d" % number) * (30 if number % 2 else 700), level)
        elif name == "delete":
            self.delete("a", level)
        elif name == "range":
            self.delete_range("a", "c", level)
        elif name == "several":
            self.several(dict.fromkeys("abd", b"%d" % number * 400), level)
        elif name == "validated":
            self.validated("a", "v", b"read %d" % number, level)
        elif name == "expiring":
            self.expiring("e", b"gone in time %d" % number, kernel.clock_us() + 1000 * SECOND_US, level)
        elif name == "checkpoint":
            self.note(durable=self.machine.engine.checkpoint())
        elif name == "rotate":
            self.machine.engine.rotate()
            self.note()
        elif name == "clear_wal":
            self.note(durable=self.machine.engine.checkpoint("clear_wal"))
            self.machine.engine.clear_wal()
            self.note()
        elif name == "sync":
            self.note(durable=self.machine.engine.sync())
        elif name == "compact":
            self.machine.engine.compact()
            self.note()
        elif name == "reopen":
            self.reopen()
        else:
            raise ValueError(f"no operation {words!r}")

    def reopen(self) -> None:
        """The end in order, and a new group."""
        applied = self.machine.engine.commit.figures()["applied_lsn"]
        self.machine.engine.stop()
        self.note(durable=applied)
        self.machine = Machine(self.files, self.options, first_request=self.machine.request)
        self.machine.start()
        self.note()

    def put(self, name: str, value: bytes, level: str) -> None:
        self._commit([{"op": "set", "key": key(name), "value": value + b"\0"}], level, _set(name, value, 0))

    def expiring(self, name: str, value: bytes, expires_us: int, level: str) -> None:
        operation = {
            "op": "set",
            "key": key(name),
            "value": value + b"\0",
            "flags": HAS_TTL,
            "expires_us": expires_us,
        }
        self._commit([operation], level, _set(name, value, expires_us))

    def delete(self, name: str, level: str) -> None:
        def effect(keys: Keys, lsn: int) -> None:
            keys.pop(key(name), None)

        self._commit([{"op": "delete", "key": key(name)}], level, effect)

    def delete_range(self, first: str, stop: str, level: str) -> None:
        def effect(keys: Keys, lsn: int) -> None:
            for one in [one for one in keys if key(first) <= one < key(stop)]:
                del keys[one]

        self._commit([{"op": "delete_range", "key": key(first), "value": key(stop)}], level, effect)

    def several(self, values: dict[str, bytes], level: str) -> None:
        """One transaction over several keys."""

        def effect(keys: Keys, lsn: int) -> None:
            for name, value in values.items():
                keys[key(name)] = value + b"\0", lsn, 0

        operations = [
            {"op": "set", "key": key(name), "value": value + b"\0"} for name, value in values.items()
        ]
        self._commit(operations, level, effect)

    def validated(self, read: str, name: str, value: bytes, level: str) -> None:
        """A transaction that has read one key."""
        seen = self.machine.versions().get(key(read), (b"", 0))[1]
        snapshot = int(self.machine.engine.store.published)
        word = kernel.page_word(self.machine.segs.page)
        entry = struct.pack("<BBHIQ", 1, 0, len(key(read)), 0, seen) + key(read)
        size = (40 + len(entry) + 7) // 8 * 8
        reads = (struct.pack("<IIQQQQ", size, 1, snapshot, 0, word, 0) + entry).ljust(size, b"\0")
        operations = [{"op": "set", "key": key(name), "value": value + b"\0"}]
        self._commit(operations, level, _set(name, value, 0), reads)

    def _commit(
        self, operations: list[dict[str, Any]], level: str, effect: Effect, reads: bytes = b""
    ) -> None:
        machine = self.machine
        request, machine.request = machine.request, machine.request + 1
        self.outstanding[request] = _Commit(level, effect)
        assert kernel.lease_submit(
            machine.lease,
            machine.segs.board,
            request % 64,
            request,
            reads + kernel.ops_build(operations),
            level=LEVELS[level],
            flags=VALIDATE if reads else 0,
        )
        status, _ = machine.settle(request)
        assert status in (0, 1), f"{operations} was answered with {status}"
        self.note()


def _set(name: str, value: bytes, expires_us: int) -> Effect:
    def effect(keys: Keys, lsn: int) -> None:
        keys[key(name)] = value + b"\0", lsn, expires_us

    return effect


def everything(machine: Machine) -> Keys:
    """All that a reader sees, in all spaces, with LSNs and expiry."""
    reader = machine.reader()
    try:
        items = [item for payload, _ in reader.batches() for item in kernel.batch_items(payload)]
    finally:
        reader.close()
    return {key: (value, lsn, expires) for key, value, lsn, expires in items}


def plain(found: Keys) -> Keys:
    """Only the mapping's keys."""
    return {key: entry for key, entry in found.items() if key[0] == 1}


def recovered(files: Files, options: EngineOptions, first_request: int = 1) -> Machine:
    """A new group over these files, started."""
    return Machine(files, options, first_request=first_request).start()
