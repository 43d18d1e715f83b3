"""Faults of real processes: a group under the shim (tests/shim), one order a life, and a client outside.

Owns: the life, what a client may be told, and the model. The client is this process, which is not under the
shim: it opens the directory after a peer under the shim has started the group.

The verdict: each call is acknowledged, refused with file, errno and a next step, or in doubt; what readers
see is what was acknowledged, and nothing in doubt before it is settled; when the disk is sound the group
goes on by itself; and what is found after all its processes were killed is what was acknowledged, with or
without what was in doubt.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from peer import Peer
from shim.steering import Steering, compiler, library_in

import memdb

__all__ = ["Order", "all_orders", "play_all"]

_GOES_ON = 30.0
_OPTIONS: dict[str, Any] = {
    "linger": 0,
    "max_memory": "32MiB",
    "segment_bytes": "4MiB",
    "max_transaction_bytes": "1MiB",
    "keep_checkpoints": 2,
    "timeout": 20,
}


@dataclass(frozen=True)
class Order:
    """One thing that goes wrong: at a label of the shim, by its action, once or from then on."""

    label: str
    action: str
    value: int
    sticky: bool

    def __str__(self) -> str:
        value = errno.errorcode[self.value] if self.action == "fail" else str(self.value)
        return f"{self.label} {self.action} {value}, {'sticky' if self.sticky else 'once'}"

    @property
    def is_error(self) -> bool:
        """Must anybody notice? A short write goes on, an interrupted call is repeated, a slow one is slow."""
        return self.action == "fail" and self.value != errno.EINTR


def all_orders() -> list[Order]:
    """Each error that a kind of step knows, at each place where the life makes such a step."""
    changes = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    known = {
        "create": (("wal", "checkpoints", "manifest"), (*changes, errno.EMFILE)),
        "write": (("wal", "checkpoints", "manifest"), changes),
        "sync": (("wal", "checkpoints", "manifest"), (errno.EIO, errno.ENOSPC, errno.EDQUOT)),
        "rename": (("checkpoints", "manifest"), changes),
        "unlink": (("wal", "checkpoints"), (errno.EIO, errno.EROFS)),
        "syncdir": (("wal", "checkpoints", "directory"), (errno.EIO,)),
    }
    orders = []
    for kind, (areas, codes) in known.items():
        for area in areas:
            label = f"{kind}:{area}"
            orders += [Order(label, "fail", code, sticky) for code in codes for sticky in (False, True)]
            if kind in ("write", "sync", "create"):
                orders.append(Order(label, "fail", errno.EINTR, False))
            if kind == "write":
                orders += [Order(label, "short", 100, sticky) for sticky in (False, True)]
            orders.append(Order(label, "delay", 300_000, False))
    return orders


class Violation(AssertionError):
    """A promise was broken."""


@dataclass
class Life:
    """A group under the shim, and what it has promised."""

    db: memdb.Database
    order: Order
    model: dict[str, int] = field(default_factory=dict)
    doubtful: dict[str, int] = field(default_factory=dict)
    told: list[memdb.Error] = field(default_factory=list)

    def set(self, name: str, value: int, level: str) -> None:
        try:
            self.db.set(name, value, durability=level)
        except memdb.OutcomeUnknown as error:
            self.told.append(error)
            self.doubtful[name] = value
        except memdb.Error as error:
            self.refused(error)
        else:
            self.model[name] = value
        self.look()

    def call(self, operation: Callable[[], object]) -> None:
        try:
            operation()
        except memdb.Error as error:
            self.refused(error)
        self.look()

    def refused(self, error: memdb.Error) -> None:
        """Whatever is refused says what, who, errno, file and the next step."""
        self.told.append(error)
        if isinstance(error, memdb.ReadOnlyError):  # it has just come back
            return
        number, file = getattr(error, "errno", None), getattr(error, "file", None)
        if not isinstance(error, memdb.LogFailed | memdb.DiskFullError | memdb.DiskError):
            raise Violation(f"{error!r} is no refusal of a file system")
        if number != self.order.value or not file or os.strerror(number) not in str(error):
            raise Violation(f"{error!r} does not name errno {self.order.value} and a file")
        if self.db.path not in str(error) or not any(
            word in str(error) for word in ("look at the disk", "free some", "ulimit")
        ):
            raise Violation(f"{error!r} does not say where, or the next step")

    def look(self) -> None:
        """Reads go on, and see what was acknowledged."""
        found = dict(self.db.range())
        if found != self.model:
            raise Violation(f"readers see {found}, acknowledged is {self.model} (in doubt {self.doubtful})")


def _play(place: Path, library: Path, order: Order) -> None:
    path = place / "data"
    steering = Steering(place / "steering", library, path)
    starter = Peer(path, steering.environment(), **_OPTIONS)
    try:
        with memdb.open(path, timeout=20) as db:
            life = Life(db, order)
            life.set("before", 1, "full")
            given = steering.order(order.label, order.action, value=order.value, sticky=order.sticky)
            _live(life)
            if order.action != "delay" and given.fired == 0:
                raise Violation("no step met it")
            if life.told and not order.is_error:
                raise Violation(f"it is no error, but {life.told[0]!r}")
            given.cancel()
            _go_on(life)
            _kill_all(db)
        starter.process.kill()
        with memdb.open(path, **_OPTIONS) as db:
            found = dict(db.range())
            allowed = [life.model, {**life.model, **life.doubtful}]
            if found not in allowed:
                raise Violation(f"after a kill: {found}, allowed {allowed}")
            if not db.check().ok:
                raise Violation(f"check(): {db.check()}")
    finally:
        starter.close()
        steering.close()


def _live(life: Life) -> None:
    db = life.db
    for turn in range(3):
        life.set("a", turn, "full")
        life.set(f"b{turn}", turn, "os")
        life.call(db.rotate_wal)
        life.set(f"c{turn}", turn, "full")
        life.call(db.checkpoint)
        life.set(f"d{turn}", turn, "memory")
        life.call(db.sync)
    life.call(db.clear_wal)
    life.set("e", 1, "full")


def _go_on(life: Life) -> None:
    """The disk is sound: commits are taken again, by themselves."""
    until = time.monotonic() + _GOES_ON
    while True:
        before = len(life.told)
        life.set("after", 1, "full")
        if life.model.get("after") == 1:
            break
        if time.monotonic() > until:
            raise Violation(f"it does not go on by itself: {life.told[before:]}")
        time.sleep(0.1)
    life.doubtful.clear()  # the new log begins with what was published
    life.look()
    life.call(life.db.checkpoint)


def _kill_all(db: memdb.Database) -> None:
    processes = [psutil.Process(one.pid) for one in db.info().processes.values()]
    for process in processes:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(processes, 10)


def play_all(place: Path, chance: random.Random, count: int | None) -> Iterator[tuple[str, str | None]]:
    """(order, None or the violation) of all, or of ``count`` that are drawn."""
    if compiler() is None:
        yield "real processes", "SKIPPED: there is no C compiler for the shim: NOT TESTED HERE"
        return
    orders = all_orders()
    if count is not None:
        orders = chance.sample(orders, count)
    library = library_in(place)
    for number, order in enumerate(orders):
        directory = place / f"life-{number}"
        directory.mkdir()
        try:
            _play(directory, library, order)
        except (Violation, memdb.Error, OSError) as error:
            yield str(order), f"{error!r}; {_last_lines(directory / 'data' / 'engine.log')}"
        else:
            yield str(order), None
            shutil.rmtree(directory)


def _last_lines(path: Path) -> str:
    try:
        return path.read_text()[-1500:]
    except OSError as error:
        return str(error)
