"""One run of the chaos: its processes, its rounds, and what is verified between them and at the end.

Owns: the rounds (who is spared, at which levels the clients may write), the judging of what readers saw, and
the clearing away of regions whose clients are dead.

Invariants:

* A round that spares nobody begins after a sync of all that was committed, and clients write their regions
  at levels ``os`` and ``full`` in it; only their volatile keys may then go back, and not behind a durable
  commit.
* A region is judged to the end: what its dead client had open is done as a whole or not at all.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any

import memdb
from stress.chaos.figures import Pauses
from stress.chaos.group import actors, kill_group
from stress.chaos.killer import MODES, Killer, mortal
from stress.chaos.members import Keeper, Member, Reader, Writer, observations
from stress.chaos.operations import (
    DURABLE,
    LEVELS,
    Level,
    accounts,
    bank_of,
    counter_in,
    key_of,
    open_database,
    tick_ns,
)
from stress.chaos.oracle import Cleared, Observation, Region
from stress.chaos.reader import PROBED
from stress.chaos.watch import Watch

__all__ = ["Chaos"]

_GAP_SECONDS = (0.02, 0.45)
_ROUND_SECONDS = (5.0, 300.0)
_PROGRESS_SECONDS = 60.0
_ANSWER_SECONDS = 120.0
_HASTY_SECONDS = 0.25
_RETIRED = 8
"""So many regions of dead clients are verified and cleared away within a round, too."""
_CLEARED = 32
"""So many regions that were cleared away are remembered, for what readers tell late."""
_FOREVER = 1 << 62


class Chaos:
    """See the module."""

    def __init__(self, directory: Path, seed: int, *, clients: int, readers: int) -> None:
        self._directory, self._random = directory, random.Random(seed)
        self._clients, self._readers = clients, readers
        self._lock = threading.Lock()
        self._numbers = iter(range(1, 1 << 30))
        self._levels: tuple[Level, ...] = LEVELS
        self._losses: list[tuple[int, int]] = []
        self._retired: list[Writer] = []
        self._waiting: list[tuple[int, Observation]] = []
        self._cleared: dict[int, Cleared] = {}
        self._tally = 0
        self.members: list[Member] = []
        self.regions: list[Region] = []
        self.violations: list[str] = []
        self.judged = self.rounds = 0
        self.totals: Counter[str] = Counter()
        self.killer = Killer(directory, self._random, lambda: mortal(self.members))
        self.watch = Watch(directory)
        self.pauses = Pauses()
        self.reopened = 0.0

    def run(self, seconds: float, kills: int) -> None:
        """Kills for so long, and on a slow machine up to three times as long until there were so many kills;
        then verifies everything."""
        database = open_database(self._directory)
        try:
            database.set_many(accounts())
            database.set_many({("probe", number): number for number in range(PROBED)})
            database.sync()
            for position in range(self._clients):
                self._start_writer(hasty=position == 0)
            for position in range(self._readers):
                self._start_reader(position, "range")
            self._start_reader(self._readers, "probe")
            self._start(Keeper(self._lock, self._directory))
            end = monotonic() + seconds
            length = min(max(seconds / 9, _ROUND_SECONDS[0]), _ROUND_SECONDS[1])
            while not self.violations:
                self._round(database, monotonic() + length)
                enough = self.killer.kills.total() >= kills or monotonic() > end + 2 * seconds
                if monotonic() > end and enough:
                    break
            self._end_members()
            self._judge_readers(to_the_end=True)
            self._verify(database)
            self._reopen(database)
        finally:
            self.killer.continue_stopped(all_of_them=True)
            for member in self.members:
                member.kill()
                member.end()
            database.close()

    # -------------------------------------------------------------------------------------------- processes

    def _draw(self) -> int:
        return self._random.randrange(1 << 30)

    def _start(self, member: Member) -> None:
        self.members.append(member)

    def _start_reader(self, number: int, kind: str) -> None:
        self._start(Reader(self._lock, self._directory, number, self._draw(), kind, self._alive))

    def _start_writer(self, *, hasty: bool) -> None:
        timeout = _HASTY_SECONDS if hasty else 60.0
        number, levels = next(self._numbers), ",".join(self._levels)
        writer = Writer(self._lock, self._directory, number, self._draw(), levels, timeout)
        self.regions.append(writer.region)
        self.members.append(writer)

    def _bury(self) -> None:
        """Who was killed is collected and replaced; who has ended by itself has failed."""
        for member in [one for one in self.members if one.process.poll() is not None]:
            member.end()
            self._collect(member)
            if isinstance(member, Writer):
                self._start_writer(hasty=member.timeout < 10)
            elif isinstance(member, Reader):
                self._start_reader(next(self._numbers), member.kind)
            else:
                self._start(Keeper(self._lock, self._directory))

    def _collect(self, member: Member) -> None:
        self.members.remove(member)
        self.violations += member.violations
        if isinstance(member, Writer):
            member.region.closed = True
            self._retired.append(member)
        elif isinstance(member, Reader):
            self._waiting += member.waiting
            self.totals += {"snapshots": member.snapshots, "snapshots revoked": member.expired}
            self.pauses.take(member.slots)
        elif isinstance(member, Keeper):
            self.totals += member.done

    def _writers(self) -> list[Writer]:
        return [one for one in self.members if isinstance(one, Writer)]

    # ----------------------------------------------------------------------------------------------- rounds

    def _round(self, database: memdb.Database, until: float) -> None:
        mode = MODES[self.rounds % len(MODES)]
        self.rounds += 1
        self._set_levels(DURABLE if mode == "anything" else LEVELS)
        lossy_from = monotonic_ns()
        database.sync()
        if mode == "anything":
            self._losses.append((lossy_from, _FOREVER))
        self.killer.mode = mode
        pause, looked = threading.Event(), 0.0
        while monotonic() < until and not self.violations:
            self.killer.act()
            gap_until = monotonic() + self._random.uniform(*_GAP_SECONDS)
            while (left := gap_until - monotonic()) > 0:
                pause.wait(min(left, 0.05))  # the time between two kills is the workload itself
                self.killer.continue_stopped()
                self._bury()
            if monotonic() > looked + 1.0:
                looked = monotonic()
                self._look()
            self._judge_readers()
            self._told_violations()
            self._await_progress()
            if len(self._retired) >= _RETIRED:
                self.killer.continue_stopped(all_of_them=True)
                self._verify(database)
        self.killer.continue_stopped(all_of_them=True)
        self._bury()
        if mode == "anything":
            self.killer.kill_everyone()
            database.sync()
            self._losses[-1] = lossy_from, monotonic_ns()
        self._verify(database)

    def _await_progress(self) -> None:
        """Each deed is followed by a commit of some client that has begun after it."""
        since, until = monotonic_ns(), monotonic() + _PROGRESS_SECONDS
        pause = threading.Event()
        while monotonic() < until:
            with self._lock:
                if any(one.region.begun and one.region.begun[-1] > since for one in self._writers()):
                    return
            pause.wait(0.01)
            self.killer.continue_stopped()
            self._bury()
        self.violations.append(f"no commit for {_PROGRESS_SECONDS:g} s; running: {actors(self._directory)}")

    def _set_levels(self, levels: tuple[Level, ...]) -> None:
        """All clients write at these levels only, and have said so."""
        self._levels = levels
        text = ",".join(levels)
        for writer in self._writers():
            writer.tell(f"L {text}")
        until, pause = monotonic() + _ANSWER_SECONDS, threading.Event()
        while monotonic() < until:
            self._bury()
            with self._lock:
                if all(one.region.levels == text for one in self._writers()):
                    return
            pause.wait(0.005)
        self.violations.append(f"clients do not take levels {text} within {_ANSWER_SECONDS:g} s")

    def _told_violations(self) -> None:
        with self._lock:
            for member in self.members:
                found = member.region.violations if isinstance(member, Writer) else member.violations
                self.violations += found
                found.clear()

    def _look(self) -> None:
        processes = actors(self._directory)
        for member in self.members:
            processes[member.role if not isinstance(member, Reader) else f"{member.kind} reader"] = member.pid
        self.watch.look(processes)

    # ---------------------------------------------------------------------------------------------- judging

    def _judge_readers(self, *, to_the_end: bool = False) -> None:
        """What readers saw, as far as all is known that could have been seen."""
        with self._lock:
            regions = {one.client: one for one in self.regions}
            for member in self.members:
                if isinstance(member, Reader):
                    self._waiting += member.waiting
                    self.pauses.take(member.slots)
                    member.waiting, member.slots = [], []
            # In their order in time: what one has shown binds the later ones.
            waiting, self._waiting = sorted(self._waiting, key=lambda one: one[1].ended), []
            for client, seen in waiting:
                region = regions.get(client) or self._cleared.get(client)
                if region is None:
                    continue  # it was cleared away long ago, and judged by the run itself before
                if not to_the_end and not region.can_judge(seen):
                    self._waiting.append((client, seen))
                    continue
                self.judged += 1
                self.violations += region.judge(seen, self._losses, self.killer.fatal)
            self.pauses.judge(
                self.killer.deaths, self.killer.disturbances, self.killer.switches, self.regions
            )

    def _alive(self) -> list[int]:
        """Clients whose regions a snapshot shows, if only by showing nothing of them."""
        return [one.client for one in self.regions]

    def _everything(self, database: memdb.Database) -> list[tuple[int, Observation]]:
        """What is stored now, seen by the run itself; what is wrong with values and accounts."""
        tick, begun = tick_ns(), monotonic_ns()
        with database.snapshot() as snapshot:
            ended = monotonic_ns()
            rows = dict(snapshot.range(prefix=("c",)))
            balances = [stored for _, stored in snapshot.range(prefix=("account",))]
            counted = snapshot.get(("transfers",), 0)
            tally = snapshot.get(("tally",), 0)
        regions: dict[int, list[Any]] = {client: [] for client in self._alive()}
        for key, stored in rows.items():
            counter = counter_in(key, stored)
            if counter is None:
                self.violations.append(f"{key} holds no value of its own: {stored!r}"[:400])
            else:
                regions.setdefault(key[1], []).extend((key[2], key[3], counter))
        transfers = [stored for key, stored in rows.items() if key[2] == "x"]
        self.violations += bank_of(balances, transfers, counted)
        self._tally = tally
        return observations([tick, begun, ended], regions, "the run")

    def _verify(self, database: memdb.Database) -> None:
        """All regions against what is stored, `check`, and regions of the dead are cleared away."""
        self._await_farewell(database)
        for client, seen in self._everything(database):
            region = next((one for one in self.regions if one.client == client), None)
            if region is None:
                if client != 0:
                    self.violations.append(f"the region of client {client}, which was cleared away, is there")
                continue
            self._wait_until(region, seen)
            with self._lock:
                self.judged += 1
                self.violations += region.judge(seen, self._losses, self.killer.fatal)
        self._judge_readers()
        with self._lock:
            least = self.totals["tallies"] + sum(one.tallies for one in self.regions)
            most = least + self.totals["open tallies"] + sum(one.open_tally for one in self.regions)
        if not self._writers() and not least <= self._tally <= most:
            self.violations.append(f"the tally is {self._tally}, and {least} to {most} were told")
        self.violations += [f"check: {problem}" for problem in database.check().problems]
        self._clear_away(database)

    def _wait_until(self, region: Region, seen: Observation) -> None:
        """Until all is heard that its client had said by then; a client in a long call says nothing."""
        until, pause = monotonic() + _PROGRESS_SECONDS, threading.Event()
        while monotonic() < until:
            with self._lock:
                if region.can_judge(seen):
                    return
            pause.wait(0.005)
        self.violations.append(f"client {region.client} has said nothing for {_PROGRESS_SECONDS:g} s")

    def _await_farewell(self, database: memdb.Database) -> None:
        """Until the engine knows that the dead are dead: what they had published is committed then."""
        dead = {one.pid for one in self._retired}
        until, pause = monotonic() + _PROGRESS_SECONDS, threading.Event()
        while dead & {one.pid for one in database.info().clients} and monotonic() < until:
            pause.wait(0.02)
        if monotonic() >= until:
            self.violations.append(f"the engine still knows dead clients after {_PROGRESS_SECONDS:g} s")
        database.sync()

    def _clear_away(self, database: memdb.Database) -> None:
        """Regions of dead clients go, in one transaction each; their transfers are added to those of 0."""
        gone = {one.region.client for one in self._retired}
        with self._lock:
            self.regions = [one for one in self.regions if one.client not in gone]
        sum_key = key_of(0, "x", 0)
        for region in [one.region for one in self._retired]:

            def change(tx: memdb.Transaction, client: int = region.client) -> None:
                tx[sum_key] = tx.get(sum_key, 0) + tx.get(key_of(client, "x", 0), 0)
                tx.delete_range(prefix=("c", client))

            begun = monotonic_ns()
            database.transact(change, retries=10_000, durability="full")
            with self._lock:
                self._cleared[region.client] = Cleared(region, begun, monotonic_ns())
                for client in list(self._cleared)[:-_CLEARED]:
                    del self._cleared[client]
            self.violations += region.violations
            self.totals += {
                "clients": 1,
                "commits": region.operations,
                "tallies": region.tallies,
                "open tallies": int(region.open_tally),
                "outcomes settled": region.outcomes,
                "withdrawn": region.withdrawn,
            }
        self._retired.clear()

    # ------------------------------------------------------------------------------------------------- end

    def _end_members(self) -> None:
        self.killer.continue_stopped(all_of_them=True)
        for member in list(self.members):
            member.end()
            self._collect(member)

    def _reopen(self, database: memdb.Database) -> None:
        """All die at once; the disk alone must hold what is there."""
        before = [(client, seen.model, seen.volatile) for client, seen in self._everything(database)]
        kill_group(database)
        begun = monotonic()
        database.get(("tally",))
        database.sync()
        self.reopened = monotonic() - begun
        after = [(client, seen.model, seen.volatile) for client, seen in self._everything(database)]
        if before != after:
            self.violations.append(f"before the last kill of the group {before}, after it {after}")
        self.violations += [f"check: {problem}" for problem in database.check().problems]
