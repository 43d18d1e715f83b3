"""When a checkpoint is due: by time, by bytes of log, by changed keys.

Owns: what was last checkpointed and whether one is being taken. It says a reason once, until the checkpoint
was taken, has failed, or a minute is over without anybody taking it up. If nothing changed, nothing is ever
due, so that an idle engine never wakes.
"""

from collections.abc import Mapping
from typing import Final

from memdb.options import EngineOptions

__all__ = ["Triggers"]

_PATIENCE: Final = 60.0
_LONGEST: Final = 3600.0


class Triggers:
    """Times are monotonic seconds; figures are those of the commit loop."""

    def __init__(self, options: EngineOptions, now: float) -> None:
        self._options = options
        self._taken_at, self._taken_bytes, self._quiet_until = now, 0, 0.0

    def due(self, now: float, figures: Mapping[str, int]) -> str | None:
        """Why a checkpoint is due, or None."""
        if not self._options.logged or now < self._quiet_until or figures["dirty_keys"] == 0:
            return None
        if figures["dirty_keys"] >= self._options.checkpoint_dirty_keys:
            return "dirty_keys"
        if figures["bytes_logged"] - self._taken_bytes >= self._options.checkpoint_wal_bytes:
            return "wal_bytes"
        return "interval" if now - self._taken_at >= self._options.checkpoint_interval else None

    def said(self, now: float) -> None:
        """A reason was passed on."""
        self._quiet_until = now + _PATIENCE

    def planned(self, now: float) -> None:
        """A checkpoint is being written."""
        self._quiet_until = now + _LONGEST

    def settled(self, now: float, figures: Mapping[str, int]) -> None:
        """It was taken, or has failed."""
        self._taken_at, self._taken_bytes, self._quiet_until = now, figures["bytes_logged"], 0.0

    def next_look(self, now: float, figures: Mapping[str, int]) -> float | None:
        """When the time alone makes one due; None: never."""
        if not self._options.logged or figures["dirty_keys"] == 0:
            return None
        return max(self._taken_at + self._options.checkpoint_interval, self._quiet_until, now)
