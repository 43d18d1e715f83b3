"""Frames as hostile processes send them: to the supervisor, and parts of scans to a reader of the pool.

The functions that take them are called directly: what they raise beyond what their callers catch would end a
process of the group.
"""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import msgpack
from durability.rig import Machine

from memdb import errors, values
from memdb.actors import reader, requests, wire
from memdb.documents.parallel import JOBS
from memdb.options import EngineOptions
from memdb.shm import _kernel as kernel
from stress.fuzz.case import Case, Violation
from stress.fuzz.mutate import Mutator

FIRST, LAST = b"\x04\0\0\0\1\0\0", b"\x04\0\0\0\1\0\1"
FILTERS = (
    {"age": {"$gte": 5}, "name": {"$regex": "^n1"}},
    {"$or": [{"age": {"$in": [1, 2, None]}}, {"tags": {"$elemMatch": {"$eq": "x"}}}]},
    {
        "$and": [{"tags": {"$size": 2}}, {"$nor": [{"at.x": {"$exists": True}}]}],
        "name": {"$not": {"$type": "string"}},
    },
    {"age": {"$mod": [4, 1]}, "tags": {"$all": ["x", "y"]}},
)


class _Peer:
    """A connection that takes answers: each must be one that can be sent."""

    def __init__(self) -> None:
        self.pid, self.open, self.answers = 1, True, 0
        self.client_id: bytes | None = None

    def answer(self, message: dict[str, Any], fds: object = ()) -> None:
        self.answers += 1
        wire.encode(message)

    def say(self, message: dict[str, Any], fds: object = ()) -> None:
        wire.encode(message)

    def fail(self, error: errors.Error, *, ends: bool = False) -> None:
        self.answer({"error": error.to_wire()})


def _nobody(*_: object) -> Any:
    raise errors.ArenaFullError("nobody comes in here")


def _group() -> Any:
    """As much of a supervisor as requests look at before they ask its actors."""
    clients = SimpleNamespace(create=_nobody, everyone=list, outside=list)
    return SimpleNamespace(
        refusal=None,
        clients=clients,
        options=EngineOptions(),
        memory_only=False,
        group_id=b"g" * 16,
        home=SimpleNamespace(path="/nowhere"),
        progress=SimpleNamespace(word=lambda: 1),
        segments=SimpleNamespace(arenas=[SimpleNamespace(size=1)], readonly_arenas=()),
        when_serving=lambda proceed, connection: proceed(),
        bury_the_dead=lambda: None,
        ask=lambda role, op, on_reply, **fields: on_reply({"error": errors.Error("nobody").to_wire()}),
        reader_sockets=lambda wanted, passing: ([one for one in ("reader0",) if one not in passing], []),
        will_end_without=lambda: False,
        end=lambda *, forced: None,
        is_home_present=lambda: True,
        poison=None,
    )


class Frames:
    """Frames to the supervisor: framing, parsing, and what requests do before an actor is asked."""

    def __init__(self, seed: int) -> None:
        hello = {
            "op": "hello",
            "protocol": wire.PROTOCOL,
            "layout": kernel.layout_version(),
            "pid": 1,
            "explicit": {"max_memory": 1 << 26, "sync_interval": 0.2},
            "durability": "full",
            "readonly": False,
        }
        names = ("bye", "segments", "info", "readers", "checkpoint", "clear_wal", "sync", "compact", "stop")
        wanted = {"op": "readers_wanted", "wanted": 2, "passing": ["reader1"]}
        self.requests = [hello, hello, wanted, *({"op": name} for name in names)]

    def case(self, mutator: Mutator) -> Case:
        request: Any = mutator.random.choice(self.requests)
        body = msgpack.packb(mutator.tree(request))
        if mutator.chance(0.3):
            body = mutator.bent(body)
        length = len(body) if mutator.chance(0.95) else mutator.number(len(body), 32)
        frame = struct.pack("<I", length) + body
        return Case(frame, lambda: self._run(frame))

    def _run(self, frame: bytes) -> str:
        buffer, peer = bytearray(frame), _Peer()
        try:
            request = wire.decode_frame(buffer)
        except wire.Disconnected:
            return "cut off"
        if request is None:
            return "waited for"
        requests.Requests(_group()).handle(peer, request)  # type: ignore[arg-type]
        if not peer.answers:
            raise Violation(f"no answer to {request!r}"[:400])
        return "answered"


class Parts:
    """Parts of scans to a reader of the pool: the fields, the job, the pin, the values."""

    def __init__(self, seed: int) -> None:
        self.machine = Machine().start()
        document = {"_id": 1, "age": 5, "name": "n1", "tags": ["x", "y"], "at": {"x": 1.5}, "raw": b"\0"}
        names = [FIRST + bytes([number]) for number in range(40)]
        self.stored = [values.encode({**document, "age": number}) for number in range(40)]
        self.machine.commit(
            [{"op": "set", "key": name, "value": one} for name, one in zip(names, self.stored, strict=True)]
        )
        self.parity = kernel.page_word(self.machine.segs.page) & 1
        mapping = self.machine.segs.arenas[self.parity]
        own = self.machine.reader()
        self.part = {
            "op": "scan",
            "id": 0,
            "job": "documents.filter",
            "start": FIRST,
            "stop": LAST,
            "parity": self.parity,
            "generation": kernel.arena_figures(mapping)["generation"],
            "lsn": own.lsn,
            "time": own.time_us,
            "counts": False,
        }
        own.close()

    def case(self, mutator: Mutator) -> Case:
        source = mutator.random.choice(FILTERS)
        arguments = values.encode(mutator.tree(source) if mutator.chance(0.5) else source)
        if mutator.chance(0.1):
            arguments = mutator.bent(arguments)
        part = {**self.part, "arguments": arguments}
        part = mutator.tree(part) if mutator.chance(0.3) else part
        body = msgpack.packb(part)
        stored = [mutator.bent(mutator.random.choice(self.stored))] if mutator.chance(0.5) else []
        return Case(body, lambda: self._run(body, stored))

    def _run(self, body: bytes, more: list[bytes]) -> str:
        try:
            part = reader.parse_part(wire.parse(body))
        except wire.Disconnected:
            return "cut off"
        try:
            evaluate = JOBS[part.job](part.arguments)
            arena = self.machine.segs.arenas[part.parity]
            lease = self.machine.segs.group_lease
            pin = kernel.Borrowed(arena, part.parity, lease, part.generation, part.lsn, part.time_us)
            try:
                batches = pin.stored(part.start, part.stop, reader.BATCH_KEYS, reader.BATCH_BYTES)
                for stored in (*(one for batch in batches for one in batch), *more):
                    evaluate(stored)
            finally:
                pin.close()
        except MemoryError as error:
            raise Violation("memory without a bound") from error
        except (BlockingIOError, errors.SnapshotExpired, *reader._FAILURES) as error:
            return f"refused ({type(error).__name__})"
        return "evaluated"
