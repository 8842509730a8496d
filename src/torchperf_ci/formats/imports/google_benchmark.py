"""Google Benchmark's JSON (`--benchmark_out_format=json`) as records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath, PureWindowsPath
from statistics import median
from typing import Any

from torchperf_ci.core.records import (
    Build,
    Case,
    Direction,
    Environment,
    Metric,
    Record,
    Source,
    Status,
    Testing,
    own_metric,
)
from torchperf_ci.formats.foreign import Defaults, Ingested, foreign_metric, timed_record
from torchperf_ci.formats.inputs import (
    InputProblem,
    count_in,
    number_in,
    object_in,
    objects_in,
    read_object,
    seconds_of,
    text_in,
)

_UNITS: Mapping[str, float] = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_NO_COUNTERS = frozenset(
    {
        "aggregate_name",
        "aggregate_unit",
        "big_o",
        "complexity_n",
        "cpu_coefficient",
        "cpu_time",
        "error_message",
        "error_occurred",
        "family_index",
        "iterations",
        "label",
        "name",
        "per_family_instance_index",
        "real_coefficient",
        "real_time",
        "repetition_index",
        "repetitions",
        "rms",
        "run_name",
        "run_type",
        "skip_message",
        "skipped",
        "threads",
        "time_unit",
    }
)
"""What stands in an entry beside the benchmark's own counters."""
_RATES: Mapping[str, Metric] = {
    name: own_metric(name, unit=unit, direction=Direction.HIGHER)
    for name, unit in (("items_per_second", "items/s"), ("bytes_per_second", "bytes/s"))
}
_OLD_AGGREGATE = re.compile(r"^(?P<name>.+)_(?P<aggregate>mean|median|stddev|cv|BigO|RMS)$")


class Clock(str, Enum):
    """Which of the two times of a run to take."""

    REAL = "real"
    CPU = "cpu"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One entry of the file: a repetition, or an aggregate of them. `seconds` is of one iteration; None where the
    entry has no time. `counters` are what the benchmark counted itself."""

    name: str
    aggregate: str
    seconds: float | None
    error: str
    skipped: str
    counters: Mapping[str, float]


def ingest_google_benchmark(content: bytes, defaults: Defaults, *, file: str, clock: Clock) -> Ingested:
    """A record per benchmark, its repetitions as raw rounds; its median or mean where only aggregates were written.

    The suite is the executable, the model the benchmark's name with its arguments. Raises `InputProblem` naming the
    line or the benchmark that cannot be used.
    """
    raw = read_object(content, file=file)
    context = object_in(raw, "context")
    environment = Environment(
        host=text_in(context, "host_name"),
        cpu_count=count_in(context, "num_cpus"),
        cpu_mhz=round(number_in(context, "mhz_per_cpu") or 0),
    )
    # Without an offset the date is local time: https://github.com/google/benchmark/blob/main/src/timers.cc
    source = defaults.source_of(commit="", branch="", time=text_in(context, "date"))
    suite = _stem(text_in(context, "executable")) or "google-benchmark"
    records = [
        record
        for name, runs in _groups(objects_in(raw, "benchmarks", file=file), file, clock).items()
        if (record := _record(defaults.case(suite=suite, model=name), runs, environment, source))
    ]
    build = Build(environment=environment, warnings=_warnings(context), time=source.time)
    return Ingested(records=tuple(records), build=build)


def _groups(raws: Sequence[Mapping[str, Any]], file: str, clock: Clock) -> dict[str, list[_Run]]:
    """The entries by benchmark, in the file's order."""
    names = {text_in(raw, "name") for raw in raws}
    groups: dict[str, list[_Run]] = {}
    problems: list[str] = []
    for at, raw in enumerate(raws):
        try:
            run = _run(raw, names, clock)
        except ValueError as error:
            problems.append(f"{file}: benchmarks[{at}] ({text_in(raw, 'name')}): {error}")
        else:
            groups.setdefault(run.name, []).append(run)
    if problems:
        raise InputProblem(problems)
    return groups


