"""Records into the rows of `columns` and back, and rows into the bytes of a Parquet file."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from torchperf_ci.core.records import (
    METRICS,
    Build,
    Case,
    Direction,
    Environment,
    GraphBreak,
    Metric,
    Mode,
    Record,
    Source,
    Status,
    Testing,
    from_line,
    own_metric,
    to_line,
)
from torchperf_ci.history.columns import CASE_COLUMNS, COLUMNS, ENVIRONMENT_COLUMNS, NULLABLE, SERIES, Kind
from torchperf_ci.history.store import moment_of

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Row = Mapping[str, Any]

ROWS_PER_GROUP = 16_384
"""Of a Parquet row group: few enough that a look at ten runs of a month's file reads little of it."""

_MOST = 2**63 - 1
_SERIES_METRIC = {series: metric for metric, series in SERIES.items()}
_ZEROS: Mapping[str, Any] = {"text": "", "int": 0, "number": 0.0, "numbers": [], "time": None, "breaks": []}
_BLANK: Row = {name: None if name in NULLABLE else _ZEROS[kind] for name, kind in COLUMNS.items()}


def rows_of(records: Iterable[Record], builds: Iterable[Build], shared: Row) -> Iterator[Row]:
    """The rows of a part of a run; `shared` is the same in all of them."""
    number = -1
    for number, record in enumerate(records):
        about = {**_BLANK, **shared, **_about(record), "record": number}
        yield {**about, **_outcome(record)}
        yield from ({**about, **row} for row in _numbers(record))
    for place, build in enumerate(builds, start=number + 1):
        own = {"kind": Kind.BUILD.value, "extra": to_line(build), "time": moment_of(build.time), "record": place}
        yield {**_BLANK, **shared, **own, **asdict(build.environment)}


def record_of(rows: Sequence[Row]) -> Record:
    """The record that these rows were made of."""
    numbers = [row for row in rows if row["kind"] == Kind.METRIC.value]
    first = next(row for row in rows if row["kind"] == Kind.STATUS.value)
    return Record(
        case=case_of(first),
        testing=Testing(first["testing"]),
        status=Status(first["status"]),
        batch_size=first["batch_size"],
        metrics={row["metric"]: row["value"] for row in numbers if row["value"] is not None},
        samples={SERIES.get(row["metric"], row["metric"]): tuple(row["samples"]) for row in numbers if row["samples"]},
        counters={row["metric"]: int(row["value"]) for row in rows if row["kind"] == Kind.COUNTER.value},
        graph_breaks=tuple(GraphBreak(**item) for item in first["graph_breaks"]),
        parameters=first["parameters"],
        seconds=first["seconds"],
        reason=first["reason"],
        **told_in(first["extra"]),
        log=first["log"],
        environment=environment_of(first),
        source=source_of(first),
        own_metrics=defined_metrics(
            {row["metric"]: (row["unit"], row["direction"]) for row in numbers if row["value"] is not None}
        ),
    )


def told_in(extra: str) -> dict[str, Any]:
    """The fields of a record in the column `extra` of its status row, which older rows leave blank."""
    said = json.loads(extra) if extra else {}
    return {
        "remarks": tuple(said.get("remarks", ())),
        "not_compiled": said.get("not_compiled", False),
        "compile_scope": said.get("compile_scope", ""),
    }


def defined_metrics(definitions: Mapping[str, tuple[str, str]]) -> dict[str, Metric]:
    """The metrics that `METRICS` does not have, from the unit and the direction by name."""
    return {
        name: own_metric(name, unit=unit, direction=Direction(direction or Direction.UNKNOWN))
        for name, (unit, direction) in definitions.items()
        if name not in METRICS
    }


def build_of(row: Row) -> Build:
    """The build of a row of that kind."""
    found = from_line(row["extra"])
    assert isinstance(found, Build)
    return found


def case_of(row: Row) -> Case:
    parts = {name: row[name] for name in CASE_COLUMNS if name not in {"testing", "mode"}}
    return Case(mode=Mode(row["mode"]), **parts)


def environment_of(row: Row) -> Environment:
    return Environment(**{name: row[name] for name in ENVIRONMENT_COLUMNS})


def source_of(row: Row) -> Source:
    return Source(
        repository=row["repo"],
        commit=row["sha"],
        branch=row["branch"],
        workflow=row["workflow"],
        run_id=row["run"],
        attempt=row["attempt"],
        shard=row["shard"],
        time=time_text(row["time"]),
    )


def time_text(time: datetime | None) -> str:
    """A time as records have it: ISO 8601, blank where there is none."""
    return "" if time is None else time.isoformat(timespec="microseconds" if time.microsecond else "seconds")


