"""Snapshots: the database at one point in time.

Invariant: a snapshot belongs to the process that took it, and never blocks a writer; what it keeps is given
back by ``close()``, at the end of its ``with`` block, or when it is collected.
"""

from types import TracebackType
from typing import Any, NamedTuple

from memdb.attach import leave_unused
from memdb.ranges import OrderedReads
from memdb.shm import _kernel

__all__ = ["Entry", "Snapshot"]


class Entry(NamedTuple):
    """A key, its value, the LSN of the commit that stored it, and when it expires (seconds since 1970, or
    None)."""

    key: Any
    value: Any
    version: int
    expires_at: float | None


class Snapshot(_kernel.SnapshotHandle, OrderedReads):
    """All keys and values as of one LSN: a read-only mapping in key order, from ``db.snapshot()``.

    Reads raise SnapshotExpired once it was revoked (it is older than ``snapshot_max_age``, or the memory that
    it kept was needed), ClosedError after ``close()``, and ForkedHandleError in a child process.

    >>> with db.snapshot() as snap:
    ...     total = sum(snap.values(prefix="account:"))
    """

    def entry(self, key: Any) -> Entry | None:
        """The key with its value, version and expiry at this point in time; None if it is missing.

        Raises as reading does. Cost: as ``get``.

        >>> snap.entry("user:1").version
        17
        """
        found = self._entry(key)
        return None if found is None else make_entry(key, found)

    def close(self) -> None:
        """Gives the snapshot back: what it kept can be reused. Views stay valid. Idempotent; never raises.

        Cost: a few stores into this process's lease.

        >>> snap.close()
        """
        super().close()
        leave_unused()

    def __enter__(self) -> "Snapshot":
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<memdb.Snapshot at LSN {self.lsn}{', closed' if self.closed else ''}>"

    def __reduce__(self) -> Any:
        raise TypeError(
            "a snapshot belongs to the process that took it and can't be pickled; pass the database instead"
        )


def make_entry(key: Any, found: tuple[Any, int, int]) -> Entry:
    """The Entry of what the kernel found: value, LSN, expiry in microseconds (0: never)."""
    value, version, expires_us = found
    return Entry(key, value, version, expires_us / 1e6 if expires_us else None)
