"""Retention (rule L10): which checkpoints and segments a manifest may drop.

Owns: the decision only. Pure functions over manifests; the caller stores the new manifest first and deletes
files after that, so a crash in between leaves files that no manifest names, never a manifest that names
missing files.

Invariants: at least two checkpoints are kept; a segment goes only when every commit in it is at or below the
*oldest* kept checkpoint.
"""

from dataclasses import replace

from memdb.durability.manifest import CheckpointEntry, Manifest

__all__ = ["retire"]


def retire(manifest: Manifest, keep_checkpoints: int, keep_segments: int) -> Manifest:
    """``manifest`` without the checkpoints and segments that nothing needs any more."""
    kept: list[CheckpointEntry] = sorted(manifest.checkpoints, key=lambda one: one.lsn)
    kept = kept[-max(keep_checkpoints, 2) :]
    if len(kept) < 2:
        return manifest  # were the only one damaged, the log from the beginning would be all there is
    floor = kept[0].lsn
    segments = list(manifest.segments)
    needless = 0
    for segment in segments[:-1]:
        if segment.end is None or segment.end.lsn > floor:
            break
        needless += 1
    return replace(
        manifest, checkpoints=tuple(kept), segments=tuple(segments[max(needless - keep_segments, 0) :])
    )
