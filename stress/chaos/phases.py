"""The workload of the kill points: phases that together touch every durable step of the engine.

Owns: one database in one client's hands, what it must hold, and how each phase is brought about. A phase is
*prepared*, then a kill point is armed, then it is *done*: the kill meets it there.

Invariants:

* ``expected`` has, for each key, the values that it may have: more than one only for what was in flight when
  its process was killed, and for a commit of level memory when all processes died. A look settles it.
* A call of a client that lives gives no error, whoever of the engine was killed.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from peer import Peer
from shim.steering import Order, Steering

import memdb
from memdb.durability import checkpoints, manifest, recovery, segments
from memdb.durability.files import RealFiles
from stress.chaos.group import actors, is_gone, kill, kill_process_group

__all__ = ["PHASES", "Database", "Phase", "Violation"]

_SECTOR = 512
_REFUSED = (memdb.LogFailed, memdb.ReadOnlyError)
"""What a write may meet while the log has failed; the second if a new one was begun before it asked why. It
is not done; only what meets OutcomeUnknown may be."""
_TORN = b"a commit that a power cut tears " * 80


class Violation(Exception):
    """What must hold does not."""


class Database:
    """One database directory, with its steering and its one client."""

    def __init__(self, home: Path, library: Path) -> None:
        home.mkdir()
        self.path = home / "data"
        self.steering = Steering(home / "steering", library, self.path)
        self.peer: Peer | None = None
        self.expected: dict[str, set[object]] = {}
        self.counter = 0
        self.is_torn = False
        self._witness: threading.Thread | None = None

    # --------------------------------------------------------------------------------------------- the client

    def open(self) -> Peer:
        """The client; a new one if it was killed. A kill while it opens kills this one: the next opens."""
        while self.peer is None:
            try:
                self.peer = Peer(
                    self.path,
                    self.steering.environment(),
                    linger=0.0,
                    open_timeout=60.0,
                    timeout=60.0,
                    max_memory="64MiB",
                    max_transaction_bytes="1MiB",
                    segment_bytes="4MiB",
                    keep_segments=1,
                    keep_checkpoints=2,
                )
            except (EOFError, BrokenPipeError):
                continue
        return self.peer

    def call(self, method: str, *arguments: object, **options: object) -> object:
        """A call of the client. If the client is killed in it, None: what it did is open."""
        try:
            return self.open().call(method, *arguments, **options)
        except (EOFError, BrokenPipeError):
            self.leave()
            if self._witness is not None:
                self._witness.join()
                self._witness = None
                self._look_at_files()
            return None

    def die_with(self, order: Order) -> None:
        """When all of the engine die at *order*, the client dies, too, before it can start the next: what the
        dead have left is looked at first."""

        def witness() -> None:
            pause = threading.Event()
            while not order.fired and self._witness is not None:
                pause.wait(0.0005)  # a word in shared memory is looked at: there is no event to wait for
            peer = self.peer
            if order.fired and peer is not None:
                peer.process.kill()

        self._witness = threading.Thread(target=witness, daemon=True)
        self._witness.start()

    def forget(self) -> None:
        """The point is over."""
        witness, self._witness = self._witness, None
        if witness is not None:
            witness.join()

    def leave(self) -> None:
        """The client ends; the engine ends with it, unless it dies."""
        peer, self.peer = self.peer, None
        if peer is None:
            return
        try:
            peer.close()
        except BrokenPipeError:  # it was dead, and what it never read is dropped with the pipe
            peer.close()

    def set(self, key: str, level: str, value: object = None) -> None:
        """One commit: acknowledged, refused and certainly not done, or open (unknown, or its client died)."""
        self.counter += 1
        new = self.counter if value is None else value
        before = self.expected.get(key, {None})
        self.expected[key] = before | {new}
        try:
            if self.call("set", key, new, durability=level) is not None:
                self.expected[key] = {new}
        except memdb.OutcomeUnknown:
            pass
        except _REFUSED:
            self.expected[key] = before

    def look(self) -> None:
        """Everything that is stored, against what must be; and ``check``."""
        while (items := self.call("items")) is None:
            continue  # the client was killed, by a step that it did itself
        found = dict(items)  # type: ignore[call-overload]
        for key, allowed in self.expected.items():
            if found.get(key) not in allowed:
                raise Violation(f"{key} is {found.get(key)!r}, and may be {allowed}"[:600])
            self.expected[key] = {found.get(key)}
        if strange := found.keys() - self.expected.keys():
            raise Violation(f"there are keys that nobody has written: {strange}")
        report = self.call("check")
        if report is not None and report.problems:  # type: ignore[attr-defined]
            raise Violation(f"check: {report}")

    def _look_at_files(self) -> None:
        """All are dead. What the MANIFEST names is there (files are deleted only after one that does not name
        them), and what recovery would read is sound."""
        self.kill()
        files = RealFiles.at(str(self.path))
        try:
            found = manifest.load(files)
            if found is None or found.state == "creating":
                return
            named = {segments.path_of(one.number) for one in found.segments}
            named |= {one.path for one in found.checkpoints}
            if missing := [path for path in sorted(named) if not files.exists(path)]:
                raise Violation(f"the MANIFEST names {', '.join(missing)}, which is missing")
            for entry in found.checkpoints:
                checkpoints.verify(files, entry)
            if not self.is_torn:
                recovery.check(files, found)
        finally:
            files.close()

    # ------------------------------------------------------------------------------------------ the engine

    def kill(self, *roles: str) -> None:
        """SIGKILL to these actors, or to all; returns when they are gone."""
        now = actors(self.path)
        chosen = [pid for role, pid in now.items() if not roles or role in roles]
        if chosen and not roles:
            kill_process_group(chosen[0])
        for pid in chosen:
            kill(pid)
        while not all(map(is_gone, chosen)):
            os.sched_yield()

    def tear(self) -> None:
        """All die, and the last commit, which was never synced, lacks a sector: as a power cut leaves it."""
        self.is_torn = True
        self.set("before the tear", "full")
        held = self.steering.order("sync:wal", "hold", sticky=True)
        self.set("torn", "os", _TORN)
        self.kill()
        held.cancel()
        shutil.rmtree(self.path / "quarantine", ignore_errors=True)  # so that it is made again
        for path in sorted((self.path / "wal").iterdir()):
            at = path.read_bytes().rfind(_TORN)
            if at >= 0:
                with path.open("r+b") as file:
                    file.seek((at + 2 * _SECTOR) // _SECTOR * _SECTOR)
                    file.write(bytes(_SECTOR))
                self.expected["torn"] = {None}
                return
        raise Violation("a commit of level os is in no file")

    def interrupt(self, label: str, method: str) -> None:
        """All die right before a step, and so does the client in whose call it was: what it leaves stays."""
        order = self.steering.order(label, "kill group before", sticky=True)
        self.open().begin("call", (method,), {})
        while not order.fired:
            os.sched_yield()
        assert self.peer is not None
        self.peer.process.kill()
        self.leave()
        self.kill()
        order.cancel()

    def fail_log(self) -> None:
        """A sync fails, which is final: the writer refuses commits until a new log is begun."""
        failing = self.steering.order("sync:wal", "fail", value=errno.EIO)
        while not failing.fired:
            self.set("whose sync failed", "full")
        failing.cancel()


class Phase:
    """``prepare`` brings about where it begins, ``act`` is what the kill meets. ``labels``: the steps that it
    surely takes, with how many of each."""

    def __init__(
        self,
        name: str,
        labels: dict[str, int],
        act: Callable[[Database], None],
        prepare: Callable[[Database], None] = lambda database: None,
        *,
        fresh: bool = False,
    ) -> None:
        self.name, self.labels, self.fresh = name, labels, fresh
        self._act, self._prepare = act, prepare

    def run(self, database: Database, arm: Callable[[], None]) -> None:
        """Runs it with what ``arm`` orders; then everything must be there."""
        if not self.fresh:
            database.open()
        self._prepare(database)
        arm()
        self._act(database)
        database.forget()
        database.is_torn = False
        database.set("after", "os")
        database.look()


def _commit_all_levels(database: Database) -> None:
    for level in ("memory", "os", "full"):
        before = database.expected.get(f"at level {level}", {None})
        database.set(f"at level {level}", level)
        if level == "memory":
            database.expected["at level memory"] |= before  # all may die together
    database.call("sync")


def _maintain(*calls: str) -> Callable[[Database], None]:
    def act(database: Database) -> None:
        for call in calls:
            database.set("changed", "os")
            database.call(call)

    return act


def _killing(*roles: str) -> Callable[[Database], None]:
    def act(database: Database) -> None:
        database.kill(*roles)
        database.set("after a death", "os")

    return act


def _tear_and_leave_cut(database: Database) -> None:
    database.tear()
    database.interrupt("rename:quarantine", "sync")


def _end(database: Database) -> None:
    database.set("before the end", "os")
    database.leave()


def _wait_for_way_back(database: Database) -> None:
    """The writer itself goes on in a new log, after some seconds."""
    while True:
        try:
            if database.call("set", "way back", 1) is not None:
                break
        except (*_REFUSED, memdb.OutcomeUnknown):
            continue
    database.expected["way back"] = {1}


_BEGUN_LOG = {
    "create:wal": 1, "write:wal": 4, "sync:wal": 2, "syncdir:wal": 1,
    "create:manifest": 1, "write:manifest": 1, "sync:manifest": 1, "rename:manifest": 1,
    "syncdir:directory": 1,
}  # fmt: skip
_CHECKPOINTED = {
    "create:checkpoints": 1, "write:checkpoints": 3, "sync:checkpoints": 1, "rename:checkpoints": 1,
    "syncdir:checkpoints": 1,
}  # fmt: skip

PHASES = (
    Phase(
        "create",
        {
            **_BEGUN_LOG, "create:manifest": 2, "write:manifest": 2, "sync:manifest": 2, "rename:manifest": 2,
            "create:generation": 1, "write:generation": 1, "create:directory": 3, "write:directory": 3,
            "mkdir:wal": 1, "mkdir:checkpoints": 1, "mkdir:directory": 1, "syncdir:directory": 3,
            "syncdir:parent": 1,
        },
        lambda database: database.set("first", "full"),
        fresh=True,
    ),
    Phase("commits", {"write:wal": 2, "sync:wal": 1}, _commit_all_levels),
    Phase("rotate", _BEGUN_LOG, _maintain("rotate_wal")),
    Phase(
        "checkpoint",
        {**_CHECKPOINTED, **{label: 1 for label in _BEGUN_LOG if label not in ("create:wal", "syncdir:wal")}},
        _maintain("checkpoint"),
    ),
    Phase(
        "clear_wal",
        {**_CHECKPOINTED, **_BEGUN_LOG, "unlink:wal": 1, "unlink:checkpoints": 1},
        _maintain("clear_wal"),
        _maintain("rotate_wal", "checkpoint", "checkpoint"),
    ),
    Phase("compact", {"write:wal": 1, "sync:wal": 1}, _maintain("compact")),
    Phase(
        "writer's death",
        {
            "create:manifest": 1, "write:manifest": 1, "sync:manifest": 1, "rename:manifest": 1,
            "syncdir:directory": 1, "write:directory": 2, "sync:wal": 1,
        },
        _killing("writer"),
    ),
    Phase(
        "all die",
        {**_BEGUN_LOG, "unlink:wal": 1, "unlink:directory": 1, "write:directory": 3},
        _killing(),
    ),
    Phase(
        "torn tail",
        {
            **_BEGUN_LOG, "mkdir:quarantine": 1, "create:quarantine": 1, "write:quarantine": 1,
            "sync:quarantine": 1, "rename:quarantine": 1, "syncdir:quarantine": 1, "syncdir:directory": 2,
        },
        lambda database: database.set("after the tear", "os"),
        Database.tear,
    ),
    Phase(
        "a manifest beside the old one",
        {**_BEGUN_LOG, "unlink:manifest": 1},
        lambda database: database.set("after the manifest", "os"),
        lambda database: database.interrupt("rename:manifest", "rotate_wal"),
    ),
    Phase(
        "a cut beside its name",
        {
            **_BEGUN_LOG,
            "unlink:quarantine": 1,
            "create:quarantine": 1,
            "rename:quarantine": 1,
            "syncdir:quarantine": 1,
        },
        lambda database: database.set("after the cut", "os"),
        _tear_and_leave_cut,
    ),
    Phase(
        "failed log, writer dies",
        {**_CHECKPOINTED, **_BEGUN_LOG},
        _killing("writer"),
        Database.fail_log,
    ),
    Phase("failed log", {**_CHECKPOINTED, **_BEGUN_LOG}, _wait_for_way_back, Database.fail_log),
    Phase(
        "stop",
        {**_CHECKPOINTED, "sync:wal": 1, "create:manifest": 2, "write:manifest": 2, "sync:manifest": 2,
         "rename:manifest": 2, "syncdir:directory": 2, "unlink:directory": 1, "write:directory": 1},
        _end,
    ),
)  # fmt: skip
