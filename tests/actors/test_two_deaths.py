"""The writer and the checkpointer die together while the checkpointer is asked for something."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
from actors.group_tools import wait_until

import memdb


def _actors(supervisor: int) -> dict[str, int]:
    return {child.name()[6:12]: child.pid for child in psutil.Process(supervisor).children()}


def test_a_checkpointer_reads_nothing_before_the_writer_knows_of_it(data: Path) -> None:
    """Its pin would protect nothing: what it reads could be given back under it."""
    with memdb.open(data, linger=0, timeout=60.0) as db:
        db.set_many((n, n) for n in range(1000))
        processes = db.info().processes
        supervisor, writer = processes["supervisor"].pid, processes["writer"].pid
        checkpointer = processes["checkpointer"].pid
        for pid in (checkpointer, writer):
            os.kill(pid, signal.SIGSTOP)
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(db.check()))
        asking.start()
        os.kill(writer, signal.SIGKILL)
        wait_until(lambda: _actors(supervisor).get("writer", writer) != writer)
        successor = _actors(supervisor)["writer"]
        os.kill(successor, signal.SIGSTOP)
        os.kill(checkpointer, signal.SIGKILL)
        wait_until(lambda: _actors(supervisor).get("checkp", checkpointer) != checkpointer)
        try:
            asking.join(1.0)  # that nothing comes can be seen by waiting only
            assert asking.is_alive(), "it was asked, and has answered"
        finally:
            os.kill(successor, signal.SIGCONT)
        asking.join(60)
        assert answers and answers[0].ok
