"""Checks of a run against a table."""

import pytest

from torchperf_ci.expectations.check import CheckOutcome, Rules, check
from torchperf_ci.expectations.rows import join_columns, read_run_csv
from torchperf_ci.expectations.table import CheckKind, parse_table


def lines(kind: CheckKind, actual: str, expected: str, *, flaky=None, rules=None):
    """Name, outcome, whether it fails, and the detail, of every line."""
    found = read_run_csv(actual, source="actual")
    assert found is not None
    checked = check(
        kind,
        found.table,
        parse_table(expected, source="expected"),
        table="t",
        flaky=flaky or {},
        rules=rules or Rules(),
        broken=found.broken,
    )
    return [(line.name, line.outcome, line.fails, line.detail) for line in checked.lines]


def test_accuracy_by_the_rules_of_the_suites():
    """Equal, worse, better, not expected, without accuracy, and gone."""
    actual = "name,accuracy\na,pass\nb,OOM\nc,fail_accuracy\nd,pass\ne,pass\nf,\ng,pass_due_to_skip\n"
    expected = "name,accuracy\na,pass\nb,OOM\nc,pass\nd,fail_accuracy\nf,pass\ng,pass\nh,pass\n"
    assert lines(CheckKind.ACCURACY, actual, expected) == [
        ("a", CheckOutcome.PASS, False, ""),
        ("b", CheckOutcome.XFAIL, False, ""),
        ("c", CheckOutcome.FAIL, True, "accuracy=fail_accuracy, expected=pass"),
        ("d", CheckOutcome.IMPROVED, True, "accuracy=pass, expected=fail_accuracy"),
        ("e", CheckOutcome.MISSING_EXPECTED, True, "accuracy=pass, not in the table"),
        ("f", CheckOutcome.MISSING_ACCURACY, True, "accuracy=None, expected=pass"),
        ("g", CheckOutcome.FAIL, True, "accuracy=pass_due_to_skip, expected=pass"),
        ("h", CheckOutcome.MISSING, True, "the run has no such model"),
    ]


def test_flaky_models_pass_either_way():
    """Better and worse are both shown with the reason, and neither fails; a missing row still does."""
    flaky = {"a": "races", "b": "races", "c": "races", "d": "races"}
    actual, expected = "name,accuracy\na,OOM\nb,pass\nc,pass\n", "name,accuracy\na,pass\nb,OOM\nc,pass\nd,pass\n"
    assert lines(CheckKind.ACCURACY, actual, expected, flaky=flaky) == [
        ("a", CheckOutcome.FAIL_BUT_FLAKY, False, "accuracy=OOM, expected=pass, flaky: races"),
        ("b", CheckOutcome.PASS_BUT_FLAKY, False, "accuracy=pass, expected=OOM, flaky: races"),
        ("c", CheckOutcome.PASS, False, ""),
        ("d", CheckOutcome.MISSING, True, "the run has no such model"),
    ]


def test_improvements_fail_only_when_strict():
    """Strict is the default for accuracy, and can be switched off."""
    actual, expected = "name,accuracy\na,pass\n", "name,accuracy\na,OOM\n"
    (strict,) = lines(CheckKind.ACCURACY, actual, expected)
    (relaxed,) = lines(CheckKind.ACCURACY, actual, expected, rules=Rules(strict=False))
    assert (strict[1:3], relaxed[1:3]) == ((CheckOutcome.IMPROVED, True), (CheckOutcome.IMPROVED, False))


def test_a_shard_need_not_have_every_model():
    """With allow_missing, models that only the table has are shown and do not fail."""
    found = lines(
        CheckKind.ACCURACY,
        "name,accuracy\na,pass\n",
        "name,accuracy\na,pass\nb,pass\n",
        rules=Rules(allow_missing=True),
    )
    assert found[1] == ("b", CheckOutcome.MISSING, False, "the run has no such model")


COUNTERS = "name,accuracy,graph_breaks,fallbacks_to_eager,calls_captured"


@pytest.mark.parametrize(
    ("actual", "expected", "outcome", "detail"),
    [
        ("3,0,100", "3,0,100", CheckOutcome.PASS, ""),
        ("4,0,100", "3,0,100", CheckOutcome.FAIL, "graph_breaks=4, expected=3"),
        ("2,0,100", "3,0,100", CheckOutcome.IMPROVED, "graph_breaks=2, expected=3"),
        ("3,1,100", "3,0,100", CheckOutcome.FAIL, "fallbacks_to_eager=1, expected=0"),
        ("3,0,99", "3,0,100", CheckOutcome.FAIL, "calls_captured=99, expected=100"),
        ("3,0,101", "3,0,100", CheckOutcome.IMPROVED, "calls_captured=101, expected=100"),
        ("2,1,100", "3,0,100", CheckOutcome.FAIL, "graph_breaks=2, expected=3; fallbacks_to_eager=1, expected=0"),
        ("9,9,1", ",,", CheckOutcome.PASS, ""),
        (",,", "0,0,0", CheckOutcome.PASS, ""),
    ],
)
def test_graph_breaks_by_counter(actual: str, expected: str, outcome: CheckOutcome, detail: str):
    """More breaks and fallbacks fail, and so do fewer captured calls; blank expectations say nothing."""
    ((_, found, fails, said),) = lines(
        CheckKind.GRAPH_BREAKS, f"{COUNTERS}\na,pass,{actual}\n", f"{COUNTERS}\na,pass,{expected}\n"
    )
    assert (found, fails, said) == (outcome, outcome is not CheckOutcome.PASS, detail)


