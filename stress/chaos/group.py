"""The processes of a database's engine, seen, killed and stopped from outside.

Invariant: roles are read from /proc, without asking the engine, so that a process can be met in the middle of
a recovery, too.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

import memdb

__all__ = ["ROLES", "actors", "is_gone", "kill", "kill_group", "kill_process_group", "pids", "send"]

ROLES = ("supervisor", "writer", "checkpointer", "reaper")


def actors(directory: Path) -> dict[str, int]:
    """Process ids by role of the group of *directory*; of two of one role (one is ending) the younger."""
    found: dict[str, int] = {}
    for entry in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
        try:
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            if b"memdb.actors.group" not in words or os.fsencode(directory) not in words:
                continue
            name = Path(f"/proc/{entry}/comm").read_text().strip()
        except OSError:  # it ended meanwhile
            continue
        role = name.removeprefix("memdb-")
        found[next((one for one in ROLES if one.startswith(role)), "supervisor")] = entry
    return found


def pids(database: memdb.Database) -> dict[str, int]:
    """Process ids by role, as the engine itself names them."""
    return {role: process.pid for role, process in database.info().processes.items() if process.pid}


def send(pid: int, number: signal.Signals) -> bool:
    """Sends a signal; False if the process is gone already, which is as good."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def kill(pid: int) -> bool:
    """SIGKILL."""
    return send(pid, signal.SIGKILL)


def kill_process_group(pid: int) -> bool:
    """SIGKILL to the whole process group of *pid*, at one instant; never to our own."""
    try:
        group = os.getpgid(pid)
        if group == os.getpgrp():
            return False
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def is_gone(pid: int) -> bool:
    """Has it ended (a zombie has)?"""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1] in (b"Z", b"X")
    except OSError:
        return True


def kill_group(database: memdb.Database) -> None:
    """SIGKILL to every process of the engine, and waits until they are gone."""
    victims = []
    for pid in pids(database).values():
        try:
            victims.append(psutil.Process(pid))
        except psutil.NoSuchProcess:
            continue
        kill(pid)
    psutil.wait_procs(victims, timeout=10)
