"""Comments are posted once and found again, whatever GitHub does in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timezone

import pytest

from fakes.dashboard_server import DashboardGitHub
from fakes.github_server import REPOSITORY
from fakes.http_server import Reply
from torchperf_ci.github.client import Client, GitHubRefused
from torchperf_ci.github.issues import Marker, post_comment, read_login

MONDAY = Marker(
    subject="dashboard results float32", run="octo/project/1", time=datetime(2026, 9, 28, tzinfo=timezone.utc)
)
TUESDAY = Marker(subject=MONDAY.subject, run="octo/project/2", time=datetime(2026, 9, 29, tzinfo=timezone.utc))


@pytest.fixture
def server() -> Iterator[DashboardGitHub]:
    with DashboardGitHub() as running:
        yield running


def test_every_run_gets_a_comment(client: Client, server: DashboardGitHub):
    """Without sticky another run is another comment, and the address is the comment's."""
    url, is_new = post_comment(client, REPOSITORY, 7, "monday", MONDAY, sticky=False)
    assert is_new
    assert url.startswith(f"https://github.com/{REPOSITORY}/issues/7#issuecomment-")
    assert post_comment(client, REPOSITORY, 7, "tuesday", TUESDAY, sticky=False)[1]
    assert server.bodies() == ["monday", "tuesday"]


def test_doing_it_again_posts_nothing(client: Client, server: DashboardGitHub):
    """The same run is posted once; with another text its comment is edited."""
    post_comment(client, REPOSITORY, 7, "monday", MONDAY, sticky=False)
    assert not post_comment(client, REPOSITORY, 7, "monday", MONDAY, sticky=False)[1]
    assert server.count("PATCH") == 0
    post_comment(client, REPOSITORY, 7, "monday, better", MONDAY, sticky=False)
    assert server.bodies() == ["monday, better"]


def test_a_sticky_comment_is_found_on_the_last_page(client: Client, server: DashboardGitHub):
    """Our comment is found however many others there are, and however few of them a page holds."""
    server.most_per_page = 3
    for number in range(10):
        server.add_comment(7, f"chatter {number}", login="somebody")
    post_comment(client, REPOSITORY, 7, "monday", MONDAY, sticky=True)
    server.add_comment(7, "more chatter", login="somebody")
    assert not post_comment(client, REPOSITORY, 7, "tuesday", TUESDAY, sticky=True)[1]
    assert server.bodies().count("tuesday") == 1
    assert "monday" not in server.bodies()


def test_a_comment_of_somebody_else_is_not_edited(client: Client, server: DashboardGitHub):
    """Who copies our marker does not get our text."""
    forged = server.add_comment(7, f"{MONDAY.whole}\nhello", login="mallory")
    post_comment(client, REPOSITORY, 7, "monday", MONDAY, sticky=True)
    assert forged["body"].endswith("hello")
    assert server.bodies() == ["hello", "monday"]


def test_other_subjects_are_let_be(client: Client, server: DashboardGitHub):
    """Dashboards of several dtypes on one issue do not overwrite each other."""
    other = Marker(subject="dashboard results amp", run=MONDAY.run, time=MONDAY.time)
    post_comment(client, REPOSITORY, 7, "float32", MONDAY, sticky=True)
    post_comment(client, REPOSITORY, 7, "amp", other, sticky=True)
    assert server.bodies() == ["float32", "amp"]


def test_a_workflows_token_knows_its_name(client: Client, server: DashboardGitHub):
    """A token that may not ask for its user by REST gets it by GraphQL, and its comments are found."""
    server.is_installation, server.login = True, "github-actions[bot]"
    assert read_login(client) == "github-actions[bot]"
    post_comment(client, REPOSITORY, 7, "monday", MONDAY, sticky=True)
    post_comment(client, REPOSITORY, 7, "tuesday", TUESDAY, sticky=True)
    assert server.bodies() == ["tuesday"]


def test_an_answer_that_got_lost_does_not_post_twice(client: Client, server: DashboardGitHub):
    """When GitHub answers 502 after it has posted, the comment is looked for before it is sent again."""
    server.lose_answers = 1
    post_comment(client, REPOSITORY, 7, "monday", MONDAY, sticky=False)
    assert server.bodies() == ["monday"]


def test_a_request_that_did_not_arrive_is_sent_again(client: Client, server: DashboardGitHub):
    """When GitHub answers 502 without having posted, the comment is posted after a wait."""
    server.fail("POST .*/comments", Reply(status=502), times=2)
    post_comment(client, REPOSITORY, 7, "monday", MONDAY, sticky=False)
    assert server.bodies() == ["monday"]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(status=403, headers={"Retry-After": "30"}, body={"message": "You have exceeded a secondary rate limit"}),
        Reply(status=429, headers={"Retry-After": "30"}),
    ],
)
def test_rate_limits_are_waited_for(client: Client, server: DashboardGitHub, clock, reply: Reply):
    """A secondary limit on posting is waited out as long as GitHub says, and the comment is there once."""
    server.fail("POST .*/comments", reply)
    post_comment(client, REPOSITORY, 7, "monday", MONDAY, sticky=False)
    assert server.bodies() == ["monday"]
    assert max(clock.slept) >= 30


def test_a_missing_permission_is_named(client: Client, server: DashboardGitHub):
    """Without the permission to write nothing is posted, and the message says which one is missing."""
    server.permissions.remove("issues: write")
    with pytest.raises(GitHubRefused, match=r"refused to comment on issue 7 of org/project.*'issues: write'"):
        post_comment(client, REPOSITORY, 7, "monday", MONDAY, sticky=False)


def test_an_issue_that_is_not_there_is_said(client: Client):
    """A wrong number is a refusal that names the issue."""
    with pytest.raises(GitHubRefused, match="read the comments of issue 99: there is no such thing"):
        post_comment(client, REPOSITORY, 99, "monday", MONDAY, sticky=False)


def test_a_body_that_is_too_long_is_refused(client: Client, server: DashboardGitHub):
    """What GitHub does not take is an error with its words, and nothing is posted."""
    with pytest.raises(GitHubRefused, match="body is too long"):
        post_comment(client, REPOSITORY, 7, "x" * 70_000, MONDAY, sticky=False)
    assert server.bodies() == []


def test_github_enterprise_has_graphql_elsewhere(server: DashboardGitHub, connect: Callable[..., Client]):
    """On GitHub Enterprise, whose REST is below /api/v3, the name is asked for at /api/graphql."""
    server.is_installation, server.login = True, "perf[bot]"
    asked: list[str] = []
    original = server.route

    def route(found):
        asked.append(found.path)
        if found.path == "/api/graphql":
            return Reply(body={"data": {"viewer": {"login": "perf[bot]"}}})
        return Reply(status=403, body={"message": "Resource not accessible by integration"})

    server.route = route
    assert read_login(connect(api_url=f"{server.url}/api/v3")) == "perf[bot]"
    assert asked == ["/api/v3/user", "/api/graphql"]
    server.route = original
