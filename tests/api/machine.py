"""The rules of the state machine (tests/api/test_stateful.py runs it; model.py is what it compares with).

Owns: the clients, what is done to them and to the engine. Invariants:

* A time to live is 500 s and some thousands, a step of the clock thousands: however long a run takes, nobody
  is
  near the instant of an expiry. A short one is waited for.
* An error is expected only where the model says so: a conflict, a full arena while it is filled, a snapshot
  revoked
  because memory was short or two generations were built.
"""

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from api.model import END, Model, Transaction, keys_between, stored
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from peer import Local, Peer
from shim.steering import Steering, under_shim

import memdb

keys = st.integers(0, 12) | st.sampled_from(
    ["a", "ab", "b", b"a", b"\x00", ("a",), ("a", 1), ("a", 10), None, True, 1.5]
)
values = st.binary(max_size=8) | st.integers() | st.lists(st.integers(), max_size=3) | st.just(b"x" * 3000)
numbers = st.integers(-100, 100) | st.sampled_from([0.5, -2.25])
bounds = st.none() | st.integers(0, 12)
levels = st.sampled_from([None, "memory", "os", "full"])
ttls = st.sampled_from([500, 1500, 2500.0, 10_500])
clients = st.integers(0, 2)
OPTIONS = {"linger": 0.0, "max_memory": "8MiB"}
BIG = b"b" * 60_000
FULL = object()
"""The answer to a write for which there was no room."""


def tag(value: Any) -> list[Any]:
    """What modify() does; the peer finds it here."""
    return ["modified", value]


def add(value: Any) -> Any:
    """The same, of a number."""
    return value + 1 if type(value) in (int, float) else 1


def pipelined(db: memdb.Database, calls: list[tuple[str, tuple[Any, ...]]]) -> None:
    """Runs in a client."""
    with db.pipeline() as pipeline:
        for method, arguments in calls:
            getattr(pipeline, method)(*arguments)


def to_and_fro(tx: Any, value: Any) -> None:
    """Runs in a client: a savepoint, and back to it."""
    before, there = tx.savepoint(), list(tx.items())
    tx["in the savepoint"] = value
    assert tx["in the savepoint"] == value
    inner = tx.savepoint()
    tx.delete_range()
    assert len(tx) == 0
    tx.rollback_to(inner)
    assert len(tx) == len(there) + ("in the savepoint" not in dict(there))
    tx.rollback_to(before)
    assert list(tx.items()) == there


