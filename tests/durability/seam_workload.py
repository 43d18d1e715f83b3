"""What test_seam_trace.py runs under strace: an engine on real files, recorded at the seam. Prints the
recording.

    python -m durability.seam_workload DIRECTORY [threads]
"""

import json
import sys
from typing import Any

from durability.recording import Operation, RecordingFiles
from durability.rig import Machine, key, options

from memdb.durability.files import RealClock, RealFiles
from memdb.shm import _kernel as kernel


class Patient(Machine):
    """Waits for an answer where other threads have part in it."""

    def settle(self, request: int) -> tuple[int, int]:
        until = RealClock().monotonic() + 30
        while True:
            self.event = self.engine.run(RealClock().monotonic() + 0.005 if self.threads else 0.0)
            state, status, found, lsn, _ = kernel.lease_result(self.lease, request % 64)
            if state == 3 and found == request:
                return status, lsn
            assert RealClock().monotonic() < until, "no answer"


def line(operation: Operation) -> list[object]:
    """As the test reads it: kind, path, and what else the system call shows."""
    if operation.kind == "write":
        return ["write", operation.path, operation.offset, len(operation.data), operation.data[:32].hex()]
    if operation.kind == "rename":
        return ["rename", operation.path, operation.target]
    return [operation.kind, operation.path]


def work(machine: Machine, **named: Any) -> None:
    """Every kind of change to the directory: commits of all levels, rotation, checkpoints, retention, an end
    in order, a recovery that cuts a tear."""
    machine.start()
    for turn in range(12):
        machine.set(f"k{turn % 5}", b"%d" % turn * 200, ("memory", "os", "full")[turn % 3])
        if turn % 4 == 3:
            machine.delete(f"k{turn % 5}", "full")
        if turn in (4, 9):
            machine.engine.rotate()
        if turn in (3, 7, 10):
            machine.engine.checkpoint()
    machine.engine.sync()
    machine.commit([{"op": "delete_range", "key": key("k0"), "value": key("k2")}], "full")
    machine.engine.compact()
    machine.set("after", b"1", "full")
    machine.engine.clear_wal()
    machine.engine.stop()
    torn = Patient(machine.files, machine.options, first_request=100, **named).start()
    torn.set("torn", b"2" * 3000, "full")
    end = torn.engine.commit.figures()["tail"]
    path = f"wal/{torn.engine.commit.figures()['segment']:016d}.log"
    stray = machine.files.open(path, write=True)
    stray.write_all(b"\1" * 700, end + 2048)  # a piece of a record whose beginning never reached the disk
    stray.close()
    torn.engine._wal.detach(torn.engine.commit)  # it is dead: nothing of it syncs or keeps house any more
    torn.engine._wal._jobs.put(None)
    again = Patient(machine.files, machine.options, first_request=200, **named).start()
    assert again.report.cuts and again.names()["torn"] == b"2" * 3000
    again.set("last", b"3", "full")
    again.engine.stop()


def main() -> int:
    """Runs the work and prints the trace as JSON lines."""
    real = RealFiles.at(sys.argv[1])
    files = RecordingFiles(real)
    chosen = options(keep_checkpoints=2, keep_segments=0)
    named = {"threads": True, "clock": RealClock()} if "threads" in sys.argv[2:] else {}
    work(Patient(files, chosen, **named), **named)
    for operation in files.trace.operations:
        print(json.dumps(line(operation)))
    real.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
