"""Find the commit and the pull request of an event, by what GitHub itself says and nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import is_full_sha, is_repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The workflow run that results come from. head_repository: a fork, or the repository itself."""

    repository: str
    head_repository: str
    head_branch: str
    sha: str
    run: int
    attempt: int

    def url(self, server: str) -> str:
        return f"{server.rstrip('/')}/{self.repository}/actions/runs/{self.run}/attempts/{self.attempt}"


def read_finished_run(event: Mapping[str, Any], repository: str) -> Origin:
    """Read from a `workflow_run` event which run has finished. Raises `UsageProblem` for any other event."""
    run = event.get("workflow_run")
    if not isinstance(run, dict):
        raise UsageProblem(
            "`post` without a folder belongs in a workflow that `workflow_run` starts (examples/post.yml); elsewhere "
            "name the results folder: torchperf-ci post DIR"
        )
    return _require_commit(
        Origin(
            repository=repository,
            head_repository=_read_text(run.get("head_repository"), "full_name"),
            head_branch=_read_text(run, "head_branch"),
            sha=_read_text(run, "head_sha"),
            run=_read_number(run, "id"),
            attempt=_read_number(run, "run_attempt"),
        )
    )


def read_own_job(event: Mapping[str, Any], environ: Mapping[str, str], repository: str) -> Origin:
    """Read which run this job is part of. Of a pull request it is its head, not the commit that GitHub merged for it.

    Raises `UsageProblem` where nothing says it.
    """
    head = (event.get("pull_request") or {}).get("head") or {}
    return _require_commit(
        Origin(
            repository=repository,
            head_repository=_read_text(head.get("repo"), "full_name") or repository,
            head_branch=_read_text(head, "ref") or environ.get("GITHUB_REF_NAME", ""),
            sha=_read_text(head, "sha") or environ.get("GITHUB_SHA", ""),
            run=_parse_decimal(environ.get("GITHUB_RUN_ID", "")),
            attempt=_parse_decimal(environ.get("GITHUB_RUN_ATTEMPT", "")) or 1,
        )
    )


def read_comment(event: Mapping[str, Any]) -> tuple[int, int]:
    """Read from an `issue_comment` event the numbers of the pull request and of the comment; 0 and 0 for any other."""
    issue, comment = event.get("issue"), event.get("comment")
    if not isinstance(issue, dict) or not isinstance(comment, dict) or "pull_request" not in issue:
        return 0, 0
    return _read_number(issue, "number"), _read_number(comment, "id")


def read_label(event: Mapping[str, Any], label: str) -> int:
    """Read from a `pull_request` event that put this label the number of the pull request; 0 for any other."""
    pull = event.get("pull_request")
    is_put = event.get("action") == "labeled" and _read_text(event.get("label"), "name") == label
    return _read_number(pull, "number") if label and is_put and isinstance(pull, dict) else 0


def _require_commit(origin: Origin) -> Origin:
    """Return the origin, if its parts can be part of an address."""
    if not (is_full_sha(origin.sha) and is_repository(origin.head_repository)):
        raise UsageProblem(
            "the event names no commit of a repository; `post` runs in a job of GitHub Actions, which sets "
            "GITHUB_EVENT_PATH, GITHUB_SHA and GITHUB_RUN_ID"
        )
    return origin


def _read_text(raw: Any, name: str) -> str:  # noqa: ANN401 - any JSON
    value = raw.get(name) if isinstance(raw, dict) else None
    return value if isinstance(value, str) else ""


def _read_number(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _parse_decimal(text: str) -> int:
    return int(text) if text.isdecimal() else 0
