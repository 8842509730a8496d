"""The client of GitHub's REST API, against a server on this machine."""

import threading
from datetime import datetime, timezone

import pytest

from fakes.github_server import REPOSITORY, SHA, TOKEN
from fakes.http_server import Reply
from torchperf_ci.core.errors import ExitCode, UsageProblem
from torchperf_ci.github.client import Access, Client, GitHubRefused, read_token
from torchperf_ci.github.runs import WorkflowRun, complete_sha, list_artifacts, list_jobs, list_runs, require_repository


def read(client: Client) -> list[WorkflowRun]:
    """A request that reads."""
    return list_runs(client, REPOSITORY, SHA)


def comment(client: Client) -> None:
    """A request that writes, and that must not be sent twice."""
    with client.asking("comment", needs="issues: write"):
        client.requester.requestJsonAndCheck("POST", "/x", input={})


def test_lists_are_read_over_all_pages(server, client):
    """Runs, jobs of every attempt and artifacts come whole, however short the pages are."""
    server.most_per_page = 2
    run = server.add_run(attempt=2)
    for number in range(5):
        server.add_run(workflow=f"w{number}")
        server.add_job(run, f"job {number}", attempt=1 + number % 2)
        server.add_artifact(run, f"artifact {number}", b"zip")
    server.add_run(sha="b" * 40)
    runs = list(list_runs(client, REPOSITORY, SHA))
    assert [each.workflow for each in runs] == ["perf", "w0", "w1", "w2", "w3", "w4"]
    assert runs[0] == WorkflowRun(
        id=run,
        workflow="perf",
        event="push",
        attempt=2,
        finished=True,
        updated=datetime(2026, 1, 2, 4, 5, 6, tzinfo=timezone.utc),
    )
    assert [job.attempt for job in list_jobs(client, REPOSITORY, run)] == [1, 2, 1, 2, 1]
    assert [artifact.size for artifact in list_artifacts(client, REPOSITORY, runs[0].id)] == [3] * 5


def test_server_errors_and_broken_connections_are_tried_again(server, client, clock):
    """A 502, a reply that is cut off and an empty one are worth other tries, with growing waits."""
    server.fail("GET", Reply(status=502, body=b"<html>bad gateway</html>"), times=2)
    server.fail("GET", Reply(body=b'{"workflow_runs": []}', cut=3))
    assert read(client) == []
    assert clock.slept == [1.0, 2.0, 4.0]


def test_a_server_that_stays_broken_is_given_up(server, client, clock):
    """After six tries the message says what GitHub answers, and the exit code is that of a refusal."""
    server.fail("GET", Reply(status=502, body=b"<html>bad gateway</html>"), times=99)
    with pytest.raises(GitHubRefused) as caught:
        read(client)
    assert str(caught.value) == (
        "cannot list the workflow runs of org/project: GitHub answers 502 (<html>bad gateway</html>); try again later"
    )
    assert caught.value.exit_code is ExitCode.REFUSED
    assert len(clock.slept) == 5


def test_rate_limits_are_waited_for_and_said(server, client, clock, said):
    """A primary and a secondary limit: the wait is the server's, the user is told."""
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(clock.now) + 30)}
    server.fail("GET", Reply(status=403, body={"message": "API rate limit exceeded"}, headers=reset))
    server.fail("GET", Reply(status=429, headers={"Retry-After": "5"}))
    server.fail("GET", Reply(status=403, body={"message": "You have exceeded a secondary rate limit"}))
    read(client)
    assert clock.slept == [31.0, 5.0, 240.0]
    assert said[0] == "GitHub's rate limit: waiting 31 s to list the workflow runs of org/project"


def test_patience_runs_out_clearly(server, connect, clock):
    """Where the limit lasts longer than the patience, the message says until when, and no time is wasted."""
    reset = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(clock.now) + 3600)}
    server.fail("GET", Reply(status=403, body={"message": "API rate limit exceeded"}, headers=reset))
    with pytest.raises(GitHubRefused) as caught:
        read(connect(patience_s=600))
    assert str(caught.value) == (
        "GitHub's rate limit does not let us list the workflow runs of org/project before 2023-11-14 23:13 UTC, "
        "longer than --patience 600 s allows; repeat the command then, or raise --patience"
    )
    assert clock.slept == []


def test_a_missing_permission_is_named(server, client):
    """GitHub's own word on what is needed, where it gives one."""
    server.permissions.clear()
    with pytest.raises(GitHubRefused) as caught:
        read(client)
    assert str(caught.value) == (
        "GitHub refused to list the workflow runs of org/project: Resource not accessible by integration; "
        "the token needs the permission 'actions: read'"
    )
    assert caught.value.status == 403


def test_a_wrong_token_and_an_absent_one_are_told_apart(connect):
    """The message says how to give a token."""
    with pytest.raises(GitHubRefused, match="the token is wrong or has expired"):
        read(connect(token="wrong"))
    with pytest.raises(GitHubRefused, match="without a token; set GITHUB_TOKEN or GH_TOKEN, or use --token-file"):
        read(connect(token=""))


def test_nothing_there_may_be_a_missing_permission(client):
    """GitHub hides what a token must not see."""
    with pytest.raises(GitHubRefused, match="no such thing, or the token needs the permission 'actions: read'"):
        list_runs(client, "other/one", SHA)


