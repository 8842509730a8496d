"""Records in the formats that other tools read. Units and directions are those of `records.METRICS`."""

from __future__ import annotations

from enum import Enum


class Format(str, Enum):
    """What records can be exported as."""

    GITHUB_ACTION_BENCHMARK = "github-action-benchmark"
    BENCHER = "bencher"
    PYTEST_BENCHMARK = "pytest-benchmark"
    OPENMETRICS = "openmetrics"
    CSV = "csv"
    PARQUET = "parquet"

    __str__ = str.__str__
