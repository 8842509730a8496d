"""pytest-benchmark's JSON, so that `pytest-benchmark compare` reads results."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median, stdev
from typing import Any

from torchperf_ci import __version__
from torchperf_ci.core.records import METRICS, Record, Testing
from torchperf_ci.formats.exports.values import as_json, quartiles
from torchperf_ci.formats.pytest_benchmark import OUR_VERSION, OWN_METRICS


def pytest_benchmark(records: Sequence[Record]) -> bytes:
    """A benchmark per passing performance record with times: seconds of one compiled iteration, all raw rounds.

    The group is the suite; mode, device, dtype and compiler are parameters, so that `--group-by param:compiler` works.
    """
    timed = [(record, times) for record in records if (times := _times(record))]
    newest = max((record for record, _ in timed), key=lambda record: record.source.time, default=None)
    return as_json(
        {
            "machine_info": _machine(newest) if newest else {},
            "commit_info": _commit(newest) if newest else {},
            "benchmarks": [_benchmark(record, times) for record, times in timed],
            "datetime": newest.source.time if newest else "",
            "version": f"{OUR_VERSION} {__version__}",
        }
    )


def _times(record: Record) -> tuple[float, ...]:
    if record.testing is not Testing.PERFORMANCE or not record.status.is_pass:
        return ()
    if times := record.samples.get("compiled"):
        return times
    latency = record.metrics.get("abs_latency")
    return () if latency is None else (latency / 1000,)


def _benchmark(record: Record, times: Sequence[float]) -> dict[str, Any]:
    case = record.case
    params = {"compiler": case.compiler, "mode": case.mode.value, "dtype": case.dtype, "device": case.device}
    param = "-".join(params.values())
    name = f"{case.model}[{param}]"
    return {
        "group": case.suite,
        "name": name,
        "fullname": f"{case.suite}::{name}",
        "params": params,
        "param": param,
        "extra_info": {"batch_size": record.batch_size, **record.metrics, **_definitions(record)},
        "options": {},
        "stats": _stats(times) if record.samples.get("compiled") else {"median": times[0]},
    }


def _definitions(record: Record) -> dict[str, Any]:
    """Units and directions of what is no metric of ours, for our own `ingest`."""
    own = [metric for metric in record.defined_metrics() if metric.name not in METRICS]
    if not own:
        return {}
    return {OWN_METRICS: {m.name: {"unit": m.unit, "direction": m.direction.value} for m in own}}


def _stats(times: Sequence[float]) -> dict[str, Any]:
    first, third = quartiles(times)
    mean, spread = fmean(times), stdev(times) if len(times) > 1 else 0.0  # as pytest-benchmark does
    low, high = first - 1.5 * (third - first), third + 1.5 * (third - first)
    beyond_stddev = sum(abs(time - mean) > spread for time in times)
    beyond_fences = sum(not low <= time <= high for time in times)
    total = sum(times)
    return {
        "min": min(times),
        "max": max(times),
        "mean": mean,
        "stddev": spread,
        "rounds": len(times),
        "median": median(times),
        "iqr": third - first,
        "q1": first,
        "q3": third,
        "iqr_outliers": beyond_fences,
        "stddev_outliers": beyond_stddev,
        "outliers": f"{beyond_stddev};{beyond_fences}",
        "ld15iqr": min(time for time in times if time >= low),
        "hd15iqr": max(time for time in times if time <= high),
        "ops": len(times) / total if total else 0,
        "total": total,
        "data": list(times),
        "iterations": 1,
    }


def _machine(record: Record) -> dict[str, Any]:
    environment = record.environment
    return {
        "node": environment.host,
        "processor": environment.cpu,
        "machine": "",
        "python_version": environment.python,
        "release": environment.kernel,
        "cpu": {"brand_raw": environment.cpu, "count": environment.cpu_count},
        "gpu": environment.gpu,
        "pytorch_version": environment.torch,
    }


def _commit(record: Record) -> dict[str, Any]:
    source = record.source
    return {
        "id": source.commit or "unversioned",
        "time": None,
        "dirty": False,
        "project": source.repository,
        "branch": source.branch or "(unknown)",
    }
