"""Formats that are no more than named values: github-action-benchmark and Bencher, read and written, and fastrnns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from torchperf_ci.core.records import (
    METRICS,
    Direction,
    Metric,
    Record,
    Source,
    Status,
    Testing,
    foreign_metric,
    own_metric,
)
from torchperf_ci.core.statistics import quartiles
from torchperf_ci.core.text import cut_subject, format_digits
from torchperf_ci.formats.model import (
    Duration,
    Finite,
    Imported,
    ImportRequest,
    InputProblem,
    RecordCollector,
    case_of_name,
    convert,
    moment,
    moment_of_seconds,
    name_of_case,
    parse,
    quote,
    unquote,
)

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

_BOUNDS: Mapping[str, tuple[str, str]] = {"speedup": ("speedup_low", "speedup_high")}
"""Metrics whose interval is recorded as two other metrics."""

_TIMES: Mapping[str, str] = {"abs_latency": "compiled", "eager_latency": "eager"}
"""Metrics in milliseconds whose raw times are recorded."""


class _Value(msgspec.Struct, frozen=True):
    name: str
    value: Finite
    unit: str = ""


class _Commit(msgspec.Struct, frozen=True):
    id: str = ""
    timestamp: str | None = None
    message: str | None = None


class _HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One commit of a suite's history; `date` is in milliseconds since 1970."""

    benches: list[Any]
    commit: _Commit = _Commit()
    date: Finite = 0
    tool: str = ""


class _Data(msgspec.Struct, frozen=True):
    entries: dict[str, list[Any]]
    repoUrl: str = ""  # noqa: N815 - the file's name for it


def import_data_js(content: bytes, request: ImportRequest, *, file: str) -> Imported:
    """Read the history that github-action-benchmark keeps on a branch: every suite, every commit.

    Raises `InputProblem` when it is none.
    """
    text = content.decode("utf-8-sig", errors="replace")
    try:
        raw, _ = json.JSONDecoder().raw_decode(text, max(text.find("{"), 0))
    except (ValueError, RecursionError) as error:
        raise InputProblem([f"{file}: not what github-action-benchmark writes: {error}"]) from error
    data = convert(raw, _Data, where=f"{file}: not the data.js of github-action-benchmark")
    repository = re.sub(r"^\w+://[^/]+/|\.git$|/$", "", data.repoUrl) or request.source.repository
    collector = RecordCollector()
    for suite, entries in data.entries.items():
        for place, raw_entry in enumerate(entries):
            where = f"{file}: {suite}[{place}]"
            with collector.skip_faults():
                entry = convert(raw_entry, _HistoryEntry, where=where)
                when = moment_of_seconds(entry.date / 1000) if entry.date else moment(entry.commit.timestamp or "")
                if when is None:
                    raise InputProblem([f"{where}: has no date"])
                source = Source(
                    repository=repository,
                    commit=request.commit or entry.commit.id,
                    branch=request.branch,
                    time=when.isoformat(),
                    subject="" if request.commit else cut_subject(entry.commit.message or ""),
                )
                _collect(collector, entry.benches, request, source, suite=suite, tool=entry.tool, where=where)
    return collector.imported()


def import_custom(content: bytes, request: ImportRequest, *, file: str) -> Imported:
    """Read the list of names, values and units that github-action-benchmark's custom tools take."""
    where = f"{file}: not a list of github-action-benchmark"
    values = convert(parse(content, file=file), list[Any], where=where)
    collector = RecordCollector()
    _collect(collector, values, request, request.usual_source, suite="benchmarks", tool=request.tool, where=file)
    return collector.imported()


def _collect(
    collector: RecordCollector,
    values: Sequence[Any],
    request: ImportRequest,
    source: Source,
    *,
    suite: str,
    tool: str,
    where: str,
) -> None:
    units: dict[str, str] = {}
    for place, raw in enumerate(values):
        where_value = f"{where}: entry {place}"
        with collector.skip_faults():
            value = convert(raw, _Value, where=where_value, strict=False)  # scripts quote numbers
            direction = Direction.LOWER if tool in _SMALLER else Direction.UNKNOWN
            # Go and JMH report rates as well.
            if tool in _BIGGER or (tool in {"go", "jmh"} and _RATE.fullmatch(value.unit)):
                direction = Direction.HIGHER
            benchmark, _, name = value.name.rpartition(" ")
            case = case_of_name(benchmark)
            if case is None:  # not of our own export
                is_first = units.setdefault(value.name, value.unit) == value.unit
                # Some tools measure several things under one name.
                case = request.case(suite=suite, model=value.name if is_first else f"{value.name} ({value.unit})")
                metric = own_metric("value", unit=value.unit, direction=direction)
            elif name in METRICS and METRICS[name].unit == value.unit:
                metric = METRICS[name]
            else:
                metric = own_metric(unquote(name), unit=value.unit, direction=direction)
            collector.add(case, source, metric=metric, value=value.value, where=where_value)


class _Measure(msgspec.Struct, frozen=True):
    value: Finite
    lower_value: Finite | None = None
    upper_value: Finite | None = None


