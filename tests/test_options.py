"""The option table: parsing, limits, comparison with a running engine, documentation."""

import dataclasses
import math
import pathlib
import pickle
import re
from typing import Any

import msgpack
import pytest

from memdb import options
from memdb.options import OPTIONS, EngineOptions, HandleOptions, parse, parse_size

DEFAULTS: dict[str, tuple[str, object]] = {
    "durability": ("handle", "os"),
    "readonly": ("handle", False),
    "timeout": ("handle", 30.0),
    "open_timeout": ("handle", 10.0),
    "create": ("handle", True),
    "allow_network_fs": ("handle", False),
    "sync_interval": ("engine", 0.2),
    "max_memory": ("engine", 1 << 30),
    "max_key_bytes": ("engine", 1024),
    "max_value_bytes": ("engine", 1 << 20),
    "max_transaction_bytes": ("engine", 32 << 20),
    "segment_bytes": ("engine", 64 << 20),
    "checkpoint_interval": ("engine", 300.0),
    "checkpoint_wal_bytes": ("engine", 100 << 20),
    "checkpoint_dirty_keys": ("engine", 1_000_000),
    "keep_checkpoints": ("engine", 3),
    "keep_segments": ("engine", 5),
    "recovery": ("engine", "strict"),
    "query_workers": ("engine", 0),
    "linger": ("engine", 2.0),
    "snapshot_max_age": ("engine", 600.0),
}


def test_the_table_is_complete_and_its_defaults_are_the_documented_ones() -> None:
    assert {name: option.scope for name, option in OPTIONS.items()} == {
        name: scope for name, (scope, _) in DEFAULTS.items()
    }
    values = HandleOptions().to_wire() | EngineOptions().to_wire()
    assert values.pop("logged") is True
    assert values == {name: default for name, (_, default) in DEFAULTS.items()}
    assert all(option.doc and option.limits for option in OPTIONS.values())


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (123, 123),
        ("7B", 7),
        ("1KiB", 1024),
        ("64MiB", 64 << 20),
        (" 2 GiB ", 2 << 30),
        ("1TiB", 1 << 40),
        ("1.5GiB", 3 << 29),
        ("0.25KiB", 256),
    ],
)
def test_sizes(text: int | str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "1", "1MB", "1M", "1 mib", "MiB", "-1MiB", "1e3MiB", "1,5MiB", "0.3KiB", "1.2.3B", "٣MiB"]
)
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"max_memory={text!r} is not a ")):
        parse_size(text, "max_memory")


@pytest.mark.parametrize("text", [None, 1.5, True, b"1MiB", [1]])
def test_sizes_of_wrong_type(text: Any) -> None:
    with pytest.raises(TypeError, match="must be an int of bytes or a string"):
        parse_size(text)


def test_parse_tells_the_scopes_apart() -> None:
    handle, engine = parse(durability="full", timeout=5, max_memory="2GiB", linger=None)
    assert handle == HandleOptions(durability="full", timeout=5.0)
    assert type(handle.timeout) is float
    assert engine == {"max_memory": 2 << 30, "linger": None}
    assert EngineOptions.from_explicit(engine) == EngineOptions(max_memory=2 << 30, linger=None)
    assert parse() == (HandleOptions(), {})


def test_an_unknown_option_is_a_type_error_as_in_python() -> None:
    with pytest.raises(TypeError, match=r"^open\(\) got an unexpected keyword argument 'max_memry'$"):
        parse(max_memry=1)
    with pytest.raises(TypeError, match="logged"):
        parse(logged=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("durability", "fsync"),
        ("recovery", "lenient"),
        ("query_workers", -1),
        ("query_workers", 65),
        ("keep_checkpoints", 1),
        ("keep_segments", -1),
        ("max_memory", "3MiB"),
        ("max_memory", "49GiB"),
        ("max_memory", "1GB"),
        ("max_key_bytes", 0),
        ("max_key_bytes", "1MiB"),
        ("max_value_bytes", 0),
        ("max_transaction_bytes", 1),
        ("segment_bytes", -1),
        ("checkpoint_dirty_keys", 0),
        ("checkpoint_interval", 0),
        ("sync_interval", -1),
        ("linger", -0.1),
        ("timeout", -1),
        ("timeout", math.nan),
        ("open_timeout", math.inf),
        ("snapshot_max_age", 0),
    ],
)
def test_values_outside_their_limits(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"^{name}="):
        parse(**{name: value})
    with pytest.raises(ValueError, match=f"^{name}="):
        (HandleOptions if OPTIONS[name].scope == "handle" else EngineOptions)(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("durability", None),
        ("recovery", 1),
        ("readonly", 1),
        ("create", "yes"),
        ("timeout", None),
        ("timeout", True),
        ("linger", "2"),
        ("keep_checkpoints", 3.0),
        ("query_workers", False),
        ("max_memory", 1.5),
        ("max_memory", True),
        ("max_memory", None),
    ],
)
def test_values_of_wrong_type(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"^{name} must be "):
        parse(**{name: value})