def test_nobody_at_the_address_is_a_refusal(connect, clock):
    """A connection that fails is tried again, then told without a traceback."""
    with pytest.raises(GitHubRefused) as caught:
        read(connect(api_url="http://127.0.0.1:9"))
    assert str(caught.value) == "cannot list the workflow runs of org/project: the connection failed"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(body=b"<html>sign in</html>"), "is not JSON; is --api-url right?"),
        (Reply(body=b'{"workflow_runs": [{"id": 1'), "is not what GitHub documents"),
        (Reply(body=[1, 2]), "is not what GitHub documents"),
        (Reply(body={"workflow_runs": "many"}), "is not what GitHub documents"),
        (Reply(body={"workflow_runs": [{"id": "many"}]}), "is not what GitHub documents"),
    ],
)
def test_an_answer_that_is_not_githubs_is_told(server, client, reply, message):
    """A proxy's page, or something else that answers."""
    server.fail("GET", reply)
    with pytest.raises(GitHubRefused) as caught:
        read(client)
    assert message in str(caught.value)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_has_moved_is_told(server, client, method):
    """A renamed repository redirects, and what is written to its old name arrives nowhere."""
    server.fail(method, Reply(status=307, body={"message": "Moved Permanently"}))
    moved = pytest.raises(GitHubRefused, match="cannot comment: it has moved, maybe because the repository was renamed")
    with moved, client.asking("comment", needs="issues: write"):
        client.requester.requestJsonAndCheck(method, "/x")


def test_a_write_that_may_have_arrived_is_not_sent_twice(server, client):
    """A server error after a comment: sending again might post it twice, so it is told at once."""
    server.fail("POST", Reply(status=502), times=9)
    with pytest.raises(GitHubRefused):
        comment(client)
    assert server.count("POST") == 1


def test_a_write_that_was_refused_by_a_limit_is_sent_again(server, client, clock):
    """A rate limit means that nothing has happened yet."""
    server.fail("POST", Reply(status=429, headers={"Retry-After": "2"}))
    with pytest.raises(GitHubRefused, match="no such thing"):
        comment(client)
    assert server.count("POST") == 2
    assert clock.slept == [2.0]


def test_the_token_is_shown_nowhere(server, client):
    """Not in the representation of the access, not in messages."""
    assert TOKEN not in repr(client.access)
    server.fail("GET", Reply(status=500, body=TOKEN.encode()), times=0)
    server.permissions.clear()
    with pytest.raises(GitHubRefused) as caught:
        read(client)
    assert TOKEN not in str(caught.value)
    assert server.asked[0].headers["authorization"].endswith(TOKEN)


def test_threads_share_a_client(server, client):
    """Every thread gets its own answers."""
    runs = [server.add_run(workflow=f"w{number}", sha=f"{number:040x}") for number in range(8)]
    found: dict[int, list[int]] = {}

    def look(number: int) -> None:
        found[number] = [run.id for run in list_runs(client, REPOSITORY, f"{number:040x}")]

    threads = [threading.Thread(target=look, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [run] for number, run in enumerate(runs)}


def test_where_tokens_come_from(tmp_path):
    """The file, else GITHUB_TOKEN, else GH_TOKEN; blank ones do not count."""
    file = tmp_path / "token"
    file.write_text("from-file\n")
    assert read_token({"GITHUB_TOKEN": "a"}, file) == "from-file"
    assert read_token({"GITHUB_TOKEN": " ", "GH_TOKEN": "b"}) == "b"
    assert read_token({}) == ""
    file.write_text("two words")
    with pytest.raises(UsageProblem, match="holds spaces, line ends or other characters"):
        read_token({}, file)
    file.write_text("")
    with pytest.raises(UsageProblem, match="is empty"):
        read_token({}, file)
    with pytest.raises(UsageProblem, match="cannot be read"):
        read_token({}, tmp_path)


@pytest.mark.parametrize("url", ["ftp://x", "api.github.com", "", "http://github.example.com/api/v3"])
def test_a_token_goes_over_encrypted_lines_only(url: str):
    """An address that is none, and one that would show the token to everybody on the way."""
    with pytest.raises(UsageProblem, match="--api-url"):
        Access(api_url=url, token="x")


@pytest.mark.parametrize("name", ["", "project", "org/project/x", "org/..", "../x", "org/pro ject", "-"])
def test_a_repository_is_owner_and_name(name: str):
    """Anything else is refused before it becomes part of an address."""
    with pytest.raises(UsageProblem):
        require_repository(name)
    assert require_repository(REPOSITORY) == REPOSITORY
    assert require_repository("mona_acme/project") == "mona_acme/project"


def test_a_short_sha_is_completed(server, client):
    """GitHub lists runs by the whole SHA only."""
    server.add_run()
    assert complete_sha(client, REPOSITORY, "AAAAAAA") == SHA
    assert complete_sha(client, REPOSITORY, SHA) == SHA
    with pytest.raises(UsageProblem, match="has no commit bbbbbbb, or more than one"):
        complete_sha(client, REPOSITORY, "bbbbbbb")
    for nonsense in ("main", "abc", "../../x", "g" * 40, "a" * 41):
        with pytest.raises(UsageProblem, match="is no commit SHA, expected 7 to 40"):
            complete_sha(client, REPOSITORY, nonsense)
