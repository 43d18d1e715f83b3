"""The seeded defects of ``stress defects`` fit the code as it is: each text that they change is there."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_seeded_defect_can_be_sown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    seeds = importlib.import_module("stress.defects.seeds").ALL
    mutated = importlib.import_module("stress.defects.defect").mutated
    assert len(seeds) > 100
    for seed in seeds:
        before = {file: (ROOT / file).read_text() for file in seed.files}
        assert mutated(seed, before) != before
        for words in seed.caught_by:
            file, _, test = words.split()[-1].partition("::")
            if test:
                assert f"def {test.partition('[')[0]}(" in (ROOT / file).read_text(), (
                    f"{seed.name}: no {words}"
                )
