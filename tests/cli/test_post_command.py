"""`torchperf-ci post`: what reviewers see, from the job itself and, for forks, from a second workflow."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes.artifacts import record, records_file, zipped
from fakes.github_server import REPOSITORY, SHA
from fakes.http_server import Reply
from fakes.review_server import ReviewGitHub
from torchperf_ci.compare.effects import ChangeTolerance, Verdict
from torchperf_ci.compare.model import LATENCY, Comparison, ComparisonFindings, Header, ToleranceRules
from torchperf_ci.compare.report import to_json
from torchperf_ci.core.records import Record, Source, Status
from torchperf_ci.github.client import Pace

Call = Callable[..., Any]
FORK = "stranger/project"
RECORDS, COMPARISON = "records.jsonl", "compare.json"
RUN = "101"
"""The first run of the local GitHub."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReviewGitHub]:
    """A GitHub whose client does not wait between writes."""
    monkeypatch.setattr(Pace, "take_turn", lambda *_, **__: None)
    monkeypatch.setattr(Pace, "hold_all", lambda *_: None)
    with ReviewGitHub() as running:
        yield running


def own(made: Record, *, commit: str = SHA, repository: str = REPOSITORY, run: str = RUN) -> Record:
    return replace(made, source=Source(commit=commit, repository=repository, run_id=run))


def comparison(*, model: str = "mlp", how: str = "", **source: str) -> str:
    """A compare.json that says that all is well."""
    known = {"commit": SHA, "repository": REPOSITORY, "run_id": RUN}
    header = Header(
        base="base",
        head="head",
        how=how,
        machine="a CPU",
        tolerances=ToleranceRules(latency=ChangeTolerance(margin=0.02, threshold=0.05)),
        source=Source(**{**known, **source}),
    )
    case = replace(record(model).case, model=model)
    same = Comparison(case=case, metric=LATENCY, verdict=Verdict.UNCHANGED, base=1.0, head=1.0, ratio=1.0)
    return to_json(ComparisonFindings(header=header, comparisons=(same,)))


GOOD = (own(record("mlp")),)
BAD = (own(record("mlp")), own(replace(record("lstm", Status.FAIL_ACCURACY), reason="wrong by 7")))


