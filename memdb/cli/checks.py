"""The judgements of `memdb doctor`: what of a machine and a directory keeps memdb from working well.

Owns: each check, its limits, and the advice that goes with it. Facts come from machine.py and leftovers.py.

Invariants:
- Nothing is changed, no engine is started, none is waited for longer than a few seconds.
- A problem keeps a database from opening or its promises from holding; a warning is about speed, room or
  tidiness. Each says what to do.
"""

from __future__ import annotations

import os
import platform
import resource
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from memdb import errors, filesystems
from memdb.actors.locks import GROUP_BYTE, read_note
from memdb.cli import leftovers, machine
from memdb.cli.asking import Engine, is_locked
from memdb.cli.output import size
from memdb.durability import manifest
from memdb.durability.files import RealFiles

__all__ = ["Finding", "Subject", "examine"]

Verdict = Literal["ok", "warning", "problem"]

_MIB: Final = 1 << 20
_BESIDE: Final = 64 * _MIB  # processes of the group and clients, beside the arena
_FILES_WANTED: Final = 1024
_FILES_NEEDED: Final = 64
_ANSWER_SECONDS: Final = 5.0
_FAST_CLOCKS: Final = frozenset({"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"})
_EARLIEST: Final = 1_735_689_600  # 2025-01-01: before it this version of memdb did not exist


@dataclass(frozen=True)
class Finding:
    """What one check found. ``advice``: what to do, None if all is well; ``facts``: its figures."""

    check: str
    verdict: Verdict
    text: str
    advice: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return {
            "check": self.check,
            "verdict": self.verdict,
            "text": self.text,
            "advice": self.advice,
            "facts": self.facts,
        }


@dataclass(frozen=True)
class Subject:
    """What is examined. ``max_memory``: bytes of one arena as it is, or will be, opened with."""

    directory: str | None
    max_memory: int
    shm: str = "/dev/shm"

    @property
    def arena(self) -> int:
        """The most that one arena can hold: recovery and deletes may use a quarter more."""
        return self.max_memory + self.max_memory // 4


def examine(subject: Subject) -> Iterator[Finding]:
    """All checks, in the order in which their answers matter."""
    yield _platform()
    yield from _kernel()
    yield _shared_memory(subject)
    yield _control_group(subject, machine.memory_group())
    yield from _limits(subject)
    yield _clock(subject)
    if subject.directory is not None:
        yield _file_system(subject.directory)
        if os.path.isdir(subject.directory):
            yield _access(subject.directory)
            yield _engine(subject.directory)
        else:
            yield Finding("engine", "ok", "no such directory yet: open makes it", facts={"running": False})
        yield _disk(subject, subject.directory)
    yield _leftovers(subject)


# ---------------------------------------------------------------------------------------------- the machine


def _platform() -> Finding:
    facts = {
        "system": sys.platform,
        "machine": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "layout": _layout(),
    }
    text = f"{platform.system()} {facts['kernel']} on {facts['machine']}, Python {facts['python']}"
    return Finding("platform", "ok", text, facts=facts)


def _layout() -> int:
    from memdb.shm import _kernel

    return int(_kernel.layout_version())


def _kernel() -> Iterator[Finding]:
    missing = [one for one in machine.features() if one.error is not None]
    for one in missing:
        yield Finding(
            "kernel",
            "problem" if one.needed else "ok",
            f"{one.name} is not available: {one.error}; it is for: {one.meaning}",
            "run on Linux 5.6 or later; in a container, allow the call (its seccomp profile forbids it)"
            if one.needed
            else None,
            {"feature": one.name, "available": False},
        )
    if not any(one.needed for one in missing):
        names = ", ".join(one.name for one in machine.features() if one.error is None)
        yield Finding("kernel", "ok", f"has {names}", facts={"available": True})


