"""How a writer comes to its store: a new database, recovery from disk, or reading a dead writer's arena
(rules L8, L9, G1).

Owns: the decision between them, and the arena of the coming generation. The engine opens it and tells the
world.

Invariants:

* An arena that readers may still stand in is closed to new pins, waited for and revoked before it is
  formatted anew; one in which zero-copy views stand is never formatted (rule R4): it takes a fresh segment.
* An arena is given up for want of room (rule G3) only after checkpoint and log on disk were read through and
  hold all that it has published, and is punched only when no read can be under way in it (rule R6).
* What a dead writer left in the log buffer is in the file and synced before any of it becomes visible
  (invariants 4, 6).
* Creation first makes a manifest that says `creating`, durably.
"""

import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from memdb.durability import manifest, recovery, segments
from memdb.durability.files import Clock, Files
from memdb.durability.manifest import Manifest
from memdb.durability.reconstruct import Reconstruction
from memdb.durability.recovery import Recovered, RecoveryReport
from memdb.errors import ArenaFullError, CorruptionError, Error, OptionMismatch
from memdb.options import EngineOptions
from memdb.shm import _kernel as kernel

__all__ = [
    "PUNCH_FROM",
    "EngineSegments",
    "Generations",
    "ViewsStand",
    "create",
    "flush_log_buffer",
    "give_up_arena",
    "recover",
]

_GRACE: Final = 1.0
"""Seconds that readers of an arena have before they are revoked (rule G3)."""
_ACKNOWLEDGED_WITHIN: Final = 10.0
"""Seconds in which a revoked read has to end before its arena may be punched."""
PUNCH_FROM: Final = 1 << 16
"""An arena is punched from this offset on: its header stays readable for whoever comes late."""
_ALL: Final = (1 << 48) - 1
_LINK_ROOM: Final = 256
"""More bytes than the link takes that a segment begins with."""
_REVOKED: Final = 3
_MIB: Final = 1 << 20
_BESIDE_KEY: Final = 96
"""Bytes that a key takes in an arena beside itself and its value, at most."""
_UNUSABLE: Final = (BlockingIOError, ValueError, CorruptionError)


class ViewsStand(Error):
    """Zero-copy views stand in the arena that the next generation needs: nothing was changed."""


@dataclass
class EngineSegments:
    """The shared memory of a group, mapped by the writer. ``group_lease``: the writer's own lease, for its
    pins. ``epoch``: what the next generation is shown under; ``past_epochs``: what this group has shown
    generations under before one of its segments was replaced."""

    arenas: tuple[kernel.Mapping, kernel.Mapping]
    arena_fds: tuple[int, int]
    board: kernel.Mapping
    logbuf: kernel.Mapping | None
    page: kernel.Mapping
    group_lease: kernel.Mapping
    epoch: int
    past_epochs: frozenset[int] = frozenset()


