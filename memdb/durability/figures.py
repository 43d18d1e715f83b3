"""What the engine tells about itself: plain values for db.info() and db.disk_usage(). Reads only."""

from dataclasses import asdict
from typing import Any, Final

from memdb.durability.files import Files
from memdb.durability.manifest import CheckpointEntry, Manifest
from memdb.durability.recovery import RecoveryReport
from memdb.errors import Error
from memdb.shm import _kernel as kernel

__all__ = ["disk_usage", "info"]

_INTERNAL: Final = frozenset({"hash_seed", "min_pinned", "ready", "time_floor"})
"""Words of an arena's header that mean something to the kernel only."""

_PLAIN: Final = 1
"""The key space of the mapping; the others hold the system's own records, as outcomes of commits."""


def info(
    commit: kernel.Commit,
    now: Manifest | None,
    durable_lsn: int,
    failure: Error | None,
    report: RecoveryReport,
) -> dict[str, Any]:
    """LSNs, arena, wal, checkpoints, recovery, failure."""
    figures, store = commit.figures(), commit.store
    arena = store.figures()
    names = ("commits", "rejected", "conflicts", "rounds", "syncs", "parks", "pending")
    return {
        "published_lsn": figures["published_lsn"],
        "applied_lsn": figures["applied_lsn"],
        "durable_lsn": durable_lsn,
        "generation": store.generation,
        "arena": {
            **{name: value for name, value in arena.items() if name not in _INTERNAL},
            "keys": arena["counts"][_PLAIN],
        },
        "commits": {name: figures[name] for name in names},
        "wal": {
            "logged": bool(now and now.logged),
            "segment": figures["segment"],
            "tail": figures["tail"],
            "capacity": figures["capacity"],
            "bytes_logged": figures["bytes_logged"],
            "segments": [one.number for one in now.segments] if now else [],
            "oldest_lsn": now.oldest_lsn if now else 0,
            "term": now.term if now else 0,
            "failure": None if failure is None else failure.to_wire(),
        },
        "checkpoints": [_shown(one) for one in now.checkpoints] if now else [],
        "dirty_keys": figures["dirty_keys"],
        "recovery": asdict(report),
        "database": now.database.hex() if now else "",
    }


def _shown(entry: CheckpointEntry) -> dict[str, Any]:
    return {
        "lsn": entry.lsn,
        "keys": entry.keys,
        "bytes": entry.size,
        "time_us": entry.time_us,
        "path": entry.path,
    }


def disk_usage(files: Files) -> dict[str, int]:
    """Bytes of the directory by part, their sum, and how many files there are."""
    manifest = files.read("MANIFEST")
    usage = {"manifest": len(manifest or b"")}
    count = int(manifest is not None)
    for directory in ("wal", "checkpoints", "quarantine"):
        usage[directory] = 0
        for name in files.listdir(directory):
            try:
                file = files.open(f"{directory}/{name}")
            except FileNotFoundError:
                continue
            usage[directory] += file.size()
            count += 1
            file.close()
    return {**usage, "total": sum(usage.values()), "files": count}