def _shared_memory(subject: Subject) -> Finding:
    name = subject.shm
    try:
        figures = os.statvfs(name)
    except OSError as error:
        return Finding(
            "shared memory", "problem", f"{name}: {error.strerror}", "mount a tmpfs there; memdb lives in it"
        )
    free, total = figures.f_bavail * figures.f_frsize, figures.f_blocks * figures.f_frsize
    facts = {"path": name, "free_bytes": free, "total_bytes": total, "max_memory": subject.max_memory}
    text = f"{size(free)} of {size(total)} free on {name}"
    advice = (
        f"give it {size(2 * subject.arena)} or more: `docker run --shm-size=…`, in Kubernetes an emptyDir of "
        f"medium Memory, else `mount -o remount,size=… {name}`; or open with a smaller max_memory"
    )
    chunk = min(subject.max_memory // 64, 64 * _MIB) + 2 * _MIB
    if free < chunk:
        return Finding("shared memory", "problem", f"{text}: no engine can start", advice, facts)
    if total < subject.max_memory:
        text += (
            f", less than one arena of max_memory {size(subject.max_memory)}: writes fail before that limit"
        )
        return Finding("shared memory", "warning", text, advice, facts)
    if total < 2 * subject.arena:
        text += (
            f": room for one full arena of {size(subject.max_memory)} but not for two. After a writer's "
            "death, or in compact(), readers are then revoked and reads wait for the rebuild"
        )
        return Finding("shared memory", "warning", text, advice, facts)
    return Finding("shared memory", "ok", f"{text}, room for two arenas", facts=facts)


def _control_group(subject: Subject, group: machine.MemoryGroup | None) -> Finding:
    name = "memory control group"
    if group is None:
        return Finding(name, "ok", "no memory controller limits this process")
    facts = {
        "version": group.version,
        "path": group.path,
        "limit_bytes": group.limit,
        "used_bytes": group.used,
        "shared_bytes": group.shared,
    }
    how = (
        "shared-memory pages count for the group of the process that touched them first, which is the "
        "writer's, and stay counted after its death until they are given back"
    )
    used = "unknown" if group.used is None else size(group.used)
    shared = "" if group.shared is None else f", {size(group.shared)} of it shared memory"
    if group.limit is None:
        return Finding(
            name, "ok", f"version {group.version}, no limit; {used} in use{shared}; {how}", facts=facts
        )
    text = f"version {group.version}, {used} of {size(group.limit)} in use{shared}; {how}"
    wanted = 2 * subject.arena + _BESIDE
    if group.limit < subject.max_memory + _BESIDE:
        text += (
            f". One arena of {size(subject.max_memory)} does not fit: the kernel kills processes at the limit"
        )
        advice = f"raise the limit to {size(wanted)}, or open with a smaller max_memory"
        return Finding(name, "problem", text, advice, facts)
    if group.limit < wanted:
        text += ". It holds one arena but not two, as while a new generation is built"
        return Finding(name, "warning", text, f"raise the limit to {size(wanted)}", facts)
    return Finding(name, "ok", text, facts=facts)


def _limits(subject: Subject) -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    facts = {"soft": _limit(soft), "hard": _limit(hard)}
    text = f"{_shown(soft)} open files, at most {_shown(hard)}; the engine takes three a client"
    enough = hard == resource.RLIM_INFINITY or hard >= _FILES_WANTED
    if not enough:
        verdict: Verdict = "problem" if hard < _FILES_NEEDED else "warning"
        advice = f"raise the hard limit to {_FILES_WANTED} or more (ulimit -Hn, LimitNOFILE=)"
        yield Finding("open files", verdict, text, advice, facts)
    else:
        yield Finding("open files", "ok", text, facts=facts)
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    text = f"{_shown(soft, size)} of locked memory; memdb locks none"
    yield Finding("locked memory", "ok", text, facts={"soft": _limit(soft)})
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    facts = {"soft": _limit(soft), "hard": _limit(hard)}
    needed = 2 * subject.arena
    text = f"{_shown(soft, size)} of address space; every client maps {size(needed)} for two arenas"
    if soft != resource.RLIM_INFINITY and soft < needed + 256 * _MIB:
        advice = f"raise it above {size(needed + 256 * _MIB)} (ulimit -v), or open with a smaller max_memory"
        yield Finding("address space", "problem", text, advice, facts)
    else:
        yield Finding("address space", "ok", text, facts=facts)
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft != resource.RLIM_INFINITY:
        text = f"files of {size(soft)} at most: log segments and arenas above that can't be made"
        yield Finding(
            "file size", "problem", text, "lift the limit (ulimit -f unlimited)", {"soft": _limit(soft)}
        )


def _limit(value: int) -> int | None:
    return None if value == resource.RLIM_INFINITY else value


def _shown(value: int, show: Any = str) -> str:
    return "unlimited" if value == resource.RLIM_INFINITY else str(show(value))


def _clock(subject: Subject) -> Finding:
    source, now = machine.clock_source(), time.time()
    newest = _newest_time(subject.directory)
    facts = {"time": now, "source": source, "newest_checkpoint": newest}
    if now < _EARLIEST:
        text = f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}: it was never set"
        return Finding("clock", "problem", text, "set it (NTP, chrony, systemd-timesyncd)", facts)
    if newest is not None and newest > now + 1:
        text = (
            f"the clock is {newest - now:.0f} s behind the newest checkpoint: it was set back. Time in the "
            "database never goes back, so keys that expire live longer until the clock has caught up"
        )
        return Finding("clock", "warning", text, "set it right (NTP, chrony, systemd-timesyncd)", facts)
    if source is not None and source not in _FAST_CLOCKS:
        text = f"the kernel reads {source}, so each look at the time is a system call, in every read"
        return Finding("clock", "warning", text, "boot with clocksource=tsc if the machine's is sound", facts)
    return Finding("clock", "ok", f"plausible, source {source or 'unknown'}", facts=facts)


