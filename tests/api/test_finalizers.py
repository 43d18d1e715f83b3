"""Handles that are collected at an awkward moment: inside of what their finalizers need."""

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

import memdb
from memdb import attach


class Cycle:
    """Keeps a handle until a collection finds it."""

    def __init__(self, db: memdb.Database) -> None:
        self.db, self.me = db, self


class Collecting(dict[Any, Any]):
    """A registry in which every look-up meets a collection, as it may from Python 3.12 on."""

    def setdefault(self, key: Any, default: Any = None) -> Any:
        found = super().setdefault(key, default)
        gc.collect()
        return found


def test_a_handle_is_collected_while_the_registry_is_locked(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = set(attach._registry)  # of fixtures that live longer than a test
    monkeypatch.setattr(attach, "_registry", Collecting(attach._registry))
    gc.disable()
    try:
        first = weakref.ref(Cycle(memdb.open(data, linger=0, max_memory="64MiB")))
        done = threading.Event()

        def reopen() -> None:
            with memdb.open(data, linger=0, max_memory="64MiB") as again:
                again["a"] = 1
                assert again["a"] == 1 and again._attachment.handles == 1
            done.set()

        thread = threading.Thread(target=reopen, daemon=True)
        thread.start()
        assert done.wait(20), "a finalizer waits for a lock that its own thread holds"
        thread.join()
        assert first() is None
    finally:
        gc.enable()
    assert set(attach._registry) == others and not attach._dropped
