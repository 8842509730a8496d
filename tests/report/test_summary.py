"""Executive summary and flags: rates, means, what leaves them, and what is beyond a limit."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from report_builders import accuracy, both, case, performance, sample_records
from torchperf_ci.core.frames import CaseSelection, suite_tables
from torchperf_ci.core.records import GraphBreak, Mode, Status
from torchperf_ci.report.summary import (
    combine_intervals,
    find_flags,
    flag_compilers,
    list_benefits,
    list_break_reasons,
    list_failures,
    summarize,
)
from torchperf_ci.report.words import describe_benefit


def tables_of(records):
    (tables,) = suite_tables(records, CaseSelection())
    return tables


def test_means_are_over_what_passes():
    """A wrong result's speedup, and a failed one's zeros, are in no mean."""
    records = [
        *both(case("a"), 2.0, compilation_latency=10.0, compression_ratio=1.2),
        *both(case("b"), 0.5, compilation_latency=20.0, compression_ratio=0.8),
        accuracy(case("c"), Status.FAIL_ACCURACY),
        performance(case("c"), 9.0, compilation_latency=1000.0, compression_ratio=9.0),
    ]
    (line,) = summarize(tables_of(records))
    assert (line.passed, line.total) == (2, 3)
    assert line.geomean == pytest.approx(1.0)
    assert line.clipped == pytest.approx(2**0.5)
    assert line.compile_seconds == pytest.approx(15.0)
    assert line.compression == pytest.approx(1.0)


def test_missing_and_left_out_are_counted_apart():
    """A missing case lowers the pass rate, one that cannot be loaded does not."""
    eager, inductor = summarize(tables_of(sample_records()))
    assert (eager.passed, eager.total, eager.missing, eager.left_out) == (5, 5, 0, 1)
    assert (inductor.passed, inductor.total, inductor.missing, inductor.left_out) == (2, 5, 1, 1)


def test_without_measurements_there_are_no_means():
    """Nothing is made up."""
    (line,) = summarize(tables_of([accuracy(case("a"))]))
    assert (line.passed, line.total, line.geomean, line.compile_seconds, line.compression) == (1, 1, None, None, None)


def test_every_case_that_did_not_pass_is_listed_once_with_its_reason():
    """Accuracy first, because it is looked at first."""
    found = [
        (failure.model, failure.compiler, failure.status, failure.counts)
        for failure in list_failures(tables_of(sample_records()))
    ]
    assert found == [
        ("unet", "inductor", "fail_accuracy", True),
        ("lstm", "inductor", "crashed", True),
        ("recommender", "inductor", "missing", True),
        ("resnet18", "eager", "model_fail_to_load", False),
        ("resnet18", "inductor", "model_fail_to_load", False),
    ]


def test_a_pass_that_is_left_out_says_so():
    """It hangs on another compiler, which the reason points at."""
    records = [accuracy(case("a", "eager"), Status.EAGER_FAIL_TO_RUN), accuracy(case("a", "inductor"))]
    _, other = list_failures(tables_of(records))
    assert (other.status, other.counts) == ("eager_fail_to_run", False)
    assert other.reason == "passed here; see the same model with the other compilers"


@pytest.mark.parametrize(
    ("metrics", "status", "told"),
    [
        ({"abs_latency": 0.0}, "no_latency", "latency cannot be used: 0 ms"),
        ({"abs_latency": -1.0}, "no_latency", "latency cannot be used: -1 ms"),
        ({"abs_latency": math.nan}, "no_latency", "latency cannot be used: nan ms"),
        ({"speedup": 0.0, "abs_latency": 1.0}, "no_speedup", "speedup cannot be used: 0x"),
        ({}, "no_latency", "no latency"),
    ],
)
def test_a_number_that_cannot_be_used_is_named(metrics: dict[str, float], status: str, told: str):
    """It is the case's own, so no other compiler is pointed at."""
    (failure,) = list_failures(tables_of([replace(performance(case("a"), None), metrics=metrics)]))
    assert (failure.status, failure.counts) == (status, True)
    assert told in failure.reason
    assert "compilers" not in failure.reason


def flagged(records, *compilers):
    (tables,) = suite_tables(records, CaseSelection())
    return [(flag.metric, flag.model, flag.value) for flag in find_flags(tables, compilers or tables.compilers)]


@pytest.mark.parametrize(
    ("metrics", "found"),
    [
        ({"speedup": 0.95, "compilation_latency": 120.0, "compression_ratio": 0.9}, []),
        ({"speedup": 0.949}, [("speedup", "a", 0.949)]),
        ({"speedup": 1.0, "compilation_latency": 120.5}, [("compilation_latency", "a", 120.5)]),
        ({"speedup": 1.0, "compression_ratio": 0.89}, [("compression_ratio", "a", 0.89)]),
    ],
)
def test_the_limits_themselves_are_fine(metrics: dict[str, float], found: list[object]):
    """Only what is beyond a limit is flagged."""
    assert flagged(both(case("a"), **metrics)) == found


