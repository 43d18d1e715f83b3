"""The trials on a real engine: deaths by the hundreds, memory after a death, every role stopped, a process
id used again.

Owns: what is measured and what is wanted. Each trial adds to a `Verdict`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

import memdb
from stress.chaos.group import pids
from stress.deaths.bystander import Bystander
from stress.deaths.lives import SHARED, Nursery, is_sound, packed, shared_key

__all__ = ["Verdict", "many_deaths", "memory_after_death", "pid_used_again", "stopped_roles"]

STALL = 0.1
"""Seconds that nobody may be held up by somebody else's death or stop, waits for a processor apart."""
RECLAIMED = 1.0
"""Seconds from a death until the memory that only it pinned is free."""
LOOK = 0.002


@dataclass
class Verdict:
    """Figures and violations of one run."""

    lines: list[str] = field(default_factory=list)
    passed: int = 0
    failed: int = 0

    def figure(self, name: str, value: object, wanted: str, good: bool) -> None:
        self.lines.append(f"FIGURE {name}: {value} (wanted {wanted}){'' if good else '  FAILED'}")
        print(self.lines[-1], flush=True)
        self.passed += good
        self.failed += not good


def _until(condition: Callable[[], bool], seconds: float) -> float:
    """Seconds until it holds; infinity if it does not within the time."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            return float("inf")
        time.sleep(LOOK)
    return time.monotonic() - began


def _milliseconds(longest: float, stall: float) -> str:
    return f"{stall * 1000:.1f} ms ({longest * 1000:.1f} ms with waits for a processor)"


def _descriptors(database: memdb.Database) -> int:
    return sum(psutil.Process(pid).num_fds() for pid in pids(database).values())


def fill(database: memdb.Database) -> None:
    database.set_many(
        {shared_key(n): packed(shared_key(n), 1, 200) for n in range(SHARED)}, durability="memory"
    )


def _quiet(database: memdb.Database) -> bool:
    """Only this process is attached, nothing is pinned, and each key has one version."""
    info = database.info()
    kept = info.arena.retired_bytes or info.arena.versions > info.arena.cells
    return len(info.clients) == 1 and not info.readers and not kept


def many_deaths(place: Path, database: memdb.Database, nursery: Nursery, bystander: Bystander, count: int,
                verdict: Verdict) -> None:  # fmt: skip
    """Clients are killed at random instants while a bystander goes on."""
    nursery.deaths(2)  # descriptors that stay with the first ones are no leak
    _until(lambda: _quiet(database), 10)
    before, shm = _descriptors(database), database.info().shm.free
    bystander.begin()
    torn = lost = wrong = done = 0
    while done < count:
        step = min(200, count - done)
        for life, sent, acknowledged, bad in nursery.deaths(step):
            wrong += bad
            names = [f"life{life}{half}" for half in "ab"]
            # It was taken from the ring after its death: until the lease is gone it may still be coming.
            values = [database.get(name) for name in names]
            stamps = {int.from_bytes(value[4:12], "little") if value else 0 for value in values}
            torn += len(stamps) != 1 or any(
                v and not is_sound(n, v) for n, v in zip(names, values, strict=True)
            )
            lost += not stamps <= set(range(acknowledged, sent + 1))
            database.delete_many(names, durability="memory")
        done += step
    figures = bystander.end()
    gone = _until(lambda: _quiet(database), 10)
    after, shm_after = _descriptors(database), database.info().shm.free
    verdict.figure("deaths of clients of a real engine", done, f"{count}", done == count)
    verdict.figure("pairs half there", torn, "0", torn == 0)
    verdict.figure("acknowledged commits lost, or others there", lost, "0", lost == 0)
    verdict.figure("reads that showed other bytes", wrong + figures.wrong, "0", wrong + figures.wrong == 0)
    verdict.figure(
        "leases, pins and retired bytes left",
        "none" if gone < 10 else database.info().clients,
        "none",
        gone < 10,
    )
    # a connection or two come and go; a leak would be one a death
    verdict.figure("descriptors of the engine more than before", after - before, "<= 3", after <= before + 3)
    more = (shm - shm_after) >> 20
    verdict.figure("shared memory of the machine more than before", f"{more} MiB", "<= 16 MiB", more <= 16)
    verdict.figure("longest read of a bystander", _milliseconds(figures.longest_read, figures.read_stall),
                   "<= 100 ms", figures.read_stall <= STALL)  # fmt: skip
    verdict.figure("longest write of a bystander", _milliseconds(figures.longest_write, figures.write_stall),
                   "<= 100 ms", figures.write_stall <= STALL)  # fmt: skip
    assert figures.reads > 0 and figures.writes > 0


_PINS = """
import sys, memdb
database = memdb.open(sys.argv[1])
snapshot = database.snapshot()
view = snapshot.view("shared0")
scan = iter(snapshot.items())
next(scan)
print("pinned", flush=True)
sys.stdin.read()
"""


def _pinned(place: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", _PINS, str(place)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, cwd=Path.cwd())  # fmt: skip
    assert process.stdout is not None
    if process.stdout.readline() != "pinned\n":
        raise RuntimeError("the reader did not start")
    return process


def memory_after_death(place: Path, database: memdb.Database, rounds: int, verdict: Verdict) -> None:
    """A snapshot and a view hold what was overwritten; their process dies; from then on it is free."""
    longest = 0.0
    for turn in range(rounds):
        reader = _pinned(place)
        fill_with = {shared_key(n): packed(shared_key(n), turn + 2, 4000) for n in range(SHARED)}
        for _ in range(3):
            database.set_many(fill_with, durability="memory")
        held = database.info().arena.versions - database.info().arena.cells
        if held < SHARED - 1:
            verdict.figure("versions that a snapshot holds", held, f">= {SHARED - 1}", False)
        reader.kill()
        reader.wait()
        longest = max(longest, _until(lambda: _quiet(database), 10))
    verdict.figure(
        "memory is free after a death within",
        f"{longest * 1000:.0f} ms",
        f"<= {RECLAIMED:g} s",
        longest <= RECLAIMED,
    )


def stopped_roles(place: Path, database: memdb.Database, reads: Bystander, writes: Bystander, seconds: float,
                  verdict: Verdict) -> None:  # fmt: skip
    """Each role, and a client in the middle of its work, is stopped for a while and continued."""
    for role, pid in sorted(pids(database).items()):
        watcher = reads if role in ("writer",) else writes
        watcher.begin()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)
        seen = watcher.end()
        what = "reads" if watcher is reads else "reads and writes"
        verdict.figure(f"{role} stopped for {seconds:g} s: longest of {what}",
                       _milliseconds(seen.longest, seen.stall), "<= 100 ms",
                       seen.stall <= STALL and seen.wrong == 0 and seen.reads > 0)  # fmt: skip
    reader = _pinned(place)
    writes.begin()
    os.kill(reader.pid, signal.SIGSTOP)
    time.sleep(seconds)
    seen = writes.end()
    verdict.figure("a client with a snapshot stopped: longest of reads and writes",
                   _milliseconds(seen.longest, seen.stall), "<= 100 ms", seen.stall <= STALL)  # fmt: skip
    reader.kill()
    reader.wait()
    database.set("after", b"1")
    answered = database.get("after") == b"1"
    database.delete("after")
    verdict.figure("the group works after all were continued", answered, "True", answered)


def pid_used_again(place: Path, verdict: Verdict) -> None:
    """In a process-id namespace of its own, where a dead client's id is given to another process at once."""
    program = [sys.executable, "-m", "stress.deaths.namespace", str(place / "namespace")]
    made = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *program], text=True,
                          timeout=60, capture_output=True, check=False)  # fmt: skip
    if "unshare failed" in made.stderr or "SKIPPED" in made.stdout:
        print(
            f"SKIPPED pid reuse: no process-id namespace here ({(made.stderr + made.stdout).strip()})",
            flush=True,
        )
        return
    good = made.returncode == 0
    if not good:
        print(made.stdout, made.stderr, flush=True)
    verdict.figure(
        "a process id used again: pins of the dead are gone after", made.stdout.strip() or "?", "<= 1 s", good
    )
