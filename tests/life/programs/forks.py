"""``python forks.py DATA``: forks of a process with threads at work, an open snapshot, a view and a
transaction.

Each child must be told that they are not its own, can use the handle at once, and ends in one of two ways:
without and with the interpreter's finalizers. The parent's go on as if nothing had happened.
"""

import gc
import os
import sys
import threading
import traceback

import memdb

CHILDREN = 12


def child(number: int, db: memdb.Database, snap: memdb.Snapshot, tx: memdb.Transaction) -> None:
    for use in (lambda: snap["base"], lambda: tx["base"], lambda: tx.set("x", 1), lambda: snap.view("blob")):
        try:
            use()
        except memdb.ForkedHandleError as error:
            assert "process" in str(error), error
        else:
            raise AssertionError("it worked in a child")
    assert db["base"] == 2
    db.increment("children")
    with db.transaction() as own:
        own["child", number] = os.getpid()
    with db.snapshot() as mine:
        assert mine["child", number] == os.getpid()
    assert not db.closed


def spin(db: memdb.Database, stop: threading.Event, lane: int, told: list[int]) -> None:
    while not stop.is_set():
        told[lane] = db.increment(("lane", lane))
        assert db["lane", lane] == told[lane]
        for _ in db.range(limit=20):
            pass


def main() -> None:
    db = memdb.open(sys.argv[1], max_memory="64MiB", linger=0.5)
    db.update({"base": 1, "blob": bytes(range(256)) * 100})
    stop, told = threading.Event(), [0] * 4
    threads = [threading.Thread(target=spin, args=(db, stop, lane, told), daemon=True) for lane in range(4)]
    with db.snapshot() as snap:
        view = snap.view("blob").__enter__()
        db["base"] = 2
        tx = db.transaction(isolation="snapshot").__enter__()
        tx["of the parent"] = tx["base"]
        for thread in threads:
            thread.start()
        for number in range(CHILDREN):
            before = list(told)
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    child(number, db, snap, tx)
                    gc.collect()
                    code = 0
                    if number % 2:
                        sys.exit(0)  # finalizers of what was inherited run
                except AssertionError:
                    traceback.print_exc()
                finally:
                    if code or number % 2 == 0:
                        sys.stderr.flush()
                        os._exit(code)
            _, status = os.waitpid(pid, 0)
            assert status == 0, f"child {number}: {status}"
            while told == before:  # the threads go on
                pass
        assert snap["base"] == 1 and bytes(view) == bytes(range(256)) * 100
        tx.__exit__(None, None, None)
        view.release()
    stop.set()
    for thread in threads:
        thread.join()
    assert [db["lane", lane] for lane in range(4)] == told
    assert db["of the parent"] == 2 and db["children"] == CHILDREN
    assert len(list(db.keys(prefix=("child",)))) == CHILDREN
    assert not db.readers(), db.readers()
    db.close()
    print("ok")


main()
