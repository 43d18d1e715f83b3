"""`memdb readers` and `memdb top`: looking at a running engine from outside.

Owns: what is told of readers, and how figures of two moments become rates.

Invariants:
- Nothing is estimated. A rate is the difference of two of the engine's own counters over the time between the
  two answers; a latency is the time that a request of this program took. Reads leave no trace in the engine,
  so they have no rate here.
- An engine is neither started nor kept up by being watched; with --probe, and only then, the program is one
  of its clients.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import click
from rich.console import Group, RenderableType
from rich.live import Live

import memdb
from memdb.cli import errors, output
from memdb.cli.asking import Engine
from memdb.info import ReaderInfo

_SAMPLES: Final = 600  # moments that are remembered to tell how old an unsynced commit is
_RATES: Final = ("commits", "conflicts", "rejected", "syncs")


# ----------------------------------------------------------------------------------------------- readers


@click.command()
@click.argument("directory", type=click.Path(path_type=str))
@click.option("--json", "json_", is_flag=True, help="Print JSON for programs.")
def readers(directory: str, json_: bool) -> None:
    """Show who holds snapshots, iterators or views in DIRECTORY, for how long, and how many bytes of old
    versions each keeps. Starts no engine: where none runs, nobody reads.
    """
    with errors.reported():
        with Engine(directory) as engine:
            rows = _readers(engine)
        if json_:
            output.print_json({"running": rows is not None, "readers": [one.to_dict() for one in rows or ()]})
        elif rows is None:
            click.echo(f"no engine runs for {directory}")
        elif not rows:
            click.echo("nobody holds a snapshot, an iterator or a view")
        else:
            output.out().print(readers_table(rows))


def _readers(engine: Engine) -> list[ReaderInfo] | None:
    answer = engine.ask("readers")
    if answer is None:
        return None
    return sorted(ReaderInfo.list_from_wire(answer["readers"]), key=lambda one: -one.bytes)


def readers_table(rows: list[ReaderInfo], title: str | None = None) -> RenderableType:
    columns: list[str | tuple[str, str]] = [
        ("pid", "right"), "holds", ("pins", "right"), ("views", "right"), ("age", "right"),
        ("bytes pinned", "right"), ("LSN", "right"), "command",
    ]  # fmt: skip
    cells = [
        [one.pid, one.kind, one.pins, one.views, output.seconds(one.age) if one.pins else "-",
         output.size(one.bytes), one.lsn, one.command]
        for one in rows
    ]  # fmt: skip
    return output.table(columns, cells, title=title)


# --------------------------------------------------------------------------------------------------- top


@dataclass(frozen=True)
class _Moment:
    """The engine's counters as of ``at`` (seconds of time.monotonic)."""

    at: float
    group: str
    info: dict[str, Any]

    def count(self, name: str) -> int | None:
        if name == "bytes_logged":
            value = self.info.get("wal", {}).get(name)
        else:
            value = self.info.get("commits", {}).get(name)
        return value if isinstance(value, int) else None


