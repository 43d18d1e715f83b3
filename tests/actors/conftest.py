"""Fixtures of the process group's tests: a directory whose group is ended, with a look for leftovers."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from actors.group_tools import Opener, processes_of, signal_all, wait_until

from memdb.attach import Attachment, attach
from memdb.options import parse


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """The directory of a database to be; nothing of its group may be left afterwards."""
    before = set(os.listdir("/dev/shm"))
    yield tmp_path / "data"
    signal_all(processes_of(tmp_path), signal.SIGTERM)
    wait_until(lambda: not processes_of(tmp_path), what=f"the group of {tmp_path} ends")
    left = set(os.listdir("/dev/shm")) - before
    wait_until(lambda: not left & set(os.listdir("/dev/shm")), what=f"{left} go: others' live for a moment")


@pytest.fixture
def opener(place: Path) -> Iterator[Opener]:
    """Attaches to the test's directory; what the test leaves open is released."""
    opened: list[Attachment] = []

    def open_one(path: Path | None = place, **given: Any) -> Attachment:
        handle, explicit = parse(**given)
        attachment = attach(path, handle, explicit, given.get("durability"))
        opened.append(attachment)
        return attachment

    yield open_one
    for attachment in opened:
        if attachment.handles > 0:
            attachment.release()
