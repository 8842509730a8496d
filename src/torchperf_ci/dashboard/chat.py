"""The message about incidents that a chat gets: text and fields, as receivers for Slack take them."""

from __future__ import annotations

from collections.abc import Sequence

from torchperf_ci.compare.words import change as percent_text
from torchperf_ci.core.text import count, is_repository, is_sha, one_line
from torchperf_ci.dashboard.incidents import EpisodeEnd, Incident
from torchperf_ci.history.series import RunInfo

MOST_LISTED = 20
"""Receivers refuse messages with many more attachments."""

LONGEST_NAME = 120
_BAD, _GOOD = "#b60205", "#2da44e"


def make_message(
    opened: Sequence[tuple[Incident, str]], closed: Sequence[tuple[Incident | None, str]], now: RunInfo, server: str
) -> dict[str, object]:
    """Make the message on incidents that are new and those that are over, each with the address of its issue or blank.

    now: the run that showed them. Text from outside is quoted, so that it can neither mention nor link.
    """
    parts = []
    if opened:
        parts.append(f"❌ {count(len(opened), 'new performance problem')}")
    if closed:
        parts.append(f"✅ {count(len(closed), 'performance problem')} over")
    where = f" in {now.repository}" if is_repository(now.repository) else ""
    run = f"{server}/{now.repository}/actions/runs/{now.run_id}" if where and now.run_id.isdigit() else ""
    listed = [(incident, url, True) for incident, url in opened] + [(incident, url, False) for incident, url in closed]
    lines = [f"{', '.join(parts)}{where}, run of {now.time:%Y-%m-%d}{f' {run}' if run else ''}"]
    lines += [f"• {describe_incident(incident, is_new=is_new)} {url}".rstrip() for incident, url, is_new in listed]
    more = len(listed) - MOST_LISTED
    text = "\n".join([*lines[: 1 + MOST_LISTED], *([f"… and {more:,} more"] if more > 0 else [])])
    return {"text": text, "attachments": [_make_attachment(*each) for each in listed[:MOST_LISTED]]}


def describe_incident(incident: Incident | None, *, is_new: bool) -> str:
    """Describe an incident in a line."""
    if incident is None:
        return "over: the runs that are judged show no trace of it any more"
    first = (incident.still_open or incident.episodes)[0]
    cases = incident.list_cases()
    size = f" {percent_text(1 + first.change)}" if first.change is not None else ""
    more = f" and {count(len(cases) - 1, 'more case')}" if len(cases) > 1 else ""
    state = "new" if is_new else str(first.ending)
    name = quote(f"{first.case.suite}/{first.case.model} {first.case.compiler}")
    return f"{state}: {name}{more}, {quote(first.state.metric.title or first.state.metric.name)}{size}"


def quote(text: str) -> str:
    """Write text from outside for a chat: as code, where no receiver looks for mentions, links or markup."""
    shown = one_line(text, limit=LONGEST_NAME).replace("`", "'")
    for sign, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        shown = shown.replace(sign, entity)
    return f"`{shown}`"


def _make_attachment(incident: Incident | None, url: str, is_new: bool) -> dict[str, object]:  # noqa: FBT001 - of a tuple
    attachment: dict[str, object] = {
        "color": _BAD if is_new else _GOOD,
        "fallback": describe_incident(incident, is_new=is_new),
    }
    if url:
        attachment |= {"title": url, "title_link": url}
    if incident is None:
        return attachment
    worst = incident.episodes[0]
    back = incident.last_back
    commits = [
        ("Last good commit", incident.last_good.commit if incident.last_good else ""),
        ("First bad commit", incident.since.commit),
        ("Well again with", back.back.commit if back and back.back and not incident.is_open else ""),
    ]
    fields = [("Suite", quote(incident.suite)), ("Compiler", quote(incident.compiler)), ("Kind", quote(incident.kind))]
    fields += [("State", "new" if is_new else str(worst.ending)), ("Cases", f"{len(incident.list_cases()):,}")]
    fields += [(title, sha) for title, sha in commits if is_sha(sha)]
    if worst.ending is EpisodeEnd.ACCEPTED and worst.acceptance:
        fields.append(("Accepted by", quote(worst.acceptance.who)))
    return {**attachment, "fields": [{"title": title, "value": value, "short": True} for title, value in fields]}
