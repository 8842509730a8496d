"""The data of a site, as the scripts of its pages read it: a file per month and run, and per month and case.

Every file is a script that calls one function with JSON, since pages that are opened from a disk may load scripts, but
no other files. JSON is written in ASCII, so that no text in it can be anything but text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from torchperf_ci.core.frames import CaseSelection, suite_tables
from torchperf_ci.core.records import Case, Environment, Metric, Record, Testing
from torchperf_ci.core.text import count, is_repository, is_run_id, is_sha, one_line
from torchperf_ci.dashboard.words import identify_case, identify_run
from torchperf_ci.history.runs import HistoryRun
from torchperf_ci.history.series import ENDS, RunInfo, Series, make_run_info
from torchperf_ci.site.months import MonthRuns

REASON_LIMIT = 400
"""Characters of a failure's reason that are shown."""

CASE_FIELDS = ("suite", "model", "mode", "device", "dtype", "compiler")


def encode_data(name: str, data: object) -> bytes:
    """Encode a file of data below its name: the same bytes for the same data."""
    body = json.dumps(data, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))
    # In JSON this is a name like others. In a script it would be the object's prototype, but for the brackets.
    body = body.replace('"__proto__":', '["__proto__"]:')
    return f"torchperf.add({json.dumps(name)},{body});\n".encode("ascii")


def encode_month(month: str, shown: MonthRuns) -> dict[str, bytes]:
    """Encode the files of a month, by path below the site: its runs, and one for every run and case."""
    places = {run.key: place for place, run in enumerate(shown.runs)}
    data: dict[str, object] = {"runs": {"runs": [_describe_whole(run) for run in shown.runs], **_summarize(shown.runs)}}
    for case, of_case in group_by_case(shown.series).items():
        data[f"case-{identify_case(case)}"] = _list_points(of_case, places)
    for run in shown.runs:
        data[f"run-{identify_run(run.key)}"] = _list_results(run)
        if run.key in shown.samples:
            data[f"samples-{identify_run(run.key)}"] = {
                identify_case(case): {
                    arm: [_round(1e3 * value, 4) for value in sorted(values)] for arm, values in arms.items()
                }
                for case, arms in shown.samples[run.key].items()
            }
    return {f"data/{month}/{name}.js": encode_data(f"{month}/{name}", value) for name, value in data.items()}


def group_by_case(series: Iterable[Series]) -> dict[Case, list[Series]]:
    """Group series by their case."""
    groups: dict[Case, list[Series]] = {}
    for each in series:
        groups.setdefault(each.case, []).append(each)
    return groups


def describe_run(run: RunInfo) -> dict[str, object]:
    """Describe a run as the pages show it, with blanks in place of what cannot be part of a link on GitHub."""
    return {
        "id": identify_run(run.key),
        "key": one_line(run.key),
        "time": f"{run.time:%Y-%m-%dT%H:%M:%S}",
        "commit": one_line(run.commit),
        "branch": one_line(run.branch),
        "subject": one_line(run.subject, limit=120),
        "repository": run.repository if is_repository(run.repository) and is_sha(run.commit) else "",
        "workflow_run": run.run_id if is_run_id(run.run_id) else "",
    }


def describe_case(case: Case) -> dict[str, str]:
    """Describe a case as the pages show it."""
    return {"id": identify_case(case), **{name: one_line(str(getattr(case, name))) for name in CASE_FIELDS}}


def describe_metric(metric: Metric) -> dict[str, str]:
    """Describe a metric as the pages show it."""
    title = metric.title.removesuffix(f" ({metric.unit})") if metric.unit else metric.title
    return {"title": one_line(title), "unit": one_line(metric.unit), "direction": metric.direction.value}


def name_machine(environment: Environment) -> str:
    """Name a machine for people: its GPUs, else its CPU, else its host; blank when none is recorded."""
    if environment.gpu:
        return one_line(environment.gpu + (f" ×{environment.gpu_count}" if environment.gpu_count > 1 else ""))
    if environment.processor:
        return one_line(
            environment.processor + (f", {count(environment.cpu_count, 'CPU')}" if environment.cpu_count else "")
        )
    return one_line(environment.host)


def _describe_whole(run: HistoryRun) -> dict[str, object]:
    records = run.results.records
    machines = dict.fromkeys(name_machine(record.environment) for record in records)
    passed = sum(record.status.is_pass for record in records)
    return {
        **describe_run(make_run_info(run.key, run.time, run.source, Environment())),
        "machines": [name for name in machines if name],
        "passed": passed,
        "total": len(records),
    }


