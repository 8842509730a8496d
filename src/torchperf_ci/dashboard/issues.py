"""An issue for every confirmed incident: opened once, kept up to date, closed with what cured it.

`plan_steps` says what there is to do, from the incidents of a history and the issues that there are; `IssueDesk` does
it.
The hidden mark at the beginning of an issue says which incident it is about, by which run it was written last, and
whether it was closed by us: what a person closed, or opened again, stays so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

from torchperf_ci.compare.words import change as percent_text
from torchperf_ci.core.records import Case
from torchperf_ci.core.text import (
    ABSENT,
    Word,
    code,
    count,
    fenced,
    format_digits,
    is_repository,
    is_run_id,
    is_sha,
    one_line,
)
from torchperf_ci.dashboard.incidents import Episode, EpisodeEnd, Incident
from torchperf_ci.dashboard.owners import OwnerRule, find_labels, find_owners
from torchperf_ci.dashboard.words import case_address, title_metric, write_acceptance, write_bisect, write_range
from torchperf_ci.github.client import Client, GitHubRefused
from torchperf_ci.github.issues import (
    Marker,
    NewIssue,
    OwnIssue,
    edit_issue,
    list_assignable,
    list_own_issues,
    open_issue,
    post_comment,
    require_label,
)
from torchperf_ci.history.series import RunInfo

DEFAULT_LABEL = "torchperf"
DEFAULT_MOST_NEW = 5
LABEL_MEANS = "Opened and closed by torchperf-ci dashboard --issues"
END = "<!-- torchperf-ci end -->"
"""The end of our part of an issue; what people write below it is kept."""

FOOT = "<sub>`torchperf-ci dashboard --issues` keeps this up to date. What you write below is kept.</sub>"

MOST_ROWS = 50
MOST_COMMANDS = 5
LONGEST_TITLE = 200

_MARK = re.compile(
    r"<!-- torchperf-ci issue (?P<scope>[0-9a-f]{16}) (?P<key>[0-9a-f]{16}) "
    r"(?P<status>open|closed) (?P<time>\d{8}T\d{6}Z) -->"
)
_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUpOptions:
    """Say by which run incidents are followed up, and how.

    now: the run that is shown. server: the address of GitHub's pages; site: that of a site of the history, or blank.
    label: that of our issues. most_new: at most so many are opened. suites: by name, as they were asked for.
    """

    now: RunInfo
    server: str = "https://github.com"
    site: str = ""
    label: str = DEFAULT_LABEL
    most_new: int = DEFAULT_MOST_NEW
    rules: tuple[OwnerRule, ...] = ()
    suites: Mapping[str, str] = field(default_factory=dict)


class StepKind(Word):
    """The things that can be done to an issue."""

    OPEN = "open"
    UPDATE = "update"
    REOPEN = "reopen"
    CLOSE = "close"
    MERGE = "close as a duplicate"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueStep:
    """One thing to do. incident: None where the history shows no trace of it any more.

    issue: None of one to open. original: the number of the issue that this one doubles.
    """

    kind: StepKind
    incident: Incident | None = None
    issue: OwnIssue | None = None
    original: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueMark:
    """The mark that ties an issue to an incident. is_open: what we last said of it; time: by which run."""

    scope: str
    key: str
    is_open: bool
    time: datetime

    @property
    def start(self) -> str:
        return f"<!-- torchperf-ci issue {self.scope} {self.key} "

    def __str__(self) -> str:
        return f"{self.start}{'open' if self.is_open else 'closed'} {self.time:{_TIME}} -->"


def parse_mark(body: str) -> IssueMark | None:
    """Read the mark that an issue begins with; None where it has none."""
    match = _MARK.match(body)
    try:
        time = datetime.strptime(match["time"], _TIME).replace(tzinfo=timezone.utc) if match else None
    except ValueError:
        return None
    if match is None or time is None:
        return None
    return IssueMark(scope=match["scope"], key=match["key"], is_open=match["status"] == "open", time=time)


def plan_steps(
    incidents: Sequence[Incident], scopes: Collection[str], issues: Sequence[OwnIssue], options: FollowUpOptions
) -> tuple[list[IssueStep], int]:
    """Plan what to do, and count the incidents that have to wait for a later run.

    scopes: those that the history says everything of; issues of others are left alone. issues: oldest first. Of two
    for one incident the older one counts. One that a newer run has written is left alone.
    """
    by_key = {incident.key: incident for incident in incidents}
    open_scopes = {incident.scope for incident in incidents if incident.is_open}
    known: dict[str, OwnIssue] = {}
    steps = []
    for issue in issues:
        mark = parse_mark(issue.body)
        if mark is None or mark.scope not in scopes:
            continue
        original = known.setdefault(mark.key, issue)
        if original is not issue:
            if issue.is_open:
                steps.append(IssueStep(kind=StepKind.MERGE, issue=issue, original=original.number))
            continue
        if mark.time > _to_second(options.now.time):
            continue
        incident = by_key.get(mark.key)
        if incident is not None and incident.is_open:
            if issue.is_open:
                steps.append(IssueStep(kind=StepKind.UPDATE, incident=incident, issue=issue))
            elif not mark.is_open:
                steps.append(IssueStep(kind=StepKind.REOPEN, incident=incident, issue=issue))
        elif issue.is_open and mark.is_open and (incident is not None or mark.scope not in open_scopes):
            steps.append(IssueStep(kind=StepKind.CLOSE, incident=incident, issue=issue))
    new = [each for each in incidents if each.is_confirmed and each.key not in known]
    steps += [IssueStep(kind=StepKind.OPEN, incident=incident) for incident in new[: options.most_new]]
    return steps, max(0, len(new) - options.most_new)


@dataclass(kw_only=True)
class IssueDesk:
    """The desk at which steps are carried out. What GitHub refuses is remembered in `refusals`; the rest goes on.

    opened, closed: incidents with the addresses of their issues. say: hears of everything that was done.
    """

    client: Client
    repository: str
    options: FollowUpOptions
    say: Callable[[str], object]
    opened: list[tuple[Incident, str]] = field(default_factory=list)
    closed: list[tuple[Incident | None, str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)

    def list_issues(self) -> list[OwnIssue]:
        """List our issues, oldest first. Raises `GitHubRefused`."""
        return list_own_issues(self.client, self.repository, self.options.label)

    def carry_out(self, steps: Sequence[IssueStep]) -> None:
        """Do what is to be done. After new issues are there, those that another dashboard opened meanwhile are looked
        for: of two for one incident the older one stays, whoever looks."""
        if any(step.kind is StepKind.OPEN for step in steps):
            self._try(lambda: require_label(self.client, self.repository, self.options.label, LABEL_MEANS))
            if self.refusals:
                steps = [step for step in steps if step.kind is not StepKind.OPEN]
        for step in steps:
            self._try(lambda step=step: self._carry_out(step))  # type: ignore[misc]  # mypy wants a default's type
        if self.opened:
            self._try(self._merge_new)

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except GitHubRefused as error:
            self.refusals.append(str(error))

    def _carry_out(self, step: IssueStep) -> None:
        incident, issue, options = step.incident, step.issue, self.options
        if step.kind is StepKind.OPEN:
            assert incident is not None
            self._open(incident)
            return
        assert issue is not None
        body = _renew(issue.body, incident, options, is_open=step.kind in {StepKind.UPDATE, StepKind.REOPEN})
        match step.kind:
            case StepKind.UPDATE:
                if body.strip() != issue.body.strip():
                    self._edit(issue, body)
                    self.say(f"Updated {issue.url}")
            case StepKind.REOPEN:
                assert incident is not None
                self._edit(issue, body, state="open", reason="reopened")
                self._comment(issue, "reopened", write_reopening(incident, options))
                self.say(f"Opened again {issue.url}")
                self.opened.append((incident, issue.url))
            case StepKind.CLOSE:
                # The comment first: when the second request fails, the next run finds it and closes.
                self._comment(issue, "closed", write_closing(incident, options))
                is_cured = incident is not None and incident.last_back is not None
                self._edit(issue, body, state="closed", reason="completed" if is_cured else "not_planned")
                self.say(f"Closed {issue.url}")
                self.closed.append((incident, issue.url))
            case StepKind.MERGE:
                self._merge(issue, step.original)

    def _open(self, incident: Incident) -> None:
        options = self.options
        of = _list_metrics(incident)
        owners = find_owners(options.rules, of)
        users = [owner for owner in owners if "/" not in owner]
        issue = NewIssue(
            mark=_make_mark(incident, options, is_open=True).start,
            title=write_title(incident).replace("@", "@\N{WORD JOINER}"),  # nobody is mentioned
            body=write_body(incident, options, is_open=True),
            labels=list(dict.fromkeys((options.label, *find_labels(options.rules, of)))),
            assignees=list_assignable(self.client, self.repository, users),
        )
        opened = open_issue(self.client, self.repository, issue)
        self.opened.append((incident, opened.url))
        self.say(f"Opened {opened.url}")

    def _merge_new(self) -> None:
        marks = {_make_mark(incident, self.options, is_open=True).start for incident, _ in self.opened}
        urls = {url for _, url in self.opened}
        oldest: dict[str, OwnIssue] = {}
        for issue in self.list_issues():
            mark = parse_mark(issue.body)
            if mark is None or mark.start not in marks:
                continue
            original = oldest.setdefault(mark.start, issue)
            if original is not issue and issue.is_open and issue.url in urls:
                self._merge(issue, original.number)
                self.opened = [each for each in self.opened if each[1] != issue.url]

    def _merge(self, issue: OwnIssue, original: int) -> None:
        note = f"Duplicate of #{original}, which another run opened at the same time.\n\n"
        mark, _, rest = issue.body.partition("\n")
        body = issue.body if rest.startswith("Duplicate of #") else f"{mark}\n{note}{rest}"
        self._edit(issue, body, state="closed", reason="not_planned")
        self.say(f"Closed {issue.url}, a duplicate of #{original}")

    def _edit(self, issue: OwnIssue, body: str, *, state: str = "", reason: str = "") -> None:
        edit_issue(self.client, self.repository, issue.number, body=body, state=state, reason=reason)

    def _comment(self, issue: OwnIssue, event: str, text: str) -> None:
        now = self.options.now
        marker = Marker(subject=f"issue {issue.number} {event}", run=now.key, time=now.time)
        post_comment(self.client, self.repository, issue.number, text, marker, sticky=False)


def write_step(step: IssueStep) -> str:
    """Write what a step would do, in a line."""
    if step.kind is StepKind.OPEN and step.incident is not None:
        return f"Would open an issue: {write_title(step.incident)}"
    assert step.issue is not None
    of = f" of #{step.original}" if step.original else ""
    return f"Would {step.kind}{of} {step.issue.url}"


def write_title(incident: Incident) -> str:
    """Write the title of an issue, as plain text."""
    first, *_ = incident.still_open or incident.episodes
    cases = incident.list_cases()
    more = f" and {count(len(cases) - 1, 'more case')}" if len(cases) > 1 else ""
    size = f" ({percent_text(1 + first.change)})" if first.change is not None else ""
    since = incident.since
    commit = f", commit {since.commit[:9]}" if is_sha(since.commit) else ""
    name = f"{first.case.suite}/{first.case.model} with {first.case.compiler}{more}"
    title = f"{name}: {_describe_kind(incident)}{size} since {since.time:%Y-%m-%d}{commit}"
    return one_line(title, limit=LONGEST_TITLE)


def write_body(incident: Incident, options: FollowUpOptions, *, is_open: bool) -> str:
    """Write our part of an issue: what became worse, since which commits, whose it is, and what can be done."""
    commits = write_range(options.server, incident.last_good, incident.since)
    cases = incident.list_cases()
    sign, *verbs = ("❌", "is", "are") if is_open else ("Closed:", "was", "were")
    whose = f"{count(len(cases), 'case')} of {code(incident.suite)} with {code(incident.compiler)}"
    verb = f"{verbs[len(cases) > 1]} {_describe_kind(incident, code)}"
    lines = [
        str(_make_mark(incident, options, is_open=is_open)),
        f"{sign} {whose} {verb} since {commits}.",
        "",
        *_write_facts(incident, options),
        "",
        *_write_table(incident, options),
    ]
    if owners := find_owners(options.rules, _list_metrics(incident)):
        lines += ["", f"Owned by {', '.join(f'@{owner}' for owner in owners)}"]
    if commands := _list_commands(incident, options):
        lines += ["", f"{'Find' if len(commands) == 1 else 'Each finds'} the commit, in a checkout of the repository:"]
        lines += ["", fenced("\n".join(commands), language="sh")]
    if incident.kind != "failing":
        lines += ["", "If it is meant to be so: `torchperf-ci history accept CASE --reason …` closes it."]
    return "\n".join([*lines, "", FOOT, END])


def write_closing(incident: Incident | None, options: FollowUpOptions) -> str:
    """Write the comment that closes an issue: what cured it, who accepted it, or why there is nothing to see."""
    if incident is None:
        return (
            "The runs that are judged show no trace of this any more: margins or the history have changed, or it lies "
            f"too far back. {_link_run(options.now, options.server)}\n"
        )
    lines = []
    for ending in (EpisodeEnd.CURED, EpisodeEnd.ACCEPTED, EpisodeEnd.SKIPPED, EpisodeEnd.GONE):
        episodes = [each for each in incident.episodes if each.ending is ending]
        groups: dict[str, list[Episode]] = {}
        for episode in episodes:
            groups.setdefault(_describe_end(episode, options), []).append(episode)
        for end, of_end in groups.items():
            cases = list(dict.fromkeys(each.case for each in of_end))
            who = code(f"{cases[0].suite}/{cases[0].model}") if len(cases) == 1 else count(len(cases), "case")
            lines.append(f"- {who}: {end}")
    if len(lines) == 1:
        lines = [lines[0].removeprefix("- ")]
    return "\n".join([*lines, "", f"Seen in {_link_run(options.now, options.server)}", ""])


def write_reopening(incident: Incident, options: FollowUpOptions) -> str:
    """Write the comment that opens an issue again."""
    cases = count(len(incident.list_cases()), "case")
    return f"❌ {cases} {_describe_kind(incident, code)} again, as {_link_run(options.now, options.server)} shows\n"


def _renew(body: str, incident: Incident | None, options: FollowUpOptions, *, is_open: bool) -> str:
    """Write an issue anew and keep what people wrote below our part; without an incident only the mark is new."""
    if incident is not None:
        return write_body(incident, options, is_open=is_open) + body.partition(END)[2]
    mark = parse_mark(body)
    assert mark is not None
    return f"{replace(mark, is_open=is_open, time=_to_second(options.now.time))}\n{body.partition(chr(10))[2]}"


def _make_mark(incident: Incident, options: FollowUpOptions, *, is_open: bool) -> IssueMark:
    return IssueMark(scope=incident.scope, key=incident.key, is_open=is_open, time=_to_second(options.now.time))


def _to_second(time: datetime) -> datetime:
    return time.astimezone(timezone.utc).replace(microsecond=0)


def _list_metrics(incident: Incident) -> list[tuple[Case, str]]:
    return [(each.case, each.state.metric.name) for each in incident.episodes]


def _describe_kind(incident: Incident, quote: Callable[[str], str] = one_line) -> str:
    """Describe what its cases are, as a predicate. A metric of somebody's own is named."""
    metric = incident.episodes[0].state.metric
    return f"worse in {quote(incident.kind)}" if incident.kind == metric.name else incident.kind


