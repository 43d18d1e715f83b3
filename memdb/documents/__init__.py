"""Documents: collections, secondary indexes, queries and typed models, as layers over transactions."""