@pytest.fixture
def post(in_process: Call, tmp_path: Path, server: ReviewGitHub) -> Call:
    """`post` in the second workflow, about a run of a fork's pull request; the event may be another one."""

    def call(*arguments: str, event: dict[str, Any] | None = None, env: dict[str, str] | None = None) -> Any:
        path = tmp_path / "event.json"
        path.write_text(json.dumps(event if event is not None else workflow_run(server)))
        files = {"GITHUB_OUTPUT": str(tmp_path / "outputs"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
        github = {"GITHUB_EVENT_PATH": str(path), "GITHUB_SERVER_URL": "https://github.test", **files}
        return in_process("post", *arguments, cwd=tmp_path, env={**server.environ, **github, **(env or {})})

    return call


def workflow_run(server: ReviewGitHub, *, fork: str = FORK, sha: str = SHA, attempt: int = 1) -> dict[str, Any]:
    run = server.runs[-1]["id"] if server.runs else server.add_run()
    return {
        "workflow_run": {
            "id": run,
            "run_attempt": attempt,
            "event": "pull_request",
            "head_sha": sha,
            "head_branch": "feature",
            "head_repository": {"full_name": fork},
            "pull_requests": [],
        }
    }


def stored(server: ReviewGitHub, *records: Record, **files: bytes | str) -> int:
    """A finished run with its artifact; its number."""
    run = server.add_run()
    content = {RECORDS: records_file(*records)} if records else {}
    server.add_artifact(run, "torchperf-report", zipped({**content, **files}))
    return run


def test_a_forks_results_become_check_comment_and_summary(post: Call, server: ReviewGitHub, tmp_path: Path) -> None:
    """On the pull request of the event's commit; the check fails with a note for every case that fails."""
    run, pull = stored(server, *BAD), server.add_pull(fork=FORK)
    done = post("--github-files")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("❌ ")
    (check,) = server.checks
    whence = (
        f"<sub>Commit {SHA[:12]}, [run {run}, attempt 1](https://github.test/{REPOSITORY}/actions/runs/{run}/attempts/1)"
        f". These results come from code of `{FORK}`, not of this repository.</sub>\n"
    )
    assert {name: check[name] for name in ("name", "head_sha", "status", "conclusion", "external_id")} == {
        "name": "torchperf",
        "head_sha": SHA,
        "status": "completed",
        "conclusion": "failure",
        "external_id": f"{run}-1",
    }
    assert check["annotations"] == [
        {
            "path": "tiny/lstm",
            "start_line": 1,
            "end_line": 1,
            "annotation_level": "failure",
            "title": "lstm inductor: fail_accuracy",
            "message": "wrong by 7",
        }
    ]
    text = check["output"]["summary"]
    assert text.endswith(whence)
    (comment,) = server.comments[pull]
    assert comment["body"].partition("\n")[2] == text
    assert (tmp_path / "summary").read_text() == text + "\n"
    assert f"\n{check['html_url']}\n" in (tmp_path / "outputs").read_text()
    assert f"\n{comment['html_url']}\n" in (tmp_path / "outputs").read_text()


def test_a_second_attempt_edits_the_comment_and_gets_a_check_run_of_its_own(post: Call, server: ReviewGitHub) -> None:
    """Somebody else's comment that begins like ours stays as it is."""
    stored(server, *BAD)
    pull = server.add_pull(fork=FORK)
    assert post().returncode == 0
    (ours,) = server.comments[pull]
    server.add_comment(pull, ours["body"], login="stranger")
    server.add_artifact(server.runs[-1]["id"], "torchperf-report", zipped({RECORDS: records_file(*GOOD)}))
    assert post(event=workflow_run(server, attempt=2)).returncode == 0
    first, second = server.comments[pull]
    assert (first["id"], "❌" in first["body"], "attempt 2" in first["body"]) == (ours["id"], False, True)
    assert "❌" in second["body"]
    assert [check["conclusion"] for check in server.checks] == ["failure", "success"]


def test_a_check_is_in_progress_from_the_start_and_completed_by_the_same_attempt(
    post: Call, server: ReviewGitHub, tmp_path: Path
) -> None:
    """From the job that measures: of a pull request its head counts, not the commit that GitHub merged."""
    pull = server.add_pull()
    event = {"pull_request": {"head": {"sha": SHA, "ref": "feature", "repo": {"full_name": REPOSITORY}}}}
    env = {"GITHUB_SHA": "b" * 40, "GITHUB_RUN_ID": RUN, "GITHUB_RUN_ATTEMPT": "2"}
    assert post("--start", event=event, env=env).returncode == 0
    assert [(check["status"], check["head_sha"], check["external_id"]) for check in server.checks] == [
        ("in_progress", SHA, "101-2")
    ]
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / RECORDS).write_text(records_file(*GOOD))
    done = post("logs", event=event, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(check["status"], check["conclusion"]) for check in server.checks] == [("completed", "success")]
    assert "These results come from code of" not in server.comments[pull][0]["body"]


HEAD = {"pull_request": {"head": {"sha": SHA, "ref": "feature", "repo": {"full_name": REPOSITORY}}}}


def job(run: int = 101, attempt: int = 1) -> dict[str, Any]:
    """What `post` is called with in a job of a pull request."""
    return {"event": HEAD, "env": {"GITHUB_RUN_ID": str(run), "GITHUB_RUN_ATTEMPT": str(attempt)}}


def states(server: ReviewGitHub) -> list[tuple[str, str, str]]:
    return [(each["external_id"], each["status"], each.get("conclusion", "")) for each in server.checks]


def test_two_starts_of_one_run_leave_one_completed_check(post: Call, server: ReviewGitHub, tmp_path: Path) -> None:
    """Say of two jobs; what other runs have in progress stays so."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / RECORDS).write_text(records_file(*GOOD))
    for run in (100, 101, 101):
        assert post("--start", **job(run)).returncode == 0
    for _ in range(2):
        assert post("logs", "--no-comment", **job()).returncode == 0
    assert states(server) == [("100-1", "in_progress", ""), ("101-1", "completed", "success")]


def test_a_second_attempt_takes_over_what_the_first_left_in_progress(
    post: Call, server: ReviewGitHub, tmp_path: Path
) -> None:
    """Its runner may have died; and a late post of the first attempt leaves the second one's alone."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / RECORDS).write_text(records_file(*GOOD))
    for attempt in (1, 2):
        assert post("--start", **job(attempt=attempt)).returncode == 0
    assert states(server) == [("101-2", "in_progress", "")]
    assert post("logs", "--no-comment", **job()).returncode == 0
    assert states(server) == [("101-2", "in_progress", ""), ("101-1", "completed", "success")]
    assert post("logs", "--no-comment", **job(attempt=2)).returncode == 0
    assert states(server) == [("101-2", "completed", "success"), ("101-1", "completed", "success")]


def test_checks_that_two_jobs_started_at_the_same_moment_are_both_completed(post: Call, server: ReviewGitHub) -> None:
    """Neither saw the other's; the older one leads to the newer."""
    assert post("--start", **job()).returncode == 0
    first, number = server.checks[0], server.checks[0]["id"] + 1_000
    url = first["url"].replace(str(first["id"]), str(number))
    server.checks.append({**first, "id": number, "url": url, "html_url": "https://newer"})
    assert post("absent", "--no-comment", **job()).returncode == 0
    assert states(server) == [("101-1", "completed", "action_required")] * 2
    assert "https://newer" in server.checks[0]["output"]["summary"]


def test_a_failure_is_not_hidden_by_a_second_gate_of_the_same_name(
    post: Call, server: ReviewGitHub, tmp_path: Path
) -> None:
    """Whether the second starts before or after the first one ended; the newest check leads to what failed."""
    for name, records in (("bad", BAD), ("good", GOOD)):
        (tmp_path / name).mkdir()
        (tmp_path / name / RECORDS).write_text(records_file(*records))
    assert post("bad", "--no-comment", **job()).returncode == 0
    assert post("--start", **job()).returncode == 0
    assert post("good", "--no-comment", **job()).returncode == 0
    assert states(server) == [("101-1", "completed", "failure")] * 2
    assert server.checks[0]["html_url"] in server.checks[1]["output"]["summary"]
    assert server.checks[1]["output"]["title"].startswith("❌ ")


def test_a_job_that_left_nothing_still_completes_its_check(post: Call, server: ReviewGitHub) -> None:
    """As something that a person has to look at."""
    event = {"pull_request": {"head": {"sha": SHA, "ref": "feature", "repo": {"full_name": REPOSITORY}}}}
    assert post("absent", event=event, env={"GITHUB_RUN_ID": RUN}).returncode == 0
    assert [(check["status"], check["conclusion"]) for check in server.checks] == [("completed", "action_required")]
    assert "has no results: the step that measures failed or was cancelled" in server.checks[0]["output"]["summary"]


def test_notes_come_in_batches_after_the_check_is_completed(post: Call, server: ReviewGitHub) -> None:
    """GitHub takes 50 a request; of very many the first 500 are shown."""
    failing = [own(record(f"m{number}", Status.CRASHED)) for number in range(620)]
    stored(server, *failing)
    assert post("--no-comment").returncode == 0
    assert [len(check["annotations"]) for check in server.checks] == [500]
    assert server.count("PATCH .*/check-runs/") == 9
    assert server.count("GET .*/pulls") == 0


@pytest.mark.parametrize(
    ("missing", "what", "left"),
    [
        ("checks: write", "the check", (0, 1)),
        ("issues: write", "the comment", (1, 0)),
        ("pull-requests: write", "the comment", (1, 0)),
    ],
)
def test_without_a_permission_the_rest_is_done(
    post: Call, server: ReviewGitHub, missing: str, what: str, left: tuple[int, int]
) -> None:
    """And the log names what was missing."""
    stored(server, *GOOD)
    pull = server.add_pull(fork=FORK)
    server.permissions.discard(missing)
    done = post()
    assert (done.returncode, len(server.checks), len(server.comments[pull])) == (0, *left)
    assert re.search(f"Warning: {what} was not posted: .*the token needs the permission '{missing}'", done.stderr)


def test_when_nothing_may_be_written_it_fails(post: Call, server: ReviewGitHub, tmp_path: Path) -> None:
    """With exit code 5; the step summary needs no permission, and does not begin with the success of the results."""
    stored(server, *GOOD)
    server.add_pull(fork=FORK)
    server.permissions -= {"checks: write", "issues: write"}
    done = post("--github-files")
    assert done.returncode == 5
    said = "⚠️ Not posted, GitHub refused the check and the comment"
    assert done.stdout.startswith(f"{said}: ")
    summary = (tmp_path / "summary").read_text()
    assert summary.startswith(f"## {said}\n\n- `GitHub refused")
    assert "'checks: write'" in summary
    assert "✅" not in summary.split("\n### ")[0]


@pytest.mark.parametrize(("fork", "actor"), [(FORK, "stranger"), (REPOSITORY, "dependabot[bot]")])
def test_a_job_that_may_never_write_does_not_fail_for_it(
    post: Call, server: ReviewGitHub, tmp_path: Path, fork: str, actor: str
) -> None:
    """The second workflow posts what it stored; the step summary it writes itself."""
    server.permissions -= {"checks: write", "issues: write", "pull-requests: write"}
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / RECORDS).write_text(records_file(*GOOD))
    event = {"pull_request": {"head": {"sha": SHA, "ref": "feature", "repo": {"full_name": fork}}}}
    done = post("logs", "--github-files", event=event, env={"GITHUB_RUN_ID": RUN, "GITHUB_ACTOR": actor})
    assert done.returncode == 0, done.stderr
    assert "the token needs the permission 'checks: write'" in done.stderr
    assert "examples/post.yml" in done.stderr
    assert (tmp_path / "summary").read_text().startswith("## ✅")