def test_counters_of_a_model_that_never_compiled_are_not_judged_unless_it_passes():
    """A failing model without graphs is accuracy's business; a passing one has lost its graphs."""
    columns = "name,accuracy,unique_graphs,graph_breaks,calls_captured"
    found = lines(
        CheckKind.GRAPH_BREAKS,
        f"{columns}\na,OOM,0,0,0\nb,pass,0,0,0\n",
        f"{columns}\na,pass,1,2,50\nb,pass,1,0,50\n",
    )
    assert found == [
        ("a", CheckOutcome.EAGER_FAILED, False, "accuracy=OOM"),
        ("b", CheckOutcome.FAIL, True, "calls_captured=0, expected=50; unique_graphs=0, expected=1"),
    ]


def test_a_model_or_a_counter_that_one_side_lacks_is_told():
    """A new model fails until it is expected, and so does a run without a column that the table has."""
    found = lines(
        CheckKind.GRAPH_BREAKS, "name,graph_breaks\na,1\nb,0\n", "name,graph_breaks,fallbacks_to_eager\nb,0,0\n"
    )
    assert found == [
        ("a", CheckOutcome.MISSING_EXPECTED, True, "graph_breaks=1, not in the table"),
        ("b", CheckOutcome.MISSING_ACTUAL, True, "fallbacks_to_eager=None, expected=0"),
    ]


@pytest.mark.parametrize(
    ("metric", "scale", "value", "outcome"),
    [
        ("speedup", 0.95, 1.9, CheckOutcome.PASS),
        ("speedup", 0.95, 1.89, CheckOutcome.FAIL),
        ("speedup", 0.95, 2.2, CheckOutcome.IMPROVED),
        ("speedup", 1.1, 2.19, CheckOutcome.FAIL),
        ("abs_latency", 0.9, 2.2, CheckOutcome.PASS),
        ("abs_latency", 0.9, 2.3, CheckOutcome.FAIL),
        ("abs_latency", 1.1, 2.2, CheckOutcome.PASS),
        ("abs_latency", 0.9, 1.7, CheckOutcome.IMPROVED),
    ],
)
def test_performance_against_the_scaled_target(metric: str, scale: float, value: float, outcome: CheckOutcome):
    """A speedup reaches target times scale; a latency stays below the larger of target times and by scale."""
    ((_, found, fails, _),) = lines(
        CheckKind.PERFORMANCE,
        f"name,{metric}\na,{value}\n",
        f"name,{metric}\na,2\n",
        rules=Rules(metric=metric, scale=scale),
    )
    assert (found, fails) == (outcome, outcome is CheckOutcome.FAIL)


def test_memory_must_reach_95_percent():
    """Lower fails, absent values are told, and a model without expectation fails only when strict."""
    actual = "name,compression_ratio\na,0.95\nb,0.94\nc,\nd,1\n"
    expected = "name,compression_ratio\na,1\nb,1\nc,1\n"
    assert lines(CheckKind.MEMORY, actual, expected) == [
        ("a", CheckOutcome.PASS, False, "compression_ratio=0.950, expected=1.000"),
        ("b", CheckOutcome.FAIL, True, "compression_ratio=0.940, expected=1.000"),
        ("c", CheckOutcome.MISSING_ACTUAL, True, "compression_ratio=None, expected=1.000"),
        ("d", CheckOutcome.MISSING_EXPECTED, False, "compression_ratio=1.000, not in the table"),
    ]
    assert lines(CheckKind.MEMORY, actual, expected, rules=Rules(strict=True))[3][2]


@pytest.mark.parametrize(
    ("row", "expected", "outcome"),
    [
        ("pass,1.5", "pass", CheckOutcome.PASS),
        ("pass,0.000000", "pass", CheckOutcome.FAIL),
        ("eager_fail_to_run,0.0", "eager_fail_to_run", CheckOutcome.XFAIL),
        ("infra_error,0.0", "infra_error", CheckOutcome.XFAIL),
        ("fail_accuracy,0.0", "fail_accuracy", CheckOutcome.FAIL),
        ("pass,", "pass", CheckOutcome.FAIL),
    ],
)
def test_performance_that_did_not_run_fails_without_any_column(row: str, expected: str, outcome: CheckOutcome):
    """A speedup of 0 is how a suite runner writes a model that failed; it is expected only of one that cannot run."""
    found = lines(CheckKind.PERFORMANCE, f"name,accuracy,speedup\na,{row}\n", f"name,accuracy\na,{expected}\n")
    assert [(each[1], each[2]) for each in found] == [(outcome, outcome is CheckOutcome.FAIL)]