class Machine(RuleBasedStateMachine):
    """Three clients: two handles of this process and one of another, and what each has open."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="stateful-")
        self.steering = Steering.of_this_process() if under_shim() else None
        self.model = Model()
        self.clients: list[Local | Peer] = []
        self.transactions: dict[str, tuple[int, Transaction]] = {}
        self.snapshots: dict[str, tuple[int, Transaction]] = {}
        self.names = iter(range(1 << 30))
        self.is_filled = False

    @property
    def db(self) -> memdb.Database:
        """The first handle."""
        assert isinstance(self.clients[0], Local)
        return self.clients[0].db

    @initialize()
    def start(self) -> None:
        self.open()

    def open(self) -> None:
        place = Path(self.directory.name) / "data"
        self.clients = [Local(memdb.open(place, **OPTIONS))]
        self.clients += [Local(memdb.open(place, durability="memory")), self.peer()]

    def peer(self) -> Peer:
        """A client of its own process. It may come where the group is dead, and start the next one."""
        return Peer(Path(self.directory.name) / "data", durability="memory", **OPTIONS)

    def write(self, who: int, method: str, *arguments: Any, **options: Any) -> Any:
        """A writing call; FULL if there was no room, which may only be while the arena is filled."""
        try:
            return self.clients[who].call(method, *arguments, **options)
        except memdb.ArenaFullError:
            assert self.is_filled
            return FULL

    # ---- writes

    @rule(who=clients, key=keys, value=values, level=levels, ttl=st.none() | ttls)
    def set(self, who: int, key: Any, value: Any, level: str | None, ttl: float | None) -> None:
        done = self.write(who, "set", key, value, ttl=ttl, durability=level)
        if done is not FULL:
            assert done is True
            self.model.set(key, value, self.expiry(ttl))

    def expiry(self, ttl: float | None) -> float | None:
        return None if ttl is None else self.model.now() + ttl

    @rule(who=clients, key=keys, value=values)
    def set_and_keep(self, who: int, key: Any, value: Any) -> None:
        held = self.model.get(key)
        if self.write(who, "set", key, value, ttl=memdb.KEEP) is not FULL:
            self.model.set(key, value, held.expires_at if held else None)

    @precondition(lambda self: self.model.behind <= 0)
    @rule(who=clients, key=keys, value=values)
    def set_for_a_moment(self, who: int, key: Any, value: Any) -> None:
        """It expires while we look, and then it is gone for everybody."""
        if self.write(who, "set", key, value, ttl=0.001) is FULL:
            return
        deadline = time.monotonic() + 10
        while self.clients[who].call("exists", key):
            assert time.monotonic() < deadline
        self.model.set(key, value, self.model.now() - 0.001)

    @rule(who=clients, key=keys, value=values, ttl=st.none() | ttls)
    def set_if_absent(self, who: int, key: Any, value: Any, ttl: float | None) -> None:
        absent = self.model.get(key) is None
        done = self.write(who, "set", key, value, if_absent=True, ttl=ttl)
        if done is not FULL:
            assert done == absent
            if absent:
                self.model.set(key, value, self.expiry(ttl))

    @rule(who=clients, key=keys, value=values)
    def set_if_version(self, who: int, key: Any, value: Any) -> None:
        entry, held = self.clients[who].call("entry", key), self.model.get(key)
        assert (entry is not None) == (held is not None)
        if entry is None or held is None:
            return
        assert (entry.expires_at is None) == (held.expires_at is None)
        if entry.expires_at is not None and held.expires_at is not None:
            assert abs(entry.expires_at - held.expires_at) < 100
        done = self.write(who, "set", key, value, if_version=entry.version)
        if done is not FULL:
            assert done is True
            assert not self.clients[(who + 1) % 3].call("delete", key, if_version=entry.version)
            self.model.set(key, value)

    @rule(who=clients, key=keys)
    def delete(self, who: int, key: Any) -> None:
        assert self.clients[who].call("delete", key) == (self.model.get(key) is not None)
        self.model.delete([stored(key)])

    @rule(who=clients, pairs=st.lists(st.tuples(keys, values), max_size=8), ttl=st.none() | ttls)
    def set_many(self, who: int, pairs: list[tuple[Any, Any]], ttl: float | None) -> None:
        if self.write(who, "set_many", pairs, ttl=ttl) is not FULL:
            self.model.commit({stored(key): (key, value, self.expiry(ttl)) for key, value in pairs})

    @rule(who=clients, some=st.lists(keys, max_size=8))
    def delete_many(self, who: int, some: list[Any]) -> None:
        there = {stored(key) for key in some} & self.model.live().keys()
        assert self.clients[who].call("delete_many", some) == len(there)
        self.model.delete(there)

    @rule(who=clients, start=bounds, stop=bounds)
    def delete_range(self, who: int, start: Any, stop: Any) -> None:
        there = self.between(start, stop)
        assert self.clients[who].call("delete_range", start, stop) == len(there)
        self.model.delete(there)

    @rule(who=clients, key=keys)
    def pop(self, who: int, key: Any) -> None:
        held = self.model.get(key)
        assert self.clients[who].call("pop", key, "missing") == (held.value if held else "missing")
        self.model.delete([stored(key)])

    @rule(who=clients, key=keys, value=values)
    def setdefault(self, who: int, key: Any, value: Any) -> None:
        held = self.model.get(key)
        found = self.write(who, "setdefault", key, value)
        if found is not FULL:
            assert found == (held.value if held else value)
            if held is None:
                self.model.set(key, value)

    @precondition(lambda self: self.model.live())
    @rule(who=clients)
    def popitem(self, who: int) -> None:
        live = self.model.live()
        last = max(live)
        assert self.clients[who].call("popitem") == (live[last].key, live[last].value)
        self.model.delete([last])

    @rule(who=clients)
    def clear(self, who: int) -> None:
        self.clients[who].call("clear")
        self.model.delete(self.model.live())

    # ---- expiry and conditional writes

    @rule(who=clients, key=keys, ttl=ttls)
    def expire(self, who: int, key: Any, ttl: float) -> None:
        held = self.model.get(key)
        done = self.write(who, "expire", key, ttl)
        if done is not FULL:
            assert done == (held is not None)
            if held:
                self.model.expire(key, self.expiry(ttl))

    @rule(who=clients, key=keys)
    def persist(self, who: int, key: Any) -> None:
        held = self.model.get(key)
        done = self.write(who, "persist", key)
        if done is not FULL:
            assert done == (held is not None and held.expires_at is not None)
            if done:
                self.model.expire(key, None)

    @rule(who=clients, key=keys)
    def ttl(self, who: int, key: Any) -> None:
        held = self.model.get(key)
        try:
            left = self.clients[who].call("ttl", key)
        except KeyError:
            assert held is None
            return
        assert held is not None and (left is None) == (held.expires_at is None)
        if left is not None and held.expires_at is not None:
            assert abs(left - (held.expires_at - self.model.now())) < 100

    @rule(who=clients, key=keys, by=numbers)
    def increment(self, who: int, key: Any, by: float) -> None:
        held = self.model.get(key)
        if held and type(held.value) not in (int, float):
            self.refused(lambda: self.clients[who].call("increment", key, by))
            return
        expected = (held.value if held else 0) + by
        found = self.write(who, "increment", key, by)
        if found is not FULL:
            assert found == expected and type(found) is type(expected)
            self.model.set(key, expected, held.expires_at if held else None)

    def refused(self, call: Callable[[], object]) -> None:
        before = self.db.lsn
        try:
            call()
        except TypeError:
            assert self.db.lsn >= before
        else:
            raise AssertionError("it is no number")

    @rule(who=clients, key=keys, value=values, right=st.booleans())
    def compare_and_set(self, who: int, key: Any, value: Any, right: bool) -> None:
        held = self.model.get(key)
        expected = (held.value if held else memdb.MISSING) if right else ["another"]
        done = self.write(who, "compare_and_set", key, expected, value)
        if done is not FULL:
            assert done == right
            if right:
                self.model.set(key, value, self.after_change(key))

    @rule(who=clients, key=keys, function=st.sampled_from([tag, add]))
    def modify(self, who: int, key: Any, function: Callable[[Any], Any]) -> None:
        held = self.model.get(key)
        expected = function(held.value if held else "default")
        found = self.write(who, "modify", key, function, "default")
        if found is not FULL:
            assert found == expected
            self.model.set(key, expected, self.after_change(key))

    def after_change(self, key: Any) -> float | None:
        """What compare_and_set and modify leave of a TTL is told by one look at it."""
        entry, held = self.db.entry(key), self.model.get(key)
        if held is None or entry.expires_at is None:
            return None
        assert held.expires_at is not None and abs(entry.expires_at - held.expires_at) < 100
        return held.expires_at

    @rule(who=clients, pairs=st.lists(st.tuples(keys, values), max_size=8), gone=st.lists(keys, max_size=3))
    def pipeline(self, who: int, pairs: list[tuple[Any, Any]], gone: list[Any]) -> None:
        calls = [("set", pair) for pair in pairs] + [("delete", (key,)) for key in gone]
        try:
            self.clients[who].run(pipelined, calls)
        except memdb.PipelineError:
            assert self.is_filled
            self.empty_again()
            return
        for key, value in pairs:
            self.model.set(key, value)
        self.model.delete([])
        for key in gone:
            self.model.delete([stored(key)])

    def empty_again(self) -> None:
        """Some of it was done: nobody knows what."""
        self.db.clear()
        self.model.delete(self.model.live())
        self.is_filled = False

    # ---- reads

    def between(self, start: Any, stop: Any) -> list[bytes]:
        return keys_between(self.model.live(), *limits(start, stop))

    @rule(who=clients, start=bounds, stop=bounds, reverse=st.booleans(), limit=st.none() | st.integers(0, 20))
    def range(self, who: int, start: Any, stop: Any, reverse: bool, limit: int | None) -> None:
        live, there = self.model.live(), self.between(start, stop)
        ordered = (there[::-1] if reverse else there)[:limit]
        expected = [(live[key].key, live[key].value) for key in ordered]
        options = {"start": start, "stop": stop, "reverse": reverse, "limit": limit}
        assert self.clients[who].call("range", **options) == expected
        assert self.clients[who].call("keys", **options) == [key for key, _ in expected]

    @rule(who=clients, some=st.lists(keys, max_size=10))
    def get_many(self, who: int, some: list[Any]) -> None:
        found = [self.model.get(key) for key in some]
        expected = [held.value if held else "missing" for held in found]
        assert self.clients[who].call("get_many", some, "missing") == expected
        assert [self.clients[who].call("get", key, "missing") for key in some] == expected
        assert [self.clients[who].call("exists", key) for key in some] == [held is not None for held in found]

    @precondition(lambda self: len(self.snapshots) < 3)
    @rule(who=clients)
    def take_snapshot(self, who: int) -> None:
        name = f"snapshot {next(self.names)}"
        self.clients[who].make(name, "snapshot")
        self.snapshots[name] = (who, self.model.begin("snapshot"))

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data(), key=keys)
    def read_snapshot(self, data: st.DataObject, key: Any) -> None:
        """Its own time judges expiry: a clock that steps forward kills nothing that it sees."""
        name = data.draw(st.sampled_from(sorted(self.snapshots)))
        who, expected = self.snapshots[name]
        client, base = self.clients[who], expected.base
        try:
            assert client.on(name, "items") == [(base[one].key, base[one].value) for one in sorted(base)]
            assert client.on(name, "__len__") == len(base)
            held = base.get(stored(key))
            assert client.on(name, "get", key, "missing") == (held.value if held else "missing")
        except memdb.SnapshotExpired:
            assert self.may_be_revoked(expected)
            del self.snapshots[name]
            client.leave(name)

    def may_be_revoked(self, tx: Transaction) -> bool:
        return tx.disturbed or self.model.generation > tx.generation + 1

    # ---- the engine, the clock, the memory

    @rule()
    def compact(self) -> None:
        self.db.compact()
        self.model.generation += 1

    @rule(what=st.sampled_from(["checkpoint", "sync", "rotate_wal"]))
    def keep(self, what: str) -> None:
        getattr(self.db, what)()

    @rule()
    def reopen(self) -> None:
        self.leave_all()
        for client in reversed(self.clients):
            client.close()
        self.open()
        self.model.generation += 1

    def leave_all(self) -> None:
        for name, (who, _) in self.snapshots.items():
            self.clients[who].leave(name)
        for name, (who, _) in self.transactions.items():
            self.clients[who].on(name, "abort")
        self.snapshots.clear()
        self.transactions.clear()

    @rule()
    def crash_the_writer(self) -> None:
        os.kill(self.db.info().processes["writer"].pid, signal.SIGKILL)
        self.model.generation += 1
        self.fence()  # until the successor serves, what is begun stands in the dead one's generation

    def fence(self, **options: Any) -> None:
        """A commit that is answered by the writer of the present generation."""
        if self.write(0, "set", "fence", 0, **options) is FULL:
            self.db.sync()
        else:
            self.model.set("fence", 0)

    @rule()
    def crash_the_group(self) -> None:
        """What was acknowledged at `memory` may be lost, but not below a commit at `os` (rule C5)."""
        self.fence(durability="os")
        for process in self.db.info().processes.values():
            os.kill(process.pid, signal.SIGKILL)
        self.disturb()
        self.model.generation += 1

    @rule(key=keys)
    def crash_during_a_write(self, key: Any) -> None:
        """Done once, whatever it hits."""
        held, peer = self.model.get(key), self.clients[2]
        if held and type(held.value) not in (int, float):
            return
        expected = (held.value if held else 0) + 1
        assert isinstance(peer, Peer)
        writer = self.db.info().processes["writer"].pid
        peer.begin("call", ("increment", key), {})
        os.kill(writer, signal.SIGKILL)
        self.model.generation += 1
        try:
            assert peer.answer() == expected
        except memdb.ArenaFullError:
            assert self.is_filled
            return
        self.model.set(key, expected, held.expires_at if held else None)

    @rule()
    def crash_a_client(self) -> None:
        peer = self.clients[2]
        assert isinstance(peer, Peer)
        peer.process.kill()
        peer.close()
        self.clients[2] = self.peer()
        self.transactions = {name: one for name, one in self.transactions.items() if one[0] != 2}
        self.snapshots = {name: one for name, one in self.snapshots.items() if one[0] != 2}

    @precondition(lambda self: self.steering is not None)
    @rule(thousands=st.sampled_from([-2, -1, 1, 2]), who=clients)
    def step_the_clock(self, thousands: int, who: int) -> None:
        """After a step forward a commit raises the floor; so what has expired stays so after a step back."""
        self.steering.step(1000 * thousands)
        if self.write(who, "set", "clock", thousands) is not FULL:
            self.model.set("clock", thousands)
        else:
            self.clients[who].call("delete", "clock")
            self.model.delete([stored("clock")])
        self.model.now()

    @rule(who=clients)
    def fill(self, who: int) -> None:
        """Until there is no room; then deletes must find some."""
        self.is_filled = True
        self.disturb()
        for n in range(400):
            if self.write(who, "set", ("big", n), BIG) is FULL:
                break
            self.model.set(("big", n), BIG)
        else:
            raise AssertionError("24 MB in an arena of 8 MiB")

    @precondition(lambda self: self.is_filled)
    @rule(who=clients)
    def empty(self, who: int) -> None:
        there = keys_between(self.model.live(), stored(("big",))[:-1], stored(("big", 10_000)))
        assert self.clients[who].call("delete_range", prefix=("big",)) == len(there)
        self.model.delete(there)
        self.is_filled = False

    def disturb(self) -> None:
        for _, one in [*self.transactions.values(), *self.snapshots.values()]:
            one.disturbed = True

    # ---- always

    @invariant()
    def same(self) -> None:
        if self.clients:
            expected = self.model.items()
            assert len(self.db) == len(expected)
            assert list(self.db.items()) == expected

    def teardown(self) -> None:
        for client in reversed(self.clients):
            client.close()
        self.directory.cleanup()
        if self.steering is not None:
            self.steering.step(-self.steering.offset)


def limits(start: Any, stop: Any) -> tuple[bytes, bytes]:
    return b"" if start is None else stored(start), END if stop is None else stored(stop)
