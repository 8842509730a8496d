"""`torchperf-ci accept`: comments that let a slowdown land, those that do not, and what later checks make of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.github_server import REPOSITORY, SHA
from fakes.review_server import BOT, ReviewGitHub
from stored_comparisons import slower, store
from torchperf_ci.github.client import Pace

Call = Callable[..., Any]
NEXT = "b" * 40
SERVER = "https://github.test"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReviewGitHub]:
    """A GitHub with a maintainer, whose client does not wait between writes."""
    monkeypatch.setattr(Pace, "take_turn", lambda *_, **__: None)
    with ReviewGitHub() as running:
        running.writers = {"maintainer"}
        yield running


@pytest.fixture
def call(in_process: Call, tmp_path: Path, server: ReviewGitHub) -> Call:
    """A command in a job that an event has started."""

    def run(command: str, event: dict[str, Any], *arguments: str) -> Any:
        path = tmp_path / "event.json"
        path.write_text(json.dumps(event))
        files = {"GITHUB_OUTPUT": str(tmp_path / "outputs"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
        github = {"GITHUB_EVENT_PATH": str(path), "GITHUB_SERVER_URL": SERVER, **files}
        return in_process(command, *arguments, cwd=tmp_path, env={**server.environ, **github})

    return run


def comment_event(server: ReviewGitHub, text: str, *, login: str = "maintainer") -> dict[str, Any]:
    """Somebody comments on the one pull request."""
    number = server.add_comment(1, text, login=login)
    return {"action": "created", "issue": {"number": 1, "pull_request": {}}, "comment": {"id": number}}


def run_event(run: int, sha: str = SHA) -> dict[str, Any]:
    """A run of the pull request's branch has finished."""
    return {
        "workflow_run": {
            "id": run,
            "run_attempt": 1,
            "head_sha": sha,
            "head_branch": "feature",
            "head_repository": {"full_name": REPOSITORY},
        }
    }


def test_a_maintainers_comment_lets_a_slowdown_land_and_later_commits_keep_it(
    call: Call, server: ReviewGitHub, tmp_path: Path
) -> None:
    """The check becomes a success that names who and why. A later commit that is as slow passes, a slower one does
    not."""
    run = store(server, slower(1.2))
    server.add_pull()
    assert call("post", run_event(run)).returncode == 0
    assert server.checks[-1]["conclusion"] == "failure"
    assert "/torchperf accept" in server.checks[-1]["output"]["summary"]

    done = call("accept", comment_event(server, "/torchperf accept all because it is exact now"), "--github-files")
    assert (done.returncode, done.stderr) == (0, "")
    assert "true" in (tmp_path / "outputs").read_text().splitlines()
    (check,) = server.checks
    assert check["conclusion"] == "success"
    assert "maintainer" in check["output"]["title"]
    assert "it is exact now" in check["output"]["title"]
    assert [each["user"]["login"] for each in server.comments[1]] == [BOT, "maintainer", BOT]

    for ratio, conclusion in ((1.19, "success"), (1.4, "failure")):
        server.pulls[0]["head"]["sha"] = NEXT
        run = store(server, slower(ratio), sha=NEXT)
        assert call("post", run_event(run, NEXT)).returncode == 0
        assert server.checks[-1]["conclusion"] == conclusion
    assert "that maintainer accepted" in server.checks[-1]["output"]["summary"]


@pytest.mark.parametrize(
    ("text", "login"),
    [
        ("/torchperf accept all because I want it", "stranger"),
        ("/torchperf accept tiny/slow +50% because I want it", "stranger"),
    ],
)
def test_a_stranger_accepts_nothing_and_gets_no_answer(call: Call, server: ReviewGitHub, text: str, login: str) -> None:
    """Also not with an answer that looks like ours, and not in a later check."""
    run = store(server, slower(1.2))
    server.add_pull()
    done = call("accept", comment_event(server, text, login=login))
    assert done.returncode == 0
    assert "may not write" in done.stdout
    assert len(server.comments[1]) == 1
    assert not server.checks
    call("post", run_event(run))
    assert server.checks[-1]["conclusion"] == "failure"


