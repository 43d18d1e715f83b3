"""The shared-memory kernel and its binding: the lowest layer.

Imports nothing of memdb but its errors and options.
"""
