"""One engine for all tests of a process that need no more than a collection of their own."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

import memdb

Collection = memdb.Collection[dict[str, Any]]
_numbers = itertools.count()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[memdb.Database]:
    """A database that tests share."""
    place = tmp_path_factory.mktemp("documents") / "data"
    with memdb.open(place, linger=0.0, max_memory="256MiB", durability="memory") as database:
        yield database


@pytest.fixture
def people(engine: memdb.Database) -> Iterator[Collection]:
    """An empty collection, whose indexes equal it at the end of the test."""
    name = f"people {next(_numbers)}"
    collection = engine.collection(name)
    yield collection
    if name in engine.collections():
        report = collection.check()
        assert report.ok, report
        engine.drop_collection(name)
