"""What the files of a database say, row by row: for `memdb wal dump` and `memdb checkpoint dump`.

Owns: reading for show. It starts nothing, writes nothing, and goes on behind damage, which gets rows of its
own; so it works on a copy, on damaged files, and beside a running engine.
"""

import os
from collections.abc import Iterator
from typing import Any, Final

from memdb.durability import checkpoints, manifest, segments
from memdb.durability.files import File, RealFiles
from memdb.errors import CorruptionError, NotADatabase
from memdb.shm import _kernel as kernel

__all__ = ["checkpoint_rows", "segment_rows", "wal_rows"]

_TYPES: Final = {
    kernel.RECORD_COMMIT: "commit",
    kernel.RECORD_MARK: "mark",
    kernel.RECORD_LINK: "link",
}
_VERDICTS: Final = {
    kernel.RECORD_BAD_HEADER: "the header of a record is damaged or torn",
    kernel.RECORD_BAD_BODY: "the body of a record is damaged or torn",
    kernel.RECORD_TOO_NEW: "a record of a later version of memdb",
}
Row = dict[str, Any]


def wal_rows(path: str) -> Iterator[Row]:
    """Rows of a log: of all segments of a database directory, or of one segment file.

    Row keys: file, offset, type ("header", "commit", "mark", "link", "damage"), lsn, durable_lsn, time_us,
    client, request, count, and per type: operations, lsn_limit, previous_segment, previous_last_lsn, term,
    message.
    """
    files, names = _locate(path, "wal", ".log")
    try:
        for name in names:
            file = files.open(name)
            try:
                yield from segment_rows(file.pread(file.size(), 0), name)
            finally:
                file.close()
    finally:
        files.close()


def segment_rows(image: bytes, name: str) -> Iterator[Row]:
    """Rows of one segment's bytes."""
    try:
        header = segments.read_header(image, name)
    except CorruptionError as error:
        yield _damage(name, error.offset or 0, error.message)
        return
    yield {
        "file": name,
        "offset": 0,
        "type": "header",
        "number": header.number,
        "database": header.database.hex(),
        "salt": header.salt,
        "capacity": header.capacity,
        "time_us": header.created_us,
    }
    offset = kernel.SEGMENT_HEADER
    while True:
        record = kernel.record_read(image, offset, header.salt)
        if record.verdict == kernel.RECORD_GOOD:
            yield _record_row(record, name)
            offset += record.padded
            continue
        beyond = kernel.record_find(image, offset + 8, header.salt)
        if record.verdict == kernel.RECORD_END and beyond is None:
            stray = kernel.last_nonzero(image, offset)
            if stray > offset:
                yield _damage(
                    name, offset, f"{stray - offset} bytes behind the end of the log that are no record"
                )
            return
        yield _damage(name, offset, _VERDICTS.get(record.verdict, "nothing is written here, but further on"))
        if beyond is None:
            return
        offset = beyond.offset
        if beyond.verdict != kernel.RECORD_GOOD:
            yield _damage(name, offset, _VERDICTS[beyond.verdict], beyond.lsn)
            offset += 8


def _record_row(record: kernel.Record, name: str) -> Row:
    row: Row = {
        "file": name,
        "offset": record.offset,
        "type": _TYPES.get(record.type, str(record.type)),
        "lsn": record.lsn,
        "durable_lsn": record.durable_lsn,
        "time_us": record.time_us,
    }
    if record.type == kernel.RECORD_COMMIT:
        row |= {"client": record.client_id.hex(), "request": record.request, "count": record.count}
        row["operations"] = kernel.parse_ops(record.body)
    else:
        words = [int.from_bytes(record.body[at : at + 8], "little") for at in range(0, len(record.body), 8)]
        names = ("lsn_limit", "previous_segment", "previous_last_lsn", "previous_last_crc", "term")
        row |= dict(zip(names, words, strict=False))
    return row


def checkpoint_rows(path: str) -> Iterator[Row]:
    """Rows of a checkpoint: of the newest one of a database directory, or of one checkpoint file.

    Row keys: file, offset, type ("header", "item", "footer", "damage"), and of items key, value, lsn,
    expires_us.
    """
    files, names = _locate(path, "checkpoints", ".ckpt")
    try:
        if not names:
            raise NotADatabase(f"{path} has no checkpoint yet", path=path)
        file = files.open(names[-1])
        try:
            yield from _checkpoint_rows(file, names[-1])
        finally:
            file.close()
    finally:
        files.close()


def _checkpoint_rows(file: File, name: str) -> Iterator[Row]:
    try:
        header = checkpoints.read_header(file, name)
        yield {
            "file": name,
            "offset": 0,
            "type": "header",
            "lsn": header.lsn,
            "database": header.database.hex(),
            "salt": header.salt,
            "time_us": header.time_us,
        }
        footer = checkpoints.read_footer(file, name, header.salt)
        end = checkpoints.HEADER_BYTES + footer.size
        for offset, payload, _, _ in checkpoints.blocks(file, name, header.salt, end):
            for key, value, lsn, expires_us in kernel.batch_items(bytes(payload)):
                yield {
                    "file": name,
                    "offset": offset,
                    "type": "item",
                    "lsn": lsn,
                    "key": key,
                    "value": value,
                    "expires_us": expires_us,
                }
        yield {
            "file": name,
            "offset": end,
            "type": "footer",
            "lsn": footer.lsn,
            "keys": footer.keys,
            "blocks": footer.blocks,
            "bytes": footer.size,
            "digest": footer.digest.hex(),
        }
    except CorruptionError as error:
        yield _damage(name, error.offset or 0, error.message)


def _damage(name: str, offset: int, message: str, lsn: int | None = None) -> Row:
    row: Row = {"file": name, "offset": offset, "type": "damage", "message": message}
    return row if lsn is None else {**row, "lsn": lsn}


def _locate(path: str, directory: str, suffix: str) -> tuple[RealFiles, list[str]]:
    """The files to show: relative to the database directory, or the one named."""
    if os.path.isdir(path):
        files = RealFiles.at(path)
        names = [f"{directory}/{name}" for name in files.listdir(directory) if name.endswith(suffix)]
        if not names and not files.exists(manifest.PATH):
            raise NotADatabase(
                f"{path} is no memdb directory: it has no MANIFEST and no {directory}/", path=path
            )
        return files, names
    folder, name = os.path.split(os.path.abspath(path))
    if not os.path.isfile(path):
        raise NotADatabase(f"{path} is neither a database directory nor a file of one", path=path)
    return RealFiles.at(folder), [name]
