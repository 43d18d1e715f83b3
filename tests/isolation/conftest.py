"""A database with several client processes, shared by the tests of one module: starting them takes longer
than most tests."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peer import Peer

import memdb

PROCESSES = 4


class Crew:
    """The handle of the test, and the processes."""

    def __init__(self, db: memdb.Database, peers: list[Peer]) -> None:
        self.db, self.peers = db, peers

    def run(self, *works: tuple[Any, ...], kills: int = 0) -> list[Any]:
        """Each process runs its function; meanwhile the writer is killed so often."""
        busy = list(zip(self.peers, works, strict=False))
        for peer, work in busy:
            peer.begin("run", work, {})
        answers: list[Any] = []
        try:
            for _ in range(kills):
                self._await_progress(100)
                os.kill(self.db.info().processes["writer"].pid, signal.SIGKILL)
        finally:
            failures = []
            for peer, _ in busy:  # all of them, so that the next test finds no answer of this one
                try:
                    answers.append(peer.answer())
                except Exception as error:  # noqa: BLE001 - raised below
                    failures.append(error)
            if failures:
                raise failures[0]
        return answers

    def everywhere(
        self, function: Callable[..., Any], seconds: float, mode: str, kills: int = 0
    ) -> list[Any]:
        """The same function in every process, each with a seed of its own."""
        return self.run(*((function, seed, seconds, mode) for seed in range(len(self.peers))), kills=kills)

    def _await_progress(self, commits: int) -> None:
        before, deadline = self.db.lsn, time.monotonic() + 90
        while self.db.lsn < before + commits:
            assert time.monotonic() < deadline, "nobody commits"
            time.sleep(0.01)


@pytest.fixture(scope="module")
def shared_crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    place = tmp_path_factory.mktemp("isolation") / "data"
    db = memdb.open(place, linger=0, max_memory="64MiB")
    peers = [Peer(place, durability="memory") for _ in range(PROCESSES)]
    yield Crew(db, peers)
    for peer in peers:
        peer.close()
    db.close()


@pytest.fixture
def crew(shared_crew: Crew) -> Crew:
    """The crew with an empty database."""
    shared_crew.db.clear()
    return shared_crew
