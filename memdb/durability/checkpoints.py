"""Checkpoints: writing one from a snapshot, verifying one, loading one (docs/formats/checkpoint.md).

Owns: checkpoints/<lsn>.ckpt, from the first byte to the rename. It does not decide that one counts: the
writer does, by naming it in the manifest (invariant 10).

Invariants:

* A file under its final name was written whole, synced and read back.
* Only the writer gives and takes final names. Each writing has a file of its own until then: the checkpointer
  and a writer on its way back (rule L5) may be at the same LSN at once.
* Nothing of a block is believed before its checksums; blocks are bound to their file by a salt, to their
  place by an index.
* The work per key is the kernel's; here it is per block of about 1 MiB.
"""

import contextlib
import hashlib
import os
import re
import secrets
import struct
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from memdb.durability.files import File, Files
from memdb.durability.manifest import CheckpointEntry
from memdb.errors import CorruptionError, Error, FormatTooNew
from memdb.shm import _kernel as kernel

__all__ = [
    "CheckpointHeader",
    "blocks",
    "discard",
    "entry_of",
    "load",
    "put_in_place",
    "read_footer",
    "read_header",
    "remove_leftovers",
    "verify",
    "write",
]

FORMAT: Final = 1
MAGIC: Final = b"MEMDBCKP"
END_MAGIC: Final = b"MEMDBEND"
HEADER_BYTES: Final = 4096
BLOCK_BYTES: Final = 1 << 20
_HEADER: Final = struct.Struct("<8sII16sQQQI")  # magic, format, zero, database, lsn, salt, time, crc
_FOOTER: Final = struct.Struct("<8sQQQQ16sII")  # magic, lsn, keys, blocks, bytes of blocks, digest, zero, crc
_BLOCK: Final = struct.Struct("<IIQQII")
FOOTER_BYTES: Final = _FOOTER.size
_LEAST_ITEM: Final = 32
"""Bytes of a key in a block: 24 and one at least, padded to 8."""
_OURS: Final = re.compile(r"[0-9]{20}(\.ckpt|-[0-9a-f]{16}\.tmp)")
_SHARE: Final = 0.07
"""Part of one core that the writing of a checkpoint takes on a machine of few cores (rule L6). With a tenth,
writers at full rate on two cores lost 14 to 21 %, with this 9 to 14 % (``stress bench checkpointing``)."""


@dataclass(frozen=True)
class CheckpointHeader:
    """The first 4 KiB."""

    database: bytes
    lsn: int
    salt: int
    time_us: int

    def encode(self) -> bytes:
        """The 4096 bytes."""
        head = _HEADER.pack(MAGIC, FORMAT, 0, self.database, self.lsn, self.salt, self.time_us, 0)[:-4]
        return (head + struct.pack("<I", kernel.crc32c(head))).ljust(HEADER_BYTES, b"\0")


@dataclass(frozen=True)
class CheckpointFooter:
    """The last bytes: what a whole file holds. ``digest``: BLAKE2b-128 over the block headers in order."""

    lsn: int
    keys: int
    blocks: int
    size: int
    digest: bytes

    def encode(self, salt: int) -> bytes:
        """The footer's bytes; its checksum covers the salt, too."""
        head = _FOOTER.pack(END_MAGIC, self.lsn, self.keys, self.blocks, self.size, self.digest, 0, 0)[:-4]
        return head + struct.pack("<I", kernel.crc32c(head, kernel.crc32c(struct.pack("<Q", salt))))


# ---------------------------------------------------------------------------------------------------- writing


class _Throttle:
    """Keeps the writing to a share of one core where cores are few, by pauses in proportion to the work
    done."""

    def __init__(self, share: float) -> None:
        self._share, self._worked_from = share, time.thread_time()

    def rest(self) -> None:
        if self._share >= 1:
            return
        worked = time.thread_time() - self._worked_from
        time.sleep(min(worked * (1 - self._share) / self._share, 0.25))
        self._worked_from = time.thread_time()


def default_share() -> float:
    """The part of a core that a checkpoint may take on this machine."""
    return _SHARE if len(os.sched_getaffinity(0)) <= 4 else 0.5


