"""Keys of layers: what a SpaceKey is, where it can stand, and that the mapping and they never meet."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import memdb
from memdb import layering, values
from memdb.layering import CATALOGUE, COLLECTIONS, SpaceKey

Opener = Callable[..., memdb.Database]

FIRST, END = SpaceKey(bytes([COLLECTIONS])), SpaceKey(bytes([COLLECTIONS + 1]))
ALL_NAMES = SpaceKey(bytes([CATALOGUE])), FIRST


def at(name: str | bytes) -> SpaceKey:
    return SpaceKey(bytes([COLLECTIONS]) + (name.encode() if isinstance(name, str) else name))


def named(name: str) -> SpaceKey:
    return SpaceKey(bytes([CATALOGUE]) + name.encode())


@pytest.fixture
def db(shared: memdb.Database) -> memdb.Database:
    """The module's database, emptied."""
    return shared


# --------------------------------------------------------------------------------------------- the object


def test_a_space_key_is_a_value() -> None:
    key = SpaceKey(b"\x04a")
    assert key == SpaceKey(b"\x04a") and hash(key) == hash(SpaceKey(b"\x04a")) and key != SpaceKey(b"\x04b")
    assert key != b"\x04a" and {key: 1} == {SpaceKey(b"\x04a"): 1}
    assert sorted([SpaceKey(b"\x04b"), SpaceKey(b"\x03z"), key]) == [
        SpaceKey(b"\x03z"),
        key,
        SpaceKey(b"\x04b"),
    ]
    assert key.stored == b"\x04a" and repr(key) == r"SpaceKey(b'\x04a')"
    assert pickle.loads(pickle.dumps(key)) == key
    with pytest.raises(AttributeError):
        key.stored = b"\x04b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        _ = key < b"\x04b"  # type: ignore[operator]


@pytest.mark.parametrize("stored", [b"", b"\0", b"\x01a", b"\x02o", b"\x05a", b"\x06", b"\x07a", b"\xff"])
def test_other_spaces_have_no_such_keys(stored: bytes) -> None:
    with pytest.raises(ValueError, match="begins with its space"):
        SpaceKey(stored)


@pytest.mark.parametrize("stored", ["\x04a", bytearray(b"\x04a"), None, 4])
def test_it_is_made_of_bytes(stored: Any) -> None:
    with pytest.raises(TypeError):
        SpaceKey(stored)


def test_it_is_no_part_of_another_key_and_no_value(db: memdb.Database) -> None:
    for use in (
        lambda: db.get((at("a"),)),
        lambda: db.set("k", at("a")),
        lambda: list(db.range(prefix=at("a"))),
        lambda: layering.id_bytes(at("a")),
    ):
        with pytest.raises(memdb.UnsupportedType):
            use()


def test_the_begin_of_a_space_is_no_key(db: memdb.Database) -> None:
    with db.transaction() as tx:
        uses: list[Callable[[], object]] = [
            lambda: db.get(FIRST),
            lambda: db.set(FIRST, 1),
            lambda: db.delete_many([FIRST]),
            lambda: tx.get(FIRST),
            lambda: tx.set(FIRST, 1),
            lambda: layering.put(tx, FIRST, 1),
            lambda: layering.put_many(tx, [(FIRST, b"\0", 0)]),
            lambda: layering.get_many(tx, [FIRST]),
        ]
        for use in uses:
            with pytest.raises(ValueError, match="bound of ranges"):
                use()
    assert len(db) == 0


# ------------------------------------------------------------------------------------- the calls of a handle


