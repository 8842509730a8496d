"""Tidy tables: a row per record and measured value, every column one thing."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torchperf_ci.core.errors import require
from torchperf_ci.core.records import COUNTERS, Record
from torchperf_ci.core.text import csv_cell, one_line
from torchperf_ci.formats.exports.values import key_of

COLUMNS: Mapping[str, type] = MappingProxyType(
    {
        "suite": str,
        "model": str,
        "mode": str,
        "device": str,
        "dtype": str,
        "compiler": str,
        "testing": str,
        "status": str,
        "reason": str,
        "batch_size": int,
        "metric": str,
        "value": float,
        "unit": str,
        "direction": str,
        "repository": str,
        "commit": str,
        "branch": str,
        "run_id": str,
        "attempt": int,
        "shard": str,
        "time": str,
        "host": str,
        "cpu": str,
        "gpu": str,
        "torch": str,
        "world": int,
    }
)
"""The columns and their types. `value` is empty, and `metric` too, in the one row of a record without numbers."""

Row = dict[str, Any]

_BREAK = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def csv_table(records: Sequence[Record]) -> bytes:
    """A CSV file with a header and a line per row, whatever the names in it hold.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in _rows(records):
        writer.writerow([_cell(row[name]) for name in COLUMNS])
    return stream.getvalue().encode("utf-8", errors="replace")


def parquet_table(records: Sequence[Record]) -> bytes:
    """A Parquet file. Raises `UsageProblem` when pyarrow is not installed."""
    require("pyarrow", extra="history", purpose="writing Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([_clean(row) for row in _rows(records)], schema=schema), sink)
    return sink.getvalue()


def _rows(records: Sequence[Record]) -> Iterator[Row]:
    for record in records:
        shared = _shared(record)
        values = list(_values(record))
        for value in values or [{"metric": "", "value": None, "unit": "", "direction": ""}]:
            yield {**shared, **value}


def _values(record: Record) -> Iterator[Row]:
    for metric in record.defined_metrics():
        value = record.metrics[metric.name]
        yield {"metric": metric.name, "value": value, "unit": metric.unit, "direction": metric.direction.value}
    for name in COUNTERS:
        if name in record.counters:
            yield {"metric": name, "value": float(record.counters[name]), "unit": "count", "direction": ""}


def _shared(record: Record) -> Row:
    source, environment = record.source, record.environment
    return {
        **key_of(record),
        "status": record.status.value,
        "reason": record.reason,
        "batch_size": record.batch_size,
        "repository": source.repository,
        "commit": source.commit,
        "branch": source.branch,
        "run_id": source.run_id,
        "attempt": source.attempt,
        "shard": source.shard,
        "time": source.time,
        "host": environment.host,
        "cpu": environment.cpu,
        "gpu": environment.gpu,
        "torch": environment.torch,
        "world": environment.world,
    }


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case str():
            shown = one_line(value)
            # Spaces of any kind stay as they are, so that a name that is read back is the same name.
            same = not _BREAK.search(value) and " ".join(value.split()) == shown
            return csv_cell(value if same else shown)
        case float():
            return repr(value)
        case _:
            return str(value)


def _clean(row: Row) -> Row:
    """Parquet takes no halves of surrogate pairs, which JSON can hold."""
    return {
        name: value.encode("utf-8", errors="replace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }
