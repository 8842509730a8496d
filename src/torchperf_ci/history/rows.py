"""The rows of a history's Parquet files, PyTorch's benchmark record flattened: a row is one metric of one record.

kind tells rows apart:
    `status`   one per record; value is 1 for a pass, else 0. Here are reason, log, parameters, seconds, graph_breaks,
               and in `extra`, as JSON, what few records say: remarks, not_compiled, compile_scope.
    `metric`   a number by its name, in `unit`; `direction` says which way it gets better (`unknown` where another
               tool does not say it), with the raw times it comes from, in seconds, in samples;
               times that no metric comes from have a row of their own, without a value.
    `counter`  a number by a name of `COUNTERS`.
    `build`    one per build of the run, as JSON in `extra`; its columns of the case are blank.

`params` has the parameters of the case as JSON, in every row of the record; it is blank for a case without any.
Text that is not known is blank and numbers that are not known are 0, so that only value and time can be null.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from functools import cache, lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from torchperf_ci.core.records import (
    METRICS,
    Build,
    Case,
    Direction,
    Environment,
    GraphBreak,
    Mode,
    Record,
    Source,
    Status,
    Testing,
    own_metric,
    to_line,
)
from torchperf_ci.core.text import Word
from torchperf_ci.history.runs import parse_time

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Row = Mapping[str, Any]


class RowKind(Word):
    """Tell rows apart by what they hold."""

    STATUS = "status"
    METRIC = "metric"
    COUNTER = "counter"
    BUILD = "build"


CASE_COLUMNS = ("suite", "model", "mode", "device", "dtype", "compiler", "testing")
"""Columns of what was measured: with name and run_key the identity of a record over all attempts."""

SOURCE_COLUMNS: Mapping[str, str] = {
    "repo": "repository",
    "sha": "commit",
    "branch": "branch",
    "workflow": "workflow",
    "run": "run_id",
    "attempt": "attempt",
    "shard": "shard",
    "subject": "subject",
}
"""Columns of where a record comes from, with the fields of `Source`; `time` is one more."""

ENVIRONMENT_COLUMNS: Mapping[str, str] = {
    item.name: "int" if item.type == "int" else "text" for item in fields(Environment)
}

COLUMNS: Mapping[str, str] = {
    "name": "text",
    "run_key": "text",
    "run_time": "time",
    **{name: "int" if name == "attempt" else "text" for name in SOURCE_COLUMNS},
    "time": "time",
    "part": "text",
    "record": "int",
    "turn": "int",
    **dict.fromkeys(CASE_COLUMNS, "text"),
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
    "params": "text",
    **ENVIRONMENT_COLUMNS,
}
"""Every column and its type, in the order of the file. `part` names the file that a row was first written to, `record`
counts the records in it. `turn` is 1, and 2 for what was measured once more to confirm a result that was off."""

LATER_COLUMNS: Mapping[str, str] = {
    "unit": "''",
    "direction": "''",
    "params": "''",
    "hip": "''",
    "gpu_uuid": "''",
    "cpu_mhz": "0",
    "world": "1",
    "l2_cache": "''",
    "turn": "1",
    "subject": "''",
}
"""Columns that files of earlier versions lack, and what stands for them there, in SQL."""

NULLABLE = frozenset({"value", "time"})
"""A number that was not measured, and a time that is not known."""

SERIES: Mapping[str, str] = {"eager_latency": "eager", "abs_latency": "compiled", "slow_share": "probe"}
"""Samples of a record by the metric they belong to; others stand under their own names."""

ROWS_PER_GROUP = 16_384
"""Of a Parquet row group: few enough that a look at ten runs of a month's file reads little of it."""

_LARGEST = 2**63 - 1
_ZEROS: Mapping[str, Any] = {"text": "", "int": 0, "number": 0.0, "numbers": [], "time": None, "breaks": []}
_environment_cells = itemgetter(*ENVIRONMENT_COLUMNS)
_source_cells = itemgetter(*SOURCE_COLUMNS)
_BLANK: Row = {name: None if name in NULLABLE else _ZEROS[kind] for name, kind in COLUMNS.items()} | {"turn": 1}


def make_rows(records: Iterable[Record], builds: Iterable[Build], shared: Row) -> Iterator[Row]:
    """Make the rows of a part of a run; `shared` is the same in all of them."""
    number = -1
    for number, record in enumerate(records):
        extra = {name: getattr(record, name) for name in ("remarks", "not_compiled", "compile_scope")}
        extra = {name: value for name, value in extra.items() if value}
        about = {
            **_BLANK,
            **shared,
            **{column: getattr(record.source, name) for column, name in SOURCE_COLUMNS.items()},
            "time": parse_time(record.source.time),
            "record": number,
            **{name: getattr(record.case, name) for name in CASE_COLUMNS if name not in {"mode", "testing"}},
            "mode": record.case.mode.value,
            "testing": record.testing.value,
            "status": record.status.value,
            "batch_size": record.batch_size,
            "params": json.dumps(dict(record.params), ensure_ascii=False) if record.params else "",
            **asdict(record.environment),
        }
        yield {
            **about,
            "kind": RowKind.STATUS.value,
            "metric": RowKind.STATUS.value,
            "value": 1.0 if record.status.is_pass else 0.0,
            "reason": record.reason,
            "extra": json.dumps(extra, ensure_ascii=False) if extra else "",
            "log": record.log,
            "parameters": record.parameters,
            "seconds": record.seconds,
            "graph_breaks": [asdict(item) for item in record.graph_breaks],
        }
        yield from ({**about, **row} for row in _make_number_rows(record))
    for place, build in enumerate(builds, start=number + 1):
        own = {"kind": RowKind.BUILD.value, "extra": to_line(build), "time": parse_time(build.time), "record": place}
        yield {**_BLANK, **shared, **own, **asdict(build.environment)}