def parquet_bytes(rows: Iterable[Row]) -> bytes:
    """The rows as a Parquet file: the same bytes for the same rows."""
    import pyarrow as pa

    sink = io.BytesIO()
    with parquet_writer(sink) as writer:
        table = pa.Table.from_pylist([_clean(row) for row in rows], schema=schema())
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    return sink.getvalue()


def parquet_writer(sink: io.BytesIO) -> pq.ParquetWriter:
    """A writer of tables with our columns. Statistics are kept for what queries choose by."""
    import pyarrow.parquet as pq

    return pq.ParquetWriter(
        sink,
        schema(),
        compression="zstd",
        compression_level=9,
        use_dictionary=[name for name, kind in COLUMNS.items() if kind in {"text", "int", "time"}],
        column_encoding={"value": "BYTE_STREAM_SPLIT", "samples.list.element": "BYTE_STREAM_SPLIT"},
        write_statistics=["name", "run_key", "run_time", "suite", "dtype", "kind", "metric"],
        store_schema=False,
    )


@cache
def schema() -> pa.Schema:
    """The columns as Arrow has them. What is never null says so, which readers turn into simpler types."""
    import pyarrow as pa

    text, number = pa.string(), pa.float64()
    reasons = pa.struct([pa.field("reason", text, nullable=False), pa.field("user_stack", text, nullable=False)])
    kinds = {
        "text": text,
        "int": pa.int64(),
        "number": number,
        "numbers": pa.list_(pa.field("element", number, nullable=False)),
        "time": pa.timestamp("us", tz="UTC"),
        "breaks": pa.list_(pa.field("element", reasons, nullable=False)),
    }
    return pa.schema([pa.field(name, kinds[kind], nullable=name in NULLABLE) for name, kind in COLUMNS.items()])


def _about(record: Record) -> Row:
    """What all rows of a record share."""
    case, source = record.case, record.source
    return {
        "repo": source.repository,
        "sha": source.commit,
        "branch": source.branch,
        "workflow": source.workflow,
        "run": source.run_id,
        "attempt": source.attempt,
        "shard": source.shard,
        "time": moment_of(source.time),
        "suite": case.suite,
        "model": case.model,
        "mode": case.mode.value,
        "device": case.device,
        "dtype": case.dtype,
        "compiler": case.compiler,
        "testing": record.testing.value,
        "status": record.status.value,
        "batch_size": record.batch_size,
        **asdict(record.environment),
    }


def _outcome(record: Record) -> Row:
    return {
        "kind": Kind.STATUS.value,
        "metric": Kind.STATUS.value,
        "value": 1.0 if record.status.is_pass else 0.0,
        "reason": record.reason,
        "extra": _extra(record),
        "log": record.log,
        "parameters": record.parameters,
        "seconds": record.seconds,
        "graph_breaks": [asdict(item) for item in record.graph_breaks],
    }


def _extra(record: Record) -> str:
    """What few records have to say, as JSON; blank where there is nothing."""
    said = {"remarks": record.remarks, "not_compiled": record.not_compiled, "compile_scope": record.compile_scope}
    said = {name: value for name, value in said.items() if value}
    return json.dumps(said, ensure_ascii=False) if said else ""


def _numbers(record: Record) -> Iterator[Row]:
    samples = {_SERIES_METRIC.get(name, name): list(times) for name, times in record.samples.items() if times}
    values = {name: value for name, value in record.metrics.items() if math.isfinite(value)}
    defined = {metric.name: metric for metric in record.defined_metrics()}
    for name in dict.fromkeys((*values, *samples)):
        yield {
            "kind": Kind.METRIC.value,
            "metric": name,
            "value": values.get(name),
            "samples": samples.get(name, []),
            "unit": defined[name].unit if name in defined else "",
            "direction": defined[name].direction.value if name in defined else "",
        }
    for name, count in record.counters.items():
        yield {"kind": Kind.COUNTER.value, "metric": name, "value": float(count)}


def _clean(value: Any) -> Any:  # noqa: ANN401 - any cell, or what is inside of one
    """Parquet takes no halves of surrogate pairs and no integers beyond 64 bits, both of which JSON can hold."""
    match value:
        case str():
            return value.encode("utf-8", errors="replace").decode()
        case int():
            return max(-_MOST, min(_MOST, value))
        case dict():
            return {name: _clean(item) for name, item in value.items()}
        case list():
            return value if value and isinstance(value[0], float) else [_clean(item) for item in value]
        case _:
            return value
