"""OpenMetrics text, for Prometheus and what reads its formats (prometheus.io/docs/specs/om/open_metrics_spec)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from torchperf_ci.core.records import COUNTERS, METRICS, Metric, Record
from torchperf_ci.formats.exports.values import key_of

BASE_UNITS: Mapping[str, tuple[str, float]] = MappingProxyType(
    {"ms": ("seconds", 1e-3), "s": ("seconds", 1.0), "bytes": ("bytes", 1.0), "ratio": ("ratio", 1.0)}
)
"""A metric's unit as the base unit that the specification asks for, and the factor."""

_PREFIX = "torchperf"

OWN = "torchperf_own"
"""The family of the metrics that are not ours."""


def openmetrics(records: Sequence[Record]) -> bytes:
    """A gauge per metric and counter, with the case and the testing as labels; `torchperf_pass` has every record."""
    lines = [*_passes(records)]
    for metric in METRICS.values():
        lines.extend(_gauge(metric, records))
    lines.extend(_own_gauges(records))
    for name in COUNTERS:
        lines.extend(_counter(name, records))
    return "\n".join([*lines, "# EOF", ""]).encode("utf-8", errors="replace")


def _passes(records: Sequence[Record]) -> Iterator[str]:
    name = f"{_PREFIX}_pass"
    yield from _head(name, "1 where the testing passed, else 0; the label status says how it ended")
    for record in records:
        yield f"{name}{_labels(record, status=record.status.value)} {int(record.status.is_pass)}"


def _gauge(metric: Metric, records: Sequence[Record]) -> Iterator[str]:
    measured = [record for record in records if metric.name in record.metrics]
    unit, factor = BASE_UNITS[metric.unit]
    name = f"{_PREFIX}_{metric.name}".removesuffix(f"_{unit}") + f"_{unit}"
    if measured:
        title = metric.title.partition(" (")[0]  # the title's unit need not be this one
        yield from _head(name, f"{title}; {metric.direction} is better", unit)
    for record in measured:
        yield f"{name}{_labels(record)} {record.metrics[metric.name] * factor!r}"


def _own_gauges(records: Sequence[Record]) -> Iterator[str]:
    """One family for all metrics of other tools: they may have any name and unit, for which the format has no words."""
    own = [(record, metric) for record in records for metric in record.defined_metrics() if metric.name not in METRICS]
    if own:
        yield from _head(OWN, "Metrics of other tools; the labels metric, unit and direction define them")
    for record, metric in own:
        more = {"metric": metric.name, "unit": metric.unit, "direction": metric.direction.value}
        yield f"{OWN}{_labels(record, **more)} {record.metrics[metric.name]!r}"


def _counter(counter: str, records: Sequence[Record]) -> Iterator[str]:
    counted = [record for record in records if counter in record.counters]
    name = f"{_PREFIX}_{counter}"
    if counted:
        yield from _head(name, f"Dynamo's counter {counter}")
    for record in counted:
        yield f"{name}{_labels(record)} {record.counters[counter]}"


def _head(name: str, text: str, unit: str = "") -> Iterator[str]:
    yield f"# TYPE {name} gauge"
    if unit:
        yield f"# UNIT {name} {unit}"
    yield f"# HELP {name} {_escaped(text)}"


def _labels(record: Record, **more: str) -> str:
    labels = {**key_of(record), **more}
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
