"""Invariant 1: who does not hold LOCK writes nothing, whoever holds it and for however long."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import memdb
from memdb.actors.locks import FileLock


def test_a_writer_waits_for_the_lock_of_another(opened: Callable[..., memdb.Database], data: Path) -> None:
    first = opened()
    first["a"] = 1
    first.close()
    before = {path: path.read_bytes() for path in data.rglob("*") if path.parent.name == "wal"}
    directory = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with FileLock(directory, "LOCK") as lock:
            assert lock.acquire(wait=False)
            lock.write_note("a writer in another container")
            with pytest.raises(memdb.Error):
                opened(open_timeout=2.0)
            now = {path: path.read_bytes() for path in data.rglob("*") if path.parent.name == "wal"}
            assert now == before, "two writers"
    finally:
        os.close(directory)
    assert dict(opened(open_timeout=30.0)) == {"a": 1}
