"""Each shared word of the kernel has an order, and each order a reason: no tag, model or weakening without
its row.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "tests" / "models"
PAGE = (ROOT / "docs" / "explanation" / "memory-model.md").read_text()
README = (MODELS / "README.md").read_text()
SOURCES = sorted(
    path for path in (ROOT / "memdb" / "shm").iterdir() if path.suffix in {".c", ".h", ".pxi", ".pyx"}
)
TAG = re.compile(r"SYNC: ([a-z][a-z-]*[a-z])")
TESTED = re.compile(r"(?:ifdef|ifndef|defined\()\s*(WEAK_[A-Z0-9_]+)")
STORES = re.compile(r"store\w*_(release|sc)|(cas|add|exchange)\w*_sc")
LOADS = re.compile(r"load\w*_(acquire|sc)|cas\w*_sc")
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]*) \| (.*) \|$", re.MULTILINE)


def _tags() -> dict[str, set[str]]:
    """Tag -> the lines of code that carry it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        for line in path.read_text().splitlines():
            for tag in TAG.findall(line):
                found[tag].add(line)
    return found


def _section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def test_every_tag_is_named_where_its_weakening_is_told() -> None:
    rows = {tag for tag, *_ in ROW.findall(_section("What each order is for"))}
    assert rows == set(_tags()), "docs/explanation/memory-model.md, and memdb/shm"


@pytest.mark.parametrize("tag", sorted(_tags()))
def test_every_tag_has_two_sides(tag: str) -> None:
    """A release without the acquire that it is for, or the other way round, is a mistake or a lie."""
    stores = loads = False
    for line in _tags()[tag]:
        stores = stores or STORES.search(line) is not None
        loads = loads or LOADS.search(line) is not None
    assert stores, f"nobody stores {tag} with release or seq_cst on a line with its tag"
    assert loads, f"nobody loads {tag} with acquire or seq_cst on a line with its tag"


@pytest.mark.parametrize("model", sorted(MODELS.glob("*.c")), ids=lambda path: path.stem)
def test_every_weakening_of_a_model_is_listed(model: Path) -> None:
    rows = {name: weakenings for name, _, weakenings in ROW.findall(README)}
    assert set(TESTED.findall(model.read_text())) == set(re.findall(r"WEAK_[A-Z0-9_]+", rows[model.name]))


@pytest.mark.parametrize("model", sorted((MODELS / "kernel").glob("*.c")), ids=lambda path: path.stem)
def test_every_model_of_the_kernel_is_listed(model: Path) -> None:
    assert f"kernel/{model.name}" in {name for name, *_ in ROW.findall(README)}


def test_what_the_page_says_of_models_is_there() -> None:
    section = _section("What each order is for")
    for words in re.findall(r"(?:`[a-z/_]+`,? )+(?:`WEAK_[A-Z0-9_]+` ?)+", section):
        models = re.findall(r"`([a-z/_]+)`", words)
        weakenings = re.findall(r"`(WEAK_[A-Z0-9_]+)`", words)
        for weakening in weakenings:
            holders = [name for name in models if weakening in (MODELS / f"{name}.c").read_text()]
            assert holders, f"no model of {models} has {weakening}"
