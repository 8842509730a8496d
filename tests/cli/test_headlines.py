"""No headline is green where the exit code is not 0, whichever command says it and wherever it is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dashboard_runs import results
from report_builders import accuracy, both, case, performance
from torchperf_ci.core.records import Record, Source, Status
from torchperf_ci.core.results import open_folder

Call = Callable[..., Any]

GREEN = re.compile(r'^(#+ |\*\*|[\w ]+: )?✅|<header class="passed">')
"""A line that begins with the sign, as a heading or after the name of a dtype; rows of tables may have it."""

GOOD = both(case("a"), 1.5)
NOT_COMPILED = [replace(record, not_compiled=True) for record in both(case("b"), 1.5)]
UNLOADED = [replace(r, status=Status.MODEL_FAIL_TO_LOAD, reason="no weights", metrics={}) for r in both(case("c"))]
UNAVAILABLE = [accuracy(case("d", "trt"), Status.COMPILER_NOT_AVAILABLE, reason="no trt")]
WRONG = [accuracy(case("e"), Status.FAIL_ACCURACY, reason="differs"), performance(case("e"), 2.0)]


def folder_of(path: Path, *records: Record) -> str:
    with open_folder(path) as folder:
        folder.append(*records)
    return path.name


def green_lines(folder: Path, stdout: str) -> Iterator[str]:
    """Green headlines in what was printed and in every document in the folder."""
    texts = [stdout, *(path.read_text() for path in folder.rglob("*") if path.suffix in {".md", ".html", ".txt"})]
    yield from (line for text in texts for line in text.splitlines() if GREEN.search(line))


@pytest.fixture
def outcome(in_process: Call, tmp_path: Path) -> Call:
    """Run a command with GitHub's step summary, and give its exit code and the green headlines."""

    def call(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, list[str]]:
        github = {"GITHUB_OUTPUT": str(tmp_path / "outputs"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
        done = in_process(*arguments, cwd=tmp_path, env={**github, **(env or {})})
        return done.returncode, list(green_lines(tmp_path, done.stdout))

    return call


@pytest.mark.parametrize(
    ("records", "arguments", "code"),
    [
        ([*GOOD, *WRONG], ("merge",), 6),
        ([*GOOD, *UNLOADED], ("merge",), 6),
        (UNLOADED, ("merge",), 6),
        ([*GOOD, *UNAVAILABLE], ("merge",), 6),
        ([*GOOD, *both(case("b", "eager"))], ("report",), 6),
        ([*GOOD, *WRONG], ("report",), 0),  # as its help says: the report is complete, and no headline is green
    ],
)
def test_reports_of_results(
    outcome: Call, tmp_path: Path, records: list[Record], arguments: tuple[str, ...], code: int
) -> None:
    """What failed, could not run or is missing shows in the headline of every drawing."""
    stamped = [replace(record, source=Source(run_id="7", shard="1-1", attempt=1)) for record in records]
    folder_of(tmp_path / "torchperf-results-1-1-1", *stamped)
    more = ("--output-dir", "out", "--github-files") if arguments == ("merge",) else ()
    assert outcome(*arguments, "torchperf-results-1-1-1", *more) == (code, [])


def test_a_merge_without_all_of_its_shards(outcome: Call, tmp_path: Path) -> None:
    """The gap is in the headline, and in that of every later report of the merged results."""
    record = [replace(r, source=Source(run_id="7", shard="1-2", attempt=1)) for r in GOOD]
    folder_of(tmp_path / "torchperf-results-1-2-1", *record)
    assert outcome("merge", "torchperf-results-1-2-1", "--output-dir", "out", "--github-files") == (4, [])
    assert outcome("report", "out") == (6, [])
    assert outcome("merge", "torchperf-results-1-2-1", "--output-dir", "out", "--allow-missing")[0] == 0


@pytest.mark.parametrize(
    ("base", "head", "options", "code"),
    [
        (GOOD, both(case("a"), 1.0), (), 3),
        (GOOD, WRONG, (), 3),
        (UNLOADED, UNLOADED, (), 4),
        ([*GOOD, *WRONG], [*GOOD, *WRONG], ("--strict",), 3),
        ([*GOOD, *UNLOADED], [*GOOD, *UNLOADED], ("--strict",), 3),
    ],
)
def test_comparisons(
    outcome: Call, tmp_path: Path, base: list[Record], head: list[Record], options: tuple[str, ...], code: int
) -> None:
    """Slower, gone, failing on both sides, and what is open where that fails."""
    folder_of(tmp_path / "base", *base)
    folder_of(tmp_path / "head", *head)
    files = ("--output-dir", "out", "--github-files")
    assert outcome("compare", "base", "head", *files, *options) == (code, [])


def test_checks(outcome: Call, tmp_path: Path) -> None:
    """An expectation that is not met."""
    table = "name,accuracy,recompiles\ne,pass,0\n"
    (tmp_path / "expected").mkdir()
    (tmp_path / "expected" / "inductor_tiny_float32_inference_cpu.csv").write_text(table)
    folder_of(tmp_path / "run", WRONG[0])
    options = ("--expected", "expected", "--github-files")
    assert outcome("check", "accuracy", "run", *options) == (3, [])
    again = replace(WRONG[0], status=Status.PASS, counters={"graph_breaks": 0, "recompiles": 2})
    folder_of(tmp_path / "again", again)
    assert outcome("check", "graph-breaks", "again", *options) == (3, [])


def test_a_dashboard_that_fails_on_regressions(outcome: Call, tmp_path: Path) -> None:
    """Also in the report that it writes, though everything passed by itself."""
    for day in range(6):
        folder = results(tmp_path / str(day), day, both(case("a"), 1.5))
        outcome("dashboard", folder, "--no-graphs")
    results(tmp_path / "slow", 6, both(case("a"), 1.0))
    outcome("dashboard", "slow", "--no-graphs")
    results(tmp_path / "slower", 7, both(case("a"), 1.0))
    for path in (path for path in tmp_path.glob("?/*") if path.is_file()):
        path.unlink()
    assert list(green_lines(tmp_path / "slow", "")) == []
    for fail_on in ("new", "open"):
        options = ("--no-graphs", "--fail-on", fail_on, "--github-files")
        assert outcome("dashboard", "slower", *options) == (3, [])


def test_an_update_that_is_not_complete(outcome: Call, tmp_path: Path) -> None:
    """Nothing to update from is nothing to be glad of."""
    (tmp_path / "ci").mkdir()
    folder_of(tmp_path / "run", *[replace(r, status=Status.NOT_RUN, metrics={}) for r in GOOD])
    code, green = outcome("update-expected", "--from", "run", "--expected-dir", "ci", "--github-files")
    assert (code != 0, green) == (True, [])
