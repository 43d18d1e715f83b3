"""Workloads: the keys, values and loops that the benchmarks time.

Owns: the data set of the figures (16 random bytes a key, 100 bytes a value, loaded in random order, 30 % of
it overwritten) and the inner loops.
Invariant: the same seed gives the same data to every engine, and a loop holds nothing but the call that it
times.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from time import perf_counter_ns
from typing import Any

KEY_BYTES = 16
VALUE_BYTES = 100
OVERWRITTEN = 0.3


def keys(count: int, seed: int = 1) -> list[bytes]:
    """`count` random keys, in random order."""
    source = random.Random(seed)
    return [source.randbytes(KEY_BYTES) for _ in range(count)]


def pairs(chosen: Sequence[bytes], seed: int = 2) -> Iterator[tuple[bytes, bytes]]:
    """Each key with a random value."""
    source = random.Random(seed)
    for key in chosen:
        yield key, source.randbytes(VALUE_BYTES)


def fill(
    put_many: Callable[[dict[bytes, bytes]], object], chosen: Sequence[bytes], batch: int = 10_000
) -> None:
    """Loads all keys in their (random) order, then overwrites 30 % of them, in commits of `batch`."""
    source = random.Random(3)
    again = source.sample(chosen, int(len(chosen) * OVERWRITTEN))
    for part, seed in ((chosen, 2), (again, 4)):
        stream = pairs(part, seed)
        while piece := dict(islice(stream, batch)):
            put_many(piece)


def sample(chosen: Sequence[bytes], count: int, seed: int) -> list[bytes]:
    """`count` of the keys, in random order."""
    return random.Random(seed).choices(chosen, k=count)


def timed(call: Callable[[Any], object], arguments: Sequence[Any]) -> float:
    """Seconds per call of `call(argument)`."""
    start = perf_counter_ns()
    for argument in arguments:
        call(argument)
    return (perf_counter_ns() - start) / 1e9 / len(arguments)


def timed_pairs(call: Callable[[bytes, bytes], object], arguments: Sequence[tuple[bytes, bytes]]) -> float:
    """Seconds per call of `call(key, value)`."""
    start = perf_counter_ns()
    for key, value in arguments:
        call(key, value)
    return (perf_counter_ns() - start) / 1e9 / len(arguments)


def latencies(call: Callable[[Any], object], arguments: Sequence[Any]) -> list[int]:
    """Nanoseconds of each call."""
    taken = []
    for argument in arguments:
        start = perf_counter_ns()
        call(argument)
        taken.append(perf_counter_ns() - start)
    return taken
