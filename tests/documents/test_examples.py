"""The examples in the docstrings of what queries are made of."""

import doctest
import importlib

import pytest

MODULES = [
    *("paths", "order", "operands", "predicates", "parsing", "filters", "changes", "updates"),
    *("projection", "sorting", "totals", "grouping"),
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name: str) -> None:
    module = importlib.import_module(f"memdb.documents.{name}")
    assert doctest.testmod(module).failed == 0
