"""The verdict sentence: what is bad first, then what is open, then the rest."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from compare_builders import GOOD, HEADER, case, measured
from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import (
    ACCURACY,
    LATENCY,
    MEMORY,
    SPEEDUP,
    CommitSummary,
    Comparison,
    ComparisonFindings,
    SideResult,
    pick_case_verdicts,
)
from torchperf_ci.compare.report import judge_cases, to_markdown
from torchperf_ci.compare.words import list_bisect_commands, quantity, why, write_headline, write_sentence


def say(*comparisons: Comparison, unmeasured: int = 0) -> str:
    return write_sentence(ComparisonFindings(header=HEADER, comparisons=comparisons, unmeasured=unmeasured))


def verdict(model: str, kind: Verdict, **rest: object) -> Comparison:
    metric = rest.pop("metric", LATENCY)
    return Comparison(case=case(model), metric=str(metric), verdict=kind, **rest)  # type: ignore[arg-type]  # its fields


def test_a_reason_that_all_failures_share_is_told_once() -> None:
    """Else their names, the first three of them."""
    same = [verdict(name, Verdict.FAILED, why="head: AttributeError: no x") for name in "ab"]
    assert say(*same) == "Both cases fail on head: AttributeError: no x."
    assert say(same[0]) == "The only case fails on head: tiny/a inductor (AttributeError: no x)."
    many = [verdict(name, Verdict.FAILED, why=f"head: {name}") for name in "abcde"]
    assert say(*many) == "All 5 cases fail on head: tiny/a inductor, tiny/b inductor, tiny/c inductor and 2 more."


@pytest.mark.parametrize(
    ("comparisons", "said"),
    [
        ((verdict("a", Verdict.UNCHANGED),), "The only case is unchanged (within 5 %)."),
        (
            (verdict("a", Verdict.IMPROVED, ratio=0.91), verdict("b", Verdict.UNCHANGED)),
            "1 of 2 cases is 9 % faster: tiny/a inductor; 1 case is unchanged (within 5 %).",
        ),
        (
            (verdict("a", Verdict.UNCHANGED), verdict("b", Verdict.REGRESSED, ratio=1.1)),
            "1 of 2 cases is slower: tiny/b inductor (+10.0 %); 1 case is unchanged (within 5 %).",
        ),
        (
            (verdict("a", Verdict.UNCHANGED), verdict("a", Verdict.REGRESSED, metric=MEMORY, ratio=1.1)),
            "The only case is worse in another metric: tiny/a inductor (peak memory +10.0 %).",
        ),
        ((verdict("a", Verdict.NEW),), "No case could be compared; 1 case is new."),
        ((), "No case could be compared."),
    ],
)
def test_what_is_bad_comes_first(comparisons: tuple[Comparison, ...], said: str) -> None:
    """Cases are counted of all at first, and nothing is said of no cases."""
    assert say(*comparisons) == said


def test_the_headline_is_what_is_bad() -> None:
    """And where nothing is, the first there is to say."""
    slow = measured("slow", 1.2)
    findings = judge_cases(HEADER, [replace(slow, again=slow), measured("same"), measured("gone", head=None)])
    headline, rest = write_headline(findings)
    assert (
        headline
        == "1 of 3 cases is missing on head: tiny/gone inductor; 1 case is slower: tiny/slow inductor (+20.0 %)"
    )
    assert rest == "1 case is unchanged (within 5 %)"
    assert write_headline(judge_cases(HEADER, [measured("same")])) == ("The only case is unchanged (within 5 %)", "")


def test_what_is_slower_and_does_not_block_is_not_green() -> None:
    """Among many cases one may look slower by chance: the exit code is 0, and the sign a warning."""
    listed = verdict("a", Verdict.REGRESSED, ratio=1.1, listed=True)
    findings = ComparisonFindings(header=HEADER, comparisons=(listed, verdict("b", Verdict.UNCHANGED)))
    assert (findings.blocking, findings.is_open, findings.sign) == (0, False, "⚠️")
    assert "by chance" in why(listed)


def test_what_an_interrupt_left_is_said() -> None:
    """Beside what is known of the others."""
    assert say(verdict("a", Verdict.UNCHANGED), unmeasured=3).endswith("; 3 not measured to the end.")


@pytest.mark.parametrize(
    ("side", "metric"), [(SideResult(failure="crashed"), LATENCY), (replace(GOOD, accuracy="fail_accuracy"), ACCURACY)]
)
def test_what_fails_names_its_log(side: SideResult, metric: str) -> None:
    """Of the side that failed."""
    findings = judge_cases(HEADER, [measured("x", head=replace(side, log="logs/head_x.log"))])
    (failed,) = [c for c in findings.comparisons if c.verdict is Verdict.FAILED]
    assert failed.metric == metric
    assert why(failed).endswith("log: logs/head_x.log")


def test_a_case_has_the_most_urgent_verdict_of_its_times() -> None:
    """Other metrics have no part in it."""
    one, two = verdict("a", Verdict.UNCHANGED, metric=SPEEDUP), verdict("a", Verdict.REGRESSED)
    worse = verdict("a", Verdict.FAILED, metric=ACCURACY)
    assert pick_case_verdicts([one, two, worse]) == {case("a"): two}
    assert pick_case_verdicts([two, one]) == {case("a"): two}


@pytest.mark.parametrize(
    ("value", "text"), [(403824640.0, "403.8 MB"), (120.0, "0.1 kB"), (150_000.0, "150.0 kB"), (None, "–")]
)
def test_bytes_are_told_in_a_unit_that_fits(value: float | None, text: str) -> None:
    """Small models have small memory."""
    assert quantity(verdict("a", Verdict.UNCHANGED, metric=MEMORY), value) == text


def test_what_got_worse_between_commits_has_the_command_that_finds_the_one() -> None:
    """A regression by its metric, a failure by its accuracy; nothing where there is no stretch of commits to search."""
    slow, one, two = measured("it's slow", 1.2), CommitSummary(sha="a" * 40), CommitSummary(sha="b" * 40)
    items = [replace(slow, again=slow), measured("broken", head=SideResult(failure="crashed: signal 11"))]
    options, again = ("--suites", "bench.py"), ("torchperf-ci compare",)
    header = replace(HEADER, base_commit=one, head_commit=two, bisect_options=options, commands=again)
    found = judge_cases(header, items)
    first, second = (shlex.split(command) for command in list_bisect_commands(found))
    ends = ["torchperf-ci", "bisect", "a" * 40, "b" * 40, "--case"]
    assert first == [*ends, "tiny/it's slow inductor inference float32 cpu", "--inference", "--suites", "bench.py"]
    assert second[len(ends) :] == [str(case("broken")), "--metric", "accuracy", "--inference", "--suites", "bench.py"]
    assert "torchperf-ci bisect" in to_markdown(found)
    assert list_bisect_commands(replace(found, header=replace(header, bisect_options=None))) == []
    assert list_bisect_commands(judge_cases(header, [measured("same")])) == []
