"""The processes of a database's engine, seen and killed from outside."""

from __future__ import annotations

import os
import signal

import psutil

import memdb


def pids(database: memdb.Database) -> dict[str, int]:
    """Process ids by role, as the engine itself names them."""
    return {role: process.pid for role, process in database.info().processes.items() if process.pid}


def kill(pid: int) -> None:
    """SIGKILL; a process that is gone already is as good."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


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