def _write_facts(incident: Incident, options: FollowUpOptions) -> list[str]:
    """Say by which run it was confirmed, for how long it has been so, and where only the machine can have changed."""
    facts = []
    if shown := incident.shown:
        facts.append(f"Confirmed by {_link_run(shown, options.server)}.")
    runs = max((each.runs for each in incident.still_open), default=0)
    if runs:
        facts.append(
            f"It has been so for {count(runs, 'run')}, the newest is {_link_run(options.now, options.server)}."
        )
    good = incident.last_good
    if good and good.commit and good.commit == incident.since.commit:
        facts.append("The run before it measured the same commit, so what changed is not in the repository.")
    return [" ".join(facts)] if facts else []


def _write_table(incident: Incident, options: FollowUpOptions) -> list[str]:
    rows = []
    for each in incident.episodes[:MOST_ROWS]:
        case = each.case
        name = code(f"{case.suite}/{case.model}")
        if options.site:
            name = f"{name} ([history]({case_address(options.site, case, each.state.metric.name)}))"
        old, new = (ABSENT if value is None else format_digits(value, 4) for value in (each.old, each.new))
        size = ABSENT if each.change is None else percent_text(1 + each.change)
        if each.old is None:
            new = code(each.reason, limit=200) if each.reason else ABSENT
        end = "open" if each.ending is EpisodeEnd.OPEN else _describe_end(each, options)
        section = code(f"{case.mode} {case.dtype} {case.device}")
        rows.append((name, section, title_metric(each.state.metric, code), old, new, size, end))
    columns = ("Case", "", "Metric", "Before", "Now", "Change", "State")
    lines = [columns, ("---",) * len(columns), *rows]
    more = len(incident.episodes) - MOST_ROWS
    return [*(f"| {' | '.join(line)} |" for line in lines), *(["", f"… and {more:,} more"] if more > 0 else [])]