class Watch:
    """What two looks at an engine tell; `tick` takes the next one."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before: _Moment | None = None
        self._published: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

    def tick(self) -> dict[str, Any]:
        """The figures of now, as plain values; rates are None in the first tick and of another engine."""
        begun = time.monotonic()
        answer = self._engine.ask("info")
        at = time.monotonic()
        rows = None if answer is None else _readers(self._engine)
        if answer is None or rows is None:
            self._before = None
            self._published.clear()
            return {"time": time.time(), "running": False}
        info = answer["info"]
        now = _Moment(at, str(info.get("group")), info)
        before, self._before = self._before, now
        if before is not None and before.group != now.group:
            before = None
            self._published.clear()
        return {
            "time": time.time(),
            "running": True,
            "path": info["path"],
            "phase": info["phase"],
            "generation": info["generation"],
            "uptime_seconds": max(0.0, time.time() - info["started"]),
            "interval_seconds": None if before is None else now.at - before.at,
            "rates": _rates(before, now),
            "control_seconds": at - begun,
            "lsn": {name: info.get(f"{name}_lsn") for name in ("published", "durable")},
            "unsynced": self._unsynced(now),
            "arena": _some(
                info, "arena", "limit", "used_bytes", "retired_bytes", "reserved_bytes", "expiring"
            ),
            "keys": info.get("arena", {}).get("keys", 0),
            "wal": _some(info, "wal", "segment", "tail", "capacity", "bytes_logged"),
            "checkpoint": _checkpoint(info),
            "shm": info.get("shm"),
            "processes": info["processes"],
            "cpu": _cpu(before, now),
            "clients": len(info.get("clients", ())),
            "readers": [one.to_dict() for one in rows],
        }

    def _unsynced(self, now: _Moment) -> dict[str, Any]:
        """``commits``: LSNs that a power cut could take; ``seconds``: for how long the oldest has been one.

        Known from the looks before: the real age is up to one interval more.
        """
        published, durable = int(now.info["published_lsn"]), int(now.info["durable_lsn"])
        if not now.info.get("wal", {}).get("logged"):
            return {"commits": None, "seconds": None}
        self._published.append((now.at, published))
        while self._published and self._published[0][1] <= durable:
            self._published.popleft()
        oldest = self._published[0][0] if self._published else None
        return {
            "commits": max(0, published - durable),
            "seconds": 0.0 if oldest is None else now.at - oldest,
        }


def _rates(before: _Moment | None, now: _Moment) -> dict[str, float | None]:
    """Per second; None where the engine counts no such thing, or has begun anew."""
    rates: dict[str, float | None] = {}
    for name in (*_RATES, "bytes_logged"):
        new, old = now.count(name), None if before is None else before.count(name)
        known = before is not None and new is not None and old is not None and new >= old
        rates[name] = (new - old) / (now.at - before.at) if known else None  # type: ignore[operator,union-attr]
    return rates


def _cpu(before: _Moment | None, now: _Moment) -> dict[str, float | None]:
    """Cores used by each process of the group."""
    used: dict[str, float | None] = {}
    for role, process in now.info["processes"].items():
        old = before.info["processes"].get(role) if before is not None else None
        same = old is not None and old["pid"] == process["pid"] and None not in (old["cpu"], process["cpu"])
        used[role] = (process["cpu"] - old["cpu"]) / (now.at - before.at) if same else None  # type: ignore[index,union-attr]
    return used


def _some(info: dict[str, Any], part: str, *names: str) -> dict[str, Any]:
    figures = info.get(part) or {}
    return {name: figures[name] for name in names if name in figures}


def _checkpoint(info: dict[str, Any]) -> dict[str, Any] | None:
    if not info.get("checkpoints"):
        return None
    newest = info["checkpoints"][-1]
    age = max(0.0, time.time() - newest["time_us"] / 1e6)
    return {"lsn": newest["lsn"], "keys": newest["keys"], "bytes": newest["bytes"], "age_seconds": age}


class Probe:
    """Measures what a client of now waits for: a read, and a commit that changes nothing.

    It opens the database at the first measurement: before that there may be no engine, and looking on must
    not start one.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._db: memdb.Database | None = None
        self._key = ("memdb top", os.urandom(16))

    def measure(self) -> dict[str, float]:
        """Seconds of one `get` and one `delete` of a key that does not exist.
        Called while an engine runs.
        """
        if self._db is None:
            self._db = memdb.open(self._directory, create=False)
        begun = time.perf_counter()
        self._db.get(self._key)
        read = time.perf_counter()
        self._db.delete(self._key)
        return {"get_seconds": read - begun, "commit_seconds": time.perf_counter() - read}

    def close(self) -> None:
        """Idempotent."""
        if self._db is not None:
            self._db.close()


@click.command()
@click.argument("directory", type=click.Path(path_type=str))
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    help="Seconds between looks.",
)
@click.option("--once", is_flag=True, help="One look of two moments an interval apart, and end.")
@click.option(
    "--probe", is_flag=True, help="Also time a read and an empty commit, as a client of the engine."
)
@click.option("--json", "json_", is_flag=True, help="Print one JSON object a look, for programs.")
def top(directory: str, interval: float, once: bool, probe: bool, json_: bool) -> None:
    """Watch the engine of DIRECTORY: rates of commits, conflicts and logged bytes, latencies, arena, log,
    checkpoints, and who pins what. Reads go past the engine and can't be counted. q or Ctrl-C ends it.
    """
    with errors.reported(), ExitStack() as stack:
        watch = Watch(stack.enter_context(Engine(directory)))
        measure = stack.enter_context(_probing(directory)) if probe else None
        ticks = _ticks(watch, measure, interval, once)
        try:
            if json_:
                for tick in ticks:
                    output.print_json(tick)
                    sys.stdout.flush()
            elif once or not sys.stdout.isatty():
                for tick in ticks:
                    output.out().print(_screen(tick, again=not once))
            else:
                _live(ticks)
        except KeyboardInterrupt:  # the way to end it
            pass


