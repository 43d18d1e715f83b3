"""The oracle of ``stress chaos`` sees what it is for: told histories by hand, it finds each loss, each torn
commit and each read that nothing explains, and nothing where nothing is wrong."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

MS = 1_000_000
FOREVER = 1 << 62


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    return importlib.import_module("stress.chaos.oracle")


@pytest.fixture
def life(oracle: ModuleType) -> "Life":
    return Life(oracle)


class Life:
    """One client's lines, and what snapshots show of it. Time goes on by a millisecond with each."""

    def __init__(self, oracle: ModuleType) -> None:
        self.oracle, self.region = oracle, oracle.Region(1)
        self.now = self.counter = 0
        self.losses: list[tuple[int, int]] = []
        self.kills: list[int] = []

    def line(self, kind: str, text: str = "") -> int:
        self.now += MS
        self.region.hear(f"{kind} {self.now} {text}\n")
        return self.now

    def begin(self, kind: str, *index: int, level: str = "os") -> int:
        """Its counter."""
        self.counter += 1
        level = "memory" if kind == "volatile" else level
        self.line("I", self.oracle.Operation(kind, index or (0,), self.counter, level).line())
        return self.counter

    def do(self, kind: str, *index: int, level: str = "os") -> int:
        counter = self.begin(kind, *index, level=level)
        self.line("A")
        return counter

    def taken(self) -> tuple[int, int]:
        """The times between which a snapshot is taken."""
        self.now += 2 * MS
        return self.now - MS, self.now

    def sees(
        self,
        model: dict[tuple[str, int], int],
        *,
        volatile: int | dict[int, int] = 0,
        ttl: dict[int, int] | None = None,
        at: tuple[int, int] | None = None,
    ) -> list[str]:
        """What the oracle says to a snapshot that shows this."""
        begun, ended = at or self.taken()
        if isinstance(volatile, int):
            volatile = dict.fromkeys(range(3), volatile) if volatile else {}
        seen = self.oracle.Observation(begun, begun, ended, model, volatile, ttl or {}, "reader 1")
        found: list[str] = self.region.judge(seen, self.losses, self.kills)
        return found


S0, S1 = ("s", 0), ("s", 1)


def test_what_was_acknowledged_is_there(life: Life) -> None:
    assert life.sees({}) == []
    first = life.do("set", 0)
    second = life.do("set", 1)
    assert life.sees({S0: first, S1: second}) == []
    for lost in ({}, {S0: first}, {S1: second}):
        (violation,) = life.sees(lost)
        assert "no state between 2 and 2 operations" in violation


@pytest.mark.parametrize(
    ("kind", "index"), [("delete", (0,)), ("delete_many", (0, 1)), ("clear", (0,)), ("swap", (0, 2))]
)
def test_what_was_deleted_does_not_come_back(life: Life, kind: str, index: tuple[int, ...]) -> None:
    before = {S0: life.do("set", 0)}
    assert life.sees(before) == []
    counter = life.do(kind, *index)
    assert life.sees({("s", 2): counter} if kind == "swap" else {}) == []
    assert life.sees(before)


def test_a_value_that_nobody_wrote(life: Life) -> None:
    counter = life.do("set", 0)
    assert life.sees({S0: counter + 1})
    assert life.sees({S0: counter, ("s", 7): counter})


def test_an_open_operation_may_be_there_until_it_was_seen(life: Life) -> None:
    counter = life.begin("set", 0)
    assert life.sees({}) == []
    assert life.sees({S0: counter}) == []
    assert life.sees({}), "what one snapshot has shown, a later one must show"


def test_a_snapshot_taken_before_another_was_may_show_less(life: Life) -> None:
    early = life.taken()
    counter = life.begin("set", 0)
    assert life.sees({S0: counter}) == []
    assert life.sees({}, at=early) == []


def test_a_state_of_the_future(life: Life) -> None:
    early = life.taken()
    model = {S0: life.do("set", 0)}
    assert life.sees(model, at=early)
    later = life.taken()
    volatile = life.do("volatile")
    assert life.sees(model, volatile=volatile, at=later)
    assert life.sees(model, volatile=volatile) == []


