"""The figures of writing: one commit after the other, many keys in one commit, synced commits of many
threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from statistics import median
from time import perf_counter

import memdb
from stress import load
from stress.bench import Bench, RowFunction
from stress.measure import Row, paired
from stress.peers import EmptyRing, has_compiler, lmdb_environment, lmdb_put, lmdb_put_many, redis_client

_THREADS = 32
_SECONDS = 2.0


def set_one(bench: Bench) -> Iterator[Row]:
    """`set` at `os`, one client, one after the other."""
    count = bench.count(100_000)
    keys = bench.keys(count)

    def chosen(number: int, size: int) -> list[tuple[bytes, bytes]]:
        return list(load.pairs(load.sample(keys, size, number), number))

    with memdb.open(bench.directory("set"), linger=0) as database:
        load.fill(database.set_many, keys)
        with lmdb_environment(bench.directory("set-lmdb")) as environment:
            load.fill(lmdb_put_many(environment), keys)
            put = lmdb_put(environment)
            mine, peer, ratio = paired(
                lambda number: load.timed_pairs(database.set, chosen(number, 5000)),
                lambda number: load.timed_pairs(put, chosen(number, 5000)),
                rounds=11,
            )
        yield Row(
            "set",
            "`set` at `os`, one after the other",
            mine,
            "s",
            peer,
            "py-lmdb, own transaction",
            ratio,
            2.0,
        )
        with redis_client(bench.directory("redis")) as client:
            if client is not None:
                mine, peer, ratio = paired(
                    lambda number: load.timed_pairs(database.set, chosen(number, 2000)),
                    lambda number: load.timed_pairs(client.set, chosen(number, 2000)),
                    rounds=7,
                )
                yield Row(
                    "set-redis",
                    "`set` at `os`, one after the other",
                    mine,
                    "s",
                    peer,
                    "redis-py, unix socket",
                    ratio,
                    1 / 8,
                )


def set_many(bench: Bench) -> Iterator[Row]:
    """10 k random pairs in one commit, into a database that grows."""
    size = bench.count(10_000)
    with (
        memdb.open(bench.directory("many"), linger=0) as database,
        lmdb_environment(bench.directory("many-lmdb")) as environment,
    ):
        put_many = lmdb_put_many(environment)

        def one(call: Callable[[dict[bytes, bytes]], object], number: int) -> float:
            batch = dict(load.pairs(load.keys(size, seed=1000 + number), number))
            return load.timed(call, [batch])

        mine, peer, ratio = paired(
            lambda number: one(database.set_many, number), lambda number: one(put_many, number), rounds=15
        )
    yield Row(
        "set-many", f"`set_many` of {size:,} pairs", mine, "s", peer, "py-lmdb, one transaction", ratio, 2.0
    )


def commits_a_second(commit: Callable[[int], object]) -> float:
    """32 threads, each committing as fast as it can for two seconds."""
    counts, gate, ended = [0] * _THREADS, threading.Barrier(_THREADS + 1), threading.Event()

    def work(number: int) -> None:
        gate.wait()
        while not ended.is_set():
            commit(number)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    gate.wait()
    started = perf_counter()
    ended.wait(_SECONDS)
    before = sum(counts)
    taken = perf_counter() - started
    ended.set()
    for thread in threads:
        thread.join()
    return before / taken


def full(bench: Bench) -> Iterator[Row]:
    """Synced commits of 32 threads."""
    keys, value = bench.keys(bench.count(100_000)), os.urandom(load.VALUE_BYTES)
    source = iter(range(1 << 62))

    def key() -> bytes:
        return keys[next(source) % len(keys)]

    with memdb.open(bench.directory("full"), durability="full", linger=0) as database:
        with lmdb_environment(bench.directory("full-lmdb"), sync=True) as environment:
            put = lmdb_put(environment)
            mine, peer, ratio = paired(
                lambda _: commits_a_second(lambda _: database.set(key(), value)),
                lambda _: commits_a_second(lambda _: put(key(), value)),
                rounds=3,
            )
        yield Row(
            "full", f"`full`, {_THREADS} threads", mine, "/s", peer, "py-lmdb, synced", ratio, 6, "more"
        )
        if not has_compiler():
            return
        ring = EmptyRing(bench.directory("ring") / "log")
        try:
            rates = [
                (commits_a_second(lambda _: database.set(key(), value)), commits_a_second(ring.commit))
                for _ in range(3)
            ]
        finally:
            ring.close()
    mine, peer = median(a for a, _ in rates), median(b for _, b in rates)
    yield Row(
        "full-ring",
        f"`full`, {_THREADS} threads",
        mine,
        "/s",
        peer,
        "empty ring, same fdatasync",
        median(a / b for a, b in rates),
        0.4,
        "more",
    )


ROWS: dict[str, RowFunction] = {"set": set_one, "set-many": set_many, "full": full}
