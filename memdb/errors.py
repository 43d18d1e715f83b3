"""Every error that memdb raises of its own.

Owns: the class hierarchy, the attributes of each error, and its two ways across a process boundary: pickle
(an error raised in a worker) and a plain dict for msgpack (a control message between actors).

Invariants:

* All derive from :class:`Error`, and from a builtin where one fits; ``code`` is stable and unique.
* The message says what happened, who or what is concerned, the limit with its unit, and what to do next;
  whoever raises the error writes it. Attributes repeat its facts, typed; each is None where it is unknown.
* What arrives in a dict is believed only as far as it goes: an unknown name becomes an :class:`Error`, an
  unknown attribute is dropped, and no class is looked up outside this module.
"""

import errno as _errno
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final, NamedTuple, Self

__all__ = [
    "ArenaFullError",
    "ClosedError",
    "ConflictError",
    "ContainerMismatch",
    "CorruptionError",
    "DiskError",
    "DiskFullError",
    "DuplicateKeyError",
    "EngineDied",
    "Error",
    "ForkedHandleError",
    "FormatTooNew",
    "IndexMismatch",
    "InvalidFilter",
    "KeyTooLarge",
    "LogFailed",
    "ModelError",
    "NotADatabase",
    "OpenTimeout",
    "OptionMismatch",
    "OutcomeUnknown",
    "PipelineError",
    "ReadOnlyError",
    "SnapshotExpired",
    "Timeout",
    "TransactionTooLarge",
    "UnsupportedFilesystem",
    "UnsupportedPlatform",
    "UnsupportedType",
    "ValueTooLarge",
    "WriterPoisoned",
    "from_wire",
]


class Error(Exception):
    """The base of all errors of memdb; ``except memdb.Error`` catches each of them."""

    code: ClassVar[str] = "error"
    attributes: ClassVar[tuple[str, ...]] = ()
    """Names of the attributes that travel with the error."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The text, without the facts that some errors add to it when they are shown."""
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        facts = {name: getattr(self, name) for name in self.attributes}
        return _rebuild, (type(self), self.message, facts, getattr(self, "__notes__", []))

    def of(self, path: str) -> Self:
        """This error with its directory in the text, if it did not say so: a process may have many open."""
        if path not in self.message:
            self.args = (f"{path}: {self.message}", *self.args[1:])
        return self

    def to_wire(self) -> dict[str, object]:
        """A dict of plain values for a control message; :func:`from_wire` is its inverse."""
        facts = {name: getattr(self, name) for name in self.attributes}
        return {"error": type(self).__name__, "message": self.message, "attributes": facts}


def _rebuild(kind: type[Error], message: str, facts: dict[str, object], notes: list[str]) -> Error:
    error = kind(message, **facts)
    for note in notes:
        error.add_note(note)
    return error


# ------------------------------------------------------------------------------------------------------- use


class ClosedError(Error, ValueError):
    """A handle, snapshot or iterator was used after its end."""

    code = "closed"


class ForkedHandleError(Error):
    """A snapshot or view was used in a child process; it belongs to the process that took it."""

    code = "forked_handle"


class OptionMismatch(Error, ValueError):
    """The engine runs with other options than asked for. ``mismatches``: (name, wanted, running) of each."""

    code = "option_mismatch"
    attributes = ("mismatches",)

    def __init__(self, message: str = "", *, mismatches: Iterable[Iterable[object]] = ()) -> None:
        super().__init__(message)
        self.mismatches: tuple[tuple[object, ...], ...] = tuple(tuple(one) for one in mismatches)


class UnsupportedType(Error, TypeError):
    """A key or value of a type that can't be stored. ``path``: its place in the value, as in ``$.a[3]``."""

    code = "unsupported_type"
    attributes = ("type_name", "path")

    def __init__(self, message: str = "", *, type_name: str | None = None, path: str | None = None) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.path = path


