"""All seeded defects, in the order in which a run tries them: Python first, then the kernel's, then its
orders, then some again for the parts of the harness."""

from stress.defects import (
    seeds_commit,
    seeds_documents,
    seeds_engine,
    seeds_harness,
    seeds_kernel,
    seeds_log,
    seeds_models,
    seeds_orders,
    seeds_queries,
)
from stress.defects.seeds_control import CONTROLS

__all__ = ["ALL", "CONTROLS"]

_OF_TESTS = (
    *seeds_log.SEEDS,
    *seeds_engine.SEEDS,
    *seeds_queries.SEEDS,
    *seeds_models.SEEDS,
    *seeds_documents.SEEDS,
    *seeds_commit.SEEDS,
    *seeds_kernel.SEEDS,
    *seeds_orders.SEEDS,
)
ALL = (*_OF_TESTS, *seeds_harness.seen_by_parts(_OF_TESTS))

if len({one.name for one in ALL}) != len(ALL):
    raise ValueError("two seeded defects have one name")
