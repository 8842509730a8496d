"""Put a dashboard into words: the verdict, states and cases, links, and commands that measure a case again.

The address of a page of a site follows from what it names, not from the site, so that a link can be written before the
page is there, and stays right when the site is made again. Names from outside never stand in one, but for a metric's,
which is quoted.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from urllib.parse import quote

from torchperf_ci.compare.words import change as percent_text
from torchperf_ci.compare.words import make_bisect_command
from torchperf_ci.core.frames import Section
from torchperf_ci.core.records import METRICS, Case, Metric, Source
from torchperf_ci.core.text import code, count, format_digits, heading, is_repository, is_run_id, is_sha, one_line
from torchperf_ci.dashboard.incidents import digest
from torchperf_ci.dashboard.model import Dashboard, name_cases
from torchperf_ci.dashboard.owners import find_owners
from torchperf_ci.dashboard.states import SeriesState, State
from torchperf_ci.history.acceptances import Acceptance
from torchperf_ci.history.series import COUNTED, STATUS_METRICS, RunInfo
from torchperf_ci.report.model import RunFindings
from torchperf_ci.report.words import verdict as report_verdict


def identify_case(case: Case) -> str:
    """Write twelve hexadecimal digits that stand for a case, in addresses and file names."""
    return digest(case.suite, case.model, case.mode.value, case.device, case.dtype, case.compiler)[:12]


def identify_run(key: str) -> str:
    """Write twelve hexadecimal digits that stand for a run, by its key in the series that a site shows."""
    return digest(key)[:12]


def case_address(site: str, case: Case, metric: str = "") -> str:
    """Write the address of a case's page, of one of its metrics if one is named.

    site: the address of the site, a folder or its index.html; blank for an address inside of the site.
    """
    return page_address(site, identify_case(case), metric)


def page_address(site: str, case: str, metric: str = "") -> str:
    """Write the address of the page of a case that `identify_case` stands for."""
    return f"{start_address(site)}#/case/{case}" + (f"?metric={quote(metric, safe='')}" if metric else "")


def start_address(site: str) -> str:
    """Write the address of a site's first page: that of a folder ends with a slash, from which relative paths count."""
    return site if not site or site.endswith(("/", ".html", ".htm")) else f"{site}/"


MOST_LINES = 20
"""So many cases a terminal is told."""

_SAFE_URL = re.compile(r"https?://[A-Za-z0-9.:/_#-]+")

BISECTED: Mapping[str, str] = {
    "speedup": "latency",
    "abs_latency": "latency",
    "compilation_latency": "compile-time",
    "dynamo_peak_mem": "memory",
    "compression_ratio": "memory",
    "accuracy_status": "accuracy",
    "performance_status": "accuracy",
    **{name: name for name in COUNTED},
}
"""The metrics that `bisect` searches for, and what they are called there; counters have the same name."""


def write_state(dashboard: Dashboard, quote: Callable[[str], str] = one_line) -> tuple[str, str]:
    """Write a sign, and how it stands after the run in a sentence. Text from outside goes through `quote`.

    The sign is never green while something fails or is worse than before, in this run or in the last one that tried it.
    """
    sign, state = report_verdict(dashboard.findings, quote)
    signs = {sign, *(["⚠️"] if dashboard.problems else [])}
    parts = [state]
    if dashboard.options.detect:
        events = dashboard.events
        worse = name_cases(dashboard.in_state(State.CHANGED))
        since_now = len(name_cases(item for item in events.new if item.state is State.CHANGED))
        asleep = name_cases(item for item in dashboard.in_state(State.FAILING) if item.newest.key != dashboard.now.key)
        dropped = name_cases(dashboard.in_state(State.DROPPED))
        gone = name_cases(list_gone(dashboard))
        if worse:
            news = f", {since_now:,} of them since this run" if since_now else ""
            if since_now == len(worse):
                news = " since this run"
            parts.append(f"{count(len(worse), 'case')} worse than before{news}")
        if asleep:
            parts.append(f"{count(len(asleep), 'case')} failing that this run did not try")
        if dropped:
            parts.append(f"{count(len(dropped), 'case')} worse in the newest run alone")
        if beyond := _count_beyond_limits(dashboard):
            parts.append(f"{count(beyond, 'case')} newly beyond a limit of PyTorch's dashboard")
        if gone:
            parts.append(f"{count(len(gone), 'case')} gone")
        if cured := name_cases(events.cured):
            parts.append(f"{count(len(cured), 'case')} well again")
        signs |= {"❌"} if worse or asleep else set()
        signs |= {"⚠️"} if dropped or gone or beyond else set()
    return next(each for each in ("❌", "⚠️", "✅") if each in signs), "; ".join(parts)


