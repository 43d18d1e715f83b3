"""The engine with its threads, on real files: sync and housekeeping beside the commit thread."""

import os
import threading
from pathlib import Path

import pytest
from durability.rig import LEVELS, Machine, key, options

from memdb.durability import log
from memdb.durability.files import RealClock, RealFiles
from memdb.shm import _kernel as kernel


def test_commits_of_all_levels_rotations_and_triggers(tmp_path: Path) -> None:
    files = RealFiles.at(str(tmp_path))
    machine = Machine(files, options(checkpoint_dirty_keys=500), threads=True)
    machine.engine._clock = machine.engine._wal._clock = machine.engine._generations._clock = RealClock()
    machine.start()
    events: list[str] = []
    done = threading.Event()

    def serve() -> None:
        while not done.is_set():
            events.append(machine.engine.run(None))
            if machine.engine.due_triggers(RealClock().monotonic()) is not None:
                machine.engine.checkpoint()

    server = threading.Thread(target=serve)
    server.start()
    try:
        for i in range(3000):
            level = ("memory", "os", "full")[0 if i % 50 else 2]
            request = i + 1
            operations = [{"op": "set", "key": key(f"k{i % 700}"), "value": b"x" * 900 + b"\0"}]
            payload = kernel.ops_build(operations)
            while not kernel.lease_submit(
                machine.lease, machine.segs.board, request % 64, request, payload, level=LEVELS[level]
            ):
                pass
            while kernel.lease_result(machine.lease, request % 64)[:3:2] != (3, request):
                pass
    finally:
        done.set()
        machine.engine.interrupt()
        server.join()
    machine.engine.stop()
    files.close()
    assert "failed" not in events
    now = machine.engine._wal.current
    assert now.checkpoints, "the trigger came while the loop was running"
    assert len(now.segments) > 1
    assert len(os.listdir(tmp_path / "wal")) == len(now.segments), "no spare is left behind"
    files = RealFiles.at(str(tmp_path))
    again = Machine(files).start()
    assert len(again.names()) == 700
    assert again.report.clean
    files.close()


def test_time_alone_makes_nothing_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk had stood still for long, a sync was taken for done, and a checkpoint counted with it."""
    monkeypatch.setattr(log, "_SLOW_SYNC", 0.02)
    machine = Machine(threads=True).start()
    engine = machine.engine
    before, never = engine._wal.durable_lsn, threading.Event()
    seen: list[int] = []

    def stand_still(kind: str, path: str) -> None:
        if kind == "datasync" and path.startswith("wal/"):
            never.wait(0.3)
            seen.append(engine._wal.durable_lsn)

    machine.submit([{"op": "set", "key": key("a"), "value": b"1\0"}])
    engine.commit.step()
    machine.files.on_operation = stand_still
    assert engine.sync() > before
    machine.files.on_operation = None
    engine.stop()
    assert seen[0] == before, "it was called durable before it was synced"
