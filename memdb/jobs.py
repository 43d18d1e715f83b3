"""Which modules the readers of the pool get their jobs from.

Owns: their names. A group is told them by the process that starts it; nobody who joins can add one, and no
module is imported here.
"""

__all__ = ["MODULES"]

MODULES: tuple[str, ...] = ("memdb.documents.parallel",)
"""Each has a table ``JOBS``: name -> function from stored arguments to an evaluation of one stored value."""