class _TooLarge(Error, ValueError):
    attributes = ("size", "limit")

    def __init__(self, message: str = "", *, size: int | None = None, limit: int | None = None) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class KeyTooLarge(_TooLarge):
    """An encoded key above ``max_key_bytes``. ``size`` and ``limit`` in bytes."""

    code = "key_too_large"


class ValueTooLarge(_TooLarge):
    """An encoded value above ``max_value_bytes``. ``size`` and ``limit`` in bytes."""

    code = "value_too_large"


class TransactionTooLarge(_TooLarge):
    """A commit above ``max_transaction_bytes``; nothing of it was done. ``size`` and ``limit`` in bytes."""

    code = "transaction_too_large"


class ReadOnlyError(Error):
    """A write through a read-only handle, or to an engine that takes no writes now."""

    code = "read_only"


class PipelineError(Error):
    """Some writes of a pipeline failed. ``results``: what each call gave, or its error, in call order."""

    code = "pipeline"
    attributes = ("results",)

    def __init__(self, message: str = "", *, results: Iterable[object] = ()) -> None:
        super().__init__(message)
        self.results: list[object] = list(results)

    def to_wire(self) -> dict[str, object]:
        """As of every error; a result that is an error goes as its text."""
        wire = super().to_wire()
        told = [str(one) if isinstance(one, BaseException) else one for one in self.results]
        return {**wire, "attributes": {"results": told}}


# ----------------------------------------------------------------------------------------------------- place


