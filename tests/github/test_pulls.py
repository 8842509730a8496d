"""Changed files as a pull request."""

from collections.abc import Iterator

import pytest

from fakes.github_server import REPOSITORY, SHA, TOKEN
from fakes.http_server import Reply
from fakes.review_server import ReviewGitHub
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.github.client import Access, Client, GitHubRefused
from torchperf_ci.github.pulls import find_pull_request, open_pull_request, prepare_proposal


@pytest.fixture
def checkout(tmp_path, server):
    """A checkout of main with one table."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / "t.csv").write_bytes(b"old\n")
    server.commit({"ci/t.csv": b"old\n", "README": b"x"}, branch="main")
    return tmp_path


def proposed(client, checkout):
    files = {checkout / "ci" / "t.csv": b"new\n", checkout / "ci" / "rocm" / "u.csv": b"u\n"}
    return prepare_proposal(client, REPOSITORY, branch="update", base="", files=files)


def test_files_become_a_branch_and_a_pull_request(server, client, checkout):
    """One commit on the default branch's head, one pull request with the body."""
    pull = open_pull_request(client, proposed(client, checkout), title="Update", body="## Changes")
    assert server.files("update") == {"README": b"x", "ci/rocm/u.csv": b"u\n", "ci/t.csv": b"new\n"}
    assert server.history("update") == ["Update", "set up"]
    (made,) = server.pulls
    assert (made["head"]["ref"], made["base"], made["title"], made["body"]) == (
        "update",
        "main",
        "Update",
        "## Changes",
    )
    assert (pull.number, pull.opened) == (1, True)


def test_proposing_again_brings_the_open_one_up_to_date(server, client, checkout):
    """There is one pull request, with the newest body."""
    open_pull_request(client, proposed(client, checkout), title="Update", body="first")
    pull = open_pull_request(client, proposed(client, checkout), title="Update", body="second")
    assert (pull.number, pull.opened, server.pulls[0]["body"]) == (1, False, "second")
    assert server.history("update") == ["Update", "set up"]


def test_a_checkout_of_something_else_is_refused(server, client, checkout):
    """The pull request would undo what others did to the files."""
    server.commit({"ci/t.csv": b"theirs\n"}, branch="main")
    with pytest.raises(UsageProblem, match=r"ci/t\.csv: the checkout is not that of the branch main"):
        proposed(client, checkout)


def test_a_folder_outside_of_a_checkout_is_refused(server, client, tmp_path):
    """Where in the repository would it be?"""
    server.commit({}, branch="main")
    with pytest.raises(UsageProblem, match="is in no git checkout"):
        prepare_proposal(client, REPOSITORY, branch="update", base="main", files={tmp_path / "t.csv": b""})


def test_a_workflow_that_may_not_open_pull_requests_is_told_how(server, client, checkout):
    """The commit is there, the setting is named."""
    server.fail("POST .*/pulls", Reply(status=403, body={"message": "GitHub Actions is not permitted to create"}))
    with pytest.raises(GitHubRefused, match="'Allow GitHub Actions to create and approve pull requests' must be on"):
        open_pull_request(client, proposed(client, checkout), title="Update", body="")
    assert "update" in server.refs


@pytest.fixture
def reviews() -> Iterator[ReviewGitHub]:
    with ReviewGitHub() as running:
        yield running


FORK = "mallory/project"


@pytest.mark.parametrize(
    ("pull", "number", "reason"),
    [
        ({}, 1, ""),
        ({"sha": "b" * 40}, 0, "pull request 1 has newer commits than aaaaaaaaaaaa"),
        ({"branch": "other"}, 0, f"no open pull request has the head aaaaaaaaaaaa of {FORK}"),
        ({"fork": "mallory/other"}, 0, "no open pull request"),
        ({"base": "org/other"}, 0, "no open pull request"),
    ],
)
def test_the_pull_request_is_the_open_one_with_exactly_this_head(
    reviews: ReviewGitHub, pull: dict[str, str], number: int, reason: str
) -> None:
    """Of this repository, from this repository and branch: results of another commit would be mistaken for its."""
    reviews.add_pull(**{"fork": FORK, "sha": SHA, **pull})
    with Client(Access(api_url=reviews.url, token=TOKEN)) as client:
        found = find_pull_request(client, REPOSITORY, head_repository=FORK, branch="feature", sha=SHA)
    assert (found[0], reason in found[1]) == (number, True)


def test_a_fork_that_was_deleted_is_nobodys_head(reviews: ReviewGitHub) -> None:
    """GitHub then names no repository."""
    reviews.add_pull(fork=FORK)
    reviews.pulls[0]["head"]["repo"] = None
    with Client(Access(api_url=reviews.url, token=TOKEN)) as client:
        assert find_pull_request(client, REPOSITORY, head_repository="/", branch="feature", sha=SHA)[0] == 0
