"""Which table goes with which results, and the command that takes results as the expectation."""

from __future__ import annotations

from pathlib import Path

import pytest

from fakes.artifacts import record, records_file
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.records import Source, Testing
from torchperf_ci.expectations.check import (
    CheckOutcome,
    Rules,
    describe_coverage,
    make_update_command,
    pair_tables,
    pair_with_threshold,
    read_actual,
    run_checks,
)
from torchperf_ci.expectations.table import CheckKind

TABLE = "inductor_tiny_float32_inference_cpu"
OURS = Source(repository="org/project", commit="c" * 40, run_id="7")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A results folder of two compilers."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "records.jsonl").write_text(records_file(record("mlp"), record("mlp", compiler="eager")))
    return folder


def expect(folder: Path, name: str, text: str = "name,accuracy,graph_breaks\nmlp,pass,0\n") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.csv").write_text(text)
    return folder


def test_folder_against_folder_every_table_counts(results: Path, tmp_path: Path) -> None:
    """Also one that only one side has, and one that cannot be read; a CSV that is no table is passed over and told."""
    expected = expect(expect(tmp_path / "expected", TABLE), "aot_eager_tiny_float32_inference_cpu")
    expect(expected, "broken", "name,accuracy\nmlp\n")
    expect(expected, "foreign", "a,b\n1,2\n")
    warnings: list[str] = []
    pairs = pair_tables(read_actual(results), expected, warn=warnings.append)
    assert [(each.name, each.actual is not None, each.expected is not None) for each in pairs] == [
        ("aot_eager_tiny_float32_inference_cpu", False, True),
        ("broken", False, False),
        ("eager_tiny_float32_inference_cpu", True, False),
        (TABLE, True, True),
    ]
    assert [warning.partition(":")[0] for warning in warnings] == [str(expected / "foreign.csv")]
    checks = run_checks(pairs, [CheckKind.ACCURACY], Rules())
    assert [(line.name, line.outcome) for each in checks for line in each.lines] == [
        ("mlp", CheckOutcome.MISSING),
        ("broken.csv", CheckOutcome.FAIL),
        ("mlp", CheckOutcome.MISSING_EXPECTED),
        ("mlp", CheckOutcome.PASS),
    ]


def test_patterns_choose_from_a_folder(results: Path, tmp_path: Path) -> None:
    """Shell patterns of names."""
    expected = expect(tmp_path / "expected", TABLE)
    assert [each.name for each in pair_tables(read_actual(results), expected, ["inductor_*"])] == [TABLE]
    with pytest.raises(NothingToJudge, match="update-expected --from"):
        pair_tables(read_actual(results), expected, ["aot_*"])


def test_a_single_table_needs_results_of_its_name(results: Path, tmp_path: Path) -> None:
    """Unless there is one only; which of several is meant is not guessed."""
    table = expect(tmp_path / "expected", "renamed") / "renamed.csv"
    with pytest.raises(UsageProblem, match="none of them is renamed"):
        pair_tables(read_actual(results), table)
    (results / "records.jsonl").write_text(records_file(record("mlp")))
    (only,) = pair_tables(read_actual(results), table)
    assert (only.name, only.actual is not None) == ("renamed", True)


def test_a_threshold_is_an_expectation_of_every_model(results: Path) -> None:
    """Whatever table it would be in."""
    fast, slow = (record("mlp", compiler=each, testing=Testing.PERFORMANCE) for each in ("inductor", "eager"))
    (results / "records.jsonl").write_text(records_file(fast, slow))
    pairs = pair_with_threshold(read_actual(results), metric="speedup", threshold=2.0)
    assert [each.expected and each.expected.table.by_name()["mlp"]["speedup"] for each in pairs] == ["2.0", "2.0"]


def test_what_tables_do_not_cover_is_said(results: Path, tmp_path: Path) -> None:
    """A column of the run that no table asks for, and one of a table that no check reads."""
    expected = expect(tmp_path / "expected", TABLE, "name,accuracy,batch_size\nmlp,pass,4\n")
    pairs = pair_tables(read_actual(results), expected, [TABLE])
    notes = describe_coverage(pairs, list(CheckKind), Rules())
    assert notes[0].startswith("not compared, since the table has no such column: graph_breaks")
    with pytest.raises(NothingToJudge, match="has a model and a column compression_ratio"):
        run_checks(pairs, [CheckKind.MEMORY], Rules())


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (OURS, f"{'c' * 40} --repo org/project --expected-dir"),
        (Source(), "--from"),
        (Source(repository="org/project; rm -rf", commit="$(id)", run_id="7"), "YOUR_COMMIT_SHA --repo OWNER/NAME"),
    ],
)
def test_the_command_names_what_is_known_of_the_results(tmp_path: Path, source: Source, words: str) -> None:
    """Commit and repository of the records where they can be meant, else the folder itself."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "records.jsonl").write_text(records_file(record("mlp", source=source)))
    expected = expect(tmp_path / "expected", TABLE, "name,accuracy\nmlp,OOM\ngone,pass\n")
    actual = read_actual(folder)
    pairs = pair_tables(actual, expected)
    checks = run_checks(pairs, [CheckKind.ACCURACY], Rules())
    command = make_update_command(actual, pairs, checks, expected, Source())
    assert words in command
    assert command.startswith("torchperf-ci update-expected ")
    assert command.endswith(" --prune")
