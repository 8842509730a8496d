"""How a dashboard reads: the verdict, changes and cases in words, links, and commands that measure a case again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence

from torchperf_ci.compare.words import change as percent_text
from torchperf_ci.core.frames import Section
from torchperf_ci.core.records import Source
from torchperf_ci.core.text import code, heading, one_line
from torchperf_ci.dashboard.change_points import ChangePoint
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.regressions import Change, Transition
from torchperf_ci.github.names import is_repository, is_sha
from torchperf_ci.report.words import change_text, metric_title

MOST_LINES = 20
"""So many changes a terminal is told."""


def write_verdict(dashboard: Dashboard) -> tuple[str, str]:
    """Write a sign, and what changed, in plain text."""
    times = [item.before.time for item in dashboard.comparisons if item.before]
    cases = {kind: len(dashboard.cases(kind)) for kind in Transition}
    worse = sum(any(point.is_worse for point in points) for points in dashboard.lasting_cases())
    if not times and not worse:
        return "ℹ️", "There is no earlier run to compare with"
    words = [
        (cases[Transition.REGRESSED], "case regressed", "cases regressed"),
        (worse, "lasting change for the worse", "lasting changes for the worse"),
        (cases[Transition.DISAPPEARED], "case not there any more", "cases not there any more"),
        (cases[Transition.FIXED], "case within the limits again", "cases within the limits again"),
        (cases[Transition.APPEARED], "new case", "new cases"),
    ]
    said = [f"{number:,} {one if number == 1 else many}" for number, one, many in words if number]
    since = f" since the run of {max(times):%Y-%m-%d %H:%M} UTC" if times else ""
    if cases[Transition.REGRESSED] or worse:
        return "❌", f"{' · '.join(said)}{since}"
    return "✅", f"Nothing regressed{since}" + (f": {' · '.join(said)}" if said else "")


def write_terminal_text(dashboard: Dashboard) -> str:
    """Write the verdict, then regressions and lasting changes by name, as plain text."""
    lines = []
    for changes in dashboard.regressed_cases():
        first = changes[0]
        lines.append(f"{first.suite}/{first.model} {first.compiler}: {list_changes(changes, str)}")
    for points in dashboard.lasting_cases():
        case, new = points[0].case, points[0].first_new
        changes_text = "; ".join(f"{metric_title(item.metric)} {percent_text(item.new / item.old)}" for item in points)
        since = f"since {new.time:%Y-%m-%d} ({new.source.commit[:12]})"
        lines.append(f"{case.suite}/{case.model} {case.compiler}: {changes_text} {since}")
    more = [f"  … and {len(lines) - MOST_LINES:,} more, see dashboard_*.md"] if len(lines) > MOST_LINES else []
    shown = [f"  {one_line(line, limit=200)}" for line in lines[:MOST_LINES]]
    return "\n".join([f"{one_line(dashboard.dtype)}: {' '.join(write_verdict(dashboard))}", *shown, *more])


def list_changes(changes: Sequence[Change], quote: Callable[[str], str]) -> str:
    """List the metrics of one case that changed; a failure only once, though none of them can be measured any more."""
    by_cause: dict[str, Change] = {}
    for change in changes:
        now = change.now
        by_cause.setdefault(now.status if now and not now.measured else change.metric, change)
    return "; ".join(
        f"{metric_title(change.metric)} {change_text(change.metric, change.before, change.now, quote)}"
        for change in by_cause.values()
    )


def name_case(dashboard: Dashboard, section: Section, suite: str, model: str, compiler: str) -> str:
    """Name a case in Markdown; with its section where there are several."""
    return f"{code(f'{suite}/{model}')} with {code(compiler)}{name_section(dashboard, section)}"


def name_section(dashboard: Dashboard, section: Section) -> str:
    """Name the section in Markdown where the run has several of them; else blank."""
    return f" ({heading(str(section))})" if len(dashboard.findings.sections) > 1 or not dashboard.alone else ""


def describe_lasting(dashboard: Dashboard, points: Sequence[ChangePoint]) -> str:
    """Describe the lasting changes of one case at one time: how much, since when, and how to measure it again."""
    case = points[0].case
    section = Section(mode=case.mode, device=case.device, dtype=case.dtype)
    sign = "❌" if any(item.is_worse for item in points) else "✅"
    numbers = "; ".join(
        f"{metric_title(item.metric)} {percent_text(item.new / item.old)} ({item.old:.4g} → {item.new:.4g})"
        for item in points
    )
    again = write_rerun_of(dashboard, section, case.suite, case.compiler, case.model)
    name = name_case(dashboard, section, case.suite, case.model, case.compiler)
    return f"{sign} {name}: {numbers}, since {link_commits(dashboard, points[0])}. Run again: {code(again)}"


def link_commits(dashboard: Dashboard, point: ChangePoint) -> str:
    """Write the range of commits in which the level changed, linked where that is possible, and the day."""
    old, new = point.last_old.source, point.first_new.source
    day = f"{point.first_new.time:%Y-%m-%d}"
    if not old.commit or not new.commit or old.commit == new.commit:
        return day
    text = f"{old.commit[:9]}...{new.commit[:9]}"
    if not (is_sha(old.commit) and is_sha(new.commit) and is_repository(new.repository)):
        return f"{code(text)}, {day}"
    return f"[{text}]({dashboard.options.server}/{new.repository}/compare/{old.commit}...{new.commit}), {day}"


def link_run(dashboard: Dashboard) -> str:
    """Link the workflow run and the commit that are shown; blank where there is nowhere to link to."""
    source = dashboard.now.source
    if not (is_repository(source.repository) and is_sha(source.commit)):
        return ""
    pages = f"{dashboard.options.server}/{source.repository}"
    commit = f"[{source.commit[:9]}]({pages}/commit/{source.commit})"
    is_linked = source.run_id.isascii() and source.run_id.isdigit() and len(source.run_id) <= 20
    run = f"[run {source.run_id}]({pages}/actions/runs/{source.run_id}), " if is_linked else ""
    return f"This is {run}commit {commit}, {dashboard.now.time:%Y-%m-%d %H:%M} UTC.\n\n"


def write_rerun_of(dashboard: Dashboard, section: Section, suite: str, compiler: str, model: str) -> str:
    """Write the command that runs a case of this dashboard again; its suite as it was asked for."""
    asked = {name: spec for build in dashboard.findings.builds for name, spec in build.suites.items()}
    return write_rerun(section, asked.get(suite, suite), compiler, [model], dashboard.now.source)


def write_rerun(section: Section, suite: str, compiler: str, models: Iterable[str], source: Source) -> str:
    """Write the command that runs these models as `source` ran them: its workflow on GitHub, or else here.

    suite: as it is asked for, which for a file is its path. The workflow needs the inputs `suites` and `filter`.
    """
    pattern = f"^({'|'.join(map(_escape_pattern, models))})$"
    if source.workflow and source.repository:
        # A workflow without a name of its own is called by its path, of which gh takes the file.
        is_file = source.workflow.endswith((".yml", ".yaml"))
        workflow = source.workflow.rpartition("/")[2] if is_file else source.workflow
        words = ["gh", "workflow", "run", workflow, "--repo", source.repository]
        words += ["--ref", source.branch] if source.branch else []
        words += ["-f", f"suites={suite}", "-f", f"filter={pattern}"]
    else:
        words = ["torchperf-ci", "run", "--suites", suite, f"--{section.mode}", "--devices", section.device]
        words += ["--dtypes", section.dtype, "--compilers", compiler, "--filter", pattern]
    return one_line(shlex.join(words))


def _escape_pattern(text: str) -> str:
    """Write a regular expression for `text` alone. The input `filter` is split at spaces and commas, and a pattern with
    a `/` is held against suite and model, so these stand there by number."""
    return "".join(f"\\u{ord(char):04x}" if char in "/," or char.isspace() else re.escape(char) for char in text)