def _describe_end(episode: Episode, options: FollowUpOptions) -> str:
    """Describe how a part of an incident ended, as Markdown."""
    match episode.ending:
        case EpisodeEnd.CURED if episode.back is not None:
            return f"well again since {_name_cure(episode.last_bad, episode.back, options.server)}"
        case EpisodeEnd.ACCEPTED if episode.acceptance is not None:
            return write_acceptance(episode.acceptance)
        case EpisodeEnd.SKIPPED:
            return f"skipped, {code(episode.state.reason, limit=200)}"
        case EpisodeEnd.GONE:
            return f"gone, last seen {episode.state.newest.time:%Y-%m-%d}"
        case _:
            return str(episode.ending)


def _name_cure(before: RunInfo | None, back: RunInfo, server: str) -> str:
    """Name the first commit that was well again, and the range that it ends."""
    if not is_sha(back.commit) or (before is not None and before.commit == back.commit):
        return f"{back.time:%Y-%m-%d}, without another commit" if back.commit else f"{back.time:%Y-%m-%d}"
    commit = code(back.commit[:9])
    if is_repository(back.repository):
        commit = f"[{back.commit[:9]}]({server}/{back.repository}/commit/{back.commit})"
    return f"commit {commit}, the first that was measured after the cure ({write_range(server, before, back)})"


def _list_commands(incident: Incident, options: FollowUpOptions) -> list[str]:
    commands: dict[Case, str] = {}
    for each in incident.still_open:
        command = write_bisect(each.case, each.state.metric, incident.last_good, incident.since, suites=options.suites)
        if command:
            commands.setdefault(each.case, command)
    return list(commands.values())[:MOST_COMMANDS]


def _link_run(run: RunInfo, server: str) -> str:
    """Link a run and its commit, as far as there are such pages."""
    day = f"{run.time:%Y-%m-%d}"
    if not is_repository(run.repository):
        return f"the run of {day}"
    pages = f"{server}/{run.repository}"
    name = f"[run {run.run_id}]({pages}/actions/runs/{run.run_id})" if is_run_id(run.run_id) else "the run"
    commit = f", commit [{run.commit[:9]}]({pages}/commit/{run.commit})" if is_sha(run.commit) else ""
    return f"{name} of {day}{commit}"
