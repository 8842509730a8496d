"""The example that lets an intended slowdown land, started by a comment and by a label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fakes.github_server import REPOSITORY
from fakes.review_server import BOT, ReviewGitHub
from stored_comparisons import slower, store
from workflow_engine import Engine, WorkflowRun, commit, use_example

COMMENT = "/torchperf accept tiny/slow +30% because it is exact now"
LABEL = "torchperf-accepted"


@pytest.fixture
def github() -> Iterator[ReviewGitHub]:
    with ReviewGitHub() as running:
        running.writers = {"maintainer"}
        yield running


def run_example(
    engine: Engine, project: Path, folder: Path, github: ReviewGitHub, event: str, payload: Mapping[str, Any]
) -> WorkflowRun:
    """The example in a project, after an event."""
    return engine.run(
        project,
        use_example(project, "accept.yml", {}),
        event,
        payload=payload,
        artifacts=folder / "artifacts",
        env={"GITHUB_API_URL": github.url, "GITHUB_RUN_ID": "77"},
    )


def test_a_comment_turns_the_check_into_a_success(
    engine: Engine, project: Path, tmp_path: Path, github: ReviewGitHub
) -> None:
    """Of who may write; a stranger's comment changes nothing, and one that is no command starts no job."""
    sha = commit(project)
    store(github, slower(1.2), sha=sha)
    github.add_pull(sha=sha)

    def comment(text: str, login: str) -> WorkflowRun:
        number = github.add_comment(1, text, login=login)
        written = {"id": number, "body": text}
        payload = {"action": "created", "issue": {"number": 1, "pull_request": {}}, "comment": written}
        return run_example(engine, project, tmp_path, github, "issue_comment", payload)

    other = comment("Nice work", "maintainer")
    assert (other.code, other.results) == (0, {}), other.log
    refused = comment(COMMENT, "stranger")
    assert (refused.code, refused.results) == (0, {"Accept": "success"}), refused.log
    assert "stranger may not write" in refused.log
    assert github.checks == []
    accepted = comment(COMMENT, "maintainer")
    assert (accepted.code, accepted.results) == (0, {"Accept": "success"}), accepted.log
    (check,) = github.checks
    assert (check["conclusion"], check["head_sha"]) == ("success", sha)
    assert all(words in check["output"]["title"] for words in ("accepted by maintainer", "it is exact now"))
    assert "accepted 1 change" in accepted.summaries()
    assert [each["user"]["login"] for each in github.comments[1]].count(BOT) == 2  # the answer, and the report


def test_a_label_does_the_same(engine: Engine, project: Path, tmp_path: Path, github: ReviewGitHub) -> None:
    """For what the description said when it was put."""
    sha = commit(project)
    store(github, slower(1.2), sha=sha)
    github.add_pull(sha=sha)
    github.describe(1, "torchperf: accept tiny/slow +30% because it is exact now")
    github.put_label(1, LABEL, login="maintainer")
    head = {"sha": sha, "ref": "feature", "repo": {"full_name": REPOSITORY}}
    payload = {"action": "labeled", "label": {"name": LABEL}, "pull_request": {"number": 1, "head": head}}
    run = run_example(engine, project, tmp_path, github, "pull_request", payload)
    assert (run.code, run.results) == (0, {"Accept": "success"}), run.log
    assert github.checks[-1]["conclusion"] == "success"
