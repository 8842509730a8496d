"""Check runs: one of a name is completed whatever happens, and a failure stays in sight."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fakes.github_server import REPOSITORY, SHA
from fakes.http_server import Reply
from fakes.review_server import ReviewGitHub
from torchperf_ci.github.checks import Check, Conclusion, Note, Posting, complete_check, start_check
from torchperf_ci.github.client import Client, GitHubRefused

CHECK = Check(repository=REPOSITORY, sha=SHA, name="torchperf", run=7, attempt=1)


@pytest.fixture
def server() -> Iterator[ReviewGitHub]:
    with ReviewGitHub() as running:
        yield running


def posting(conclusion: Conclusion = Conclusion.SUCCESS, notes: int = 0) -> Posting:
    made = tuple(Note(path=f"tiny/m{number}", title=f"m{number}", message="slower") for number in range(notes))
    return Posting(conclusion=conclusion, title="title", text="text", notes=made)


def states(server: ReviewGitHub) -> list[tuple[str, str]]:
    return [(check["status"], check.get("conclusion", "")) for check in server.checks]


def test_what_was_started_is_completed(server: ReviewGitHub, client: Client) -> None:
    """It is one check run, and its address is told."""
    start_check(client, CHECK)
    assert states(server) == [("in_progress", "")]
    assert complete_check(client, CHECK, posting()) == server.checks[0]["html_url"]
    assert states(server) == [("completed", "success")]


def test_notes_go_in_portions_and_none_twice(server: ReviewGitHub, client: Client) -> None:
    """GitHub takes 50 a request; the first request completes the check already."""
    complete_check(client, CHECK, posting(Conclusion.FAILURE, notes=120))
    assert [note["title"] for note in server.checks[0]["annotations"]] == [f"m{number}" for number in range(120)]
    assert server.count("POST .*/check-runs") == 1
    assert server.count("PATCH .*/check-runs") == 2
    assert {note["annotation_level"] for note in server.checks[0]["annotations"]} == {"failure"}


def test_notes_that_may_have_arrived_are_not_sent_again(server: ReviewGitHub, client: Client) -> None:
    """The check is complete by then, with its conclusion."""
    server.fail("PATCH .*/check-runs", Reply(status=502), times=9)
    with pytest.raises(GitHubRefused, match="GitHub answers 502"):
        complete_check(client, CHECK, posting(notes=60))
    assert server.count("PATCH .*/check-runs") == 1
    assert states(server) == [("completed", "success")]


def test_an_attempt_takes_over_what_the_one_before_left(server: ReviewGitHub, client: Client) -> None:
    """A job that was killed completes nothing."""
    start_check(client, CHECK)
    again = Check(repository=REPOSITORY, sha=SHA, name="torchperf", run=7, attempt=2, details_url="https://x/y")
    start_check(client, again)
    complete_check(client, again, posting())
    assert [(check["external_id"], check["details_url"]) for check in server.checks] == [("7-2", "https://x/y")]
    assert states(server) == [("completed", "success")]


def test_another_gate_of_the_name_does_not_hide_a_failure(server: ReviewGitHub, client: Client) -> None:
    """GitHub shows the newest of a name alone; so the newest says what failed, and where."""
    url = complete_check(client, CHECK, posting(Conclusion.FAILURE))
    complete_check(client, CHECK, posting())
    assert [conclusion for _, conclusion in states(server)] == ["failure", "failure"]
    assert url in server.checks[1]["output"]["summary"]


def test_check_runs_of_others_are_let_be(server: ReviewGitHub, client: Client) -> None:
    """Of another run of the commit, or of another name."""
    start_check(client, CHECK)
    start_check(client, Check(repository=REPOSITORY, sha=SHA, name="other", run=7, attempt=1))
    complete_check(client, Check(repository=REPOSITORY, sha=SHA, name="torchperf", run=8, attempt=1), posting())
    assert states(server) == [("in_progress", ""), ("in_progress", ""), ("completed", "success")]


def test_a_missing_permission_is_named(server: ReviewGitHub, client: Client) -> None:
    """As everywhere."""
    server.permissions.discard("checks: write")
    with pytest.raises(GitHubRefused, match="'checks: write'"):
        start_check(client, CHECK)
