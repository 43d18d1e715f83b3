"""A write that the engine has taken and that can't be settled in time: OutcomeUnknown, with what to ask later
(rule C8), however the engine was lost.

Invariant: the group is killed as a whole while the write waits for its sync, and a new one is kept from
starting by the lock that starters take, so that nothing depends on how fast the machine is.
"""

import os
import signal
from pathlib import Path

import pytest
from peer import Peer
from shim.steering import Steering, compiler

import memdb
from memdb.actors.locks import STARTER_BYTE, FileLock
from memdb.place import open_directory

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler to build the shim with")


def test_a_taken_write_is_unknown_also_if_no_group_comes_back_in_time(data: Path, tmp_path: Path) -> None:
    """It was OpenTimeout: who settles OutcomeUnknown by ``db.outcome`` took it for a write never begun."""
    steering = Steering.build(tmp_path, data)
    peer = Peer(data, steering.environment(), linger=0.0, max_memory="64MiB", timeout=0.3)
    directory = open_directory(str(data))
    try:
        peer.call("set", "a", 1)
        processes = peer.call("info").processes.values()
        held = steering.order("sync:wal", "hold", sticky=True)
        peer.begin("call", ("set", "b", 2), {"durability": "full"})
        while not held.fired:
            os.sched_yield()
        with FileLock(directory, "GROUP", STARTER_BYTE) as starter:
            assert starter.acquire(wait=False)
            for process in processes:
                os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(memdb.OutcomeUnknown) as caught:
                peer.answer()
        held.cancel()
        with memdb.open(data):  # starts the next group, with all the time that it needs
            assert peer.call("outcome", caught.value.id) is True, "it was written; only its sync was missing"
            assert peer.call("get", "b") == 2
    finally:
        steering.cancel()
        peer.close()
        steering.close()
        os.close(directory)
