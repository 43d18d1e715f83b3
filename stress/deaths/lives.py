"""Client processes that live short: forked from a process that has opened nothing, killed at random instants.

Owns: what a client does before it dies, and what it says of itself in memory that outlives it.
Invariants:

* A record is written before and after each commit in ordinary order and read after the death of its writer,
  so a commit that was handed in is known exactly.
* Every value carries a checksum over its own name; a read that shows anything else is a violation.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import signal
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import memdb

__all__ = ["RECORD", "SHARED", "Nursery", "Record", "is_sound", "packed", "shared_key"]

SHARED = 200
"""Keys that everybody reads and the bystander overwrites."""
RECORD = struct.Struct("<QQQQ")
"""Life, request that was about to be sent, last one that was acknowledged, 1 if a read was wrong."""


def packed(name: str, stamp: int, size: int) -> bytes:
    """A value that says whose it is."""
    body = struct.pack("<Q", stamp) + (b"%d;" % stamp) * (size // 8 + 1)
    return struct.pack("<I", zlib.crc32(body, zlib.crc32(name.encode()))) + body


def is_sound(name: str, data: bytes | memoryview) -> bool:
    return zlib.crc32(bytes(data[4:]), zlib.crc32(name.encode())) == struct.unpack_from("<I", data)[0]


def shared_key(number: int) -> str:
    return f"shared{number % SHARED}"


_PR_SET_PDEATHSIG = 1
_END = 0


class Record:
    """Words of one client in shared memory."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def write(self, life: int, sent: int, acknowledged: int, wrong: int) -> None:
        RECORD.pack_into(self._memory, 0, life, sent, acknowledged, wrong)

    def read(self) -> tuple[int, int, int, int]:
        life, sent, acknowledged, wrong = RECORD.unpack_from(self._memory)
        return life, sent, acknowledged, wrong


def _live(place: Path, life: int, seed: int, record: Record, ready: int) -> None:
    """Until it is killed: pairs are written, points, scans, snapshots and views read; some stay open."""
    chance = random.Random(seed)
    database = memdb.open(place, durability="memory")
    kept: list[object] = []
    sent = wrong = 0
    record.write(life, 0, 0, 0)
    os.write(ready, b"r")
    while True:
        what = chance.randrange(6)
        name = shared_key(chance.randrange(SHARED))
        if what < 2:
            sent += 1
            record.write(life, sent, sent - 1, wrong)
            pair = {f"life{life}{half}": packed(f"life{life}{half}", sent, chance.randrange(2000)) for half in "ab"}
            database.set_many(pair)
            record.write(life, sent, sent, wrong)
        elif what == 2:
            value = database.get(name)
            wrong |= value is not None and not is_sound(name, value)
        elif what == 3:
            for key, value in database.range(prefix="shared"):
                wrong |= not is_sound(key, value)
                if chance.random() < 0.01:
                    break
        elif what == 4:
            snapshot = database.snapshot()
            value = snapshot.get(name)
            wrong |= value is not None and not is_sound(name, value)
            if chance.random() < 0.3 and len(kept) < 20:
                kept.append(snapshot)
            else:
                snapshot.close()
        else:
            with database.snapshot() as snapshot:
                view = snapshot.view(name)
            wrong |= not is_sound(name, view)
            if chance.random() < 0.3 and len(kept) < 20:
                kept.append(view)
            else:
                view.release()
        if wrong:
            record.write(life, sent, 0, 1)


class Nursery:
    """A process that forks clients, kills each after a random time, and tells what it knew of itself."""

    def __init__(self, place: Path, seed: int, clients: int) -> None:
        """Call before anything is opened in this process: the clients are to attach for themselves."""
        self._place, self._seed, self._clients = place, seed, clients
        self._orders, give = os.pipe()
        take, self._tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(give)
            os.close(take)
            _guarded(self._serve)
        os.close(self._orders)
        os.close(self._tell)
        self._give, self._take = give, take

    def deaths(self, count: int) -> list[tuple[int, int, int, int]]:
        """So many more clients live and die: (life, sent, acknowledged, wrong) of each, and none is left."""
        os.write(self._give, struct.pack("<Q", count))
        told = b""
        while len(told) < count * RECORD.size:
            piece = os.read(self._take, 65536)
            if not piece:
                raise RuntimeError("the process that forks clients ended: its own output says why")
            told += piece
        return [tuple(each) for each in RECORD.iter_unpack(told)]  # type: ignore[misc]

    def close(self) -> None:
        os.write(self._give, struct.pack("<Q", _END))
        os.waitpid(self.pid, 0)
        os.close(self._give)
        os.close(self._take)

    def _serve(self) -> None:
        chance, lives = random.Random(self._seed), 0
        while (left := struct.unpack("<Q", os.read(self._orders, 8))[0]) != _END:
            living: dict[int, tuple[Record, float]] = {}
            while left or living:
                while left and len(living) < self._clients:
                    left -= 1
                    lives += 1
                    record = Record()
                    pid = self._bear(lives, chance.randrange(1 << 30), record)
                    living[pid] = record, time.monotonic() + chance.random() * 0.03
                pid, (record, until) = min(living.items(), key=lambda item: item[1][1])
                _wait_until(until)
                os.kill(pid, signal.SIGKILL)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                if status != -signal.SIGKILL:
                    raise RuntimeError(f"client {record.read()[0]} ended by itself, with {status}")
                del living[pid]
                os.write(self._tell, RECORD.pack(*record.read()))

    def _bear(self, life: int, seed: int, record: Record) -> int:
        ready, say = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ready)
            _guarded(lambda: _live(self._place, life, seed, record, say))
        os.close(say)
        if os.read(ready, 1) != b"r":
            raise RuntimeError(f"client {life} (seed {seed}) ended before it was killed")
        os.close(ready)
        return pid


def _wait_until(moment: float) -> None:
    """To a point in time, which is what decides where in its work a client is killed."""
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)


def _guarded(work: Callable[[], None]) -> None:
    """The work of a forked child: it ends here, whatever happens, and says on stderr what it was."""
    code = 1
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # it does not outlive the harness
    try:
        work()
        code = 0
    finally:
        if code:
            import traceback

            traceback.print_exc()
        os._exit(code)
