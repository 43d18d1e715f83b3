"""The figures of transactions, counters, pipelines, snapshots that are held, and expiry."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import memdb
from stress import load
from stress.bench import Bench, RowFunction, answer, go
from stress.measure import Row, paired, rate
from stress.peers import lmdb_environment, lmdb_put_many, redis_client

_SECONDS = 3.0
_KEYS_OF_A_TRANSACTION = 4


def read_modify_write(bench: Bench) -> Iterator[Row]:
    """Four keys read and written back changed, one client."""
    keys = bench.keys(bench.count(100_000))

    def chosen(number: int) -> list[list[bytes]]:
        some = load.sample(keys, 3000 * _KEYS_OF_A_TRANSACTION, number)
        return [some[at : at + _KEYS_OF_A_TRANSACTION] for at in range(0, len(some), _KEYS_OF_A_TRANSACTION)]

    with (
        memdb.open(bench.directory("rmw"), linger=0) as database,
        lmdb_environment(bench.directory("rmw-lmdb")) as environment,
    ):
        load.fill(database.set_many, keys)
        load.fill(lmdb_put_many(environment), keys)

        def mine(some: list[bytes]) -> None:
            with database.transaction() as transaction:
                for key in some:
                    value = transaction[key]
                    transaction[key] = value[1:] + value[:1]

        def peer(some: list[bytes]) -> None:
            with environment.begin(write=True) as transaction:
                for key in some:
                    value = transaction.get(key)
                    transaction.put(key, value[1:] + value[:1])

        ours, theirs, ratio = paired(
            lambda number: load.timed(mine, chosen(number)),
            lambda number: load.timed(peer, chosen(number)),
            rounds=11,
        )
    yield Row(
        "transaction",
        "read-modify-write transaction of 4 keys, one client",
        ours,
        "s",
        theirs,
        "py-lmdb, own transaction",
        ratio,
        3.0,
    )


def contention(bench: Bench) -> Iterator[Row]:
    """The same of four processes at once."""
    path, count = bench.directory("contention"), bench.count(10_000)
    with memdb.open(path, linger=0) as database:
        load.fill(database.set_many, bench.keys(count))
        with bench.workers(*[("transactions", path, count, _SECONDS)] * 4) as workers:
            go(workers)
            found = [answer(worker) for worker in workers]
    commits, attempts = (sum(one[name] for one in found) for name in ("commits", "attempts"))
    yield Row(
        "conflicts",
        f"conflicts of 4 processes on {count:,} keys, uniform ({commits:,.0f} commits)",
        100 * (attempts - commits) / attempts,
        "%",
        target=1.0,
    )
    worst = max(found, key=lambda one: one["p99_ns"] / one["median_ns"])
    yield Row(
        "starving",
        "the same: p99 beside the median, of whom it is worst",
        worst["p99_ns"] / 1e9,
        "s",
        worst["median_ns"] / 1e9,
        "its median",
        worst["p99_ns"] / worst["median_ns"],
        20.0,
    )


def hot_counter(bench: Bench) -> Iterator[Row]:
    """One counter and eight processes."""

    def each(kind: str, place: Any) -> float:
        with bench.workers(*[(kind, place, 0, _SECONDS)] * 8) as workers:
            go(workers)
            found = [answer(worker) for worker in workers]
        return 1 / sum(one["increments"] / one["seconds"] for one in found)

    path = bench.directory("counter")
    with (
        memdb.open(path, linger=0) as database,
        redis_client(bench.directory("counter-redis")) as client,
    ):
        if client is None:
            return
        mine, peer, ratio = paired(
            lambda _: each("increments", path),
            lambda _: each("redis-increments", bench.directory("counter-redis") / "redis.sock"),
            rounds=3,
        )
        if database["hot"] <= 0:
            raise RuntimeError("nothing was counted")
    yield Row(
        "increment", "`increment` of one hot key, 8 processes", mine, "s", peer, "redis-py INCR", ratio, 1 / 5
    )


def pipelined(bench: Bench) -> Iterator[Row]:
    """10 k sets on their way at once."""
    size = bench.count(10_000)
    with (
        memdb.open(bench.directory("pipeline"), linger=0, durability="memory") as database,
        lmdb_environment(bench.directory("pipeline-lmdb")) as environment,
    ):
        put_many = lmdb_put_many(environment)

        def mine(pairs: dict[bytes, bytes]) -> None:
            with database.pipeline() as pipeline:
                for key, value in pairs.items():
                    pipeline.set(key, value)

        def batch(number: int) -> list[dict[bytes, bytes]]:
            return [dict(load.pairs(load.keys(size, seed=5000 + number), number))]

        ours, peer, ratio = paired(
            lambda number: load.timed(mine, batch(number)),
            lambda number: load.timed(put_many, batch(number)),
            rounds=11,
        )
        if len(database) != 11 * size:
            raise RuntimeError(f"{len(database)} keys after the pipelines, expected {11 * size}")
    yield Row(
        "pipeline", f"`pipeline` of {size:,} sets at `memory`", ours, "s", peer, "py-lmdb, one transaction",
        ratio, 2.0,
    )  # fmt: skip


def held_snapshot(bench: Bench) -> Iterator[Row]:
    """What a snapshot that nobody reads keeps."""
    count, updates = bench.count(100_000), bench.count(5_000_000)
    keys = bench.keys(count)
    with memdb.open(
        bench.directory("held"), linger=0, durability="memory", max_memory="1GiB", snapshot_max_age=7200
    ) as database:
        load.fill(database.set_many, keys)
        before = _settled(database)
        with database.snapshot() as snapshot:
            held = snapshot[keys[0]]
            _update(database, keys, count)
            version = (_settled(database) - before) / count
            _update(database, keys, updates - count)
            grown = (_settled(database) - before) / count
            if snapshot[keys[0]] != held:
                raise RuntimeError("the snapshot has changed")
    yield Row(
        "held-snapshot",
        f"an idle snapshot while {updates:,} updates hit {count:,} keys: growth in versions a key "
        f"({version:.0f} B each)",
        round(grown / version, 2),
        "versions",
        target=1.0,
    )


def _update(database: memdb.Database, keys: list[bytes], updates: int, batch: int = 5000) -> None:
    done = 0
    while done < updates:
        some = keys[done % len(keys) : done % len(keys) + min(batch, updates - done)]
        database.set_many(dict(load.pairs(some, done)))
        done += len(some)


def _settled(database: memdb.Database) -> int:
    """Bytes in use once nothing more is given back."""
    last, used = -1, database.memory_usage().used
    while used != last:
        sleep(0.5)  # the time between two looks at a figure that settles by itself
        last, used = used, database.memory_usage().used
    return used


def reaping(bench: Bench) -> Iterator[Row]:
    """Two writers before and while a million keys are reaped."""
    count, path = bench.count(1_000_000), bench.directory("reaping")
    others = bench.count(10_000)
    ahead = 10.0 + 20.0 * count / 1_000_000
    with memdb.open(path, linger=0, durability="memory", max_memory="2GiB") as database:
        load.fill(database.set_many, bench.keys(others))
        expires, keys = monotonic() + ahead, load.keys(count, seed=77)
        for at in range(0, count, 10_000):
            some = dict(load.pairs(keys[at : at + 10_000], at))
            database.set_many(some, ttl=max(expires - monotonic(), 1e-3))
        if monotonic() > expires - 2 * _SECONDS:
            raise RuntimeError(f"loading {count:,} keys took longer than {ahead - 2 * _SECONDS:.0f} s")
        print(f"{count:,} keys expire in {expires - monotonic():.0f} s", file=sys.stderr)
        sleep(max(0.0, expires - monotonic() - _SECONDS - 1))
        with bench.workers(*[("slices", path, others, 0.0)] * 2) as workers:
            begun = monotonic()
            go(workers)
            sleep(max(0.0, expires + 0.5 - monotonic()))
            deadline = monotonic() + 300
            while database.memory_usage().keys > others + 1 and monotonic() < deadline:
                sleep(0.05)
            reaped = monotonic()
            slices = [piece for worker in workers for piece in answer(worker)["slices"]]
        if database.memory_usage().keys > others + 1:
            raise RuntimeError(
                f"{database.memory_usage().keys - others:,} expired keys are there after 300 s"
            )
    before, during = rate(slices, (begun + 0.5, expires)), rate(slices, (expires + 0.3, reaped))
    yield Row(
        "reaping",
        f"writers' loss while {count:,} expired keys are reaped, in {reaped - expires:.0f} s",
        100 * (1 - during / before),
        "%",
        target=10.0,
    )


ROWS: dict[str, RowFunction] = {
    "transaction": read_modify_write,
    "conflicts": contention,
    "increment": hot_counter,
    "pipeline": pipelined,
    "held-snapshot": held_snapshot,
    "reaping": reaping,
}
