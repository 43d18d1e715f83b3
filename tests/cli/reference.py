"""The parts of docs/reference/cli.md that are made from the program itself: each command with its options.

`python -m tests.cli.reference` puts them into the page, between the marks of each command; a test compares.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from memdb.cli.errors import NO_MEANS
from memdb.cli.program import main
from memdb.cli.shell_commands import COMMANDS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"
_MARKED = re.compile(r"<!-- made from the program: (.*?) -->\n.*?<!-- end -->\n", re.DOTALL)


def commands(group: click.Group = main, name: str = "memdb") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, in the order of the alphabet."""
    context = click.Context(group)
    for word in sorted(group.list_commands(context)):
        command = group.get_command(context, word)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def section(name: str, command: click.Command) -> str:
    """What the page says of a command: synopsis, meaning, options, exit code 1."""
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    synopsis = " ".join([name, *(_argument(one) for one in arguments), "[OPTIONS]"])
    text = " ".join(inspect.cleandoc(command.help or "").split())
    lines = [f"```console\n$ {synopsis}\n```\n", f"{_wrapped(text)}\n"]
    if options := [one for one in command.params if isinstance(one, click.Option)]:
        lines.append("| option | meaning |\n| --- | --- |")
        lines += [f"| {_names(one)} | {_meaning(one)} |" for one in options]
        lines.append("")
    word = name.removeprefix("memdb ")
    meaning = f"Exit code 1: {NO_MEANS[word]}." if word in NO_MEANS else "It never returns exit code 1."
    return "\n".join([*lines, _wrapped(meaning)]) + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _argument(argument: click.Argument) -> str:
    if argument.metavar:
        return argument.metavar
    name = (argument.name or "").upper()
    return name if argument.required else f"[{name}]"


def _names(option: click.Option) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len))
    if option.is_flag:
        return names
    if isinstance(option.type, click.Choice):
        return f"{names} {' · '.join(f'`{choice}`' for choice in option.type.choices)}"
    if option.metavar:
        return f"{names} {option.metavar}"
    kind = {"integer range": "N", "integer": "N", "float range": "SECONDS", "float": "SECONDS"}
    return f"{names} {kind.get(option.type.name, 'TEXT')}"


def _meaning(option: click.Option) -> str:
    default = f" Default: `{option.default}`." if option.show_default else ""
    return f"{option.help}{default}".replace("|", "\\|")


def shell_table() -> str:
    """One line a command of the shell."""
    lines = ["| command | meaning |", "| --- | --- |"]
    lines += [f"| `{f'{name} {one.usage}'.rstrip()}` | {one.help} |" for name, one in COMMANDS.items()]
    return "\n".join(lines) + "\n"


def parts() -> dict[str, str]:
    """The text of every marked part, by its mark."""
    found = {name: section(name, command) for name, command in commands()}
    return {**found, "the shell's commands": shell_table()}


def renewed(page: str) -> str:
    """The page with its marked parts as they have to be."""
    known = parts()

    def part(match: re.Match[str]) -> str:
        return f"<!-- made from the program: {match[1]} -->\n{known[match[1]]}<!-- end -->\n"

    return _MARKED.sub(part, page)


def marks(page: str) -> list[str]:
    """The marks of a page, in their order."""
    return [match[1] for match in _MARKED.finditer(page)]


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
