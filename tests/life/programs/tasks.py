"""A celery application over a broker of files. ``python tasks.py send COUNT`` sends that many jobs, each
tenth of them twice.

Two jobs kill their worker at their first delivery: one inside of its transaction, one between its commit and
celery's acknowledgement. A worker killed from outside may hold a lock of celery's pool, which then stands
still for ever.
"""

import os
import signal
import sys

import celery

import memdb

place = os.environ["LIFE_BROKER"]
app = celery.Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={"data_folder_in": place, "data_folder_out": place, "polling_interval": 0.02},
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
db = memdb.open(os.environ["LIFE_DATA"], max_memory="64MiB", linger=0.5)


def die_once(job: int) -> None:
    """kill -9 of this worker, unless it is a worker's second try."""
    if db.set(("died", job), os.getpid(), if_absent=True):
        os.kill(os.getpid(), signal.SIGKILL)


@app.task(autoretry_for=(memdb.ConflictError,))  # type: ignore[untyped-decorator]
def count(job: int) -> None:
    """Each job counts once, however often it is delivered."""

    def once(tx: memdb.Transaction) -> None:
        if ("done", job) not in tx:
            tx.increment("count")
            tx["done", job] = os.getpid()
        if job == 41:
            die_once(job)

    db.transact(once, retries=50)
    if job == 82:
        die_once(job)
    db.increment("delivered")


if __name__ == "__main__":
    for number in range(int(sys.argv[2])):
        for _ in range(2 if number % 10 == 0 else 1):
            count.delay(number)
