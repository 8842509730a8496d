"""fastrnns' two JSON formats, and two files side by side."""

from __future__ import annotations

import json
import math

import pytest

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.pytorch.fastrnns import (
    VariantPair,
    VariantTimes,
    averages,
    deviation,
    observations,
    pair_averages,
    read_averages,
)

ROWS = [
    VariantTimes(group="lstm", variant="cudnn", forward=(1.0, 3.0), backward=(4.0, 6.0)),
    VariantTimes(group="lstm", variant="jit", failure="ended by signal 11 (SIGSEGV)"),
    VariantTimes(group="resnet", variant="resnet18", forward=(7.5,), backward=(8.5,)),
]


def test_averages_hold_every_variant_in_both_directions() -> None:
    """The means by group and variant, a group's backward passes after its forward ones, null for a failure."""
    assert json.dumps(averages(ROWS)) == (
        '{"lstm": {"cudnn": 2.0, "jit": null}, "lstm-backward": {"cudnn": 5.0, "jit": null}, '
        '"resnet": {"resnet18": 7.5}, "resnet-backward": {"resnet18": 8.5}}'
    )


def test_observations_are_one_per_pass() -> None:
    """One object per iteration in milliseconds; a variant that failed has one without a value, with the reason."""
    failure = {"value": None, "error": "ended by signal 11 (SIGSEGV)"}
    assert list(observations(ROWS)) == [
        {"type": "NET", "metric": "lstm-cudnn", "unit": "ms", "value": "1.0"},
        {"type": "NET", "metric": "lstm-cudnn", "unit": "ms", "value": "3.0"},
        {"type": "NET", "metric": "lstm-jit", "unit": "ms", **failure},
        {"type": "NET", "metric": "lstm-backward-cudnn", "unit": "ms", "value": "4.0"},
        {"type": "NET", "metric": "lstm-backward-cudnn", "unit": "ms", "value": "6.0"},
        {"type": "NET", "metric": "lstm-backward-jit", "unit": "ms", **failure},
        {"type": "NET", "metric": "resnet-resnet18", "unit": "ms", "value": "7.5"},
        {"type": "NET", "metric": "resnet-backward-resnet18", "unit": "ms", "value": "8.5"},
    ]


def test_what_was_written_can_be_read() -> None:
    """A file of averages reads as what it was written from."""
    assert read_averages(json.dumps(averages(ROWS)).encode(), "a.json") == averages(ROWS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "a.json:1: not JSON"),
        ("[1]", "a.json: not what --print-json oss writes: expected an object"),
        ('{"lstm": 1}', "a.json: lstm: expected an object"),
        ('{"lstm": {"jit": "fast"}}', "a.json: lstm/jit: expected a number, got text"),
        ('{"lstm": {"jit": NaN}}', "lstm/jit: expected a number"),
        ('{"lstm": {"jit": true}}', "lstm/jit: expected a number, got true or false"),
        ('{"lstm": {"jit": -1}}', "lstm/jit: expected a number of at least 0"),
    ],
)
def test_other_files_are_refused(text: str, message: str) -> None:
    """The message names the file and what is wrong with it."""
    with pytest.raises(UsageProblem, match=message):
        read_averages(text.encode(), "a.json")


def test_every_variant_of_either_file_is_a_pair() -> None:
    """Failures and variants of one file are shown with a note, and have no ratio."""
    old = {"lstm": {"a": 2.0, "b": None, "c": 1.0, "zero": 0.0}}
    new = {"lstm": {"a": 3.0, "b": 1.0, "zero": 1.0}, "resnet": {"d": None}}
    found = pair_averages(old, new)
    assert found == [
        VariantPair(group="lstm", variant="a", old=2.0, new=3.0),
        VariantPair(group="lstm", variant="b", old=None, new=1.0, note="failed in old"),
        VariantPair(group="lstm", variant="c", old=1.0, new=None, note="not in new"),
        VariantPair(group="lstm", variant="zero", old=0.0, new=1.0),
        VariantPair(group="resnet", variant="d", old=None, new=None, note="not in old, failed in new"),
    ]
    assert [pair.ratio for pair in found] == [1.5, None, None, None, None]


def test_a_single_time_has_no_deviation() -> None:
    """One time says nothing about the spread; two do."""
    assert math.isnan(deviation([1.0]))
    assert deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))
