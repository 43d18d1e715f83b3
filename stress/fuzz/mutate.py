"""What is a little off: bytes, numbers, trees of plain values."""

from __future__ import annotations

import random
import struct
from typing import Any

_BITS = (0, 3, 6, 7, 8, 16, 29, 31, 32, 48, 62, 63)
EDGES = (65_000, (1 << 64) - 1, *((1 << bits) + by for bits in _BITS for by in (-1, 0, 1)))
OTHERS = (None, True, -1, -(1 << 63), 1.5, float("nan"), "", "x", "\0", b"", b"\1", b"\xff" * 40)


class Mutator:
    """Every choice is drawn from one ``random``: the same seed, the same case."""

    def __init__(self, chooser: random.Random) -> None:
        self.random = chooser

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def number(self, value: int = 0, bits: int = 64) -> int:
        """Unsigned: an edge, a neighbour, one bit flipped, or any."""
        pick = self.random.randrange(4)
        if pick == 0:
            value = self.random.choice(EDGES)
        elif pick == 1:
            value += self.random.choice((-8, -1, 1, 2, 8))
        elif pick == 2:
            value ^= 1 << self.random.randrange(bits)
        else:
            value = self.random.getrandbits(self.random.randrange(1, bits + 1))
        return value % (1 << bits)

    def data(self, content: bytes, other: bytes = b"") -> bytes:
        """One change: a number in place, a cut, a slice gone or doubled, bytes put in, another's rest."""
        at = self.random.randrange(len(content) + 1)
        to = min(len(content), at + self.random.randrange(1, 40))
        pick = self.random.randrange(8)
        if pick < 3 and content:
            kind = self.random.choice("BHIQ") if pick else "B"
            order, size = self.random.choice("<>"), struct.calcsize(kind)
            place = content[at : at + size].ljust(size, b"\0")
            old = int.from_bytes(place, "little" if order == "<" else "big")
            return content[:at] + struct.pack(order + kind, self.number(old, 8 * size)) + content[at + size :]
        if pick == 3:
            return content[:at]
        if pick == 4:
            return content[:at] + content[to:]
        if pick == 5:
            return content[:to] + content[at:to] * self.random.randrange(1, 9) + content[to:]
        if pick == 6:
            return content[:at] + self.random.randbytes(self.random.randrange(1, 20)) + content[at:]
        return content[:at] + (other or content)[self.random.randrange(len(other or content) + 1) :]

    def bent(self, content: bytes, other: bytes = b"") -> bytes:
        """One to three changes."""
        for _ in range(self.random.randrange(1, 4)):
            content = self.data(content, other)
        return content

    def leaf(self, value: Any = None) -> Any:
        if self.chance(0.25):
            return self.random.choice(OTHERS)
        if isinstance(value, bytes):
            return self.data(value)
        if isinstance(value, str):
            return self.data(value.encode()).decode("latin-1")
        return self.number(value if type(value) is int else 0)

    def tree(self, value: Any) -> Any:
        """A copy with one change: a leaf, or a member that is gone, renamed, doubled, elsewhere."""
        if isinstance(value, dict) and value and self.chance(0.9):
            members, name = dict(value), self.random.choice(list(value))
            pick = self.random.randrange(10)
            if pick == 0:
                del members[name]
            elif pick == 1:
                members[self.leaf(name)] = members.pop(name)
            elif pick == 2:
                members[self.leaf(name)] = self.leaf(members[name])
            else:
                members[name] = self.tree(members[name])
            return members
        if isinstance(value, list | tuple) and value and self.chance(0.9):
            items, at = list(value), self.random.randrange(len(value))
            pick = self.random.randrange(8)
            if pick == 0:
                del items[at]
            elif pick == 1:
                items.insert(self.random.randrange(len(items)), items[at])
            elif pick == 2:
                items.append(items.pop(at))
            else:
                items[at] = self.tree(items[at])
            return items
        if self.chance(0.1):
            return self.random.choice(([], {}, [[]], {"": {}}, [value, value]))
        return self.leaf(value)
