"""`python -m stress.deaths.namespace DIRECTORY`, as process 1 of a process-id namespace: a client with a
snapshot dies, another process gets its id at once; the pin of the dead one goes within a second, the other
process is left alone, and if it attaches it is somebody else.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import memdb

_LAST = Path("/proc/sys/kernel/ns_last_pid")
_TRIES = 50


def _fork_as(pid: int) -> int:
    """A child that waits for a signal and has this id; 0 if somebody else got it."""
    _LAST.write_text(str(pid - 1))
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    if child == pid:
        return child
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 0


def _client(place: Path) -> int:
    ready, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        database = memdb.open(place)
        snapshot = database.snapshot()
        os.write(say, b"r")
        signal.pause()
        snapshot.close()
        os._exit(0)
    os.close(say)
    if os.read(ready, 1) != b"r":
        raise RuntimeError("the client ended early")
    os.close(ready)
    return pid


def main() -> int:
    place = Path(sys.argv[1])
    try:
        _LAST.write_text(_LAST.read_text())
    except OSError as error:
        print(f"SKIPPED {error}")
        return 0
    first = _client(place)  # it starts the group, and another client holds it up
    holder = _client(place)
    database = memdb.open(place)
    for _ in range(_TRIES):
        os.kill(first, signal.SIGKILL)
        os.waitpid(first, 0)
        died = time.monotonic()
        other = _fork_as(first)
        if other:
            break
        first = _client(place)
    else:
        print("SKIPPED the id of a dead process was always taken by somebody else")
        return 0
    while any(reader.pid == first for reader in database.readers()):
        if time.monotonic() - died > 10:
            print(f"the pin of process {first} is there after 10 s")
            return 1
        time.sleep(0.002)
    took = time.monotonic() - died
    alive = os.waitpid(other, os.WNOHANG) == (0, 0)
    os.kill(other, signal.SIGKILL)
    os.kill(holder, signal.SIGKILL)
    database.close()
    print(f"{took * 1000:.0f} ms, the other process {'lives' if alive else 'IS DEAD'}")
    return 0 if took <= 1 and alive else 1


if __name__ == "__main__":
    sys.exit(main())
