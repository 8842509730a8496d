"""What is read of a case that was measured, which case it is, and that few candidates stay set up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from compare_builders import GOOD, case, measured
from torchperf_ci.bisect.measure import MOST_SIDES, Shelf, choose_case, choose_settings, read_measured
from torchperf_ci.bisect.model import Question, Round
from torchperf_ci.compare.model import ACCURACY, COMPILING, MEMORY, SideResult
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Testing
from torchperf_ci.run.case_worker import CaseSettings
from torchperf_ci.run.plan import PlannedCase

EMPTY = Round(candidate="b", against="a")


def read(metric: str, base: SideResult, head: SideResult) -> Round:
    return read_measured(replace(measured("net"), base=base, head=head), Question(metric=metric), EMPTY)


def test_each_metric_is_read_where_it_lies() -> None:
    """Values of both sides, base's first."""
    more = replace(
        GOOD,
        memory_bytes=200_000_000,
        counters={"graph_breaks": 2},
        counted={"operators": 80.0},
        compile_seconds=(3.0,),
    )
    less = replace(more, counters={"graph_breaks": 0}, counted={"operators": 70.0}, compile_seconds=(2.0,))
    assert read(MEMORY, GOOD, more).values == ((1e8, 2e8),)
    assert read("graph_breaks", less, more).values == ((0.0, 2.0),)
    assert read("operators", less, more).values == ((70.0, 80.0),)
    assert read(COMPILING, less, more).values == ((2.0, 3.0),)
    assert len(read("abs_latency", GOOD, GOOD).launches) == 2
    with pytest.raises(UsageProblem, match=r"there are: latency, .*graph_breaks, operators"):
        read("graph_brakes", less, more)


def test_what_fails_is_a_value_of_accuracy_and_an_obstacle_for_all_else() -> None:
    """A case without an accuracy check, which eager code is, passes."""
    broken = SideResult(failure="crashed: signal 11")
    found = read(ACCURACY, replace(GOOD, accuracy=""), broken)
    assert (found.values, found.words) == (((0.0, 1.0),), ("pass", "crashed: signal 11"))
    assert read(ACCURACY, GOOD, replace(GOOD, accuracy="fail_accuracy: x")).values == ((0.0, 1.0),)
    assert "not_judged" in read(ACCURACY, GOOD, replace(GOOD, accuracy="not_judged: x")).unusable
    assert "crashed: signal 11" in read(MEMORY, GOOD, broken).unusable
    refused = replace(measured("net"), refusals=("batch size 8 against 4",))
    assert read_measured(refused, Question(), EMPTY).unusable == "batch size 8 against 4"


def test_a_name_leaves_one_case() -> None:
    """As much of it as is needed; none or several are listed."""
    one = PlannedCase(case=case("net"), spec="")
    other = PlannedCase(case=replace(case("net"), compiler="eager"), spec="")
    assert choose_case([one, other], "tiny/net inductor") == one
    assert choose_case([one, other], str(other.case)) == other
    assert choose_case([one], "") == one
    with pytest.raises(UsageProblem, match=re.escape(f"{one.case}, {other.case}; choose one with --case")):
        choose_case([one, other], "tiny/net")
    with pytest.raises(UsageProblem, match="there is no case 'tiny/other'"):
        choose_case([one, other], "tiny/other")


def test_nothing_is_measured_that_the_question_does_not_need() -> None:
    """Accuracy is checked for accuracy alone, and compilers start from nothing for the time of compiling alone."""
    settings = CaseSettings(instructions="callgrind")
    latency = choose_settings(settings, Question())
    assert (latency.testings, latency.cold_start, latency.instructions) == ((Testing.PERFORMANCE,), False, "never")
    assert choose_settings(settings, Question(metric=COMPILING)).cold_start
    assert Testing.ACCURACY in choose_settings(settings, Question(metric=ACCURACY)).testings
    assert choose_settings(settings, Question(metric="instructions")).instructions == "callgrind"


def test_few_candidates_stay_set_up_and_broken_ones_are_tried_once(tmp_path: Path) -> None:
    """The one that was not used for longest goes first, but not the one beside which another is needed; at the end all
    of them are gone."""
    log: list[str] = []

    @contextmanager
    def make(key: str, folder: Path) -> Iterator[str]:
        folder.mkdir()
        log.append(f"+{key}")
        if key == "broken":
            raise UsageProblem("no compiler")
        yield key
        log.append(f"-{key}")

    with Shelf(make, tmp_path) as shelf:
        for number in range(MOST_SIDES):
            shelf.get(str(number))
        shelf.get("0")
        shelf.get("new", beside="1")
        assert log[-2:] == ["-2", "+new"]
        for _ in range(2):
            with pytest.raises(UsageProblem, match="no compiler"):
                shelf.get("broken")
        assert log.count("+broken") == 1
        assert len(list(tmp_path.iterdir())) <= MOST_SIDES
    assert not list(tmp_path.iterdir())
    assert {entry[1:] for entry in log if entry.startswith("-")} == {"0", "1", "2", "3", "new"}
