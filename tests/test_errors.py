"""The errors: their builtins, attributes, and both ways across a process boundary."""

import copy
import errno
import pickle
from uuid import UUID

import msgpack
import pytest

from memdb import errors
from memdb.errors import Error, from_wire

CASES: list[tuple[Error, type[BaseException]]] = [
    (errors.Error("e"), Exception),
    (errors.ClosedError("e"), ValueError),
    (errors.ForkedHandleError("e"), Exception),
    (errors.OptionMismatch("e", mismatches=[("max_memory", 1, 2), ("linger", None, 2.0)]), ValueError),
    (errors.UnsupportedType("e", type_name="numpy.int64", path="$.a[3]"), TypeError),
    (errors.KeyTooLarge("e", size=2000, limit=1024), ValueError),
    (errors.ValueTooLarge("e", size=2, limit=1), ValueError),
    (errors.TransactionTooLarge("e", size=2, limit=1), ValueError),
    (errors.ReadOnlyError("e"), Exception),
    (errors.PipelineError("e", results=[True, None, 3]), Exception),
    (errors.NotADatabase("e", path="/x"), Exception),
    (errors.UnsupportedFilesystem("e", path="/x"), Exception),
    (errors.UnsupportedPlatform("e"), Exception),
    (errors.ContainerMismatch("e", path="/x"), Exception),
    (errors.FormatTooNew("e", found=9, supported=1), Exception),
    (errors.OpenTimeout("e", seconds=10.0), TimeoutError),
    (errors.ConflictError("e", reason="changed", keys=("a", 1), winner_lsn=12), Exception),
    (errors.Timeout("e", seconds=0.5), TimeoutError),
    (errors.OutcomeUnknown("e", id=bytes(range(24))), Exception),
    (errors.SnapshotExpired("e", lsn=7), Exception),
    (errors.ArenaFullError("e", needed=100, limit=10, pins=[(7, "python", 1.5, 4096)]), MemoryError),
    (errors.DiskFullError("e", file="wal/3.log"), OSError),
    (errors.DiskError("e", file="wal/3.log", errno=errno.EIO), OSError),
    (errors.CorruptionError("e", "wal/3.log", 512, 99), Exception),
    (errors.LogFailed("e", file="wal/3.log", errno=errno.EIO, first_lsn=4, last_lsn=9), OSError),
    (errors.EngineDied("e", exit_code=65, log_file="engine.log"), Exception),
    (errors.WriterPoisoned("e", lsn=12, client="ab" * 16), Exception),
    (errors.DuplicateKeyError("e", collection="people", index="by_name", value="Al", id=1), Exception),
    (errors.InvalidFilter("e", path="age.$gtt"), ValueError),
    (errors.IndexMismatch("e", collection="people", index="by_len", function="app:length"), Exception),
    (errors.ModelError("e", model="Person", id="x", field="age", reason="not an int"), Exception),
]


def facts_of(error: Error) -> dict[str, object]:
    return {name: getattr(error, name) for name in error.attributes}


def test_every_error_is_tested_and_exported() -> None:
    tested = {type(error).__name__ for error, _ in CASES}
    assert tested == set(errors.__all__) - {"from_wire"}


def test_codes_are_unique() -> None:
    codes = [type(error).code for error, _ in CASES]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(("error", "builtin"), CASES, ids=lambda case: type(case).__name__)
def test_errors_cross_process_boundaries(error: Error, builtin: type[BaseException]) -> None:
    assert isinstance(error, Error)
    assert isinstance(error, builtin)
    assert error.__doc__
    error.add_note("a note")
    wire = msgpack.unpackb(msgpack.packb(error.to_wire()))
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error), from_wire(wire)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert other.message == "e"
        assert facts_of(other) == facts_of(error)
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["a note"]
    assert len(error.attributes) == 0 or any(value is not None for value in facts_of(error).values())


@pytest.mark.parametrize(("error", "builtin"), CASES, ids=lambda case: type(case).__name__)
def test_attributes_are_optional(error: Error, builtin: type[BaseException]) -> None:
    bare = type(error)("only this")
    assert str(bare) == "only this"
    assert type(pickle.loads(pickle.dumps(bare))) is type(error)


def test_ids_that_msgpack_lacks_go_as_their_text() -> None:
    one = UUID(int=7)
    duplicate = errors.DuplicateKeyError("e", collection="c", index="i", value=(1, "a"), id=one)
    told = from_wire(msgpack.unpackb(msgpack.packb(duplicate.to_wire())))
    assert isinstance(told, errors.DuplicateKeyError)
    assert (told.collection, told.index, told.value, told.id) == ("c", "i", "(1, 'a')", repr(one))
    model = errors.ModelError("e", model="Person", id=1 << 70, field="age", reason="no")
    told = from_wire(msgpack.unpackb(msgpack.packb(model.to_wire())))
    assert facts_of(told) == {"model": "Person", "id": str(1 << 70), "field": "age", "reason": "no"}
    same = pickle.loads(pickle.dumps(duplicate))
    assert (same.value, same.id) == ((1, "a"), one)


def test_corruption_shows_where() -> None:
    error = errors.CorruptionError("bad checksum", file="wal/3.log", offset=512, lsn=99)
    assert str(error) == "bad checksum (file wal/3.log, offset 512, lsn 99)"
    assert str(errors.CorruptionError("bad checksum", offset=0)) == "bad checksum (offset 0)"


def test_disk_full_is_enospc() -> None:
    assert errors.DiskFullError("e").errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("wire", "kind", "text"),
    [
        ({"error": "FromTheFuture", "message": "m", "attributes": {}}, Error, "FromTheFuture: m"),
        ({"error": "Mapping", "message": "m"}, Error, "Mapping: m"),
        ({"error": "_TooLarge", "message": "m"}, Error, "_TooLarge: m"),
        ({}, Error, "?: "),
        ({"error": "Timeout", "message": "m", "attributes": [1]}, errors.Timeout, "m"),
        ({"error": "Timeout", "message": "m", "attributes": {"new": 1}}, errors.Timeout, "m"),
        (
            {"error": "OptionMismatch", "message": "m", "attributes": {"mismatches": 3}},
            errors.OptionMismatch,
            "m",
        ),
        ({"error": "Timeout"}, errors.Timeout, ""),
    ],
)
def test_strange_messages_become_errors(wire: dict[str, object], kind: type[Error], text: str) -> None:
    error = from_wire(wire)
    assert type(error) is kind
    assert str(error) == text
