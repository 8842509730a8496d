"""What a database over a history's files is asked: which runs are the newest, what is in them, anything in SQL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from report_builders import both, case, performance
from run_builders import FIRST_DAY, a_run
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Direction, Mode, own_metric
from torchperf_ci.history.database import HistoryProblem, open_database, retry
from torchperf_ci.history.parquet import encode_run
from torchperf_ci.history.runs import HistoryRun, RunFilter


def write(folder: Path, *runs: HistoryRun) -> list[Path]:
    paths = []
    for run in runs:
        for name, content in encode_run(run).items():
            path = folder / name.replace("/", "_")
            path.write_bytes(content)
            paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("chosen", "days"),
    [
        (RunFilter(), [4, 3, 2]),
        (RunFilter(branch="main"), [4, 3, 0]),
        (RunFilter(branch="topic"), [2]),
        (RunFilter(until=FIRST_DAY.replace(day=8)), [3, 2, 0]),
        (RunFilter(selection=CaseSelection(suites=("other",))), [3]),
        (RunFilter(selection=CaseSelection(mode=Mode.TRAINING)), []),
        (RunFilter(name="a100"), [1]),
    ],
)
def test_the_newest_runs_are_those_that_are_chosen(tmp_path: Path, chosen: RunFilter, days: list[int]):
    """Series, branch, time and selection choose; the newest come first."""
    runs = [
        a_run(0),
        a_run(1, name="a100"),
        a_run(2, branch="topic"),
        a_run(3, [*both(case()), *both(case(suite="other"))]),
        a_run(4),
    ]
    with open_database(write(tmp_path, *runs)) as database:
        assert database.find_newest_keys(3, chosen) == [f"octo/project/{1000 + day}" for day in days]


def test_runs_are_read_with_metrics_and_without_samples(tmp_path: Path):
    """Numbers, statuses, machine and source are as they were; raw times stay in the files."""
    own = {"loss": own_metric("loss", unit="nats", direction=Direction.LOWER)}
    timed = replace(performance(case()), samples={"eager": (0.003,)}, own_metrics=own, reason="why", remarks=("a", "b"))
    timed = replace(timed, metrics={**timed.metrics, "loss": 0.5}, not_compiled=True, batch_size=8)
    run = a_run(0, [timed])
    with open_database(write(tmp_path, run)) as database:
        (quick,) = database.read_runs([run.key], RunFilter()).runs
        full = database.read_full_run(name="results", key=run.key)
        assert database.read_full_run(name="results", key="other") is None
    assert full == run
    (record,) = run.results.records
    assert quick.results.records == (replace(record, samples={}),)
    assert (quick.key, quick.time) == (run.key, run.time)


def test_rows_of_a_later_version_are_a_problem_of_their_file(tmp_path: Path):
    """A mode that is not known here costs its record; the run's others are read."""
    paths = write(tmp_path, a_run(0, both(case())), a_run(1, both(case())))
    duckdb.sql(
        f"COPY (SELECT * REPLACE ('dreaming' AS mode) FROM read_parquet('{paths[1]}')) TO '{paths[1]}' (FORMAT parquet)"
    )
    with open_database(paths) as database:
        past = database.read_runs(["octo/project/1000", "octo/project/1001"], RunFilter())
    assert [run.key for run in past.runs] == ["octo/project/1000"]
    assert [problem.file for problem in past.problems] == [paths[1].name.partition("_")[2].removesuffix(".parquet")]


def test_parameters_are_asked_for_in_every_row_and_absent_in_older_files(tmp_path: Path):
    """They come back with their types; a file from before they were kept has none."""
    made = replace(performance(case("matmul[n=128,bias=True]")), params={"n": 128, "bias": True, "dtype": "float32"})
    older, newer = write(tmp_path, a_run(0, [made]), a_run(1, [made]))
    duckdb.sql(f"COPY (SELECT * EXCLUDE (params) FROM read_parquet('{older}')) TO '{older}' (FORMAT parquet)")
    with open_database([older, newer]) as database:
        past = database.read_runs(["octo/project/1000", "octo/project/1001"], RunFilter())
        query = "SELECT params->>'n' AS n, metric FROM history WHERE params <> '' AND metric = 'speedup'"
        assert database.answer(query).rows == (("128", "speedup"),)
    before, after = (run.results.records[0].params for run in past.runs)
    assert (before, after) == ({}, made.params)
    assert [type(value) for value in after.values()] == [int, bool, str]


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    """What is no Parquet file, and what lacks columns, is left out; the rest is asked."""
    paths = write(tmp_path, a_run(0))
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    duckdb.sql(f"COPY (SELECT 1 AS one) TO '{tmp_path / 'foreign.parquet'}' (FORMAT parquet)")
    with open_database([*paths, tmp_path / "broken.parquet", tmp_path / "foreign.parquet"]) as database:
        assert database.files == tuple(paths)
        assert [problem.file for problem in database.problems] == ["broken.parquet", "foreign.parquet"]
        assert "lacks the columns attempt, batch_size, branch" in database.problems[1].what
        assert database.answer("SELECT count(DISTINCT run_key) AS runs FROM history").rows == ((1,),)


def test_a_query_that_is_wrong_is_the_users(tmp_path: Path):
    """DuckDB's words reach who typed it; a statement without an answer has none."""
    with open_database(write(tmp_path, a_run(0))) as database:
        with pytest.raises(UsageProblem, match="nonsense"):
            database.answer("SELECT nonsense FROM history")
        assert database.answer("-- nothing").columns == ()


@pytest.mark.parametrize(("failures", "calls"), [(0, 1), (3, 4), (9, 4)])
def test_a_file_that_went_away_is_asked_for_again(failures: int, calls: int):
    """Three more times, since somebody compacts; then the history cannot be read."""
    called = []

    def ask() -> str:
        called.append(1)
        if len(called) <= failures:
            raise FileNotFoundError("gone")
        return "answer"

    if failures > 3:
        with pytest.raises(HistoryProblem, match="gone"):
            retry(ask)
    else:
        assert retry(ask) == "answer"
    assert len(called) == calls
