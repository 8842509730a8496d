"""Google Benchmark's JSON (`--benchmark_out_format=json`) as records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath, PureWindowsPath
from statistics import median
from typing import Any

import msgspec

from torchperf_ci.core.records import (
    METRICS,
    Case,
    Direction,
    Environment,
    Metric,
    Source,
    Status,
    foreign_metric,
    own_metric,
)
from torchperf_ci.formats.model import (
    Clock,
    Duration,
    Imported,
    ImportRequest,
    InputProblem,
    RecordCollector,
    as_object,
    convert,
    count_in,
    finite,
    parse,
    text_in,
)

_UNITS: Mapping[str, float] = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_RATES: Mapping[str, Metric] = {
    name: own_metric(name, unit=unit, direction=Direction.HIGHER)
    for name, unit in (("items_per_second", "items/s"), ("bytes_per_second", "bytes/s"))
}
_OLD_AGGREGATE = re.compile(r"^(?P<name>.+)_(?P<aggregate>mean|median|stddev|cv|BigO|RMS)$")
_TIMELESS = frozenset({"BigO", "RMS", "cv"})


class _File(msgspec.Struct, frozen=True):
    benchmarks: list[Any]
    context: dict[str, Any] = {}


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the file: a repetition, or an aggregate of them. Which of its times is a time is seen later."""

    name: str
    run_name: str = ""
    run_type: str = ""
    aggregate_name: str = ""
    error_occurred: bool = False
    error_message: str = "no message"
    skipped: bool = False
    skip_message: str = "no message"
    real_time: Any = None
    cpu_time: Any = None
    time_unit: str = "ns"


_NO_COUNTERS = frozenset(_Entry.__struct_fields__) | {
    "aggregate_unit",
    "big_o",
    "complexity_n",
    "cpu_coefficient",
    "family_index",
    "iterations",
    "label",
    "per_family_instance_index",
    "real_coefficient",
    "repetition_index",
    "repetitions",
    "rms",
    "threads",
}
"""The fields of an entry beside the benchmark's own counters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repetition:
    """An entry, understood. `seconds` is of one iteration, None for an entry that has no time."""

    aggregate: str
    seconds: float | None
    entry: _Entry
    counters: Mapping[str, float]


def import_google_benchmark(content: bytes, request: ImportRequest, *, file: str) -> Imported:
    """Make a record of every benchmark, its repetitions as raw rounds; its median or mean where only aggregates were
    written.

    The suite is the executable, the model the benchmark's name with its arguments. Raises `InputProblem` naming the
    line or the benchmarks that cannot be used.
    """
    whole = convert(parse(content, file=file), _File, where=f"{file}: not a file of Google Benchmark")
    context = whole.context
    environment = Environment(
        host=text_in(context, "host_name"),
        cpu_count=count_in(context, "num_cpus"),
        cpu_mhz=round(finite(context.get("mhz_per_cpu")) or 0),
    )
    # Without an offset the date is local time: https://github.com/google/benchmark/blob/main/src/timers.cc
    source = request.source_of(commit="", branch="", time=text_in(context, "date"))
    executable = text_in(context, "executable")
    path = PureWindowsPath(executable) if "\\" in executable else PurePath(executable)
    suite = re.sub(r"\.(exe|json)$", "", path.name) or "google-benchmark"
    entry_names = [text_in(as_object(raw), "name") for raw in whole.benchmarks]
    names = set(entry_names)
    groups: dict[str, list[_Repetition]] = {}
    problems: list[str] = []
    for place, (raw, entry_name) in enumerate(zip(whole.benchmarks, entry_names, strict=True)):
        try:
            where = f"{file}: benchmarks[{place}] ({entry_name})"
            name, repetition = _read_entry(raw, names, request.clock, where=where)
            groups.setdefault(name, []).append(repetition)
        except InputProblem as error:
            problems += error.problems
    if problems:
        raise InputProblem(problems)
    collector = RecordCollector()
    for name, repetitions in groups.items():
        _collect(collector, request.case(suite=suite, model=name), repetitions, environment, source)
    warnings = []
    if text_in(context, "library_build_type") == "debug":
        warnings.append("Google Benchmark itself was built without optimisation; times may be too long")
    if context.get("cpu_scaling_enabled") is True:
        warnings.append("CPU frequency scaling was on; times may vary with it")
    return replace(collector.imported(), warnings=tuple(warnings))


def _read_entry(raw: Mapping[str, Any], names: set[str], clock: Clock, *, where: str) -> tuple[str, _Repetition]:
    """Read an entry and the name of its benchmark. `names`: those of all entries. Raises `InputProblem`."""
    entry = convert(raw, _Entry, where=where)
    if not entry.name:
        raise InputProblem([f"{where}: 'name' is empty"])
    name, aggregate = entry.name, entry.aggregate_name if entry.run_type == "aggregate" else ""
    old = None if entry.run_type else _OLD_AGGREGATE.match(name)
    # Versions without `run_type` always write these three together.
    if old and (old["name"] in names or {f"{old['name']}_{each}" for each in ("mean", "median", "stddev")} <= names):
        name, aggregate = old["name"], old["aggregate"]
    if entry.time_unit not in _UNITS:
        raise InputProblem([f"{where}: time_unit is {entry.time_unit[:40]!r}, expected one of: {', '.join(_UNITS)}"])
    seconds = None
    if not (entry.error_occurred or entry.skipped or aggregate in _TIMELESS):
        time = entry.real_time if clock is Clock.REAL else entry.cpu_time
        seconds = convert(time, Duration, where=f"{where}: {clock}_time") * _UNITS[entry.time_unit]
    counters = {
        counter: number
        for counter, value in raw.items()
        if counter not in _NO_COUNTERS and (number := finite(value)) is not None
    }
    return entry.run_name or name, _Repetition(aggregate=aggregate, seconds=seconds, entry=entry, counters=counters)


def _collect(
    collector: RecordCollector,
    case: Case,
    repetitions: Sequence[_Repetition],
    environment: Environment,
    source: Source,
) -> None:
    """Take a benchmark; what is none but a fit over several of them has no time, and is left aside."""
    for entry in (each.entry for each in repetitions):
        if entry.error_occurred or entry.skipped:
            status = Status.FAIL_TO_RUN if entry.error_occurred else Status.PASS_DUE_TO_SKIP
            reason = (entry.error_message if entry.error_occurred else entry.skip_message) or "no message"
            collector.add(case, source, environment, status=status, reason=reason)
            return
    times = [each.seconds for each in repetitions if not each.aggregate and each.seconds is not None]
    aggregates = {each.aggregate: each.seconds for each in repetitions if each.aggregate and each.seconds is not None}
    middle = median(times) if times else aggregates.get("median", aggregates.get("mean"))
    if middle is None:
        return
    collector.add(case, source, environment, metric=METRICS["abs_latency"], value=middle * 1000, samples=times)
    kept = "" if times else "median" if "median" in aggregates else "mean"
    counters = [each.counters for each in repetitions if each.aggregate == kept]
    for name in dict.fromkeys(name for each in counters for name in each):
        metric = _RATES.get(name) or foreign_metric(name)
        value = median(each[name] for each in counters if name in each)
        collector.add(case, source, environment, metric=metric, value=value)
