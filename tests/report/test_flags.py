"""Results beyond PyTorch's limits."""

import pytest

from report_builders import accuracy, both, case, performance, sample_records
from torchperf_ci.core.frames import CaseSelection, suite_tables
from torchperf_ci.core.records import Status
from torchperf_ci.report.flags import flag_compilers, flags


def flagged(records, *compilers):
    (tables,) = suite_tables(records, CaseSelection())
    return [(flag.metric, flag.model, flag.value) for flag in flags(tables, compilers or tables.compilers)]


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
