"""A group that is killed while it starts: the opener, or the write that starts it, sees a delay and no error
(invariant 12).

Invariant: the kill is at a step of the start itself (tests/shim), so that it is before the door is open.
"""

import os
import signal
from pathlib import Path

import pytest
from peer import Peer
from shim.steering import Steering, compiler

import memdb
from memdb.actors.start import STARTS

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler to build the shim with")
OPTIONS = {"linger": 0.0, "max_memory": "64MiB", "open_timeout": 60.0}


@pytest.mark.parametrize("label", ["create:generation", "write:generation"])
def test_an_open_outlives_the_death_of_the_group_that_it_starts(
    data: Path, tmp_path: Path, label: str
) -> None:
    """It was EngineDied: `the engine ended before it was ready`."""
    steering = Steering.build(tmp_path, data)
    killed = steering.order(label, "kill after")
    peer = Peer(data, steering.environment(), **OPTIONS)
    try:
        assert killed.fired == 1
        peer.call("set", "a", 1)
        assert peer.call("get", "a") == 1
    finally:
        peer.close()
        steering.close()


def test_a_write_outlives_the_death_of_the_group_that_it_starts(data: Path, tmp_path: Path) -> None:
    steering = Steering.build(tmp_path, data)
    peer = Peer(data, steering.environment(), **OPTIONS)
    try:
        peer.call("set", "a", 1)
        killed = steering.order("unlink:directory", "kill after")  # of the socket that the dead have left
        for process in peer.call("info").processes.values():
            os.kill(process.pid, signal.SIGKILL)
        peer.call("set", "b", 2)
        assert killed.fired == 1
        assert peer.call("keys") == ["a", "b"]
    finally:
        peer.close()
        steering.close()


def test_a_group_that_dies_at_every_start_is_an_error(data: Path, tmp_path: Path) -> None:
    steering = Steering.build(tmp_path, data)
    killed = steering.order("create:generation", "kill before", sticky=True)
    with pytest.raises(memdb.EngineDied, match="before it was ready"):
        Peer(data, steering.environment(), **OPTIONS)
    assert killed.fired == STARTS
    steering.close()