class Generations:
    """The two arenas by turns: which generation is next, and a fresh store for it."""

    def __init__(self, segs: EngineSegments, options: EngineOptions, clock: Clock, *, patient: bool) -> None:
        self._segs, self._options, self._clock, self._patient = segs, options, clock, patient

    @property
    def present(self) -> int:
        """The generation that the page shows; 0 if none of this group."""
        word = kernel.page_word(self._segs.page)
        ours = word >> 32 == self._segs.epoch or word >> 32 in self._segs.past_epochs
        return word & 0xFFFFFFFF if ours else 0

    def clear(self, parity: int, leases: Iterable[kernel.Mapping]) -> None:
        """Readies an arena for being formatted: no new pins, a second's grace, then revocation.

        Raises ViewsStand: somebody's zero-copy views stand there.
        """
        arena, leases = self._segs.arenas[parity], list(leases)
        generation = kernel.arena_figures(arena)["generation"]
        if generation:  # else a fresh segment: the pins of this parity stand in the one that it replaces
            kernel.arena_close(arena)
        until = self._clock.monotonic() + _GRACE
        pause = threading.Event()
        while self._patient and self._clock.monotonic() < until:
            if not _pinned(leases, parity):
                break
            pause.wait(0.005)
        for lease in leases:
            for slot, _, lsn, _, _ in kernel.lease_readers(lease, parity):
                kernel.lease_revoke(lease, parity, slot, lsn)
        # Revoked readers make no more views. In a generation that was never shown none can stand.
        views = sum(kernel.lease_hazards(lease, parity) for lease in leases)
        if views and 0 < generation <= self.present:
            raise ViewsStand(
                f"{views} zero-copy views stand in the arena that the next generation needs: "
                "release them first"
            )

    def give_back(self, parity: int, leases: Iterable[kernel.Mapping]) -> None:
        """Gives back what a generation has taken that could not be built; not while a read may be under way
        there (rule R6): then the next attempt has it."""
        fd = self._segs.arena_fds[parity]
        if fd >= 0 and not any(kernel.lease_readers(lease, parity) for lease in leases):
            kernel.punch(fd, PUNCH_FROM, self._segs.arenas[parity].size - PUNCH_FROM)

    def give_up(self, leases: Iterable[kernel.Mapping]) -> None:
        """Tears the present arena down and gives the memory of both back (rules G3, R6).

        ArenaFullError: zero-copy views stand in it, or a read in it does not end (its process is stopped).
        """
        leases, parity = list(leases), self.present & 1
        views = sum(kernel.lease_hazards(lease, parity) for lease in leases)
        if views:
            raise _no_room(f"{views} zero-copy views stand in the present one: release them first")
        kernel.arena_close(self._segs.arenas[parity])
        quiet = self._revoke_idle(leases, parity)
        try:
            self.clear(parity, leases)
        except ViewsStand as error:
            raise _no_room(f"{error.message} (they were made a moment ago)") from error
        until = self._clock.monotonic() + _ACKNOWLEDGED_WITHIN
        pause = threading.Event()
        while reads := self._reads_under_way(leases, quiet):
            if not self._patient or self._clock.monotonic() >= until:
                raise _no_room(
                    f"{reads} revoked reads in the present one did not end within "
                    f"{_ACKNOWLEDGED_WITHIN:g} s: continue or end the processes that are stopped in one"
                )
            pause.wait(0.005)
        for arena, fd in zip(self._segs.arenas, self._segs.arena_fds, strict=True):
            if fd >= 0:
                kernel.punch(fd, PUNCH_FROM, arena.size - PUNCH_FROM)

    def _revoke_idle(self, leases: list[kernel.Mapping], parity: int) -> set[tuple[int, int, int]]:
        """Revokes open snapshots after the grace; (lease, parity, slot) of those in which nobody was reading.

        Their owners notice before they read again, which may be never, so nobody waits for them.
        """
        until = self._clock.monotonic() + _GRACE
        pause = threading.Event()
        while self._patient and self._clock.monotonic() < until:
            if not _pinned(leases, parity):
                break
            pause.wait(0.005)
        return {
            (number, side, slot)
            for number, lease in enumerate(leases)
            for side in (0, 1)
            for slot, _, lsn, _, _ in kernel.lease_readers(lease, side)
            if kernel.lease_revoke_idle(lease, side, slot, lsn)
        }

    @staticmethod
    def _reads_under_way(leases: list[kernel.Mapping], quiet: set[tuple[int, int, int]]) -> int:
        return sum(
            not (state == _REVOKED and (number, side, slot) in quiet)
            for number, lease in enumerate(leases)
            for side in (0, 1)
            for slot, state, _, _, _ in kernel.lease_readers(lease, side)
        )

    def make(self, generation: int, leases: Iterable[kernel.Mapping] = ()) -> kernel.Store:
        """A fresh store in the arena of ``generation``."""
        parity = generation & 1
        self.clear(parity, leases)
        return kernel.Store(
            self._segs.arenas[parity],
            self._segs.arena_fds[parity],
            limit=self._options.max_memory,
            generation=generation,
            hash_seed=secrets.randbits(64),
            progress=self._segs.board,
        )

    def show(self, generation: int) -> None:
        """Tells every client (rule G2): one store."""
        kernel.page_store(self._segs.page, self._segs.epoch << 32 | generation)


def _pinned(leases: list[kernel.Mapping], parity: int) -> bool:
    """Does anybody still hold a pin? Who was revoked before has had his grace."""
    return any(pin[1] != _REVOKED for lease in leases for pin in kernel.lease_readers(lease, parity))


# -------------------------------------------------------------------------------------------------- creation