def test_a_failure_is_flagged_without_a_value():
    """PyTorch's tables show 0.0 for it; a metric that was merely not measured is not flagged."""
    records = [accuracy(case("a"), Status.OOM), performance(case("a"), None, Status.OOM), *both(case("b"))]
    assert flagged(records) == [("accuracy", "a", None), ("speedup", "a", None), ("compression_ratio", "a", None)]


def test_a_compiler_that_is_not_available_is_not_flagged():
    """Nothing can be said about it here."""
    status = Status.COMPILER_NOT_AVAILABLE
    assert flagged([accuracy(case("a"), status), performance(case("a"), None, status)]) == []


def test_only_the_compilers_asked_for_are_flagged():
    """The others are still in the tables."""
    assert {model for _, model, _ in flagged(sample_records(), "eager")} == {"resnet18"}


@pytest.mark.parametrize(
    ("present", "asked", "chosen"),
    [
        (("eager", "inductor"), (), ("inductor",)),
        (("eager", "aot_eager"), (), ("eager", "aot_eager")),
        (("eager", "inductor"), ("eager",), ("eager",)),
        (("eager", "inductor"), ("trt",), ()),
    ],
)
def test_which_compilers_are_flagged(present, asked, chosen):
    """Those asked for, else PyTorch's defaults, else all."""
    assert flag_compilers(present, asked) == chosen


def test_the_interval_of_a_mean_is_that_of_independent_errors():
    """Half widths add as squares, in logarithms, and one case without an interval leaves none for the mean."""
    one = (math.exp(-0.1), math.exp(0.1))
    low, high = combine_intervals([one, one, one, one], 1.0)
    assert (math.log(low), math.log(high)) == pytest.approx((-0.05, 0.05))
    assert combine_intervals([one], 2.0) == pytest.approx((2 * one[0], 2 * one[1]))
    assert combine_intervals([one, None], 1.0) is None
    assert combine_intervals([], 1.0) is None


def measured(model: str, speedup: float, *, width: float = 0.02, mode: Mode = Mode.INFERENCE, **metrics: float):
    """A passing case with an interval, whose compiled call takes 2 ms."""
    ends = {"speedup_low": speedup / (1 + width), "speedup_high": speedup * (1 + width)} if width else {}
    return both(case(model, mode=mode), speedup, **{"abs_latency": 2.0, "compilation_latency": 10.0, **ends, **metrics})


@pytest.mark.parametrize(
    ("records", "text"),
    [
        (
            [*measured("a", 1.5), *measured("b", 1.5)],
            "1.50x (1.48 to 1.52) on 2 models; saves 1.0 ms per call; 10 s of compiling pay off after 10,000 calls",
        ),
        (measured("a", 1.5, mode=Mode.TRAINING)[1:], "1.50x (1.47 to 1.53) on 1 model; saves 1.0 ms per iteration"),
        (measured("a", 1.01), "1.01x (0.99 to 1.03) on 1 model; no difference that can be measured"),
        (
            measured("a", 0.5),
            "0.50x (0.49 to 0.51) on 1 model; costs 1.0 ms per call; 10 s of compiling never pay off",
        ),
        (measured("a", 1.5, width=0, abs_latency=0.02), "1.50x (no interval) on 1 model; saves 10 µs per call"),
        (
            [*measured("a", 1.5, width=0, abs_latency=1.0), *measured("b", 0.8, width=0, abs_latency=1000.0)],
            "1.10x (no interval) on 2 models; together they take no less time: those that are slower take longer",
        ),
    ],
)
def test_what_a_compiler_brings_is_one_sentence(records, text):
    """Speedup with its interval, what a call saves, and when compiling has paid off."""
    (benefit,) = list_benefits([tables_of(records)])
    assert describe_benefit(benefit).startswith(text)


def test_the_backend_that_compiles_nothing_is_told_as_what_it_is():
    """No reader shall ask how eager can be slower than eager, or when its compiling pays off."""
    slower = [replace(record, case=replace(record.case, compiler="eager")) for record in measured("a", 0.5)]
    (benefit,) = list_benefits([tables_of(slower)])
    assert describe_benefit(benefit).endswith(
        "costs 1.0 ms per call, which is dynamo's own: this backend compiles nothing"
    )


def test_what_fails_brings_nothing():
    """Benefits are of the models that pass, and a compiler without any has none."""
    records = [*measured("a", 2.0), accuracy(case("b"), Status.FAIL_ACCURACY), performance(case("b"), 9.0)]
    (benefit,) = list_benefits([tables_of(records)])
    assert (benefit.models, benefit.speedup) == (1, pytest.approx(2.0))
    assert list_benefits([tables_of([accuracy(case("b"), Status.OOM)])]) == ()


def test_reasons_of_graph_breaks_come_with_their_models():
    """Those that most models have first."""
    rare, common = GraphBreak(reason="rare", user_stack="a.py:1"), GraphBreak(reason="common", user_stack="b.py:2")
    records = [
        performance(case("m"), 1.0, graph_breaks=(rare, common)),
        performance(case("n"), 1.0, graph_breaks=(common, common)),
    ]
    reasons = list_break_reasons(tables_of(records))
    assert [(each.reason, each.place, each.models) for each in reasons] == [
        ("common", "b.py:2", ("m", "n")),
        ("rare", "a.py:1", ("m",)),
    ]
