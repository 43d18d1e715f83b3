"""``python pools.py METHOD DATA``: a ProcessPoolExecutor whose work raises counters; the writer dies."""

import os
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import memdb

db = memdb.open(sys.argv[2], max_memory="64MiB", linger=0.5)  # as users do: at import, in every process


def work(number: int, given: memdb.Database) -> int:
    """Once by the module's handle, once by the one that came as an argument."""

    def once(tx: memdb.Transaction) -> None:
        tx.increment("sum", number)
        tx["done", number] = os.getpid()

    db.transact(once, retries=50)
    given.increment("count")
    return os.getpid()


def main() -> None:
    count = 60
    with ProcessPoolExecutor(2, mp_context=get_context(sys.argv[1])) as pool:
        futures = [pool.submit(work, number, db) for number in range(count)]
        futures[count // 4].result()
        os.kill(db.info().processes["writer"].pid, signal.SIGKILL)
        workers = {one.result() for one in futures}
    assert os.getpid() not in workers
    assert db["sum"] == sum(range(count)), db["sum"]
    assert db["count"] == count, db["count"]
    assert {db["done", number] for number in range(count)} == workers
    print("ok")


if __name__ == "__main__":
    main()