def test_every_call_on_keys_takes_one(db: memdb.Database) -> None:
    a, b = at("a"), at("b")
    assert db.set(a, {"x": 1}) and not db.set(a, 2, if_absent=True)
    db[b] = b"raw"
    assert db[a] == {"x": 1} and db.get(b) == b"raw" and a in db and db.exists(b)
    assert db.get_many([b, at("none"), a], 0) == [b"raw", 0, {"x": 1}]
    entry = db.entry(a)
    assert entry is not None and entry.key == a and entry.value == {"x": 1} and entry.expires_at is None
    assert db.set(a, 3, if_version=entry.version) and db.increment(a) == 4
    assert db.compare_and_set(a, 4, 5) and db.modify(a, lambda value: value + 1) == 6
    assert db.setdefault(a, 0) == 6 and db.expire(a, 100) and 99 < (db.ttl(a) or 0) <= 100 and db.persist(a)
    with db.snapshot() as snap:
        assert snap[a] == 6 and snap.get_many([a, b]) == [6, b"raw"] and bytes(snap.view(b)) == b"raw"
        assert db.pop(a) == 6 and a not in db and snap.get(a) == 6
    with db.pipeline() as p:
        p.set(a, 1)
        p.delete(b)
        p.set_many({at("c"): 3})
        p.delete_range(at("c"), at("d"))
    assert p.results == [True, True, None, 1]
    assert db.delete_many([a, a, b]) == 1 and not db.delete(a)
    db.set_many([(a, 1)], ttl=50)
    del db[a]
    with pytest.raises(KeyError):
        db[a]
    assert list(db.range(FIRST, END)) == []


def test_a_transaction_takes_one_wherever_a_key_is(db: memdb.Database) -> None:
    a, b = at("a"), at("b")
    db[a] = 1
    with db.transaction() as tx:
        assert tx[a] == 1 and b not in tx and tx.set(b, 2, ttl=100) and 99 < (tx.ttl(b) or 0) <= 100
        before = tx.savepoint()
        assert tx.increment(a) == 2 and tx.pop(b) == 2 and tx.get_many([a, b]) == [2, None]
        tx.rollback_to(before)
        assert tx.get_many([a, b]) == [1, 2]
        entry = tx.entry(a)
        assert entry is not None and entry.key == a and tx.delete(a, if_version=entry.version)
        assert tx.persist(b) and list(tx.range(FIRST, END)) == [(b.stored, 2)]
        assert tx.setdefault(at("c"), 3) == 3 and tx.delete_many([b, at("none")]) == 1
    assert list(db.range(FIRST, END)) == [(at("c").stored, 3)]


def test_scans_give_stored_keys_in_their_order(db: memdb.Database) -> None:
    names = [bytes([n]) + name for n in (0, 1, 0x61, 0xFF) for name in (b"", b"\0", b"b", b"\xff")]
    db.set_many([(at(name), i) for i, name in enumerate(names)])
    db.set_many({"a": 1, named("a"): 2})
    stored = [at(name).stored for name in names]
    assert list(db.range(FIRST, END)) == list(zip(stored, range(len(stored)), strict=True))
    assert list(db.keys(start=FIRST, stop=END)) == stored
    assert list(db.keys(start=FIRST, stop=END, reverse=True, limit=3)) == stored[:-4:-1]
    assert list(db.values(start=at(b"\x01"), stop=at(b"\x02"))) == [4, 5, 6, 7]
    assert (
        list(db.items(start=at(b"\x61"), stop=END)) == list(zip(stored, range(len(stored)), strict=True))[8:]
    )
    assert len(db.keys(start=FIRST, stop=END)) == len(names) == db._count(FIRST, END)
    with db.snapshot() as snap, db.transaction() as tx:
        for source in (snap, tx):
            assert list(source.keys(start=FIRST, stop=END)) == stored
            assert list(source.range(*ALL_NAMES)) == [(named("a").stored, 2)]


RANGES: dict[str, tuple[Any, Any, Any]] = {
    "no stop": (FIRST, None, None),
    "no start": (None, END, None),
    "of the mapping": (FIRST, "z", None),
    "to the mapping": ("a", END, None),
    "two spaces": (named("a"), at("b"), None),
    "two whole spaces": (ALL_NAMES[0], END, None),
    "backwards over spaces": (at("a"), named("b"), None),
    "with a prefix": (FIRST, END, "a"),
    "behind the last": (END, END, None),
}


