"""Check runs: in progress from the start, completed whatever happens, with notes on what fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import github.Commit
from github.CheckRun import CheckRun
from github.GithubObject import NotSet

from torchperf_ci.core.text import Word
from torchperf_ci.github.client import Client

WRITES = "checks: write"
READS = "checks: read"

NOTES_A_REQUEST = 50
LIMIT = 58_000
"""Bytes of the text: a comment takes 65,536 characters, and its marker and its origin want room."""

_COMPLETED = "completed"


class Conclusion(Word):
    """The ends of a check, in GitHub's words."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    """Nothing is known to be wrong, and not everything is known to be right."""
    ACTION_REQUIRED = "action_required"
    """There is nothing that could be judged; somebody has to see why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A case that fails. path: what the note is pinned to, `suite/model`."""

    path: str
    title: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """A result as a reviewer sees it on GitHub. title: plain text. text: Markdown of at most `LIMIT` bytes."""

    conclusion: Conclusion
    title: str
    text: str
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check of a commit by an attempt of a workflow run. name: what branch protection names."""

    repository: str
    sha: str
    name: str
    run: int
    attempt: int
    details_url: str = ""

    @property
    def key(self) -> str:
        """Tell the check run of this attempt from all others: GitHub keeps it as the external id."""
        return f"{self.run}-{self.attempt}"


def start_check(client: Client, check: Check) -> None:
    """Show that the check is going on. Raises `GitHubRefused`.

    One that is going on already is taken over: a second start of the same run, by another job or by an attempt whose
    predecessor was killed, must not leave one behind that nobody completes.
    """
    going_on = [each for each in _list_check_runs(client, check) if each.status != _COMPLETED]
    if not going_on:
        _create(client, check, {"status": "in_progress"})
    elif going_on[-1].external_id != check.key:
        with client.asking(f"take over the check {check.name}", needs=WRITES, repeatable=True):
            url = check.details_url or NotSet
            going_on[-1].edit(status="in_progress", external_id=check.key, details_url=url)


def complete_check(client: Client, check: Check, posting: Posting, *, replaces_failure: bool = False) -> str:
    """Complete the check run that was started, or a new one where none was; return its address. Raises `GitHubRefused`.

    It is completed with the first request: what comes after that only adds notes. A failure that this attempt posted
    before under the same name is not hidden by something better, since that came from another gate.

    replaces_failure: the posting is about the same results, judged anew.
    """
    runs = _list_check_runs(client, check)
    going_on = [each for each in runs if each.status != _COMPLETED]
    ended = [each for each in runs if each.status == _COMPLETED and each.external_id == check.key]
    failed = [each for each in ended if each.conclusion == Conclusion.FAILURE.value]
    if failed and posting.conclusion is not Conclusion.FAILURE and not replaces_failure:
        # Of two check runs of one name GitHub shows the newer one alone: it keeps in sight what failed.
        other = f"[report of this run]({failed[-1].html_url})"
        posting = replace(
            posting,
            conclusion=Conclusion.FAILURE,
            title=f"❌ Another gate failed. {posting.title}",
            text=f"> ❌ Another {other} under this name failed. Two gates need two names.\n\n{posting.text}",
        )
        ended = []
    batches = [posting.notes[at : at + NOTES_A_REQUEST] for at in range(0, len(posting.notes), NOTES_A_REQUEST)]
    first, *rest = batches or [()]
    ending: dict[str, Any] = {"status": _COMPLETED, "conclusion": posting.conclusion.value}
    done = next(reversed([*ended, *going_on]), None)
    if done is None:
        done = _create(client, check, {**ending, "output": _make_output(posting, first)})
    else:
        with client.asking(f"complete the check {check.name}", needs=WRITES, repeatable=True):
            done.edit(**ending, output=_make_output(posting, first))
    for notes in rest:
        # Notes are added up, so that sending them a second time would show them twice.
        with client.asking(f"complete the check {check.name}", needs=WRITES):
            done.edit(output=_make_output(posting, notes))
    for left in going_on[:-1]:  # two jobs that started at the same moment
        said = {"title": posting.title, "summary": f"See the [check of the same name]({done.html_url})."}
        with client.asking(f"complete the check {check.name}", needs=WRITES, repeatable=True):
            left.edit(**ending, output=said)
    return done.html_url


def _list_check_runs(client: Client, check: Check) -> list[CheckRun]:
    """List the check runs of this name by this attempt and those before it, the oldest first."""
    keys = {f"{check.run}-{attempt}" for attempt in range(1, check.attempt + 1)}
    commit = client.lazy(github.Commit.Commit, f"/repos/{check.repository}/commits/{check.sha}")
    with client.asking(f"list the check runs of {check.sha[:12]}", needs=READS):
        # By default GitHub lists the latest of each name alone, which hides one that was left in progress.
        runs = [each for each in commit.get_check_runs(check_name=check.name, filter="all") if each.external_id in keys]
        return sorted(runs, key=lambda each: each.id)


def _create(client: Client, check: Check, fields: Mapping[str, Any]) -> CheckRun:
    # Of two check runs of one name GitHub shows the newer one, so that sending it twice does no harm.
    with client.asking(f"create the check {check.name}", needs=WRITES, repeatable=True):
        return client.repository(check.repository).create_check_run(
            name=check.name,
            head_sha=check.sha,
            external_id=check.key,
            details_url=check.details_url or NotSet,
            **fields,
        )


def _make_output(posting: Posting, notes: Sequence[Note]) -> dict[str, Any]:
    level = "failure" if posting.conclusion is Conclusion.FAILURE else "warning"
    annotations = [
        {
            "path": note.path,
            "start_line": 1,
            "end_line": 1,
            "annotation_level": level,
            "title": note.title,
            "message": note.message,
        }
        for note in notes
    ]
    return {"title": posting.title, "summary": posting.text, "annotations": annotations}