def _count_beyond_limits(dashboard: Dashboard) -> int:
    """Count the cases that are beyond a limit since the run before, and of which nothing else is said."""
    known = set(name_cases(dashboard.in_state(State.FAILING, State.CHANGED, State.DROPPED)))
    return len({changes[0].case for changes in dashboard.regressed_cases()} - known)


def list_gone(dashboard: Dashboard) -> list[SeriesState]:
    """List what this run is the first to lack."""
    return [item for item in dashboard.in_state(State.GONE) if item.since and item.since.key == dashboard.now.key]


def list_sections(dashboard: Dashboard) -> list[tuple[str, str, list[list[SeriesState]]]]:
    """List the sections of what somebody has to know: title, meaning, and states of one case that belong together."""
    events = dashboard.events
    new = {id(item) for item in events.new}
    still_open = [item for item in dashboard.in_state(State.FAILING, State.CHANGED) if id(item) not in new]
    newest = sorted(events.new, key=lambda item: (item.state is not State.FAILING, -abs(item.change or 0.0)))
    sections = [
        ("New", "Open or failing since this run.", group_states(newest)),
        (
            "Worse in the newest run alone",
            "Beyond the noise of the last runs. A second measurement, or the next run, says whether it stays.",
            group_states(dashboard.in_state(State.DROPPED)),
        ),
        ("Still open", "Worse than before or failing since an earlier run.", group_states(still_open)),
        ("Well again", "", group_states(events.cured)),
        ("Better", "A lasting change for the better.", group_states(events.improved)),
        ("Gone", "Earlier runs had these cases, this one has not.", group_states(list_gone(dashboard))),
    ]
    return [(title, meaning, groups) for title, meaning, groups in sections if groups]


def group_states(states: Iterable[SeriesState]) -> list[list[SeriesState]]:
    """Group the states of a case that began with the same run, in the order of the first of each."""
    groups: dict[tuple[Case, str], list[SeriesState]] = {}
    for item in states:
        groups.setdefault((item.case, item.since.key if item.since else ""), []).append(item)
    return list(groups.values())


def write_not_judged(dashboard: Dashboard) -> str:
    """Say of how much nothing can be said yet, with numbers; blank where all is judged."""
    waiting = [item for item in dashboard.in_state(State.UNJUDGED, State.NEW) if item.needs]
    if not waiting:
        return ""
    reasons = Counter(item.reason for item in waiting)
    texts = ", ".join(f"{number:,} with {reason}" for reason, number in reasons.most_common(3))
    more = f" and {count(len(reasons) - 3, 'more reason')}" if len(reasons) > 3 else ""
    cases = count(len(name_cases(waiting)), "case")
    return f"Not judged yet: {count(len(waiting), 'metric')} of {cases}, {texts}{more}"


