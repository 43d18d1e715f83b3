"""A machine in memory for tests of durability: shared memory, a client's lease, an engine without threads, a
disk that forgets."""

import errno
import logging
from dataclasses import dataclass, field
from typing import Any

from memdb.durability.engine import DurableEngine, EngineSegments
from memdb.durability.files import Files, MemoryFiles, SettableClock
from memdb.options import EngineOptions
from memdb.shm import _kernel as kernel

MIB = 1 << 20
CLIENT = b"C" * 16
LOG = logging.getLogger("memdb.test")
LEVELS = {"memory": 0, "os": 1, "full": 2}


class Killed(BaseException):
    """The process died here."""


def options(**changes: Any) -> EngineOptions:
    small = {"max_memory": 16 * MIB, "segment_bytes": 4 * MIB, "max_transaction_bytes": MIB}
    return EngineOptions(**{**small, **changes})


def segments(engine_options: EngineOptions, epoch: int = 1) -> EngineSegments:
    """The shared memory of a new group."""
    size = engine_options.max_memory * 5 // 4
    logbuf = kernel.Mapping.anonymous(kernel.logbuf_bytes(engine_options.segment_bytes))
    kernel.logbuf_init(logbuf, engine_options.segment_bytes)
    board = kernel.Mapping.anonymous(kernel.board_bytes())
    kernel.board_init(board)
    page = kernel.Mapping.anonymous(kernel.page_bytes())
    kernel.page_init(page, b"G" * 16)
    lease = kernel.Mapping.anonymous(kernel.lease_bytes())
    kernel.lease_init(lease, bytes(16))
    arenas = (kernel.Mapping.anonymous(size), kernel.Mapping.anonymous(size))
    return EngineSegments(
        arenas, (-1, -1), board, logbuf if engine_options.logged else None, page, lease, epoch
    )


def key(name: bytes | str) -> bytes:
    return b"\x01\x01" + (name.encode() if isinstance(name, str) else name) + b"\x00"


@dataclass
class Machine:
    """One life of a writer over some files."""

    files: Files = field(default_factory=MemoryFiles)
    options: EngineOptions = field(default_factory=options)
    segs: EngineSegments | None = None
    client: bytes = CLIENT
    predecessor: bool = False
    threads: bool = False
    lease: Any = None
    first_request: int = 1
    clock: SettableClock = field(default_factory=SettableClock)

    def __post_init__(self) -> None:
        if self.segs is None:
            self.segs = segments(self.options)
        if self.lease is None:
            self.lease = kernel.Mapping.anonymous(kernel.lease_bytes())
            kernel.lease_init(self.lease, self.client)
        self.request = self.first_request
        self.engine = DurableEngine(
            self.files, self.clock, self.options, self.segs, LOG, threads=self.threads
        )
        self.engine.add_lease(self.lease, self.client)

    def start(self) -> "Machine":
        self.report = self.engine.start(predecessor=self.predecessor)
        return self

    def submit(self, operations: list[dict[str, Any]], level: str = "os") -> int:
        request, self.request = self.request, self.request + 1
        payload = kernel.ops_build(operations)
        assert kernel.lease_submit(
            self.lease, self.segs.board, request % 64, request, payload, level=LEVELS[level]
        )
        return request

    def settle(self, request: int) -> tuple[int, int]:
        """(status, lsn), or (-100, 0) if there is no answer."""
        self.event = self.engine.run(self.clock.monotonic())
        state, status, found, lsn, _ = kernel.lease_result(self.lease, request % 64)
        return (status, lsn) if state == 3 and found == request else (-100, 0)

    def commit(self, operations: list[dict[str, Any]], level: str = "os") -> int:
        """Commits and returns the LSN."""
        status, lsn = self.settle(self.submit(operations, level))
        assert status == 0, status
        return lsn

    def set(self, name: str, value: bytes, level: str = "os") -> int:
        return self.commit([{"op": "set", "key": key(name), "value": value + b"\0"}], level)

    def delete(self, name: str, level: str = "os") -> int:
        return self.commit([{"op": "delete", "key": key(name)}], level)

    def state(self) -> dict[bytes, bytes]:
        """All plain keys and values as a reader sees them."""
        return {key: value for key, (value, _) in self.versions().items() if key[0] == 1}

    def versions(self) -> dict[bytes, tuple[bytes, int]]:
        """Everything, with LSNs."""
        reader = self.reader()
        try:
            items = [item for payload, _ in reader.batches() for item in kernel.batch_items(payload)]
            return {key: (value, lsn) for key, value, lsn, _ in items}
        finally:
            reader.close()

    def reader(self) -> Any:
        parity = kernel.page_word(self.segs.page) & 1
        return kernel.Reader(self.segs.arenas[parity], parity, self.segs.group_lease)

    def names(self) -> dict[str, bytes]:
        return {key[2:-1].decode(): value[:-1] for key, value in self.state().items()}

    # -- what happens next --

    def fail_a_sync(self) -> "Machine":
        """A commit whose sync fails: it is answered as unknown, and commits are refused from then on."""

        def fail(kind: str, path: str) -> None:
            if kind == "datasync" and path.startswith("wal/"):
                raise OSError(errno.EIO, "broken disk")

        self.files.on_operation = fail
        self.settle(self.submit([{"op": "set", "key": key("lost"), "value": b"2\0"}], "full"))
        if self.event != "failed":
            assert self.engine.run(0.0) == "failed"
        self.files.on_operation = None
        return self

    def reboot(self, files: Files | None = None, **changes: Any) -> "Machine":
        """A new group over the same disk."""
        fresh = self.files.survivor() if files is None else files
        kept = {"options": self.options, "client": self.client, "threads": self.threads}
        return Machine(files=fresh, first_request=self.request, **{**kept, **changes})

    def successor(self, **changes: Any) -> "Machine":
        """A new writer of the same group: the shared memory is still there."""
        return Machine(
            files=self.files.survivor() if isinstance(self.files, MemoryFiles) else self.files,
            options=self.options,
            segs=self.segs,
            client=self.client,
            lease=self.lease,
            predecessor=True,
            first_request=self.request,
            **changes,
        )
