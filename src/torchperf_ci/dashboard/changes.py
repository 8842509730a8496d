"""The dashboard's parts about what changed since earlier runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from torchperf_ci.compare.words import change as percent_text
from torchperf_ci.core.frames import MISSING, Section
from torchperf_ci.core.records import Case
from torchperf_ci.core.text import code, heading
from torchperf_ci.dashboard.change_points import ChangePoint
from torchperf_ci.dashboard.model import Dashboard
from torchperf_ci.dashboard.regressions import Against, Change, Kind
from torchperf_ci.dashboard.run_again import run_again
from torchperf_ci.report.csv_tables import cells
from torchperf_ci.report.document import Block, MarkdownTable, TableLine, folded, pretty_table
from torchperf_ci.report.gh_parts import cell_text, section_title
from torchperf_ci.report.summary import FLAGGED
from torchperf_ci.report.words import change_text, metric_title

VERDICT, DIFF, REGRESSION, LASTING, OTHER = 1, 5, 2, 3, 12
"""When what is hidden of a comment that gets too long; see `legacy`."""

NAMED = 10
"""So many regressions are named above the folds."""
WHERE = "gh_metric_regression.txt in the results folder"

_NOT_COMPARED = "There is no earlier run to compare with.\n\n"
_DIFF = "The newest two runs of every compiler that warnings are given for.\n\n"
_REGRESSIONS = (
    "Every compiler that warnings are given for is compared with the newest earlier run that tested the same with it. "
    "A model is listed when it is beyond a limit of the warnings and was not before.\n\n"
)
_LASTING = "Levels of single models that changed within the runs shown and have stayed changed since.\n\n"
_SHA = re.compile(r"[0-9a-f]{7,64}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_REPOSITORY = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9._-]+")
_OTHERS = {
    Kind.DISAPPEARED: ("Not there any more", LASTING),
    Kind.FIXED: ("Within the limits again", OTHER),
    Kind.APPEARED: ("New", OTHER),
}


def verdict_block(dashboard: Dashboard) -> Block:
    """What changed, in a sentence, and the regressions by name."""
    lines = [TableLine(text=f"- {_named(dashboard, changes)}", rank=VERDICT) for changes in regressed_cases(dashboard)]
    shown, more = lines[:NAMED], len(lines) - NAMED
    after = f"- … and {more:,} more below\n" if more > 0 else ""
    doubts = "".join(f"\n⚠️ {text}\n" for text in _doubts(dashboard.against))
    table = MarkdownTable(before="", lines=tuple(shown), where=WHERE, after=f"{after}{doubts}\n")
    before = f"**{' '.join(verdict(dashboard))}**\n\n{_this_run(dashboard)}"
    return Block(before=before, tables=(table,), rank=VERDICT)


def summary_diff(dashboard: Dashboard) -> Block:
    """gh_summary_diff.txt."""
    before = _DIFF + "".join(_runs(dashboard, dashboard.against))
    return folded("## Summary Statistics Diff ##", before, _diff_tables(dashboard), rank=DIFF)


def regressions(dashboard: Dashboard) -> list[Block]:
    """gh_metric_regression.txt."""
    tables = [table for against in _by_suite(dashboard.against) for table in _suite_tables(dashboard, against)]
    note = "" if dashboard.against else _NOT_COMPARED
    tables += _lasting(dashboard)
    return [folded("## Recent Regressions ##", _REGRESSIONS + note, tables, rank=REGRESSION)]


def verdict(dashboard: Dashboard) -> tuple[str, str]:
    """A sign and what changed, in plain text."""
    compared = [item.before for item in dashboard.against if item.before]
    cases = {kind: len(by_case(dashboard.changes(kind))) for kind in Kind}
    worse = sum(any(item.is_worse for item in items) for items in by_case_and_run(dashboard.lasting))
    if not compared and not worse:
        return "ℹ️", "There is no earlier run to compare with"
    words = [
        (cases[Kind.REGRESSED], "case regressed", "cases regressed"),
        (worse, "lasting change for the worse", "lasting changes for the worse"),
        (cases[Kind.DISAPPEARED], "case not there any more", "cases not there any more"),
        (cases[Kind.FIXED], "case within the limits again", "cases within the limits again"),
        (cases[Kind.APPEARED], "new case", "new cases"),
    ]
    said = [f"{number:,} {one if number == 1 else many}" for number, one, many in words if number]
    newest = max((point.time for point in compared), default=None)
    since = f" since the run of {newest:%Y-%m-%d %H:%M} UTC" if newest else ""
    if cases[Kind.REGRESSED] or worse:
        return "❌", f"{' · '.join(said)}{since}"
    return "✅", f"Nothing regressed{since}" + (f": {' · '.join(said)}" if said else "")


def by_case(changes: Sequence[Change]) -> dict[tuple[object, ...], list[Change]]:
    """The changes of all metrics of one case together."""
    groups: dict[tuple[object, ...], list[Change]] = {}
    for change in changes:
        groups.setdefault((change.section, change.suite, change.model, change.compiler), []).append(change)
    return groups


def regressed_cases(dashboard: Dashboard) -> list[list[Change]]:
    """The regressions case by case: first what fails now, then the largest change."""
    return sorted(by_case(dashboard.changes(Kind.REGRESSED)).values(), key=lambda changes: -max(map(_size, changes)))


def _size(change: Change) -> float:
    """By what part of the larger number the metric changed; 1 for one that cannot be measured any more."""
    before, now = change.before, change.now
    if before is None or now is None or not now.measured:
        return 1.0
    return abs(now.value - before.value) / (max(now.value, before.value) or 1.0) if before.measured else 0.0


def _named(dashboard: Dashboard, changes: Sequence[Change]) -> str:
    first = changes[0]
    name = _name(dashboard, first.section, first.suite, first.model, first.compiler)
    return f"{name}: {what_changed(changes, code)}"


def what_changed(changes: Sequence[Change], quote: Callable[[str], str]) -> str:
    """The metrics of one case that changed; a failure only once, though none of them can be measured any more."""
    told: dict[str, Change] = {}
    for change in changes:
        now = change.now
        told.setdefault(now.status if now and not now.measured else change.metric, change)
    return "; ".join(
        f"{metric_title(change.metric)} {change_text(change.metric, change.before, change.now, quote)}"
        for change in told.values()
    )


def _name(dashboard: Dashboard, section: Section, suite: str, model: str, compiler: str) -> str:
    """A case; with its section where there are several."""
    return f"{code(f'{suite}/{model}')} with {code(compiler)}{_distinction(dashboard, section)}"


def _distinction(dashboard: Dashboard, section: Section) -> str:
    """The section, where the run has several of them."""
    return f" ({heading(str(section))})" if len(dashboard.findings.sections) > 1 or not dashboard.alone else ""


def _doubts(items: Sequence[Against]) -> list[str]:
    """What should be known before numbers of two runs are compared, once each."""
    return list(
        dict.fromkeys(
            f"{code(item.suite)} with {code(item.compiler)} is compared with a run on another machine: "
            f"{code('; '.join(item.doubts), limit=200)}"
            for item in items
            if item.doubts
        )
    )


def _runs(dashboard: Dashboard, items: Sequence[Against]) -> Iterator[str]:
    """Which runs are compared; compilers with the same run before are named together."""
    before: dict[str, list[str]] = {}
    for item in items:
        if item.before:
            before.setdefault(str(item.before), []).append(item.compiler)
    if not before:
        yield _NOT_COMPARED
        return
    yield f"Current run: {code(str(dashboard.now))}\n\n"
    for run, compilers in before.items():
        yield f"Previous run: {code(run)} ({', '.join(map(code, dict.fromkeys(compilers)))})\n\n"


def _diff_tables(dashboard: Dashboard) -> Iterator[MarkdownTable]:
    write = cells(include_slowdowns=dashboard.findings.options.include_slowdowns)
    columns = ["compiler", "suite", "prev_value", "cur_value"]
    for section in dashboard.findings.sections:
        found = [(item, item.line_before) for item in dashboard.against if item.section == section]
        title = section_title(dashboard.findings, section)
        for name, caption in (("passrate", "Passrate diff"), ("geomean", "Geometric mean speedup diff")):
            rows = [
                [item.compiler, item.suite, write[name](before), write[name](item.line)]
                for item, before in found
                if before
            ]
            if rows:
                yield pretty_table(f"{title}\n{caption}\n", columns, rows, ranks=[DIFF] * len(rows), where=WHERE)
                title = ""


def _by_suite(items: Sequence[Against]) -> list[list[Against]]:
    groups: dict[tuple[object, ...], list[Against]] = {}
    for item in items:
        groups.setdefault((item.section, item.suite), []).append(item)
    return list(groups.values())


def _suite_tables(dashboard: Dashboard, items: Sequence[Against]) -> Iterator[MarkdownTable]:
    section, suite = items[0].section, items[0].suite
    title = f"{heading(suite)}{_distinction(dashboard, section)}"
    head = f"### Regressions for {title} ###\n\n{''.join(_runs(dashboard, items))}"
    changes = [change for item in items for change in item.changes]
    regressed = [change for change in changes if change.kind is Kind.REGRESSED]
    if not regressed:
        yield MarkdownTable(before=f"{head}No regressions found.\n\n", lines=(), where=WHERE)
        head = ""
    for metric in FLAGGED:
        found = [change for change in regressed if change.metric == metric]
        if found:
            columns = ["compiler", "name", "prev_status", "cur_status", "run again"]
            rows = [
                [*_cells(change), _again(dashboard, section, suite, change.compiler, change.model)] for change in found
            ]
            title = f"{head}\n{metric_title(metric)} regressions\n"
            ranks = [REGRESSION] * len(rows)
            yield pretty_table(title, columns, rows, ranks=ranks, where=WHERE, left=("run again",))
            head = ""
    for kind, (title, rank) in _OTHERS.items():
        rows = [[*_cells(change), metric_title(change.metric)] for change in changes if change.kind is kind]
        if rows:
            columns = ["compiler", "name", "prev_status", "cur_status", "metric"]
            yield pretty_table(f"\n{title}\n", columns, rows, ranks=[rank] * len(rows), where=WHERE)


def _cells(change: Change) -> list[str]:
    seen = (cell_text(cell, change.metric) if cell else MISSING for cell in (change.before, change.now))
    return [change.compiler, change.model, *seen]


def _again(dashboard: Dashboard, section: Section, suite: str, compiler: str, model: str) -> str:
    asked = {name: spec for build in dashboard.findings.builds for name, spec in build.suites.items()}
    return run_again(section, asked.get(suite, suite), compiler, [model], dashboard.now.source)


def _lasting(dashboard: Dashboard) -> Iterator[MarkdownTable]:
    lines = [f"- {_lasting_line(dashboard, items)}" for items in by_case_and_run(dashboard.lasting)]
    if lines:
        yield MarkdownTable(
            before=f"\n### Lasting changes ###\n\n{_LASTING}",
            lines=tuple(TableLine(text=text, rank=LASTING) for text in lines),
            where=WHERE,
        )


def by_case_and_run(items: Sequence[ChangePoint]) -> list[list[ChangePoint]]:
    """Changes of several metrics of one case at one time together, in the order of the first of them."""
    groups: dict[tuple[Case, int], list[ChangePoint]] = {}
    for item in items:
        groups.setdefault((item.case, id(item.first_new)), []).append(item)
    return list(groups.values())


def _lasting_line(dashboard: Dashboard, items: Sequence[ChangePoint]) -> str:
    case = items[0].case
    section = Section(mode=case.mode, device=case.device, dtype=case.dtype)
    sign = "❌" if any(item.is_worse for item in items) else "✅"
    what = "; ".join(
        f"{metric_title(item.metric)} {percent_text(item.new / item.old)} ({item.old:.4g} → {item.new:.4g})"
        for item in items
    )
    again = _again(dashboard, section, case.suite, case.compiler, case.model)
    name = _name(dashboard, section, case.suite, case.model, case.compiler)
    return f"{sign} {name}: {what}, since {_since(dashboard, items[0])}. Run again: {code(again)}"


def _since(dashboard: Dashboard, item: ChangePoint) -> str:
    """The range of commits in which the level changed, linked where there is somewhere to link to, and the day."""
    old, new = item.last_old.source, item.first_new.source
    day = f"{item.first_new.time:%Y-%m-%d}"
    if not old.commit or not new.commit or old.commit == new.commit:
        return day
    text = f"{old.commit[:9]}...{new.commit[:9]}"
    if not (_SHA.fullmatch(old.commit) and _SHA.fullmatch(new.commit) and _REPOSITORY.fullmatch(new.repository)):
        return f"{code(text)}, {day}"
    return f"[{text}]({dashboard.options.server}/{new.repository}/compare/{old.commit}...{new.commit}), {day}"


def _this_run(dashboard: Dashboard) -> str:
    """Links to the workflow run and the commit that are shown; nothing where there is nowhere to link to."""
    source = dashboard.now.source
    if not (_REPOSITORY.fullmatch(source.repository) and _SHA.fullmatch(source.commit)):
        return ""
    pages = f"{dashboard.options.server}/{source.repository}"
    commit = f"[{source.commit[:9]}]({pages}/commit/{source.commit})"
    run = f"[run {source.run_id}]({pages}/actions/runs/{source.run_id}), " if _NUMBER.fullmatch(source.run_id) else ""
    return f"This is {run}commit {commit}, {dashboard.now.time:%Y-%m-%d %H:%M} UTC.\n\n"
