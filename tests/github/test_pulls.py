"""Changed files as a pull request."""

import pytest

from fakes.github_server import REPOSITORY
from fakes.http_server import Reply
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.github.client import GitHubRefused
from torchperf_ci.github.pulls import prepare, propose


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
    return prepare(client, REPOSITORY, branch="update", base="", files=files)


def test_files_become_a_branch_and_a_pull_request(server, client, checkout):
    """One commit on the default branch's head, one pull request with the body."""
    pull = propose(client, proposed(client, checkout), title="Update", body="## Changes")
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
    propose(client, proposed(client, checkout), title="Update", body="first")
    pull = propose(client, proposed(client, checkout), title="Update", body="second")
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
        prepare(client, REPOSITORY, branch="update", base="main", files={tmp_path / "t.csv": b""})


def test_a_workflow_that_may_not_open_pull_requests_is_told_how(server, client, checkout):
    """The commit is there, the setting is named."""
    server.fail("POST .*/pulls", Reply(status=403, body={"message": "GitHub Actions is not permitted to create"}))
    with pytest.raises(GitHubRefused, match="'Allow GitHub Actions to create and approve pull requests' must be on"):
        propose(client, proposed(client, checkout), title="Update", body="")
    assert "update" in server.refs