@pytest.mark.parametrize("acknowledged", [False, True])
@pytest.mark.parametrize("kind", ["many", "group", "swap"])
def test_a_torn_commit(life: Life, kind: str, acknowledged: bool) -> None:
    base = {("g", one): 1 for one in range(5)} if kind == "group" else {S1: 1}
    life.do(kind if kind == "group" else "set", 1)
    counter = (life.do if acknowledged else life.begin)(kind, 1, 2)
    whole = {
        "many": {S1: counter, ("s", 2): counter},
        "group": {("g", one): counter for one in range(5)},
        "swap": {("s", 2): counter},
    }[kind]
    first = next(iter(whole))
    for torn in (base | {first: counter}, {key: one for key, one in whole.items() if key != first}):
        if torn not in (base, whole):
            assert life.sees(torn), torn
    assert life.sees(whole) == []


def test_a_pipeline_may_be_there_in_part_only_while_it_is_under_way(life: Life) -> None:
    life.do("set", 0)
    counter = life.begin("pipeline", ~0, 1)
    for part in ({S0: 1}, {S0: 1, S1: counter}, {}, {S1: counter}):
        assert life.sees(part) == []
    assert life.sees({S0: counter})
    life.line("A")
    assert life.sees({S1: counter}) == []
    assert life.sees({S0: 1, S1: counter})


def test_what_was_withdrawn_is_never_there(life: Life) -> None:
    counter = life.begin("set", 0)
    life.line("N")
    assert life.sees({}) == []
    assert life.sees({S0: counter})


def test_what_the_dead_had_open_is_there_as_a_whole_or_not_at_all(life: Life) -> None:
    life.do("count")
    counter = life.begin("many", 0, 1)
    life.region.closed = True
    number = {("n", 0): 1}
    assert life.region.can_judge(life.oracle.Observation(0, 0, FOREVER, {}, {}, {}, ""))
    assert life.sees(number | {S0: counter})
    assert life.sees(number) == []
    assert life.sees(number | {S0: counter, S1: counter}) == []
    assert life.sees(number)


def test_nothing_is_judged_before_the_client_has_said_more(life: Life) -> None:
    life.do("set", 0)
    begun, ended = life.taken()
    seen = life.oracle.Observation(begun, begun, ended, {S0: 1}, {}, {}, "")
    assert not life.region.can_judge(seen)
    life.begin("set", 0)
    assert life.region.can_judge(seen)


