"""The columns of a history's Parquet files: PyTorch's benchmark record, flattened. A row is one metric of one record.

kind tells rows apart:
    `status`   one per record; value is 1 for a pass, else 0. Here are reason, log, parameters, seconds, graph_breaks,
               and in `extra`, as JSON, what few records say: remarks, not_compiled, compile_scope.
    `metric`   a number by its name, in `unit`; `direction` says which way it gets better (`unknown` where another
               tool does not say it), with the raw times it comes from, in seconds, in samples;
               times that no metric comes from have a row of their own, without a value.
    `counter`  a number by a name of `COUNTERS`.
    `build`    one per build of the run, as JSON in `extra`; its columns of the case are blank.

Text that is not known is blank and numbers that are not known are 0, so that only value and time can be null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from types import MappingProxyType

from torchperf_ci.core.records import Environment


class Kind(str, Enum):
    """What a row holds."""

    STATUS = "status"
    METRIC = "metric"
    COUNTER = "counter"
    BUILD = "build"

    __str__ = str.__str__


RUN_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "name": "text",
        "run_key": "text",
        "run_time": "time",
        "repo": "text",
        "sha": "text",
        "branch": "text",
        "workflow": "text",
        "run": "text",
        "attempt": "int",
        "shard": "text",
        "time": "time",
        "part": "text",
        "record": "int",
    }
)
"""Where a row comes from. `part` names the file it was first written to, `record` counts the records in that."""

CASE_COLUMNS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(("suite", "model", "mode", "device", "dtype", "compiler", "testing"), "text")
)
"""What was measured: with name and run_key the identity of a record over all attempts."""

VALUE_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "kind": "text",
        "metric": "text",
        "value": "number",
        "samples": "numbers",
        "status": "text",
        "batch_size": "int",
        "reason": "text",
        "log": "text",
        "parameters": "int",
        "seconds": "number",
        "graph_breaks": "breaks",
        "extra": "text",
        "unit": "text",
        "direction": "text",
    }
)

ENVIRONMENT_COLUMNS: Mapping[str, str] = MappingProxyType(
    {item.name: "int" if item.type == "int" else "text" for item in fields(Environment)}
)

COLUMNS: Mapping[str, str] = MappingProxyType({**RUN_COLUMNS, **CASE_COLUMNS, **VALUE_COLUMNS, **ENVIRONMENT_COLUMNS})
"""Every column and its type, in the order of the file."""

ADDED: Mapping[str, str] = MappingProxyType(
    {"unit": "''", "direction": "''", "hip": "''", "gpu_uuid": "''", "cpu_mhz": "0", "world": "1"}
)
"""Columns that files of earlier versions lack, and what stands for them there, in SQL."""

NULLABLE = frozenset({"value", "time"})
"""A number that was not measured, and a time that is not known."""

SERIES: Mapping[str, str] = MappingProxyType(
    {"eager_latency": "eager", "abs_latency": "compiled", "slow_share": "probe"}
)
"""Which of a record's samples belong to which metric; other samples stand under their own names."""
