"""JSON for benchmark-action/github-action-benchmark and for Bencher."""

from __future__ import annotations

from collections.abc import Sequence

from torchperf_ci.core.records import METRICS, Direction, Record
from torchperf_ci.formats.case_names import quoted
from torchperf_ci.formats.exports.values import Value, as_json, performance_values


def github_action_benchmark(records: Sequence[Record], direction: Direction) -> bytes:
    """The file for its tool `customBiggerIsBetter` or `customSmallerIsBetter`: the metrics with this direction."""
    return as_json([_entry(value) for value in performance_values(records) if value.metric.direction is direction])


def bencher(records: Sequence[Record]) -> bytes:
    """Bencher Metric Format: benchmarks, their measures (a metric's name with hyphens), values in the metric's unit."""
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for each in performance_values(records):
        measure = {"value": each.value, "lower_value": each.low, "upper_value": each.high}
        measures = benchmarks.setdefault(each.benchmark, {})
        name = each.metric.name
        measures[name.replace("_", "-") if name in METRICS else name] = {
            part: number for part, number in measure.items() if number is not None
        }
    return as_json(benchmarks)


def _entry(each: Value) -> dict[str, object]:
    spread = {} if each.low is None or each.high is None else {"range": f"{each.low:.4g} … {each.high:.4g}"}
    return {
        "name": f"{each.benchmark} {quoted(each.metric.name)}",
        "unit": each.metric.unit,
        "value": each.value,
        **spread,
        "extra": _extra(each.record),
    }


def _extra(record: Record) -> str:
    environment = record.environment
    facts = {
        "batch size": record.batch_size,
        "torch": environment.torch,
        "GPU": environment.gpu,
        "CPU": environment.cpu,
        "commit": record.source.commit,
    }
    return "\n".join(f"{name}: {value}" for name, value in facts.items() if value)
