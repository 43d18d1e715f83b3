"""What the engine says of itself, typed: ``db.info()``, ``db.readers()``, ``db.check()`` and the usages.

Invariants:

* Every type here is printable, and has ``to_dict()``: plain values only, ready for JSON.
* Figures of an engine of another minor version may be missing or new: what is missing is left out, what is
  new is kept.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

__all__ = [
    "DiskUsage",
    "Figures",
    "Info",
    "MemoryUsage",
    "Problem",
    "ProcessInfo",
    "ReaderInfo",
    "Report",
]

_KINDS: Final = {0: "read", 1: "snapshot", 2: "iterator", 3: "checkpoint"}


class Figures(Mapping[str, Any]):
    """Named figures of one part of the engine: ``info.arena["used_bytes"]`` or ``info.arena.used_bytes``."""

    __slots__ = ("_facts",)

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = {name: _wrap(value) for name, value in facts.items()}

    def __getitem__(self, name: str) -> Any:
        return self._facts[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._facts[name]
        except KeyError:
            raise AttributeError(
                f"no figure {name!r}; there are {', '.join(self._facts) or 'none'}"
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __repr__(self) -> str:
        return f"Figures({', '.join(f'{name}={value!r}' for name, value in self._facts.items())})"

    def __reduce__(self) -> Any:
        return Figures, (self.to_dict(),)

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {name: _plain(value) for name, value in self._facts.items()}


def _wrap(value: Any) -> Any:
    if isinstance(value, Figures):
        return value
    if isinstance(value, Mapping):
        return Figures({str(name): one for name, one in value.items()})
    if isinstance(value, list | tuple):
        return [_wrap(one) for one in value]
    return value


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    return value


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process of the group."""

    pid: int
    restarts: int = 0
    """How often it was started again after a death."""
    cpu: float | None = None
    """Processor seconds used so far; None if it has just ended."""
    rss: int | None = None
    """Bytes of memory that it has mapped and touched, shared pages included; None if it has just ended."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ReaderInfo:
    """One process that holds snapshots, iterators or views."""

    pid: int
    """0 if it runs in another container."""
    command: str
    """Its command line, 200 characters at most; a role for a process of the group."""
    age: float
    """Seconds since its oldest pin; 0.0 if it holds views only."""
    bytes: int
    """Bytes that its oldest pin (old versions) and its views (deleted or replaced values) keep from reuse."""
    lsn: int | None = None
    """The oldest point in time that it sees; None if it holds views only."""
    kind: str = "snapshot"
    """Of its oldest pin: snapshot, iterator or checkpoint; view if it holds views only."""
    pins: int = 0
    """How many snapshots and iterators it has open."""
    views: int = 0
    """How many zero-copy views it holds."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    @classmethod
    def list_from_wire(cls, rows: Iterable[Mapping[str, Any]]) -> list["ReaderInfo"]:
        """The readers of a control message; point reads, which last a moment, are left out."""
        now = time.time()
        found = []
        for row in rows:
            pins = [pin for pin in row.get("pins", ()) if pin.get("kind", 1) != 0 and pin.get("state") != 3]
            views = int(row.get("views", 0))
            if not pins and not views:
                continue
            oldest = min(pins, key=lambda pin: pin["lsn"], default=None)
            since = min((pin["since_us"] for pin in pins), default=None)
            found.append(
                cls(
                    pid=int(row["pid"]),
                    command=str(row.get("command", "")),
                    age=0.0 if since is None else max(0.0, now - since / 1e6),
                    bytes=int(row.get("bytes") or 0),
                    lsn=None if oldest is None else int(oldest["lsn"]),
                    kind="view" if oldest is None else _KINDS.get(oldest.get("kind", 1), "snapshot"),
                    pins=len(pins),
                    views=views,
                )
            )
        return found


