"""Expiry under a clock that steps (rule R3): nothing comes back, and nothing that a snapshot sees goes.

Invariant: times to live are some thousand seconds and 500, steps are thousands, so that nobody is near the
instant of an expiry however long a test takes.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api.children import one_more
from peer import Peer
from shim.steering import Steering, compiler

import memdb

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler to build the shim with")
OPTIONS = {"linger": 0.0, "max_memory": "64MiB"}


class Stage:
    """Two client processes under one steered clock."""

    def __init__(self, data: Path, steering: Steering) -> None:
        self.data, self.steering = data, steering
        self.peers: list[Peer] = []
        self.open()

    def open(self) -> None:
        environment = self.steering.environment()
        self.peers = [Peer(self.data, environment, **OPTIONS) for _ in range(2)]

    def close(self) -> None:
        for peer in self.peers:
            peer.close()

    def step(self, seconds: float) -> None:
        self.steering.step(seconds)

    def everywhere(self, method: str, *arguments: Any) -> list[Any]:
        return [peer.call(method, *arguments) for peer in self.peers]

    def kill(self, *roles: str) -> None:
        processes = self.peers[0].call("info").processes
        for role in roles or processes:
            os.kill(processes[role].pid, signal.SIGKILL)


@pytest.fixture
def stage(data: Path, tmp_path: Path) -> Iterator[Stage]:
    steering = Steering.build(tmp_path)
    one = Stage(data, steering)
    yield one
    one.close()
    steering.close()


@pytest.mark.parametrize("meanwhile", ["nothing", "writer killed", "group killed", "reopened", "compacted"])
def test_a_step_back_resurrects_nothing(stage: Stage, meanwhile: str) -> None:
    first, second = stage.peers
    first.call("set", "dies", 1, ttl=1500)
    first.call("set", "lives", 2, ttl=5500)
    first.call("set", "stays", 3)
    stage.step(2000)
    second.call("set", "later", 4)
    stage.step(-2000)
    if meanwhile == "writer killed":
        stage.kill("writer")
    elif meanwhile == "group killed":
        stage.kill()
    elif meanwhile == "compacted":
        first.call("compact")
    elif meanwhile == "reopened":
        stage.close()
        stage.open()
    expected = ["later", "lives", "stays"]
    assert stage.everywhere("keys") == [expected, expected]
    assert stage.everywhere("get", "dies") == [None, None]
    assert stage.everywhere("exists", "dies") == [False, False]
    assert stage.everywhere("__len__") == [3, 3]
    left = stage.everywhere("ttl", "lives")
    assert all(3400 < one < 3600 for one in left), "the time stands still while the clock is behind"
    assert stage.peers[0].call("set", "dies", 5, if_absent=True)
    assert stage.everywhere("get", "dies") == [5, 5]


def test_who_has_seen_it_expired_never_sees_it_again(stage: Stage) -> None:
    """Without any commit at the later time, each process stays where it was."""
    first, _ = stage.peers
    first.call("set", "dies", 1, ttl=1500)
    stage.step(2000)
    assert first.call("get", "dies") is None
    stage.step(-2000)
    assert first.call("get", "dies") is None and first.call("keys") == []


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
def test_a_step_forward_kills_nothing_that_is_seen(stage: Stage, isolation: str) -> None:
    first, second = stage.peers
    first.call("set_many", {n: n for n in range(300)}, ttl=1500)
    first.call("set", "stays", 1)
    first.make("snapshot", "snapshot")
    second.make("transaction", "transaction", isolation=isolation)
    stage.step(2000)
    first.call("set", "later", 1)
    assert stage.everywhere("keys") == [["later", "stays"]] * 2
    for peer, name in ((first, "snapshot"), (second, "transaction")):
        assert peer.on(name, "keys") == ["stays", *range(300)]
        assert peer.on(name, "get", 7) == 7 and peer.on(name, "__len__") == 301
    second.on("transaction", "abort")


@pytest.mark.parametrize("reads", ["a point", "a range"])
def test_a_transaction_conflicts_if_what_it_read_expires(stage: Stage, reads: str) -> None:
    first, second = stage.peers
    first.call("set", "dies", 1, ttl=1500)
    second.make("transaction", "transaction")
    if reads == "a point":
        assert second.on("transaction", "get", "dies") == 1
    else:
        assert second.on("transaction", "items") == [("dies", 1)]
    second.on("transaction", "set", "copy", 1)
    stage.step(2000)
    with pytest.raises(memdb.ConflictError) as caught:
        second.leave("transaction")
    assert caught.value.reason in ("expired", "range"), "a range may have been reaped already"
    assert stage.everywhere("keys") == [[], []]


def test_a_ttl_that_is_set_while_the_clock_is_behind(stage: Stage) -> None:
    """It counts from the time, which the clock has yet to reach."""
    first, second = stage.peers
    stage.step(5000)
    first.call("set", "a", 1)
    stage.step(-5000)
    second.call("set", "b", 1, ttl=1500)
    assert all(1400 < one <= 1500 for one in stage.everywhere("ttl", "b"))
    stage.step(6000)
    assert all(400 < one < 600 for one in stage.everywhere("ttl", "b"))
    stage.step(1000)
    assert stage.everywhere("keys") == [["a"], ["a"]]


def test_expiry_survives_recovery_and_checkpoints(stage: Stage) -> None:
    first, _ = stage.peers
    first.call("set", "early", 1, ttl=1500)
    first.call("checkpoint")
    first.call("set", "late", 1, ttl=3500)
    first.call("sync")
    stage.kill()
    stage.close()
    stage.step(2000)
    stage.open()
    assert stage.everywhere("keys") == [["late"], ["late"]]
    assert all(1400 < one <= 1500 for one in stage.everywhere("ttl", "late"))


@pytest.mark.parametrize("call", ["increment", "setdefault", "modify", "compare_and_set"])
def test_what_replaces_a_value_that_expired_here_alone_stays(stage: Stage, call: str) -> None:
    """The writer has yet to see the later time: to it the old value lives, and its TTL must not pass on."""
    first, _ = stage.peers
    first.call("set", "n", 5, ttl=1500)
    stage.step(2000)
    assert first.call("get", "n") is None
    stage.step(-2000)
    if call == "increment":
        assert [first.call("increment", "n") for _ in range(3)] == [1, 2, 3]
    elif call == "setdefault":
        assert first.call("setdefault", "n", 3, ttl=memdb.KEEP) == 3
    elif call == "modify":
        assert first.call("modify", "n", one_more, 2, ttl=memdb.KEEP) == 3
    else:
        assert first.call("compare_and_set", "n", memdb.MISSING, 3, ttl=memdb.KEEP)
    assert stage.everywhere("get", "n") == [3, 3]
    assert stage.everywhere("ttl", "n") == [None, None]
