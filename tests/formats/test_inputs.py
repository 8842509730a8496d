"""Foreign JSON, parsed and typed, and its faults in plain words."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from datetime import timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.formats.model import Duration, InputProblem, convert, count_in, finite, moment, parse, text_in

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


class Spread(msgspec.Struct):
    low: Duration
    high: Duration | None = None


class Entry(msgspec.Struct):
    name: str
    spreads: list[Spread] = []
    count: int = 1
    flag: bool = False


@given(JSON)
def test_what_python_writes_is_parsed_as_python_does(value) -> None:
    """NaN, infinities, any integer and halves of surrogate pairs included; a byte order mark is no trouble."""
    text = json.dumps(value)
    for content in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        assert json.dumps(parse(content, file="f")) == text


@pytest.mark.parametrize(
    ("content", "place"),
    [(b'{\n"a": }', "f:2: not JSON"), (b'"\n\xff"', "f:2: not UTF-8"), (b" \n", "f: is empty"), (b"[" * 10**5, "f: ")],
)
def test_the_line_of_what_is_no_json_is_named(content, place) -> None:
    """And however deep it is nested."""
    with pytest.raises(InputProblem) as error:
        parse(content, file="f")
    assert str(error.value).startswith(place)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({}, "f: 'name' is missing"),
        ({"name": 3}, "f: name: expected text, got a whole number"),
        ({"name": "a", "count": 2.5}, "f: count: expected a whole number, got a number"),
        ({"name": "a", "flag": 1}, "f: flag: expected true or false, got a whole number"),
        ({"name": "a", "spreads": {}}, "f: spreads: expected a list, got an object"),
        ({"name": "a", "spreads": [{"low": 1}, {"low": -1}]}, "f: spreads[1].low: expected a number of at least 0"),
        ({"name": "a", "spreads": [{"low": math.inf}]}, "f: spreads[0].low: expected a number that is finite"),
        ({"name": "a", "spreads": [{"low": 10**400}]}, "f: spreads[0].low: number out of range"),
        ({"name": "a", "spreads": [3]}, "f: spreads[0]: expected an object, got a whole number"),
        ([], "f: expected an object, got a list"),
    ],
)
def test_a_fault_is_named_by_its_place(raw, fault) -> None:
    """What was expected there stands in words that JSON has, not in Python's."""
    with pytest.raises(InputProblem) as error:
        convert(raw, Entry, where="f")
    assert str(error.value) == fault


def test_null_is_as_good_as_not_there() -> None:
    """In a struct's own fields; a mapping keeps it."""
    assert convert({"name": "a", "count": None, "spreads": None}, Entry, where="f") == Entry(name="a")
    assert convert({"a": None}, dict[str, Any], where="f") == {"a": None}


@given(JSON)
def test_any_value_is_a_finite_number_or_none(value) -> None:
    """And nothing is coerced to one."""
    number = finite(value)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    with suppress(OverflowError):
        assert (number == value) if is_number and math.isfinite(value) else number is None
    assert finite(10**400) is None


def test_texts_and_counts_may_be_of_any_type() -> None:
    """A number is taken as it is written; what is neither text nor number is blank or 0."""
    raw = {"a": 3, "b": "x", "c": True, "d": [], "e": "7", "f": -2}
    assert [text_in(raw, name) for name in "abcdefg"] == ["3", "x", "", "", "7", "-2", ""]
    assert [count_in(raw, name) for name in "abcdefg"] == [3, 0, 0, 0, 7, 0, 0]


def test_a_time_without_an_offset_is_where_it_is_said_to_be() -> None:
    """With one it is turned to UTC; nonsense is None."""
    assert moment("2026-03-01T12:00:00Z").isoformat() == "2026-03-01T12:00:00+00:00"
    assert moment("2026-03-01T12:00:00+02:00").hour == 10
    assert moment("2026-03-01T12:00:00", naive=timezone(timedelta(hours=-3))).hour == 15
    assert moment("yesterday") is moment("") is None


def test_many_problems_are_counted() -> None:
    """A message names twenty, and says how many more there are."""
    text = str(InputProblem([f"place {number}" for number in range(25)]))
    assert text.count("place") == 20
    assert text.endswith("and 5 more")
