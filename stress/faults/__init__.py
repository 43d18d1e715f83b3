"""Faults: the file system, memory and descriptors refuse, at every call, once and for good."""