class _PlaceError(Error):
    attributes = ("path",)

    def __init__(self, message: str = "", *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class NotADatabase(_PlaceError):
    """``path`` is no directory, holds other things, lacks its manifest, or is missing and not to be made."""

    code = "not_a_database"


class UnsupportedFilesystem(_PlaceError):
    """``path`` lies on a file system whose locks or syncs can't be relied on (NFS, CIFS, 9p, FUSE)."""

    code = "unsupported_filesystem"


class UnsupportedPlatform(Error):
    """The operating system, its kernel or the processor lacks what the engine needs."""

    code = "unsupported_platform"


class ContainerMismatch(_PlaceError):
    """The engine of ``path`` runs where this process can't join it: another container, kernel or user."""

    code = "container_mismatch"


class FormatTooNew(Error):
    """A file or a running engine has a format that is too new. ``found``, ``supported``: versions."""

    code = "format_too_new"
    attributes = ("found", "supported")

    def __init__(self, message: str = "", *, found: int | None = None, supported: int | None = None) -> None:
        super().__init__(message)
        self.found = found
        self.supported = supported


class _TimeoutError(Error, TimeoutError):
    attributes = ("seconds",)

    def __init__(self, message: str = "", *, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class OpenTimeout(_TimeoutError):
    """The engine made no progress towards serving for ``seconds``."""

    code = "open_timeout"


# ----------------------------------------------------------------------------------------------- concurrency


class ConflictError(Error):
    """A transaction was not committed: what it had read, or what it overwrites, did not hold any more.

    ``reason`` is ``changed`` (a key), ``range`` (keys in a range), ``expired`` (a value that was read),
    ``window`` (the snapshot is older than the recent commits that are kept to judge ranges), ``generation``
    (the arena was built anew) or ``snapshot`` (it was revoked). ``keys``: which, as far as that is known.
    ``winner_lsn``: the LSN of the commit that came before, None if it is not known.
    """

    code = "conflict"
    attributes = ("reason", "keys", "winner_lsn")

    def __init__(
        self,
        message: str = "",
        *,
        reason: str | None = None,
        keys: Iterable[object] = (),
        winner_lsn: int | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.keys: tuple[object, ...] = tuple(keys)
        self.winner_lsn = winner_lsn


class Timeout(_TimeoutError):
    """No progress for ``seconds``, and the request was withdrawn: it is certainly not done."""

    code = "timeout"


class OutcomeUnknown(Error):
    """A commit that was taken can't be settled in time: ``db.outcome(error.id)`` asks again later."""

    code = "outcome_unknown"
    attributes = ("id",)

    def __init__(self, message: str = "", *, id: bytes | None = None) -> None:
        super().__init__(message)
        self.id = id


class SnapshotExpired(Error):
    """A snapshot, or an iteration, was revoked: too old, or memory was needed. ``lsn``: its point in time."""

    code = "snapshot_expired"
    attributes = ("lsn",)

    def __init__(self, message: str = "", *, lsn: int | None = None) -> None:
        super().__init__(message)
        self.lsn = lsn


# ---------------------------------------------------------------------------------------------------- limits


class Pin(NamedTuple):
    """A process that keeps old versions from being reused: its command, seconds since its oldest snapshot,
    and bytes kept."""

    pid: int
    command: str
    age: float
    bytes: int


class ArenaFullError(Error, MemoryError):
    """The arena is at its limit; nothing was done. ``needed`` and ``limit`` in bytes.

    ``pins``: (pid, command, age, bytes) of those whose snapshots and views keep most, at most three.
    """

    code = "arena_full"
    attributes = ("needed", "limit", "pins")

    def __init__(
        self,
        message: str = "",
        *,
        needed: int | None = None,
        limit: int | None = None,
        pins: Iterable[Iterable[object]] = (),
    ) -> None:
        super().__init__(message)
        self.needed = needed
        self.limit = limit
        self.pins: tuple[Pin, ...] = tuple(Pin._make(one) for one in pins)


class _FileError(Error, OSError):
    attributes: ClassVar[tuple[str, ...]] = ("file", "errno")

    def __init__(self, message: str = "", *, file: str | None = None, errno: int | None = None) -> None:
        super().__init__(message)
        self.file = file
        self.errno = errno


class DiskFullError(_FileError):
    """No room on a disk; nothing was done. ``file``: what was to grow."""

    code = "disk_full"

    def __init__(
        self, message: str = "", *, file: str | None = None, errno: int | None = _errno.ENOSPC
    ) -> None:
        super().__init__(message, file=file, errno=errno)


class DiskError(_FileError):
    """The file system refused something to the engine; nothing that counts was changed. ``file``,
    ``errno``."""

    code = "disk"


# ---------------------------------------------------------------------------------------------------- damage


class CorruptionError(Error):
    """Bytes that can't be: damaged by something else than a crash. ``file``, byte ``offset``, ``lsn``.

    ``command``: what to run next, where a directory can't be opened; it changes nothing by itself.
    """

    code = "corruption"
    attributes = ("file", "offset", "lsn", "command")

    def __init__(
        self,
        message: str = "",
        file: str | None = None,
        offset: int | None = None,
        lsn: int | None = None,
        command: str | None = None,
    ) -> None:
        super().__init__(message)
        self.file = file
        self.offset = offset
        self.lsn = lsn
        self.command = command

    def __str__(self) -> str:
        known = [(name, getattr(self, name)) for name in ("file", "offset", "lsn")]
        facts = ", ".join(f"{name} {value}" for name, value in known if value is not None)
        return f"{self.message} ({facts})" if facts else self.message


class LogFailed(_FileError):
    """A write or sync of the log failed, which is final for that file; reads go on.

    ``first_lsn`` to ``last_lsn``: the commits whose durability is at risk.
    """

    code = "log_failed"
    attributes = ("file", "errno", "first_lsn", "last_lsn")

    def __init__(
        self,
        message: str = "",
        *,
        file: str | None = None,
        errno: int | None = None,
        first_lsn: int | None = None,
        last_lsn: int | None = None,
    ) -> None:
        super().__init__(message, file=file, errno=errno)
        self.first_lsn = first_lsn
        self.last_lsn = last_lsn


class EngineDied(Error):
    """The process group can't be started again. ``exit_code`` of its supervisor, ``log_file`` to read."""

    code = "engine_died"
    attributes = ("exit_code", "log_file")

    def __init__(
        self, message: str = "", *, exit_code: int | None = None, log_file: str | None = None
    ) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.log_file = log_file


class WriterPoisoned(Error):
    """The record ``lsn`` of ``client`` (id in hex) killed its writer three times: writes end, reads go on."""

    code = "writer_poisoned"
    attributes = ("lsn", "client")

    def __init__(self, message: str = "", *, lsn: int | None = None, client: str | None = None) -> None:
        super().__init__(message)
        self.lsn = lsn
        self.client = client


# ------------------------------------------------------------------------------------------------- documents


class DuplicateKeyError(Error):
    """A document with this id, or with this value of a unique index, is there; nothing was done.

    ``collection`` and ``index`` (``_id`` for the id itself) by name, ``value``: what is taken (a tuple of
    several fields), ``id``: of the document that has it.
    """

    code = "duplicate_key"
    attributes = ("collection", "index", "value", "id")

    def __init__(
        self,
        message: str = "",
        *,
        collection: str | None = None,
        index: str | None = None,
        value: object = None,
        id: object = None,
    ) -> None:
        super().__init__(message)
        self.collection = collection
        self.index = index
        self.value = value
        self.id = id

    def to_wire(self) -> dict[str, object]:
        """As of every error; a value or an id that plain msgpack lacks goes as its text."""
        wire = super().to_wire()
        facts = {
            "collection": self.collection,
            "index": self.index,
            "value": _plain(self.value),
            "id": _plain(self.id),
        }
        return {**wire, "attributes": facts}


def _plain(value: object) -> object:
    if type(value) is int:
        return value if -(1 << 63) <= value < 1 << 64 else repr(value)
    return value if type(value) in (type(None), bool, float, str, bytes) else repr(value)


class InvalidFilter(Error, ValueError):
    """A filter without meaning: an unknown operator, or an operand it can't have. ``path``: where in it."""

    code = "invalid_filter"
    attributes = ("path",)

    def __init__(self, message: str = "", *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class IndexMismatch(Error):
    """An index is defined otherwise than asked for, or its key function is not known in this process.

    ``collection`` and ``index`` by name; ``function``: the key function that is missing, as the index
    names it, None where definitions differ.
    """

    code = "index_mismatch"
    attributes = ("collection", "index", "function")

    def __init__(
        self,
        message: str = "",
        *,
        collection: str | None = None,
        index: str | None = None,
        function: str | None = None,
    ) -> None:
        super().__init__(message)
        self.collection = collection
        self.index = index
        self.function = function


class ModelError(Error):
    """A document does not fit the model of its collection. ``id``, ``field`` and ``reason`` tell which, where
    and why.

    ``model``: the name of the class; ``field``: the path of the first field at fault.
    """

    code = "model"
    attributes = ("model", "id", "field", "reason")

    def __init__(
        self,
        message: str = "",
        *,
        model: str | None = None,
        id: object = None,
        field: str | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.model = model
        self.id = id
        self.field = field
        self.reason = reason

    def to_wire(self) -> dict[str, object]:
        """As of every error; an id that plain msgpack lacks goes as its text."""
        facts = {"model": self.model, "id": _plain(self.id), "field": self.field, "reason": self.reason}
        return {**super().to_wire(), "attributes": facts}


_BY_NAME: Final[dict[str, type[Error]]] = {
    name: kind
    for name, kind in globals().items()
    if not name.startswith("_") and isinstance(kind, type) and issubclass(kind, Error)
}


def from_wire(data: Mapping[str, object]) -> Error:
    """The error of a control message (:meth:`Error.to_wire`); an unknown one is an :class:`Error` naming it.

    >>> from_wire({"error": "Timeout", "message": "no answer", "attributes": {"seconds": 3.0}})
    Timeout('no answer')
    """
    name, message = str(data.get("error", "?")), str(data.get("message", ""))
    kind = _BY_NAME.get(name)
    if kind is None:
        return Error(f"{name}: {message}")
    sent = data.get("attributes")
    facts = {key: sent[key] for key in kind.attributes if key in sent} if isinstance(sent, Mapping) else {}
    try:
        return kind(message, **facts)
    except TypeError:  # attributes of a shape that this version does not know
        return kind(message)
