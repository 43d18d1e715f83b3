"""Who is attached: one lease, one pidfd, one connection each, and which of them the writer knows.

Owns: the table of leases of the group, those of its own actors included.

Invariants:

* A client is told of its lease only after the writer has said that it scans it: a pin that the writer
  does not see would protect nothing. (With no writer, nothing is reused, and nobody has to be asked.)
* A client goes by saying goodbye or by the death of its process as the kernel tells it, never by a
  closed socket: a process that closed all its descriptors (a daemon does) still reads the arena.
* Where the kernel gives no pidfd, the client counts as alive until it says goodbye.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from memdb.actors.door import Connection
from memdb.actors.segments import create_segment
from memdb.shm import _kernel

__all__ = ["Client", "ClientTable", "LeaseGrant"]

LeaseGrant = tuple[bytes, int, bool]
"""(client id, descriptor of the lease, may it write system keys) as the writer gets it."""


@dataclass
class Client:
    """One lease. ``role`` is None for a client process and the actor's name for the group's own.
    ``known``: the writer was told of the lease; ``scanned``: it has said so."""

    client_id: bytes
    lease: int
    pid: int
    role: str | None = None
    pidfd: int | None = None
    connection: Connection | None = None
    readonly: bool = False
    known: bool = False
    scanned: bool = False
    on_known: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def grant(self) -> LeaseGrant:
        return self.client_id, self.lease, self.role is not None

    def views(self, parity: int) -> int:
        """How many zero-copy views it has in the arena of this parity."""
        lease = _kernel.Mapping(self.lease, _kernel.lease_bytes(), writable=False)
        views = _kernel.lease_hazards(lease, parity)
        lease.close()
        return views

    def close(self) -> None:
        os.close(self.lease)
        if self.pidfd is not None:
            os.close(self.pidfd)


class ClientTable:
    """All leases by client id."""

    LEASE_BYTES: Final[int] = _kernel.lease_bytes()

    def __init__(self) -> None:
        self._by_id: dict[bytes, Client] = {}

    def create(self, client_id: bytes, pid: int, role: str | None = None) -> Client:
        """A client with a lease of its own, reserved and formatted. ArenaFullError if /dev/shm is full."""
        fd = create_segment(self.LEASE_BYTES, reserve=True)
        try:
            lease = _kernel.Mapping(fd, self.LEASE_BYTES, writable=True)
        except OSError:
            os.close(fd)
            raise
        _kernel.lease_init(lease, client_id)
        lease.close()
        client = Client(client_id, fd, pid, role)
        self._by_id[client_id] = client
        return client

    def get(self, client_id: bytes) -> Client | None:
        return self._by_id.get(client_id)

    def remove(self, client_id: bytes) -> Client | None:
        return self._by_id.pop(client_id, None)

    def everyone(self) -> list[Client]:
        return list(self._by_id.values())

    def outside(self) -> list[Client]:
        """Client processes, without the group's own actors."""
        return [client for client in self._by_id.values() if client.role is None]

    def of_role(self, role: str) -> Client | None:
        return next((client for client in self._by_id.values() if client.role == role), None)