def new_manifest(files: Files, clock: Clock, *, logged: bool) -> Manifest:
    """The first manifest of a database."""
    device, inode = files.identity()
    return Manifest(
        state="creating",
        logged=logged,
        database=secrets.token_bytes(16),
        ancestors=(),
        device=device,
        inode=inode,
        term=1,
        next_segment=1,
        durable_lsn=0,
        lsn_limit=0,
        created_us=clock.time_us(),
    )


def create(files: Files, clock: Clock, *, logged: bool) -> Manifest:
    """Makes the manifest that says `creating`, and the directories. The first segment makes it ready."""
    made = new_manifest(files, clock, logged=logged)
    manifest.store(files, made)
    files.mkdir("wal")
    files.mkdir("checkpoints")
    files.sync_dir()
    return replace(made, state="ready")


def load_or_create(
    files: Files, clock: Clock, options: EngineOptions
) -> tuple[Manifest, bool, Reconstruction | None]:
    """The manifest to start from, whether the database is new, and how the manifest was made anew, if it was.
    All errors of recovery.find_manifest; OptionMismatch."""
    found, made = recovery.find_manifest(files, options.recovery)
    if found is None or found.state == "creating":
        return create(files, clock, logged=options.logged), True, None
    if found.logged and not options.logged:
        raise OptionMismatch(
            "this database has a log: durability='none' is for a database of its own; "
            "open it with memory, os or full",
            mismatches=[("durability", "none", "memory, os or full")],
        )
    if not found.logged:  # nothing is on disk but this manifest
        return create(files, clock, logged=options.logged), True, None
    return found, False, made


def adopt(files: Files, found: Manifest) -> tuple[Manifest, bool]:
    """A copied directory gets an identity of its own (rule L9); whether this is one."""
    device, inode = files.identity()
    if (found.device, found.inode) == (device, inode):
        return found, False
    ancestors = tuple(dict.fromkeys((*found.ancestors, found.database)))
    adopted = replace(
        found, database=secrets.token_bytes(16), ancestors=ancestors, device=device, inode=inode
    )
    return adopted, True


def recover(
    files: Files,
    found: Manifest,
    generations: Generations,
    options: EngineOptions,
    board: kernel.Mapping,
    leases: Iterable[kernel.Mapping] = (),
    *,
    threads: bool = False,
    made: Reconstruction | None = None,
) -> Recovered:
    """Recovery from disk into the next generation."""
    adopted, new_identity = adopt(files, found)
    generation = generations.present + 1
    total = sum(one.keys for one in adopted.checkpoints[-1:])
    kernel.board_set(board, progress_done=0, progress_total=total)
    standing = list(leases)
    try:
        recovered = recovery.recover(
            files,
            adopted,
            lambda: generations.make(generation, standing),
            options.recovery,
            threads=threads,
            made=made,
        )
    except ArenaFullError as error:
        if "/dev/shm" in error.message:
            raise
        raise _does_not_fit(adopted, options.max_memory) from error
    recovered.report.new_identity = new_identity
    recovered.manifest = replace(recovered.manifest, term=found.term + 1)
    return recovered


# -------------------------------------------------------------------------------------- a dead writer's arena


def from_arena(
    segs: EngineSegments, generations: Generations, leases: list[kernel.Mapping]
) -> tuple[kernel.Store, int, int] | None:
    """(store, its LSN, records applied from the log buffer) read from the old generation; None if it can't be
    used."""
    old = generations.present
    if old == 0:
        return None
    figures = kernel.arena_figures(segs.arenas[old & 1])
    kernel.board_set(segs.board, progress_done=0, progress_total=sum(figures["counts"]))
    store = generations.make(old + 1, leases)
    try:
        lsn = store.copy_from(segs.arenas[old & 1], old & 1, segs.group_lease)
    except _UNUSABLE:
        return None
    except ArenaFullError:
        generations.give_back((old + 1) & 1, leases)
        raise
    applied = replay_buffer(segs, store, lsn)
    return None if applied is None else (store, *applied)


def buffer_halves(segs: EngineSegments) -> list[tuple[int, int, memoryview, int]]:
    """(segment, salt, image up to its tail, bytes known durable) of each used half, oldest first."""
    if segs.logbuf is None:
        return []
    words = kernel.logbuf_words(segs.logbuf)
    used = [half for half in words["halves"] if half["segment"] and half["segment"] <= words["current"]]
    return [
        (
            half["segment"],
            half["salt"],
            kernel.logbuf_image(segs.logbuf, half["segment"])[: half["tail"]],
            half["synced"],
        )
        for half in sorted(used, key=lambda half: half["segment"])
    ]


