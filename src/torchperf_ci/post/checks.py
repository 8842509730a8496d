"""Check runs: in progress from the start, completed whatever happens, with notes on what fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torchperf_ci.github.client import Client, Request
from torchperf_ci.post.posting import Conclusion, Note, Posting

WRITES = "checks: write"
READS = "checks: read"

NOTES_A_REQUEST = 50


_COMPLETED = "completed"


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
    going_on = [raw for raw in _runs_of(client, check) if raw.get("status") != _COMPLETED]
    if not going_on:
        _create(client, check, {"status": "in_progress"})
    elif going_on[-1].get("external_id") != check.key:
        details = {"details_url": check.details_url} if check.details_url else {}
        _update(client, check, int(going_on[-1]["id"]), {"status": "in_progress", "external_id": check.key, **details})


def complete_check(client: Client, check: Check, posting: Posting) -> str:
    """Complete the check run that was started, or a new one where none was; its address. Raises `GitHubRefused`.

    It is completed with the first request: what comes after that only adds notes. A failure that this attempt posted
    before under the same name is not hidden by something better, since that came from another gate.
    """
    runs = _runs_of(client, check)
    going_on = [raw for raw in runs if raw.get("status") != _COMPLETED]
    ended = [raw for raw in runs if raw.get("status") == _COMPLETED and raw.get("external_id") == check.key]
    failed = [raw for raw in ended if raw.get("conclusion") == Conclusion.FAILURE.value]
    if failed and posting.conclusion is not Conclusion.FAILURE:
        posting = _beside_failure(posting, str(failed[-1].get("html_url", "")))
        ended = []
    first, *rest = _batches(posting.notes)
    body = {"status": _COMPLETED, "conclusion": posting.conclusion.value, "output": _output(posting, first)}
    target = next((int(raw["id"]) for raw in reversed([*ended, *going_on])), 0)
    done = _update(client, check, target, body) if target else _create(client, check, body)
    for notes in rest:
        _update(client, check, int(done.get("id", 0)), {"output": _output(posting, notes)})
    url = str(done.get("html_url", ""))
    for left in going_on[:-1]:  # two jobs that started at the same moment
        said = {"title": posting.title, "summary": f"See the [check of the same name]({url})."}
        ending = {"status": _COMPLETED, "conclusion": posting.conclusion.value, "output": said}
        _update(client, check, int(left["id"]), ending)
    return url


def _beside_failure(posting: Posting, url: str) -> Posting:
    """Keep what failed in sight: of two check runs of one name GitHub shows the newer one alone."""
    note = f"> ❌ Another [report of this run]({url}) under this name failed. Two gates need two names.\n\n"
    return replace(
        posting,
        conclusion=Conclusion.FAILURE,
        title=f"❌ Another gate failed. {posting.title}",
        text=note + posting.text,
    )


def _runs_of(client: Client, check: Check) -> list[dict[str, Any]]:
    """List the check runs of this name by this attempt and those before it, the oldest first."""
    request = Request(
        path=f"/repos/{check.repository}/commits/{check.sha}/check-runs",
        # By default GitHub lists the latest of each name alone, which hides one that was left in progress.
        parameters={"check_name": check.name, "filter": "all"},
        what=f"list the check runs of {check.sha[:12]}",
        needs=READS,
    )
    keys = {f"{check.run}-{attempt}" for attempt in range(1, check.attempt + 1)}
    runs = [raw for raw in client.every(request, key="check_runs") if raw.get("external_id") in keys]
    return sorted(runs, key=lambda raw: int(raw.get("id", 0)))


def _create(client: Client, check: Check, body: dict[str, Any]) -> dict[str, Any]:
    known = {"name": check.name, "head_sha": check.sha, "external_id": check.key}
    details = {"details_url": check.details_url} if check.details_url else {}
    request = Request(
        method="POST",
        path=f"/repos/{check.repository}/check-runs",
        body={**known, **details, **body},
        what=f"create the check {check.name}",
        needs=WRITES,
        repeatable=True,  # of two check runs of one name GitHub shows the newer one
    )
    return client.one(request)


def _update(client: Client, check: Check, number: int, body: dict[str, Any]) -> dict[str, Any]:
    request = Request(
        method="PATCH",
        path=f"/repos/{check.repository}/check-runs/{number}",
        body=body,
        what=f"{'complete' if body.get('status') != 'in_progress' else 'take over'} the check {check.name}",
        needs=WRITES,
        repeatable="status" in body,  # notes are added up, so a second time would show them twice
    )
    return client.one(request)


def _batches(notes: Sequence[Note]) -> list[Sequence[Note]]:
    return [notes[at : at + NOTES_A_REQUEST] for at in range(0, len(notes), NOTES_A_REQUEST)] or [()]


def _output(posting: Posting, notes: Sequence[Note]) -> dict[str, Any]:
    shown = {"title": posting.title, "summary": posting.text}
    return {**shown, "annotations": [_annotation(note, posting.conclusion) for note in notes]}


def _annotation(note: Note, conclusion: Conclusion) -> dict[str, Any]:
    level = "failure" if conclusion is Conclusion.FAILURE else "warning"
    place = {"path": note.path, "start_line": 1, "end_line": 1}
    return {**place, "annotation_level": level, "title": note.title, "message": note.message}
