"""The process group of one database directory: supervisor, writer, checkpointer and reaper.

This layer knows durability and the kernel below it, and nothing of the database API above it.
"""
