"""How many requests the verbs take: PyGithub's objects ask for what they lack without a word, and must not need to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

import pytest

from fakes.dashboard_server import DashboardGitHub
from fakes.github_server import REPOSITORY, SHA, TOKEN, FakeGitHub
from fakes.review_server import ReviewGitHub
from torchperf_ci.github.branch import Branch, commit_files
from torchperf_ci.github.checks import Check, Conclusion, Posting, complete_check, start_check
from torchperf_ci.github.client import Access, Client
from torchperf_ci.github.issues import Marker, post_comment
from torchperf_ci.github.pulls import find_pull_request
from torchperf_ci.github.runs import find_artifacts, list_artifacts, list_jobs, list_runs


@pytest.fixture
def reviews(clock) -> Iterator[tuple[ReviewGitHub, Client]]:
    with ReviewGitHub() as server, Client(Access(api_url=server.url, token=TOKEN), pace=clock.pace()) as client:
        yield server, client


def test_a_list_takes_a_request_a_page(server: FakeGitHub, client: Client) -> None:
    """Of runs, jobs and artifacts, and of artifacts by name."""
    run = server.add_run()
    server.add_job(run, "job")
    server.add_artifact(run, "name", b"zip")
    list_runs(client, REPOSITORY, SHA)
    list_jobs(client, REPOSITORY, run)
    list_artifacts(client, REPOSITORY, run)
    assert [artifact.commit for artifact in find_artifacts(client, REPOSITORY, "name")] == [SHA]
    assert len(server.asked) == 4


def test_a_commit_takes_two_reads_and_three_writes(server: FakeGitHub, client: Client) -> None:
    """Text goes along with the tree; anything else is a request of its own. In between others may commit."""
    server.commit({}, branch="data")
    commit_files(client, Branch(repository=REPOSITORY, name="data"), {"a": b"1", "b": b"\0"}, message="Add")
    assert [asked.method for asked in server.asked] == ["POST", "GET", "GET", "POST", "POST", "PATCH"]


def test_a_comment_is_looked_for_and_written(clock) -> None:
    """Whose token it is, is asked only where there is a comment that may be ours."""
    with DashboardGitHub() as server, Client(Access(api_url=server.url, token=TOKEN), pace=clock.pace()) as client:
        marker = Marker(subject="s", run="1", time=datetime(2026, 12, 1, tzinfo=timezone.utc))
        post_comment(client, REPOSITORY, 7, "first", marker, sticky=True)
        assert len(server.asked) == 2
        post_comment(client, REPOSITORY, 7, "second", marker, sticky=True)
        assert len(server.asked) == 5


def test_a_check_takes_two_requests_to_start_and_two_to_end(reviews: tuple[ReviewGitHub, Client]) -> None:
    """It is looked for, and written; a pull request is found with one."""
    server, client = reviews
    check = Check(repository=REPOSITORY, sha=SHA, name="torchperf", run=7, attempt=1)
    start_check(client, check)
    complete_check(client, check, Posting(conclusion=Conclusion.SUCCESS, title="t", text="t"))
    assert len(server.asked) == 4
    server.add_pull()
    find_pull_request(client, REPOSITORY, head_repository=REPOSITORY, branch="feature", sha=SHA)
    assert len(server.asked) == 5
