"""The two values that stand for something else: ``MISSING`` for absence, ``KEEP`` for the TTL that is there.

Invariant: there is one object of each in a process, and both pickle as themselves: ``is`` works everywhere.
"""

from typing import Final

__all__ = ["KEEP", "MISSING", "Keep", "Missing"]


class Missing:
    """The type of :data:`MISSING`, which stands for absence where ``None`` is a value."""

    _only: "Missing | None" = None

    def __new__(cls) -> "Missing":
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "memdb.MISSING"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> str:
        return "MISSING"


class Keep:
    """The type of :data:`KEEP`: as ``ttl=`` of a write it keeps the TTL of the value that is replaced."""

    _only: "Keep | None" = None

    def __new__(cls) -> "Keep":
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __repr__(self) -> str:
        return "memdb.KEEP"

    def __reduce__(self) -> str:
        return "KEEP"


MISSING: Final = Missing()
KEEP: Final = Keep()
