"""Functions of indexes, as an application would have them in a module of its own."""

from typing import Any


def length(document: dict[str, Any]) -> int:
    return len(document.get("name", ""))


def initials(document: dict[str, Any]) -> list[str]:
    return [word[0] for word in document.get("name", "").split()]


def broken(document: dict[str, Any]) -> int:
    return 1 // document["n"]
