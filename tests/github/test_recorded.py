"""What earlier runs uploaded: durations of the default branch, and the base that is nearest to a pull request."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fakes.artifacts import record, records_file, zipped
from fakes.github_server import REPOSITORY, FakeGitHub
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.github.artifacts import read_nearest_results, read_newest_results
from torchperf_ci.github.client import Client, GitHubRefused

NAME = "torchperf-merged-nightly"


def results(*models: str) -> bytes:
    return zipped({"records.jsonl": records_file(*map(record, models)), "report.md": "# hello"})


def test_the_newest_own_artifact_counts(server: FakeGitHub, client: Client) -> None:
    """Not an expired one, not one of another branch, and not one of a fork's branch of the same name."""
    run = server.add_run()
    server.most_per_page = 2
    for content, options in [
        (results("old"), {}),
        (results("right"), {}),
        (results("branch"), {"branch": "feature"}),
        (results("fork"), {"fork": True}),
        (results("expired"), {"expired": True}),
    ]:
        server.add_artifact(run, NAME, content, **options)
    assert [each.case.model for each in read_newest_results(client, REPOSITORY, NAME).records] == ["right"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"other.txt": "hello"}), f"the artifact {NAME} holds neither records.jsonl nor CSV files with results"),
        (
            zipped({"records.jsonl": "nonsense\n"}),
            f"the artifact {NAME} holds neither records.jsonl nor CSV files with results",
        ),
        (b"nonsense", "is no readable zip"),
    ],
)
def test_what_is_no_results_is_named(server: FakeGitHub, client: Client, content: bytes, message: str) -> None:
    """As a reason why there are no durations."""
    server.add_artifact(server.add_run(), NAME, content)
    with pytest.raises(NothingToJudge, match=message):
        read_newest_results(client, REPOSITORY, NAME)


def test_without_an_artifact_there_are_no_durations(client: Client) -> None:
    """The first run of a repository."""
    with pytest.raises(NothingToJudge, match="no run of main, the default branch, left one"):
        read_newest_results(client, REPOSITORY, NAME)


def test_a_missing_permission_is_named(server: FakeGitHub, connect: Callable[..., Client]) -> None:
    """As everywhere."""
    server.permissions.discard("actions: read")
    with pytest.raises(GitHubRefused, match="the token needs the permission 'actions: read'"):
        read_newest_results(connect(), REPOSITORY, NAME)


def test_the_nearest_measured_commit_is_the_base(server: FakeGitHub, client: Client) -> None:
    """The newest artifact of the commit where head left its branch, else of the nearest one before that: never one of a
    later commit of the branch, of head itself, or of a fork."""
    first = server.commit({"a": b"1"}, branch="main")
    second = server.commit({"a": b"2"}, branch="main", parents=[first])
    fork_point = server.commit({"a": b"3"}, branch="main", parents=[second])
    head = server.commit({"a": b"4"}, branch="feature", parents=[fork_point])
    later = server.commit({"a": b"5"}, branch="main", parents=[fork_point])
    server.most_per_page = 2
    for sha, model, options in [
        (first, "old", {}),
        (second, "again", {}),
        (second, "right", {}),
        (fork_point, "expired", {"expired": True}),
        (fork_point, "fork", {"fork": True}),
        (head, "head", {"branch": "feature"}),
        (later, "later", {}),
    ]:
        server.add_artifact(server.add_run(sha=sha), NAME, results(model), **options)
    found = read_nearest_results(client, REPOSITORY, NAME, head=head, branch="")
    assert [each.case.model for each in found.results.records] == ["right"]
    assert (found.commit, found.behind) == (second, 1)


@pytest.mark.parametrize(
    ("head", "branch", "error", "message"),
    [
        ("head", "main", NothingToJudge, f"no artifact {NAME} in {REPOSITORY} has not expired"),
        ("head", "gone", UsageProblem, "does not know the branch gone or the commit"),
        ("0" * 40, "main", UsageProblem, "is it pushed"),
    ],
)
def test_without_a_base_the_reason_is_named(
    server: FakeGitHub, client: Client, head: str, branch: str, error: type[Exception], message: str
) -> None:
    """No artifact, or a branch or a commit that GitHub does not know."""
    commits = {"head": server.commit({}, branch="main")}
    with pytest.raises(error, match=message):
        read_nearest_results(client, REPOSITORY, NAME, head=commits.get(head, head), branch=branch)


def test_a_base_that_was_never_measured_is_named(server: FakeGitHub, client: Client) -> None:
    """Artifacts of other commits are no base."""
    base = server.commit({}, branch="main")
    later = server.commit({"a": b"1"}, branch="main", parents=[base])
    server.add_artifact(server.add_run(sha=later), NAME, results("later"))
    with pytest.raises(NothingToJudge, match=f"belongs to {base[:12]}, where head left main, or a commit before it"):
        read_nearest_results(client, REPOSITORY, NAME, head=base, branch="main")
