"""The mailbox: order, wrapping, room, descriptors, and both kinds of bells, between two processes."""

import os
from collections.abc import Iterator

import pytest

from memdb.actors.mailbox import RING_BYTES, EventBell, Mailbox, SemaphoreBell


@pytest.fixture
def box() -> Iterator[Mailbox]:
    mailbox = Mailbox(SemaphoreBell())
    yield mailbox
    mailbox.close()


def test_messages_arrive_in_order(box: Mailbox) -> None:
    for number in range(5):
        box.send({"op": "count", "number": number})
    received = [box.receive(1.0)[0][0]["number"] for _ in range(5)]
    assert received == [0, 1, 2, 3, 4]


def test_nothing_comes_within_the_timeout(box: Mailbox) -> None:
    assert box.receive(0.01) == []


def test_a_message_crosses_a_fork_with_a_descriptor(box: Mailbox) -> None:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write_end)
        (message, fds), *_ = box.receive(5.0)
        os._exit(0 if message["op"] == "take" and os.write(fds[0], b"x") == 1 else 1)
    box.send({"op": "take"}, [write_end])
    os.close(write_end)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(read_end, 1) == b"x"
    os.close(read_end)


def test_the_ring_wraps_many_times(box: Mailbox) -> None:
    for number in range(200):
        box.send({"number": number, "text": b"x" * (number * 97 % 9001)})
        ((message, _),) = box.receive(1.0)
        assert message == {"number": number, "text": b"x" * (number * 97 % 9001)}


def test_what_finds_no_room_goes_in_later(box: Mailbox) -> None:
    large = b"x" * (RING_BYTES // 3)
    for number in range(4):
        box.send({"number": number, "large": large})
    assert not box.flush()
    assert [box.receive(1.0)[0][0]["number"] for _ in range(2)] == [0, 1]
    assert box.flush()
    assert [box.receive(1.0)[0][0]["number"] for _ in range(2)] == [2, 3]


def test_a_message_larger_than_the_ring(box: Mailbox) -> None:
    receiver, sender = os.pipe()
    before = len(os.listdir("/proc/self/fd"))
    for size in (RING_BYTES - 40, RING_BYTES, 4 * RING_BYTES):
        box.send({"large": b"x" * size}, (sender,))
        ((message, fds),) = box.receive(1.0)
        assert message == {"large": b"x" * size} and len(fds) == 1
        os.write(fds[0], b"!")
        os.close(fds[0])
        assert os.read(receiver, 2) == b"!"
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(sender)
    os.close(receiver)


def test_an_eventfd_bell_tells_how_many() -> None:
    bell = EventBell()
    mailbox = Mailbox(bell)
    assert mailbox.receive() == []
    mailbox.send({"number": 1})
    mailbox.send({"number": 2})
    assert [message["number"] for message, _ in mailbox.receive()] == [1, 2]
    mailbox.close()
    bell.close()
