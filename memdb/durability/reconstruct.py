"""A MANIFEST made anew from the files that it should name, when it is damaged, missing or an old copy.

Owns: the reasoning from segment headers, links and checkpoint files to a manifest. It changes nothing.

Invariants:

* Only files of one lineage count: one database id, or several that links (by number and checksum) join. If
  there are two that nothing joins, it is refused: which one is meant is not memdb's to guess.
* The chain of links from the newest segment says which segments are the log and where each one ends. What the
  chain passes over (left out by an earlier recovery, never used, retired) is not taken.
* A checkpoint counts as named if it is whole: it was written whole and read back before it got its name.
"""

from dataclasses import dataclass
from typing import Final

from memdb.durability import checkpoints, quarantine, segments
from memdb.durability.advice import FIRST_LSN
from memdb.durability.files import Files
from memdb.durability.manifest import PATH, CheckpointEntry, Manifest, SegmentEnd, SegmentEntry
from memdb.durability.report import Cut
from memdb.durability.segments import SegmentHeader
from memdb.errors import CorruptionError
from memdb.shm import _kernel as kernel

__all__ = ["Reconstruction", "reconstruct"]

_NO_DIGEST: Final = b""


@dataclass
class Reconstruction:
    """The manifest, and what could not be used for it."""

    manifest: Manifest
    cuts: list[Cut]
    notes: list[str]


@dataclass
class _Segment:
    path: str
    header: SegmentHeader
    image: bytes
    link: kernel.Link | None

    @property
    def number(self) -> int:
        return self.header.number


def reconstruct(files: Files, why: str) -> Reconstruction:
    """The manifest that the files speak for. ``why``: what is wrong with the one that is there.

    CorruptionError: there are files of several databases, or nothing to begin with. FormatTooNew, OSError.
    """
    cuts, notes = [_manifest_cut(files, why)], [f"the MANIFEST was made anew: {why}"]
    found = _read_segments(files, cuts)
    named = _read_checkpoints(files, cuts)
    ids = _lineage(found, named)
    chain = _chain(found, cuts, notes)
    device, inode = files.identity()
    headers = [one.header for one in found]
    links = [one.link for one in chain if one.link is not None]
    entries = _entries(chain)
    # Which of the ids is the present one: that of the newest segment, else of the newest checkpoint.
    newest = max(headers, key=lambda one: one.number).database if headers else _newest_of(named)
    manifest = Manifest(
        state="ready",
        logged=True,
        database=newest,
        ancestors=tuple(sorted(ids - {newest})),
        device=device,
        inode=inode,
        term=max((link.term for link in links), default=1),
        next_segment=max([*segments.segment_numbers(files), *(one.number for one in headers)], default=0) + 1,
        durable_lsn=0,
        lsn_limit=max((link.lsn_limit for link in links), default=0),
        created_us=min(
            [*(one.created_us for one in headers), *(entry.time_us for _, entry in named)], default=0
        ),
        segments=entries,
        checkpoints=tuple(entry for _, entry in sorted(named, key=lambda one: one[1].lsn)),
    )
    return Reconstruction(manifest, cuts, notes)


def _manifest_cut(files: Files, why: str) -> Cut:
    data = files.read(PATH)
    if data is None:
        return Cut(PATH, 0, 0, 0, 0, "missing", "", why)
    kept = f"{quarantine.DIRECTORY}/{PATH}-{kernel.crc32c(data):08x}"
    return Cut(PATH, 0, len(data), 0, 0, "manifest", kept, why)


# -------------------------------------------------------------------------------------------- what there is


def _read_segments(files: Files, cuts: list[Cut]) -> list[_Segment]:
    """All segments whose header can be read; one copy of each."""
    found: dict[tuple[int, int], _Segment] = {}
    for name in files.listdir("wal"):
        path = f"wal/{name}"
        file = files.open(path)
        try:
            image = segments.read_around(file, file.size(), 0)
        finally:
            file.close()
        try:
            header = segments.read_header(image, path)
        except CorruptionError as error:
            size = kernel.last_nonzero(image, 0)
            if size > kernel.SEGMENT_HEADER:  # else a spare that was not finished
                cuts.append(Cut(path, 0, size, 0, 0, "damage", quarantine.name_for(path, 0), error.message))
            continue
        link = kernel.replay_scan(image, kernel.SEGMENT_HEADER, header.salt).link
        if link is None and kernel.last_nonzero(image, kernel.SEGMENT_HEADER) <= kernel.SEGMENT_HEADER:
            continue  # a spare
        found.setdefault((header.number, header.salt), _Segment(path, header, image, link))
    return sorted(found.values(), key=lambda one: (one.number, one.header.created_us))


def _read_checkpoints(files: Files, cuts: list[Cut]) -> list[tuple[bytes, CheckpointEntry]]:
    """(database, entry) of each checkpoint whose header can be read, whole or not."""
    found = []
    for name in files.listdir("checkpoints"):
        if not name.endswith(".ckpt"):
            continue
        path = f"checkpoints/{name}"
        file = files.open(path)
        try:
            size = file.size()
            header = checkpoints.read_header(file, path)
            try:
                footer = checkpoints.read_footer(file, path, header.salt)
                keys, digest, blocks = footer.keys, footer.digest, footer.size
            except CorruptionError:  # it will not load as a whole; its blocks may be sound
                keys, digest, blocks = 0, _NO_DIGEST, size - checkpoints.HEADER_BYTES
        except CorruptionError as error:
            kept = quarantine.name_for(path, 0)
            cuts.append(Cut(path, 0, size, 0, 0, "damage", kept, error.message))
            continue
        finally:
            file.close()
        entry = CheckpointEntry(header.lsn, keys, blocks, header.time_us, header.salt, digest)
        if entry.path == path:
            found.append((header.database, entry))
        else:
            kept = quarantine.name_for(path, 0)
            cuts.append(
                Cut(path, 0, size, 0, 0, "foreign", kept, f"it is the checkpoint of LSN {header.lsn}")
            )
    return found


