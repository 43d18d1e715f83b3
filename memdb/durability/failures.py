"""What an error of the file system means for the engine, in words: which error, file, errno and next step.

Owns: the choice between DiskFullError, DiskError and LogFailed, and their texts.

Invariant: each names what was tried, the file, what the operating system said, and what to do; each has
``file`` and ``errno``. A refusal of the file system is never called damage.
"""

import errno
import os
from typing import Final

from memdb.errors import DiskError, DiskFullError, LogFailed

__all__ = ["DISK_FULL", "disk_error", "log_failed"]

DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_NEXT: Final = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there, or raise the quota",
    errno.EMFILE: "give the engine's processes more open files (ulimit -n)",
    errno.ENFILE: "the machine has too many open files (ulimit -n, fs.file-max)",
    errno.EROFS: "look at the disk: it is mounted read-only, perhaps since an error",
    errno.EACCES: "see whose the directory is, and its mode",
}
_LOOK: Final = "look at the disk"


def next_step(number: int) -> str:
    """What to do about an errno."""
    return _NEXT.get(number, _LOOK)


def disk_error(
    error: OSError, what: str, *, file: str = "", then: str = "nothing is lost"
) -> DiskFullError | DiskError:
    """``what`` could not be done. ``file`` if the error does not know; ``then``: what goes on meanwhile."""
    number = error.errno or errno.EIO
    path = file if error.filename is None else os.fsdecode(error.filename) or "the directory"
    text = f"{what}: {path}: {os.strerror(number)} (errno {number}); {then}: {next_step(number)}"
    kind = DiskFullError if number in DISK_FULL else DiskError
    return kind(text, file=path or "the directory", errno=number)


def log_failed(path: str, number: int, what: str) -> LogFailed:
    """A write or sync of the log was refused, which is final for that file (rule L5)."""
    return LogFailed(
        f"a {what} of {path} failed: {os.strerror(number)} (errno {number}): it is not tried again, "
        f"and commits are refused until a new log is begun. Reads go on; {next_step(number)}",
        file=path,
        errno=number,
    )
