"""Check runs: in progress from the start, completed whatever happens, with notes on what fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torchperf_ci.github.client import Client, Request
from torchperf_ci.posting import Conclusion, Note, Posting

WRITES = "checks: write"
READS = "checks: read"

NOTES_A_REQUEST = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check of a commit. name: what branch protection names. key: tells this attempt's check run from others."""

    repository: str
    sha: str
    name: str
    key: str
    details_url: str = ""


def start_check(client: Client, check: Check) -> None:
    """Show that the check is going on. Raises `GitHubRefused`."""
    _create(client, check, {"status": "in_progress"})


def complete_check(client: Client, check: Check, posting: Posting) -> str:
    """Complete the check run that was started, or a new one where none was; its address. Raises `GitHubRefused`.

    It is completed with the first request: what comes after that only adds notes.
    """
    first, *rest = _batches(posting.notes)
    body = {"status": "completed", "conclusion": posting.conclusion.value, "output": _output(posting, first)}
    started = _started(client, check)
    done = _update(client, check, started, body) if started else _create(client, check, body)
    for notes in rest:
        _update(client, check, int(done.get("id", 0)), {"output": _output(posting, notes)})
    return str(done.get("html_url", ""))


def _started(client: Client, check: Check) -> int:
    """The id of the newest check run of this attempt, or 0."""
    request = Request(
        path=f"/repos/{check.repository}/commits/{check.sha}/check-runs",
        parameters={"check_name": check.name},
        what=f"list the check runs of {check.sha[:12]}",
        needs=READS,
    )
    found = client.every(request, key="check_runs")
    return max((int(raw.get("id", 0)) for raw in found if raw.get("external_id") == check.key), default=0)


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
        what=f"complete the check {check.name}",
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