def test_an_edited_comment_and_a_forged_answer_do_not_count(call: Call, server: ReviewGitHub) -> None:
    """Neither text put into a maintainer's mouth, nor sizes that somebody else wrote under our mark."""
    run = store(server, slower(1.2))
    server.add_pull()
    edited = server.add_comment(1, "Looks good", login="maintainer")
    server.edit_comment(edited, "/torchperf accept tiny/slow +50% because x")
    without_answer = server.add_comment(1, "/torchperf accept all because x", login="maintainer")
    store(server, slower(1.5))
    event = {"issue": {"number": 1, "pull_request": {}}, "comment": {"id": without_answer}}
    assert call("accept", event).returncode == 0
    answer = next(each for each in server.comments[1] if "accepted 1 change" in each["body"])
    answer["user"] = {"login": "stranger"}
    server.checks.clear()
    done = call("post", run_event(run))
    assert server.checks[-1]["conclusion"] == "failure"
    assert "edited" in done.stderr
    assert "no answer" in done.stderr


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/torchperf accept tiny/slow +50%", "reason is missing"),
        ("/torchperf accept tiny/slwo because x", "Did you mean tiny/slow"),
        ("/torchperf accept tiny/slow +5% because x", "more than that"),
    ],
)
def test_a_mistake_of_somebody_who_may_is_answered(call: Call, server: ReviewGitHub, text: str, why: str) -> None:
    """With what to write, and nothing is accepted."""
    store(server, slower(1.2))
    server.add_pull()
    assert call("accept", comment_event(server, text)).returncode == 0
    assert why in server.comments[1][-1]["body"]
    assert server.comments[1][-1]["user"]["login"] == BOT
    assert not server.checks


def test_sizes_are_only_those_that_the_author_could_see(call: Call, server: ReviewGitHub) -> None:
    """Results that are newer than the comment, and those of another commit, are not what it speaks of."""
    server.add_pull()
    event = comment_event(server, "/torchperf accept all because x")
    store(server, slower(1.2))
    server.runs[-1]["updated_at"] = server.tell_time()
    assert call("accept", event).returncode == 0
    assert "newer than the comment" in server.comments[1][-1]["body"]
    server.pulls[0]["head"]["sha"] = NEXT
    assert call("accept", comment_event(server, "/torchperf accept all because x")).returncode == 0
    assert NEXT[:12] in server.comments[1][-1]["body"]
    assert not server.checks


def test_a_dry_run_writes_nothing(call: Call, server: ReviewGitHub) -> None:
    """It says what it would."""
    store(server, slower(1.2))
    server.add_pull()
    done = call("accept", comment_event(server, "/torchperf accept all because x"), "--dry-run")
    assert done.returncode == 0
    assert "Would answer" in done.stderr
    assert (len(server.comments[1]), server.checks) == (1, [])


LABEL = "torchperf-accepted"
LINE = "Faster soon.\r\ntorchperf: accept tiny/slow +50% because it is exact now\r\n"


def label_event(name: str = LABEL) -> dict[str, Any]:
    """Somebody put a label on the one pull request."""
    return {"action": "labeled", "label": {"name": name}, "pull_request": {"number": 1}}


def test_a_maintainers_label_accepts_what_the_description_says(
    call: Call, server: ReviewGitHub, tmp_path: Path
) -> None:
    """At the next check, and at once where the label starts `accept`. Another label does neither."""
    run = store(server, slower(1.2))
    server.add_pull()
    server.describe(1, LINE)
    assert call("accept", label_event("bug")).returncode == 2
    call("post", run_event(run))
    assert server.checks[-1]["conclusion"] == "failure"
    server.put_label(1, LABEL, login="maintainer")
    done = call("accept", label_event(), "--github-files")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "accepted 1 change")
    assert "it is exact now" in server.checks[-1]["output"]["title"]
    assert "maintainer" in server.checks[-1]["output"]["title"]
    server.checks.clear()
    call("post", run_event(run))
    assert server.checks[-1]["conclusion"] == "success"