def _newest_time(directory: str | None) -> float | None:
    """When the newest checkpoint was taken, in seconds since 1970; None if there is none to be read."""
    if directory is None or not os.path.exists(os.path.join(directory, "MANIFEST")):
        return None
    try:
        files = RealFiles.at(directory)
        try:
            found = manifest.load(files)
        finally:
            files.close()
    except (OSError, errors.Error):  # `check` and `open` judge that
        return None
    return max((one.time_us / 1e6 for one in found.checkpoints), default=None) if found else None


# -------------------------------------------------------------------------------------------- the directory


def _existing(directory: str) -> str:
    place = os.path.abspath(directory)
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    return place


def _file_system(directory: str) -> Finding:
    place = _existing(directory)
    kind, unreliable = filesystems.kind_of(place), filesystems.unreliable_kind(place)
    facts = {"path": place, "type": kind}
    if unreliable is not None:
        text = f"{place} lies on {unreliable}: its locks, syncs and shared mappings can't be relied on"
        advice = "use a local disk; allow_network_fs=True takes the risk if only this machine opens it"
        return Finding("file system", "problem", text, advice, facts)
    if kind in ("tmpfs", "ramfs"):
        text = f"{place} lies on {kind}: log and checkpoints are in memory and end with the machine"
        return Finding("file system", "warning", text, "use a disk, unless that is meant", facts)
    return Finding("file system", "ok", f"{kind or 'of unknown type'}, a local one", facts=facts)


def _access(directory: str) -> Finding:
    facts_of = os.stat(directory)
    mode = stat.S_IMODE(facts_of.st_mode)
    facts = {"uid": facts_of.st_uid, "mode": f"{mode:04o}"}
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        text = f"user {os.geteuid()} can't write in {directory} (owner {facts_of.st_uid}, mode {mode:04o})"
        advice = "run as its owner: the engine of a directory serves one user and root"
        return Finding("access", "problem", text, advice, facts)
    if mode & 0o022:
        text = f"{directory} has mode {mode:04o}: others can replace the files of the database"
        return Finding("access", "warning", text, f"chmod 0700 {directory}", facts)
    return Finding("access", "ok", f"owner {facts_of.st_uid}, mode {mode:04o}", facts=facts)