def make_record(status: Row, metrics: Iterable[tuple[str, float, str, str]], **details: Any) -> Record:  # noqa: ANN401
    """Make a record of its status row and its metrics, each as name, value, unit and direction.

    details: fields of the record that only its other rows, or columns left out of `status`, know.
    Raises `ValueError` for what only a later version understands.
    """
    numbers = list(metrics)
    extra = json.loads(status["extra"]) if status["extra"] else {}
    case = {name: status[name] for name in CASE_COLUMNS if name not in {"mode", "testing"}}
    return Record(
        case=Case(mode=Mode(status["mode"]), **case),
        testing=Testing(status["testing"]),
        status=Status(status["status"]),
        batch_size=status["batch_size"],
        metrics={name: value for name, value, *_ in numbers},
        own_metrics={
            name: own_metric(name, unit=unit, direction=Direction(direction or Direction.UNKNOWN))
            for name, _, unit, direction in numbers
            if name not in METRICS
        },
        seconds=status["seconds"],
        reason=status["reason"],
        remarks=tuple(extra.get("remarks", ())),
        not_compiled=extra.get("not_compiled", False),
        compile_scope=extra.get("compile_scope", ""),
        params=json.loads(status["params"]) if status["params"] else {},
        environment=make_environment(_environment_cells(status)),
        source=_make_source(_source_cells(status), status["time"]),
        **details,
    )


def make_full_record(rows: Sequence[Row]) -> Record:
    """Make a record of all of its rows."""
    numbers = [row for row in rows if row["kind"] == RowKind.METRIC.value]
    status = next(row for row in rows if row["kind"] == RowKind.STATUS.value)
    return make_record(
        status,
        [(row["metric"], row["value"], row["unit"], row["direction"]) for row in numbers if row["value"] is not None],
        samples={SERIES.get(row["metric"], row["metric"]): tuple(row["samples"]) for row in numbers if row["samples"]},
        counters={row["metric"]: int(row["value"]) for row in rows if row["kind"] == RowKind.COUNTER.value},
        graph_breaks=tuple(GraphBreak(**item) for item in status["graph_breaks"]),
        parameters=status["parameters"],
        log=status["log"],
    )


def encode_rows(rows: Iterable[Row]) -> bytes:
    """Encode rows as a Parquet file: the same bytes for the same rows."""
    import pyarrow as pa

    sink = io.BytesIO()
    with open_parquet_writer(sink) as writer:
        table = pa.Table.from_pylist([_clean(row) for row in rows], schema=make_schema())
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)
    return sink.getvalue()


def open_parquet_writer(sink: io.BytesIO) -> pq.ParquetWriter:
    """Open a writer of tables with our columns. Statistics are kept for what queries choose by."""
    import pyarrow.parquet as pq

    return pq.ParquetWriter(
        sink,
        make_schema(),
        compression="zstd",
        compression_level=9,
        use_dictionary=[name for name, kind in COLUMNS.items() if kind in {"text", "int", "time"}],
        column_encoding={"value": "BYTE_STREAM_SPLIT", "samples.list.element": "BYTE_STREAM_SPLIT"},
        write_statistics=["name", "run_key", "run_time", "suite", "dtype", "kind", "metric"],
        store_schema=False,
    )


@cache
def make_schema() -> pa.Schema:
    """Make the Arrow schema of `COLUMNS`. What is never null says so, which readers turn into simpler types."""
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


def _make_number_rows(record: Record) -> Iterator[Row]:
    metric_of = {series: metric for metric, series in SERIES.items()}
    samples = {metric_of.get(name, name): list(times) for name, times in record.samples.items() if times}
    values = {name: value for name, value in record.metrics.items() if math.isfinite(value)}
    defined = {metric.name: metric for metric in record.defined_metrics()}
    for name in dict.fromkeys((*values, *samples)):
        yield {
            "kind": RowKind.METRIC.value,
            "metric": name,
            "value": values.get(name),
            "samples": samples.get(name, []),
            "unit": defined[name].unit if name in defined else "",
            "direction": defined[name].direction.value if name in defined else "",
        }
    for name, count in record.counters.items():
        yield {"kind": RowKind.COUNTER.value, "metric": name, "value": float(count)}


# A run's records share a machine and nearly a source: one object for all of them keeps a long history small.
@lru_cache(maxsize=1_000)
def make_environment(values: tuple[Any, ...]) -> Environment:
    """Make an environment of the cells of its columns; the same object for the same cells."""
    return Environment(**dict(zip(ENVIRONMENT_COLUMNS, values, strict=True)))


@lru_cache(maxsize=1_000)
def _make_source(values: tuple[Any, ...], time: datetime | None) -> Source:
    text = "" if time is None else time.isoformat(timespec="microseconds" if time.microsecond else "seconds")
    return Source(**dict(zip(SOURCE_COLUMNS.values(), values, strict=True)), time=text)


def _clean(value: Any) -> Any:  # noqa: ANN401 - any cell, or what is inside of one
    """Replace what JSON can hold and Parquet cannot: halves of surrogate pairs, and integers beyond 64 bits."""
    match value:
        case str():
            return value.encode("utf-8", errors="replace").decode()
        case int():
            return max(-_LARGEST, min(_LARGEST, value))
        case dict():
            return {name: _clean(item) for name, item in value.items()}
        case list():
            return value if value and isinstance(value[0], float) else [_clean(item) for item in value]
        case _:
            return value
