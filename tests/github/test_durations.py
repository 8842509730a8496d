"""Durations come from the newest artifact that the repository's own default branch uploaded."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fakes.artifacts import record, records_file, zipped
from fakes.github_server import REPOSITORY, FakeGitHub
from torchperf_ci.errors import NothingToJudge
from torchperf_ci.github.client import Client, GitHubRefused
from torchperf_ci.github.durations import newest_records

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
    assert [each.case.model for each in newest_records(client, REPOSITORY, NAME)] == ["right"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped({"other.txt": "hello"}), "it holds no records.jsonl with results"),
        (zipped({"records.jsonl": "nonsense\n"}), "it holds no records.jsonl with results"),
        (b"nonsense", "it is no readable zip"),
    ],
)
def test_what_is_no_results_is_named(server: FakeGitHub, client: Client, content: bytes, message: str) -> None:
    """As a reason why there are no durations."""
    server.add_artifact(server.add_run(), NAME, content)
    with pytest.raises(NothingToJudge, match=message):
        newest_records(client, REPOSITORY, NAME)


def test_without_an_artifact_there_are_no_durations(client: Client) -> None:
    """The first run of a repository."""
    with pytest.raises(NothingToJudge, match="the default branch has none that has not expired"):
        newest_records(client, REPOSITORY, NAME)


def test_a_missing_permission_is_named(server: FakeGitHub, connect: Callable[..., Client]) -> None:
    """As everywhere."""
    server.permissions.discard("actions: read")
    with pytest.raises(GitHubRefused, match="the token needs the permission 'actions: read'"):
        newest_records(connect(), REPOSITORY, NAME)
