"""Commands that let a slowdown land, and what they do to findings."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compare_builders import GOOD, HEADER, findings, measured
from torchperf_ci.compare.acceptance import (
    COMMAND,
    AcceptCommand,
    ChangeAcceptance,
    accept_changes,
    list_accepted,
    measure_sizes,
    parse_command,
    write_suggestion,
)
from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import Comparison, ComparisonFindings, Measured
from torchperf_ci.compare.report import judge_cases, to_markdown, to_text
from torchperf_ci.core.errors import UsageProblem


def slower(ratio: float = 1.2, **changes: object) -> Measured:
    one = measured("slow", ratio)
    if changes:
        one = replace(one, head=replace(GOOD, **changes))  # type: ignore[arg-type]
    return replace(one, again=one)


def accepted(found: ComparisonFindings, text: str, *, by: str = "maintainer") -> ComparisonFindings:
    command = parse_command(text)
    assert command is not None
    sizes = None if command.limit is not None else measure_sizes(list_accepted(command, found))
    return accept_changes(found, [ChangeAcceptance(command=command, by=by, url="https://x", sizes=sizes)])


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("all because it is right", AcceptCommand(case="all", metric="", limit=None, reason="it is right")),
        ("tiny/slow +12% because x", AcceptCommand(case="tiny/slow", metric="", limit=0.12, reason="x")),
        ("`tiny/slow` 2.5% because x", AcceptCommand(case="tiny/slow", metric="", limit=0.025, reason="x")),
        (
            "tiny/slow inductor peak memory +3% because a because b",
            AcceptCommand(case="tiny/slow inductor", metric="dynamo_peak_mem", limit=0.03, reason="a because b"),
        ),
        ("tiny/* latency because x", AcceptCommand(case="tiny/*", metric="abs_latency", limit=None, reason="x")),
    ],
)
def test_a_command_is_read(line: str, command: AcceptCommand) -> None:
    """Also between other lines of a comment."""
    assert parse_command(f"{COMMAND} {line}") == command
    assert parse_command(f"Thanks!\n  {COMMAND} {line}\nBye") == command


@pytest.mark.parametrize(
    "line", ["", "all", "all because", "tiny/slow +1000000% because x", "tiny/slow 5%", "because x", "x +-5% because y"]
)
def test_a_command_that_cannot_be_meant_says_how_it_is_written(line: str) -> None:
    """Without a reason nothing is accepted."""
    with pytest.raises(UsageProblem, match=COMMAND):
        parse_command(f"{COMMAND} {line}")


@given(st.text())
def test_other_comments_are_no_commands(text: str) -> None:
    """Whatever they say."""
    if COMMAND not in text:
        assert parse_command(text) is None


def test_what_is_accepted_does_not_fail_and_says_whose_decision_it_is() -> None:
    """In the headline, which is green, and in the table."""
    found = judge_cases(HEADER, [slower(), measured("same")])
    assert (found.blocking, found.sign) == (1, "❌")
    for text in ("/torchperf accept tiny/slow +25% because more exact", "/torchperf accept all because more exact"):
        after = accepted(found, text)
        assert (after.blocking, after.sign) == (0, "✅")
        for shown in (to_text(after), to_markdown(after)):
            assert "accepted" in shown.splitlines()[0]
            assert "maintainer" in shown
            assert "more exact" in shown


@pytest.mark.parametrize(
    "text",
    [
        "/torchperf accept tiny/slow +10% because x",
        "/torchperf accept tiny/slow peak memory +50% because x",
        "/torchperf accept tiny/other +50% because x",
    ],
)
def test_what_was_not_accepted_still_fails(text: str) -> None:
    """A larger change, another metric, another case."""
    after = accepted(judge_cases(HEADER, [slower()]), text)
    assert (after.blocking, after.sign) == (1, "❌")


def test_a_later_push_keeps_what_stays_within_the_size() -> None:
    """Where the command names none, the size is that of the measurement it was written for."""
    command = parse_command("/torchperf accept all because x")
    assert command is not None
    then = judge_cases(HEADER, [slower(1.2)])
    sizes = measure_sizes(list_accepted(command, then))
    known = [ChangeAcceptance(command=command, by="maintainer", url="", sizes=sizes)]
    assert accept_changes(judge_cases(HEADER, [slower(1.19)]), known).blocking == 0
    worse = accept_changes(judge_cases(HEADER, [slower(1.3)]), known)
    assert worse.blocking == 1
    assert "that maintainer accepted" in to_text(worse)
    another = replace(slower(1.1), case=replace(slower().case, model="another"))
    assert accept_changes(judge_cases(HEADER, [another]), known).blocking == 1


def test_counts_and_what_is_missing_are_accepted_but_not_what_is_broken() -> None:
    """A graph break more has a size, a model that is gone has none, and one that crashes cannot be accepted."""
    base = replace(GOOD, counters={"graph_breaks": 1})
    breaks = replace(slower(1.0, counters={"graph_breaks": 2}), base=base)
    found = judge_cases(HEADER, [replace(breaks, again=replace(breaks, again=None))])
    assert found.blocking == 1
    assert accepted(found, "/torchperf accept tiny/slow graph breaks because x").blocking == 0
    gone = judge_cases(HEADER, [measured("gone", head=None)])
    assert accepted(gone, "/torchperf accept tiny/gone because removed").blocking == 0
    command = parse_command("/torchperf accept tiny/broken because x")
    assert command is not None
    with pytest.raises(UsageProblem, match="cannot be accepted"):
        list_accepted(command, findings())


def test_a_command_for_nothing_that_fails_names_what_does() -> None:
    """With the nearest name."""
    command = parse_command("/torchperf accept tiny/slw because x")
    assert command is not None
    with pytest.raises(UsageProblem, match="Did you mean tiny/slow"):
        list_accepted(command, judge_cases(HEADER, [slower()]))
    with pytest.raises(UsageProblem, match="nothing fails"):
        list_accepted(command, judge_cases(HEADER, [measured("same")]))


def test_the_report_suggests_the_command_that_accepts_what_fails() -> None:
    """With the size that was measured; all of it when several fail."""
    one = judge_cases(HEADER, [slower(1.2)])
    suggestion = write_suggestion(one)
    assert accepted(one, suggestion).blocking == 0
    assert "%" in suggestion
    both = judge_cases(HEADER, [slower(1.2, memory_bytes=200_000_000)])
    assert accepted(both, write_suggestion(both)).blocking == 0
    assert write_suggestion(judge_cases(HEADER, [measured("same")])) == ""


@pytest.mark.parametrize("metric", ["speedup", "tokens_per_second"])
def test_a_ratio_of_a_metric_that_should_be_high_is_turned(metric: str) -> None:
    """A speedup that fell to 0.8 is 1.25 times worse, also as a suite's own metric."""
    fell = Comparison(
        case=slower().case, metric=metric, verdict=Verdict.REGRESSED, ratio=0.8, low=0.79, high=0.81, blocks=True
    )
    (size,) = measure_sizes([fell]).values()
    assert math.isclose(size, 1 / 0.79)
