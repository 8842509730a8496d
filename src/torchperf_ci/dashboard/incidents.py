"""Incidents: what became worse by one cause, as far as a history shows it, from its first bad run until it is back.

Changes for the worse and failures belong together when they are of one suite and compiler, of one kind (times, memory,
failures, …), and began with the same commit: that is most likely one culprit, in several cases and metrics.

A chat gets them as a message of text and fields, as receivers for Slack take them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchperf_ci.compare.words import change as percent_text
from torchperf_ci.core.records import Case
from torchperf_ci.core.text import Word, count, is_repository, is_sha, one_line
from torchperf_ci.dashboard.states import FailureSpell, LevelChange, SeriesState, State
from torchperf_ci.history.acceptances import Acceptance
from torchperf_ci.history.series import COUNTED, STATUS_METRICS, RunInfo


class EpisodeEnd(Word):
    """The ways in which a part of an incident ends, and that it has not; the most urgent first."""

    OPEN = "open"
    GONE = "gone"
    SKIPPED = "skipped"
    ACCEPTED = "accepted"
    CURED = "cured"


KINDS: Mapping[str, str] = {
    "speedup": "slower",
    "abs_latency": "slower",
    "compilation_latency": "slower to compile",
    "compression_ratio": "larger",
    "dynamo_peak_mem": "larger",
    **dict.fromkeys(COUNTED, "compiled in more pieces"),
    **dict.fromkeys((metric.name for metric in STATUS_METRICS.values()), "failing"),
}
"""The kinds of metrics that one cause changes together, as adjectives; every other metric is a kind of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A metric of a case from when it became worse until it was back. last_good, since: the runs between which it came.

    shown: the run that confirmed it, or None. last_bad, back: the runs between which it went, where it did; closed: the
    run that showed that.
    old, new: levels in the metric's unit; None of a failure. runs: how many were bad; 0 where that is not counted.
    """

    state: SeriesState
    ending: EpisodeEnd
    last_good: RunInfo | None
    since: RunInfo
    shown: RunInfo | None
    last_bad: RunInfo | None = None
    back: RunInfo | None = None
    closed: RunInfo | None = None
    old: float | None = None
    new: float | None = None
    runs: int = 0
    reason: str = ""
    acceptance: Acceptance | None = None

    @property
    def case(self) -> Case:
        return self.state.case

    @property
    def change(self) -> float | None:
        """Relative: 0.04 for 4 % more; None of a failure, or from zero."""
        return self.new / self.old - 1 if self.old and self.new is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Episodes with one cause, the most urgent and largest first. kind: as `KINDS` has it.

    scope: stands for series, branch, suite, compiler and kind; key: for all of it and the commit since which it is.
    """

    suite: str
    compiler: str
    kind: str
    scope: str
    key: str
    episodes: tuple[Episode, ...]

    @property
    def still_open(self) -> tuple[Episode, ...]:
        return tuple(each for each in self.episodes if each.ending is EpisodeEnd.OPEN)

    @property
    def is_open(self) -> bool:
        return bool(self.still_open)

    @property
    def is_confirmed(self) -> bool:
        """Whether something of it is open for sure, and was good before."""
        return any(each.shown is not None and each.last_good is not None for each in self.still_open)

    @property
    def since(self) -> RunInfo:
        return self.episodes[0].since

    @property
    def last_good(self) -> RunInfo | None:
        """Return the newest run that was good in any of the cases: the narrowest range of commits."""
        known = [each.last_good for each in self.episodes if each.last_good is not None]
        return max(known, key=lambda run: run.time, default=None)

    @property
    def shown(self) -> RunInfo | None:
        """Return the run that confirmed the first of it."""
        known = [each.shown for each in self.episodes if each.shown is not None]
        return min(known, key=lambda run: run.time, default=None)

    @property
    def last_back(self) -> Episode | None:
        """Return the part that was the last to be back, or None when none was."""
        known = [each for each in self.episodes if each.back is not None]
        return max(known, key=lambda each: each.back.time if each.back else each.since.time, default=None)

    def list_cases(self) -> list[Case]:
        """List the cases, those that are still open where some are."""
        return list(dict.fromkeys(each.case for each in self.still_open or self.episodes))


def list_incidents(states: Iterable[SeriesState], *, series: str, branch: str = "") -> list[Incident]:
    """List all incidents that the states of a history show, the most urgent first.

    series, branch: which runs were judged; dashboards of others know nothing of these incidents.
    """
    groups: dict[tuple[str, str, str, str], list[Episode]] = {}
    for episode in (each for state in states for each in _list_episodes(state)):
        since = episode.since.commit or episode.since.key
        groups.setdefault((*_find_scope(episode.state), since), []).append(episode)
    incidents = [
        Incident(
            suite=suite,
            compiler=compiler,
            kind=kind,
            scope=digest(series, branch, suite, compiler, kind),
            key=digest(series, branch, suite, compiler, kind, since),
            episodes=tuple(sorted(episodes, key=_rank)),
        )
        for (suite, compiler, kind, since), episodes in groups.items()
    ]
    return sorted(incidents, key=lambda each: (not each.is_open, each.kind != "failing", _rank(each.episodes[0])))


def list_scopes(states: Iterable[SeriesState], *, series: str, branch: str = "") -> set[str]:
    """List the scopes of which the states say everything, also those without an incident."""
    return {digest(series, branch, *_find_scope(state)) for state in states}


def digest(*parts: str) -> str:
    """Write sixteen hexadecimal digits that stand for these texts."""
    return hashlib.sha256("\0".join(parts).encode("utf-8", errors="replace")).hexdigest()[:16]


def _find_scope(state: SeriesState) -> tuple[str, str, str]:
    return state.case.suite, state.case.compiler, KINDS.get(state.metric.name, state.metric.name)


def _rank(episode: Episode) -> tuple[int, float, Case, str]:
    return list(EpisodeEnd).index(episode.ending), -abs(episode.change or 0.0), episode.case, episode.state.metric.name


def _list_episodes(state: SeriesState) -> Iterator[Episode]:
    yield from (_make_change(state, change) for change in state.changes if change.is_worse)
    yield from (_make_failure(state, spell) for spell in state.failures)


def _make_change(state: SeriesState, change: LevelChange) -> Episode:
    ending = EpisodeEnd.GONE if state.state is State.GONE else EpisodeEnd.OPEN
    if change.closed is not None:
        ending = EpisodeEnd.CURED
    elif change.acceptance is not None:
        ending = EpisodeEnd.ACCEPTED
    return Episode(
        state=state,
        ending=ending,
        last_good=change.last_good,
        since=change.first_new,
        shown=change.opened,
        last_bad=change.last_bad,
        back=change.back,
        closed=change.closed,
        old=change.old,
        new=change.new,
        runs=state.runs if ending is EpisodeEnd.OPEN else 0,
        acceptance=change.acceptance,
    )


def _make_failure(state: SeriesState, spell: FailureSpell) -> Episode:
    ending = EpisodeEnd.GONE if state.state is State.GONE else EpisodeEnd.OPEN
    if spell.back is not None:
        is_skipped = state.state is State.SKIPPED and spell is state.failures[-1]
        ending = EpisodeEnd.SKIPPED if is_skipped else EpisodeEnd.CURED
    return Episode(
        state=state,
        ending=ending,
        last_good=spell.last_good,
        since=spell.first,
        shown=spell.second,  # a single failure may be an accident
        last_bad=spell.last if spell.back else None,
        back=spell.back,
        closed=spell.back,
        runs=spell.runs,
        reason=spell.reason,
    )


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