def test_a_server_in_trouble_is_no_missing_permission(post: Call, server: ReviewGitHub, monkeypatch) -> None:
    """The comment is posted though the check could not be, and the log says why."""
    monkeypatch.setattr("torchperf_ci.github.client.FIRST_WAIT_S", 0.0)
    stored(server, *GOOD)
    pull = server.add_pull(fork=FORK)
    server.fail("check-runs", Reply(status=502, body=b"<html>"), times=100)
    done = post()
    assert (done.returncode, len(server.comments[pull])) == (0, 1)
    assert (
        "Warning: the check was not posted: cannot list the check runs of aaaaaaaaaaaa: GitHub answers 502"
        in done.stderr
    )


# Pull requests that are not the one of the event


def test_another_pull_request_is_never_written_to(post: Call, server: ReviewGitHub) -> None:
    """Neither one of the same branch name from another repository, nor one that has newer commits by now, nor one
    that the artifact names."""
    stored(server, *GOOD, **{"pr_number.txt": "1", "event.json": json.dumps({"number": 1})})
    others = [
        server.add_pull(fork="stranger/other"),
        server.add_pull(fork=FORK, sha="c" * 40),
        server.add_pull(fork=FORK, base="stranger/project"),
        server.add_pull(),
    ]
    done = post()
    assert done.returncode == 0
    assert done.stderr == f"No comment was posted: pull request 2 has newer commits than {SHA[:12]}\n"
    assert [server.comments[number] for number in others] == [[], [], [], []]


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"pull_request": {"number": 1}},
        {"workflow_run": []},
        {"workflow_run": {"id": 1, "head_sha": "main", "head_repository": {"full_name": FORK}}},
        {"workflow_run": {"id": 1, "head_sha": SHA, "head_repository": None}},
        {"workflow_run": {"id": 1, "head_sha": SHA, "head_repository": {"full_name": "../../admin"}}},
    ],
)
def test_other_events_are_refused(post: Call, server: ReviewGitHub, event: dict[str, Any]) -> None:
    """With exit code 2, before anything is asked."""
    assert post(event=event).returncode == 2
    assert server.asked == []


