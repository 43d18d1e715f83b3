"""`memdb serve`: the engine of a directory in the foreground.

Owns: its options, what it prints, and the clean interpreter that it runs in.

Invariants:
- The process that the user started is the supervisor: a service manager sees its end, and its signals need no
  middleman. It is started anew once, as an engine that an open starts: with this package's own directory on
  the path and with DIRECTORY as an absolute path in its command line.
- Nothing that is printed can hold the engine up: a line that nobody takes is dropped.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Callable
from typing import Any

import click

from memdb import options as engine_options
from memdb import place
from memdb.actors.directory import Home
from memdb.actors.start import environment, interpreter
from memdb.cli import errors, output
from memdb.cli.opening import stop_engine

_NOT_HERE = frozenset({"linger"})
"""Engine options without a meaning for an engine that stays whatever clients do."""

_METAVARS = {"s": "SECONDS", "bytes": "SIZE"}
"""What the value of an option is, by its unit; else a number or a word."""


def _engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(engine_options.OPTIONS.values()):
        if option.scope == "engine" and option.name not in _NOT_HERE:
            text = f"{option.doc.replace('`', '')}; {option.default} unless given."
            flag = f"--{option.name.replace('_', '-')}"
            kind = _METAVARS.get(option.unit) or ("N" if isinstance(option.default, int) else "WORD")
            command = click.option(flag, option.name, metavar=kind, help=text[0].upper() + text[1:])(command)
    return command


@click.command()
@click.argument("directory", type=click.Path(path_type=str))
@_engine_options
@click.option("--no-log", is_flag=True, help="Without log and checkpoints: durability none.")
@click.option("--no-create", is_flag=True, help="Only a database that exists.")
@click.option("--allow-network-fs", is_flag=True, help="Also on NFS, CIFS, 9p, FUSE.")
@click.option("--replace", is_flag=True, help="End an engine that runs already, and take its place.")
@click.option("--json", "json_", is_flag=True, help="Print one JSON object an event, for programs.")
def serve(
    directory: str, no_log: bool, no_create: bool, allow_network_fs: bool, replace: bool, json_: bool,
    **given: str | None,
) -> None:  # fmt: skip
    """Run the engine of DIRECTORY in the foreground, whatever its clients do, until SIGTERM, Ctrl-C or
    `memdb stop`; then take a last checkpoint and end.
    """
    with errors.reported():
        explicit = {name: _parsed(name, text) for name, text in given.items() if text is not None}
        options = engine_options.EngineOptions.from_explicit({**explicit, "linger": None}, logged=not no_log)
        flags = {"no-log": no_log, "no-create": no_create, "allow-network-fs": allow_network_fs}
        _run_clean(directory, given, {**flags, "replace": replace, "json": json_})
        handle = engine_options.HandleOptions(create=not no_create, allow_network_fs=allow_network_fs)
        place.prepare(directory, handle)
        _run(directory, handle, options, replace=replace, json_=json_)


def _parsed(name: str, text: str) -> object:
    """The value of an engine option as it is typed: a number, a size, a word."""
    value: object = text
    for kind in (int, float):
        try:
            value = kind(text)
            break
        except ValueError:
            pass
    return engine_options.OPTIONS[name].parse(name, value)


def _run_clean(directory: str, given: dict[str, str | None], flags: dict[str, bool]) -> None:
    """Starts this command anew unless it runs as an engine has to; returns only in that case."""
    if sys.flags.safe_path and os.path.isabs(directory):
        return
    words = [os.path.abspath(directory), *(f"--{name}" for name, is_set in flags.items() if is_set)]
    for name, text in given.items():
        if text is not None:
            words += [f"--{name.replace('_', '-')}", text]
    python = interpreter()
    os.execve(python, [python, "-P", "-m", "memdb.cli", "serve", *words], environment())


def _run(
    directory: str,
    handle: engine_options.HandleOptions,
    options: engine_options.EngineOptions,
    *,
    replace: bool,
    json_: bool,
) -> None:
    from memdb import jobs
    from memdb.actors import foreground

    home = Home(directory)
    try:
        place.check_contents(directory, home.fd, handle)
        end_present = (lambda: stop_engine(directory)) if replace else None
        with foreground.Place(home, end_present) as taken, _Terminal(options, json_=json_) as terminal:
            os.chdir("/")
            foreground.serve(taken, options, terminal.report, jobs.MODULES)
    finally:
        home.close()


class _Terminal:
    """Where the events go: a copy of stdout, for the engine's own stdout is engine.log."""

    def __init__(self, options: engine_options.EngineOptions, *, json_: bool) -> None:
        self._options, self._json = options, json_
        sys.stdout.flush()
        self._fd = os.dup(1)

    def __enter__(self) -> _Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._fd)

    def report(self, event: dict[str, object]) -> None:
        """Prints one event of `foreground.serve`."""
        if self._json:
            if event["event"] == "serving":
                event = {**event, "options": self._options.to_wire()}
            line = json.dumps(event)
        else:
            line = f"memdb: {self._sentence(event)}"
        self._print(f"{line}\n".encode())

    def _print(self, line: bytes) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        try:
            if poll.poll(0):
                os.write(self._fd, line)
        except OSError:  # the terminal or the reader of the pipe is gone: the engine goes on
            pass

    def _sentence(self, event: dict[str, object]) -> str:
        path = event["path"]
        if event["event"] == "starting":
            return f"{path}: {event['phase']}, {event['done']} of {event['total']} keys or records"
        if event["event"] == "serving":
            kept = "a log" if self._options.logged else "no log"
            memory = output.size(self._options.max_memory)
            return (
                f"serving {path}, pid {event['pid']}, max_memory {memory}, with {kept}; "
                f"Ctrl-C, SIGTERM or `memdb stop {path}` ends it"
            )
        return (
            f"the engine of {path} has ended; its last commit is LSN {event['lsn']}, engine.log has the rest"
        )
