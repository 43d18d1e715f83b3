"""Deaths that come together, or while there is no room for a successor."""

import os
import resource
import signal
import threading
from pathlib import Path
from typing import Any

import psutil
from actors.group_tools import wait_until

import memdb
from memdb.actors.supervisor import POISON_DEATHS


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


def test_successors_without_room_to_map_poison_nothing(data: Path) -> None:
    """Rule G4 is about a record that kills its writer; three writers without address space are none."""
    with memdb.open(data, linger=0, timeout=60.0, max_memory="256MiB") as db:
        db["a"] = 1
        processes = db.info().processes
        supervisor, writer = psutil.Process(processes["supervisor"].pid), processes["writer"].pid
        _, hard = resource.prlimit(supervisor.pid, resource.RLIMIT_AS)
        room = supervisor.memory_info().vms + (64 << 20)
        resource.prlimit(supervisor.pid, resource.RLIMIT_AS, (room, hard))
        os.kill(writer, signal.SIGKILL)
        log = data / "engine.log"
        wait_until(lambda: log.read_text().count("can't be mapped") >= POISON_DEATHS)
        assert db["a"] == 1
        resource.prlimit(supervisor.pid, resource.RLIMIT_AS, (hard, hard))
        db["b"] = 2
        assert db.info().phase == "serving" and supervisor.is_running()