# Forged artifacts

HOSTILE = (
    "x|`<!-- @octocat #1 ![i](http://evil/x.png)\n::error::pwned\n::set-output name=a::b ${{ secrets.X }} </details>"
)


def without_source() -> str:
    """As versions wrote it that bound nothing."""
    raw = json.loads(comparison())
    del raw["header"]["source"]
    return json.dumps(raw)


def unread(document: str, number: str) -> str:
    """With a number in a field that nobody reads."""
    return document.replace('{"', f'{{"unread":[{number}],"', 1)


def bomb() -> bytes:
    """Two hundred megabytes of zeros in a fifth of one."""
    return zipped({RECORDS: b"\0" * (200 * 1024**2)})


def many_rows() -> bytes:
    return zipped({RECORDS: (records_file(*GOOD).encode()[:40] + b"\n") * 1_000_000})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (lambda: zipped({RECORDS: records_file(own(record("m"), commit="c" * 40))}),
         "m is of commit cccccccccccc, while the run is of aaaaaaaaaaaa"),
        (lambda: zipped({RECORDS: records_file(own(record("m"), repository="org/other"))}),
         "m is of org/other, while the run is of org/project"),
        (lambda: zipped({RECORDS: records_file(own(record("m"), run="7"))}),
         "m is of run 7, while this is about run 101"),
        (lambda: zipped({RECORDS: records_file(own(record("m"), run=""))}),
         "m is of run none, while this is about run 101"),
        (lambda: zipped({COMPARISON: comparison(commit="c" * 40)}),
         "compare.json is of commit cccccccccccc, while the run is of aaaaaaaaaaaa"),
        (lambda: zipped({COMPARISON: comparison(repository="org/other")}),
         "compare.json is of org/other, while the run is of org/project"),
        (lambda: zipped({COMPARISON: comparison(run_id="7")}), "compare.json is of run 7, while this is about run 101"),
        (lambda: zipped({COMPARISON: without_source()}), "compare.json is of commit none"),
        (lambda: zipped({COMPARISON: comparison(model="m" * 201)}), "a name is longer than 200 characters"),
        (lambda: zipped({RECORDS: records_file(*GOOD), COMPARISON: comparison(run_id="7")}),
         "compare.json is of run 7"),
        *((lambda text=text: zipped({COMPARISON: unread(comparison(), text)}), f"{text} is not a finite number")
          for text in ("NaN", "Infinity", "-Infinity", "1e999")),
        *((lambda text=text: zipped({RECORDS: unread(records_file(*GOOD), text)}), f"{text} is not a finite number")
          for text in ("NaN", "Infinity", "-Infinity")),
        (lambda: zipped({f"../{RECORDS}": records_file(*GOOD), f"/{RECORDS}": "x"}), "there is neither of"),
        (bomb, "the artifact torchperf-report holds a records.jsonl of more than 64 MiB"),
        (many_rows, "records.jsonl has 1,000,000 lines, more than 50,000"),
        (lambda: zipped({RECORDS: "[" * 100_000 + "\n"}), "expected &#96;object&#96;, got &#96;array&#96;"),
        (lambda: zipped({RECORDS: records_file(*GOOD).replace('"seconds":0.0', '"seconds":1' + "0" * 4000)}),
         "field &#39;seconds&#39;: number out of range"),
        (lambda: zipped({RECORDS: records_file(*GOOD).replace('"batch_size":0', '"batch_size":1' + "0" * 4000)}),
         "a number of mlp is larger than any run"),
        (lambda: zipped({RECORDS: records_file(own(record("m" * 201)))}), "a name is longer than 200 characters"),
        (lambda: zipped({RECORDS: records_file(own(replace(record("m"), reason="x" * 4001)))}),
         "the reason of m is longer than 4,000 characters"),
        (lambda: b"PK\x05\x06nonsense", "the artifact torchperf-report"),
        (lambda: b"", "the artifact torchperf-report"),
    ],
    ids=["commit", "repository", "run", "no run",
         *(f"comparison: {what}" for what in ("commit", "repository", "run", "no source", "name", "good records")),
         *(f"comparison: {text}" for text in ("NaN", "inf", "-inf", "1e999")),
         *(f"records: {text}" for text in ("NaN", "inf", "-inf")),
         "traversal", "bomb", "rows", "depth", "float", "integer", "name", "reason", "zip", "empty"],
)  # fmt: skip
def test_a_forged_artifact_is_told_and_not_shown(
    post: Call, server: ReviewGitHub, tmp_path: Path, content: Callable[[], bytes], reason: str
) -> None:
    """The check is completed as one that a person has to look at, with the reason; nothing is written to disk."""
    server.add_artifact(server.add_run(), "torchperf-report", content())
    pull = server.add_pull(fork=FORK)
    before = set(tmp_path.rglob("*"))
    done = post()
    assert done.returncode == 0
    assert [check["conclusion"] for check in server.checks] == ["action_required"]
    text = server.checks[0]["output"]["summary"]
    assert reason in text.replace("'", "&#39;"), text
    assert len(server.comments[pull]) == 1
    assert {path.name for path in set(tmp_path.rglob("*")) - before} <= {"event.json"}


