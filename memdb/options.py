"""The options of ``memdb.open``: one table, from which parsing, checks, comparison and documentation come.

Owns: names, scopes, defaults, units and limits of every option; the two typed sets that memdb passes on.

Invariants:

* An option exists in one place: the dataclass field that declares it. ``OPTIONS`` is read off the fields.
* A set that exists is valid: construction parses sizes and checks every limit, also of what a peer sent.
* Handle options may differ between handles on one engine. Engine options belong to the group; of them only
  those that a caller passed explicitly are compared with the running engine's.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

__all__ = [
    "DURABILITY_LEVELS",
    "OPTIONS",
    "EngineOptions",
    "HandleOptions",
    "Option",
    "parse",
    "parse_size",
    "render_markdown",
]

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30

DURABILITY_LEVELS: Final = ("memory", "os", "full", "none")

Durability = Literal["memory", "os", "full", "none"]
Mismatch = tuple[str, object, object]
_Parser = Callable[[str, object], object]


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its name, whose it is, what it may be. ``default`` is as a user would write it."""

    name: str
    scope: Literal["handle", "engine"]
    default: object
    unit: str
    limits: str
    doc: str
    parse: _Parser = field(repr=False)


# -------------------------------------------------------------------------------------------- kinds of values

_UNITS: Final = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1 << 40}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*")


def parse_size(text: int | str, name: str = "size") -> int:
    """Bytes from an ``int`` of bytes or a string with a binary unit. Raises ValueError, TypeError.

    >>> parse_size("1.5MiB"), parse_size(4096)
    (1572864, 4096)
    """
    if isinstance(text, int) and not isinstance(text, bool):
        return int(text)
    if not isinstance(text, str):
        raise TypeError(
            f"{name} must be an int of bytes or a string like '64MiB', not {type(text).__name__} {text!r}"
        )
    match = _SIZE.fullmatch(text)
    scale = _UNITS.get(match[2]) if match else None
    if match is None or scale is None:
        raise ValueError(
            f"{name}={text!r} is not a size: write a number and one of {', '.join(_UNITS)} "
            "(binary: 1KiB is 1024 bytes), as in '64MiB'"
        )
    whole, _, fraction = match[1].partition(".")
    parts: int = 10 ** len(fraction)
    size, rest = divmod(int(whole + fraction) * scale, parts)
    if rest:
        raise ValueError(f"{name}={text!r} is not a whole number of bytes")
    return size


def _format_size(size: int) -> str:
    for unit, scale in reversed(_UNITS.items()):
        if size and size % scale == 0 and scale > 1:
            return f"{size // scale}{unit}"
    return f"{size}B"


def _check_range(name: str, value: float, low: float, high: float, show: Callable[[Any], str]) -> None:
    if not low <= value <= high:  # NaN is outside, too
        raise ValueError(f"{name}={show(value)} is outside its limits, {show(low)} to {show(high)}")


def _size(low: int, high: int) -> tuple[_Parser, str]:
    def parse_one(name: str, value: object) -> int:
        size = parse_size(value, name)  # type: ignore[arg-type]
        _check_range(name, size, low, high, _format_size)
        return size

    return parse_one, f"{_format_size(low)} to {_format_size(high)}"


def _count(low: int, high: int) -> tuple[_Parser, str]:
    def parse_one(name: str, value: object) -> int:
        if type(value) is not int:
            raise TypeError(f"{name} must be an int, not {type(value).__name__} {value!r}")
        _check_range(name, value, low, high, str)
        return value

    return parse_one, f"{low} to {high}"


def _seconds(low: float, *, optional: bool = False) -> tuple[_Parser, str]:
    def parse_one(name: str, value: object) -> float | None:
        if value is None and optional:
            return None
        if type(value) is bool or not isinstance(value, int | float):
            kinds = "a number of seconds" + (" or None" if optional else "")
            raise TypeError(f"{name} must be {kinds}, not {type(value).__name__} {value!r}")
        _check_range(name, value, low, _LONGEST, lambda seconds: f"{seconds:,g} s")
        return float(value)

    return parse_one, f"{low:g} to {_LONGEST:,.0f} s" + (", or `None`" if optional else "")


_LONGEST: Final = 1e9  # a bit more than 31 years


def _flag() -> tuple[_Parser, str]:
    def parse_one(name: str, value: object) -> bool:
        if type(value) is not bool:
            raise TypeError(f"{name} must be True or False, not {type(value).__name__} {value!r}")
        return value

    return parse_one, "`True`, `False`"


def _choice(*names: str, later: tuple[str, ...] = ()) -> tuple[_Parser, str]:
    def parse_one(name: str, value: object) -> str:
        if not isinstance(value, str):
            raise TypeError(
                f"{name} must be one of {', '.join(map(repr, names))}, not {type(value).__name__} {value!r}"
            )
        if value in later:
            raise ValueError(
                f"{name}={value!r} comes with a later version of memdb; "
                f"this one knows {', '.join(map(repr, names))}"
            )
        if value not in names:
            raise ValueError(f"{name}={value!r} is unknown: use one of {', '.join(map(repr, names))}")
        return str(value)

    return parse_one, " · ".join(f"`{name}`" for name in names)