def test_what_was_cleared_away_does_not_come_back(life: Life) -> None:
    whole = {S0: life.do("set", 0), S1: life.do("set", 1)}
    life.region.closed = True
    begun, ended = life.taken()
    life.region = life.oracle.Cleared(life.region, begun, ended)
    meanwhile, before = (begun, ended), (begun - MS, begun - MS // 2)
    assert life.sees(whole, at=before) == []
    assert life.sees({}, at=before), "gone too early"
    assert life.sees(whole, at=meanwhile) == life.sees({}, at=meanwhile) == []
    assert life.sees({S0: 1}, at=meanwhile), "in part"
    assert life.sees({}) == []
    assert life.sees(whole), "after it was cleared away"


# --------------------------------------------------------------------------------------- of level memory


def test_commits_of_level_memory_stay_if_supervisor_or_writer_was_spared(life: Life) -> None:
    first = life.do("volatile")
    assert life.sees({}, volatile=first) == []
    second = life.do("volatile")
    assert life.sees({}, volatile=first)
    assert life.sees({})
    third = life.begin("volatile")
    assert life.sees({}, volatile=second) == []
    assert life.sees({}, volatile=third) == []


def test_an_open_commit_of_level_memory_stays_once_it_was_seen(life: Life) -> None:
    counter = life.begin("volatile")
    assert life.sees({}) == []
    assert life.sees({}, volatile=counter) == []
    assert life.sees({})


def test_a_commit_of_level_memory_in_part(life: Life) -> None:
    first, second = life.do("volatile"), life.begin("volatile")
    assert life.sees({}, volatile={0: second, 1: first, 2: first})
    assert life.sees({}, volatile={0: first, 1: first})


def test_where_all_may_die_a_commit_of_level_memory_may_go_back(life: Life) -> None:
    first = life.do("volatile")
    life.losses.append((life.now, FOREVER))
    second = life.do("volatile")
    assert life.sees({}, volatile=first) == []
    assert life.sees({}, volatile=second) == []
    assert life.sees({}), "what was acknowledged before that time stays"


@pytest.mark.parametrize("killed", [False, True])
def test_but_not_behind_a_durable_commit_unless_all_died_between(life: Life, killed: bool) -> None:
    life.losses.append((life.now, FOREVER))
    counter = life.do("volatile")
    if killed:
        life.kills.append(life.now + MS // 2)
    number = {S0: life.do("set", 0)}
    assert life.sees(number, volatile=counter) == []
    assert bool(life.sees(number)) is not killed


def test_a_death_between_a_commit_of_level_memory_and_its_answer(life: Life) -> None:
    life.losses.append((life.now, FOREVER))
    counter = life.begin("volatile")
    life.kills.append(life.now + MS // 2)
    life.line("A")
    number = {S0: life.do("set", 0)}
    assert life.sees(number, volatile=counter) == life.sees(number) == []


def test_a_withdrawn_commit_of_level_memory_never_comes(life: Life) -> None:
    life.losses.append((life.now, FOREVER))
    first = life.do("volatile")
    withdrawn = life.begin("volatile")
    life.line("N")
    assert life.sees({}, volatile=withdrawn)
    last = life.do("volatile")
    assert life.sees({}, volatile=first) == []
    assert life.sees({}, volatile=withdrawn), "between what was there and what may be, and never committed"
    assert life.sees({}, volatile=last) == []


# ------------------------------------------------------------------------------------------ times to live


def test_a_value_with_a_time_to_live(life: Life) -> None:
    old = life.do("ttl", 0, 2)
    new = life.do("ttl", 0, 0)
    assert life.sees({}, ttl={0: new}) == []
    assert life.sees({}, ttl={0: old}), "an older one"
    assert life.sees({}), "gone before its time"
    life.now += 301 * MS
    assert life.sees({}) == []
    assert life.sees({}, ttl={0: new}) == [], "the clock of expiry may be a tick behind"
    life.now += 40 * MS
    assert life.sees({}, ttl={0: new}), "there after its time"
    assert life.sees({}, ttl={1: new})


@pytest.mark.parametrize("withdrawn", [False, True])
def test_an_open_write_is_no_excuse_for_a_value_that_is_gone(life: Life, withdrawn: bool) -> None:
    old = life.do("ttl", 0, 2)
    new = life.begin("ttl", 0, 1)
    assert life.sees({}, ttl={0: old}) == []
    if withdrawn:
        life.line("N")
        assert life.sees({}, ttl={0: new})
    assert life.sees({}), "whichever of the two is there lives still"
    life.now += 900 * MS
    assert bool(life.sees({})) is withdrawn, "the open one may have come and gone"


# ------------------------------------------------------------------------------------------ everybody's


def test_money_and_transfers(oracle: ModuleType) -> None:
    operations: Any = importlib.import_module("stress.chaos.operations")
    balances = list(operations.accounts().values())
    assert operations.bank_of(balances, [2, 3], 5) == []
    assert operations.bank_of([balances[0] - 1, *balances[1:]], [2, 3], 5)
    assert operations.bank_of(balances, [2, 3], 4)


def test_a_value_names_its_key(oracle: ModuleType) -> None:
    operations: Any = importlib.import_module("stress.chaos.operations")
    for counter in (1, 40, 997, 4100):
        stored = operations.value(1, "s", 2, counter)
        assert operations.counter_in(("c", 1, "s", 2), stored) == counter
        assert operations.counter_in(("c", 1, "s", 3), stored) is None
        assert operations.counter_in(("c", 2, "s", 2), stored) is None
        torn = stored[: len(stored) // 2] + bytes(len(stored) - len(stored) // 2)
        assert operations.counter_in(("c", 1, "s", 2), torn) is None
        assert operations.counter_in(("c", 1, "s", 2), stored[:-1]) is None
