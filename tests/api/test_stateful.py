"""The API against a model: a state machine with several clients, transactions, crashes, clock steps and a
full arena.

Owns: the rules of transactions, and the runs: one as it is, one in a process of its own under the stepped
clock.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api.machine import Machine, bounds, clients, keys, limits, numbers, to_and_fro, ttls, values
from api.model import END, MUST, MUST_NOT, Transaction, keys_between, stored
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from shim.steering import Steering, compiler, under_shim

import memdb

isolations = st.sampled_from(["serializable", "serializable", "snapshot"])


class Transactions(Machine):
    """Up to three open at once, in any of the clients."""

    @precondition(lambda self: len(self.transactions) < 3)
    @rule(who=clients, isolation=isolations)
    def begin(self, who: int, isolation: str) -> None:
        name = f"transaction {next(self.names)}"
        self.clients[who].make(name, "transaction", isolation=isolation)
        self.transactions[name] = (who, self.model.begin(isolation))

    @precondition(lambda self: self.transactions)
    @rule(data=st.data(), key=keys, other=keys, value=values, by=numbers, start=bounds, stop=bounds, ttl=ttls)
    def work(self, data: st.DataObject, **drawn: Any) -> None:
        """One call in one of them, with its answer."""
        name = data.draw(st.sampled_from(sorted(self.transactions)))
        who, tx = self.transactions[name]
        call = data.draw(st.sampled_from(CALLS))
        try:
            call(Inside(self.clients[who], name, tx, self.model.now), **drawn)
        except memdb.SnapshotExpired:
            assert self.may_be_revoked(tx)
            self.clients[who].on(name, "abort")
            del self.transactions[name]

    @precondition(lambda self: self.transactions)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        """With what is known of it, a conflict must, may or must not come."""
        name = data.draw(st.sampled_from(sorted(self.transactions)))
        who, tx = self.transactions.pop(name)
        verdict, before = self.model.verdict(tx), self.db.lsn
        try:
            lsn = self.clients[who].leave(name)
        except memdb.ConflictError as error:
            assert verdict != MUST_NOT or self.may_be_revoked(tx), f"nothing conflicts: {error}"
            assert error.reason in ("changed", "range", "expired", "window", "generation", "snapshot")
            if tx.generation == self.model.generation and not tx.disturbed:
                assert error.reason in ("changed", "range", "expired")
            return
        except memdb.ArenaFullError:
            assert self.is_filled
            return
        assert verdict != MUST, "it has read what is no more"
        if tx.overlay or tx.deleted:
            assert lsn is None or lsn > before
        else:
            assert lsn is None
        self.model.settle(tx)

    @precondition(lambda self: self.transactions)
    @rule(data=st.data())
    def abort(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.transactions)))
        who, _ = self.transactions.pop(name)
        self.clients[who].on(name, "abort")


class Inside:
    """The calls in a transaction, each beside the model's."""

    def __init__(self, client: Any, name: str, tx: Transaction, now: Callable[[], float]) -> None:
        self._client, self._name, self.tx, self.now = client, name, tx, now

    def on(self, method: str, *arguments: Any, **options: Any) -> Any:
        return self._client.on(self._name, method, *arguments, **options)

    def use(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self._client.use(self._name, function, *arguments)


def get(inside: Inside, key: Any, other: Any, **_: Any) -> None:
    found = inside.on("get_many", [key, other], "missing")
    held = [inside.tx.get(stored(key)), inside.tx.get(stored(other))]
    assert found == [one.value if one else "missing" for one in held]
    assert inside.on("exists", key) == (held[0] is not None)


def put(inside: Inside, key: Any, value: Any, **_: Any) -> None:
    inside.on("set", key, value)
    inside.tx.put(key, value)


def put_both(inside: Inside, key: Any, other: Any, value: Any, **_: Any) -> None:
    inside.on("set_many", [(key, value), (other, b"other")])
    inside.tx.put(key, value)
    inside.tx.put(other, b"other")


def remove(inside: Inside, key: Any, **_: Any) -> None:
    held = inside.tx.get(stored(key))
    assert inside.on("delete", key) == (held is not None)
    if held:
        inside.tx.drop(stored(key))


def remove_both(inside: Inside, key: Any, other: Any, **_: Any) -> None:
    there = {one for one in (stored(key), stored(other)) if inside.tx.get(one)}
    assert inside.on("delete_many", [key, other]) == len(there)
    for one in there:
        inside.tx.drop(one)


def remove_range(inside: Inside, start: Any, stop: Any, **_: Any) -> None:
    low, high = limits(start, stop)
    there = inside.tx.read(low, high)
    assert inside.on("delete_range", start, stop) == len(there)
    inside.tx.deleted.append((low, high))
    for key in there:
        inside.tx.drop(key)
    for key in [one for one in inside.tx.overlay if low <= one < high]:
        inside.tx.drop(key)


def read_range(inside: Inside, start: Any, stop: Any, by: float, **_: Any) -> None:
    low, high = limits(start, stop)
    seen = inside.tx.seen()
    there = keys_between(seen, low, high)
    reverse = by < 0
    expected = [(seen[key].key, seen[key].value) for key in (there[::-1] if reverse else there)]
    limit = None if abs(by) > 30 else int(abs(by))
    assert inside.on("range", start, stop, reverse=reverse, limit=limit) == expected[:limit]
    if limit is None:
        inside.tx.ranges.append((low, high))
        return
    inside.tx.perhaps.append((low, high))
    if 0 < limit <= len(there):
        came = there[-limit] if reverse else there[limit - 1]
        inside.tx.ranges.append((came, high) if reverse else (low, came + b"\0"))


def length(inside: Inside, **_: Any) -> None:
    assert inside.on("__len__") == len(inside.tx.read(b"", END))


def increment(inside: Inside, key: Any, by: float, **_: Any) -> None:
    held = inside.tx.get(stored(key))
    if held is None or type(held.value) in (int, float):
        expected = (held.value if held else 0) + by
        assert inside.on("increment", key, by) == expected
        inside.tx.put(key, expected, held.expires_at if held else None)


def pop(inside: Inside, key: Any, **_: Any) -> None:
    held = inside.tx.get(stored(key))
    assert inside.on("pop", key, "missing") == (held.value if held else "missing")
    if held:
        inside.tx.drop(stored(key))


def setdefault(inside: Inside, key: Any, value: Any, **_: Any) -> None:
    held = inside.tx.get(stored(key))
    assert inside.on("setdefault", key, value) == (held.value if held else value)
    if held is None:
        inside.tx.put(key, value)


def expire(inside: Inside, key: Any, ttl: float, **_: Any) -> None:
    held = inside.tx.get(stored(key))
    assert inside.on("expire", key, ttl) == (held is not None)
    if held:
        left = inside.on("ttl", key)
        assert abs(left - ttl) < 100
        inside.tx.put(key, held.value, inside.now() + ttl)


def savepoint(inside: Inside, by: float, **_: Any) -> None:
    """What was written since is gone again, what was read is not."""
    inside.use(to_and_fro, by)
    inside.tx.ranges.append((b"", END))


CALLS = [
    get, get, put, put, put_both, remove, remove_both, remove_range, read_range, read_range, length,
    increment, pop,
    setdefault, expire, savepoint,
]  # fmt: skip


def _settings(examples: int, *, shrinks: bool) -> settings:
    """Shrinking takes minutes, so that a quick run shows a failure as it was found."""
    found_as_it_is = (Phase.explicit, Phase.reuse, Phase.generate)
    return settings(
        phases=tuple(Phase) if shrinks else found_as_it_is,
        max_examples=int(os.environ.get("MEMDB_STATEFUL_EXAMPLES", examples)),
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )


class TestQuick(Transactions.TestCase):  # type: ignore[misc, valid-type, name-defined]
    """A few examples."""


TestQuick.settings = _settings(5, shrinks=False)


@pytest.mark.timeout(1800)
@pytest.mark.slow
class TestLong(Transactions.TestCase):  # type: ignore[misc, valid-type, name-defined]
    """Many."""


TestLong.settings = _settings(100, shrinks=True)


@pytest.mark.skipif(compiler() is None, reason="no C compiler to build the shim with")
@pytest.mark.skipif(under_shim(), reason="this is the process under the shim")
@pytest.mark.parametrize(
    "which", ["TestQuick", pytest.param("TestLong", marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_under_a_stepped_clock(tmp_path: Path, which: str) -> None:
    """The whole machine once more, with engine, clients and test under a clock that steps."""
    steering = Steering.build(tmp_path)
    tests = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::{which}"]
    command += ["-m", "slow or not slow", "--basetemp", str(tmp_path / "under")]
    run = subprocess.run(
        command, cwd=tests.parent, env=steering.environment(), capture_output=True, text=True, check=False
    )
    steering.close()
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
