"""The documentation is true: the tutorial runs, tables equal the code, links resolve, README begins as
it must.
"""

from __future__ import annotations

import doctest
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from docs_tables import errors_table, exit_codes_table
from program import COMMAND, environment

from memdb.cli.program import main as memdb_program

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def test_tutorial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block, in the order of the page, in one namespace and one directory."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    text = (ROOT / "docs" / "tutorial.md").read_text()
    try:
        for block in FENCE.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            if block[1] == "python":
                _run_python(block[2], names, line)
            elif block[1] == "console":
                _run_console(block[2])
    finally:
        if "db" in names:
            names["db"].close()
        subprocess.run([*COMMAND, "stop", "data"], check=True, timeout=60)


def _run_python(source: str, names: dict[str, Any], line: int) -> None:
    test = doctest.DocTestParser().get_doctest(source, names, "tutorial.md", "tutorial.md", line)
    assert test.examples, "a python block of the tutorial is a session with >>>"
    said: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=FLAGS)
    runner.run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert runner.failures == 0, "".join(said)


def _run_console(session: str) -> None:
    for part in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        words = shlex.split(command)
        assert words[0] == "memdb"
        done = subprocess.run(
            [*COMMAND, *words[1:]], check=False, capture_output=True,
            text=True, timeout=60,
            env=environment(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == expected.strip()


def test_errors_table_equals_the_code() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    assert errors_table() in page, (
        "run python tests/docs_tables.py and put its first table into docs/reference/errors.md"
    )


def test_exit_codes_table_equals_the_code() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert exit_codes_table() in page, (
        "run python tests/docs_tables.py and put its second table into docs/reference/cli.md"
    )


def test_cli_page_names_every_command_and_option() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    for name, command in _commands(memdb_program, "memdb"):
        assert f"`{name}" in page, f"docs/reference/cli.md does not name {name}"
        for option in command.params:
            longest = max(option.opts, key=len)
            known = not longest.startswith("--") or longest in page
            assert known, f"docs/reference/cli.md does not name {longest}"


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = page if not name else (page.parent / name).resolve()
        assert file.exists(), f"{page.name} links to {target}, which does not exist"
        if anchor:
            assert anchor in _anchors(file), f"{page.name} links to {target}, and there is no such heading"


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reachable() -> None:
    linked = set()
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s#]+)", FENCE.sub("", page.read_text())):
            linked.add((page.parent / target).resolve())
    lost = [
        str(page.relative_to(ROOT))
        for page in PAGES
        if page not in linked and page.name not in ("README.md", "CHANGELOG.md")
    ]
    assert not lost, f"no page links to {lost}"


def test_readme_quick_start() -> None:
    """The section opens with one block of the two commands that set everything up; .ci/run reads
    them from here.
    """
    section = (ROOT / "README.md").read_text().split("## Quick start\n", 1)[1]
    block = FENCE.search(section)
    assert block is not None and section[: block.start()].strip() == ""
    assert block[1] == "sh"
    assert block[2].splitlines() == ["pip install . && memdb demo", "pip install '.[test]' && pytest"]


def test_python_examples_compile() -> None:
    """Examples of the other pages are at least Python."""
    for page in PAGES:
        for block in FENCE.finditer(page.read_text()):
            if block[1] == "python" and ">>>" not in block[2]:
                compile(block[2], str(page), "exec")
            if block[1] == "json":
                json.loads(block[2])


def test_code_tour_names_what_exists() -> None:
    tour = (ROOT / "README.md").read_text().split("## Code tour", 1)[1].split("\n## ", 1)[0]
    for name in re.findall(r"`((?:memdb|tests|stress)/[^`]*)`", tour):
        assert (ROOT / name).exists(), f"the code tour names {name}"
