"""Frames, hostile bytes, descriptors beside a frame, and what the kernel says of a peer."""

import os
import socket
import struct
import time

import pytest

from memdb.actors import wire


def test_frames_come_off_one_by_one() -> None:
    buffer = bytearray(wire.encode({"op": "a"}) + wire.encode({"op": "b", "value": b"\0"}) + b"\x05")
    assert wire.decode_frame(buffer) == {"op": "a"}
    assert wire.decode_frame(buffer) == {"op": "b", "value": b"\0"}
    assert wire.decode_frame(buffer) is None
    assert buffer == b"\x05"


@pytest.mark.parametrize(
    "hostile",
    [
        struct.pack("<I", wire.REQUEST_MAX + 1),
        struct.pack("<I", 1) + b"\xc1",  # a byte that msgpack never uses
        struct.pack("<I", 1) + b"\x01",  # no map
        struct.pack("<I", 2) + b"\x80\x80",  # two values
        struct.pack("<I", 5) + b"\x81\xa1a\x92\x01",  # cut short
        struct.pack("<I", 5) + b"\x81\xa1a\xa1\xff",  # a text that is none
        struct.pack("<I", 3) + b"\x81\x90\x01",  # a list as a key
        struct.pack("<I", 6) + b"\x81\xa1a\xd4\x07\x00",  # an extension type
    ],
)
def test_hostile_bytes_are_a_disconnection(hostile: bytes) -> None:
    with pytest.raises(wire.Disconnected):
        wire.decode_frame(bytearray(hostile))


def test_names_need_not_be_utf8() -> None:
    message = {"path": os.fsdecode(b"/data/\xff\xfe"), "command": ["python", "\udc80"], "text": "\ud800"}
    assert wire.decode_frame(bytearray(wire.encode(message))) == message


def test_descriptors_ride_beside_a_frame() -> None:
    left, right = socket.socketpair()
    read_end, write_end = os.pipe()
    with left, right:
        wire.send_with_fds(left, wire.encode({"ok": True}), [write_end])
        fds: list[int] = []
        assert wire.receive(right, bytearray(), fds, time.monotonic() + 5) == {"ok": True}
        os.write(fds[0], b"x")
        assert os.read(read_end, 1) == b"x"
    for fd in (read_end, write_end, *fds):
        os.close(fd)


def test_an_answer_has_a_deadline_and_an_end() -> None:
    left, right = socket.socketpair()
    with right:
        with left, pytest.raises(TimeoutError):
            wire.receive(right, bytearray(), [], time.monotonic() + 0.02)
        with pytest.raises(wire.Disconnected):
            wire.receive(right, bytearray(), [], time.monotonic() + 5)


def test_a_pidfd_tells_the_end_of_the_peer() -> None:
    left, right = socket.socketpair()
    child = os.fork()
    if child == 0:
        left.close()
        os.read(right.fileno(), 1)
        os._exit(0)
    pidfd = os.pidfd_open(child)
    assert not wire.has_ended(pidfd)
    left.send(b"x")
    os.waitpid(child, 0)
    assert wire.has_ended(pidfd)
    os.close(pidfd)
    left.close()
    right.close()
