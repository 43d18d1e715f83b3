"""docs/formats/documents.md says what is stored: its worked example, byte by byte."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import Opener

from memdb import layering, values
from memdb.layering import SpaceKey

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats" / "documents.md"


def test_the_worked_example(opened: Opener) -> None:
    text = PAGE.read_text().split("## Worked example", 1)[1]
    found = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert found is not None
    told = [bytes.fromhex(line) for line in found[1].splitlines()]
    db = opened()
    people = db.collection("people")
    people.create_index(["city", "-age"])
    people.create_index("email", unique=True)
    bob = {"_id": "bob", "city": "Rome", "age": 25, "email": "b@x"}
    people.insert(bob)
    stored = {
        key: value
        for space in (layering.CATALOGUE, layering.COLLECTIONS)
        for key, value in db.range(SpaceKey(bytes([space])), SpaceKey(bytes([space + 1])))
    }
    assert list(stored) == told
    following, definition, document, *entries = stored.values()
    assert following == 2 and document == bob and entries == [layering.id_bytes("bob")] * 2
    facts = values.unpack(definition)
    assert isinstance(facts, dict)
    sections = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (page,) = [one for one in sections if one.startswith("A definition")]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == {*facts, *facts["indexes"][0]}
