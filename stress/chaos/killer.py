"""Who is killed or stopped when: decided by a seeded generator, from what runs at the moment.

Owns: the choice, the signals and their record. Invariants:

* A round's mode is kept: ``supervisor`` and ``writer`` are the rounds that spare that one role.
* The writer is killed a second time, while it recovers, at most once between two commits: a third death at
  one LSN would rightly stop the writing (rule G4).
* Whoever was stopped goes on, within a second.
"""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic, monotonic_ns

from stress.chaos.group import actors, is_gone, kill, kill_process_group, send
from stress.chaos.keeper import WORK
from stress.chaos.members import Keeper, Member, Reader, Writer
from stress.chaos.reader import CALM_SECONDS

__all__ = ["MODES", "Killer", "mortal"]

MODES = ("supervisor", "anything", "writer")
"""Who is spared in a round."""
_KINDS = {"calm": 5, "one": 40, "several": 16, "recovery": 12, "at work": 18, "stopped": 16, "group": 16}
_WEIGHTS = {
    "writer": 6,
    "supervisor": 3,
    "checkpointer": 2,
    "reaper": 1,
    "client": 5,
    "reader": 2,
    "keeper": 1,
}
_STOP_SECONDS = (0.02, 0.6)
_SEEN_SECONDS = 3.0