def write_terminal_text(dashboard: Dashboard) -> str:
    """Write how it stands as plain text: the sentence, then every case that somebody has to know of."""
    if not dashboard.options.detect:
        return ""
    sign, state = write_state(dashboard)
    lines = [
        f"{title.lower()}: {describe_states(dashboard, group, terminal=True)}"
        for title, _, groups in list_sections(dashboard)
        for group in groups
    ]
    more = [f"  … and {len(lines) - MOST_LINES:,} more, see dashboard_*.md"] if len(lines) > MOST_LINES else []
    shown = [f"  {one_line(line, limit=300)}" for line in lines[:MOST_LINES]]
    waiting = [f"  {one_line(text)}"] if (text := write_not_judged(dashboard)) else []
    return "\n".join([f"{sign} {one_line(dashboard.dtype)}: {state}", *shown, *more, *waiting])


def describe_states(dashboard: Dashboard, states: Sequence[SeriesState], *, terminal: bool = False) -> str:
    """Describe states of one case that began together: what, how much, since which commits, and for how many runs.

    It is Markdown with links, or plain text for a terminal.
    """
    quote: Callable[[str], str] = one_line if terminal else code
    first = states[0]
    case = first.case
    if terminal:
        name = f"{case.suite}/{case.model} {case.compiler}"
    else:
        name = name_case(dashboard, case)
        if dashboard.options.site:
            name = f"{name} ([history]({case_address(dashboard.options.site, case)}))"
    if first.state is State.GONE:
        return f"{name}: last seen {first.newest.time:%Y-%m-%d}"
    parts = list(dict.fromkeys(_describe_state(item, quote) for item in states))
    text = f"{name}: {'; '.join(parts)}"
    if first.since is None:
        return text
    runs = max(item.runs for item in states)
    of_runs = f", {count(runs, 'run')}" if runs > 1 else ""
    server = dashboard.options.server
    since = _name_range(first) if terminal else write_range(server, first.last_good, first.since)
    owners = find_owners(dashboard.options.owners, ((case, item.metric.name) for item in states if item.is_open))
    # As code: every night's comment would notify them.
    whose = f", owned by {', '.join(code(f'@{owner}') for owner in owners)}" if owners and not terminal else ""
    return f"{text}, since {since}{of_runs}{_name_commits(dashboard, first, quote)}{whose}"


def _name_commits(dashboard: Dashboard, item: SeriesState, quote: Callable[[str], str]) -> str:
    """Name the one commit in which it came; else say how many there are, and which one was run first."""
    assert item.since is not None
    known = dashboard.ranges.get((item.last_good.commit, item.since.commit)) if item.last_good else None
    if known and known.count == 1 and known.commits:
        return f": the commit {quote(known.commits[0].subject)}" if known.commits[0].subject else ": one commit"
    subject = f"first seen with {quote(item.since.subject)}" if item.since.subject else ""
    number = f"one of {known.count:,} commits" if known and known.count > 1 else ""
    return "".join(f", {part}" for part in (number, subject) if part)


def _describe_state(item: SeriesState, quote: Callable[[str], str]) -> str:
    title = title_metric(item.metric, quote)
    if item.state is State.FAILING:
        return f"{title} fails, {quote(item.reason)}"
    if item.metric in STATUS_METRICS.values():
        return f"{title} passes"
    old, new = item.old, item.new
    if item.state not in {State.CHANGED, State.DROPPED, State.ACCEPTED} and item.changes:
        # Well again, or better: the change is the last one that the history shows.
        last = item.changes[-1]
        old, new = (last.new, item.new) if last.is_worse else (last.old, last.new)
    if old is None or new is None:
        return title
    numbers = f"({format_digits(old, 4)} → {format_digits(new, 4)})"
    return f"{title} {percent_text(new / old)} {numbers}" if old > 0 and new > 0 else f"{title} {numbers}"


def write_acceptance(acceptance: Acceptance) -> str:
    """Write who accepted a change, when and why, as Markdown in which nobody is mentioned."""
    day = f"{acceptance.time:%Y-%m-%d}"
    # GitHub's own address, but it comes over the network.
    day = f"[{day}]({acceptance.url})" if _SAFE_URL.fullmatch(acceptance.url) else day
    reason = f": {code(acceptance.reason, limit=200)}" if acceptance.reason else ""
    return f"accepted {day}{f' by {code(acceptance.who)}' if acceptance.by else ''}{reason}"


