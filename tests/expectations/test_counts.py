"""Files of expected counts, as PyTorch's pr_time_benchmarks has them: checked both ways, and kept up to date."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.records import Case, Mode, Record, Status, Testing, to_line
from torchperf_ci.expectations.counts import (
    CountOutcome,
    ExpectedCount,
    check_counts,
    read_counts,
    read_expected_counts,
    save_counts,
    update_counts,
    write_counts,
)

LOOP = ("add_loop_inductor", "compile_time_instruction_count")
EAGER = ("add_loop_eager", "compile_time_instruction_count")
EXPECTED = """add_loop_eager,compile_time_instruction_count,2700000000,0.015



add_loop_inductor,compile_time_instruction_count,32120000000,0.015
"""


@pytest.fixture
def expected(tmp_path: Path) -> Path:
    path = tmp_path / "expected_results.csv"
    path.write_text(EXPECTED)
    return path


def test_a_file_of_pytorch_is_read_and_written_as_it_is(expected: Path) -> None:
    """Without a header, three blank lines between rows."""
    rows = read_expected_counts(expected)
    assert rows[LOOP] == ExpectedCount(value=32_120_000_000, noise=0.015)
    assert write_counts(rows) == EXPECTED
    save_counts(expected, rows)
    assert expected.read_text() == EXPECTED


def test_more_less_and_nothing_fail_and_what_is_new_is_told(expected: Path) -> None:
    """Within the noise it passes, to either side."""
    rows = read_expected_counts(expected)

    def outcomes(*values: float) -> list[CountOutcome]:
        return [check.outcome for check in check_counts(dict(zip((EAGER, LOOP), values, strict=False)), rows)]

    assert outcomes(2.7e9 * 1.014, 32.12e9 * 0.986) == [CountOutcome.PASS, CountOutcome.PASS]
    assert outcomes(2.7e9 * 1.016, 32.12e9 * 0.984) == [CountOutcome.REGRESSION, CountOutcome.WIN]
    assert outcomes(2.7e9) == [CountOutcome.PASS, CountOutcome.MISSING]
    *_, new = check_counts({("other", "flops"): 7}, rows)
    assert (new.outcome, new.outcome.fails) == (CountOutcome.NEW, False)
    assert [outcome for outcome in CountOutcome if not outcome.fails] == [CountOutcome.PASS, CountOutcome.NEW]


def test_a_value_is_taken_over_when_it_moved_by_a_third_of_the_noise(expected: Path) -> None:
    """Four digits are kept; a count without noise is exact, and its own."""
    rows = read_expected_counts(expected)
    updated = update_counts({EAGER: 2.7e9 * 1.0049, LOOP: 32_345_678_901, ("mlp", "operators"): 12_345}, rows)
    assert updated[EAGER].value == 2_700_000_000
    assert updated[LOOP] == ExpectedCount(value=32_340_000_000, noise=0.015)
    assert updated["mlp", "operators"] == ExpectedCount(value=12_345, noise=0.0)
    assert update_counts({LOOP: 32_120_000_000}, rows) == rows
    assert update_counts({LOOP: 32_120_000_000}, rows, prune=True).keys() == {LOOP}


@given(
    st.dictionaries(
        st.tuples(st.from_regex(r"[a-z][a-z_ /]{0,9}[a-z]", fullmatch=True), st.just("operators")),
        st.integers(0, 10**15).map(float),
        min_size=1,
    )
)
def test_what_was_updated_passes_with_the_same_results(counts: dict[tuple[str, str], float]) -> None:
    """Also once it has been written and read."""
    updated = update_counts(counts, {})
    assert all(check.outcome is CountOutcome.PASS for check in check_counts(counts, updated))
    assert update_counts(counts, updated) == updated


def test_results_are_rows_or_records(tmp_path: Path) -> None:
    """A results folder's benchmarks are its cases, with what was counted of them; times are no counts."""
    case = Case(suite="s", model="m", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")
    metrics = {"operators": 3.0, "instructions": 70_000.0, "abs_latency": 1.0}
    record = Record(case=case, testing=Testing.PERFORMANCE, status=Status.PASS, metrics=metrics)
    (tmp_path / "records.jsonl").write_text(to_line(record) + "\n")
    assert read_counts(tmp_path) == {(str(case), "operators"): 3, (str(case), "instructions"): 70_000}
    rows = tmp_path / "rows.csv"
    rows.write_text("add_loop_inductor,compile_time_instruction_count,5\n")
    assert read_counts(rows) == {LOOP: 5}


@pytest.mark.parametrize(
    "text", ["a,b\n", "a,b,1,2,3\n", "a,b,x,0.1\n", "a,b,1,-1\n", "=cmd|x,b,1,0.1\n", "a,b,1,0\na,b,2,0\n", '"a\n']
)
def test_a_row_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    """With its line, and nothing is changed."""
    path = tmp_path / "expected.csv"
    path.write_text(text)
    with pytest.raises(UsageProblem, match=r"line \d|not a CSV"):
        read_expected_counts(path)


def test_a_count_below_zero_is_none(tmp_path: Path) -> None:
    """It would be a win over everything."""
    (tmp_path / "rows.csv").write_text("a,operators,-5\n")
    with pytest.raises(UsageProblem, match="line 1"):
        read_counts(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("benchmark,metric,value", "header"),
        ("Benchmark,Metric,Expected,Noise", "header"),
        ("a,b", "2 cells"),
        ("a,b,nan", "'nan'"),
        ("a,b,1e400", "'1e400'"),
        ("a,b,", "value is blank"),
        ("-1,b,1", "the name '-1'"),
    ],
)
def test_the_cell_at_fault_is_named(tmp_path: Path, row: str, told: str) -> None:
    path = tmp_path / "counts.csv"
    path.write_text(f"good,metric,1\n{row}\n")
    with pytest.raises(UsageProblem) as raised:
        read_counts(path)
    assert "line 2" in str(raised.value)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("a,b,1,-0.015", "noise '-0.015'"),
        ("a,b,-1,0.1", "expected '-1'"),
        ("a,b,inf,0.1", "'inf'"),
        ("benchmark,metric,value", "header"),
    ],
)
def test_the_cell_at_fault_of_an_expectation_is_named(tmp_path: Path, row: str, told: str) -> None:
    path = tmp_path / "expected.csv"
    path.write_text(f"{row}\n")
    with pytest.raises(UsageProblem) as raised:
        read_expected_counts(path)
    assert told in str(raised.value)


def test_a_file_without_counts_has_nothing_to_judge(tmp_path: Path) -> None:
    """Such as one of blank lines."""
    (tmp_path / "empty.csv").write_text("\n\n")
    with pytest.raises(NothingToJudge):
        read_counts(tmp_path / "empty.csv")
