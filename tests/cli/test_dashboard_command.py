"""`torchperf-ci dashboard` on this machine alone."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from dashboard_runs import BAD, GOOD, kept, results
from fakes.github_server import REPOSITORY
from report_builders import GOLDEN
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.runs import RunFilter
from torchperf_ci.history.storage import LocalFiles

GITHUB = ("--repo", REPOSITORY)
NEW = "new: tiny/mlp inductor: Accuracy check fails, fail_accuracy, since 2026-10-06 (000000000...010101010)"


def test_by_default_everything_stays_on_this_machine(cli, tmp_path: Path):
    """Two runs: both are kept in ./torchperf-history, and the second says what changed; nobody is asked for a token."""
    first = cli("dashboard", results(tmp_path / "one", 0), cwd=tmp_path)
    second = cli("dashboard", results(tmp_path / "two", 1, BAD), cwd=tmp_path)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "✅ float32: 1 case passed\n  Not judged yet: 2 metrics of 1 case, 2 with 1 of 5 runs" in first.stdout
    assert f"❌ float32: 1 of 1 case failed: fail_accuracy\n  {NEW}" in second.stdout
    assert kept(tmp_path / "torchperf-history") == ["octo/project/1000", "octo/project/1001"]
    made = {path.name for path in (tmp_path / "two").iterdir()}
    assert {"dashboard_float32.md", "gh_summary_diff.txt", "gh_regression.txt", "gh_graphs.txt", "report.md"} <= made
    assert {"gh_metric_regression.txt", "geomean_over_time.png", "passrate_over_time.png"} <= made
    assert (tmp_path / "two" / "geomean_over_time.png").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("option", ["--history", "--dashboard-archive-path"])
def test_a_place_that_cannot_be_written_is_refused_before_a_verdict(cli, tmp_path: Path, option: str):
    (tmp_path / "file").touch()
    folder = results(tmp_path / "one")
    done = cli("dashboard", folder, option, tmp_path / "file" / "h", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert option in done.stderr


def test_doing_it_again_keeps_the_run_once(dashboard, tmp_path: Path):
    """The same folder again adds nothing to the history, and the run is not compared with itself."""
    folder = results(tmp_path / "one")
    dashboard(folder)
    again = dashboard(folder)
    assert "torchperf-history has this run already" in again.stderr
    assert "2 with 1 of 5 runs" in again.stdout
    assert kept(tmp_path / "torchperf-history") == ["octo/project/1000"]


def test_pictures_can_go_through_a_command(dashboard, tmp_path: Path):
    """The command gets every picture's path as one argument and prints its address; without a shell nothing expands."""
    uploader = tmp_path / "up load.py"
    uploader.write_text(
        f"#!{sys.executable}\nimport sys\nprint('https://example.org/' + sys.argv[-1].rpartition('/')[2])\n"
    )
    uploader.chmod(uploader.stat().st_mode | stat.S_IXUSR)
    done = dashboard(results(tmp_path / "one", 0), "--image-uploader", f"'{uploader}' '$HOME;ls'")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "one" / "dashboard_float32.md").read_text()
    assert '<img alt="geomean_over_time.png" src="https://example.org/geomean_over_time.png"' in text
    assert '<img alt="tiny_float32.png" src="https://example.org/tiny_float32.png"' in text


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import sys; sys.exit('no room')", "the command ended with 1: no room"),
        ("print('one'); print('two')", "the command printed 'one two', expected one line with a URL"),
        ("print('javascript:x')", "the command printed 'javascript:x', expected one line with a URL"),
        ("pass", "the command printed '', expected one line with a URL"),
    ],
)
def test_a_command_that_fails_costs_the_picture_only(dashboard, tmp_path: Path, script: str, said: str):
    """A picture without an address is named with the reason, and the dashboard is made all the same."""
    uploader = tmp_path / "uploader.py"
    uploader.write_text(f"#!{sys.executable}\n{script}\n")
    uploader.chmod(0o755)
    done = dashboard(results(tmp_path / "one", 0), "--dashboard-image-uploader", str(uploader))
    assert done.returncode == 0
    assert f"Warning: --image-uploader: geomean_over_time.png has no address: {said}" in done.stderr
    assert (
        "Charts in the results folder: `geomean_over_time.png`"
        in (tmp_path / "one" / "dashboard_float32.md").read_text()
    )


def test_without_detection_nothing_is_compared(dashboard, tmp_path: Path):
    """--no-detect-regressions leaves out what changed, also where an earlier dashboard wrote it."""
    folder = results(tmp_path / "one", 0)
    dashboard(folder)
    assert (tmp_path / "one" / "gh_summary_diff.txt").exists()
    dashboard(folder, "--no-detect-regressions")
    assert not (tmp_path / "one" / "gh_summary_diff.txt").exists()
    assert "Not judged" not in (tmp_path / "one" / "dashboard_float32.md").read_text()


def test_an_archive_with_an_index_is_kept_up(dashboard, tmp_path: Path):
    """--dashboard-archive-path reads and extends lookup.csv."""
    for day, (name, records) in enumerate({"one": GOOD, "two": BAD}.items()):
        done = dashboard(results(tmp_path / name, day, records), "--dashboard-archive-path", "archive")
        assert done.returncode == 0, done.stderr
    assert NEW in done.stdout
    lines = (tmp_path / "archive" / "lookup.csv").read_text().splitlines()
    assert [line.rpartition("_")[0] for line in lines] == [
        "278,performance,float32,day_278_05_10_26_performance_float32",
        "279,performance,float32,day_279_06_10_26_performance_float32",
    ]
    assert not (tmp_path / "torchperf-history").exists()


