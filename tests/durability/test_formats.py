"""The worked examples of docs/formats are read out of the documents and decoded, by hand and by the code."""

import re
import struct
from pathlib import Path

import msgpack

from memdb.durability import manifest, segments
from memdb.durability.checkpoints import CheckpointFooter, CheckpointHeader
from memdb.shm import _kernel as kernel

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats"
SALT = 0x1122334455667788


def example(document: str, name: str) -> tuple[int, bytes]:
    """(first offset, bytes) of a fenced block ``hex <name>``."""
    text = (FORMATS / f"{document}.md").read_text(encoding="utf-8")
    found = re.search(rf"^```hex {name}\n(.*?)^```", text, re.M | re.S)
    assert found, f"{document}.md has no example {name}"
    rows = [row.split("  ", 1) for row in found[1].splitlines()]
    return int(rows[0][0], 16), bytes.fromhex("".join(row[1] for row in rows))


def test_wal_segment_header() -> None:
    _, data = example("wal", "segment-header")
    header = segments.read_header(data, "example")
    assert (header.number, header.salt, header.capacity) == (7, SALT, 1 << 20)
    assert header.database == bytes(range(16))
    assert header.encode()[: len(data)] == data
    assert struct.unpack("<8sII16sQQQQI", data)[0] == b"MEMDBWAL"


def test_wal_record_field_by_field() -> None:
    offset, data = example("wal", "record")
    magic, size, kind, _, version, op_count = struct.unpack_from("<4sIBBHI", data)
    lsn, durable, client, request, time_us, count = struct.unpack_from("<QQ16sQQQ", data, 16)
    body_crc, header_crc = struct.unpack_from("<II", data, 72)
    assert (magic, kind, version, op_count) == (b"MDR1", 1, 1, 2)
    assert (lsn, durable, request, time_us, count) == (42, 40, 3, 1_700_000_001_000_000, 2)
    assert body_crc == kernel.crc32c(data[80:size])
    assert header_crc == kernel.crc32c(struct.pack("<QQ", SALT, offset) + data[:76])
    body = data[80:size]
    assert struct.unpack_from("<II", body) == (2, 0)
    assert struct.unpack_from("<BBHI", body, 8) == (1, 0, 4, 3)
    assert body[16:23] == bytes.fromhex("01026100a13101")
    assert struct.unpack_from("<BBHI", body, 23) == (2, 0, 4, 0)
    assert body[31:] == bytes.fromhex("01026200")
    record = kernel.record_read(bytes(offset) + data, offset, SALT)
    assert (record.verdict, record.lsn, record.client_id) == (kernel.RECORD_GOOD, 42, client)
    assert kernel.record_read(bytes(offset) + data, offset, SALT + 1).verdict == kernel.RECORD_BAD_HEADER
    first, second = kernel.parse_ops(record.body)
    assert (first["op"], first["key"], first["value"]) == ("set", b"\x01\x02a\x00", b"\xa11\x01")
    assert (second["op"], second["key"]) == ("delete", b"\x01\x02b\x00")


def test_checkpoint() -> None:
    _, head = example("checkpoint", "header")
    at, block = example("checkpoint", "block")
    end, footer = example("checkpoint", "footer")
    assert (at, end) == (4096, 4096 + len(block))
    assert head == CheckpointHeader(bytes(range(16)), 42, SALT, 1_700_000_002_000_000).encode()[: len(head)]
    magic, count, index, size, payload_crc, header_crc = struct.unpack_from("<4sIQQII", block)
    assert (magic, count, index, size) == (b"MBLK", 1, 0, len(block) - 32)
    assert payload_crc == kernel.crc32c(block[32:])
    assert header_crc == kernel.crc32c(struct.pack("<Q", SALT) + block[:28])
    assert kernel.ckpt_check(block, 0, SALT, 0) == (1, size)
    assert kernel.ckpt_check(block, 0, SALT, 1) is None
    assert kernel.batch_items(block[32:]) == [(b"\x01\x02a\x00", b"\xa11\x01", 42, 0)]
    magic, lsn, keys, blocks, total, digest, _, crc = struct.unpack("<8sQQQQ16sII", footer)
    assert (magic, lsn, keys, blocks, total) == (b"MEMDBEND", 42, 1, 1, len(block))
    assert crc == kernel.crc32c(struct.pack("<Q", SALT) + footer[:60])
    assert footer == CheckpointFooter(lsn, keys, blocks, total, digest).encode(SALT)


def test_manifest() -> None:
    _, data = example("manifest", "manifest")
    magic, version, length, body_crc, header_crc = struct.unpack_from("<8sIIII", data)
    assert (magic, version, length) == (b"MEMDBMAN", 1, len(data) - 24)
    assert (body_crc, header_crc) == (kernel.crc32c(data[24:]), kernel.crc32c(data[:20]))
    assert msgpack.unpackb(data[24:])["segments"][0]["number"] == 7
    found = manifest.decode(data)
    assert (found.state, found.checkpoints[0].lsn, found.segments[0].salt) == ("ready", 42, SALT)
    assert manifest.encode(found) == data
