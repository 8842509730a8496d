"""Commits through the git data API."""

import os
import threading

import pytest

from fakes.github_server import REPOSITORY
from fakes.http_server import Reply
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.github.branch import MAX_TRIES, Branch, commit_files, read_file_sha, read_head
from torchperf_ci.github.client import GitHubRefused

DATA = Branch(repository=REPOSITORY, name="torchperf-data")


def test_several_files_become_one_commit_on_a_new_orphan(server, client):
    """Text and binary files, in folders, on a branch that shares nothing with main."""
    server.commit({"README": b"hello"}, branch="main")
    image = os.urandom(300)
    commit = commit_files(client, DATA, {"a/b.txt": "ä\n".encode(), "c.png": image, "d": None}, message="Add")
    assert commit
    assert server.refs["torchperf-data"] == commit
    assert server.files("torchperf-data") == {"a/b.txt": "ä\n".encode(), "c.png": image}
    assert server.history("torchperf-data") == ["Add"]


def test_a_commit_keeps_what_is_there(server, client):
    """Other files stay, named ones are replaced or deleted, and the history goes on."""
    server.commit({"keep": b"1", "old": b"2", "gone": b"3"}, branch="torchperf-data")
    commit_files(client, DATA, {"old": b"new", "gone": None, "more": b"4"}, message="Change")
    assert server.files("torchperf-data") == {"keep": b"1", "more": b"4", "old": b"new"}
    assert server.history("torchperf-data") == ["Change", "set up"]


def test_a_branch_begins_where_it_is_told_to(server, client):
    """A new branch starts at another one's head; one that is not there is a mistake."""
    server.commit({"keep": b"1"}, branch="main")
    commit_files(client, Branch(repository=REPOSITORY, name="topic/x", start="main"), {"new": b"2"}, message="Go")
    assert server.files("topic/x") == {"keep": b"1", "new": b"2"}
    assert server.history("topic/x") == ["Go", "set up"]
    with pytest.raises(UsageProblem, match="org/project has no branch nope to begin y from"):
        commit_files(client, Branch(repository=REPOSITORY, name="y", start="nope"), {"new": b"2"}, message="Go")


def test_files_that_are_there_already_make_no_commit(server, client):
    """Repeating a command changes nothing."""
    first = commit_files(client, DATA, {"a": b"1"}, message="Add")
    again = commit_files(client, DATA, {"a": b"1"}, message="Add")
    assert (read_head(client, REPOSITORY, DATA.name), again) == (first, "")
    assert server.history("torchperf-data") == ["Add"]


def test_a_branch_that_moves_is_tried_again_and_nothing_is_lost(server, client, clock):
    """Others commit three times while we do; every file is there in the end, the waits grow."""
    server.commit({"start": b""}, branch="torchperf-data")
    moves = iter(range(3))

    def move() -> None:
        if (number := next(moves, None)) is not None:
            files = {**server.files("torchperf-data"), f"theirs {number}": b"x"}
            server.commit(files, branch="torchperf-data", parents=[server.refs["torchperf-data"]])

    server.before_move = move
    commit_files(client, DATA, {"ours": b"y"}, message="Ours")
    assert list(server.files("torchperf-data")) == ["ours", "start", "theirs 0", "theirs 1", "theirs 2"]
    assert server.history("torchperf-data") == ["Ours", "set up", "set up", "set up", "set up"]
    assert clock.slept == [0.5, 1.0, 2.0]


def test_a_branch_that_somebody_else_creates_first_is_joined(server, client):
    """Two first runs at once: both files are there."""
    server.before_move = lambda: server.refs.get("torchperf-data") or server.commit({"a": b""}, branch="torchperf-data")
    commit_files(client, DATA, {"b": b""}, message="Ours")
    assert list(server.files("torchperf-data")) == ["a", "b"]


def test_a_branch_that_never_rests_is_given_up(server, client):
    """The message says that nothing was written."""
    server.commit({}, branch="torchperf-data")

    def move() -> None:
        server.commit({}, branch="torchperf-data", parents=[server.refs["torchperf-data"]])

    server.before_move = move
    with pytest.raises(GitHubRefused, match=f"moved {MAX_TRIES} times while we committed to it; nothing was written"):
        commit_files(client, DATA, {"a": b"1"}, message="Add")