def test_a_label_for_what_names_no_size_holds_the_size_of_that_moment(call: Call, server: ReviewGitHub) -> None:
    """Once `accept` has answered it; without an answer, nothing."""
    run = store(server, slower(1.2))
    server.add_pull()
    server.describe(1, "torchperf: accept all because the kernel comes next week")
    server.put_label(1, LABEL, login="maintainer")
    done = call("post", run_event(run))
    assert server.checks[-1]["conclusion"] == "failure"
    assert "names no size" in done.stderr
    store(server, slower(1.2))
    server.runs[-1]["updated_at"] = "2026-01-02T03:04:05Z"
    assert call("accept", label_event()).returncode == 0
    for ratio, conclusion in ((1.19, "success"), (1.4, "failure")):
        server.pulls[0]["head"]["sha"] = NEXT
        run = store(server, slower(ratio), sha=NEXT)
        call("post", run_event(run, NEXT))
        assert server.checks[-1]["conclusion"] == conclusion


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("label", "stranger")], "stranger may not write"),
        ([("label", "labeler[bot]")], "labeler[bot] is a program"),
        ([("label", "maintainer"), ("take", "stranger")], ""),
        ([("label", "maintainer"), ("take", "maintainer"), ("label", "stranger")], "stranger may not write"),
        ([("label", "maintainer"), ("describe", LINE)], "edited after"),
    ],
)
def test_a_label_that_does_not_count(
    call: Call, server: ReviewGitHub, changes: list[tuple[str, str]], said: str
) -> None:
    """Put by somebody without access or by a program, taken off, put again by somebody else; and a description that was
    edited after it was put."""
    run = store(server, slower(1.2))
    server.writers |= {"labeler[bot]"}
    server.add_pull()
    server.describe(1, LINE)
    for change, who in changes:
        if change == "describe":
            server.describe(1, who)
        else:
            (server.put_label if change == "label" else server.take_label)(1, LABEL, login=who)
    done = call("post", run_event(run))
    assert server.checks[-1]["conclusion"] == "failure"
    assert said in done.stderr
    assert call("accept", label_event()).returncode == (0 if said else 2)
    assert server.checks[-1]["conclusion"] == "failure"


def test_a_label_is_asked_for_by_its_name(call: Call, server: ReviewGitHub) -> None:
    """--accept-label names another one; blank, no label accepts anything."""
    run = store(server, slower(1.2))
    server.add_pull()
    server.describe(1, LINE)
    server.put_label(1, "slower-ok", login="maintainer")
    for label, conclusion in (("", "failure"), (LABEL, "failure"), ("slower-ok", "success")):
        server.checks.clear()
        call("post", run_event(run), "--accept-label", label)
        assert server.checks[-1]["conclusion"] == conclusion


def test_other_comments_and_events_are_left_alone(call: Call, server: ReviewGitHub) -> None:
    """A comment that is no command is no error; an event that is no comment on a pull request is."""
    server.add_pull()
    assert call("accept", comment_event(server, "Nice work")).returncode == 0
    assert len(server.comments[1]) == 1
    assert call("accept", {"issue": {"number": 1}, "comment": {"id": 1}}).returncode == 2
    assert call("accept", {}).returncode == 2
    missing = {"issue": {"number": 1, "pull_request": {}}, "comment": {"id": 987654}}
    assert call("accept", missing).returncode == 2


def test_hostile_text_stays_text(call: Call, server: ReviewGitHub) -> None:
    """A reason can neither mention people nor add HTML."""
    store(server, slower(1.2))
    server.add_pull()
    event = comment_event(server, "/torchperf accept all because <img src=x> @org/team `x` | --> ok")
    assert call("accept", event).returncode == 0
    for shown in (server.comments[1][1]["body"], server.checks[-1]["output"]["summary"]):
        assert "<img" not in shown.replace("`<img src=x> @org/team", "").replace("<img src=x> @org/team `x`", "")
