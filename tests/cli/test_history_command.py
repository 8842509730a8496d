"""`torchperf-ci history`: import, list, query, export, compact."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes.dashboard_server import DashboardGitHub
from fakes.github_server import REPOSITORY
from report_builders import both, case
from run_builders import a_run
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import open_folder, read_results
from torchperf_ci.history.archive import ArchiveHistory
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.storage import LocalFiles
from torchperf_ci.report.gh_parts import case_csvs

History = Callable[..., object]


@pytest.fixture
def history(in_process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> History:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("torchperf_ci.github.client.BETWEEN_WRITES_S", 0.0)

    def call(*arguments: str, env: dict[str, str] | None = None):
        return in_process("history", *arguments, cwd=tmp_path, env=env)

    return call


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """Three runs in ./torchperf-history."""
    kept = ParquetHistory(files=LocalFiles(root=tmp_path / "torchperf-history"))
    for day in range(3):
        kept.add(a_run(day, [*both(case("a"), 1.0 + day), *both(case("b", "eager"), 2.0)]), tmp_path)
    return tmp_path / "torchperf-history"


def test_runs_are_listed_newest_first(history, filled):
    """A line per run: its key, when, of what commit, and what was measured."""
    done = history("list", "--last", "2")
    assert done.returncode == 0, done.stderr
    head, _, *lines = done.stdout.splitlines()
    assert head.split() == ["key", "time", "commit", "branch", "suites", "compilers", "dtypes", "passed"]
    assert [line.split() for line in lines] == [
        f"octo/project/100{day} 2026-10-0{5 + day} 03:15 {f'0{day}' * 6} main tiny inductor eager float32 4/4".split()
        for day in (2, 1)
    ]
    rows = json.loads(history("list", "--format", "json").stdout)
    assert [(row["key"], row["attempts"], row["passed"], row["records"]) for row in rows] == [
        (f"octo/project/100{day}", 1, 4, 4) for day in (2, 1, 0)
    ]


def test_questions_in_sql_are_answered(history, filled):
    """A query sees a row per metric, and prints a table, CSV or JSON."""
    query = "SELECT run_time, model, value FROM history WHERE metric = 'speedup' AND model = 'a' ORDER BY run_time"
    assert history("query", query, "--format", "csv").stdout == (
        "run_time,model,value\n"
        "2026-10-05 03:15:00+00:00,a,1.0\n2026-10-06 03:15:00+00:00,a,2.0\n2026-10-07 03:15:00+00:00,a,3.0\n"
    )
    as_json = history("query", f"{query} LIMIT 1", "--format", "json").stdout
    assert json.loads(as_json) == [{"run_time": "2026-10-05 03:15:00+00:00", "model": "a", "value": 1.0}]
    assert history("query", "SELECT count(*) AS runs FROM (SELECT DISTINCT run_key FROM parts)").stdout == (
        "runs\n----\n3\n"
    )


@pytest.mark.parametrize("query", ["SELECT nonsense FROM history", "not sql", "SELECT * FROM other"])
def test_a_query_that_makes_no_sense_is_said_in_duckdbs_words(history, filled, query: str):
    """Exit code 2 and what is wrong with it, not a traceback."""
    done = history("query", query)
    assert done.returncode == 2
    assert "the query cannot be answered: " in done.stderr


def test_text_from_results_does_not_control_the_terminal_or_a_spreadsheet(history, tmp_path: Path):
    """Escape characters are shown, and formulas are not left to be taken for ones."""
    kept = ParquetHistory(files=LocalFiles(root=tmp_path / "torchperf-history"))
    kept.add(a_run(0, both(case("\x1b[31m=1+1"))), tmp_path)
    kept.add(a_run(1, both(case("=1+1"))), tmp_path)
    query = "SELECT DISTINCT model FROM history ORDER BY model DESC LIMIT 1"
    assert "\x1b" not in history("query", "SELECT DISTINCT model FROM history").stdout
    assert history("query", query, "--format", "csv").stdout == "model\n'=1+1\n"


def test_an_archive_is_imported_once(history, tmp_path: Path):
    """Every run of lookup.csv comes in, with its date; a second time none does; a broken line is a warning."""
    archive = ArchiveHistory(root=tmp_path / "archive", read=read_folder)
    for day in range(3):
        run = a_run(day, both(case(), 1.0 + day))
        with open_folder(tmp_path / f"out{day}") as folder:
            for name, text in case_csvs(run.results.records):
                folder.write_text(name, text)
        archive.add(run, tmp_path / f"out{day}")
    with (tmp_path / "archive" / "lookup.csv").open("a") as index:
        index.write("nonsense\n")
    would = history("import", "archive", "--dry-run")
    assert would.stdout == "Would add 3 runs to ./torchperf-history; 0 were there already\n".replace("./", "")
    assert not (tmp_path / "torchperf-history").exists()
    first = history("import", "archive")
    assert first.stdout == "Added 3 runs to torchperf-history; 0 were there already\n"
    assert "Warning: lookup.csv:4: has 1 columns" in first.stderr
    assert history("import", "archive").stdout == "Added 0 runs to torchperf-history; 3 were there already\n"
    query = "SELECT value FROM history WHERE metric = 'speedup' ORDER BY run_time"
    assert history("query", query, "--format", "csv").stdout == "value\n1.0\n2.0\n3.0\n"


def test_what_an_archive_lacks_is_told_with_an_end(history, tmp_path: Path):
    """Over all of its runs together, a few are named, and the rest is a number."""
    (tmp_path / "archive").mkdir()
    days = [f"{day},performance,float32,day_{day:03d}_01_01_26_performance_float32_{day}" for day in range(1, 51)]
    (tmp_path / "archive" / "lookup.csv").write_text("\n".join(days) + "\n")
    done = history("import", "archive", "--dry-run")
    named = [line for line in done.stderr.splitlines() if "lookup.csv:" in line]
    assert (done.returncode, len(named)) == (4, 20)
    assert "30 more" in done.stderr


def test_a_results_folder_is_imported(history, tmp_path: Path):
    """A folder without an index is one run."""
    with open_folder(tmp_path / "out") as folder:
        folder.append(*a_run(0).results.records)
    assert (
        history("import", "out", "--name", "mine").stdout == "Added 1 run to torchperf-history; 0 were there already\n"
    )
    assert history("list").returncode == 4
    assert "octo/project/1000" in history("list", "--name", "mine").stdout
    (tmp_path / "empty").mkdir()
    assert history("import", "empty").returncode == 4


def test_a_folder_of_csvs_gets_the_source_that_is_typed(history, tmp_path: Path):
    """Time, commit and branch, which such files cannot say; the same again adds nothing."""
    (tmp_path / "out").mkdir()
    for name, text in case_csvs(both(case(), 1.5)):
        (tmp_path / "out" / name).write_text(text)
    typed = ("--time", "2024-02-03T04:05:06", "--commit", "a" * 40, "--branch", "main")
    assert history("import", "out", *typed).stdout.startswith("Added 1 run")
    assert history("import", "out", *typed).stdout.startswith("Added 0 runs")
    listed = history("list", "--format", "csv").stdout
    assert "2024-02-03 04:05" in listed
    assert "aaaaaaaaaaaa" in listed
    assert ",main," in listed
    assert history("import", "out", "--time", "yesterday").returncode == 2


def test_a_time_is_for_one_run_and_a_branch_for_a_whole_archive(history, tmp_path: Path):
    """Every run of an archive has a time of its own."""
    root = tmp_path / "archive"
    for number, name in enumerate(("first", "second")):
        (root / name).mkdir(parents=True)
        for file, text in case_csvs(both(case(), 1.0 + number)):
            (root / name / file).write_text(text)
    (root / "lookup.csv").write_text("000,performance,float32,first\n000,performance,float32,second\n")
    assert history("import", "archive", "--time", "2024-01-01").returncode == 2
    assert history("import", "archive", "--branch", "main").stdout.startswith("Added 2 runs")
    query = "SELECT branch, value FROM history WHERE metric = 'speedup' ORDER BY run_time"
    assert history("query", query, "--format", "csv").stdout == "branch,value\nmain,1.0\nmain,2.0\n"


def test_a_run_is_written_back_as_it_was(history, filled, tmp_path: Path):
    """`export` gives a results folder with the same records; it overwrites nothing."""
    done = history("export", "octo/project/1001", "back")
    assert done.returncode == 0, done.stderr
    assert (
        read_results(tmp_path / "back").records
        == a_run(1, [*both(case("a"), 2.0), *both(case("b", "eager"), 2.0)]).results.records
    )
    again = history("export", "octo/project/1001", "back")
    assert (again.returncode, "back holds results already" in again.stderr) == (2, True)
    unknown = history("export", "octo/project/1", "other")
    assert (unknown.returncode, "has no run octo/project/1" in unknown.stderr) == (2, True)


def test_finished_months_are_compacted(history, filled: Path):
    """The months before this one become one file each; a dry run says so and does nothing."""
    dry = history("compact", "--dry-run")
    assert dry.stdout.startswith("Would compact month=2026-10: 3 files (")
    assert len(list(filled.glob("*/*.parquet"))) == 3
    done = history("compact")
    assert done.stdout.startswith("Compacted month=2026-10: 3 files (")
    assert len(list(filled.glob("*/*.parquet"))) == 1
    assert history("compact").stdout == "There is nothing to compact: no finished month has more than one file\n"
    assert history("list").stdout.count("octo/project/") == 3


def test_an_empty_history_is_said(history):
    """Exit code 4 for questions to a history without runs."""
    for arguments in (("list",), ("query", "SELECT 1")):
        done = history(*arguments)
        assert done.returncode == 4
        assert "the history torchperf-history holds no runs" in done.stderr


@pytest.fixture
def server() -> Iterator[DashboardGitHub]:
    with DashboardGitHub() as running:
        yield running


def test_a_history_on_a_data_branch_is_asked_the_same_way(history, server, filled, tmp_path: Path):
    """Import to, list, ask and compact a branch; without a repository it is not known which."""
    with open_folder(tmp_path / "out") as folder:
        folder.append(*a_run(0).results.records)
    there = ("--data-branch", "data")
    assert history("import", "out", *there, env=server.environ).returncode == 0
    with open_folder(tmp_path / "out2") as folder:
        folder.append(*a_run(1).results.records)
    assert history("import", "out2", *there, env=server.environ).returncode == 0
    assert history("list", *there, env=server.environ).stdout.count("octo/project/") == 2
    assert history("compact", *there, env=server.environ).returncode == 0
    assert len(server.files("data")) == 1
    unknown = history("list", *there)
    assert (unknown.returncode, "give the repository: --repo" in unknown.stderr) == (2, True)
    other = history("list", *there, "--repo", REPOSITORY, env={"GITHUB_API_URL": server.url, "GITHUB_TOKEN": "wrong"})
    assert (other.returncode, "the token is wrong or has expired" in other.stderr) == (5, True)