def title_metric(metric: Metric, quote: Callable[[str], str]) -> str:
    """Write what a metric is called; what does not come from us goes through `quote`."""
    title = metric.title or metric.name
    is_ours = metric.name in METRICS or metric in (*STATUS_METRICS.values(), *COUNTED.values())
    return title if is_ours else quote(title)


def _name_range(item: SeriesState) -> str:
    """Name the commits between which it came, and the day, as plain text."""
    assert item.since is not None
    day = f"{item.since.time:%Y-%m-%d}"
    old, new = item.last_good.commit[:9] if item.last_good else "", item.since.commit[:9]
    commits = f"{old}...{new}" if old and new and old != new else new
    return f"{day} ({commits})" if commits else day


def write_range(server: str, before: RunInfo | None, new: RunInfo) -> str:
    """Write the range of commits between two runs, linked where that is possible, and the day of the second one."""
    day = f"{new.time:%Y-%m-%d}"
    old = before.commit if before else ""
    if not new.commit or old == new.commit:
        return day
    pages = f"{server}/{new.repository}"
    can_link = is_repository(new.repository) and is_sha(new.commit)
    if not old:
        text = new.commit[:9]
        return f"[{text}]({pages}/commit/{new.commit}), {day}" if can_link else f"{code(text)}, {day}"
    text = f"{old[:9]}...{new.commit[:9]}"
    if not (can_link and is_sha(old)):
        return f"{code(text)}, {day}"
    return f"[{text}]({pages}/compare/{old}...{new.commit}), {day}"


def name_case(dashboard: Dashboard, case: Case) -> str:
    """Name a case in Markdown; with its section where there are several."""
    section = name_section(dashboard, Section.of(case))
    return f"{code(f'{case.suite}/{case.model}')} with {code(case.compiler)}{section}"


def name_section(dashboard: Dashboard, section: Section) -> str:
    """Name the section in Markdown where the run has several of them; else blank."""
    return f" ({heading(str(section))})" if len(dashboard.findings.sections) > 1 or not dashboard.alone else ""


def link_run(dashboard: Dashboard) -> str:
    """Link the workflow run and the commit that are shown; the commit alone where there is nowhere to link to."""
    source = dashboard.now.source
    day = f"{dashboard.now.time:%Y-%m-%d %H:%M} UTC"
    if not (is_repository(source.repository) and is_sha(source.commit)):
        return f"{code(source.commit[:12])}, {day}" if source.commit else day
    pages = f"{dashboard.options.server}/{source.repository}"
    commit = f"commit [{source.commit[:9]}]({pages}/commit/{source.commit})"
    run = f"[run {source.run_id}]({pages}/actions/runs/{source.run_id}), " if is_run_id(source.run_id) else ""
    return f"{run}{commit}, {day}"


def write_rerun_of(dashboard: Dashboard, case: Case) -> str:
    """Write the command that runs a case of this dashboard again; its suite as it was asked for."""
    return write_rerun(case, list_suites(dashboard.findings).get(case.suite, case.suite), dashboard.now.source)


def list_reruns(dashboard: Dashboard) -> list[str]:
    """List the commands that run the cases again that are new, or off in the newest run alone; each once."""
    states = [*dashboard.events.new, *dashboard.in_state(State.DROPPED)]
    return list(dict.fromkeys(write_rerun_of(dashboard, case) for case in name_cases(states)))


def list_bisects(dashboard: Dashboard) -> list[str]:
    """List the commands that search for the commits which opened what is open; each once."""
    asked = list_suites(dashboard.findings)
    commands = (
        write_bisect(item.case, item.metric, item.last_good, item.since, suites=asked)
        for item in dashboard.in_state(State.FAILING, State.CHANGED)
    )
    return [command for command in dict.fromkeys(commands) if command]


