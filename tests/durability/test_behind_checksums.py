"""What can't be is damage, also where every checksum fits: of counts, numbers and types."""

import struct
from dataclasses import asdict, replace
from typing import Any

import msgpack
import pytest
from durability.rig import Machine

from memdb.durability import checkpoints, manifest
from memdb.durability.files import MemoryFiles
from memdb.errors import CorruptionError
from memdb.shm import _kernel as kernel

SALT = 5


def machine_with_checkpoint() -> Machine:
    machine = Machine().start()
    for name in ("a", "b", "c"):
        machine.set(name, b"1")
    machine.engine.checkpoint()
    return machine


def sealed(tree: object) -> bytes:
    body = msgpack.packb(tree)
    head = struct.pack("<8sIII", manifest.MAGIC, manifest.FORMAT, len(body), kernel.crc32c(body))
    return head + struct.pack("<I", kernel.crc32c(head)) + bytes(body)


@pytest.mark.parametrize(
    "changes",
    [
        {"term": "1"},
        {"durable_lsn": 1 << 48},
        {"lsn_limit": -1},
        {"logged": 1},
        {"database": "x"},
        {"database": b"x" * 15},
        {"ancestors": [1]},
        {"ancestors": 1},
        {"segments": [1]},
        {"segments": [{}]},
        {"reports": [1]},
        {"checkpoints": {"a": 1}},
        {"state": None},
        {"next_segment": 1},
    ],
)
def test_a_manifest_that_says_what_can_not_be(changes: dict[str, Any]) -> None:
    files = machine_with_checkpoint().files
    assert isinstance(files, MemoryFiles)
    tree = asdict(manifest.decode(bytes(files.contents(manifest.PATH))))
    assert manifest.decode(sealed(tree))
    with pytest.raises(CorruptionError, match="MANIFEST is damaged"):
        manifest.decode(sealed({**tree, **changes}))
    without = {name: value for name, value in tree.items() if name not in changes}
    with pytest.raises(CorruptionError, match="MANIFEST is damaged"):
        manifest.decode(sealed(without))


@pytest.mark.parametrize("body", [b"\xc1", b"\x81\x90\x01", b"\x01", b"\x80\x80", b"\xdf\xff\xff\xff\xff"])
def test_a_manifest_that_is_no_map(body: bytes) -> None:
    head = struct.pack("<8sIII", manifest.MAGIC, manifest.FORMAT, len(body), kernel.crc32c(body))
    with pytest.raises(CorruptionError, match="MANIFEST is damaged"):
        manifest.decode(head + struct.pack("<I", kernel.crc32c(head)) + body)


@pytest.mark.parametrize("keys", [4, 1000, (1 << 62) + 1, (1 << 64) - 1])
def test_a_checkpoint_is_not_believed_how_many_keys_it_has(keys: int) -> None:
    """The hash table is made for as many: that took memory, or the making never ended."""
    files = machine_with_checkpoint().files
    assert isinstance(files, MemoryFiles)
    entry = manifest.decode(bytes(files.contents(manifest.PATH))).checkpoints[-1]
    content = files.contents(entry.path)
    file = files.open(entry.path)
    footer = checkpoints.read_footer(file, entry.path, entry.salt)
    content[-checkpoints.FOOTER_BYTES :] = replace(footer, keys=keys).encode(entry.salt)
    arena = kernel.Mapping.anonymous(8 << 20)
    store = kernel.Store(arena, -1, limit=6 << 20, generation=1, hash_seed=1)
    with pytest.raises(CorruptionError):
        checkpoints.load(files, entry, store)
    file.close()


def item(name: bytes, lsn: int) -> bytes:
    return (struct.pack("<IIQQ", len(name), 1, lsn, 0) + name + b"v").ljust(32, b"\0")


@pytest.mark.parametrize(
    "blocks",
    [
        [[item(b"\1a", 0)]],  # no LSN
        [[item(b"\1a", 10)]],  # one above the checkpoint's: the log would go on below it
        [[item(b"\1b", 5)], [item(b"\1a", 5)]],  # keys of two blocks that do not grow
        [[item(b"\1a", 5)], [item(b"\1a", 5)]],
    ],
)
def test_a_block_that_can_not_be_of_a_checkpoint(blocks: list[list[bytes]]) -> None:
    arena = kernel.Mapping.anonymous(8 << 20)
    store = kernel.Store(arena, -1, limit=6 << 20, generation=1, hash_seed=1)
    store.bulk_begin(2)
    with pytest.raises(CorruptionError):
        for block in blocks:
            store.ckpt_load(b"".join(block), len(block), 9)


@pytest.mark.parametrize(
    ("kind", "lsn", "durable_lsn", "body"),
    [
        (kernel.RECORD_COMMIT, 1 << 48, 1, kernel.ops_build([])),
        (kernel.RECORD_COMMIT, 5, 1 << 48, kernel.ops_build([])),
        (kernel.RECORD_MARK, 5, 5, struct.pack("<Q", 1 << 48)),
        (kernel.RECORD_LINK, 5, 5, struct.pack("<5Q", (1 << 64) - 1, 0, 0, 0, 1)),
    ],
)
def test_a_record_with_a_number_that_no_commit_can_have(
    kind: int, lsn: int, durable_lsn: int, body: bytes
) -> None:
    """Numbering would go on above it, where no LSN fits into a reader's slot."""
    data = kernel.record_build(kind, lsn, durable_lsn, bytes(16), 1, 1, 0, 0, body, salt=SALT, offset=0)
    assert kernel.record_read(data, 0, SALT).verdict in (kernel.RECORD_BAD_HEADER, kernel.RECORD_BAD_BODY)
