"""What was accepted on a pull request is marked as such in the nights after its merge, by GitHub's word alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboard_runs import results
from fakes.github_server import REPOSITORY, TOKEN
from fakes.review_server import ReviewGitHub
from report_builders import both, case
from run_builders import a_run
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.storage import LocalFiles

SHAS = [f"{day:02x}" * 20 for day in range(30)]
COMMENT = "/torchperf accept tiny/net +26% because it is exact <b> @org/all"
NIGHTS = [1.5] * 6 + [1.2] * 3


@pytest.fixture
def server() -> Iterator[ReviewGitHub]:
    """A repository whose seventh commit came from a merged pull request."""
    with ReviewGitHub() as running:
        running.writers = {"maintainer"}
        running.line = SHAS
        running.merge(running.add_pull(), SHAS[6])
        yield running


@pytest.fixture
def show(dashboard: Callable[..., Any], tmp_path: Path, server: ReviewGitHub) -> Callable[..., Any]:
    """Show the last of these nights; what the command said."""

    def call(*arguments: str, nights: list[float] = NIGHTS, **settings: Any) -> Any:
        history = ParquetHistory(files=LocalFiles(root=tmp_path / "torchperf-history"))
        for day, speed in enumerate(nights[:-1]):
            history.add(a_run(day, both(case("net"), speed), repository=REPOSITORY), tmp_path)
        last = len(nights) - 1
        folder = results(tmp_path / f"night{last}", last, both(case("net"), nights[-1]), repository=REPOSITORY)
        options = {"server": server, **settings}
        return dashboard(folder, "--no-graphs", "--repo", REPOSITORY, "--fail-on", "open", *arguments, **options)

    return call


def test_an_accepted_slowdown_is_accepted_in_the_nights_after_it(
    show: Callable[..., Any], server: ReviewGitHub, in_process: Callable[..., Any], tmp_path: Path
) -> None:
    """Latency and speedup, by one comment; the comment, the terminal and the site say by whom and why. No file keeps
    it: without a token the change is open."""
    assert show().returncode == 3
    server.add_comment(1, COMMENT, login="maintainer")
    done = show()
    assert done.returncode == 0, done.stdout
    assert "✅ float32" in done.stdout
    comment = (tmp_path / "night8" / "dashboard_float32.md").read_text()
    assert "by `@maintainer`: `it is exact <b> @org/all`" in comment
    assert not (tmp_path / "torchperf-history" / "acceptances").exists()
    environment = {"GITHUB_TOKEN": TOKEN, "GITHUB_API_URL": server.url}
    site = ("site", "torchperf-history", "--output", "site", "--repo", REPOSITORY)
    assert in_process(*site, cwd=tmp_path, env=environment).returncode == 0
    assert "accepted by @maintainer: it is exact <b> @org/all" in (tmp_path / "site/data/index.js").read_text()
    assert show(server=None).returncode == 3


@pytest.mark.parametrize(
    ("text", "login"),
    [
        (COMMENT, "stranger"),
        ("/torchperf accept tiny/net +5% because x", "maintainer"),
        ("/torchperf accept tiny/other +50% because x", "maintainer"),
        ("/torchperf accept tiny/net peak memory +50% because x", "maintainer"),
        ("/torchperf accept tiny/net because x", "maintainer"),
    ],
)
def test_what_does_not_count_leaves_it_open(
    show: Callable[..., Any], server: ReviewGitHub, text: str, login: str
) -> None:
    """A stranger's, a smaller size, another case, another metric, and no size at all."""
    server.add_comment(1, text, login=login)
    assert show().returncode == 3


def test_only_the_pull_request_that_brought_the_commit_counts(show: Callable[..., Any], server: ReviewGitHub) -> None:
    """Neither one that brought another commit, nor one that was closed without a merge."""
    server.merge(server.add_pull(), SHAS[5])
    server.add_comment(2, COMMENT, login="maintainer")
    assert show().returncode == 3
    server.add_comment(1, COMMENT, login="maintainer")
    server.pulls[0]["merged_at"] = None
    assert show().returncode == 3


def test_a_further_fall_is_open_again(show: Callable[..., Any], server: ReviewGitHub) -> None:
    """Since its own commit, while the accepted one stays accepted."""
    server.add_comment(1, COMMENT, login="maintainer")
    done = show(nights=[*NIGHTS, 1.2, 1.2, 0.9, 0.9])
    assert done.returncode == 3
    assert "(1.2 → 0.9), since 2026-10-16" in done.stdout


def test_a_label_counts_as_well(show: Callable[..., Any], server: ReviewGitHub) -> None:
    """With the description as it was when it was put."""
    server.describe(1, "torchperf: accept tiny/net +30% because it is exact now")
    server.put_label(1, "torchperf-accepted", login="maintainer")
    assert show().returncode == 0


def test_a_refusal_is_said_and_nothing_else_is_lost(show: Callable[..., Any], server: ReviewGitHub) -> None:
    """Without the permission it is open, as without a token."""
    server.add_comment(1, COMMENT, login="maintainer")
    server.permissions.remove("pull-requests: write")
    done = show()
    assert done.returncode == 3
    assert "Warning: whether changes were accepted on pull requests is not known" in done.stderr
    assert done.stderr.count("is not known") == 1
