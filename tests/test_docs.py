"""The documentation is true: the tutorial runs, tables equal the code, links resolve, README begins as
it must.
"""

from __future__ import annotations

import doctest
import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from docs_tables import errors_table, exit_codes_table
from program import COMMAND, environment

import memdb
from memdb.cli.program import main as memdb_program


def _load(path: Path) -> ModuleType:
    """A program without an extension, as a module."""
    loader = importlib.machinery.SourceFileLoader(f"dev_{path.name}", str(path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


ROOT = Path(__file__).resolve().parent.parent
GENERATOR = _load(ROOT / "dev" / "reference")
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TESTS = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "tests" / "c").glob("test_*.c")]
NEVER_FAIL = ("abort", "close")  # calls that raise nothing
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.mark.parametrize("page", ["tutorial.md", "howto/recipes.md", "howto/documents.md"])
def test_a_page_of_sessions_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block, in the order of the page, in one namespace and one directory."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    text = (ROOT / "docs" / page).read_text()
    try:
        for block in FENCE.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            if block[1] == "python":
                _run_python(block[2], names, page, line)
            elif block[1] == "console":
                _run_console(block[2])
    finally:
        if "db" in names:
            names["db"].close()
        subprocess.run([*COMMAND, "stop", "data"], check=True, timeout=60)


def _run_python(source: str, names: dict[str, Any], page: str, line: int) -> None:
    test = doctest.DocTestParser().get_doctest(source, names, page, page, line)
    assert test.examples, f"a python block of {page} is a session with >>>"
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
        answers = [expected.strip()]
        if words[1] == "stop":  # on a slow machine an engine without clients may have ended by itself
            answers.append(f"no engine runs for {words[2]}")
        assert done.stdout.strip() in answers


def test_errors_table_equals_the_code() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    assert errors_table() in page, (
        "run python -m tests.docs_tables and put its first table into docs/reference/errors.md"
    )


def test_the_api_page_is_what_the_generator_makes() -> None:
    assert (ROOT / "docs" / "reference" / "api.md").read_text() == GENERATOR.page(), "run dev/reference"


def _calls() -> Iterator[tuple[str, str]]:
    """Every public call of the classes whose calls cost something, and what its docstring says."""
    for kind in (
        memdb.Database, memdb.Transaction, memdb.Snapshot, memdb.Pipeline,
        memdb.Collection, memdb.Cursor, memdb.IndexView,
    ):  # fmt: skip
        for name in dir(kind):
            found = inspect.getattr_static(kind, name)
            if not name.startswith("_") and inspect.isroutine(found) and hasattr(found, "__doc__"):
                yield f"{kind.__name__}.{name}", inspect.cleandoc(found.__doc__ or "")


@pytest.mark.parametrize(("name", "text"), list(_calls()), ids=[name for name, _ in _calls()])
def test_every_call_says_what_it_raises_and_costs_with_an_example(name: str, text: str) -> None:
    assert re.search(r"\bCost: \S", text), f"{name} does not say what it costs"
    assert "\n>>> " in text, f"{name} has no example"
    if name.rpartition(".")[2] not in NEVER_FAIL:
        assert re.search(r"\bRaises\s+\w", text), f"{name} does not say what it raises"


@pytest.mark.parametrize(
    "page",
    [*sorted((ROOT / "docs" / "explanation").glob("*.md")), ROOT / "docs" / "reliability.md"],
    ids=lambda page: page.stem,
)
def test_tests_that_explanations_name_exist(page: Path) -> None:
    """As `file::test`, as `test` alone, or as a whole file."""
    text = page.read_text()
    for path, name in re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", text):
        assert (ROOT / path).exists(), f"{page.name} names {path}"
        if name:
            assert _defines(ROOT / path, name), f"{page.name} names {name}, which {path} does not have"
    for name in re.findall(r"`(test_\w+)(?:\[[^`]*\])?`", text):
        assert any(_defines(one, name) for one in TESTS), (
            f"{page.name} names {name}, and there is no such test"
        )


def test_commands_of_the_harness_that_pages_name_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    """With their options, as the harness itself reads them; a capital letter stands for a number."""
    monkeypatch.syspath_prepend(str(ROOT))
    parser = importlib.import_module("stress.__main__").make_parser()
    found = 0
    for page in PAGES:
        for command in re.findall(r"`(?:python -m )?stress ([^`]+)`", page.read_text()):
            found += 1
            try:
                parser.parse_args(re.sub(r"\b[A-Z]\b", "1", command).split())
            except SystemExit:
                pytest.fail(f"{page.name} names the command stress {command}")
    assert found > 30


def _defines(file: Path, name: str) -> bool:
    start = r"^static void" if file.suffix == ".c" else r"^\s*(?:async )?def"
    return re.search(rf"{start} {name}\(", file.read_text(), re.MULTILINE) is not None


def test_rules_that_the_code_names_are_on_their_page() -> None:
    page = (ROOT / "docs" / "explanation" / "rules.md").read_text()
    known = set(re.findall(r"^- \*\*([A-Z]\d+)\b", page, re.MULTILINE))
    kinds = {".py", ".pyx", ".pxi", ".c", ".h", ".md"}
    for top in ("memdb", "tests", "stress", "docs"):
        for file in (ROOT / top).rglob("*"):
            if file.suffix not in kinds:
                continue
            for words in re.findall(r"\b[Rr]ules? ((?:[A-Z]\d+(?:, | and )?)+)", file.read_text()):
                lost = set(re.findall(r"[A-Z]\d+", words)) - known
                assert not lost, (
                    f"{file.relative_to(ROOT)} names rules that docs/explanation/rules.md lacks: {lost}"
                )


def test_exit_codes_table_equals_the_code() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    assert exit_codes_table() in page, (
        "run python -m tests.docs_tables and put its second table into docs/reference/cli.md"
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
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
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


def test_the_first_pages_link_the_caveats() -> None:
    assert "](docs/caveats.md)" in (ROOT / "README.md").read_text()
    assert "](caveats.md)" in (ROOT / "docs" / "README.md").read_text()


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