def _engine(directory: str) -> Finding:
    home = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not {"MANIFEST", "GROUP"} & set(os.listdir(home)):
            return Finding("engine", "ok", "no database there yet", facts={"running": False})
        group, writer = is_locked(home, "GROUP", GROUP_BYTE), is_locked(home, "LOCK")
        note = read_note(home, "GROUP")
    except PermissionError as error:
        return Finding("engine", "warning", f"its locks can't be looked at: {error}", "run as the owner")
    finally:
        os.close(home)
    facts = {"running": group, "writer": writer, "pid": note.pid if group and note else None}
    if not group and writer:
        text = "a writer is at work without its group: it ends once it has written what it holds"
        advice = "wait a moment; if it stays, engine.log says at what it works"
        return Finding("engine", "warning", text, advice, facts)
    if not group:
        text = "none runs; the files GROUP and LOCK mean nothing without their locks"
        return Finding("engine", "ok", text, facts=facts)
    return _living_engine(directory, facts)


def _living_engine(directory: str, facts: dict[str, Any]) -> Finding:
    log_file = os.path.join(directory, "engine.log")
    begun = time.perf_counter()
    try:
        with Engine(directory) as engine:
            answer = engine.ask("info", _ANSWER_SECONDS)
    except (errors.Error, OSError) as error:
        advice = f"see {log_file}; `memdb stop` or SIGTERM to pid {facts['pid']} ends it"
        return Finding("engine", "problem", f"it runs and does not answer: {error}", advice, facts)
    if answer is None:
        return Finding("engine", "warning", "it is starting or ending just now", "look again", facts)
    info = answer["info"]
    facts = {**facts, "phase": info["phase"], "answer_seconds": time.perf_counter() - begun}
    failure = info.get("poison") or info.get("wal", {}).get("failure")
    if failure:
        text = f"it takes no writes: {failure['message']}"
        return Finding("engine", "problem", text, f"see {log_file} and docs/howto/operations.md", facts)
    return Finding("engine", "ok", f"{info['phase']}, pid {facts['pid']}", facts=facts)


def _disk(subject: Subject, directory: str) -> Finding:
    place = _existing(directory)
    figures = os.statvfs(place)
    free = figures.f_bavail * figures.f_frsize
    facts = {"path": place, "free_bytes": free, "free_inodes": figures.f_favail}
    text = f"{size(free)} free on the disk of {place}"
    segments, checkpoint = 2 * 64 * _MIB, subject.max_memory
    if free < 2 * _MIB or (figures.f_files > 0 and figures.f_favail < 16):
        return Finding("disk", "problem", f"{text}: no log can be written", "make room there", facts)
    if free < segments + checkpoint:
        text += (
            f", less than {size(segments + checkpoint)}: two log segments and one checkpoint of a full "
            "arena. Writes are refused while the disk is full"
        )
        advice = "make room, lower keep_checkpoints and keep_segments, or `db.clear_wal()`"
        return Finding("disk", "warning", text, advice, facts)
    return Finding("disk", "ok", text, facts=facts)


def _leftovers(subject: Subject) -> Finding:
    directory = subject.directory
    inside = directory if directory is not None and os.path.isdir(directory) else None
    if inside is not None and not {"MANIFEST", "GROUP"} & set(os.listdir(inside)):
        inside = None
    try:
        found = list(leftovers.collect(inside, remove=False))
    except OSError as error:
        return Finding("leftovers", "warning", f"they can't be looked for: {error}", "run as the owner")
    # What a living engine has open, or may be opening, is kept by `gc`, too.
    stale = [one for one in found if one.stale]
    facts = {"leftovers": [one.to_dict() for one in stale]}
    if not stale:
        return Finding("leftovers", "ok", "none of dead engines", facts=facts)
    total = size(sum(one.bytes for one in stale))
    text = f"{len(stale)} of dead engines, {total}: {', '.join(one.path for one in stale[:3])}" + (
        ", …" if len(stale) > 3 else ""
    )
    return Finding("leftovers", "warning", text, "harmless; `memdb gc` removes them", facts)