@pytest.mark.parametrize("place", ["model", "reason", "commit"])
def test_text_of_the_artifact_stays_text(post: Call, server: ReviewGitHub, place: str) -> None:
    """Markup, mentions, pictures and workflow commands in names and reasons mean nothing, in the comment or the log."""
    made = record("mlp", Status.CRASHED)
    forged = {
        "model": own(replace(made, case=replace(made.case, model=HOSTILE))),
        "reason": own(replace(made, reason=HOSTILE)),
        "commit": own(made, commit=HOSTILE),
    }[place]
    stored(server, forged)
    pull = server.add_pull(fork=FORK)
    done = post("--github-files")
    assert done.returncode == 0
    (check,) = server.checks
    for text in (server.comments[pull][0]["body"].partition("\n")[2], check["output"]["summary"]):
        bare = re.sub(r"<code>[^<]*</code>|`[^`\n]*`", "", text)
        assert not re.search(r"@octocat|<!--|!\[|::error|secrets|#1 ", bare), bare
    for line in (done.stdout + done.stderr).splitlines():
        assert not line.lstrip().startswith(("::", "##["))
    for note in check["annotations"]:
        assert "\n" not in note["title"] + note["message"] + note["path"]
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", note["path"])


def test_a_run_without_the_artifact_is_told(post: Call, server: ReviewGitHub) -> None:
    """Say because its job was cancelled."""
    server.add_run()
    server.add_pull(fork=FORK)
    assert post().returncode == 0
    assert "the run has no artifact torchperf-report" in server.checks[0]["output"]["summary"]


def test_an_artifact_that_may_not_be_read_is_told(post: Call, server: ReviewGitHub) -> None:
    """With the permission that is missing."""
    stored(server, *GOOD)
    server.permissions.discard("actions: read")
    assert "the token needs the permission 'actions: read'" in post().stderr
    assert server.checks[0]["conclusion"] == "action_required"
