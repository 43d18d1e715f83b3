"""`memdb shell`: commands on a database, typed one after the other or read from a pipe.

Owns: the loop, printing, completion and the history file.

Invariants:
- On a terminal an error ends the command, otherwise the shell; either way it is one line on stderr.
- The history can hold keys and values: its file is the user's alone (0600), and only lines typed on a
  terminal go there.
- A transaction that is open at the end is aborted, and that is said.
- Completion never changes anything, and an engine in trouble never breaks the line that is being typed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click
from rich.pretty import Pretty

from memdb import errors as memdb_errors
from memdb.cli import errors, notation, output, words
from memdb.cli.answers import NOTHING, Answer
from memdb.cli.opening import opened
from memdb.cli.shell_commands import COMMANDS, Session

_HISTORY_LINES: Final = 10_000
_CANDIDATES: Final = 100  # keys that a Tab looks at
_EXPECTED: Final = (
    memdb_errors.Error, notation.NotationError, KeyError, OSError, ValueError, TypeError, MemoryError,
)  # fmt: skip


@click.command()
@click.argument("directory", type=click.Path(path_type=str))
@click.option("--readonly", is_flag=True, help="Refuse writes.")
@click.option("--no-history", is_flag=True, help="Neither read nor write the history file.")
@click.option("--json", "json_", is_flag=True, help="Print answers as JSON, one object a line.")
def shell(directory: str, readonly: bool, no_history: bool, json_: bool) -> None:
    """Type commands on DIRECTORY, with completion (Tab) and history; `help` lists them. Creates the database
    if there is none, unless --readonly. From a pipe one command a line is read: the first error ends it with
    its exit code, and the exit code is 1 if an answer was no.
    """
    with errors.reported(), opened(directory, create=not readonly, readonly=readonly) as db:
        session = Session(db)
        printer = _Printer(json_)
        try:
            if sys.stdin.isatty():
                code = _interactive(session, printer, directory, history=not no_history)
            else:
                code = _piped(session, printer)
        finally:
            if session.close():
                click.echo("memdb: the open transaction was aborted: there was no commit", err=True)
    raise SystemExit(code)


# ----------------------------------------------------------------------------------------------- the loops


def _piped(session: Session, printer: _Printer) -> int:
    code = errors.OK
    for number, line in enumerate(sys.stdin, 1):
        if line.lstrip().startswith("#"):
            continue
        try:
            answer = session.run(line)
        except EOFError:
            break
        except _EXPECTED as error:
            click.echo(f"memdb: line {number}: {_sentence(error)}", err=True)
            return _code(error)
        if printer.show(answer):
            code = errors.NO
    if session.transaction is not None:
        return errors.NO
    return code


def _interactive(session: Session, printer: _Printer, directory: str, *, history: bool) -> int:
    name = os.path.basename(os.path.realpath(directory))
    with _line_editing(session, history) as remember:
        while True:
            try:
                line = input(f"memdb {name}{'*' if session.transaction is not None else ''}> ")
            except EOFError:
                click.echo()
                return errors.OK
            except KeyboardInterrupt:
                click.echo()
                continue
            remember(line)
            try:
                printer.show(session.run(line))
            except EOFError:
                return errors.OK
            except KeyboardInterrupt:
                click.echo("memdb: interrupted", err=True)
            except _EXPECTED as error:
                click.echo(f"memdb: {_sentence(error)}", err=True)


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyError):
        return f"no key {error}"
    return str(error) if isinstance(error, notation.NotationError) else f"{type(error).__name__}: {error}"


def _code(error: BaseException) -> int:
    return errors.NO if isinstance(error, KeyError) else errors.exit_code(error)


class _Printer:
    """Prints answers: as JSON, in colours and well broken on a terminal, else each on one line."""

    def __init__(self, json_: bool) -> None:
        self._json = json_

    def show(self, answer: Answer) -> bool:
        """Prints it; was the answer no?"""
        if self._json:
            for document in answer.data:
                output.print_json(document)
            if answer.more:
                output.print_json({"more": True})
        elif answer.no is None:
            self._show(answer)
        if answer.no is not None:
            click.echo(f"memdb: {answer.no}", err=True)
        sys.stdout.flush()
        return answer.no is not None

    def _show(self, answer: Answer) -> None:
        for table in answer.tables:
            output.out().print(table)
        if answer.text:
            click.echo(answer.text)
        if answer.value is not NOTHING:
            if sys.stdout.isatty():
                output.out().print(Pretty(answer.value))
            else:
                click.echo(notation.to_text(answer.value))
        for row in answer.data if answer.rows else ():
            self._show_row(row)
        for value in answer.data if answer.each else ():
            click.echo(notation.to_text(value))
        if answer.more:
            click.echo("memdb: there are more; --limit N shows so many", err=True)

    def _show_row(self, row: dict[str, Any]) -> None:
        key = words.write(row["key"])
        width = 200 if sys.stdout.isatty() else None
        click.echo(f"{key} = {notation.to_text(row['value'], width)}" if "value" in row else key)


# ---------------------------------------------------------------------------------- completion and history


@contextlib.contextmanager
def _line_editing(session: Session, history: bool) -> Iterator[Callable[[str], None]]:
    """Sets readline up and puts it back; gives the function that remembers a line."""
    try:
        import readline
    except ImportError:
        click.echo("memdb: this Python was built without readline: no completion, no history", err=True)
        yield lambda line: None
        return
    before = readline.get_completer(), readline.get_completer_delims()
    readline.set_completer(Completer(session, readline.get_line_buffer, readline.get_begidx).complete)
    readline.set_completer_delims(" \t")
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    past = _History.open() if history else None
    for line in past.lines if past is not None else ():
        readline.add_history(line)
    try:
        yield past.append if past is not None else lambda line: None
    finally:
        readline.set_completer(before[0])
        readline.set_completer_delims(before[1])
        readline.clear_history()
        if past is not None:
            past.close()


class _History:
    """The lines typed so far, of all shells of this user: one file, appended to line by line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if stat.S_IMODE(os.fstat(self._fd).st_mode) != 0o600:
            os.fchmod(self._fd, 0o600)
        text = os.pread(self._fd, os.fstat(self._fd).st_size, 0).decode("utf-8", "replace")
        self.lines = text.splitlines()
        if len(self.lines) > 2 * _HISTORY_LINES:
            self.lines = self.lines[-_HISTORY_LINES:]
            beside = path.with_name(f"{path.name}.{os.getpid()}")
            fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(fd, "".join(f"{line}\n" for line in self.lines).encode())
            os.rename(beside, path)
            os.close(self._fd)
            self._fd = fd

    @classmethod
    def open(cls) -> _History | None:
        """None, and a word about it, where it can't be had."""
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        try:
            return cls(Path(state) / "memdb" / "history")
        except OSError as error:
            click.echo(f"memdb: no history: {error}", err=True)
            return None

    def append(self, line: str) -> None:
        if line.strip():
            os.write(self._fd, f"{line}\n".encode("utf-8", "replace"))

    def close(self) -> None:
        os.close(self._fd)


