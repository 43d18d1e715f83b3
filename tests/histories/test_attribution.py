"""The log against what clients said: what does not belong together is found."""

from typing import Any

from histories.attribution import Record, attribute
from histories.history import UNHEARD, Operation


def done(
    client: int, number: int, *steps: list[Any], outcome: str = "ok", lsn: int | None = None
) -> Operation:
    return Operation(client, number, "call", number, number + 1, outcome, list(steps), lsn=lsn)


OWNERS = {"one": 1, "two": 2}


def test_records_get_to_their_operations() -> None:
    history = [
        done(1, 1, ["set", "a", "x"], ["set", "b", "y"]),
        done(1, 2, ["delete", "z", False]),
        done(1, 3, ["set", "m1", "x"], ["clear", "m", "n", 3], ["set", "m2", "v"], ["delete", "q", False],
             lsn=5),
        done(2, 1, ["add", "n", 2, 2]),
        done(2, 2, ["append", "l", "i"]),
        done(2, 3, ["swap", "r", "a", "b", False]),
        done(2, 4, ["delete", "a", UNHEARD], outcome="open"),
        done(3, 1, ["add", "n", 1, UNHEARD], outcome="open"),
        done(4, 1, ["set", "a", "never"], outcome="open"),
    ]  # fmt: skip
    records = [
        Record(1, "two", 1, [("set", "n", 2)]),
        Record(2, "one", 1, [("set", "a", "x"), ("set", "b", "y")]),
        Record(3, "two", 2, [("set", "l", ["h", "i"])]),
        Record(4, "unknown", 1, [("set", "n", 3)]),
        Record(5, "one", 3, [("clear", "m", "n"), ("set", "m2", "v")]),
        Record(6, "two", 7, [("delete", "a")]),
    ]
    assert attribute(records, history, OWNERS) == []
    assert [one.lsn for one in history] == [2, None, 5, 1, 3, None, 6, 4, None]


def test_what_is_not_in_the_log_gets_no_lsn() -> None:
    history = [done(1, 1, ["set", "a", "x"]), done(1, 2, ["set", "a", "y"])]
    assert attribute([Record(1, "one", 2, [("set", "a", "y")])], history, OWNERS) == []
    assert [one.lsn for one in history] == [None, 1]


def test_a_transaction_that_was_acknowledged_and_is_not_in_the_log() -> None:
    """Later commits cover it: no read shows that it is lost."""
    history = [done(1, 1, ["set", "a", "x"], lsn=1), done(1, 2, ["set", "a", "y"], lsn=2)]
    (violation,) = attribute([Record(2, "one", 2, [("set", "a", "y")])], history, OWNERS)
    assert "acknowledged at LSN 1" in violation
    (violation,) = attribute([Record(1, "one", 1, [("set", "a", "x")])], history, OWNERS)
    assert "acknowledged at LSN 2" in violation
    read = done(1, 3, ["get", "a", "y"], ["delete", "b", False], lsn=3)
    assert attribute([], [read], OWNERS) == []


def test_a_request_twice_in_the_log() -> None:
    twice = [Record(lsn, "one", 1, [("set", "a", "x")]) for lsn in (1, 2)]
    (violation,) = attribute(twice, [done(1, 1, ["set", "a", "x"])], OWNERS)
    assert "committed at 1 and 2" in violation


def test_a_repeated_write_under_another_name() -> None:
    twice = [Record(1, "one", 1, [("set", "n", 1)]), Record(2, "other", 1, [("set", "n", 2)])]
    (violation,) = attribute(twice, [done(1, 1, ["add", "n", 1, 1])], OWNERS)
    assert "nobody wrote" in violation


def test_a_record_that_holds_something_else() -> None:
    for changes in ([("set", "a", "z")], [("set", "a", "x"), ("set", "b", "y")], [("clear", "a", "b")], []):
        (violation,) = attribute([Record(1, "one", 1, changes)], [done(1, 1, ["set", "a", "x"])], OWNERS)
        assert "nobody wrote" in violation


def test_a_deleted_key_of_a_range_that_is_empty_then() -> None:
    history = [done(1, 1, ["delete", "m1", True], ["clear", "m", "n", 0], ["set", "a", "x"])]
    record = Record(1, "one", 1, [("delete", "m1"), ("set", "a", "x")])
    assert attribute([record], history, OWNERS) == []


def test_a_refused_one_in_the_log() -> None:
    history = [done(1, 1, ["set", "a", "x"], outcome="conflict")]
    assert attribute([Record(1, "one", 1, [("set", "a", "x")])], history, OWNERS)


def test_another_lsn_than_was_told_and_one_out_of_order() -> None:
    history = [done(1, 1, ["set", "a", "x"], lsn=7), done(2, 1, ["set", "a", "y"])]
    records = [Record(6, "one", 1, [("set", "a", "x")]), Record(5, "two", 1, [("set", "a", "y")])]
    assert len(attribute(records, history, OWNERS)) == 2
