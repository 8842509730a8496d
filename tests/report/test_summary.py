"""The executive summary."""

import pytest

from report_builders import accuracy, both, case, performance, sample_records
from torchperf_ci.core.frames import CaseSelection, suite_tables
from torchperf_ci.core.records import Status
from torchperf_ci.report.summary import failures, summarize


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
        for failure in failures(tables_of(sample_records()))
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
    _, other = failures(tables_of(records))
    assert (other.status, other.counts) == ("eager_fail_to_run", False)
    assert other.reason == "passed here; see the same model with the other compilers"
