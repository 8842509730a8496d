"""Records in the formats that other tools read. Units and directions are those of `records.METRICS`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from torchperf_ci.core.records import Direction, Record
from torchperf_ci.formats.model import ExportFormat
from torchperf_ci.formats.named_values import as_bencher, as_github_action_benchmark
from torchperf_ci.formats.openmetrics import as_openmetrics
from torchperf_ci.formats.pytest_benchmark import as_pytest_benchmark
from torchperf_ci.formats.tables import as_csv, as_parquet


def export_records(records: Sequence[Record], form: ExportFormat, *, direction: Direction = Direction.LOWER) -> bytes:
    """Make the content of the file. `direction` chooses the metrics for github-action-benchmark, whose files hold one.

    Raises `UsageProblem` when pyarrow is missing for Parquet.
    """
    value: Any
    match form:
        case ExportFormat.CSV:
            return as_csv(records)
        case ExportFormat.PARQUET:
            return as_parquet(records)
        case ExportFormat.OPENMETRICS:
            return as_openmetrics(records)
        case ExportFormat.GITHUB_ACTION_BENCHMARK:
            value = as_github_action_benchmark(records, direction)
        case ExportFormat.BENCHER:
            value = as_bencher(records)
        case ExportFormat.PYTEST_BENCHMARK:
            value = as_pytest_benchmark(records)
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
