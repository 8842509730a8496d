"""Executive summary and flags: rates, means, what leaves them, and what is beyond a limit."""

from __future__ import annotations

import pytest

from report_builders import accuracy, both, case, performance, sample_records
from torchperf_ci.core.frames import CaseSelection, suite_tables
from torchperf_ci.core.records import Status
from torchperf_ci.report.summary import find_flags, flag_compilers, list_failures, summarize


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
