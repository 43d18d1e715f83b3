"""The database handle: a MutableMapping in key order over the kernel's reads and commits.

Owns: the public class ``Database``. The hot calls (``get``, ``set``, iteration …) are inherited from the
kernel's binding without a Python frame in between; what is here either happens seldom or is a few calls of
those.

Invariants:

* One call is one atomic commit, also of the compound ones; each is acknowledged at its durability level.
* A handle holds no state but its attachment and its options: it pickles as (absolute path, options).
"""

import logging
import os
import sys
import time
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final

from memdb import attach as _attach
from memdb import options as _options
from memdb import values as _values
from memdb.documents.door import OfDatabase
from memdb.errors import ArenaFullError, ClosedError, Error, Pin
from memdb.info import DiskUsage, Info, MemoryUsage, ReaderInfo, Report
from memdb.pipeline import Pipeline
from memdb.ranges import ITEMS, MISSING, OrderedReads
from memdb.shm import _kernel
from memdb.snapshot import Entry, Snapshot, make_entry
from memdb.transaction import Transacting

__all__ = ["Database", "open_database"]

log = logging.getLogger("memdb")

_PINS_WAIT: Final = 2.0  # seconds


class Database(_kernel.Writes, Transacting, OfDatabase, OrderedReads, MutableMapping[Any, Any]):  # type: ignore[misc]
    """A handle on a database, made by :func:`memdb.open`: a dict in key order that processes share.

    Usable from any thread; survives ``fork`` (the child attaches on first use); pickles as its path and
    options.

    >>> db["user:1"] = {"name": "Alice"}
    >>> db["user:1"]
    {'name': 'Alice'}
    """

    def __init__(self, path: str | None, given: dict[str, Any]) -> None:
        handle, explicit = _options.parse(**given)
        attachment = _attach.attach(path, handle, explicit, given.get("durability"))
        engine = attachment.options
        self._pins_told: tuple[float, list[Pin]] = 0.0, []
        self._room_told: tuple[float, int, int] = 0.0, 0, 0
        self._given = dict(given)
        self._options = handle
        self._path = attachment.path
        self._bind(
            attachment,
            durability=handle.durability,
            readonly=handle.readonly,
            timeout=handle.timeout,
            max_key_bytes=engine.max_key_bytes,
            max_value_bytes=engine.max_value_bytes,
            max_transaction_bytes=engine.max_transaction_bytes,
            encode=_values.encode,
            unpack=_values.unpack,
        )

    # ------------------------------------------------------------------------------------------- the handle

    @property
    def path(self) -> str:
        """The absolute path of the directory; of a database in memory, that of its private home."""
        return self._path

    def close(self) -> None:
        """Ends this handle; others on the directory stay open. Idempotent; never hangs.

        With ``linger=0`` the last close returns when the engine has ended, after its last checkpoint.
        Iterators of this handle raise ClosedError; snapshots go on until they are closed, views until they
        are released. Cost: a message of the last handle to the engine.

        >>> db.close()
        """
        attachment = self._unbind()
        if attachment is not None:
            attachment.release()

    def __enter__(self) -> "Database":
        if self.closed:
            raise ClosedError(f"the database handle of {self._path} is closed; open it again with memdb.open")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # A handle that failed to open has no attachment; one that was dropped gives its own back. At the
        # interpreter's end the kernel does that.
        if not self.closed and self._attachment is not None and not sys.is_finalizing():
            self._unbind().release_from_finalizer()

    def __repr__(self) -> str:
        return f"<memdb.Database {self._path!r}{' (closed)' if self.closed else ''}>"

    def __reduce__(self) -> Any:
        return _reopen, (self._path, self._given)

    # -------------------------------------------------------------------------------------- keys and values

    def entry(self, key: Any) -> Entry | None:
        """The key with its value, its version (the LSN of its commit) and its expiry; None if it is missing.

        Raises UnsupportedType, ClosedError. Cost: as ``get``.

        >>> db.entry("user:1").version
        17
        """
        found = self._entry(key)
        return None if found is None else make_entry(key, found)

    def pop(self, key: Any, default: Any = MISSING, *, durability: str | None = None) -> Any:
        """Deletes *key* and returns its value, in one atomic step; *default* if it is missing, else KeyError.

        Raises as ``delete``. Cost: a read and one commit.

        >>> db.pop("user:1", None)
        {'name': 'Alice'}
        """
        found = self._pop(key, durability)
        if found is not None:
            return found[0]
        if default is MISSING:
            raise KeyError(key)
        return default

    def popitem(self, *, durability: str | None = None) -> tuple[Any, Any]:
        """Deletes the last key in key order and returns it with its value, in one atomic step.

        Raises KeyError if there is none, and as ``delete``. Cost: a descent and one commit.

        >>> db.popitem()
        ('user:9', {'name': 'Ida'})
        """
        while True:
            with self._scan(ITEMS, None, None, None, True, 1) as last:
                for key, _ in last:
                    found = self._pop(key, durability)
                    if found is not None:
                        return key, found[0]
                    break  # somebody else was faster: look again
                else:
                    self._check_writable(durability)
                    raise KeyError("popitem(): the database is empty")

    def __ior__(self, other: Any) -> "Database":
        self.update(other)
        return self

    # ------------------------------------------------------------------------------------ points in time

    def snapshot(self) -> Snapshot:
        """The database as it is now, for as long as the snapshot is open. Never blocks a writer.

        Raises ClosedError. Cost: about 1 µs; while it is open, the versions that it sees are kept, one a key
        at most.

        >>> with db.snapshot() as snap:
        ...     snap["user:1"], snap.lsn
        """
        return Snapshot(self)

    def pipeline(self, *, durability: str | None = None) -> Pipeline:
        """Many writes without a wait for each: ``set``, ``delete``, ``set_many``, ``delete_many`` and
        ``delete_range`` go out at once, each as a commit of its own, and the end of the block waits for all.

        *durability*: of those calls that say none themselves. Not atomic: each is done and seen by itself.
        ``p.results`` has what each call gave; if one failed the end of the block raises PipelineError. Raises
        ReadOnlyError, ClosedError. Cost: about 2 µs a call at ``memory`` and ``os``; at ``full`` those under
        way (48 at most) share syncs.

        >>> with db.pipeline() as p:
        ...     p.set("a", 1)
        ...     p.delete("b")
        >>> p.results
        [True, False]
        """
        return Pipeline(self, durability)

    # ------------------------------------------------------------------------------------------ running it

    def info(self) -> Info:
        """What the engine is and does: processes, arena, log, checkpoints, last recovery, readers, clients.

        Raises ClosedError, Timeout, EngineDied. Cost: a few round trips to the engine, about 1 ms.

        >>> db.info().processes["writer"].pid
        4711
        """
        patience = self._options.timeout
        reply = self._control("info", patience)
        return Info.from_wire(reply["info"], self._control("readers", patience)["readers"])

    def readers(self) -> list[ReaderInfo]:
        """Who holds snapshots, iterators or views: pid, command, age in seconds, bytes pinned. Raises as
        ``info``.

        Cost: a round trip to the engine.

        >>> [reader.pid for reader in db.readers()]
        [4712]
        """
        return ReaderInfo.list_from_wire(self._control("readers", self._options.timeout)["readers"])

    def sync(self) -> int:
        """Makes every commit so far durable; the LSN up to which it is. Raises LogFailed, and as ``info``.

        Allowed to a read-only handle. Of a database without a log (in memory, or ``durability="none"``) there
        is nothing to write: it returns the newest LSN. Takes as long as it makes progress: Timeout after
        ``timeout`` seconds without any. Cost: an ``fdatasync``.

        >>> db.sync()
        1024
        """
        return int(self._control("sync")["lsn"])

    def checkpoint(self) -> int:
        """Writes a checkpoint and returns its LSN: recovery starts there. Raises DiskFullError,
        ReadOnlyError, and as ``sync``.

        Of a database without a log no file is written, and the newest LSN is returned. Cost: writes every key
        and value to disk, throttled; reads and writes go on.

        >>> db.checkpoint()
        1024
        """
        return int(self._maintain("checkpoint")["lsn"])

    def rotate_wal(self) -> None:
        """Seals the log segment that is written to, and begins the next; without a log it does nothing.

        Raises ReadOnlyError, and as ``sync``. Cost: two ``fdatasync``.

        >>> db.rotate_wal()
        """
        self._maintain("rotate_wal")

    def clear_wal(self) -> None:
        """Takes a checkpoint and deletes the log segments that recovery needs no more. Raises as
        ``checkpoint``.

        Cost: that of a checkpoint.

        >>> db.clear_wal()
        """
        self._maintain("clear_wal")

    def compact(self) -> None:
        """Builds the next generation of the arena from the present one: packed, without holes. Reads go on.

        Raises ArenaFullError, ReadOnlyError, and as ``sync``. Cost: about 1 s and its size again
        in shared memory for a million keys.

        >>> db.compact()
        """
        self._maintain("compact")

    def check(self) -> Report:
        """Verifies the arena, its indexes, the log and the checkpoints. Raises as ``sync``. Cost: reads all
        of it once.

        >>> db.check().ok
        True
        """
        return Report.from_wire(self._control("check"))

    def disk_usage(self) -> DiskUsage:
        """Bytes on disk: log, checkpoints, what recovery cut. Raises as ``info``. Cost: a round trip to the
        engine.

        >>> db.disk_usage().total
        2097152
        """
        return DiskUsage.from_wire(self._control("disk_usage", self._options.timeout)["usage"])

    def memory_usage(self) -> MemoryUsage:
        """Bytes of the arena: in use, retired, free, and its limit. Raises ClosedError. Cost: below 1 µs, no
        message.

        >>> db.memory_usage().used
        1048576
        """
        return MemoryUsage(**self._arena_figures())

    def _control(self, op: str, timeout: float | None = None) -> dict[str, Any]:
        """One control operation; *timeout* in seconds, None for what takes as long as it makes progress."""
        if self.closed:
            raise ClosedError(f"the database handle of {self._path} is closed; open it again with memdb.open")
        patience = self._options.timeout if timeout is None else None
        reply: dict[str, Any] = self._attachment.control(op, timeout=timeout, patience=patience)
        return reply

    def _maintain(self, op: str) -> dict[str, Any]:
        """A control operation that changes files or memory of the engine."""
        self._check_writable()
        return self._control(op)

    def _arena_full(self, needed: int | None, limit: int) -> ArenaFullError:
        """The error of a full arena, which names who keeps memory from being reused: at most three."""
        text = f"the arena is at its limit: max_memory is {limit} bytes and the write needs more"
        pins = self._pins()
        if pins:
            text += f"; {_who_pins(pins)}; close those, delete something"
        else:
            usage = self.memory_usage()
            held = f"{usage.used} bytes in use, {usage.retired} of them about to be given back"
            if usage.used + (needed or 0) < limit // 8 * 7:
                text += (
                    f"; {len(self)} keys lie scattered over it ({held}), and no free piece is large enough: "
                    "compact() packs them"
                )
            else:
                text += (
                    f"; no snapshot keeps old values, {len(self)} keys fill it ({held}); delete something, "
                    "compact()"
                )
        return ArenaFullError(
            f"{text}, or open the database with a larger max_memory", needed=needed, limit=limit, pins=pins
        )

    def _shm_full(self, needed: int | None, margin: int) -> ArenaFullError:
        """The error where the engine's /dev/shm is full before ``max_memory`` is reached."""
        free, total = self._room()
        pins = self._pins()
        holding = f"; {_who_pins(pins)}; close those" if pins else ""
        return ArenaFullError(
            f"/dev/shm is full: {free >> 10} of {total >> 10} KiB are free where the engine runs, and the "
            f"arena leaves {margin >> 10} KiB for the leases of clients and for a rebuild after a death. "
            f"Nothing was done, reads and deletes go on{holding}; delete something, or give /dev/shm more "
            "room: `docker run --shm-size=1g`, in Kubernetes an emptyDir of medium Memory, else "
            "`mount -o remount,size=2G /dev/shm`",
            needed=needed,
            limit=total,
            pins=pins,
        )

    def _room(self) -> tuple[int, int]:
        """(free, all) bytes of the engine's /dev/shm, asked at most once a second."""
        told, free, total = self._room_told
        if time.monotonic() - told >= 1.0 or not told:
            try:
                shm = self._control("info", _PINS_WAIT)["info"]["shm"]
                free, total = shm["free"], shm["total"]
            except (Error, OSError) as error:  # the error to come is more important
                log.debug("the room on /dev/shm of %s can't be told: %s", self._path, error)
            self._room_told = time.monotonic(), free, total
        return free, total

    def _pins(self) -> list[Pin]:
        """Who pins most, asked at most once a second: a full arena is told to many writes in a row."""
        told, pins = self._pins_told
        if time.monotonic() - told < 1.0:
            return pins
        try:
            readers = ReaderInfo.list_from_wire(self._control("readers", _PINS_WAIT)["readers"])
        except (Error, OSError) as error:  # the error to come is more important
            log.debug("who pins the arena of %s can't be told: %s", self._path, error)
            readers = []
        holding = [one for one in readers if one.bytes or one.views]
        most = sorted(holding, key=lambda one: one.bytes, reverse=True)[:3]
        pins = [Pin(one.pid, one.command, one.age, one.bytes) for one in most]
        self._pins_told = time.monotonic(), pins
        return pins


def _who_pins(pins: list[Pin]) -> str:
    who = ", ".join(
        f"pid {pin.pid} ({pin.command or '?'}) keeps {pin.bytes} bytes, for {pin.age:.0f} s" for pin in pins
    )
    return f"snapshots and views keep old values: {who}"


def open_database(path: str | os.PathLike[str] | None, given: dict[str, Any]) -> Database:
    """What :func:`memdb.open` does; *given*: the options that were passed."""
    if path is None:
        return Database(None, given)
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"path must be a str or os.PathLike of str, not {type(path).__name__}")
    if "\0" in text:
        raise ValueError("path contains a NUL character")
    return Database(os.path.abspath(text), given)


def _reopen(path: str, given: dict[str, Any]) -> Database:
    return Database(path, given)
