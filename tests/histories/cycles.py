"""The black-box checker: finds anomalies by cycles of dependencies, and knows nothing of LSNs.

Owns: what can be inferred from lists that are only ever appended to. The order in which items stand in the
longest list that anybody read is the order in which their writers came; so each read tells whom it follows
(write-read), each append whom it follows (write-write), and each read whose append it has not seen
(read-write). Linear in the length of the history, but for the search inside a cycle that was found.

Anomalies (Adya's, as in Elle):

* ``incompatible order``: two reads of a list, neither of which is the beginning of the other; an item twice.
* ``internal``: a transaction that does not see its own appends, or two states of a list.
* ``G1a``: an item of a transaction that was refused. ``G1b``: a state in the middle of a transaction.
* ``lost append``: an acknowledged item that a read begun later has not.
* ``G0``: a cycle of write-write alone; ``G1c``: of write-write and write-read.
* ``G-single``: a cycle with one read-write dependency: no transaction of either isolation may be in one.
* ``G2``: a cycle without one that leaves a transaction of isolation ``snapshot`` by a read-write dependency:
  the mixing of levels is correct if there is none (a snapshot transaction owes nobody what it has read, all
  others do).

Real time is a dependency, too: what ended before another began comes before it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from histories.history import Operation

__all__ = ["Anomaly", "Cycles", "check_cycles"]

_WW, _WR, _RW, _TIME = "write-write", "write-read", "read-write", "real-time"
_MOST_CYCLES = 5
_Uses = Callable[[int, str], bool]
"""Which dependencies a search follows, by the node that they leave and their kind."""


@dataclass(frozen=True, slots=True)
class Anomaly:
    """What was found: its name, and the story."""

    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.name}: {self.text}"


@dataclass(slots=True)
class _Node:
    operation: Operation | None
    """None: no operation, but a moment between them."""
    out: dict[int, str] = field(default_factory=dict)
    """The dependency by successor: the strongest, where there are several."""


_STRENGTH = {_WW: 0, _WR: 1, _TIME: 2, _RW: 3}


class Cycles:
    """One history of lists; see the module. Steps that are no ``get`` or ``append`` of a list are skipped."""

    def __init__(self, operations: Iterable[Operation], is_list: str = "L") -> None:
        """``is_list``: what the keys of lists begin with."""
        self._operations = [
            operation
            for operation in operations
            if any(step[0] in ("get", "append") and step[1].startswith(is_list) for step in operation.steps)
        ]
        self._prefix = is_list
        self.anomalies: list[Anomaly] = []
        self.edges = 0
        self._nodes = [_Node(operation) for operation in self._operations]
        self._writers: dict[str, int] = {}
        """The node that appended an item."""
        self._final: dict[tuple[int, str], str] = {}
        """The last item that a node appended to a key."""
        self._reads: dict[str, list[tuple[int, list[str]]]] = defaultdict(list)
        """By key: node and what it read of others."""
        self._order: dict[str, list[str]] = {}

    def run(self) -> list[Anomaly]:
        """All anomalies, those of cycles up to a few of each name."""
        for number, operation in enumerate(self._operations):
            self._walk(number, operation)
        for key, reads in self._reads.items():
            self._infer_order(key, reads)
        self._infer_dependencies()
        self._check_acknowledged()
        self._order_by_time()
        self._find_cycles()
        return self.anomalies

    def _say(self, name: str, text: str) -> None:
        self.anomalies.append(Anomaly(name, text[:1500]))

    # -------------------------------------------------------------------------------------- reads and writes

    def _walk(self, number: int, operation: Operation) -> None:
        """Notes what it appended and what it read of others; judges what it read of itself."""
        own: dict[str, list[str]] = defaultdict(list)
        seen: dict[str, list[str]] = {}
        for step in operation.steps:
            key = step[1]
            if step[0] == "append" and key.startswith(self._prefix):
                other = self._writers.setdefault(step[2], number)
                if other != number:
                    raise ValueError(f"{step[2]} is appended by two operations: the history is no history")
                own[key].append(step[2])
                self._final[number, key] = step[2]
            elif step[0] == "get" and key.startswith(self._prefix):
                found, mine = list(step[2] or ()), own[key]
                others = found[: len(found) - len(mine)] if mine else found
                if mine and found[len(others) :] != mine:
                    self._say("internal", f"{operation.name} appended {mine} to {key} and then read {found}")
                elif seen.setdefault(key, others) != others:
                    self._say("internal", f"{operation.name} read {key} as {seen[key]} and as {others}")
        for key, others in seen.items():
            self._reads[key].append((number, others))

    def _infer_order(self, key: str, reads: list[tuple[int, list[str]]]) -> None:
        number, longest = max(reads, key=lambda read: len(read[1]))
        self._order[key] = longest
        if len(set(longest)) != len(longest):
            self._say("incompatible order", f"{self._name(number)} read an item of {key} twice: {longest}")
        for other, found in reads:
            if longest[: len(found)] != found:
                self._say(
                    "incompatible order",
                    f"{self._name(number)} read {key} as {longest}, {self._name(other)} as {found}",
                )
            if not found:
                continue
            writer = self._writers.get(found[-1])
            if writer is None:
                self._say("G1a", f"{self._name(other)} read {found[-1]} in {key}, which nobody appended")
            elif self._final[writer, key] != found[-1]:
                self._say(
                    "G1b",
                    f"{self._name(other)} read {key} up to {found[-1]}, where {self._name(writer)} was not "
                    "finished",
                )
        for item in longest:
            writer = self._writers.get(item)
            if writer is not None and self._operations[writer].outcome in ("conflict", "not done"):
                self._say(
                    "G1a", f"{self._name(number)} read {item} in {key} of {self._name(writer)}, refused"
                )

    def _name(self, number: int) -> str:
        operation = self._operations[number]
        return f"{operation.name} ({operation.isolation}, {operation.outcome})"

    # ------------------------------------------------------------------------------------------ dependencies

    def _infer_dependencies(self) -> None:
        for key, order in self._order.items():
            writers = [self._writers.get(item) for item in order]
            for before, after in pairwise(writers):
                self._depend(before, after, _WW)
            for reader, found in self._reads[key]:
                if self._operations[reader].outcome in ("conflict", "not done"):
                    continue  # it is not in the history; that its reads are of one state is the exact one's
                seen = len(found)
                if seen:
                    self._depend(writers[seen - 1] if seen <= len(writers) else None, reader, _WR)
                # its own append may come next: then what follows that one is not its concern
                if seen < len(writers) and writers[seen] != reader:
                    self._depend(reader, writers[seen], _RW)

    def _depend(self, before: int | None, after: int | None, kind: str) -> None:
        if before is None or after is None or before == after:
            return
        out = self._nodes[before].out
        if after not in out or _STRENGTH[kind] < _STRENGTH[out[after]]:
            out[after] = kind
            self.edges += 1

    def _check_acknowledged(self) -> None:
        """An acknowledged item is in every read of its list that began afterwards."""
        items: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
        for number, operation in enumerate(self._operations):
            if operation.outcome == "ok" and operation.ended is not None:
                for step in operation.steps:
                    if step[0] == "append" and step[1].startswith(self._prefix):
                        items[step[1]].append((operation.ended, step[2], number))
        for key, appended in items.items():
            places = {item: at for at, item in enumerate(self._order.get(key, ()))}
            reads = sorted((self._operations[number].begun, len(found), number)
                           for number, found in self._reads.get(key, ()))  # fmt: skip
            shortest = _shortest_from(reads)
            for ended, item, number in appended:
                at = bisect_left(reads, (ended + 1,))
                if at < len(reads) and shortest[at][0] <= places.get(item, len(places)):
                    self._say(
                        "lost append",
                        f"{self._name(shortest[at][1])} began after {self._name(number)} had appended {item} "
                        f"to {key}, and has not read it",
                    )

    def _order_by_time(self) -> None:
        """Dependencies of real time, few of them: through a chain of moments, one at each end of one."""
        moments: list[tuple[int, int, int]] = []
        for number, operation in enumerate(self._operations):
            if operation.outcome in ("conflict", "not done"):
                continue
            moments.append((operation.begun, 0, number))
            if operation.ended is not None and operation.outcome == "ok":
                moments.append((operation.ended, 1, number))
        moments.sort()
        chain: int | None = None
        fresh = False
        for _, ends, number in moments:
            if not ends:
                fresh = False
                if chain is not None:
                    self._depend(chain, number, _TIME)
                continue
            if not fresh:  # ends with no begin between them share a moment
                self._nodes.append(_Node(None))
                link = len(self._nodes) - 1
                self._depend(chain, link, _TIME)
                chain, fresh = link, True
            self._depend(number, chain, _TIME)

    # ------------------------------------------------------------------------------------------------ cycles

    def _find_cycles(self) -> None:
        for allowed, name in (({_WW}, "G0"), ({_WW, _WR, _TIME}, "G1c")):

            def uses(_: int, kind: str, allowed: set[str] = allowed) -> bool:
                return kind in allowed

            for component in self._components(uses):
                if not self._has_found("G0") and not self._has_found(name):
                    self._tell(name, self._cycle(component, uses))
        if any(one.name in ("G0", "G1c") for one in self.anomalies):
            return  # every other cycle may be one of these
        self._find_single()
        owed = self._is_owed
        for component in self._components(owed):
            cycle = self._cycle(component, owed)
            kinds = [self._nodes[one].out[after] for one, after in pairwise(cycle)]
            if kinds.count(_RW) != 1:  # else it was told as G-single
                self._tell("G2", cycle)

    def _has_found(self, name: str) -> bool:
        return sum(one.name == name for one in self.anomalies) >= _MOST_CYCLES

    def _is_owed(self, number: int, kind: str) -> bool:
        """All dependencies but the read-write ones of snapshot transactions that write."""
        operation = self._nodes[number].operation
        return (
            kind != _RW or operation is None or operation.isolation != "snapshot" or not _appends(operation)
        )

    def _find_single(self) -> None:
        """From each read-write dependency inside a component: a way back without another one."""
        for component in self._components(lambda _, kind: True):
            members = set(component)
            for number in component:
                for after, kind in self._nodes[number].out.items():
                    if kind != _RW or after not in members or self._has_found("G-single"):
                        continue
                    way = self._way(after, number, members, lambda _, kind: kind != _RW)
                    if way:
                        self._tell("G-single", [number, *way])

    def _components(self, uses: _Uses) -> Iterator[list[int]]:
        """Strongly connected components of more than one node (Tarjan's, without recursion)."""
        nodes = self._nodes
        index: dict[int, int] = {}
        low: dict[int, int] = {}
        stack: list[int] = []
        stacked: set[int] = set()
        for root in range(len(nodes)):
            if root in index:
                continue
            work = [(root, iter(nodes[root].out.items()))]
            index[root] = low[root] = len(index)
            stack.append(root)
            stacked.add(root)
            while work:
                number, rest = work[-1]
                for after, kind in rest:
                    if not uses(number, kind):
                        continue
                    if after not in index:
                        index[after] = low[after] = len(index)
                        stack.append(after)
                        stacked.add(after)
                        work.append((after, iter(nodes[after].out.items())))
                        break
                    if after in stacked:
                        low[number] = min(low[number], index[after])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[number])
                    if low[number] == index[number]:
                        component: list[int] = []
                        while not component or component[-1] != number:
                            component.append(stack.pop())
                            stacked.discard(component[-1])
                        if len(component) > 1:
                            yield component

    def _cycle(self, component: list[int], uses: _Uses) -> list[int]:
        """A shortest cycle through the first operation of a component."""
        members = set(component)
        first = next(one for one in component if self._nodes[one].operation is not None)
        for after, kind in self._nodes[first].out.items():
            if after in members and uses(first, kind):
                way = self._way(after, first, members, uses)
                if way:
                    return [first, *way]
        return component

    def _way(self, start: int, goal: int, members: set[int], uses: _Uses) -> list[int]:
        """The nodes of a shortest way, both ends among them; none if there is no way."""
        came: dict[int, int] = {start: start}
        queue = deque([start])
        while queue:
            number = queue.popleft()
            if number == goal:
                way = [goal]
                while way[-1] != start:
                    way.append(came[way[-1]])
                return way[::-1]
            for after, kind in self._nodes[number].out.items():
                if after in members and after not in came and uses(number, kind):
                    came[after] = number
                    queue.append(after)
        return []

    def _tell(self, name: str, cycle: list[int]) -> None:
        told = []
        for number, after in pairwise(cycle):
            if self._nodes[number].operation is not None:
                told.append(self._name(number))
            told.append(f"-{self._nodes[number].out.get(after, '?')}->")
        if cycle and self._nodes[cycle[-1]].operation is not None:
            told.append(self._name(cycle[-1]))
        self._say(name, " ".join(told))


def _appends(operation: Operation) -> bool:
    return any(step[0] == "append" for step in operation.steps)


def _shortest_from(reads: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    """Of each read and all later ones: the least length, and whose it is."""
    least: list[tuple[int, int]] = []
    for _, length, number in reversed(reads):
        least.append(min((length, number), least[-1]) if least else (length, number))
    return least[::-1]


def check_cycles(operations: Iterable[Operation], is_list: str = "L") -> list[Anomaly]:
    """Anomalies of a history; see the module."""
    return Cycles(operations, is_list).run()
