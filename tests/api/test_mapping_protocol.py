"""CPython's own test of the mapping protocol, on a Database."""

import itertools
import tempfile
import unittest
from pathlib import Path
from typing import Any

import pytest

import memdb

try:
    from test import mapping_tests
except ImportError:
    pytest.skip(
        "this Python ships no `test` package: the mapping protocol is NOT tested", allow_module_level=True
    )

_numbers = itertools.count()


class TestMappingProtocol(mapping_tests.BasicTestMappingProtocol):  # type: ignore[misc, name-defined]
    """Each mapping of the test is a database in memory; all of one test end with it."""

    type2test = memdb.Database

    def setUp(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="mapping-protocol-")
        self._opened: list[memdb.Database] = []

    def tearDown(self) -> None:
        for database in self._opened:
            database.close()
        self._directory.cleanup()

    def _reference(self) -> dict[Any, Any]:
        return {"1": "2", "key1": "value1", "key2": (1, 2, 3)}

    def _empty_mapping(self) -> memdb.Database:
        place = Path(self._directory.name) / str(next(_numbers))
        database = memdb.open(place, linger=0, durability="memory", max_memory="8MiB")
        self._opened.append(database)
        return database

    def _full_mapping(self, data: dict[Any, Any]) -> memdb.Database:
        database = self._empty_mapping()
        database.update(data)
        return database


def test_the_protocol_test_is_not_empty() -> None:
    loader = unittest.TestLoader()
    assert len(loader.getTestCaseNames(TestMappingProtocol)) >= 10
