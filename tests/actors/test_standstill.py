"""When a wait for the group counts as in vain: after so many seconds in which nobody got on."""

import pytest

from memdb import standstill
from memdb.shm import _kernel as kernel
from memdb.standstill import Standstill


class Watched:
    """A watch over processes that are not there: their processor time and the clock are the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, used: float) -> None:
        self.now, self.used = 0.0, used
        monkeypatch.setattr(standstill.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(Standstill, "_processes", lambda watch: [])
        monkeypatch.setattr(Standstill, "_look", lambda watch: ({}, self.used))
        board = kernel.Mapping.anonymous(kernel.board_bytes())
        kernel.board_init(board)
        self.watch = Standstill(1, board, 30.0)

    def is_over(self, now: float, used: float) -> bool:
        self.now, self.used = now, used
        return self.watch.is_over()


def test_nobody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, 5.0)
    assert not watched.is_over(29.0, 5.01)
    assert watched.is_over(31.0, 5.04)


def test_somebody_works(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, 5.0)
    assert not any(watched.is_over(now, 5.0 + now / 10) for now in range(10, 200, 10))


def test_an_actor_with_much_behind_it_ends_and_another_works(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, 100.0)
    assert not any(watched.is_over(now, 5.0 + now / 10) for now in range(10, 200, 10))