@pytest.mark.parametrize("bounds", RANGES)
def test_a_range_lies_in_one_space(db: memdb.Database, bounds: str) -> None:
    start, stop, prefix = RANGES[bounds]
    with db.snapshot() as snap, db.transaction() as tx:
        uses: list[Callable[[], object]] = [
            lambda: db.range(start, stop, prefix=prefix),
            lambda: snap.range(start, stop, prefix=prefix),
            lambda: tx.range(start, stop, prefix=prefix),
            lambda: db.delete_range(start, stop, prefix=prefix),
            lambda: tx.delete_range(start, stop, prefix=prefix),
            lambda: db.keys(start=start, stop=stop, prefix=prefix),
        ]
        for use in uses:
            with pytest.raises(ValueError, match="range"):
                use()


def test_limits_are_those_of_all_keys(opened: Opener) -> None:
    db = opened(max_key_bytes=8)
    longest, longer = at(b"x" * 10), at(b"x" * 11)
    db[longest] = 1
    assert db[longest] == 1 and db.get(longer) is None and not db.delete(longer)
    with db.transaction() as tx:
        uses: list[Callable[[], object]] = [
            lambda: db.set(longer, 1),
            lambda: tx.set(longer, 1),
            lambda: layering.put(tx, longer, 1),
            lambda: layering.put_many(tx, [(longer.stored, b"\0", 0)]),
            lambda: db.delete_range(longer, END),
        ]
        for use in uses:
            with pytest.raises(memdb.KeyTooLarge) as caught:
                use()
            assert caught.value.limit == 8 and caught.value.size == 9
        assert layering.get_many(tx, [longest, longer, at(b"x" * 70_000)]) == [1, None, None]
    with pytest.raises(memdb.KeyTooLarge):
        db.range(FIRST, at(b"x" * 70_000))


# ----------------------------------------------------------------------------------------- the mapping apart


def test_the_mapping_sees_nothing_of_them(db: memdb.Database) -> None:
    db["k"] = 1
    db.set_many({at("a"): 1, at("b"): 2, named("n"): 3})
    assert len(db) == 1 and list(db) == ["k"] and list(reversed(db)) == ["k"] and dict(db) == {"k": 1}
    assert list(db.range()) == [("k", 1)] and db == {"k": 1} and list(db.keys()) == ["k"]
    assert at("a") not in db.keys(start="a") and at("a") in db.keys(start=FIRST, stop=END)
    with db.snapshot() as snap, db.transaction() as tx:
        assert len(snap) == len(tx) == 1 and list(snap) == list(tx) == ["k"]
        assert db.popitem() == ("k", 1)
        with pytest.raises(KeyError):
            db.popitem()
    assert not db and db.memory_usage().used > 0
    db["k"] = 2
    db.clear()
    with db.transaction() as tx:
        tx["k"] = 3
        tx.clear()
        assert tx[at("a")] == 1 and not tx
    assert len(db) == 0 and db[at("a")] == 1 and len(list(db.range(FIRST, END))) == 2
    assert db.delete_range(FIRST, END) == 2 and db[named("n")] == 3
    assert db.delete_range(*ALL_NAMES) == 1 and db.check().ok


def test_keys_of_the_mapping_that_look_like_one(db: memdb.Database) -> None:
    db[at("a")] = 1
    for key in (b"\x04a", "\x04a", (4, "a"), 4):
        assert key not in db
        db[key] = 2
    assert db[at("a")] == 1 and db.delete_range(FIRST, END) == 1 and len(db) == 4


# ------------------------------------------------------------------------------------------ memdb.layering


