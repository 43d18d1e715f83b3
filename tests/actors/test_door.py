"""Who comes in at the group's door, and when: a client whose pins the writer sees, of the user whose
database it is."""

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from actors.group_tools import python

import memdb

JOIN = """
import sys, memdb
with memdb.open(sys.argv[1], linger=0, max_memory="64MiB", open_timeout=60) as db:
    print("in", db.get("a"), flush=True)
"""
KNOCK = """
import os, socket, sys
os.chdir(sys.argv[1])
os.setgid(65534); os.setuid(65534)
door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
door.settimeout(5)
door.connect("engine.sock")
print("turned away" if door.recv(1) == b"" else "answered", flush=True)
"""


def test_nobody_is_in_before_the_writer_scans_his_lease(
    opened: Callable[..., memdb.Database], data: Path
) -> None:
    """A pin that the writer does not know of protects nothing: so while it is stopped, an open waits."""
    db = opened()
    db["a"] = 1
    writer = db.info().processes["writer"].pid
    os.kill(writer, signal.SIGSTOP)
    try:
        other = python(JOIN, data)
        assert other.stdout is not None
        told, _, _ = select.select([other.stdout], [], [], 3.0)
        assert not told, "it reads, and the writer may use again what it reads"
    finally:
        os.kill(writer, signal.SIGCONT)
    assert other.communicate(timeout=60)[0] == "in 1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_another_user_is_turned_away_at_an_open_door(
    opened: Callable[..., memdb.Database], data: Path
) -> None:
    """Also where somebody has opened the directory and the socket to all: the peer's uid decides."""
    db = opened()
    data.chmod(0o711)
    (data / "engine.sock").chmod(0o666)
    assert python(KNOCK, data).communicate(timeout=60)[0] == "turned away\n"
    db["a"] = 1