def replay_buffer(segs: EngineSegments, store: kernel.Store, after_lsn: int) -> tuple[int, int] | None:
    """Applies what the log buffer holds above ``after_lsn``: (last LSN, records). None: its bytes are
    damaged. CorruptionError: commits are missing between the arena and the buffer, or between its halves."""
    lsn, records = after_lsn, 0
    for number, salt, image, _ in buffer_halves(segs):
        first = image[: kernel.SEGMENT_HEADER + _LINK_ROOM]
        link = kernel.replay_scan(first, kernel.SEGMENT_HEADER, salt).link
        if link is None:
            return None
        if link.previous_last_lsn > lsn:
            raise CorruptionError(
                f"the log buffer goes on behind LSN {link.previous_last_lsn} (segment {number}), "
                f"what comes before it ends at {lsn}",
                "log buffer",
                0,
                lsn + 1,
            )
        result = store.replay(image, kernel.SEGMENT_HEADER, salt, after_lsn, _ALL)
        if result.end_offset != len(image):
            return None
        lsn, records = max(lsn, result.last_lsn), records + result.records
    return lsn, records


def flush_log_buffer(files: Files, segs: EngineSegments, found: Manifest) -> None:
    """Writes and syncs what files of the log lack and the buffer has: same bytes, same place (rule C4).

    What was written and is not known durable is written again: a sync of it may have failed, and then the
    next
    one would succeed without writing it. A segment that the manifest does not name yet has no commits, and
    is left alone.
    """
    named = {one.number: one.salt for one in found.segments if one.end is None}
    for number, salt, image, synced in buffer_halves(segs):
        if named.get(number) != salt:
            continue
        file = files.open(segments.path_of(number), write=True)
        try:
            file.write_all(image[synced:], synced)
            file.datasync()
        finally:
            file.close()


def give_up_arena(
    files: Files,
    segs: EngineSegments,
    generations: Generations,
    options: EngineOptions,
    leases: Iterable[kernel.Mapping],
) -> None:
    """Makes room where /dev/shm holds one arena only: what the present one has goes to disk, then its memory
    goes back (rule G3). Reads wait for the rebuild from disk that follows.

    ArenaFullError, CorruptionError (the disk can't replace the arena), OSError: the group can't go on.
    """
    found = manifest.load(files)
    if found is None or found.state == "creating":
        raise _no_room("and nothing is on disk yet")
    flush_log_buffer(files, segs, found)
    published = kernel.arena_figures(segs.arenas[generations.present & 1])["published"]
    reached = recovery.check(files, found)
    if reached < published:
        raise _no_room(f"and the disk ends at LSN {reached}, the present one at {published}")
    generations.give_up(leases)


def _does_not_fit(found: Manifest, limit: int) -> ArenaFullError:
    """The content is larger than ``max_memory`` and the quarter that recovery may take beyond it."""
    newest = max(found.checkpoints, key=lambda one: one.lsn, default=None)
    keys, size = (newest.keys, newest.size) if newest else (0, 0)
    logged = sum(
        one.end.offset if one.end else one.capacity
        for one in found.segments
        if newest is None or one.end is None or one.end.lsn > newest.lsn
    )
    content = size + keys * _BESIDE_KEY + logged
    needed = -(-content * 9 // 8 // _MIB) * _MIB  # an eighth more for what is written next
    return ArenaFullError(
        f"the database does not fit into max_memory={limit} bytes (at a start a quarter more): its newest "
        f"checkpoint has {keys} keys in {size} bytes, and up to {logged} bytes of log follow. Nothing was "
        f"changed: open it with max_memory of {needed} bytes ({needed // _MIB}MiB)",
        needed=needed,
        limit=limit,
    )


def _no_room(why: str) -> ArenaFullError:
    return ArenaFullError(
        f"/dev/shm has room for one arena, and the next generation needs another; {why}. "
        "Give /dev/shm more room"
    )


def created_report() -> RecoveryReport:
    """The report of a new database."""
    return RecoveryReport("created")
