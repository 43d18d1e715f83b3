"""The API against a sorted dict: a state machine with compaction, crashes and reopening among its rules."""

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import memdb
from memdb.shm import _kernel

keys = st.integers(0, 30) | st.sampled_from(
    ["a", "ab", "b", b"a", b"\x00", ("a",), ("a", 1), ("a", 10), None, True, 1.5]
)
values = st.binary(max_size=8) | st.integers() | st.lists(st.integers(), max_size=3) | st.just(b"x" * 3000)
bounds = st.none() | st.integers(0, 30)
levels = st.sampled_from(["os", "full"])


def stored(key: Any) -> bytes:
    return _kernel.encode_key(key)


class Machine(RuleBasedStateMachine):
    """The model maps stored keys to (key, value)."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="stateful-")
        self.model: dict[bytes, tuple[Any, Any]] = {}
        self.snapshots: list[tuple[memdb.Snapshot, list[tuple[Any, Any]]]] = []
        self.db: memdb.Database

    @initialize()
    def start(self) -> None:
        self.db = self.open()

    def open(self) -> memdb.Database:
        return memdb.open(Path(self.directory.name) / "data", linger=0, max_memory="16MiB")

    def expected(self) -> list[tuple[Any, Any]]:
        return [self.model[key] for key in sorted(self.model)]

    # ---- writes

    @rule(key=keys, value=values, level=levels)
    def set(self, key: Any, value: Any, level: str) -> None:
        assert self.db.set(key, value, durability=level)
        self.model[stored(key)] = (key, value)

    @rule(key=keys, value=values)
    def set_if_absent(self, key: Any, value: Any) -> None:
        assert self.db.set(key, value, if_absent=True) == (stored(key) not in self.model)
        self.model.setdefault(stored(key), (key, value))

    @rule(key=keys, value=values)
    def set_if_version(self, key: Any, value: Any) -> None:
        entry = self.db.entry(key)
        assert (entry is not None) == (stored(key) in self.model)
        if entry is not None:
            assert self.db.set(key, value, if_version=entry.version)
            assert not self.db.delete(key, if_version=entry.version)
            self.model[stored(key)] = (key, value)

    @rule(key=keys)
    def delete(self, key: Any) -> None:
        assert self.db.delete(key) == (self.model.pop(stored(key), None) is not None)

    @rule(pairs=st.lists(st.tuples(keys, values), max_size=8))
    def set_many(self, pairs: list[tuple[Any, Any]]) -> None:
        self.db.set_many(pairs)
        self.model.update((stored(key), (key, value)) for key, value in pairs)

    @rule(some=st.lists(keys, max_size=8))
    def delete_many(self, some: list[Any]) -> None:
        there = {stored(key) for key in some} & self.model.keys()
        assert self.db.delete_many(some) == len(there)
        for key in there:
            del self.model[key]

    @rule(start=bounds, stop=bounds)
    def delete_range(self, start: Any, stop: Any) -> None:
        there = self.between(start, stop)
        assert self.db.delete_range(start, stop) == len(there)
        for key in there:
            del self.model[key]

    @rule(key=keys)
    def pop(self, key: Any) -> None:
        missing = object()
        _, value = self.model.pop(stored(key), (None, missing))
        assert self.db.pop(key, missing) == value

    @precondition(lambda self: self.model)
    @rule()
    def popitem(self) -> None:
        assert self.db.popitem() == self.model.pop(max(self.model))

    @rule(key=keys, value=values)
    def setdefault(self, key: Any, value: Any) -> None:
        assert self.db.setdefault(key, value) == self.model.setdefault(stored(key), (key, value))[1]

    @rule()
    def clear(self) -> None:
        self.db.clear()
        self.model.clear()

    # ---- reads

    def between(self, start: Any, stop: Any) -> list[bytes]:
        low = b"" if start is None else stored(start)
        high = b"\xff" if stop is None else stored(stop)
        return [key for key in sorted(self.model) if low <= key < high]

    @rule(start=bounds, stop=bounds, reverse=st.booleans(), limit=st.none() | st.integers(0, 20))
    def range(self, start: Any, stop: Any, reverse: bool, limit: int | None) -> None:
        there = self.between(start, stop)
        expected = [self.model[key] for key in (there[::-1] if reverse else there)][:limit]
        assert list(self.db.range(start, stop, reverse=reverse, limit=limit)) == expected
        assert len(self.db.items(start=start, stop=stop)) == len(there)

    @rule(some=st.lists(keys, max_size=10))
    def get_many(self, some: list[Any]) -> None:
        expected = [self.model.get(stored(key), (None, "missing"))[1] for key in some]
        assert self.db.get_many(some, "missing") == expected
        assert [self.db.get(key, "missing") for key in some] == expected
        assert [key in self.db for key in some] == [stored(key) in self.model for key in some]

    @precondition(lambda self: len(self.snapshots) < 4)
    @rule()
    def take_snapshot(self) -> None:
        self.snapshots.append((self.db.snapshot(), self.expected()))

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def read_snapshot(self, data: st.DataObject) -> None:
        snapshot, expected = data.draw(st.sampled_from(self.snapshots))
        try:
            assert list(snapshot.items()) == expected and len(snapshot) == len(expected)
        except memdb.SnapshotExpired:  # two generations are older than the oldest that is kept
            self.snapshots.remove((snapshot, expected))

    # ---- the engine

    @rule()
    def compact(self) -> None:
        self.db.compact()

    @rule()
    def checkpoint(self) -> None:
        self.db.checkpoint()

    @rule()
    def reopen(self) -> None:
        for snapshot, _ in self.snapshots:
            snapshot.close()
        self.snapshots.clear()
        self.db.close()
        self.db = self.open()

    @rule()
    def crash_the_writer(self) -> None:
        os.kill(self.db.info().processes["writer"].pid, signal.SIGKILL)

    @rule()
    def crash_the_group(self) -> None:
        for process in self.db.info().processes.values():
            os.kill(process.pid, signal.SIGKILL)

    @rule()
    def crash_the_group_and_reopen(self) -> None:
        self.crash_the_group()
        self.reopen()

    @invariant()
    def same(self) -> None:
        if hasattr(self, "db"):
            assert len(self.db) == len(self.model)
            assert list(self.db.items()) == self.expected()

    def teardown(self) -> None:
        for snapshot, _ in self.snapshots:
            snapshot.close()
        if hasattr(self, "db"):
            self.db.close()
        self.directory.cleanup()


Machine.TestCase.settings = settings(
    max_examples=int(os.environ.get("MEMDB_STATEFUL_EXAMPLES", "12")),
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.timeout(600)
@pytest.mark.slow
class TestAgainstASortedDict(Machine.TestCase):  # type: ignore[misc, valid-type, name-defined]
    """Runs the machine."""