@contextmanager
def _probing(directory: str) -> Iterator[Probe]:
    probe = Probe(directory)
    try:
        yield probe
    finally:
        probe.close()


def _ticks(watch: Watch, probe: Probe | None, interval: float, once: bool) -> Iterator[dict[str, Any]]:
    with _keys() as quits:
        due = time.monotonic()
        first = True
        while True:
            tick = watch.tick()
            tick["probe"] = None if probe is None or not tick["running"] else probe.measure()
            last = once and not (first and tick["running"])
            if last or not once:
                yield tick
            if last:
                return
            first = False
            due = max(due + interval, time.monotonic())
            if quits(max(0.0, due - time.monotonic())):
                return


@contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits so many seconds, and is True as soon as q is pressed (on a terminal)."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield _pause
        return
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    tty.setcbreak(fd)
    try:
        yield lambda seconds: _pressed_q(fd, seconds)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _pause(seconds: float) -> bool:
    select.select([], [], [], seconds)
    return False


def _pressed_q(fd: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            pressed = os.read(fd, 64)
            if not pressed or b"q" in pressed.lower():  # the terminal is gone, or q
                return True
    return False


def _live(ticks: Iterator[dict[str, Any]]) -> None:
    with Live(console=output.out(), auto_refresh=False, screen=True) as live:
        for tick in ticks:
            live.update(_screen(tick), refresh=True)


def _screen(tick: dict[str, Any], *, again: bool = True) -> RenderableType:
    if not tick["running"]:
        return output.facts({"engine": "none runs; looking again" if again else "none runs"})
    processes = [
        [role, one["pid"], one["restarts"], _number(tick["cpu"][role]), output.size(one["rss"])]
        for role, one in tick["processes"].items()
    ]
    columns: list[str | tuple[str, str]] = [
        "process", ("pid", "right"), ("restarts", "right"), ("cores", "right"), ("memory", "right"),
    ]  # fmt: skip
    rows = [ReaderInfo(**one) for one in tick["readers"]]
    parts: list[RenderableType] = [
        output.facts(_facts(tick), title=f"{tick['path']}: {tick['phase']}, generation {tick['generation']}"),
        output.table(columns, processes),
    ]
    parts.append(
        readers_table(rows, "who pins what")
        if rows
        else output.facts({"readers": "nobody holds a snapshot, an iterator or a view"})
    )
    return Group(*parts)


def _facts(tick: dict[str, Any]) -> dict[str, object]:
    rates, arena, wal, unsynced = tick["rates"], tick["arena"], tick["wal"], tick["unsynced"]
    checkpoint, shm, probe = tick["checkpoint"], tick["shm"], tick["probe"]
    shown: dict[str, object] = {
        "commits": f"{_number(rates['commits'])}/s, conflicts {_number(rates['conflicts'])}/s, without "
        f"effect {_number(rates['rejected'])}/s; reads go past the engine",
        "log": f"{_size(rates['bytes_logged'])}/s, {_number(rates['syncs'])} syncs/s, segment "
        f"{wal.get('segment', '-')} at {output.size(wal.get('tail'))} of {output.size(wal.get('capacity'))}",
        "not synced": "no log"
        if unsynced["commits"] is None
        else "nothing"
        if not unsynced["commits"]
        else f"{output.plural(unsynced['commits'], 'LSN')}, the oldest for "
        f"{output.seconds(unsynced['seconds'])} or more",
        "arena": f"{output.size(arena.get('used_bytes'))} of {output.size(arena.get('limit'))} in use, "
        f"{output.size(arena.get('retired_bytes'))} retired, {output.size(arena.get('reserved_bytes'))} "
        f"reserved; {output.plural(tick['keys'], 'key')}",
        "checkpoint": "none yet"
        if checkpoint is None
        else f"LSN {checkpoint['lsn']}, {output.plural(checkpoint['keys'], 'record')}, "
        f"{output.seconds(checkpoint['age_seconds'])} ago",
        "LSN": f"published {tick['lsn']['published']}, durable {tick['lsn']['durable']}",
        "control": f"{output.seconds(tick['control_seconds'])} for a question to the engine; "
        f"{output.plural(tick['clients'], 'client')}",
    }
    if probe is not None:
        read, commit = output.seconds(probe["get_seconds"]), output.seconds(probe["commit_seconds"])
        shown["probe"] = f"get {read}, empty commit {commit}"
    if shm is not None:
        shown["/dev/shm"] = f"{output.size(shm['free'])} of {output.size(shm['total'])} free"
    return shown


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def _size(value: float | None) -> str:
    return "-" if value is None else output.size(value)