def _newest_of(named: list[tuple[bytes, CheckpointEntry]]) -> bytes:
    return max(named, key=lambda one: one[1].lsn)[0]


def _lineage(found: list[_Segment], named: list[tuple[bytes, CheckpointEntry]]) -> frozenset[bytes]:
    """The ids of the one database that is there; CorruptionError if there are two, or none."""
    holders: dict[bytes, list[str]] = {}
    for one in found:
        holders.setdefault(one.header.database, []).append(one.path)
    for database, entry in named:
        holders.setdefault(database, []).append(entry.path)
    if not holders:
        raise CorruptionError(
            "no segment and no checkpoint has a header that can be read: there is nothing to begin with",
            PATH,
            0,
            FIRST_LSN,
        )
    joined = {database: database for database in holders}
    for one in found:
        before = _before(one, found)
        if before is not None and _end_in(before, one.link) is not None:
            old, new = joined[before.header.database], joined[one.header.database]
            joined = {name: new if group == old else group for name, group in joined.items()}
    if len(set(joined.values())) > 1:
        shown = "; ".join(f"{name.hex()}: {', '.join(paths[:3])}" for name, paths in holders.items())
        raise CorruptionError(
            f"there are files of several databases, and no MANIFEST to tell which is meant ({shown}): move "
            "the files of the others away",
            PATH,
            0,
            FIRST_LSN,
        )
    return frozenset(holders)


# ------------------------------------------------------------------------------------------------ the chain


def _before(one: _Segment, found: list[_Segment]) -> _Segment | None:
    if one.link is None:
        return None
    return next((other for other in found if other.number == one.link.previous_segment), None)


def _end_in(before: _Segment, link: kernel.Link | None) -> SegmentEnd | None:
    """Where ``before`` ends by the link that follows it; None if it lacks the record that is named."""
    if link is None:
        return None
    offset = kernel.SEGMENT_HEADER
    while (record := kernel.record_find(before.image, offset, before.header.salt)) is not None:
        if record.header_crc == link.previous_last_crc:
            end = record.offset + record.padded
            return SegmentEnd("sealed", end, min(record.lsn, link.previous_last_lsn), record.header_crc)
        offset = record.offset + (record.padded if record.verdict == kernel.RECORD_GOOD else 8)
    return None


def _chain(found: list[_Segment], cuts: list[Cut], notes: list[str]) -> list[_Segment]:
    """The segments of the log, oldest first: from the newest back, without those that links pass over."""
    chain: list[_Segment] = []
    below: int | None = None
    for one in sorted(found, key=lambda one: -one.number):
        if below is not None and one.number > below:
            notes.append(f"{one.path} is not part of the log: the links pass over it")
            continue
        if chain and chain[0].number == one.number:  # two that claim one number: only the link can tell
            if chain[1:] and _end_in(one, chain[1].link) is not None:
                chain[0] = one
            continue
        chain.insert(0, one)
        below = one.link.previous_segment if one.link is not None else None
    for one in found:
        if not any(one is other for other in chain):
            size = kernel.last_nonzero(one.image, 0)
            kept = quarantine.name_for(one.path, 0)
            cuts.append(Cut(one.path, 0, size, 0, 0, "foreign", kept, "not part of the log"))
    return chain


def _entries(chain: list[_Segment]) -> tuple[SegmentEntry, ...]:
    entries: list[SegmentEntry] = []
    reached = 0
    for position, one in enumerate(chain):
        header, link = one.header, one.link
        last_lsn = kernel.replay_scan(one.image, kernel.SEGMENT_HEADER, header.salt).last_lsn
        end = None
        if position + 1 < len(chain):
            end = _end_of(one, chain[position + 1], last_lsn)
        if link is None:
            entry = SegmentEntry(one.number, header.salt, header.capacity, reached, 1, end)
        else:
            after = kernel.record_read(one.image, kernel.SEGMENT_HEADER, header.salt).lsn
            follows = link.previous_last_lsn
            entry = SegmentEntry(one.number, header.salt, header.capacity, after, link.term, end, follows)
        reached = max(reached, last_lsn, end.lsn if end is not None else 0)
        entries.append(entry)
    return tuple(entries)


def _end_of(one: _Segment, following: _Segment, last_lsn: int) -> SegmentEnd:
    """Its end by the next link; where that record is gone, the end of what is there: damage, to a reader."""
    link = following.link
    if link is not None and link.previous_segment == one.number:
        found = _end_in(one, link)
        if found is not None:
            return found
        last_lsn = max(last_lsn, link.previous_last_lsn)
    size = kernel.last_nonzero(one.image, kernel.SEGMENT_HEADER)
    return SegmentEnd(
        "sealed", -(-size // 8) * 8, last_lsn, link.previous_last_crc if link is not None else 0
    )