def list_suites(findings: RunFindings) -> dict[str, str]:
    """List the suites of a run by name, as they were asked for, which for a file is its path."""
    return {name: spec for build in findings.builds for name, spec in build.suites.items()}


def write_bisect(
    case: Case, metric: Metric, good: RunInfo | None, bad: RunInfo | None, *, suites: Mapping[str, str]
) -> str:
    """Write the command that searches for the commit between two runs which changed a metric of a case.

    suites: as `list_suites` has them. Blank where there are no two commits, or for a metric that is not searched for.
    """
    searched, ends = BISECTED.get(metric.name), _find_ends(good, bad)
    if searched is None or ends is None:
        return ""
    asked = [*_list_options(case, suites), "--setup", "pip install -e ."]
    return one_line(make_bisect_command(*ends, case, metric=searched, options=asked))


def _find_ends(good: RunInfo | None, bad: RunInfo | None) -> tuple[str, str] | None:
    """Find the commits of two runs; None where they are not two that git could know."""
    if good is None or bad is None or not is_sha(good.commit) or not is_sha(bad.commit) or good.commit == bad.commit:
        return None
    return good.commit, bad.commit


def _list_options(case: Case, suites: Mapping[str, str]) -> list[str]:
    """List the options that choose the suite of a case, and how it runs."""
    asked = ["--suites", suites.get(case.suite, case.suite), f"--{case.mode}", "--devices", case.device]
    return [*asked, "--dtypes", case.dtype, "--compilers", case.compiler]


def list_comparisons(dashboard: Dashboard) -> list[str]:
    """List the commands that compare the two commits of what is open, and explain the difference; each once."""
    asked = list_suites(dashboard.findings)
    commands = (
        write_comparison(item.case, item.last_good, item.since, suites=asked)
        for item in dashboard.in_state(State.FAILING, State.CHANGED)
    )
    return [command for command in dict.fromkeys(commands) if command]


def write_comparison(case: Case, good: RunInfo | None, bad: RunInfo | None, *, suites: Mapping[str, str]) -> str:
    """Write the command that measures a case at the commits of two runs beside each other, and explains the difference.

    suites: as `list_suites` has them. Blank where there are no two commits.
    """
    if (ends := _find_ends(good, bad)) is None:
        return ""
    words = ["torchperf-ci", "compare", "--base-ref", ends[0], "--head-ref", ends[1]]
    words += [*_list_options(case, suites), "--filter", f"^{_escape_pattern(case.model)}$"]
    return one_line(shlex.join([*words, "--explain", "all", "--setup", "pip install -e ."]))


def write_rerun(case: Case, suite: str, source: Source) -> str:
    """Write the command that runs a case as `source` ran it: its workflow on GitHub, or else here.

    suite: as it is asked for, which for a file is its path. The workflow needs the inputs `suites` and `filter`.
    """
    pattern = f"^({_escape_pattern(case.model)})$"
    if source.workflow and source.repository:
        # A workflow without a name of its own is called by its path, of which gh takes the file.
        is_file = source.workflow.endswith((".yml", ".yaml"))
        workflow = source.workflow.rpartition("/")[2] if is_file else source.workflow
        words = ["gh", "workflow", "run", workflow, "--repo", source.repository]
        words += ["--ref", source.branch] if source.branch else []
        words += ["-f", f"suites={suite}", "-f", f"filter={pattern}"]
    else:
        words = ["torchperf-ci", "run", "--suites", suite, f"--{case.mode}", "--devices", case.device]
        words += ["--dtypes", case.dtype, "--compilers", case.compiler, "--filter", pattern]
    return one_line(shlex.join(words))


def _escape_pattern(text: str) -> str:
    """Write a regular expression for `text` alone. The input `filter` is split at spaces and commas, and a pattern with
    a `/` is held against suite and model, so these stand there by number."""
    return "".join(f"\\u{ord(char):04x}" if char in "/," or char.isspace() else re.escape(char) for char in text)
