"""Chooses the exporter of a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from torchperf_ci.core.records import Direction, Record
from torchperf_ci.formats.exports import Format
from torchperf_ci.formats.exports.dashboards import bencher, github_action_benchmark
from torchperf_ci.formats.exports.openmetrics import openmetrics
from torchperf_ci.formats.exports.pytest_benchmark import pytest_benchmark
from torchperf_ci.formats.exports.tidy import csv_table, parquet_table

_EXPORTERS: Mapping[Format, Callable[[Sequence[Record]], bytes]] = MappingProxyType(
    {
        Format.BENCHER: bencher,
        Format.PYTEST_BENCHMARK: pytest_benchmark,
        Format.OPENMETRICS: openmetrics,
        Format.CSV: csv_table,
        Format.PARQUET: parquet_table,
    }
)


def export_records(records: Sequence[Record], form: Format, *, direction: Direction = Direction.LOWER) -> bytes:
    """The content of the file. `direction` chooses the metrics for github-action-benchmark, whose files hold one."""
    if form is Format.GITHUB_ACTION_BENCHMARK:
        return github_action_benchmark(records, direction)
    return _EXPORTERS[form](records)
