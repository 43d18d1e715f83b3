"""The hard cases of life: each ends with no process, no name on /dev/shm and no home of a database in memory
left."""

import os
from collections.abc import Iterator

import pytest
from life.stage import eventually


def _names() -> set[str]:
    """Names of the engine's segments and semaphores, which each live for a few system calls only."""
    return {name for name in os.listdir("/dev/shm") if "mdb-" in name}


@pytest.fixture(autouse=True)
def clean_shared_memory() -> Iterator[None]:
    """Whatever is there after the test goes by itself at once, or was there before (others work here too)."""
    before = _names()
    yield
    left = _names() - before
    eventually(lambda: not (left & _names()), f"these to go from /dev/shm: {left}", 5.0)
