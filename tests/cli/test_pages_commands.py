"""`torchperf-ci site` and `dashboard --pages-branch`: where the pages go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dashboard_runs import results
from fakes.dashboard_server import DashboardGitHub
from fakes.github_server import REPOSITORY
from site_builders import a_history
from torchperf_ci.dashboard.words import identify_run
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.runs import RunFilter
from torchperf_ci.history.storage import LocalFiles

GITHUB = ("--repo", REPOSITORY)
PAGES = (*GITHUB, "--pages-branch", "gh-pages")


@pytest.fixture
def server() -> Iterator[DashboardGitHub]:
    with DashboardGitHub() as running:
        yield running


def test_a_folder_is_brought_up_to_date(in_process: Callable, tmp_path: Path):
    """It says how much was written; a second time that nothing was; a dry run writes nothing."""
    a_history(tmp_path / "history", 2)
    dry = in_process("site", "history", "--output", "pages", "--dry-run", cwd=tmp_path)
    assert (dry.returncode, "Would write" in dry.stderr, (tmp_path / "pages").exists()) == (0, True, False)
    one = in_process("site", "history", "--output", "pages", cwd=tmp_path)
    assert (one.returncode, one.stdout) == (0, "pages/index.html\n")
    assert "2 runs of 12 cases" in one.stderr
    two = in_process("site", "history", "--output", "pages", cwd=tmp_path)
    assert two.stderr == "The pages in pages are up to date\n"


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (("none",), 4, "holds no runs"),
        (("history", "--site-url", "javascript:alert(1)"), 2, "is no address"),
        (("history", "--pages-dir", "perf"), 2, "--pages-dir is a folder of --pages-branch"),
        (("history", "--pages-branch", "x", "--pages-dir", "../up", "--repo", "o/r"), 2, "no folder of a branch"),
        (("history", "--pages-branch", "gh-pages"), 2, "repository"),
        (("history", "--output", "taken"), 2, "did not make"),
    ],
)
def test_what_cannot_be_done_is_said(in_process: Callable, tmp_path: Path, arguments, code, reason):
    """With the exit code of wrong usage, or of nothing to judge."""
    a_history(tmp_path / "history", 1)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "index.html").write_text("mine")
    done = in_process("site", *arguments, cwd=tmp_path)
    assert (done.returncode, reason in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_the_dashboard_publishes_the_pages_with_its_run(dashboard, server: DashboardGitHub, tmp_path: Path):
    """On a branch of their own, which is made; the next run writes only what it touches, in one commit."""
    arguments = ("--history", str(tmp_path / "history"), *PAGES, "--site-url", "https://org.github.io/project")
    one = dashboard(results(tmp_path / "one", 0), *arguments, server=server)
    assert one.returncode == 0, one.stderr
    files = server.files("gh-pages")
    keys = [
        run.key for run in ParquetHistory(files=LocalFiles(root=tmp_path / "history")).read_last(9, RunFilter()).runs
    ]
    assert {"index.html", ".nojekyll", f"data/2026-10/run-{identify_run(keys[0])}.js"} <= set(files)
    assert b'href="https://org.github.io/project/"' in files["feed.xml"]
    before = len(server.history("gh-pages"))
    two = dashboard(results(tmp_path / "two", 1), *arguments, server=server)
    assert two.returncode == 0, two.stderr
    assert len(server.history("gh-pages")) == before + 1
    assert server.history("gh-pages")[0] == "Show the run of 2026-10-06 03:15 UTC"
    again = dashboard("two", *arguments, server=server)
    assert "The pages in the branch gh-pages of org/project are up to date" in again.stderr
    assert len(server.history("gh-pages")) == before + 1


def test_a_dry_run_commits_nothing(dashboard, server: DashboardGitHub, tmp_path: Path):
    """It says how much it would be."""
    a_history(tmp_path / "torchperf-history", 1)
    done = dashboard(results(tmp_path / "one", 50), *PAGES, "--dry-run", server=server)
    assert done.returncode == 0, done.stderr
    assert "Would write" in done.stderr
    assert "in the branch gh-pages of org/project: 1 run" in done.stderr
    assert "gh-pages" not in server.refs


def test_pages_of_others_stay(dashboard, server: DashboardGitHub, tmp_path: Path):
    """A root that is taken is refused; a folder beside it is used, and the rest is left as it is."""
    server.commit({"index.html": b"mine", "perf/notes.txt": b"mine"}, branch="gh-pages")
    folder = results(tmp_path / "one", 0)
    done = dashboard(folder, *PAGES, server=server)
    assert done.returncode == 2
    assert "did not make" in done.stderr
    assert "--pages-dir" in done.stderr
    done = dashboard(folder, *PAGES, "--pages-dir", "perf", server=server)
    assert done.returncode == 0, done.stderr
    files = server.files("gh-pages")
    assert (files["index.html"], files["perf/notes.txt"]) == (b"mine", b"mine")
    assert b"assets/main.js" in files["perf/index.html"]


def test_a_missing_permission_is_named_and_the_run_is_kept(dashboard, server: DashboardGitHub, tmp_path: Path):
    """With the exit code of a refusal."""
    server.permissions -= {"contents: write"}
    done = dashboard(results(tmp_path / "one", 0), *PAGES, server=server)
    assert done.returncode == 5
    assert "contents: write" in done.stderr
    assert list((tmp_path / "torchperf-history").rglob("*.parquet"))