def test_values_that_are_encoded_already(db: memdb.Database) -> None:
    a, b, c = at("a"), at("b"), at("c")
    db[c] = 0
    with db.transaction() as tx:
        when = layering.expiry_us(tx, 100)
        items = [(a.stored, values.encode({"x": (1,)}), when), (b, values.encode(b"id"), when), (c, None, 0)]
        layering.put_many(tx, items)
        for source in (tx, db):
            if source is db:
                tx.commit()
            assert layering.get_many(source, [a, b.stored, c], 7) == [{"x": (1,)}, b"id", 7]
            assert layering.payloads(source, [a, b, c]) == [values.pack({"x": (1,)}), b"id", None]
            expected = [(a.stored, values.pack({"x": (1,)})), (b.stored, b"id")]
            assert list(layering.scan_payloads(source, FIRST, END)) == expected
            assert list(layering.scan_payloads(source, FIRST, END, reverse=True, limit=1)) == expected[1:]
            found = layering.entry_us(source, a)
            assert found is not None and found[0] == {"x": (1,)} and found[2] == when
            assert layering.entry_us(source, c) is None
    assert {layering.entry_us(db, key)[2] for key in (a, b)} == {when}  # type: ignore[index]
    with db.snapshot() as snap:
        assert layering.get_many(snap, [a]) == [{"x": (1,)}] == layering.get_many(snap, iter([a.stored]))


def test_many_are_put_or_none(db: memdb.Database) -> None:
    good = (at("a").stored, b"\0", 0)
    bad: list[tuple[Any, type[Exception]]] = [
        ((b"\x01a", b"\0", 0), ValueError),
        (("a", b"\0", 0), TypeError),
        ((at("b").stored, b"", 0), ValueError),
        ((at("b").stored, b"x\x02", 0), ValueError),
        ((at("b").stored, {"x": 1}, 0), TypeError),
        ((at("b").stored, b"\0"), ValueError),
        ((at("b").stored, b"\0", -1), OverflowError),
        ((at("b").stored, bytes((1 << 20) + 2), 0), memdb.ValueTooLarge),
    ]
    with db.transaction() as tx:
        for item, error in bad:
            with pytest.raises(error):
                layering.put_many(tx, [good, item])
        assert list(tx.range(FIRST, END)) == []
        layering.put_many(tx, [good, (good[0], None, 0)])
        assert layering.payloads(tx, [good[0]]) == [None], "of one key the last counts"
        with pytest.raises(memdb.TransactionTooLarge):
            layering.put_many(tx, [(at(f"{n}").stored, bytes(1 << 20), 0) for n in range(40)])
        assert list(tx.range(FIRST, END)) == []
    with pytest.raises(memdb.ClosedError):
        layering.put_many(tx, [good])
    with pytest.raises(memdb.ClosedError):
        layering.expiry_us(tx, 1)


def test_a_read_only_handle_puts_nothing(db: memdb.Database) -> None:
    with memdb.open(db.path, readonly=True) as reader, reader.transaction() as tx:
        for put in (lambda: layering.put(tx, at("a"), 1), lambda: layering.put_many(tx, [])):
            with pytest.raises(memdb.ReadOnlyError):
                put()
        tx.abort()


def test_a_layer_puts_nothing_into_the_mapping(db: memdb.Database) -> None:
    with db.transaction() as tx:
        for key in ("k", b"\x01\x02k\0"):
            with pytest.raises((TypeError, ValueError)):
                layering.put(tx, key, 1)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="two bounds"):
            layering.scan_payloads(tx, "a", "b")  # type: ignore[arg-type]
    assert len(db) == 0


def test_the_instant_of_expiry(db: memdb.Database) -> None:
    with db.transaction() as tx:
        now = layering.expiry_us(tx, 1) - 1_000_000
        assert layering.expiry_us(tx, None) == 0 and layering.expiry_us(tx, 60) - now >= 60_000_000
        for ttl, error in ((0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)):
            with pytest.raises(error):
                layering.expiry_us(tx, ttl)  # type: ignore[arg-type]


def test_ids_are_keys() -> None:
    assert layering.id_bytes(1) == b"\x15\x01" and layering.id_bytes(("a", 1)) == b"\x05\x02a\x00\x15\x01\x00"
    with pytest.raises(memdb.UnsupportedType):
        layering.id_bytes({})