_BENCHER_MEASURES = {
    "latency": own_metric("latency", unit="ns", direction=Direction.LOWER),
    "throughput": own_metric("throughput", unit="operations/s", direction=Direction.HIGHER),
}


def import_bencher(content: bytes, request: ImportRequest, *, file: str) -> Imported:
    """Read Bencher Metric Format. Its measures do not say which way they get better, but for Bencher's own two."""
    raw = convert(parse(content, file=file), dict[str, Any], where=f"{file}: not Bencher Metric Format")
    collector, source = RecordCollector(), request.usual_source
    for name, measures in raw.items():
        ours = case_of_name(name)
        for measure, raw_measure in _members(measures, collector, where=f"{file}: {name}"):
            where = f"{file}: {name}: {measure}"
            with collector.skip_faults():
                value = convert(raw_measure, _Measure, where=where)
                own_name = measure.replace("-", "_")
                case = ours or request.case(suite="bencher", model=name)
                metric = _BENCHER_MEASURES.get(measure) or foreign_metric(measure)
                if ours:
                    metric = METRICS.get(own_name) or own_metric(measure)
                collector.add(case, source, metric=metric, value=value.value, where=where)
                for end, bound in zip(_BOUNDS.get(own_name, ()), (value.lower_value, value.upper_value), strict=False):
                    if ours and bound is not None:
                        collector.add(case, source, metric=METRICS[end], value=bound, where=where)
    return collector.imported()


def _members(raw: object, collector: RecordCollector, *, where: str) -> Iterable[tuple[str, Any]]:
    """List the members of an object; what is none is left out."""
    members: dict[str, Any] = {}
    with collector.skip_faults():
        members = convert(raw, dict[str, Any], where=where)
    return members.items()


def import_fastrnns(content: bytes, request: ImportRequest, *, file: str) -> Imported:
    """Read what `fastrnns --print-json oss` prints: mean milliseconds by group and variant, null for a failure."""
    raw = convert(parse(content, file=file), dict[str, Any], where=f"{file}: not what fastrnns prints")
    collector = RecordCollector()
    for group, variants in raw.items():
        for name, value in _members(variants, collector, where=f"{file}: {group}"):
            with collector.skip_faults():
                case = request.case(suite="fastrnns", model=f"{group}/{name}")
                if value is None:
                    reason = "fastrnns could not measure it"
                    collector.add(case, request.usual_source, status=Status.FAIL_TO_RUN, reason=reason)
                    continue
                latency = convert(value, Duration, where=f"{file}: {group}: {name}")
                collector.add(case, request.usual_source, metric=METRICS["abs_latency"], value=latency, where=file)
    return collector.imported()


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredValue:
    """A metric of a record, in the metric's unit. `low` and `high` are its interval, or the quartiles of its times."""

    record: Record
    metric: Metric
    value: float
    low: float | None
    high: float | None


def _measured_values(records: Sequence[Record]) -> Iterator[MeasuredValue]:
    """Yield every metric of the passing performance records; the ends of an interval are no values of their own."""
    ends = {name for pair in _BOUNDS.values() for name in pair}
    for record in records:
        if record.testing is not Testing.PERFORMANCE or not record.status.is_pass:
            continue
        for metric in record.defined_metrics():
            low = high = None
            if metric.name in ends:
                continue
            if metric.name in _BOUNDS:
                low, high = (record.metrics.get(end) for end in _BOUNDS[metric.name])
            elif times := record.samples.get(_TIMES.get(metric.name, "")):
                low, high = (quartile * 1000 for quartile in quartiles(times))
            value = record.metrics[metric.name]
            yield MeasuredValue(record=record, metric=metric, value=value, low=low, high=high)


def as_github_action_benchmark(records: Sequence[Record], direction: Direction) -> list[dict[str, object]]:
    """List the metrics with this direction, for the tool `customBiggerIsBetter` or `customSmallerIsBetter`."""
    entries: list[dict[str, object]] = []
    for each in _measured_values(records):
        if each.metric.direction is not direction:
            continue
        environment = each.record.environment
        facts = {
            "batch size": each.record.batch_size,
            "torch": environment.torch,
            "GPU": environment.gpu,
            "CPU": environment.cpu,
            "commit": each.record.source.commit,
        }
        spread = (
            {}
            if each.low is None or each.high is None
            else {"range": f"{format_digits(each.low, 4)} … {format_digits(each.high, 4)}"}
        )
        entries.append(
            {
                "name": f"{name_of_case(each.record.case)} {quote(each.metric.name)}",
                "unit": each.metric.unit,
                "value": each.value,
                **spread,
                "extra": "\n".join(f"{name}: {value}" for name, value in facts.items() if value),
            }
        )
    return entries


def as_bencher(records: Sequence[Record]) -> dict[str, dict[str, dict[str, float]]]:
    """Write Bencher Metric Format: benchmarks, their measures (a metric's name with hyphens), values in its unit."""
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for each in _measured_values(records):
        numbers = {"value": each.value, "lower_value": each.low, "upper_value": each.high}
        measures = benchmarks.setdefault(name_of_case(each.record.case), {})
        name = each.metric.name
        measures[name.replace("_", "-") if name in METRICS else name] = {
            part: number for part, number in numbers.items() if number is not None
        }
    return benchmarks
