"""The words of the shell: cutting a line, reading and writing keys."""

from __future__ import annotations

import datetime
import uuid
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memdb.cli import words
from memdb.cli.notation import NotationError

_PLAIN = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.uuids() | st.datetimes(timezones=st.just(datetime.UTC)).map(lambda moment: moment.replace(fold=0))
)  # fmt: skip
_KEYS = st.recursive(_PLAIN, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


def _typed(key: Any) -> Any:
    return (type(key), tuple(map(_typed, key))) if isinstance(key, tuple) else (type(key), repr(key))


@given(_KEYS)
@example("--ttl")
@example("-0")
@example("b'x'")
@example("it's")
@example("UUID('x')")
@example("nan")
@example("")
@example(float("-inf"))
def test_a_key_comes_back(key: Any) -> None:
    text = words.write(key)
    assert _typed(words.parse(text)) == _typed(key)
    assert [word.text for word in words.split(f"get {text} x")] == ["get", text, "x"]
    assert not text.startswith("--")


@given(st.text())
def test_every_line_is_cut_somehow(line: str) -> None:
    at = 0
    for word in words.split(line):
        assert line[word.start : word.start + len(word.text)] == word.text
        assert line[at : word.start].strip() == ""
        at = word.start + len(word.text)
        try:
            words.parse(word.text)
        except NotationError:
            pass
    assert line[at:].strip() == ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("set k v", ["set", "k", "v"]),
        ("  get   it's ", ["get", "it's"]),
        ("set 'a b' \"c ' d\"", ["set", "'a b'", '"c \' d"']),
        ("set k {'a': [1, 2]}", ["set", "k", "{'a': [1, 2]}"]),
        ("get user[1 ]", ["get", "user[1", "]"]),
        ("get b'a b'", ["get", "b'a b'"]),
        (r"get 'a\' b' c", ["get", r"'a\' b'", "c"]),
        (
            "get UUID('12345678-1234-5678-1234-567812345678') x",
            ["get", "UUID('12345678-1234-5678-1234-567812345678')", "x"],
        ),
    ],
)
def test_split(line: str, expected: list[str]) -> None:
    assert [word.text for word in words.split(line)] == expected


def test_an_open_end_is_known() -> None:
    for line in ("get 'abc", "set k {'a': 1", "get (1, 2"):
        assert not words.split(line)[-1].whole


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("user:1", "user:1"), ("1", 1), ("'1'", "1"), ("1.5", 1.5), ("None", None), ("true", "true"),
        ("2026-01-02", "2026-01-02"), ("b'x'", b"x"), ("('k', 1)", ("k", 1)),
        ("UUID('12345678123456781234567812345678')", uuid.UUID("12345678123456781234567812345678")),
        ("('k', date('2026-01-02'))", ("k", datetime.date(2026, 1, 2))),
    ],
)  # fmt: skip
def test_parse(text: str, value: Any) -> None:
    assert words.parse(text) == value and type(words.parse(text)) is type(value)


def test_values_may_be_json() -> None:
    assert words.parse_value('{"a": true, "b": null}') == {"a": True, "b": None}
    assert words.parse_value("null") is None and words.parse_value("hello") == "hello"


@pytest.mark.parametrize("text", ["(1, 2", "'x", "[__import__('os')]", "UUID('x')", "{1: }", "date('13')"])
def test_what_must_be_a_literal_and_is_none(text: str) -> None:
    with pytest.raises(NotationError):
        words.parse(text)


@pytest.mark.parametrize("text", ["print(1)", "os.system('true')", "__import__('os')", "1+1"])
def test_nothing_is_evaluated(text: str) -> None:
    assert words.parse(text) == text
