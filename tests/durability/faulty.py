"""A disk in memory that fails at one call, or from one call on: which calls there are, what may go wrong at
each, and who is hit.

Owns: the numbering of calls over several lives of a machine (``Disk.watch`` goes on counting), and which
errors a kind of call knows. Nothing here judges.
"""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from memdb.durability.files import MemoryFiles

__all__ = ["DELAY", "DELAY_SECONDS", "SHORT", "Call", "Disk", "Fault", "faults_at"]

SHORT, DELAY = -1, -2
"""In the place of an errno: a write that takes only a part; a call that succeeds after DELAY_SECONDS."""
DELAY_SECONDS = 5.0
_KINDS = {"pwrite": "write", "datasync": "sync", "sync_dir": "syncdir", "pread": "read", "listdir": "list"}
_FULL = (errno.ENOSPC, errno.EDQUOT)
_CHANGES = (errno.EIO, *_FULL, errno.EROFS)
_ERRORS = {
    "create": (*_CHANGES, errno.EMFILE),
    "write": (*_CHANGES, SHORT),
    "sync": (errno.EIO, *_FULL),
    "rename": _CHANGES,
    "mkdir": _CHANGES,
    "unlink": (errno.EIO, errno.EROFS),
    "syncdir": (errno.EIO, errno.EMFILE),
    "open": (errno.EIO, errno.EMFILE),
    "list": (errno.EIO, errno.EMFILE),
    "read": (errno.EIO,),
    "size": (errno.EIO,),
}
_GROWING = frozenset({"create", "write", "rename", "mkdir"})


@dataclass(frozen=True)
class Call:
    """One call of the seam: ``kind:area`` is its label."""

    kind: str
    path: str

    @property
    def area(self) -> str:
        """wal, checkpoints, quarantine, manifest, or directory."""
        head, slash, _ = self.path.partition("/")
        if slash:
            return head
        return "manifest" if head.startswith("MANIFEST") else "directory"

    @property
    def label(self) -> str:
        return f"{self.kind}:{self.area}"


@dataclass(frozen=True)
class Fault:
    """Call number ``at`` fails with ``code``; ``sticky``: and what a disk in that state fails afterwards."""

    at: int
    code: int
    sticky: bool
    label: str = ""

    def __str__(self) -> str:
        what = {SHORT: "short write", DELAY: "delay"}.get(self.code) or errno.errorcode[self.code]
        return f"{what} at call {self.at} ({self.label}), {'sticky' if self.sticky else 'once'}"

    def hits(self, number: int, call: Call, first: Call | None) -> bool:
        """``first``: what it hit first, None before that."""
        if not self.sticky or first is None:
            return number == self.at
        if self.code in _FULL:  # the log's segments have their blocks; syncs and unlinks need none
            return call.kind in _GROWING and (call.area != "wal" or call.kind != "write")
        if self.code == errno.EROFS:
            return call.kind in _GROWING or call.kind == "unlink"
        if self.code == errno.EMFILE:
            return call.kind in ("create", "open", "list", "syncdir")
        return call.kind == first.kind


def faults_at(number: int, call: Call) -> Iterator[Fault]:
    """Everything that may go wrong there."""
    for code in (*_ERRORS[call.kind], DELAY):
        for sticky in (False, True):
            yield Fault(number, code, sticky, call.label)


@dataclass
class Disk:
    """Counts the calls on the files that it watches, and fails the one that is meant."""

    fault: Fault | None = None
    calls: list[Call] = field(default_factory=list)
    first: Call | None = None
    hits: int = 0
    names: set[str] = field(default_factory=set)
    """The paths that were hit."""
    until: int = 0
    """How many calls there were before it was lifted."""
    delay: Callable[[], None] | None = None
    """Lets the time of a slow call go by."""
    _short: bool = False

    @property
    def struck(self) -> bool:
        return self.hits > 0

    def watch(self, files: MemoryFiles) -> MemoryFiles:
        """From now on these files are the disk."""
        files.on_operation = files.on_read = self._called
        files.on_write = self._taken
        return files

    def lift(self) -> None:
        """The disk is sound again; faults are for the calls before."""
        self.fault = None
        self.until = self.until or len(self.calls)

    def _called(self, kind: str, path: str) -> None:
        call = Call(_KINDS.get(kind, kind), path)
        self.calls.append(call)
        self._short = False
        fault = self.fault
        if fault is None or not fault.hits(len(self.calls), call, self.first):
            return
        self.first = self.first or call
        self.hits += 1
        self.names.add(path)
        if fault.code == SHORT:
            self._short = True
            return
        if fault.code == DELAY:
            assert self.delay is not None
            self.delay()
            return
        raise OSError(fault.code, os.strerror(fault.code), path)

    def _taken(self, path: str, length: int) -> int:
        return max(1, length // 2) if self._short and length else length
