"""Which commit results are of: what GitHub says of it, never what a fork's job stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fakes.github_server import REPOSITORY, SHA
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.post.origin import Origin, read_finished_run, read_own_job

FORK = "mallory/project"


def workflow_run(**changes: Any) -> dict[str, Any]:
    run = {"id": 7, "run_attempt": 2, "head_sha": SHA, "head_branch": "feature", "head_repository": {"full_name": FORK}}
    return {"workflow_run": {**run, **changes}}


def test_a_finished_run_of_a_fork_is_the_forks() -> None:
    """Its head repository is the fork, while the run belongs to this repository."""
    origin = read_finished_run(workflow_run(), REPOSITORY)
    assert origin == Origin(
        repository=REPOSITORY, head_repository=FORK, head_branch="feature", sha=SHA, run=7, attempt=2
    )
    assert origin.url("https://github.com/") == f"https://github.com/{REPOSITORY}/actions/runs/7/attempts/2"


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"workflow_run": "7"},
        workflow_run(head_sha="main"),
        workflow_run(head_sha=SHA[:7]),
        workflow_run(head_repository=None),
        workflow_run(head_repository={"full_name": "../../user"}),
    ],
)
def test_an_event_that_names_no_commit_is_refused(event: Mapping[str, Any]) -> None:
    """What becomes part of an address is a whole SHA and a repository's name."""
    with pytest.raises(UsageProblem):
        read_finished_run(event, REPOSITORY)


def test_a_job_of_a_pull_request_is_about_its_head() -> None:
    """Not about the merge commit that GITHUB_SHA names."""
    environ = {"GITHUB_SHA": "b" * 40, "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "3", "GITHUB_REF_NAME": "1/merge"}
    head = {"sha": SHA, "ref": "feature", "repo": {"full_name": FORK}}
    origin = read_own_job({"pull_request": {"head": head}}, environ, REPOSITORY)
    assert (origin.sha, origin.head_branch, origin.head_repository) == (SHA, "feature", FORK)
    assert (origin.run, origin.attempt) == (7, 3)


def test_a_job_of_a_push_is_about_its_commit() -> None:
    """And of this repository; a fork that was deleted meanwhile is none."""
    environ = {"GITHUB_SHA": SHA, "GITHUB_REF_NAME": "main", "GITHUB_RUN_ID": "x"}
    origin = read_own_job({"pull_request": {"head": {"repo": None}}}, environ, REPOSITORY)
    assert (origin.sha, origin.head_branch, origin.head_repository) == (SHA, "main", REPOSITORY)
    assert (origin.run, origin.attempt) == (0, 1)
