"""The measured values in records, one at a time, with what is known of their spread."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from torchperf_ci.core.records import Metric, Record, Testing
from torchperf_ci.formats.case_names import name_of_case

_BOUNDS: Mapping[str, tuple[str, str]] = MappingProxyType({"speedup": ("speedup_low", "speedup_high")})
"""Metrics whose interval is recorded as two other metrics."""

_TIMES: Mapping[str, str] = MappingProxyType({"abs_latency": "compiled", "eager_latency": "eager"})
"""Metrics in milliseconds whose raw times are recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A metric of a record, in the metric's unit. `low` and `high` are its interval, or the quartiles of its times."""

    record: Record
    metric: Metric
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def benchmark(self) -> str:
        return name_of_case(self.record.case)


def performance_values(records: Sequence[Record]) -> Iterator[Value]:
    """Every metric of the passing performance records; the ends of an interval are no values of their own."""
    ends = {name for pair in _BOUNDS.values() for name in pair}
    for record in records:
        if record.testing is Testing.PERFORMANCE and record.status.is_pass:
            for metric in record.defined_metrics():
                if metric.name not in ends:
                    low, high = _spread(record, metric.name)
                    yield Value(record=record, metric=metric, value=record.metrics[metric.name], low=low, high=high)


def key_of(record: Record) -> dict[str, str]:
    """What tells a record from the others, as text by name: the fields of its case, and the testing."""
    case = {name: str(value) for name, value in asdict(record.case).items()}
    return {**case, "testing": record.testing.value}


def quartiles(times: Sequence[float]) -> tuple[float, float]:
    """The first and the third, by Hazen's rule, which is the one of pytest-benchmark."""
    first, third = np.quantile(times, [0.25, 0.75], method="hazen")
    return float(first), float(third)


def as_json(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """JSON that people can read, ended by a line end."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _spread(record: Record, name: str) -> tuple[float | None, float | None]:
    if name in _BOUNDS:
        low, high = _BOUNDS[name]
        return record.metrics.get(low), record.metrics.get(high)
    if times := record.samples.get(_TIMES.get(name, "")):
        first, third = quartiles(times)
        return first * 1000, third * 1000
    return None, None