def test_pytorchs_own_folder_will_do(dashboard, tmp_path: Path):
    """A folder of CSV files has a dashboard too; in a GitHub job it gets the job's commit."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for path in (GOLDEN / "pytorch_folder" / "input").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    env = {
        "GITHUB_ACTIONS": "true", "GITHUB_REPOSITORY": "octo/project", "GITHUB_SHA": "c0ffee" * 6 + "c0de",
        "GITHUB_RUN_ID": "4711", "GITHUB_WORKFLOW": "nightly", "GITHUB_REF_NAME": "main",
    }  # fmt: skip
    done = dashboard("logs", env=env)
    assert done.returncode == 0, done.stderr
    (run,) = ParquetHistory(files=LocalFiles(root=tmp_path / "torchperf-history")).read_last(5, RunFilter()).runs
    assert (run.key, run.source.commit, run.source.branch) == ("octo/project/4711", env["GITHUB_SHA"], "main")
    assert (folder / "gh_training.txt").read_text() == (GOLDEN / "pytorch_folder" / "gh_training.txt").read_text()


def test_series_and_branches_are_kept_apart(dashboard, tmp_path: Path):
    """--name tells series apart, --compare-branch leaves other branches out."""
    dashboard(results(tmp_path / "one", 0), "--name", "a100")
    other = dashboard(results(tmp_path / "two", 1, BAD), "--name", "h200")
    assert "2 with 1 of 5 runs" in other.stdout
    dashboard(results(tmp_path / "three", 2, branch="topic"), "--name", "a100")
    found = dashboard(results(tmp_path / "four", 3, BAD), "--name", "a100", "--compare-branch", "main")
    assert "since 2026-10-08 (000000000...030303030)" in found.stdout


def test_a_new_failure_can_fail_the_step(dashboard, tmp_path: Path):
    """--fail-on new: exit code 3, after everything was kept; GitHub gets outputs and the step summary."""
    dashboard(results(tmp_path / "one", 0))
    files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    folder = results(tmp_path / "two", 1, BAD)
    done = dashboard(folder, "--fail-on", "new", "--github-files", env=files)
    assert done.returncode == 3
    assert "✅" not in done.stdout
    assert "--fail-on" in done.stderr
    assert len(kept(tmp_path / "torchperf-history")) == 2
    lines = (tmp_path / "output").read_text().splitlines()
    assert [lines[place] for place in (1, 4, 13, 16)] == ["two/dashboard_float32.md", "", "1", "1"]
    assert (tmp_path / "summary.md").read_text().rstrip() == (
        tmp_path / "two" / "dashboard_float32.md"
    ).read_text().rstrip()


def test_an_unreadable_file_of_the_history_is_told(dashboard, tmp_path: Path):
    """A broken file is named on stderr and in the comment; the run is compared with what is left."""
    dashboard(results(tmp_path / "one", 0))
    dashboard(results(tmp_path / "two", 1))
    (broken,) = (tmp_path / "torchperf-history").glob("*/*-1001_*")
    broken.write_bytes(b"PAR1")
    done = dashboard(results(tmp_path / "three", 2, BAD))
    assert done.returncode == 0
    assert f"Problem: {broken.name}: cannot be read and was left out" in done.stderr
    assert "since 2026-10-07 (000000000...020202020)" in done.stdout
    assert broken.name in (tmp_path / "three" / "dashboard_float32.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--issue", "seven", *GITHUB),
            "--issue 'seven': expected a number, or DTYPE=NUMBER, for example float32=93518",
        ),
        (("--issue", "=7", *GITHUB), "--issue '=7': expected a number"),
        (("--issue", "7", "--issue", "8", *GITHUB), "--issue names two issues for all dtypes: 7 and 8"),
        (("--issue", "7"), "give the repository: --repo OWNER/NAME"),
        (("--data-branch", "data", "--repo", "nonsense"), "--repo is 'nonsense', expected OWNER/NAME"),
        (("--history", "h", "--dashboard-archive-path", "a"), "give one of them"),
        (("--archive-name", "a"), "--archive-name names a folder of --dashboard-archive-path"),
        (("--image-uploader", "'unbalanced"), "cannot be split into words"),
        (("--image-uploader", "/no/such/program"), "/no/such/program cannot be started"),
        (("--fail-on", "regressed"), "'regressed' is not one of 'new', 'open', 'never'"),
        (("--fail-on", "new", "--no-detect-regressions"), "leaves nothing to judge"),
        (("--site-url", "javascript:alert(1)"), "is no address"),
        (("--history", "nosuch://x"), "nosuch://x cannot be used"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(dashboard, tmp_path: Path, arguments, said: str):
    """Exit code 2 and a sentence; no run is kept."""
    done = dashboard(results(tmp_path / "one", 0), *arguments)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert not (tmp_path / "torchperf-history").exists()


def test_an_empty_folder_has_no_dashboard(dashboard, tmp_path: Path):
    """Exit code 4 when there is nothing to show."""
    (tmp_path / "empty").mkdir()
    done = dashboard("empty")
    assert done.returncode == 4
    assert "there are no results to report" in done.stderr


@pytest.mark.parametrize(
    ("module", "purpose"), [("duckdb", "the history of runs"), ("ruptures", "finding lasting changes")]
)
def test_a_missing_library_is_named_with_the_way_to_get_it(dashboard, tmp_path: Path, monkeypatch, module, purpose):
    """In an installation that was cut down the message says which command installs it."""
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else found(name, *rest))
    dashboard(results(tmp_path / "one", 0), "--no-detect-regressions", "--history", "memory://x")
    done = dashboard(results(tmp_path / "two", 1))
    assert done.returncode == 2
    assert f"{purpose} needs {module}, which is not installed" in done.stderr
    assert f"{sys.executable} -m pip install {module}" in done.stderr
