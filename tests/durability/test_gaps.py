"""Rare moments between two writers, or between a log and what it should hold: none may pass unseen."""

import errno
import threading
import time
from typing import Any

import pytest
from durability.rig import MIB, Machine, key

from memdb import errors, values
from memdb.durability import rebuild
from memdb.shm import _kernel as kernel


class _Attachment:
    """What a handle needs of its attachment, over a machine in this process."""

    def __init__(self, machine: Machine) -> None:
        segs = machine.segs
        word = kernel.page_word(segs.page)
        self.client = kernel.Client(*segs.arenas, machine.lease, segs.board, segs.page, word, machine.client)

    def reattach(self, deadline: float) -> None:
        raise AssertionError("the group was not replaced")

    def group_alive(self) -> bool:
        return True

    def why_read_only(self) -> None:
        return None


def _handle(machine: Machine, timeout: float) -> Any:
    handle = kernel.Writes()
    handle._bind(
        _Attachment(machine),
        durability="os",
        readonly=False,
        timeout=timeout,
        max_key_bytes=1024,
        max_value_bytes=MIB,
        max_transaction_bytes=MIB,
        encode=values.encode,
        unpack=values.unpack,
    )
    return handle


class _Write(threading.Thread):
    """One write in a thread of its own; what it raised is in ``error``."""

    def __init__(self, handle: Any, name: str, level: str) -> None:
        super().__init__()
        self._arguments = (handle, name, level)
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        handle, name, level = self._arguments
        try:
            handle.set(name, name.encode(), durability=level)
        except errors.Error as error:
            self.error = error


def _until(holds: Any) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        threading.Event().wait(0.001)


def _sent(machine: Machine, cell: int) -> bool:
    state, _, request, _, _ = kernel.lease_result(machine.lease, cell)
    return state != 0 and request == cell


def _serve(machine: Machine, work: threading.Thread) -> None:
    while work.is_alive():
        machine.engine.run(0.0)
        work.join(0.001)


def _fill_all_cells(machine: Machine, handle: Any) -> None:
    """More writes than cells, so each cell is used again."""

    def work() -> None:
        for number in range(80):
            handle.set("many", b"%d" % number)

    thread = threading.Thread(target=work)
    thread.start()
    _serve(machine, thread)


def test_a_write_that_the_successor_has_in_flight_stays_open_until_it_is_answered() -> None:
    first = Machine().start()
    handle = _handle(first, 0.3)
    write = _Write(handle, "a", "full")
    _until(lambda: _sent(first, 1))
    second = first.successor().start()
    assert second.engine.commit.step() > 0  # taken by the successor and applied, but nothing syncs it
    write.join(20)
    assert isinstance(write.error, errors.OutcomeUnknown)
    assert handle.outcome(write.error.id) is None  # not published, and not undone either
    assert handle.outcome(write.error.id) is None
    second.engine.run(0.0)
    assert handle.outcome(write.error.id) is True
    assert second.names() == {"a": b"a"}
    _fill_all_cells(second, handle)
    assert second.names()["many"] == b"79"


def test_a_write_that_died_with_its_writer_is_settled_by_asking() -> None:
    first = Machine().start()
    handle = _handle(first, 0.3)
    write = _Write(handle, "a", "full")
    _until(lambda: _sent(first, 1))
    assert first.engine.commit.step() > 0  # applied, not durable
    write.join(20)
    assert isinstance(write.error, errors.OutcomeUnknown)
    assert handle.outcome(write.error.id) is None
    kernel.logbuf_init(first.segs.logbuf, first.options.segment_bytes)  # the memory is lost, too
    second = Machine(
        files=first.files.crash(lambda *_: False),
        segs=first.segs,
        lease=first.lease,
        options=first.options,
    ).start()
    assert handle.outcome(write.error.id) is None  # the new writer has been asked just now
    second.engine.run(0.0)
    assert handle.outcome(write.error.id) is False
    assert second.names() == {}
    _fill_all_cells(second, handle)
    assert second.names() == {"many": b"79"}


def test_a_log_that_fails_between_a_sync_and_its_mark_is_noticed() -> None:
    machine = Machine().start()
    machine.set("a", b"1")

    def fail(kind: str, path: str) -> None:
        if kind == "pwrite" and path.startswith("wal/"):
            raise OSError(errno.EIO, "broken disk")

    machine.files.on_operation = fail
    machine.submit([{"op": "set", "key": key("b"), "value": b"2\0"}])
    with pytest.raises(errors.LogFailed):
        machine.engine.sync()
    assert kernel.board_words(machine.segs.board)["phase"] == 3
    machine.files.on_operation = None
    machine.engine.way_back()
    assert machine.set("c", b"3")


def test_sync_makes_a_new_segment_where_its_mark_has_no_room() -> None:
    machine = Machine().start()
    machine.set("a", b"1", "memory")
    machine.engine.commit.flush()
    while machine.engine.commit.mark() == kernel.STATUS_OK:
        pass
    before = machine.engine.commit.figures()["segment"]
    lsn = machine.engine.sync()
    assert machine.engine.commit.figures()["segment"] == before + 1
    assert machine.set("b", b"2") > lsn


def test_a_gap_between_the_old_arena_and_the_log_buffer_is_named_and_the_disk_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine().start()
    for number in range(5):
        machine.set(f"k{number}", b"1", "full")
    end = machine.engine.commit.figures()["applied_lsn"]
    for _ in range(2):
        machine.engine.rotate()
    machine.set("r", b"2", "full")
    other = Machine().start()
    plain = rebuild.replay_buffer

    def behind(segs: Any, store: Any, after_lsn: int) -> Any:
        """As if the arena had published less than all that the buffer does not hold."""
        fresh = other.engine._generations.make(2)
        assert plain(segs, fresh, end) == (end + 1, 1)
        return plain(segs, other.engine._generations.make(2), end - 1)

    monkeypatch.setattr(rebuild, "replay_buffer", behind)
    successor = machine.successor().start()
    assert f"goes on behind LSN {end}" in caplog.text and successor.report.source == "disk"
    assert successor.names() == machine.names()


def test_time_goes_on_from_the_latest_commit_in_the_log() -> None:
    machine = Machine().start()
    machine.set("a", b"1", "full")
    ahead = machine.engine.store.figures()["time_floor"] + 3_600_000_000
    machine.engine.store.raise_time_floor(ahead)  # the clock was an hour ahead for a while
    machine.set("b", b"2", "full")
    assert machine.engine.store.figures()["time_floor"] >= ahead
    assert machine.reboot().start().engine.store.figures()["time_floor"] >= ahead
    machine.engine.checkpoint()
    later = machine.reboot().start()
    assert later.report.records == 0
    assert later.engine.store.figures()["time_floor"] >= ahead
