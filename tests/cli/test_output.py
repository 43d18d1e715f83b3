"""Figures for people: units, tables of nested parts."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from memdb.cli import output
from memdb.cli.engine import info_tables, readable


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1 << 30, "1.0 GiB"),
        (1 << 50, "1024.0 TiB"),
        (None, "-"),
    ],
)
def test_size(count: int | None, shown: str) -> None:
    assert output.size(count) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(4.2e-6, "4.2 µs"), (0.0123, "12.3 ms"), (2.5, "2.5 s"), (None, "-")]
)
def test_seconds(value: float | None, shown: str) -> None:
    assert output.seconds(value) == shown


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("used_bytes", 2048, "2.0 KiB"),
        ("pid", 12345, "12345"),
        ("commits", 12345, "12,345"),
        ("logged", True, "yes"),
        ("linger", None, "-"),
        ("nested", {"lsn": 1, "rss": 1024}, "lsn 1, rss 1.0 KiB"),
        ("names", ["a", "b"], "a, b"),
    ],
)
def test_readable(name: str, value: object, shown: str) -> None:
    assert readable(name, value) == shown


def test_info_tables_show_every_part() -> None:
    facts = {
        "path": "/data",
        "processes": {"writer": {"pid": 7, "restarts": 1}, "reaper": {"pid": 8, "restarts": 0}},
        "arena": {"used_bytes": 1024},
        "clients": [{"pid": 9, "command": "[red]python"}],
        "readers": [],
    }
    shown = _text(list(info_tables(facts)))
    for word in ("/data", "writer", "7", "reaper", "1.0 KiB", "[red]python", "processes", "clients"):
        assert word in shown


def _text(tables: list[Table]) -> str:
    console = Console(file=io.StringIO(), width=120, highlight=False)
    for table in tables:
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
