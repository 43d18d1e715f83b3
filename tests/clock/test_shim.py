"""The shim itself: a test under it that sees no stepped clock, or no failing disk, would prove nothing."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from clock.shim import Steering, compiler, seconds_seen
from peer import Peer

import memdb

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler to build the shim with")


@pytest.fixture
def steering(tmp_path: Path) -> Iterator[Steering]:
    built = Steering.build(tmp_path)
    yield built
    built.close()


def test_clients_and_engine_live_by_the_stepped_clock(data: Path, steering: Steering) -> None:
    peer = Peer(data, steering.environment(), linger=0.0, max_memory="64MiB")
    try:
        for step in (1000.25, -5000.5, 4000.25):
            steering.step(step)
            assert abs(peer.run(seconds_seen) - steering.now()) < 5
            peer.call("set", "a", step)
            writer = peer.call("info").processes["writer"].pid
            assert b"MEMDB_TEST_SHIM" in Path(f"/proc/{writer}/environ").read_bytes()
            assert peer.call("get", "a") == step
        assert steering.offset == 0
    finally:
        peer.close()


def test_a_failing_sync_and_a_failing_write_reach_the_engine(data: Path, steering: Steering) -> None:
    peer = Peer(data, steering.environment(), linger=0.0, max_memory="64MiB")
    try:
        peer.call("set", "a", 1, durability="full")
        steering.fail(sync=errno.EIO)
        with pytest.raises((memdb.LogFailed, memdb.OutcomeUnknown)):
            peer.call("set", "b", 2, durability="full")
        assert peer.call("get", "a") == 1
        steering.fail()
    finally:
        peer.close()
