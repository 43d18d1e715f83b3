"""The program `memdb`: its commands, each in a module of its own.

Owns: the click group, and which module has which command.
Invariant: only the module of the command that is called is loaded (`--help` loads them all): most of the time
of a short call would be imports.
"""

from __future__ import annotations

import importlib
import re
from typing import Any, Final

import click

_MODULES: Final = {
    "check": "engine",
    "checkpoint": "dump",
    "collections": "documents",
    "compact": "engine",
    "delete": "keys",
    "delete-where": "documents",
    "demo": "demo",
    "doctor": "doctor",
    "drop-collection": "documents",
    "explain": "documents",
    "find": "documents",
    "gc": "doctor",
    "get": "keys",
    "index": "documents",
    "info": "engine",
    "insert": "documents",
    "readers": "watching",
    "recover": "recover",
    "rename-collection": "documents",
    "scan": "keys",
    "serve": "serve",
    "set": "keys",
    "shell": "shell",
    "stop": "engine",
    "top": "watching",
    "update-where": "documents",
    "wal": "dump",
}
"""Of each command the module in this folder whose function of its name it is (`set_` for set)."""


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("memdb")
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        return "(not installed)"


def _print_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"memdb {_version()}")
        ctx.exit()


class _Program(click.Group):
    """A group that loads a command when it is asked for, and says how to write what is no option but begins
    like one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULES:
            return None
        module = importlib.import_module(f"memdb.cli.{_MODULES[cmd_name]}")
        function = cmd_name.replace("-", "_")
        command: click.Command = getattr(module, "set_" if function == "set" else function)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.NoSuchOption as error:
            if not re.match(r"-[\d.]", error.option_name):
                raise
            text = f"{error.message} A KEY or VALUE that begins with - goes after --, as in: -- -5"
            raise click.NoSuchOption(error.option_name, text, ctx=error.ctx) from error


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version", "-V", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Show the version and exit.",
)  # fmt: skip
def main() -> None:
    """A transactional, ordered, durable key/value database in shared memory."""
