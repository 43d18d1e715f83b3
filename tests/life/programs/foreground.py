"""``python foreground.py DATA KIND``: one of a foreground process group that is interrupted again and again.

It works in a loop, takes each KeyboardInterrupt, and keeps outside of the database (in a file of its own)
what was acknowledged. It prints ``interrupted N`` after the N-th one, ``started`` before the first, and ends
with ``ok`` after the hundredth. A KeyboardInterrupt may come between an acknowledgement and its note, so the
database may be one ahead of the note for each interrupt.
"""

import os
import signal
import sys

import memdb

TURNS = 100
path, kind = sys.argv[1:]
db = memdb.open(path, max_memory="64MiB", linger=0.5)
mine = os.getpid()
state = {"told": 0}


def work() -> None:
    if kind == "set":
        n = state["told"] + 1
        db.set((kind, mine), n)
        state["told"] = n
    elif kind == "transact":

        def once(tx: memdb.Transaction) -> None:
            tx["one", mine] = tx.get(("one", mine), 0) + 1
            tx["other", mine] = tx.get(("other", mine), 0) + 1

        db.transact(once)
        state["told"] += 1
    else:
        rows = [value for _, value in db.range(prefix=("row",))]
        assert len(rows) == 500 and len(set(rows)) == 1, "an iteration that is torn"
        with db.snapshot() as snap:
            assert snap["row", 7] == snap["row", 499]
        state["told"] += 1


def check(interrupts: int) -> None:
    if kind == "set":
        stored = db.get((kind, mine), 0)
        assert state["told"] <= stored <= state["told"] + 1, (state, stored)
    elif kind == "transact":
        one, other = db.get_many([("one", mine), ("other", mine)], 0)
        assert one == other, (one, other)
        assert state["told"] <= one <= state["told"] + interrupts, (state, one)
    else:
        assert state["told"] > 0


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


def let(how: signal.Sigmasks) -> None:
    """Interrupts are let through while it works only: the next one may come while it says something."""
    signal.pthread_sigmask(how, {signal.SIGINT})


let(signal.SIG_BLOCK)
interrupts = 0
say("started")
while interrupts < TURNS:
    try:
        let(signal.SIG_UNBLOCK)
        while True:
            work()
    except KeyboardInterrupt:
        let(signal.SIG_BLOCK)
        interrupts += 1
        say(f"interrupted {interrupts}")
check(interrupts)
say("ok")
let(signal.SIG_UNBLOCK)
while True:  # until the last one, which nothing takes
    work()
