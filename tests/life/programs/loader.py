"""``python loader.py METHOD DATA``: a loader of samples with the structure of PyTorch's DataLoader.

A dataset object that has opened in its constructor is handed to worker processes, each with a queue of
indices; they answer batches of arrays over one queue, which a thread of the main process empties. Two epochs;
in the second the samples change and the writer dies.
"""

import os
import signal
import sys
import threading
from multiprocessing import get_context
from queue import Queue
from typing import Any

import numpy as np

import memdb

SAMPLES, BATCH, WORKERS = 400, 16, 3


class Samples:
    """A map-style dataset: ``len`` and item by index."""

    def __init__(self, path: str) -> None:
        self.db = memdb.open(path, max_memory="64MiB", linger=0.5)

    def __len__(self) -> int:
        return len(self.db)

    def __getitem__(self, index: int) -> Any:
        with self.db.snapshot() as snap, snap.view(index) as buffer:
            return np.frombuffer(buffer, dtype="f4").copy()


def worker(dataset: Samples, indices: Any, batches: Any) -> None:
    while (batch := indices.get()) is not None:
        batches.put((batch, np.stack([dataset[index] for index in batch]), os.getpid()))


def epoch(context: Any, dataset: Samples, hurt: bool) -> tuple[dict[int, float], set[int]]:
    batches, queues = context.Queue(), [context.Queue() for _ in range(WORKERS)]
    processes = [context.Process(target=worker, args=(dataset, one, batches), daemon=True) for one in queues]
    for process in processes:
        process.start()
    ready: Queue[Any] = Queue()
    order = [list(range(first, first + BATCH)) for first in range(0, SAMPLES, BATCH)]
    pin = threading.Thread(target=lambda: [ready.put(batches.get()) for _ in order])
    pin.start()
    for number, batch in enumerate(order):
        queues[number % WORKERS].put(batch)
    seen, workers = {}, set()
    for number in range(len(order)):
        batch, arrays, pid = ready.get(timeout=60)
        workers.add(pid)
        seen.update({index: float(row[0]) for index, row in zip(batch, arrays, strict=True)})
        assert all((row == row[0]).all() for row in arrays), "a torn sample"
        if hurt and number == 2:
            os.kill(dataset.db.info().processes["writer"].pid, signal.SIGKILL)
            changed = ((index, np.full(256, index + 0.5, "f4").tobytes()) for index in range(SAMPLES))
            dataset.db.set_many(changed)
    for one in queues:
        one.put(None)
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    pin.join()
    return seen, workers


def main() -> None:
    context, dataset = get_context(sys.argv[1]), Samples(sys.argv[2])
    dataset.db.set_many((index, np.full(256, index, "f4").tobytes()) for index in range(SAMPLES))
    seen, workers = epoch(context, dataset, hurt=False)
    assert seen == {index: float(index) for index in range(SAMPLES)}
    assert len(workers) > 1
    seen, _ = epoch(context, dataset, hurt=True)
    assert all(value in (index, index + 0.5) for index, value in seen.items())
    assert epoch(context, dataset, hurt=False)[0] == {index: index + 0.5 for index in range(SAMPLES)}
    print("ok")


if __name__ == "__main__":
    main()
