"""A clock and a disk that tests steer: builds shim.c, says how processes are started under it, writes its
words.

Owns: the steering file. Invariant: the offset holds for every process under the shim from one instant on,
this one included where the test itself runs under it (``under_shim``).
"""

import mmap
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

__all__ = ["Steering", "compiler", "seconds_seen", "under_shim"]

_COARSE = 5  # CLOCK_REALTIME_COARSE, which pins are stamped by
_NAME = "MEMDB_TEST_SHIM"
_WORDS = ("offset_us", "fail_write", "fail_sync", "hold_sync", "fail_checkpoint")


def compiler() -> str | None:
    """The C compiler, if there is one."""
    return shutil.which(os.environ.get("CC", "cc"))


def under_shim() -> bool:
    """Does this process run under the shim?"""
    return _NAME in os.environ


class Steering:
    """The words of one steering file, and the environment of processes that obey it."""

    def __init__(self, path: Path, library: Path | None = None) -> None:
        self._path, self._library = path, library
        if not path.exists():
            path.write_bytes(bytes(8 * len(_WORDS)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * len(_WORDS))

    @classmethod
    def build(cls, directory: Path) -> "Steering":
        """A new one, with the library compiled into *directory*."""
        chosen = compiler()
        assert chosen is not None
        library, source = directory / "shim.so", Path(__file__).with_name("shim.c")
        options = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-shared", "-fPIC"]
        subprocess.run([chosen, *options, str(source), "-o", str(library), "-ldl"], check=True)
        return cls(directory / "steering", library)

    @classmethod
    def of_this_process(cls) -> "Steering":
        """The one that this process was started under."""
        return cls(Path(os.environ[_NAME]))

    def environment(self) -> dict[str, str]:
        """What a process under the shim is started with."""
        assert self._library is not None
        return {**os.environ, "LD_PRELOAD": str(self._library), _NAME: str(self._path)}

    def step(self, seconds: float) -> None:
        """Steps every clock under the shim, forward or back."""
        self._set("offset_us", self._get("offset_us") + round(seconds * 1e6))

    @property
    def offset(self) -> float:
        """By how many seconds the clocks are ahead."""
        return self._get("offset_us") / 1e6

    def now(self) -> float:
        """The time under the shim, seen from a process that is not."""
        return time.time() + self.offset

    def fail(self, *, write: int = 0, sync: int = 0, checkpoint: int = 0) -> None:
        """Writes or syncs of the log, or writes of checkpoints, fail with this errno; 0: no more."""
        self._set("fail_write", write)
        self._set("fail_sync", sync)
        self._set("fail_checkpoint", checkpoint)

    def hold_syncs(self, held: bool) -> None:
        """Syncs of the log wait until they are let go."""
        self._set("hold_sync", int(held))

    def close(self) -> None:
        """The shim goes on with the words as they are."""
        self._map.close()

    def _get(self, name: str) -> int:
        return int(struct.unpack_from("<q", self._map, 8 * _WORDS.index(name))[0])

    def _set(self, name: str, value: int) -> None:
        struct.pack_into("<q", self._map, 8 * _WORDS.index(name), value)


def seconds_seen(_db: object) -> float:
    """What a process under the shim takes for the time: run by a peer, which finds it here by its name."""
    precise, coarse = time.time(), time.clock_gettime(_COARSE)
    assert abs(precise - coarse) < 0.5
    return precise
