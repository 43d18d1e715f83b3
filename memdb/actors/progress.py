"""What the supervisor reads of the writer's work without asking: phase, progress, how far log and arena are.

Invariants:

* Reading only, with two exceptions that no writer stores: the number of clients, and, after the last
  writer has been given up, the phase, because nobody else is left to say it.
* Figures of a dead writer are judged, never repaired.
"""

from dataclasses import dataclass
from typing import Final

from memdb.shm import _kernel

__all__ = ["PHASES", "Progress", "WriterPosition"]

PHASES: Final = ("starting", "rebuilding", "serving", "read-only", "ending")
_READ_ONLY: Final = 3
_HEADER: Final = 4096


@dataclass(frozen=True)
class WriterPosition:
    """``logged``: LSN of the last whole record in the log buffer; ``published``: what readers may see."""

    logged: int
    published: int

    @property
    def in_flight(self) -> bool:
        """Is there a record that was logged and not yet seen?"""
        return self.logged > self.published


class Progress:
    """The words of one group."""

    def __init__(
        self, board: int, page: int, arenas: tuple[int, int], logbuf: tuple[int, int] | None
    ) -> None:
        self._board = _kernel.Mapping(board, _kernel.board_bytes(), writable=True)
        self._page = _kernel.Mapping(page, _kernel.page_bytes(), writable=False)
        self._arenas = [_map_header(fd) for fd in arenas]
        self._logbuf = None if logbuf is None else _kernel.Mapping(*logbuf, writable=False)

    def replace_arena(self, parity: int, fd: int) -> None:
        """A fresh segment has taken the place of an arena."""
        self._arenas[parity].close()
        self._arenas[parity] = _map_header(fd)

    def status(self) -> dict[str, object]:
        """For those who wait: {"phase", "done", "total"}, the latter two in keys or records."""
        words = _kernel.board_words(self._board)
        number = words["phase"]
        phase = PHASES[number] if number < len(PHASES) else f"phase {number}"
        return {"phase": phase, "done": words["progress_done"], "total": words["progress_total"]}

    def say_read_only(self) -> None:
        """No writer will come any more. Only while none runs."""
        _kernel.board_set(self._board, phase=_READ_ONLY, writer_pid=0)

    def say_clients(self, count: int) -> None:
        _kernel.board_set(self._board, clients=count)

    def word(self) -> int:
        """Attach epoch << 32 | generation, as every client sees it."""
        return _kernel.page_word(self._page)

    def position(self) -> WriterPosition:
        """Where a writer that does not run any more has stopped."""
        published = _kernel.arena_figures(self._arenas[self.word() & 1])["published"]
        if self._logbuf is None:
            return WriterPosition(published, published)
        words = _kernel.logbuf_words(self._logbuf)
        return WriterPosition(words["halves"][words["current"] & 1]["last_lsn"], published)

    def client_of_record(self, lsn: int) -> str | None:
        """The client id, in hex, of a record that the log buffer still holds; else None."""
        if self._logbuf is None:
            return None
        words = _kernel.logbuf_words(self._logbuf)
        half = words["halves"][words["current"] & 1]
        image = bytes(_kernel.logbuf_image(self._logbuf, half["segment"])[: half["tail"]])
        offset = _kernel.SEGMENT_HEADER
        while offset < len(image):
            record = _kernel.record_read(image, offset, half["salt"])
            if record.verdict != _kernel.RECORD_GOOD:
                break
            if record.lsn == lsn and record.type == _kernel.RECORD_COMMIT:
                return str(record.client_id.hex())
            offset += record.padded
        return None


def _map_header(arena: int) -> _kernel.Mapping:
    """Actors are forked from this process; a mapping there would keep a replaced segment alive."""
    return _kernel.Mapping(arena, _HEADER, writable=False, fork_private=True)
