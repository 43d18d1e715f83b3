"""A database for all tests of a module that need no engine of their own: each begins with an empty one."""

from collections.abc import Callable, Iterator

import pytest

import memdb
from memdb.layering import CATALOGUE, COLLECTIONS, SpaceKey

Opener = Callable[..., memdb.Database]


@pytest.fixture(scope="module")
def two_handles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[memdb.Database]]:
    """Two handles on one database."""
    place = tmp_path_factory.mktemp("layers") / "data"
    options = {"linger": 0.0, "max_memory": "64MiB"}
    with memdb.open(place, **options) as one, memdb.open(place, **options) as other:
        yield [one, other]


@pytest.fixture
def shared(two_handles: list[memdb.Database]) -> memdb.Database:
    """The module's database, emptied."""
    db = two_handles[0]
    with db.transaction() as tx:
        tx.clear()
        for space in (CATALOGUE, COLLECTIONS):
            tx.delete_range(SpaceKey(bytes([space])), SpaceKey(bytes([space + 1])))
    return db
