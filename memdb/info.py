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
    """One process of the group. ``cpu``: seconds used so far; ``rss``: bytes, shared pages included."""

    pid: int
    restarts: int = 0
    cpu: float | None = None
    rss: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ReaderInfo:
    """One process that holds snapshots, iterators or views.

    ``age``: seconds since its oldest pin (0.0: views only); ``bytes``: what it keeps from being reused;
    ``lsn``: the oldest point in time that it sees, None if it holds views only.
    """

    pid: int
    command: str
    age: float
    bytes: int
    lsn: int | None = None
    kind: str = "snapshot"
    pins: int = 0
    views: int = 0

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
    """The state of the engine, as ``db.info()`` and ``memdb info`` show it. ``started``: seconds since
    1970."""

    path: str
    phase: str
    generation: int
    processes: dict[str, ProcessInfo]
    arena: Figures
    wal: Figures
    checkpoints: Any
    recovery: Any
    readers: list[ReaderInfo]
    clients: list[Figures]
    options: Figures
    started: float | None = None
    memory_only: bool = False
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
        for name in ("arena", "wal", "checkpoints", "recovery", "options"):
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
    """One thing that ``check`` found. ``where``: arena or a file; ``offset`` in bytes."""

    where: str
    text: str
    offset: int | None = None
    lsn: int | None = None

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
    """What a check found. ``ok``: no problems; ``figures``: what was looked at."""

    problems: list[Problem]
    figures: Figures

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
    """Bytes on disk by kind; ``files``: how many files."""

    wal: int
    checkpoints: int
    quarantine: int
    total: int
    files: int = 0

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
    """Bytes of the arena that serves now. ``limit``: max_memory; ``reserved``: backed by memory; ``retired``:
    free soon."""

    generation: int
    limit: int
    keys: int
    used: int
    retired: int
    reserved: int
    free: int

    def to_dict(self) -> dict[str, int]:
        """The fields as plain values."""
        return asdict(self)
