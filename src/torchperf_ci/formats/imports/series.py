"""Formats that are no more than named values: github-action-benchmark, Bencher, fastrnns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from torchperf_ci.core.records import METRICS, Case, Direction, Metric, Source, own_metric
from torchperf_ci.formats.case_names import case_of_name, unquoted
from torchperf_ci.formats.foreign import Defaults, foreign_metric
from torchperf_ci.formats.imports import Gathered, Imported
from torchperf_ci.formats.inputs import InputProblem, moment, number_in, object_in, text_in

DATA_JS = "window.BENCHMARK_DATA"

_BIGGER = frozenset({"benchmarkjs", "pytest", "customBiggerIsBetter"})
_SMALLER = frozenset(
    {
        "benchmarkdotnet",
        "benchmarkluau",
        "cargo",
        "catch2",
        "customSmallerIsBetter",
        "go",
        "googlecpp",
        "jmh",
        "julia",
    }
)
"""The tools of github-action-benchmark, by which values it calls better."""

_RATE = re.compile(r"[^/]+/\s*(s|sec|seconds?|ms|us|ns|min)", re.IGNORECASE)


def read_data_js(text: str, defaults: Defaults, *, file: str) -> Imported:
    """Read the history that github-action-benchmark keeps on a branch: every suite, every commit.

    Raises `InputProblem` when it is none.
    """
    start = text.find("{")
    try:
        raw, _ = json.JSONDecoder().raw_decode(text, max(start, 0))
    except (ValueError, RecursionError) as error:
        raise InputProblem([f"{file}: not what github-action-benchmark writes: {error}"]) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("entries"), dict):
        raise InputProblem([f"{file}: has no 'entries', which the data.js of github-action-benchmark has"])
    gathered = Gathered()
    repository = re.sub(r"^\w+://[^/]+/|\.git$|/$", "", text_in(raw, "repoUrl"))
    for suite, entries in raw["entries"].items():
        for place, entry in enumerate(entries if isinstance(entries, list) else []):
            where = f"{file}: {suite}[{place}]"
            if not isinstance(entry, dict) or not isinstance(entry.get("benches"), list):
                gathered.left_out.append(f"{where}: has no benches")
                continue
            commit = object_in(entry, "commit")
            time = _milliseconds(entry.get("date")) or moment(text_in(commit, "timestamp"))
            if time is None:
                gathered.left_out.append(f"{where}: has no date")
                continue
            source = Source(
                repository=repository or defaults.source.repository,
                commit=defaults.commit or text_in(commit, "id"),
                branch=defaults.branch,
                time=time.isoformat(),
            )
            tool = text_in(entry, "tool")
            _entries(gathered, entry["benches"], defaults, source, suite=suite, tool=tool, where=where)
    return gathered.imported()


def read_custom(raw: list[Any], defaults: Defaults, source: Source, *, file: str, tool: str) -> Imported:
    """Read the list of names, values and units that github-action-benchmark's custom tools take."""
    gathered = Gathered()
    _entries(gathered, raw, defaults, source, suite="benchmarks", tool=tool, where=file)
    return gathered.imported()


def read_bencher(raw: Mapping[str, Any], defaults: Defaults, source: Source, *, file: str) -> Imported:
    """Read Bencher Metric Format. Its measures do not say which way they get better, but for Bencher's own two."""
    gathered = Gathered()
    for name, measures in raw.items():
        ours = case_of_name(name)
        for measure, content in measures.items() if isinstance(measures, dict) else ():
            where = f"{file}: {name}: {measure}"
            value = number_in(content, "value") if isinstance(content, dict) else None
            if value is None:
                gathered.left_out.append(f"{where}: has no value")
                continue
            own_name = measure.replace("-", "_")
            case = ours or defaults.case(suite="bencher", model=name)
            if not (ours and own_name in METRICS):
                metric = own_metric(measure) if ours else _measure(measure)
                gathered.add(case, source, metric=metric, value=value, where=where)
                continue
            gathered.add(case, source, metric=METRICS[own_name], value=value, where=where)
            if own_name == "speedup":
                for end, bound in (("speedup_low", "lower_value"), ("speedup_high", "upper_value")):
                    if (number := number_in(content, bound)) is not None:
                        gathered.add(case, source, metric=METRICS[end], value=number, where=where)
    return gathered.imported()


def read_fastrnns(raw: Mapping[str, Any], defaults: Defaults, source: Source, *, file: str) -> Imported:
    """Read what `fastrnns --print-json oss` prints: mean milliseconds by group and variant."""
    gathered = Gathered()
    for group, variants in raw.items():
        for name in variants if isinstance(variants, dict) else ():
            value = number_in(variants, name)
            if value is None:
                gathered.left_out.append(f"{file}: {group}: {name} has no time")
                continue
            case = defaults.case(suite="fastrnns", model=f"{group}/{name}")
            gathered.add(case, source, metric=METRICS["abs_latency"], value=value, where=file)
    return gathered.imported()


def _entries(
    gathered: Gathered, raw: list[Any], defaults: Defaults, source: Source, *, suite: str, tool: str, where: str
) -> None:
    units: dict[str, str] = {}
    for place, entry in enumerate(raw):
        value = number_in(entry, "value") if isinstance(entry, dict) else None
        name = text_in(entry, "name") if isinstance(entry, dict) else ""
        if value is None or not name:
            gathered.left_out.append(f"{where}: entry {place} has no {'value' if name else 'name'}")
            continue
        unit = text_in(entry, "unit")
        case, metric = _ours(name, unit, tool) or (None, None)
        if case is None or metric is None:
            if units.setdefault(name, unit) != unit:
                name = f"{name} ({unit})"  # some tools measure several things under one name
            case = defaults.case(suite=suite, model=name)
            metric = own_metric("value", unit=unit, direction=_direction(tool, unit))
        gathered.add(case, source, metric=metric, value=value, where=f"{where}: entry {place}")


def _ours(name: str, unit: str, tool: str) -> tuple[Case, Metric] | None:
    """The case and the metric of an entry of our own export; None for others."""
    benchmark, _, metric = name.rpartition(" ")
    case = case_of_name(benchmark)
    if case is None:
        return None
    if metric in METRICS and METRICS[metric].unit == unit:
        return case, METRICS[metric]
    return case, own_metric(unquoted(metric), unit=unit, direction=_direction(tool, unit))


def _direction(tool: str, unit: str) -> Direction:
    if tool in {"go", "jmh"} and _RATE.fullmatch(unit):
        return Direction.HIGHER  # these report throughputs as well
    if tool in _BIGGER:
        return Direction.HIGHER
    return Direction.LOWER if tool in _SMALLER else Direction.UNKNOWN


def _measure(name: str) -> Metric:
    match name:
        case "latency":
            return own_metric(name, unit="ns", direction=Direction.LOWER)
        case "throughput":
            return own_metric(name, unit="operations/s", direction=Direction.HIGHER)
        case _:
            return foreign_metric(name)


def _milliseconds(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(value / 1000, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None
