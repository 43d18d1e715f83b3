"""What to run next when files are damaged: the command that each CorruptionError of a start names.

Owns: the wording. Invariant: an error that has passed here has file, offset, LSN and command, and the command
is a dry run: it changes nothing.
"""

import shlex
from typing import Final

from memdb.durability.files import Files
from memdb.errors import CorruptionError

__all__ = ["FIRST_LSN", "command", "with_command"]

FIRST_LSN: Final = 2
"""Of the first commit that a database can have (the empty one is at 1)."""


def command(files: Files, mode: str) -> str:
    """The dry run of a recovery of this directory."""
    return f"memdb recover {shlex.quote(files.place())} --mode {mode.replace('_', '-')}"


def with_command(error: CorruptionError, files: Files, mode: str) -> CorruptionError:
    """``error`` with what it lacks: file, offset, the lowest LSN that is in doubt, and the next command."""
    if error.command is not None:
        return error
    error.file = error.file or "MANIFEST"
    error.offset = error.offset or 0
    error.lsn = error.lsn or FIRST_LSN
    error.command = command(files, mode)
    text = (
        f"{error.message.rstrip('. ')}. Nothing was changed. Restore the file from a backup, or see what can "
        f"be kept without it (this changes nothing yet): {error.command}"
    )
    error.args = (text,)
    return error
