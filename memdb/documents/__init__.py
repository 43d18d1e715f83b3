"""Documents: collections, indexes, queries and typed models, as layers over transactions.

Nothing here is known to the kernel or to a process of the engine: a collection is keys of its own spaces,
written by transactions (``memdb.layering``). It is imported when the first collection is asked for.
"""
