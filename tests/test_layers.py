"""Imports run only downwards through the layers: faces, documents, database, actors, durability, shm."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import memdb

PACKAGE = Path(memdb.__file__).parent
SOURCES = Path(__file__).parents[1] / "memdb"  # what is compiled is not in the installed package

# The higher the number, the higher the layer; a module imports its own layer and those below.
BASE = {"memdb.errors": 0, "memdb.options": 0, "memdb.sentinels": 0}
LAYERS = [
    ("memdb.shm", 1),
    ("memdb.durability", 2),
    ("memdb.actors", 3),
    (
        "memdb.documents.door",
        4,
    ),  # the mixins of the handles: it imports what is above by name, when it is asked for
    ("memdb.documents", 5),
    ("memdb.cli", 6),
    ("memdb.__main__", 6),
    ("memdb.pytest_plugin", 6),
]
# What documents are made of: transactions, and what is below all. No engine, no kernel, no file.
LAYERING = {
    "memdb.layering",
    "memdb.errors",
    "memdb.values",
    "memdb.sentinels",
    "memdb.options",
    "memdb.transaction",
    "memdb.snapshot",
    "memdb.info",
    "memdb.pool",
}
DATABASE = 4


def layer_of(module: str) -> int:
    if module in BASE:
        return BASE[module]
    for name, layer in LAYERS:
        if module == name or module.startswith(name + "."):
            return layer
    return DATABASE


def module_of(path: Path) -> str:
    parts = ["memdb", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            base = node.module or ""
            for alias in node.names:
                inner = PACKAGE.joinpath(*base.split(".")[1:], alias.name)
                is_module = inner.with_suffix(".py").exists() or inner.is_dir()
                yield (
                    (f"{base}.{alias.name}" if base.startswith("memdb") and is_module else base),
                    node.lineno,
                )


def type_checking_lines(tree: ast.AST) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            lines.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def wrong_imports(path: Path) -> list[str]:
    module = module_of(path)
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    skipped = type_checking_lines(tree)
    return [
        f"{module}:{line} imports {target}"
        for target, line in imports_of(tree)
        if line not in skipped
        and (target == "memdb" or target.startswith("memdb."))
        and layer_of(target) > layer_of(module)
    ]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=module_of)
def test_a_module_imports_only_its_layer_and_those_below(path: Path) -> None:
    assert wrong_imports(path) == []


@pytest.mark.parametrize("path", sorted((PACKAGE / "documents").glob("*.py")), ids=module_of)
def test_documents_are_a_layer_over_transactions(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    skipped = type_checking_lines(tree)
    used = {target for target, line in imports_of(tree) if line not in skipped and target.startswith("memdb")}
    assert {one for one in used if not one.startswith("memdb.documents")} <= LAYERING


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.pxi")), ids=lambda path: path.name)
def test_the_binding_imports_only_what_is_below_all(path: Path) -> None:
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    targets = {words[1] for words in lines if len(words) > 1 and words[0] in ("from", "import")}
    assert {one for one in targets if one.startswith("memdb")} <= set(BASE)


def test_the_kernel_knows_no_python() -> None:
    for path in [*SOURCES.rglob("*.c"), *SOURCES.rglob("*.h")]:
        assert "Python.h" not in path.read_text(encoding="utf-8"), path