def _option(default: object, kind: tuple[_Parser, str], unit: str, doc: str) -> Any:
    """Declare an option as a field of its set. The field's own default is the parsed one."""
    parse_one, limits = kind
    parsed = parse_one("default", default)
    declared = {"shown": default, "parse": parse_one, "limits": limits, "unit": unit, "doc": doc}
    return field(default=parsed, metadata=declared)


# ------------------------------------------------------------------------------------------------ the table


@dataclass(frozen=True, kw_only=True, slots=True)
class HandleOptions:
    """Options of one handle; see ``render_markdown`` for what each means."""

    durability: Durability = _option(
        "os",
        _choice(*DURABILITY_LEVELS),
        "",
        "when a commit counts as done; per write too. `none`: for a whole database, by whoever starts it",
    )
    readonly: bool = _option(
        False, _flag(), "", "writes raise `ReadOnlyError`; joins the engine, or starts it where it can"
    )
    timeout: float = _option(30.0, _seconds(0), "s", "seconds without progress before a call gives up")
    open_timeout: float = _option(
        10.0, _seconds(0), "s", "seconds without progress (of recovery, of a rebuild) before `open` gives up"
    )
    create: bool = _option(True, _flag(), "", "make the directory and the database where there is none")
    allow_network_fs: bool = _option(
        False, _flag(), "", "accept NFS, CIFS, 9p and FUSE, which are refused otherwise"
    )

    def __post_init__(self) -> None:
        _parse_fields(self)

    def to_wire(self) -> dict[str, object]:
        """All values as a plain dict."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """Options of a process group: full, valid values. Sizes are in bytes, times in seconds.

    ``logged`` is no option of its own: it is False where the group was started with ``durability="none"``.
    """

    sync_interval: float = _option(
        0.2, _seconds(0.001), "s", "a sync of `memory` and `os` commits begins after this time at the latest"
    )
    max_memory: int = _option(
        # With the quarter more that recovery may take, 32-bit references to grains of 16 bytes reach 51 GiB.
        "1GiB",
        _size(4 * MIB, 48 * GIB),
        "bytes",
        "limit of one arena; a second exists while a new generation is built",
    )
    max_key_bytes: int = _option(
        1024, _size(8, 32 * KIB), "bytes", "longest encoded key; checked in the caller"
    )
    max_value_bytes: int = _option(
        "1MiB", _size(1, 512 * MIB), "bytes", "longest encoded value; checked in the caller"
    )
    max_transaction_bytes: int = _option("32MiB", _size(4 * KIB, GIB), "bytes", "largest commit")
    segment_bytes: int = _option(
        "64MiB",
        _size(64 * KIB, 4 * GIB),
        "bytes",
        "size of a log segment; at least two of the largest commits",
    )
    checkpoint_interval: float = _option(
        300.0, _seconds(0.001), "s", "a checkpoint after this time, if anything changed"
    )
    checkpoint_wal_bytes: int = _option(
        "100MiB", _size(4 * KIB, 1 << 40), "bytes", "a checkpoint after so much log"
    )
    checkpoint_dirty_keys: int = _option(
        1_000_000, _count(1, 1 << 40), "keys", "a checkpoint after so many changed keys"
    )
    keep_checkpoints: int = _option(3, _count(2, 1000), "", "checkpoints kept")
    keep_segments: int = _option(
        5, _count(0, 1_000_000), "", "log segments kept beyond those that a checkpoint needs"
    )
    recovery: Literal["strict", "until_damage", "salvage"] = _option(
        "strict",
        _choice("strict", "until_damage", "salvage"),
        "",
        "at damage `strict` refuses to open, `until_damage` opens what was before it, `salvage` skips it; "
        "what is left out is in `db.info().recovery`",
    )
    query_workers: int = _option(
        0,
        _count(0, 64),
        "",
        "processes of the reader pool, which evaluate filters over scans without an index",
    )
    linger: float | None = _option(
        2.0,
        _seconds(0, optional=True),
        "s",
        "how long the engine stays after its last client; `0`: the last `close` returns when it has ended; "
        "`None`: until `memdb stop`",
    )
    snapshot_max_age: float = _option(600.0, _seconds(0.001), "s", "a snapshot held longer is revoked")
    logged: bool = True

    def __post_init__(self) -> None:
        _parse_fields(self)
        if type(self.logged) is not bool:
            raise TypeError(f"logged must be True or False, not {type(self.logged).__name__}")
        _check_segment(self.segment_bytes, self.max_transaction_bytes)

    @classmethod
    def from_explicit(cls, explicit: Mapping[str, object], *, logged: bool = True) -> "EngineOptions":
        """The options of a group that is started with the *explicit* ones of :func:`parse`, else defaults."""
        return cls(**explicit, logged=logged)  # type: ignore[arg-type]

    def to_wire(self) -> dict[str, object]:
        """All values as a plain dict, for a control message or the manifest."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_wire(cls, data: Mapping[str, object]) -> "EngineOptions":
        """The inverse of :meth:`to_wire`, checked again. Raises ValueError, TypeError."""
        names = {one.name for one in fields(cls)}
        unknown, missing = sorted(data.keys() - names), sorted(names - data.keys())
        if unknown or missing:
            raise ValueError(
                "engine options of another version of memdb: "
                f"unknown {', '.join(map(str, unknown)) or 'none'}, "
                f"missing {', '.join(missing) or 'none'}"
            )
        return cls(**data)  # type: ignore[arg-type]

    def mismatches(self, explicit: Mapping[str, object], durability: str | None = None) -> list[Mismatch]:
        """(name, wanted, running) of each option in which a joining handle and this group differ.

        *explicit*: the engine options that the caller passed; *durability*: the level, if one was passed. A
        group without a log serves `none` only, one with a log every level but `none`.
        """
        found = [(name, wanted, getattr(self, name)) for name, wanted in explicit.items()]
        differing: list[Mismatch] = [one for one in found if one[1] != one[2]]
        if durability is not None and (durability == "none") == self.logged:
            differing.append(("durability", durability, "memory, os or full" if self.logged else "none"))
        return differing


