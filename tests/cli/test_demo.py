"""The demo is the main job on real input; here with fewer characters, and its parts alone."""

from __future__ import annotations

import json
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path

from memdb.cli.unicode_data import characters, document

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


def test_every_named_character_is_there() -> None:
    known = characters()
    assert len(known) > 130_000
    assert known == sorted(known) and "A" in known and "\n" not in known
    assert characters(10) == known[:10]


def test_a_document_is_what_unicodedata_says() -> None:
    assert document("½") == {
        "_id": "½",
        "name": "VULGAR FRACTION ONE HALF",
        "category": "No",
        "bidirectional": "ON",
        "combining": 0,
        "east_asian_width": "A",
        "mirrored": False,
        "decomposition": unicodedata.decomposition("½"),
        "numeric": 0.5,
    }
    assert document("a")["upper"] == "A"


def test_demo_loses_nothing(cli: Run) -> None:
    done = cli("demo", "--limit", "20000", "--json")
    assert done.returncode == 0, done.stderr.decode()
    figures = json.loads(done.stdout)
    assert figures["good"] and figures["lost"] == 0 and figures["wrong_reads"] == 0
    assert figures["records"] == figures["verified"] == 20000
    asked = {json.dumps(one["filter"]): one for one in figures["queries"]}
    assert asked['{"name": "SNOWMAN"}']["found"] == 1 and asked['{"category": "Sc"}']["found"] > 10
    assert all(one["index"] and one["documents_examined"] < 1000 for one in asked.values())
    assert (
        figures["reads_without_writer"] > 0 and figures["write_pause"] > 0 and figures["recovery_seconds"] > 0
    )


def test_demo_in_a_named_directory_prints_its_table(cli: Run, tmp_path: Path) -> None:
    done = cli("demo", "characters", "--limit", "5000")
    assert done.returncode == 0, done.stderr.decode()
    for word in (
        "documents",
        "reads",
        "slowest read",
        "pause",
        "recovery time",
        "bytes a document",
        "SNOWMAN",
        "Nothing was lost",
        "memdb find characters characters",
    ):
        assert word in done.stdout.decode()
    asked = cli("find", "characters", "characters", '{"name": "LATIN CAPITAL LETTER A"}', "--json")
    assert json.loads(asked.stdout)["_id"] == "A"
    assert cli("demo", "characters").returncode == 2
    cli("stop", "characters")