def _list_points(of_case: Sequence[Series], places: Mapping[str, int]) -> dict[str, object]:
    """List the points of every metric of a case, an element per run that tried it, and its failures.

    places: of the runs in the month, by key.
    """
    tried: dict[int, str] = {}
    for point in (point for series in of_case for point in series.points):
        if (place := places[point.run.key]) not in tried:
            tried[place] = name_machine(point.run.environment)
    order = sorted(tried)
    at = {place: number for number, place in enumerate(order)}
    machines = sorted(set(tried.values()))
    metrics: dict[str, dict[str, list[Any]]] = {}
    failures = []
    for series in of_case:
        if series.is_status:
            failures += [
                {
                    "at": at[places[point.run.key]],
                    "testing": series.metric.name.removesuffix("_status"),
                    "status": one_line(point.status),
                    "reason": one_line(point.reason, limit=REASON_LIMIT),
                    "log": one_line(point.log),
                }
                for point in series.points
                if not point.value and not point.is_confirmation
            ]
            continue
        columns: dict[str, list[Any]] = {end: [None] * len(order) for end in ("value", "low", "high")}
        again = []
        for point in series.points:
            place = at[places[point.run.key]]
            if point.is_confirmation:
                if point.value is not None:
                    again.append([place, _round(point.value)])
                continue
            for end, column in columns.items():
                column[place] = _round(getattr(point, end))
        known = {end: column for end, column in columns.items() if any(value is not None for value in column)}
        if known:
            metrics[series.metric.name] = {**known, **({"again": again} if again else {})}
    return {
        "runs": order,
        "machines": machines,
        "machine": [machines.index(tried[place]) for place in order],
        "metrics": metrics,
        "failures": failures,
    }


def _list_results(run: HistoryRun) -> dict[str, object]:
    environments: list[Environment] = []
    cases: dict[str, dict[str, Any]] = {}
    for record in run.results.records:
        if record.environment not in environments:
            environments.append(record.environment)
        of_case = cases.setdefault(identify_case(record.case), {"status": {}, "values": {}})
        of_case["status"][record.testing.value] = one_line(record.status.value)
        if record.testing is Testing.PERFORMANCE and record.status.is_pass:
            of_case["values"] = _list_values(record)
    return {"environments": [_describe_environment(each) for each in environments], "cases": cases}


def _list_values(record: Record) -> dict[str, object]:
    ends = {end for pair in ENDS.values() for end in pair}
    values: dict[str, object] = {}
    for name, value in record.metrics.items():
        if name in ends:
            continue
        interval = [_round(record.metrics.get(end)) for end in ENDS.get(name, ())]
        values[name] = [_round(value), *interval] if interval and None not in interval else _round(value)
    return values


def _describe_environment(environment: Environment) -> dict[str, object]:
    return {
        name: one_line(value) if isinstance(value, str) else value
        for name, value in asdict(environment).items()
        if value
    }


def _summarize(runs: Sequence[HistoryRun]) -> dict[str, object]:
    """Compute the summary numbers of every run, as reports have them, by the group of cases that they are about.

    All runs are judged in one table, whose models are those of all of them: a table for every run takes twenty times as
    long.
    """
    import numpy as np

    records = (
        replace(record, case=replace(record.case, model=f"{place} {record.case.model}"))
        for place, run in enumerate(runs)
        for record in run.results.records
    )
    groups: list[dict[str, str]] = []
    lines: list[tuple[int, int, list[float | None]]] = []
    for tables in suite_tables(records, CaseSelection()):
        places = np.array([int(model.partition(" ")[0]) for model in tables.models])
        for compiler in tables.compilers:
            counted, passed = (table[compiler].to_numpy(dtype=bool) for table in (tables.counted, tables.passed))
            tried = {int(model.partition(" ")[0]) for _, model, name in tables.records if name == compiler}
            values = {name: tables.values[name][compiler].to_numpy(dtype=float) for name in _SUMMARIZED}
            for place in sorted(tried):
                own = places == place
                of_passed = {name: column[own & passed] for name, column in values.items()}
                speedups, *others = (column[column > 0] for column in of_passed.values())
                total = int(counted[own].sum())
                numbers = [
                    float(np.exp(np.log(speedups.clip(min=1)).mean())) if len(speedups) else None,
                    100 * int(passed[own].sum()) / total if total else None,
                    *(float(column.mean()) if len(column) else None for column in others),
                ]
                lines.append((place, len(groups), [_round(number) for number in numbers]))
            section = tables.section
            names = {"suite": tables.suite, "mode": section.mode.value, "device": section.device}
            names |= {"dtype": section.dtype, "compiler": compiler}
            groups.append({name: one_line(value) for name, value in names.items()})
    return {"groups": groups, "trends": [[place, group, *numbers] for place, group, numbers in sorted(lines)]}


_SUMMARIZED = ("speedup", "compilation_latency", "compression_ratio")


def _round(value: float | None, digits: int = 6) -> float | None:
    """Keep so many significant digits; JSON has no word for what is not finite."""
    return float(f"{value:.{digits}g}") if value is not None and math.isfinite(value) else None
