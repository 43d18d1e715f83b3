"""From an exception to a sentence on stderr and an exit code.

Owns: EXIT_CODES, the table that docs/reference/cli.md prints (a test compares them).
Invariant: every public error has a code of its own kind; a test walks memdb.errors.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from memdb import errors
from memdb.cli.notation import NotationError

OK = 0
NO = 1
USAGE = 2
PLACE = 3
LIMIT = 4
DAMAGE = 5
INTERRUPTED = 130
UNREAD = 141

NO_MEANS: dict[str, str] = {
    "get": "no such key",
    "set": "`--if-absent`, and there is one",
    "delete": "no such key",
    "find": "no such collection",
    "explain": "no such collection",
    "update-where": "no such collection, or no document matches",
    "delete-where": "no such collection, or no document matches",
    "index": "no such collection, to list or to drop, or no such index to drop",
    "drop-collection": "no such collection",
    "rename-collection": "no such collection",
    "check": "it found problems",
    "demo": "something was lost",
    "recover": "something is left out",
    "doctor": "there is a problem",
    "shell": "from a pipe: a key, collection or index was missing, no document matched, a condition did not "
    "hold, or a transaction was left open",
}
"""What exit code 1 says, by command; the others never return it."""

EXIT_CODES: dict[int, str] = {
    OK: "done",
    NO: "the answer is no, and for these commands only: "
    + "; ".join(f"`{command}`: {meaning}" for command, meaning in NO_MEANS.items()),
    USAGE: "wrong usage: an unknown option, a key or value that its type can't hold, an option that differs "
    "from the running engine's, a document, filter or index that its collection refuses",
    PLACE: "the database can't be opened or reached: no such directory, not a database, no permission, "
    "no answer in time",
    LIMIT: "refused for now: a limit, a full disk or memory, a conflict, a time-out; "
    "`serve`, `recover`: an engine runs",
    DAMAGE: "damage, or an engine that can't run: see `memdb check`, `memdb recover` and engine.log",
    INTERRUPTED: "interrupted by Ctrl-C (`serve`, `top` and a shell on a terminal end with 0)",
    UNREAD: "the reader of stdout has gone, as `head` does once it has enough",
}

_USE = (
    "ClosedError",
    "ForkedHandleError",
    "OptionMismatch",
    "UnsupportedType",
    "KeyTooLarge",
    "ValueTooLarge",
    "TransactionTooLarge",
    "ReadOnlyError",
    "DuplicateKeyError",
    "InvalidFilter",
    "IndexMismatch",
    "ModelError",
)
_PLACE = (
    "NotADatabase",
    "UnsupportedFilesystem",
    "UnsupportedPlatform",
    "ContainerMismatch",
    "FormatTooNew",
    "OpenTimeout",
)
_DAMAGE = ("CorruptionError", "LogFailed", "EngineDied", "WriterPoisoned")


def _classes(names: tuple[str, ...]) -> tuple[type[BaseException], ...]:
    return tuple(getattr(errors, name) for name in names)


_BY_CODE: tuple[tuple[int, tuple[type[BaseException], ...]], ...] = (
    (DAMAGE, _classes(_DAMAGE)),
    (PLACE, _classes(_PLACE)),
    (USAGE, (*_classes(_USE), NotationError)),
    (LIMIT, (errors.Error, TimeoutError, MemoryError)),
    (PLACE, (OSError,)),
    (USAGE, (ValueError, TypeError)),
)


def exit_code(error: BaseException) -> int:
    """The exit code for an error that left a command."""
    for code, classes in _BY_CODE:
        if isinstance(error, classes):
            return code
    raise error


def _is_unread() -> bool:
    """Has the reader of stdout gone? Then what is left for it goes nowhere, in silence."""
    poll = select.poll()
    poll.register(1, 0)
    if not poll.poll(0):  # neither an error nor a hang-up
        return False
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return True


@contextmanager
def reported() -> Iterator[None]:
    """Turns the errors that a user can act on into one line on stderr and an exit code; others keep
    their traceback.
    """
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        click.echo("memdb: interrupted", err=True)
        raise SystemExit(INTERRUPTED) from None
    except (errors.Error, NotationError, OSError, ValueError, TypeError, MemoryError) as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            raise SystemExit(UNREAD) from error
        code = exit_code(error)
        name = "" if isinstance(error, NotationError) else f"{type(error).__name__}: "
        click.echo(f"memdb: {name}{error}", err=True)
        raise SystemExit(code) from error
