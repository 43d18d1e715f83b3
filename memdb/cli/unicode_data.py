"""The Unicode Character Database that Python carries, as documents for the demo.

Owns: which characters there are (every one that has a name, in code point order) and what is stored about
each.
Both the loader and the readers derive a document from `unicodedata` again, so each can check what it reads
without asking the other.
"""

from __future__ import annotations

import sys
import unicodedata
from typing import Any

VERSION = unicodedata.unidata_version
COLLECTION = "characters"


def characters(limit: int | None = None) -> list[str]:
    """Every named character in code point order, which is also the order of their ids; the first
    `limit` of them.
    """
    found: list[str] = []
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.name(character, None) is not None:
            found.append(character)
            if len(found) == limit:
                break
    return found


def document(character: str) -> dict[str, Any]:
    """What the Unicode Character Database says of one named character, which is the id.

    >>> document("½")["numeric"]
    0.5
    """
    properties: dict[str, Any] = {
        "_id": character,
        "name": unicodedata.name(character),
        "category": unicodedata.category(character),
        "bidirectional": unicodedata.bidirectional(character),
        "combining": unicodedata.combining(character),
        "east_asian_width": unicodedata.east_asian_width(character),
        "mirrored": bool(unicodedata.mirrored(character)),
    }
    decomposition = unicodedata.decomposition(character)
    if decomposition:
        properties["decomposition"] = decomposition
    numeric = unicodedata.numeric(character, None)
    if numeric is not None:
        properties["numeric"] = numeric
    for name, changed in (("upper", character.upper()), ("lower", character.lower())):
        if changed != character:
            properties[name] = changed
    return properties
