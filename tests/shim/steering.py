"""A clock and a disk that tests steer: builds shim.c, says how processes are started under it, gives orders.

Owns: the steering file, whose layout is shim.c's. Every change below ``root`` is a step with a label
``kind:area`` (:data:`LABELS`); an :class:`Order` at a label kills, fails, cuts short or holds its n-th step
from now, and :meth:`Steering.hits` says how often each label was reached, over all processes.

Invariants:

* The offset holds for every process under the shim from one instant on, this one included where the test
  itself runs under it (``under_shim``).
* An order is complete before its label is stored, and its label is taken away before it is changed.
* A process under the shim that is of this process's own group is only ever killed alone.
"""

import mmap
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = [
    "ACTIONS",
    "AREAS",
    "KINDS",
    "LABELS",
    "Order",
    "Steering",
    "compiler",
    "library_in",
    "seconds_seen",
    "under_shim",
]

_COARSE = 5  # CLOCK_REALTIME_COARSE, which pins are stamped by
_NAME = "MEMDB_TEST_SHIM"

KINDS: Final = ("create", "write", "sync", "rename", "unlink", "mkdir", "syncdir")
AREAS: Final = ("wal", "checkpoints", "manifest", "generation", "quarantine", "directory", "parent")
"""By the first part of the path below the root; ``directory``: all else, and the root itself."""
LABELS: Final = tuple(f"{kind}:{area}" for kind in KINDS for area in AREAS)
ACTIONS: Final = (
    "nothing",
    "kill before",
    "kill after",
    "kill group before",
    "kill group after",
    "fail",  # value: errno
    "fail after",  # it is done, and errno is told all the same
    "short",  # value: the most bytes that are written
    "delay",  # value: microseconds
    "hold",  # until the order is taken back
)

_ORDERS, _ORDER_WORDS = 8, 6
_LABEL, _ACTION, _VALUE, _STICKY, _COUNTDOWN, _FIRED = range(_ORDER_WORDS)
_OFFSET, _SPARED, _FIRST_ORDER = 0, 1, 2
_FIRST_HIT = _FIRST_ORDER + _ORDERS * _ORDER_WORDS
_ROOT = _FIRST_HIT + len(LABELS)
_ROOT_BYTES = 4096
_SIZE = 8 * _ROOT + _ROOT_BYTES


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which(os.environ.get("CC", "cc"))


def under_shim() -> bool:
    """Does this process run under the shim?"""
    return _NAME in os.environ


def library_in(directory: Path) -> Path:
    """The shim, compiled into *directory*."""
    chosen = compiler()
    assert chosen is not None
    library, source = directory / "shim.so", Path(__file__).with_name("shim.c")
    options = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-shared", "-fPIC"]
    subprocess.run([chosen, *options, str(source), "-o", str(library)], check=True)
    return library


@dataclass
class Order:
    """What is to happen at a label; made by :meth:`Steering.order`."""

    steering: "Steering"
    slot: int
    label: str

    @property
    def fired(self) -> int:
        """How many steps it has met."""
        return self.steering.word(self.slot + _FIRED)

    def cancel(self) -> None:
        """It meets no more steps; whom it holds goes on."""
        self.steering.store(self.slot + _LABEL, 0)


class Steering:
    """The words of one steering file, and the environment of processes that obey it."""

    def __init__(self, path: Path, library: Path | None = None, root: Path | None = None) -> None:
        self._path, self._library = path, library
        if not path.exists():
            path.write_bytes(bytes(_SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self._words = memoryview(self._map).cast("q")
        if library is not None:
            self.store(_SPARED, os.getpgrp())
        if root is not None:
            encoded = os.fsencode(root.resolve())
            self._map[8 * _ROOT : 8 * _ROOT + len(encoded) + 1] = encoded + b"\0"

    @classmethod
    def build(cls, directory: Path, root: Path | None = None) -> "Steering":
        """A new one, with the library compiled into *directory*. ``root``: the database directory (it need
        not be there yet) whose changes are steps; without it none are."""
        return cls(directory / "steering", library_in(directory), root)

    @classmethod
    def of_this_process(cls) -> "Steering":
        """The one that this process was started under."""
        return cls(Path(os.environ[_NAME]))

    def environment(self) -> dict[str, str]:
        """What a process under the shim is started with."""
        assert self._library is not None
        return {**os.environ, "LD_PRELOAD": str(self._library), _NAME: str(self._path)}

    # -------------------------------------------------------------------------------------------- the clock

    def step(self, seconds: float) -> None:
        """Steps every clock under the shim, forward or back."""
        self.store(_OFFSET, self.word(_OFFSET) + round(seconds * 1e6))

    @property
    def offset(self) -> float:
        """By how many seconds the clocks are ahead."""
        return self.word(_OFFSET) / 1e6

    def now(self) -> float:
        """The time under the shim, seen from a process that is not."""
        return time.time() + self.offset

    # -------------------------------------------------------------------------------------------- the steps

    def order(self, label: str, action: str, *, value: int = 0, hit: int = 1, sticky: bool = False) -> Order:
        """From now on: the *hit*-th step at *label* (``sticky``: and each after it) meets *action*."""
        places = range(_FIRST_ORDER, _FIRST_HIT, _ORDER_WORDS)
        slot = next(one for one in places if self.word(one + _LABEL) == 0)
        for at, word in (
            (_ACTION, ACTIONS.index(action)),
            (_VALUE, value),
            (_STICKY, int(sticky)),
            (_COUNTDOWN, hit),
            (_FIRED, 0),
            (_LABEL, 1 + LABELS.index(label)),
        ):
            self.store(slot + at, word)
        return Order(self, slot, label)

    def cancel(self) -> None:
        """Takes back all orders."""
        for slot in range(_FIRST_ORDER, _FIRST_HIT, _ORDER_WORDS):
            self.store(slot + _LABEL, 0)

    def hits(self) -> dict[str, int]:
        """How often each label was reached; those never reached are left out."""
        counts = self._words[_FIRST_HIT:_ROOT].tolist()
        return {label: count for label, count in zip(LABELS, counts, strict=True) if count}

    def close(self) -> None:
        """The shim goes on with the words as they are."""
        self._words.release()
        self._map.close()

    def word(self, at: int) -> int:
        """One word of the file."""
        return self._words[at]

    def store(self, at: int, value: int) -> None:
        """Stores one word, in one piece."""
        self._words[at] = value


def seconds_seen(_db: object) -> float:
    """What a process under the shim takes for the time: run by a peer, which finds it here by its name."""
    precise, coarse = time.time(), time.clock_gettime(_COARSE)
    assert abs(precise - coarse) < 0.5
    return precise