def test_a_segment_holds_two_of_the_largest_transactions() -> None:
    message = (
        r"segment_bytes=63MiB holds less than two .*max_transaction_bytes=32MiB.*raise segment_bytes to 64MiB"
    )
    with pytest.raises(ValueError, match=message):
        parse(segment_bytes="63MiB", max_transaction_bytes="32MiB")
    with pytest.raises(ValueError, match=message):
        EngineOptions(segment_bytes=63 << 20)
    # Alone it may be what the running engine has; the engine that is started judges it.
    _, explicit = parse(segment_bytes="8MiB")
    with pytest.raises(ValueError, match="holds less than two"):
        EngineOptions.from_explicit(explicit)
    running = EngineOptions(segment_bytes=8 << 20, max_transaction_bytes=4 << 20)
    assert running.mismatches(explicit) == []


def test_only_explicit_options_are_compared() -> None:
    running = EngineOptions(max_memory=2 << 30, linger=None)
    assert running.mismatches({}) == []
    assert running.mismatches(parse(max_memory="2GiB", linger=None, timeout=1)[1]) == []
    assert running.mismatches(parse(max_memory="1GiB", linger=0, keep_segments=5)[1]) == [
        ("max_memory", 1 << 30, 2 << 30),
        ("linger", 0.0, None),
    ]


def test_a_database_without_log_is_for_all_or_none() -> None:
    logged, unlogged = EngineOptions(), EngineOptions.from_explicit({}, logged=False)
    assert logged.mismatches({}, "full") == unlogged.mismatches({}, "none") == []
    assert logged.mismatches({}) == unlogged.mismatches({}) == []
    assert [name for name, _, _ in logged.mismatches({}, "none")] == ["durability"]
    assert unlogged.mismatches({}, "os") == [("durability", "os", "none")]


def test_sets_travel() -> None:
    engine = EngineOptions(max_memory=5 << 30, linger=None, logged=False)
    assert EngineOptions.from_wire(msgpack.unpackb(msgpack.packb(engine.to_wire()))) == engine
    assert pickle.loads(pickle.dumps(engine)) == engine
    handle = HandleOptions(readonly=True)
    assert HandleOptions(**msgpack.unpackb(msgpack.packb(handle.to_wire()))) == handle
    with pytest.raises(dataclasses.FrozenInstanceError):
        engine.linger = 1.0  # type: ignore[misc]


def test_sets_of_another_version_are_refused() -> None:
    wire = EngineOptions().to_wire()
    with pytest.raises(ValueError, match="unknown compression, missing none"):
        EngineOptions.from_wire(wire | {"compression": "zstd"})
    wire.pop("linger")
    with pytest.raises(ValueError, match="unknown none, missing linger"):
        EngineOptions.from_wire(wire)
    with pytest.raises(ValueError, match="keep_checkpoints"):
        EngineOptions.from_wire(EngineOptions().to_wire() | {"keep_checkpoints": 0})


def test_the_table_renders_every_option() -> None:
    lines = options.render_markdown().splitlines()
    assert [line.split("|")[1].strip(" `") for line in lines[2:]] == list(DEFAULTS)
    assert all(line.count("|") == 6 for line in lines)
    assert '| `max_memory` | engine | `"1GiB"` | 4MiB to 48GiB |' in lines[9]


def test_the_documentation_holds_the_table() -> None:
    page = pathlib.Path(__file__).parent.parent / "docs" / "reference" / "options.md"
    assert options.render_markdown() in page.read_text(encoding="utf-8"), (
        "write memdb.options.render_markdown() into docs/reference/options.md"
    )