def describe_mismatches(differing: list[Mismatch]) -> str:
    """The text of an OptionMismatch: each option with both values and their unit."""

    def show(name: str, value: object) -> str:
        unit = OPTIONS[name].unit if name in OPTIONS else ""
        if unit == "bytes" and isinstance(value, int):
            return _format_size(value)
        return f"{value} {unit}".rstrip() if isinstance(value, (int, float)) else repr(value)

    return ", ".join(
        f"{name} is {show(name, running)}, not {show(name, wanted)}" for name, wanted, running in differing
    )


def _parse_fields(options: HandleOptions | EngineOptions) -> None:
    for one in fields(options):
        if one.metadata:
            parsed = one.metadata["parse"](one.name, getattr(options, one.name))
            object.__setattr__(options, one.name, parsed)


def _check_segment(segment_bytes: int, max_transaction_bytes: int) -> None:
    if segment_bytes < 2 * max_transaction_bytes:
        raise ValueError(
            f"segment_bytes={_format_size(segment_bytes)} holds less than two of the largest transactions "
            f"(max_transaction_bytes={_format_size(max_transaction_bytes)}): raise segment_bytes to "
            f"{_format_size(2 * max_transaction_bytes)} or lower max_transaction_bytes"
        )


def _read_table(
    owner: type[HandleOptions] | type[EngineOptions], scope: Literal["handle", "engine"]
) -> list[Option]:
    return [
        Option(
            one.name,
            scope,
            declared["shown"],
            declared["unit"],
            declared["limits"],
            declared["doc"],
            declared["parse"],
        )
        for one in fields(owner)
        if (declared := one.metadata)
    ]


OPTIONS: Final[dict[str, Option]] = {
    option.name: option
    for option in _read_table(HandleOptions, "handle") + _read_table(EngineOptions, "engine")
}


# ------------------------------------------------------------------------------------------------- their use


def parse(**given: object) -> tuple[HandleOptions, dict[str, object]]:
    """Split what was passed to ``open`` into the handle's options and the engine options passed explicitly.

    The latter are parsed (sizes in bytes), so that they compare with a running engine's. Raises TypeError for
    an unknown option, as Python does for an unknown argument, and TypeError or ValueError for a bad value.

    >>> parse(durability="full", max_memory="2GiB")[1]
    {'max_memory': 2147483648}
    """
    handle: dict[str, Any] = {}
    engine: dict[str, object] = {}
    for name, value in given.items():
        option = OPTIONS.get(name)
        if option is None:
            raise TypeError(f"open() got an unexpected keyword argument {name!r}")
        (handle if option.scope == "handle" else engine)[name] = option.parse(name, value)
    if "segment_bytes" in engine and "max_transaction_bytes" in engine:
        # One of them alone is judged by the engine that is started, or compared with the one that runs.
        _check_segment(engine["segment_bytes"], engine["max_transaction_bytes"])  # type: ignore[arg-type]
    return HandleOptions(**handle), engine


def render_markdown() -> str:
    """The table of all options for the documentation."""
    lines = ["| option | scope | default | limits | meaning |", "| --- | --- | --- | --- | --- |"]
    for option in OPTIONS.values():
        shown = f'"{option.default}"' if isinstance(option.default, str) else f"{option.default:_}"
        if isinstance(option.default, bool):
            shown = str(option.default)
        unit = f" {option.unit}" if option.unit and not isinstance(option.default, str) else ""
        lines.append(
            f"| `{option.name}` | {option.scope} | `{shown}`{unit} | {option.limits} | {option.doc} |"
        )
    return "\n".join(lines) + "\n"
