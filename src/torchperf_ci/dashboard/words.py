"""Put a dashboard into words: the verdict, changes and cases, links, and commands that measure a case again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence

from torchperf_ci.compare.words import change as percent_text
from torchperf_ci.core.frames import Section
from torchperf_ci.core.records import Source
from torchperf_ci.core.text import code, heading, is_repository, is_run_id, is_sha, one_line
from torchperf_ci.dashboard.change_points import ChangePoint
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.regressions import Change, Transition
from torchperf_ci.report.words import change_text, metric_title
from torchperf_ci.report.words import verdict as report_verdict

MOST_LINES = 20
"""So many changes a terminal is told."""


def write_state(dashboard: Dashboard, quote: Callable[[str], str] = one_line) -> tuple[str, str]:
    """Write a sign, and how the run stands in a sentence. Text from outside goes through `quote`.

    The sign is never green beside a failing or a regressed case.
    """
    sign, state = report_verdict(dashboard.findings, quote)
    regressed = len(dashboard.cases(Transition.REGRESSED)) if dashboard.options.detect else 0
    worst = next(each for each in ("❌", "⚠️", "✅") if each in {sign, write_changes(dashboard)[0]})
    return worst, f"{state}; {regressed:,} regressed" if regressed else state


def write_changes(dashboard: Dashboard) -> tuple[str, str]:
    """Write a sign, and what changed since earlier runs as a sentence; blank where nobody looked."""
    good = "⚠️" if dashboard.problems else "✅"  # what could not be read was not compared
    if not dashboard.options.detect:
        return good, ""
    times = [item.before.time for item in dashboard.comparisons if item.before]
    cases = {kind: len(dashboard.cases(kind)) for kind in Transition}
    lasting = [any(point.is_worse for point in points) for points in dashboard.lasting_cases()]
    if not times and not lasting:
        return "⚠️" if dashboard.problems else "⏭️", "There is no earlier run to compare with"
    is_worse = bool(cases[Transition.REGRESSED] or any(lasting))
    changes = [
        (cases[Transition.REGRESSED], "case regressed", "cases regressed"),
        (sum(lasting), "lasting change for the worse", "lasting changes for the worse"),
        (cases[Transition.DISAPPEARED], "case gone", "cases gone"),
        (cases[Transition.FIXED], "case within the limits again", "cases within the limits again"),
        (len(lasting) - sum(lasting), "lasting change for the better", "lasting changes for the better"),
        (cases[Transition.APPEARED], "new case", "new cases"),
    ]
    counts = ", ".join(f"{number:,} {one if number == 1 else many}" for number, one, many in changes if number)
    since = f"ince the run of {max(times):%Y-%m-%d %H:%M} UTC" if times else "ince the oldest run shown"
    if is_worse:
        return "❌", f"S{since}: {counts}"
    return "⚠️" if cases[
        Transition.DISAPPEARED
    ] else "✅", f"Nothing regressed s{since}{f': {counts}' if counts else ''}"


def write_terminal_text(dashboard: Dashboard) -> str:
    """Write what changed as plain text: the sentence, then regressions and lasting changes by name."""
    sign, changes = write_changes(dashboard)
    if not changes:
        return ""
    lines = []
    for transition, title in ((Transition.REGRESSED, "regressed"), (Transition.DISAPPEARED, "gone")):
        groups = dashboard.regressed_cases() if transition is Transition.REGRESSED else dashboard.cases(transition)
        for changed in groups:
            first = changed[0]
            lines.append(f"{title}: {first.suite}/{first.model} {first.compiler}: {list_changes(changed, str)}")
    for points in dashboard.lasting_cases():
        case, new = points[0].case, points[0].first_new
        worse = "worse" if any(point.is_worse for point in points) else "better"
        commit = f" ({new.source.commit[:12]})" if new.source.commit else ""
        numbers = "; ".join(f"{metric_title(item.metric)} {percent_text(item.new / item.old)}" for item in points)
        lines.append(f"{worse} since {new.time:%Y-%m-%d}{commit}: {case.suite}/{case.model} {case.compiler}: {numbers}")
    more = [f"  … and {len(lines) - MOST_LINES:,} more, see dashboard_*.md"] if len(lines) > MOST_LINES else []
    shown = [f"  {one_line(line, limit=200)}" for line in lines[:MOST_LINES]]
    sentence = f"{one_line(dashboard.dtype)}: {changes[0].lower()}{changes[1:]}"
    # Beside a failing model, that nothing changed is said without a green sign.
    is_good = write_state(dashboard)[0] == "✅"
    return "\n".join([sentence if sign == "✅" and not is_good else f"{sign} {sentence}", *shown, *more])


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
    """Describe the lasting changes of one case at one time in Markdown: how much, and since when."""
    case = points[0].case
    section = Section(mode=case.mode, device=case.device, dtype=case.dtype)
    sign = "❌" if any(item.is_worse for item in points) else "✅"
    numbers = "; ".join(
        f"{metric_title(item.metric)} {percent_text(item.new / item.old)} ({item.old:.4g} → {item.new:.4g})"
        for item in points
    )
    name = name_case(dashboard, section, case.suite, case.model, case.compiler)
    return f"{sign} {name}: {numbers}, since {link_commits(dashboard, points[0])}"


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
    """Link the workflow run and the commit that are shown; the commit alone where there is nowhere to link to."""
    source = dashboard.now.source
    day = f"{dashboard.now.time:%Y-%m-%d %H:%M} UTC"
    if not (is_repository(source.repository) and is_sha(source.commit)):
        return f"{code(source.commit[:12])}, {day}" if source.commit else day
    pages = f"{dashboard.options.server}/{source.repository}"
    commit = f"commit [{source.commit[:9]}]({pages}/commit/{source.commit})"
    run = f"[run {source.run_id}]({pages}/actions/runs/{source.run_id}), " if is_run_id(source.run_id) else ""
    return f"{run}{commit}, {day}"


def write_rerun_of(dashboard: Dashboard, section: Section, suite: str, compiler: str, model: str) -> str:
    """Write the command that runs a case of this dashboard again; its suite as it was asked for."""
    asked = {name: spec for build in dashboard.findings.builds for name, spec in build.suites.items()}
    return write_rerun(section, asked.get(suite, suite), compiler, [model], dashboard.now.source)


def list_reruns(dashboard: Dashboard) -> list[str]:
    """List the commands that run the cases again that regressed or changed lastingly, each once."""
    cases = [changes[0].case for changes in dashboard.regressed_cases()]
    for points in dashboard.lasting_cases():
        case = points[0].case
        section = Section(mode=case.mode, device=case.device, dtype=case.dtype)
        cases.append((section, case.suite, case.model, case.compiler))
    return list(
        dict.fromkeys(
            write_rerun_of(dashboard, section, suite, compiler, model) for section, suite, model, compiler in cases
        )
    )


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