def _run(raw: Mapping[str, Any], names: set[str], clock: Clock) -> _Run:
    """Raises `ValueError` saying what is wrong."""
    if not (name := text_in(raw, "name")):
        raise ValueError("name missing")
    aggregate = text_in(raw, "aggregate_name") if raw.get("run_type") == "aggregate" else ""
    old = _OLD_AGGREGATE.match(name)
    if "run_type" not in raw and old and (old["name"] in names or _aggregates_of(old["name"]) <= names):
        name, aggregate = old["name"], old["aggregate"]
    error = text_in(raw, "error_message") or "no message" if raw.get("error_occurred") is True else ""
    skipped = text_in(raw, "skip_message") or "no message" if raw.get("skipped") is True else ""
    timeless = bool(error or skipped) or aggregate in {"BigO", "RMS", "cv"}
    return _Run(
        name=text_in(raw, "run_name") or name,
        aggregate=aggregate,
        seconds=None if timeless else _seconds(raw, f"{clock}_time"),
        error=error,
        skipped=skipped,
        counters={
            name: number for name in raw if name not in _NO_COUNTERS and (number := number_in(raw, name)) is not None
        },
    )


def _aggregates_of(name: str) -> set[str]:
    """What versions without `run_type` always write together."""
    return {f"{name}_mean", f"{name}_median", f"{name}_stddev"}


def _seconds(raw: Mapping[str, Any], name: str) -> float:
    unit = text_in(raw, "time_unit") or "ns"
    value = seconds_of(raw.get(name))
    if value is None:
        raise ValueError(f"{name} is {str(raw.get(name))[:40]!r}, expected a time")
    if unit not in _UNITS:
        raise ValueError(f"time_unit is {unit[:40]!r}, expected one of: {', '.join(_UNITS)}")
    return value * _UNITS[unit]


def _record(case: Case, runs: Sequence[_Run], environment: Environment, source: Source) -> Record | None:
    """None for what is no benchmark but a fit over several of them."""
    times = [run.seconds for run in runs if not run.aggregate and run.seconds is not None]
    aggregates = {run.aggregate: run.seconds for run in runs if run.aggregate and run.seconds is not None}
    for status, reasons in (
        (Status.FAIL_TO_RUN, [run.error for run in runs if run.error]),
        (Status.PASS_DUE_TO_SKIP, [run.skipped for run in runs if run.skipped]),
    ):
        if reasons:
            return Record(
                case=case,
                testing=Testing.PERFORMANCE,
                status=status,
                reason=reasons[0],
                environment=environment,
                source=source,
            )
    middle = median(times) if times else aggregates.get("median", aggregates.get("mean"))
    if middle is None:
        return None
    own = _counters(runs, "" if times else "median" if "median" in aggregates else "mean")
    return timed_record(case, times=times, middle=middle, environment=environment, source=source, own=own)


def _counters(runs: Sequence[_Run], aggregate: str) -> dict[Metric, float]:
    """The median of every counter over the entries of this kind, blank: repetitions."""
    taken = [run.counters for run in runs if run.aggregate == aggregate]
    return {
        _RATES.get(name) or foreign_metric(name): median(each[name] for each in taken if name in each)
        for name in dict.fromkeys(name for each in taken for name in each)
    }


def _stem(path: str) -> str:
    name = PureWindowsPath(path).name if "\\" in path else PurePath(path).name
    return re.sub(r"\.(exe|json)$", "", name)


def _warnings(context: Mapping[str, Any]) -> tuple[str, ...]:
    warnings = []
    if text_in(context, "library_build_type") == "debug":
        warnings.append("Google Benchmark itself was built without optimisation; times may be too long")
    if context.get("cpu_scaling_enabled") is True:
        warnings.append("CPU frequency scaling was on; times may vary with it")
    return tuple(warnings)