def test_a_model_that_passes_and_has_no_row_of_performance_is_told():
    """Its process was killed, and the runner wrote nothing."""
    accuracy = read_run_csv("name,accuracy\na,pass\nb,pass\n", source="x_accuracy.csv")
    performance = read_run_csv("name,speedup\na,1.5\n", source="x_performance.csv")
    assert accuracy is not None
    assert performance is not None
    checked = check(
        CheckKind.PERFORMANCE,
        join_columns(accuracy.table, performance.table),
        parse_table("name,accuracy\na,pass\nb,pass\n", source="t"),
        table="t",
        flaky={},
        rules=Rules(),
    )
    assert [(line.name, line.outcome) for line in checked.lines] == [
        ("a", CheckOutcome.PASS),
        ("b", CheckOutcome.MISSING_ACTUAL),
    ]


def test_an_expected_failure_of_performance_can_be_written_into_the_table():
    """The column performance is kept like an accuracy."""
    expected = "name,accuracy,performance\na,pass,fail_to_run\n"
    (as_expected,) = lines(CheckKind.PERFORMANCE, "name,accuracy,speedup\na,pass,0.0\n", expected)
    (better,) = lines(CheckKind.PERFORMANCE, "name,accuracy,speedup\na,pass,1.5\n", expected, rules=Rules(strict=True))
    assert (as_expected[1], better[1], better[2]) == (CheckOutcome.XFAIL, CheckOutcome.IMPROVED, True)


@pytest.mark.parametrize(
    ("column", "now", "then", "kind", "outcome"),
    [
        ("recompiles", "3", "0", CheckKind.GRAPH_BREAKS, CheckOutcome.FAIL),
        ("recompiles", "0", "3", CheckKind.GRAPH_BREAKS, CheckOutcome.IMPROVED),
        ("unique_graphs", "4", "5", CheckKind.GRAPH_BREAKS, CheckOutcome.FAIL),
        ("unique_graphs", "6", "5", CheckKind.GRAPH_BREAKS, CheckOutcome.IMPROVED),
        ("retries", "2", "2", CheckKind.GRAPH_BREAKS, CheckOutcome.PASS),
        ("retries", "1", "2", CheckKind.GRAPH_BREAKS, CheckOutcome.FAIL),
        ("tokens", "99.5", "100.5", CheckKind.PERFORMANCE, CheckOutcome.PASS),
        ("tokens", "90.5", "100.5", CheckKind.PERFORMANCE, CheckOutcome.FAIL),
        ("tokens", "110.5", "100.5", CheckKind.PERFORMANCE, CheckOutcome.FAIL),
    ],
)
def test_columns_of_numbers_that_nobody_knows_are_compared(column, now, then, kind, outcome):
    """Whole ones must be equal, others within the scale; those with a direction have one."""
    ((_, found, fails, detail),) = lines(
        kind,
        f"name,accuracy,graph_breaks,{column}\na,pass,0,{now}\n",
        f"name,accuracy,graph_breaks,{column}\na,pass,0,{then}\n",
    )
    assert (found, fails) == (outcome, outcome is not CheckOutcome.PASS)
    assert outcome is CheckOutcome.PASS or column in detail


def test_a_model_with_two_rows_fails_alone():
    """Of the others each has its own verdict."""
    found = lines(CheckKind.ACCURACY, "name,accuracy\na,pass\nb,pass\nb,pass\n", "name,accuracy\na,pass\nb,pass\n")
    assert [(name, outcome, fails) for name, outcome, fails, _ in found] == [
        ("a", CheckOutcome.PASS, False),
        ("b", CheckOutcome.FAIL, True),
    ]


@pytest.mark.parametrize(
    ("metric", "value", "outcome"),
    [
        ("speedup", 1.81, CheckOutcome.FAIL),
        ("speedup", 1.82, CheckOutcome.PASS),
        ("speedup", 2.2, CheckOutcome.PASS),
        ("speedup", 2.21, CheckOutcome.IMPROVED),
        ("abs_latency", 2.21, CheckOutcome.FAIL),
        ("abs_latency", 1.81, CheckOutcome.IMPROVED),
    ],
)
def test_a_strict_scale_is_a_range_whichever_way_it_is_given(metric: str, value: float, outcome: CheckOutcome):
    """As --fail-on-improvement of PyTorch's check_perf_csv.py: 1.1 and 1 / 1.1 allow the same."""
    for scale in (1.1, 1 / 1.1):
        ((_, found, fails, _),) = lines(
            CheckKind.PERFORMANCE,
            f"name,{metric}\na,{value}\n",
            f"name,{metric}\na,2\n",
            rules=Rules(metric=metric, scale=scale, strict=True),
        )
        assert (found, fails) == (outcome, outcome is not CheckOutcome.PASS)