@dataclass(frozen=True, slots=True)
class Info:
    """The state of the engine, as ``db.info()`` and ``memdb info`` show it. Sizes in bytes, ages in seconds.

    ``commits``, ``wal.bytes_logged`` and ``pressure`` count from the writer's start and only grow: two Infos
    with the same ``processes["writer"].pid`` and ``generation`` give rates, over the difference of ``time``.

    >>> before, after = db.info(), db.info()
    >>> (after.commits.commits - before.commits.commits) / (after.time - before.time)
    1520.3
    """

    path: str
    """The database's directory."""
    phase: str
    """starting, serving, read-only (a record has killed its writer three times) or ending."""
    generation: int
    """Of the arena that serves; each death of a writer and each ``compact()`` makes the next."""
    processes: dict[str, ProcessInfo]
    """By role: supervisor, writer, checkpointer, reaper, and reader-1, reader-2 … with ``query_workers``. One
    that is being started again is missing."""
    arena: Figures
    """``limit`` (max_memory), ``used_bytes`` (``retired_bytes`` of them free once readers have moved on),
    ``reserved_bytes`` (backed by memory), ``free_bytes`` (of those), ``hash_bytes``; ``cells`` (keys in the
    index), ``versions``, ``blocks``, ``headers``; ``keys`` (of the mapping), ``counts`` (keys by
    key space; those of the third are outcomes of commits); ``expiring`` (keys with a TTL) and ``next_expiry``
    (seconds since 1970 at which the next key may expire, None: none does);
    ``published``, ``applied``, ``synced`` (LSNs)."""
    wal: Figures
    """``logged`` (False with durability none), ``segment`` (number of the open one), ``tail`` and
    ``capacity`` (its bytes, used and in all), ``bytes_logged`` (since the writer's start), ``segments``
    (numbers of those kept), ``oldest_lsn`` (first that the log holds), ``term``, ``failure`` (why commits are
    refused, or None)."""
    checkpoints: Any
    """Those kept, oldest first: ``lsn``, ``keys`` (with those of outcomes), ``bytes``, ``time_us`` (since
    1970), ``path``."""
    recovery: Any
    """What the last start did: ``source`` (created, disk, arena), ``lsn``, ``records``, ``seconds``, ``cuts``
    (LSNs that were left out) and more."""
    readers: list[ReaderInfo]
    """Who holds snapshots, iterators or views, and how much only they keep: as ``db.readers()``."""
    clients: list[Figures]
    """Attached processes: ``client_id``, ``pid``, ``command``, ``readonly``."""
    options: Figures
    """The engine's options, all of them."""
    published_lsn: int = 0
    """The newest commit that readers see."""
    applied_lsn: int = 0
    """The newest commit that is in the arena; above ``published_lsn``: those that wait for their log."""
    durable_lsn: int = 0
    """The newest commit that survives a power cut; 0 without a log."""
    commits: Figures = field(default_factory=lambda: Figures({}))
    """Counters of the writer: ``commits``, ``rejected`` (of them ``conflicts``: what a transaction had read
    no longer held), ``syncs`` (of the log), ``rounds`` (turns with work), ``parks`` (times it went to sleep);
    ``pending`` (under way now)."""
    reaped: Figures = field(default_factory=lambda: Figures({}))
    """Counters of expired keys: ``batches`` and the ``deletes`` in them."""
    pressure: Figures = field(default_factory=lambda: Figures({}))
    """Counters of a full arena: ``times`` (steps taken for room), ``revoked`` (snapshots that gave way),
    ``refused`` (commits answered ArenaFullError)."""
    dirty_keys: int = 0
    """Operations since the newest checkpoint began."""
    checkpoint_running: bool = False
    """Is a checkpoint being written now?"""
    shm: Figures = field(default_factory=lambda: Figures({}))
    """/dev/shm: ``free`` and ``total`` bytes."""
    time: float | None = None
    """When the writer answered: seconds of its monotonic clock, for rates. None: no writer answered."""
    started: float | None = None
    """When the group began, seconds since 1970."""
    memory_only: bool = False
    """Is it a database of ``memdb.open()`` without a path?"""
    more: Figures = field(default_factory=lambda: Figures({}))
    """Figures that belong to no part above."""

    @classmethod
    def from_wire(cls, facts: Mapping[str, Any], readers: Iterable[Mapping[str, Any]]) -> "Info":
        """The Info of the two control messages that it is made of."""
        left = dict(facts)
        processes = {
            str(role): ProcessInfo(
                **{name: one[name] for name in ("pid", "restarts", "cpu", "rss") if name in one}
            )
            for role, one in left.pop("processes", {}).items()
        }
        return cls(
            path=str(left.pop("path", "")),
            phase=str(left.pop("phase", "")),
            generation=int(left.pop("generation", 0)),
            processes=processes,
            arena=Figures(left.pop("arena", None) or {}),
            wal=Figures(left.pop("wal", None) or {}),
            checkpoints=_wrap(left.pop("checkpoints", None) or []),
            recovery=_wrap(left.pop("recovery", None)),
            readers=ReaderInfo.list_from_wire(readers),
            clients=[Figures(one) for one in left.pop("clients", ())],
            options=Figures(left.pop("options", None) or {}),
            published_lsn=int(left.pop("published_lsn", 0)),
            applied_lsn=int(left.pop("applied_lsn", 0)),
            durable_lsn=int(left.pop("durable_lsn", 0)),
            commits=Figures(left.pop("commits", None) or {}),
            reaped=Figures(left.pop("reaped", None) or {}),
            pressure=Figures(left.pop("pressure", None) or {}),
            dirty_keys=int(left.pop("dirty_keys", 0)),
            checkpoint_running=bool(left.pop("checkpoint_running", False)),
            shm=Figures(left.pop("shm", None) or {}),
            time=left.pop("time", None),
            started=left.pop("started", None),
            memory_only=bool(left.pop("memory_only", False)),
            more=Figures(left),
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON."""
        found = {name: _plain(getattr(self, name)) for name in self.__slots__ if name != "more"}
        return {**found, **self.more.to_dict()}

    def __str__(self) -> str:
        lines = [f"memdb engine of {self.path}: {self.phase}, generation {self.generation}"]
        for role, process in self.processes.items():
            cpu = "-" if process.cpu is None else f"{process.cpu:.2f} s"
            rss = "-" if process.rss is None else f"{process.rss / 1048576:.1f} MiB"
            lines.append(f"  {role:14} pid {process.pid}, restarts {process.restarts}, cpu {cpu}, rss {rss}")
        for name in ("arena", "commits", "pressure", "wal", "checkpoints", "recovery", "shm", "options"):
            lines.append(f"{name}: {_shown(getattr(self, name))}")
        for title, rows in (("readers", self.readers), ("clients", self.clients)):
            lines.append(f"{title}: {len(rows)}")
            lines.extend(f"  {_shown(row)}" for row in rows)
        return "\n".join(lines)


def _shown(value: Any) -> str:
    plain = _plain(value)
    if isinstance(plain, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in plain.items())
    if isinstance(plain, list):
        return "; ".join(map(_shown, plain)) or "none"
    return "none" if plain is None else str(plain)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that ``check`` found."""

    where: str
    """arena, or the file's name in the directory."""
    text: str
    """What is wrong there."""
    offset: int | None = None
    """Bytes from its beginning."""
    lsn: int | None = None
    """The commit that is concerned, where one is."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def __str__(self) -> str:
        facts = ", ".join(
            f"{name} {value}"
            for name, value in (("offset", self.offset), ("LSN", self.lsn))
            if value is not None
        )
        return f"{self.where}: {self.text}" + (f" ({facts})" if facts else "")


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found; true if that is nothing.

    >>> report = db.check()
    >>> report.ok, report.problems
    (True, [])
    """

    problems: list[Problem]
    """Each with where it was found; empty if all is well."""
    figures: Figures
    """What was looked at: keys, files, LSNs."""

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    @classmethod
    def from_wire(cls, reply: Mapping[str, Any]) -> "Report":
        """The Report of a control message."""
        facts = dict(reply.get("report") or {name: one for name, one in reply.items() if name != "ok"})
        problems = [_problem(one) for one in facts.pop("problems", ())]
        facts.pop("ok", None)
        return cls(problems, Figures(facts))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON."""
        return {"ok": self.ok, "problems": [one.to_dict() for one in self.problems], **self.figures.to_dict()}

    def __str__(self) -> str:
        head = "no problems" if self.ok else f"{len(self.problems)} problems"
        figures = _shown(self.figures)
        return "\n".join([head + (f": {figures}" if figures else ""), *(f"  {one}" for one in self.problems)])


def _problem(one: Any) -> Problem:
    if isinstance(one, Mapping):
        where = str(one.get("where") or one.get("file") or "arena")
        text = str(one.get("text") or one.get("problem") or one.get("message") or "damaged")
        return Problem(where, text, one.get("offset"), one.get("lsn"))
    if isinstance(one, list | tuple) and len(one) == 3:
        return Problem("arena", str(one[2]), one[0], one[1] or None)
    return Problem("arena", str(one))


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Bytes on disk by kind."""

    wal: int
    """Log segments, the spare one included."""
    checkpoints: int
    """Checkpoint files."""
    quarantine: int
    """What recovery has cut off and kept."""
    total: int
    """All of that, and the manifest."""
    files: int = 0
    """How many files that is."""

    @classmethod
    def from_wire(cls, usage: Mapping[str, Any]) -> "DiskUsage":
        """The DiskUsage of a control message: bytes by kind, each with or without the suffix ``_bytes``."""

        def size(name: str) -> int:
            return int(usage.get(name, usage.get(f"{name}_bytes", 0)) or 0)

        parts = {name: size(name) for name in ("wal", "checkpoints", "quarantine")}
        return cls(**parts, total=size("total") or sum(parts.values()), files=int(usage.get("files", 0) or 0))

    def to_dict(self) -> dict[str, int]:
        """The fields as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class MemoryUsage:
    """Bytes of the arena that serves now."""

    generation: int
    """Which arena: grows with each rebuild and ``compact()``."""
    limit: int
    """max_memory."""
    keys: int
    """How many plain keys there are."""
    used: int
    """Handed out, ``retired`` included."""
    retired: int
    """Unlinked; free as soon as the reads that were under way have moved on."""
    reserved: int
    """Backed by memory."""
    free: int
    """Of ``reserved``, free for use."""

    def to_dict(self) -> dict[str, int]:
        """The fields as plain values."""
        return asdict(self)
