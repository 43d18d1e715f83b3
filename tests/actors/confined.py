"""Programs in a mount name space of their own, where a directory (or /dev/shm) is a small tmpfs: a disk that
really is full, without touching anybody else's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import memdb

__all__ = ["may_mount", "run_confined"]

WHY = "needs the right to mount a tmpfs in a name space of its own (root): NOT TESTED HERE"


def may_mount() -> bool:
    """Can this process give a child a mount of its own?"""
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    tried = subprocess.run(
        [unshare, "--mount", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm"], capture_output=True, check=False
    )
    return tried.returncode == 0


def run_confined(
    code: str, mounts: dict[str, str], *arguments: object, timeout: float = 90
) -> "subprocess.CompletedProcess[str]":
    """Runs Python code where each of ``mounts`` (directory: size, as of tmpfs) is an empty tmpfs."""
    environment = {**os.environ, "PYTHONPATH": str(Path(memdb.__path__[0]).parent)}
    commands = [f"mount -t tmpfs -o size={size} tmpfs {place}" for place, size in mounts.items()]
    inside = " && ".join([*commands, f"exec {sys.executable} -P - {' '.join(map(str, arguments))}"])
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", inside],
        input=code,
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout,
        check=False,
    )
