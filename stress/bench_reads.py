"""The figures of reading: point reads, two processes, beside a writer, ranges."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from stress import load
from stress.bench import Bench, RowFunction, answer, go
from stress.measure import Row, paired
from stress.peers import lmdb_environment, lmdb_put_many

_READS = 20_000
_SECONDS = 3.0


def _get(bench: Bench, wanted: int, target: float) -> Iterator[Row]:
    count = bench.count(wanted)
    database, keys = bench.database(count), bench.keys(count)
    plain: dict[bytes, bytes] = {}
    load.fill(plain.update, keys)
    with lmdb_environment(bench.directory(f"lmdb-{count}")) as environment:
        load.fill(lmdb_put_many(environment), keys)
        with environment.begin() as transaction:
            mine, peer, ratio = paired(
                lambda number: load.timed(database.get, load.sample(keys, _READS, number)),
                lambda number: load.timed(transaction.get, load.sample(keys, _READS, number)),
                rounds=15,
            )
    yield Row(
        f"get-{wanted}", f"`get`, {count:,} keys", mine, "s", peer, "py-lmdb, open transaction", ratio, target
    )
    mine, peer, ratio = paired(
        lambda number: load.timed(database.get, load.sample(keys, _READS, number)),
        lambda number: load.timed(plain.get, load.sample(keys, _READS, number)),
        rounds=9,
    )
    yield Row(f"get-{wanted}-dict", f"`get`, {count:,} keys", mine, "s", peer, "plain dict", ratio)
    mine, peer, ratio = paired(
        lambda number: _many(database.get_many, keys, number),
        lambda number: _many(lambda part: [plain.get(key) for key in part], keys, number),
        rounds=9,
    )
    yield Row(
        f"get-many-{wanted}",
        f"`get_many` of 100, {count:,} keys, a key",
        mine,
        "s",
        peer,
        "list comprehension over a dict",
        ratio,
    )


def _many(call: object, keys: list[bytes], number: int) -> float:
    chosen = load.sample(keys, _READS, number)
    parts = [chosen[at : at + 100] for at in range(0, len(chosen), 100)]
    return load.timed(call, parts) / 100  # type: ignore[arg-type]


def get_small(bench: Bench) -> Iterator[Row]:
    """Point reads, 100 k keys."""
    yield from _get(bench, 100_000, 0.7)


def get_large(bench: Bench) -> Iterator[Row]:
    """Point reads, 1 M keys."""
    yield from _get(bench, 1_000_000, 0.5)


def two_processes(bench: Bench) -> Iterator[Row]:
    """Point reads from two processes and from one, no writer."""
    count = bench.count(100_000)
    path = bench.database(count).path

    def rate(processes: int) -> float:
        with bench.workers(*[("reads", path, count, _SECONDS)] * processes) as started:
            go(started)
            return sum(one["reads"] / one["seconds"] for one in map(answer, started))

    two, one, ratio = paired(lambda _: rate(2), lambda _: rate(1), rounds=3)
    yield Row(
        "two-processes", "reads a second of two processes", two, "/s", one, "one process", ratio, 1.9, "more"
    )


def beside_writer(bench: Bench) -> Iterator[Row]:
    """Reads while a client writes as fast as it can, per CPU second of the reader; and their tail."""
    count = bench.count(100_000)
    path = bench.database(count).path

    def measured(kind: str, writing: bool) -> dict[str, float]:
        with bench.workers(
            (kind, path, count, _SECONDS), *[("writes", path, count, 0.0)] * writing
        ) as started:
            go(list(reversed(started)))
            result = answer(started[0])
            for writer in started[1:]:
                answer(writer)
            return result

    def rate(writing: bool) -> float:
        result = measured("reads", writing)
        return result["reads"] / result["cpu_seconds"]

    busy, alone, ratio = paired(lambda _: rate(True), lambda _: rate(False), rounds=3)
    yield Row(
        "beside-writer",
        "reads a CPU second beside a writer at full rate",
        busy,
        "/s",
        alone,
        "alone",
        ratio,
        0.85,
        "more",
    )
    tail = measured("latencies", True)
    yield Row(
        "beside-writer-tail", "p99.9 of these reads", tail["p999_ns"] / 1e9, "s",
        tail["median_ns"] / 1e9, "their median", tail["p999_ns"] / tail["median_ns"], 20,
    )  # fmt: skip


def seek(bench: Bench) -> Iterator[Row]:
    """Seek and ten items."""
    count = bench.count(1_000_000)
    database, keys = bench.database(count), bench.keys(count)
    with lmdb_environment(bench.directory(f"lmdb-{count}")) as environment:
        if environment.stat()["entries"] == 0:
            load.fill(lmdb_put_many(environment), keys)
        with environment.begin() as transaction:
            cursor = transaction.cursor()

            def peer(key: bytes) -> None:
                cursor.set_range(key)
                list(islice(cursor.iternext(), 10))

            mine, other, ratio = paired(
                lambda number: load.timed(
                    lambda key: list(database.range(key, limit=10)), load.sample(keys, 5000, number)
                ),
                lambda number: load.timed(peer, load.sample(keys, 5000, number)),
                rounds=15,
            )
    yield Row("seek", f"seek and 10 items, {count:,} keys", mine, "s", other, "py-lmdb cursor", ratio, 0.9)


ROWS: dict[str, RowFunction] = {
    "get-100k": get_small,
    "get-1m": get_large,
    "seek": seek,
    "two-processes": two_processes,
    "beside-writer": beside_writer,
}
