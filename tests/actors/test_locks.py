"""Open-file-description locks: exclusion, forked copies, bytes, notes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memdb.actors.locks import GROUP_BYTE, STARTER_BYTE, FileLock, close_inherited, read_note


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_one_of_two_gets_the_lock(directory: int) -> None:
    with FileLock(directory, "GROUP") as first, FileLock(directory, "GROUP") as second:
        assert first.acquire(wait=False)
        assert not second.acquire(wait=False)
        assert second.is_held_elsewhere() and not first.is_held_elsewhere()
        first.close()
        assert second.acquire(wait=False)


def test_the_two_bytes_are_two_locks(directory: int) -> None:
    with (
        FileLock(directory, "GROUP", GROUP_BYTE) as group,
        FileLock(directory, "GROUP", STARTER_BYTE) as starter,
    ):
        assert group.acquire(wait=False) and starter.acquire(wait=False)


def test_closing_another_descriptor_of_the_file_loses_nothing(directory: int) -> None:
    with FileLock(directory, "GROUP") as first, FileLock(directory, "GROUP") as second:
        assert first.acquire(wait=False)
        FileLock(directory, "GROUP").close()
        assert not second.acquire(wait=False)


def _child_that_waits(act: str) -> tuple[int, int]:
    read_end, write_end = os.pipe()
    ready_read, ready_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        if act == "close":
            close_inherited({read_end, ready_write})
        os.write(ready_write, b"x")
        os.read(read_end, 1)
        os._exit(0)
    os.close(read_end)
    os.close(ready_write)
    os.read(ready_read, 1)
    os.close(ready_read)
    return child, write_end


@pytest.mark.parametrize(("act", "free"), [("keep", False), ("close", True)])
def test_a_child_holds_the_lock_until_it_closes_its_copy(directory: int, act: str, free: bool) -> None:
    lock = FileLock(directory, "GROUP")
    assert lock.acquire(wait=False)
    child, end = _child_that_waits(act)
    lock.close()
    with FileLock(directory, "GROUP") as other:
        assert other.acquire(wait=False) is free
    os.close(end)
    os.waitpid(child, 0)


def test_release_frees_it_also_with_a_copy_in_a_child(directory: int) -> None:
    lock = FileLock(directory, "GROUP", STARTER_BYTE)
    assert lock.acquire(wait=False)
    child, end = _child_that_waits("keep")
    lock.release()
    with FileLock(directory, "GROUP", STARTER_BYTE) as other:
        assert other.acquire(wait=False)
    os.close(end)
    os.waitpid(child, 0)


def test_the_note_names_the_holder(directory: int) -> None:
    with FileLock(directory, "GROUP") as lock:
        assert read_note(directory, "GROUP") is None
        lock.write_note("memdb supervisor")
        note = read_note(directory, "GROUP")
        assert note is not None and (note.pid, note.command) == (os.getpid(), "memdb supervisor")
    assert read_note(directory, "absent") is None
