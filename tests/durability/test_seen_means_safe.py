"""Seen means safe (rule C5, invariant 4): no commit is seen before it is as durable as its level says."""

import threading
import time
from collections.abc import Callable

from durability.rig import Machine, options

from memdb.durability.files import MemoryFiles, RealClock
from memdb.shm import _kernel as kernel

IF_ABSENT = 4
CONDITION = 2


class HeldFiles(MemoryFiles):
    """A disk whose syncs wait while `gate` is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = threading.Event()

    def operation(self, kind: str, path: str) -> None:
        if kind == "datasync" and path.startswith("wal/") and not self.gate.is_set():
            self.waiting.set()
            assert self.gate.wait(60)
        super().operation(kind, path)


def answer(machine: Machine, request: int) -> tuple[int, int] | None:
    """(status, LSN), or None while there is none."""
    state, status, found, lsn, _ = kernel.lease_result(machine.lease, request % 64)
    return (status, lsn) if state == 3 and found == request else None


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def test_nobody_sees_a_full_commit_before_its_sync_and_later_ones_stay_behind_it() -> None:
    files = HeldFiles()
    machine = Machine(files, options(sync_interval=3600.0), threads=True)
    machine.engine._clock = machine.engine._wal._clock = machine.engine._generations._clock = RealClock()
    machine.start()
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            machine.engine.run(None)

    server = threading.Thread(target=serve)
    server.start()
    try:
        first = machine.submit([{"op": "set", "key": b"\x01\x01a\0", "value": b"1\0"}], "os")
        wait_for(lambda: answer(machine, first))
        files.gate.clear()
        full = machine.submit([{"op": "set", "key": b"\x01\x01b\0", "value": b"2\0"}], "full")
        behind = [
            machine.submit([{"op": "set", "key": b"\x01\x01" + name + b"\0", "value": b"3\0"}], level)
            for name, level in ((b"c", "os"), (b"d", "memory"), (b"a", "os"))
        ]
        failed = machine.submit(
            [{"op": "set", "key": b"\x01\x01b\0", "value": b"4\0", "flags": IF_ABSENT}], "memory"
        )
        arena = machine.segs.arenas[kernel.page_word(machine.segs.page) & 1]
        wait_for(files.waiting.is_set)
        wait_for(lambda: kernel.arena_figures(arena)["applied"] >= 4)  # logged and applied meanwhile …
        assert machine.names() == {"a": b"1"}  # … and seen by nobody
        assert [answer(machine, one) for one in (full, *behind, failed)] == [None] * 5
        assert kernel.arena_figures(arena)["synced"] < kernel.arena_figures(arena)["applied"]
        files.gate.set()
        wait_for(lambda: all(answer(machine, one) for one in (full, *behind, failed)))
        answers = [answer(machine, one) for one in (full, *behind)]
        assert all(one is not None and one[0] == 0 for one in answers)
        lsns = [one[1] for one in answers if one is not None]
        assert lsns == sorted(lsns) and kernel.arena_figures(arena)["synced"] >= lsns[0]
        assert answer(machine, failed) is not None and answer(machine, failed)[0] == CONDITION  # type: ignore[index]
        assert machine.names() == {"a": b"3", "b": b"2", "c": b"3", "d": b"3"}
    finally:
        files.gate.set()
        done.set()
        machine.engine.interrupt()
        server.join()
    machine.engine.stop()
