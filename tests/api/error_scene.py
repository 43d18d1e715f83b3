"""Where the errors of test_error_texts.py are provoked, and the table that they are entered in.

Owns: the places, processes and failing disks of one provocation. Invariant: what a scene has started ends
with it.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from peer import Peer
from shim.steering import Steering, compiler

import memdb

__all__ = ["CASES", "Case", "Scene", "case"]


@dataclass
class Scene:
    """Where an error is provoked."""

    path: Path
    base: Path
    monkeypatch: pytest.MonkeyPatch
    closing: list[Callable[[], object]] = field(default_factory=list)

    def open(self, **options: Any) -> memdb.Database:
        db = memdb.open(self.path, **{"linger": 0.0, "max_memory": "64MiB", **options})
        self.closing.append(db.close)
        return db

    def shim(self, **options: Any) -> tuple[Steering, Peer]:
        """A client, and a group started by it, on a disk that can be made to fail."""
        if compiler() is None:
            pytest.skip("no C compiler to build the shim with")
        steering = Steering.build(self.base, self.path)
        peer = Peer(self.path, steering.environment(), **{"linger": 0.0, "max_memory": "64MiB", **options})
        self.closing += [peer.close, steering.close]
        return steering, peer

    def process(self, code: str) -> subprocess.Popen[str]:
        """Another process, which has said a line."""
        package = str(Path(memdb.__file__).resolve().parent.parent)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": package},
        )
        assert process.stdout is not None and process.stdout.readline()
        self.closing += [process.communicate, process.kill]
        return process


@dataclass(frozen=True)
class Case:
    """What must be found in the text. {path} stands for the directory."""

    kind: type[memdb.Error]
    provoke: Callable[[Scene], object]
    what: str
    who: str
    next: str
    limit: str = ""
    facts: tuple[str, ...] = ()
    """Attributes that must be known."""


CASES: dict[str, Case] = {}


def case(
    kind: type[memdb.Error], **texts: Any
) -> Callable[[Callable[[Scene], object]], Callable[[Scene], object]]:
    """Enters a provocation into the table."""

    def enter(provoke: Callable[[Scene], object]) -> Callable[[Scene], object]:
        CASES[provoke.__name__] = Case(kind, provoke, **texts)
        return provoke

    return enter