class Killer:
    """Kills; see the module. ``members``: who of the clients and readers may be killed now."""

    def __init__(self, directory: Path, choose: random.Random, members: Callable[[], list[Member]]) -> None:
        self._directory, self._random, self._members = directory, choose, members
        self.mode = MODES[0]
        self.kills: Counter[str] = Counter()
        self.ways: Counter[str] = Counter()
        self.stops = 0
        self.deaths: list[int] = []
        """When the writer was killed, and not the supervisor with it."""
        self.disturbances: list[int] = []
        """When something was done that delays a new writer: kills of what it needs, and stops."""
        self.fatal: list[int] = []
        """When a supervisor or a writer was killed: what only their memory held may go with both."""
        self.switches: list[int] = []
        """When a compaction began: it makes a generation, too."""
        self.trace: list[str] = []
        self._pause = threading.Event()
        self._stopped: dict[int, float] = {}

    # ---------------------------------------------------------------------------------------------- choices

    def act(self) -> None:
        """One deed."""
        kinds = dict(_KINDS)
        if self.mode != "anything":
            del kinds["group"]
        if self.mode == "writer":
            del kinds["recovery"], kinds["calm"]
        kind = self._random.choices(list(kinds), weights=list(kinds.values()))[0]
        self.ways[kind] += 1
        {
            "calm": self._after_a_calm,
            "one": lambda: self._several(1),
            "several": lambda: self._several(self._random.randint(2, 4)),
            "recovery": self._in_recovery,
            "at work": self._at_work,
            "stopped": self._stop_one,
            "group": self._whole_group,
        }[kind]()

    def _several(self, count: int) -> None:
        candidates = self._candidates()
        chosen: list[tuple[str, int, Member | None]] = []
        while candidates and len(chosen) < count:
            of_role = Counter(role for role, _, _ in candidates)
            weights = [_WEIGHTS[role] / of_role[role] for role, _, _ in candidates]
            chosen.append(self._random.choices(candidates, weights=weights)[0])
            candidates.remove(chosen[-1])
        alone = all(role != "supervisor" for role, _, _ in chosen)
        for role, pid, member in chosen:
            self._kill(role, pid, member, alone=alone)

    def _after_a_calm(self) -> None:
        """The writer alone, when no snapshot can be pinned in the generation before the present one: it would
        get a second's grace (rule G3)."""
        last = max([*self.disturbances[-1:], *self.switches[-1:]], default=0)
        while (left := last / 1e9 + CALM_SECONDS + 0.5 - monotonic()) > 0:
            self._pause.wait(min(left, 0.05))
            self.continue_stopped()
        self._kill("writer", actors(self._directory).get("writer", 0), alone=True)

    def _candidates(self) -> list[tuple[str, int, Member | None]]:
        found: list[tuple[str, int, Member | None]] = [
            (role, pid, None) for role, pid in actors(self._directory).items() if role != self.mode
        ]
        return found + [(one.role, one.pid, one) for one in self._members()]

    def _in_recovery(self) -> None:
        """The writer, and then its successor, somewhere in its recovery."""
        first = actors(self._directory).get("writer")
        if first is None or not self._kill("writer", first, alone=True):
            return
        until = monotonic() + _SEEN_SECONDS
        while monotonic() < until:
            second = actors(self._directory).get("writer", first)
            if second != first:
                self._pause.wait(self._random.uniform(0.0, 0.12))
                if self.mode == "anything" and self._random.random() < 0.3:
                    self._kill("supervisor", actors(self._directory).get("supervisor", 0))
                self._kill("writer", second, alone=True)
                return
            self._pause.wait(0.001)  # looks again: a birth in another group's tree gives no event

    def _at_work(self) -> None:
        """The writer, the checkpointer or all, somewhere in a checkpoint, a rotation, a compaction."""
        keeper = next((one for one in self._members() if isinstance(one, Keeper)), None)
        if keeper is None or not keeper.idle.wait(0.0):
            return self._several(1)
        work = self._random.choice(WORK)
        if work == "compact":
            self.switches.append(monotonic_ns())
        keeper.ask(work)
        if not keeper.begun.wait(_SEEN_SECONDS):
            return
        self._pause.wait(self._random.choice((0.0, 0.0, self._random.uniform(0.0, 0.06))))
        now = actors(self._directory)
        if self.mode == "anything" and self._random.random() < 0.3:
            self._all(now)
            return
        role = self._random.choice(
            [one for one in ("writer", "checkpointer") if one != self.mode and one in now] or ["reaper"]
        )
        self._kill(role, now.get(role, 0), alone=role == "writer")

    def _whole_group(self) -> None:
        self._all(actors(self._directory))

    def _all(self, now: dict[str, int]) -> None:
        """At one instant: one after the other, the first's death would have the next write what it holds."""
        now = {role: pid for role, pid in now.items() if not is_gone(pid)}
        if not now or not kill_process_group(next(iter(now.values()))):
            return
        self.kills += dict.fromkeys(now, 1)
        self.disturbances.append(monotonic_ns())
        self.fatal.append(self.disturbances[-1])
        self._note(f"kill all {now}")

    def _stop_one(self) -> None:
        """Any process at all, also the spared ones: a stopped one is not dead."""
        found = [(role, pid) for role, pid in actors(self._directory).items()]
        found += [(one.role, one.pid) for one in self._members()]
        if not found:
            return
        role, pid = self._random.choice(found)
        if send(pid, signal.SIGSTOP):
            self.stops += 1
            self.disturbances.append(monotonic_ns())
            self._stopped[pid] = monotonic() + self._random.uniform(*_STOP_SECONDS)
            self._note(f"stop {role} {pid}")

    # ---------------------------------------------------------------------------------------------- signals

    def _kill(self, role: str, pid: int, member: Member | None = None, *, alone: bool = False) -> bool:
        if not pid or is_gone(pid):
            return False
        now = monotonic_ns()
        if member is not None:
            member.kill()
        elif not kill(pid):
            return False
        self.kills[role] += 1
        if alone and role == "writer":
            self.deaths.append(now)
        if role in ("writer", "supervisor"):
            self.disturbances.append(now)
            self.fatal.append(now)
        self._note(f"kill {role} {pid}")
        return True

    def _note(self, text: str) -> None:
        self.trace.append(f"{monotonic_ns()} {text} ({self.mode} spared)")

    def continue_stopped(self, *, all_of_them: bool = False) -> None:
        """Those whose time is over go on."""
        now = monotonic()
        for pid in [pid for pid, until in self._stopped.items() if all_of_them or until <= now]:
            del self._stopped[pid]
            send(pid, signal.SIGCONT)

    def kill_everyone(self) -> None:
        """All actors at once, whatever the mode is."""
        self._all(actors(self._directory))


def mortal(members: list[Member]) -> list[Member]:
    """Who of the members may be killed: a prober is what a leak is seen by, and lives as long as the run."""
    return [one for one in members if isinstance(one, Writer | Keeper) or _is_ranger(one)]


def _is_ranger(one: Member) -> bool:
    return isinstance(one, Reader) and one.kind == "range"
