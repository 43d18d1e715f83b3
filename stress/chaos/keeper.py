"""The process of the chaos that has the engine checkpoint, rotate, clear and compact, at the word of the run:
``python -m stress.chaos.keeper DIRECTORY``.

It says ``B`` right before each call and ``D`` after it, so that a kill can meet the work. Invariant: the only
error is one that the state explains: views that stand in compact's way.
"""

from __future__ import annotations

import sys

import memdb
from stress.chaos.client import say
from stress.chaos.operations import open_database

__all__ = ["WORK", "main"]

WORK = ("checkpoint", "rotate_wal", "clear_wal", "compact", "sync", "check")


def main() -> None:
    """See the module."""
    with open_database(sys.argv[1]) as database:
        for line in sys.stdin:
            what = line.strip()
            assert what in WORK
            say("B", what)
            try:
                done = getattr(database, what)()
                problems = done.problems if what == "check" else []
                for problem in problems:
                    say("V", f"check: {problem}")
            except memdb.Error as error:
                if "views" not in str(error):
                    say("V", f"{what}: {type(error).__name__}: {error}".replace("\n", " "))
            say("D", what)


if __name__ == "__main__":
    main()