class Completer:
    """Completes commands, options and keys. ``line`` and ``begin`` tell what is typed, as readline does."""

    def __init__(self, session: Session, line: Callable[[], str], begin: Callable[[], int]) -> None:
        self._session, self._line, self._begin = session, line, begin
        self._found: list[str] = []

    def complete(self, text: str, state: int) -> str | None:
        """The candidate number ``state``, in the form that readline asks for."""
        if state == 0:
            begin = self._begin()
            self._found = self.candidates(self._line()[: begin + len(text)], begin)
        return self._found[state] if state < len(self._found) else None

    def candidates(self, typed: str, begin: int) -> list[str]:
        """What can stand in the place of ``typed[begin:]``."""
        parts = words.split(typed)
        if not parts or (parts[-1].whole and typed[-1:].isspace()):
            parts.append(words.Word("", len(typed)))
        last = parts[-1]
        if len(parts) == 1:
            return [f"{name} " for name in COMMANDS if name.startswith(last.text)]
        command = COMMANDS.get(parts[0].text)
        if command is None or parts[0].text == "help":
            return [name for name in COMMANDS if command is not None and name.startswith(last.text)]
        if last.text.startswith("-"):
            return [f"{name} " for name in command.options if name.startswith(last.text)]
        if command.collections and len(parts) == 2:
            return [name for name in self._collections() if name.startswith(last.text)]
        if not command.keys or (len(parts) > 2 and command.most == 2):
            return []
        # readline replaces what follows the last space; a word in brackets can hold spaces before that.
        cut = begin - last.start
        return [word[cut:] for word in self._keys(last.text) if word.startswith(last.text)]

    def _collections(self) -> list[str]:
        try:
            return sorted(words.write(name) for name in self._session.db.collections())
        except _EXPECTED:
            return []

    def _keys(self, text: str) -> list[str]:
        try:
            keys = self._session.target.keys(prefix=_prefix(text), limit=_CANDIDATES)
            return [words.write(key) for key in keys]
        except _EXPECTED:  # what is no prefix has no keys; an engine in trouble tells at the next command
            return []


def _prefix(text: str) -> Any:
    """The prefix that an unfinished word stands for: of text its letters, of a tuple its whole elements."""
    if text[:1] == "(":
        whole = text.rpartition(",")[0]
        return words.parse(f"{whole},)") if whole else ()
    if text[:1] in "'\"" and text:
        return words.parse(text + text[0])
    return text