def write(files: Files, reader: kernel.Reader, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the snapshot of ``reader`` beside the checkpoints; the meta that
    DurableEngine.checkpoint_finished takes.

    ``plan``: of DurableEngine.checkpoint_plan (database id, time, share of a core). The file is synced and
    read back before this returns; `put_in_place` gives it its name. OSError, CorruptionError,
    SnapshotExpired: nothing is left.
    """
    header = CheckpointHeader(plan["database"], reader.lsn, secrets.randbits(63) | 1, reader.time_us)
    beside = _beside(header.lsn, header.salt)
    files.mkdir("checkpoints")
    try:
        footer = _write_whole(files, beside, reader, header, _Throttle(plan.get("share", 1.0)))
    except Exception:  # it would keep the room that it has taken, on a disk that may be full
        with contextlib.suppress(OSError):
            files.unlink(beside)
        raise
    entry = CheckpointEntry(footer.lsn, footer.keys, footer.size, header.time_us, header.salt, footer.digest)
    return {
        "lsn": entry.lsn,
        "keys": entry.keys,
        "bytes": entry.size,
        "time_us": entry.time_us,
        "salt": entry.salt,
        "digest": entry.digest,
        "reason": plan.get("reason", ""),
    }


def put_in_place(files: Files, entry: CheckpointEntry) -> None:
    """Gives what `write` has written its name, durably; done again, nothing happens. OSError; Error: it has
    gone."""
    try:
        files.rename(_beside(entry.lsn, entry.salt), entry.path)
    except FileNotFoundError as error:  # a writer that has died since had got so far
        try:
            _open_named(files, entry)[0].close()
        except CorruptionError:  # one that began from disk has deleted what no manifest named
            raise Error(
                f"the checkpoint of LSN {entry.lsn} has gone: the writer was started again from disk while "
                "it was written; take another one"
            ) from error
    files.sync_dir("checkpoints")


def discard(files: Files, entry: CheckpointEntry) -> None:
    """Deletes what `write` has written and nobody needs; if the disk refuses, a later checkpoint does."""
    with contextlib.suppress(OSError):
        files.unlink(_beside(entry.lsn, entry.salt))


def _beside(lsn: int, salt: int) -> str:
    return f"checkpoints/{lsn:020d}-{salt:016x}.tmp"


def entry_of(meta: Mapping[str, Any]) -> CheckpointEntry:
    """The manifest's entry for what ``write`` has written."""
    return CheckpointEntry(
        meta["lsn"], meta["keys"], meta["bytes"], meta["time_us"], meta["salt"], bytes(meta["digest"])
    )


def _write_whole(
    files: Files, path: str, reader: kernel.Reader, header: CheckpointHeader, throttle: _Throttle
) -> CheckpointFooter:
    file = files.open(path, write=True, create=True)
    try:
        footer = _write_blocks(file, reader, header, throttle)
        file.datasync()
        read_back = _check_whole(file, path)
    finally:
        file.close()
    if read_back != footer:
        raise CorruptionError(
            "a new checkpoint does not read back as written: the disk is not reliable", path
        )
    return footer


def _write_blocks(
    file: File, reader: kernel.Reader, header: CheckpointHeader, throttle: _Throttle
) -> CheckpointFooter:
    digest = hashlib.blake2b(digest_size=16)
    offset, keys, index = HEADER_BYTES, 0, 0
    file.write_all(header.encode(), 0)
    for payload, count in reader.batches(BLOCK_BYTES):
        block = kernel.ckpt_seal(header.salt, index, count, payload)
        file.write_all(block + payload, offset)
        digest.update(block)
        offset, keys, index = offset + len(block) + len(payload), keys + count, index + 1
        throttle.rest()
    footer = CheckpointFooter(header.lsn, keys, index, offset - HEADER_BYTES, digest.digest())
    file.write_all(footer.encode(header.salt), offset)
    return footer


# ---------------------------------------------------------------------------------------------------- reading


def read_header(file: File, path: str) -> CheckpointHeader:
    """The header; CorruptionError, FormatTooNew."""
    head = file.pread(_HEADER.size, 0)
    if len(head) < _HEADER.size:
        raise CorruptionError(f"{path} is too short for a checkpoint", path, len(head))
    magic, version, _, database, lsn, salt, time_us, crc = _HEADER.unpack(head)
    if magic != MAGIC or crc != kernel.crc32c(head[:-4]):
        raise CorruptionError(f"the header of {path} is damaged", path, 0)
    if version > FORMAT:
        raise FormatTooNew(
            f"{path} has format {version}, this version of memdb reads up to {FORMAT}: use a newer memdb",
            found=version,
            supported=FORMAT,
        )
    return CheckpointHeader(database, lsn, salt, time_us)


def read_footer(file: File, path: str, salt: int) -> CheckpointFooter:
    """The footer; CorruptionError."""
    at = file.size() - FOOTER_BYTES
    tail = file.pread(FOOTER_BYTES, max(at, 0))
    if at < HEADER_BYTES or len(tail) < FOOTER_BYTES:
        raise CorruptionError(f"{path} is cut short: it has no footer", path, max(at, 0))
    magic, lsn, keys, count, size, digest, _, crc = _FOOTER.unpack(tail)
    if magic != END_MAGIC or crc != kernel.crc32c(tail[:-4], kernel.crc32c(struct.pack("<Q", salt))):
        raise CorruptionError(f"the footer of {path} is damaged, or the file is cut short", path, at)
    if size != at - HEADER_BYTES:
        raise CorruptionError(
            f"{path} has {at - HEADER_BYTES} bytes of blocks, its footer says {size}", path, at
        )
    if keys > size // _LEAST_ITEM:  # the hash table is made for as many
        raise CorruptionError(f"{path} can't hold {keys} keys in {size} bytes", path, at)
    return CheckpointFooter(lsn, keys, count, size, digest)


_Block = tuple[int, memoryview, int, bytes]


def blocks(file: File, path: str, salt: int, end: int) -> Iterator[_Block]:
    """(offset, payload, count, header bytes) of each block, checked; CorruptionError at the first bad one."""
    offset, index = HEADER_BYTES, 0
    room = BLOCK_BYTES + (16 << 10)
    while offset < end:
        buffer = bytearray(room)  # one a block: the payload stays valid while the next one is read
        view = memoryview(buffer)
        got = file.pread_into(view[: min(len(buffer), end - offset)], offset)
        size = _BLOCK.unpack_from(buffer)[3] if got >= _BLOCK.size else 0
        if got - _BLOCK.size < size <= end - offset - _BLOCK.size:  # one item above the usual size
            room = _BLOCK.size + size
            continue
        found = kernel.ckpt_check(view[:got], 0, salt, index)
        if found is None:
            raise CorruptionError(f"block {index} of {path} is damaged", path, offset)
        count, size = found
        yield offset, view[_BLOCK.size : _BLOCK.size + size], count, bytes(view[: _BLOCK.size])
        offset, index = offset + _BLOCK.size + size, index + 1


def _ahead(items: Iterator[_Block]) -> Iterator[_Block]:
    """The same, one ahead: a block is read and checked on another core while the one before it is loaded."""
    with ThreadPoolExecutor(1, "memdb-checkpoint") as pool:
        coming = pool.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = pool.submit(next, items, None)
            yield item


def _check_whole(file: File, path: str) -> CheckpointFooter:
    header = read_header(file, path)
    footer = read_footer(file, path, header.salt)
    _walk(file, path, header, footer, None)
    return footer


def _walk(
    file: File,
    path: str,
    header: CheckpointHeader,
    footer: CheckpointFooter,
    store: kernel.Store | None,
    *,
    threads: bool = False,
) -> None:
    digest = hashlib.blake2b(digest_size=16)
    keys = number = 0
    found = blocks(file, path, header.salt, HEADER_BYTES + footer.size)
    for offset, payload, count, block in _ahead(found) if threads else found:
        digest.update(block)
        if store is not None:
            try:
                store.ckpt_load(payload, count, header.lsn)
            except CorruptionError as error:
                raise CorruptionError(
                    f"block {number} of {path} does not load: {error.message}", path, offset
                ) from error
        keys, number = keys + count, number + 1
    if (keys, number, digest.digest(), header.lsn) != (footer.keys, footer.blocks, footer.digest, footer.lsn):
        raise CorruptionError(f"{path} does not hold what its footer says", path, HEADER_BYTES + footer.size)


def _open_named(files: Files, entry: CheckpointEntry) -> tuple[File, CheckpointHeader, CheckpointFooter]:
    try:
        file = files.open(entry.path)
    except FileNotFoundError as error:
        raise CorruptionError(f"{entry.path} is named in the MANIFEST and missing", entry.path) from error
    try:
        header = read_header(file, entry.path)
        footer = read_footer(file, entry.path, header.salt)
        if (header.lsn, header.salt, footer.digest) != (entry.lsn, entry.salt, entry.digest):
            raise CorruptionError(
                f"{entry.path} is not the checkpoint that the MANIFEST names", entry.path, 0
            )
    except BaseException:
        file.close()
        raise
    return file, header, footer


def verify(files: Files, entry: CheckpointEntry) -> None:
    """Reads a checkpoint through; CorruptionError."""
    file, header, footer = _open_named(files, entry)
    try:
        _walk(file, entry.path, header, footer, None)
    finally:
        file.close()


def load(files: Files, entry: CheckpointEntry, store: kernel.Store, *, threads: bool = False) -> None:
    """Fills a fresh store. CorruptionError: the store is spoilt, make another one. ArenaFullError.
    ``threads``: blocks are read and checked on another core."""
    file, header, footer = _open_named(files, entry)
    try:
        store.bulk_begin(footer.keys)
        _walk(file, entry.path, header, footer, store, threads=threads)
        store.bulk_finish()
        store.raise_time_floor(header.time_us)
    finally:
        file.close()


def remove_leftovers(files: Files, named: frozenset[str]) -> list[str]:
    """Deletes what no manifest names (a checkpointer died, a checkpoint was retired); the paths."""
    gone = [f"checkpoints/{name}" for name in files.listdir("checkpoints") if _OURS.fullmatch(name)]
    gone = [path for path in gone if path not in named]
    for path in gone:
        files.unlink(path)
    return gone