def test_a_protected_branch_is_a_refusal(server, client):
    """Where the branch stands still, a refusal is no race."""
    server.commit({}, branch="torchperf-data")
    server.fail("PATCH", Reply(status=422, body={"message": "Protected branch rules not satisfied"}), times=9)
    with pytest.raises(GitHubRefused, match="Protected branch rules not satisfied"):
        commit_files(client, DATA, {"a": b"1"}, message="Add")
    assert server.count("PATCH") == 1


@pytest.mark.parametrize(
    "limit",
    [
        Reply(status=403, headers={"Retry-After": "30"}, body={"message": "You have exceeded a secondary rate limit"}),
        Reply(status=429, headers={"Retry-After": "30"}),
        Reply(status=502, headers={"Retry-After": "30"}),
    ],
)
@pytest.mark.parametrize("step", ["GET .*/ref/", "POST .*/blobs", "POST .*/trees", "POST .*/commits", "PATCH .*/refs/"])
def test_a_limit_in_the_middle_of_a_commit_is_waited_out(server, client, clock, step: str, limit: Reply):
    """Whichever step meets it waits as long as GitHub says, and there is one commit in the end."""
    server.commit({"keep": b""}, branch="torchperf-data")
    server.fail(step, limit)
    commit_files(client, DATA, {"a": b"\0"}, message="Add")
    assert server.files("torchperf-data") == {"a": b"\0", "keep": b""}
    assert server.history("torchperf-data") == ["Add", "set up"]
    assert max(clock.slept) >= 30


@pytest.mark.parametrize("status", [413, 422])
def test_a_file_that_is_too_large_is_a_refusal(server, client, status: int):
    """The message names the file and has GitHub's words; the branch is not made."""
    server.fail("POST .*/blobs", Reply(status=status, body={"message": "Sorry, your input was too large to process"}))
    with pytest.raises(GitHubRefused, match=r"refused to store a\.png in org/project: Sorry, your input was too large"):
        commit_files(client, DATA, {"a.png": b"\0"}, message="Add")
    assert server.refs == {}


def test_an_answer_that_is_lost_is_no_second_commit(server, client):
    """The branch has moved to our commit although the answer was an error."""
    server.commit({}, branch="torchperf-data")
    route = server.route

    def lose(asked):
        reply = route(asked)
        if asked.method == "PATCH" and server.count("PATCH") == 1:
            return Reply(status=502)
        return reply

    server.route = lose
    commit_files(client, DATA, {"a": b"1"}, message="Add")
    assert server.history("torchperf-data") == ["Add", "set up"]


def test_two_writers_at_once_both_succeed(server, connect):
    """Every file of both is on the branch, in one line of history."""

    def write(who: str) -> None:
        client = connect()
        for number in range(3):
            commit_files(client, DATA, {f"{who}/{number}": b"x"}, message=who)

    threads = [threading.Thread(target=write, args=(who,)) for who in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(server.files("torchperf-data")) == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"]
    assert sorted(server.history("torchperf-data")) == ["a"] * 3 + ["b"] * 3


def test_a_missing_permission_is_named(server, client):
    """Reading is allowed, writing is not."""
    server.commit({}, branch="torchperf-data")
    server.permissions.discard("contents: write")
    with pytest.raises(GitHubRefused, match="'contents: write'"):
        commit_files(client, DATA, {"a": b"1"}, message="Add")


@pytest.mark.parametrize("path", ["", "/a", "a/", "../a", "a/../b", "./a", "a//b", ".git/config", "a\\b"])
def test_paths_stay_inside_the_repository(client, path: str):
    """Nothing is sent for a path that is none."""
    with pytest.raises(UsageProblem, match="is no path of a file"):
        commit_files(client, DATA, {path: b""}, message="x")


def test_heads_and_files_of_branches(server, client):
    """What git calls them, and nothing where there is nothing."""
    server.commit({"a b.csv": b"hello\n"}, branch="main")
    assert read_head(client, REPOSITORY, "main") == server.refs["main"]
    assert read_head(client, REPOSITORY, "nope") == ""
    assert read_file_sha(client, REPOSITORY, "a b.csv", branch="main") == "ce013625030ba8dba906f756967f9e9ca394464a"
    assert read_file_sha(client, REPOSITORY, "b", branch="main") == ""
