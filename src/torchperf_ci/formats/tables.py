"""Tables with named columns, CSV and Parquet: a row per record and measured value, written, and anybody's read."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from torchperf_ci.core.errors import require
from torchperf_ci.core.records import (
    COUNTERS,
    METRICS,
    Direction,
    Environment,
    Metric,
    Mode,
    Record,
    Source,
    Testing,
    own_metric,
)
from torchperf_ci.core.text import csv_cell, from_csv_cell, one_line, write_csv
from torchperf_ci.formats.model import (
    Imported,
    ImportRequest,
    InputProblem,
    RecordCollector,
    choice,
    count_in,
    finite,
    labels_of,
    moment,
    moment_of_seconds,
    parse_status,
)

COLUMNS: Mapping[str, type] = {
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
    "run_key": str,
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
"""The columns and their types. `value` is empty, and `metric` too, in the one row of a record without numbers. Records
of one `run_key` are one run, although each has its own `time`."""

_OF_SOURCE = ("repository", "commit", "branch", "run_id", "attempt", "shard", "time")
_OF_ENVIRONMENT = ("host", "cpu", "gpu", "torch", "world")

_BREAK = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def as_csv(records: Sequence[Record], *, run_key: str = "") -> bytes:
    """Write a CSV file with a header and a line per row, whatever the names in it hold.

    run_key: the run of all records; blank where it is not known.
    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    rows = ([_cell(row[name]) for name in COLUMNS] for row in _rows(records, run_key))
    return write_csv([COLUMNS, *rows]).encode("utf-8", errors="replace")


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


def as_parquet(records: Sequence[Record], *, run_key: str = "") -> bytes:
    """Write the same table as a Parquet file. Raises `UsageProblem` when pyarrow is not installed."""
    require("pyarrow", purpose="writing Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    rows = [
        {  # Parquet takes no halves of surrogate pairs, which JSON can hold
            name: value.encode("utf-8", errors="replace").decode() if isinstance(value, str) else value
            for name, value in row.items()
        }
        for row in _rows(records, run_key)
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return sink.getvalue()


def _rows(records: Sequence[Record], run_key: str) -> Iterator[dict[str, Any]]:
    for record in records:
        shared = {
            **labels_of(record),
            "status": record.status.value,
            "reason": record.reason,
            "batch_size": record.batch_size,
            "run_key": run_key,
            **{name: getattr(record.source, name) for name in _OF_SOURCE},
            **{name: getattr(record.environment, name) for name in _OF_ENVIRONMENT},
        }
        values: list[tuple[str, float | None, str, str]] = [
            (metric.name, record.metrics[metric.name], metric.unit, metric.direction.value)
            for metric in record.defined_metrics()
        ]
        values += [(name, float(record.counters[name]), "count", "") for name in COUNTERS if name in record.counters]
        for value in values or [("", None, "", "")]:
            yield {**shared, **dict(zip(("metric", "value", "unit", "direction"), value, strict=True))}


_REST = "\0"
"""The column of cells that stand beyond the header's."""


def import_csv(content: bytes, request: ImportRequest, *, file: str) -> Imported:
    """Read a table: a row per value. Raises `InputProblem` for a column that it lacks."""
    csv.field_size_limit(2**27)
    text = content.decode("utf-8-sig", errors="replace")
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey=_REST, strict=True)
    try:
        names, rows = list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        if str(error) == "unexpected end of data":
            raise InputProblem([f"{file}: a quotation mark in it is opened and never closed"]) from error
        raise InputProblem([f"{file}:{reader.line_num}: not CSV: {error}"]) from error
    cells = ({name: cell if name == _REST else from_csv_cell(cell or "") for name, cell in row.items()} for row in rows)
    return _collect_rows(cells, names, request, file=file)


def import_parquet(content: bytes, request: ImportRequest, *, file: str) -> Imported:
    """Read the same table from Parquet. Raises `InputProblem` for what is none."""
    require("pyarrow", purpose="reading Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise InputProblem([f"{file}: not a Parquet file: {error}"]) from error
    return _collect_rows(table.to_pylist(), table.column_names, request, file=file)


def _collect_rows(
    rows: Iterable[Mapping[str, Any]], names: list[str], request: ImportRequest, *, file: str
) -> Imported:
    named = {field: [field] for field in COLUMNS if field in names} | {k: list(v) for k, v in request.columns.items()}
    lacking = [column for each in named.values() for column in each if column not in names]
    lacking += [field for field in ("model", "value") if field not in named]
    if lacking:
        raise InputProblem(
            [
                f"{file}: has no column {', '.join(map(repr, lacking))}; it has {', '.join(names) or 'none'}",
                "say which columns hold what, for instance --column model=NAME --column value=SECONDS",
            ]
        )
    if twice := [column for each in named.values() for column in dict.fromkeys(each) if names.count(column) > 1]:
        there = ", ".join(map(repr, dict.fromkeys(twice)))
        raise InputProblem([f"{file}: has the column {there} more than once; rename all but one of them"])
    values = named.pop("value")
    collector = RecordCollector()
    for number, row in enumerate(rows, start=2):
        if _REST in row:
            collector.left_out.append(f"{file}:{number}: has more cells than the {len(names)} of the header")
            continue
        fields = {field: "" if row[column[0]] is None else str(row[column[0]]) for field, column in named.items()}
        for column in values:
            with collector.skip_faults():
                name = column if len(values) > 1 else ""
                _collect(collector, fields, row[column], request, column=name, where=f"{file}:{number}")
    return collector.imported()


def _collect(
    collector: RecordCollector,
    fields: Mapping[str, str],
    cell: object,
    request: ImportRequest,
    *,
    column: str,
    where: str,
) -> None:
    """Take a value of a row, whose other fields are texts. Raises `InputProblem` saying what is wrong with it."""
    if not fields.get("model"):
        raise InputProblem([f"{where}: names no model"])
    when = _moment(fields["time"]) if fields.get("time") else None
    if fields.get("time") and when is None:
        raise InputProblem([f"{where}: its time is {fields['time'][:40]!r}, expected ISO 8601 or seconds since 1970"])
    case = request.case(
        suite=fields.get("suite") or "table",
        model=fields["model"],
        device=fields.get("device", ""),
        dtype=fields.get("dtype", ""),
        mode=choice(Mode, fields.get("mode"), None),
        compiler=fields.get("compiler", ""),
    )
    usual = request.usual_source
    source = Source(
        repository=fields.get("repository") or usual.repository,
        commit=request.commit or fields.get("commit") or usual.commit,
        branch=request.branch or fields.get("branch") or usual.branch,
        run_id=fields.get("run_id") or usual.run_id,
        attempt=count_in(fields, "attempt") or usual.attempt,
        shard=fields.get("shard") or usual.shard,
        time=when.isoformat() if when else usual.time,
    )
    environment = Environment(
        host=fields.get("host", ""),
        cpu=fields.get("cpu", ""),
        gpu=fields.get("gpu", ""),
        torch=fields.get("torch", ""),
        world=count_in(fields, "world") or 1,
    )
    about: dict[str, Any] = {
        "testing": choice(Testing, fields.get("testing"), Testing.PERFORMANCE),
        "status": parse_status(fields.get("status", ""), where=where),
        "reason": fields.get("reason", ""),
        "batch_size": count_in(fields, "batch_size"),
        "run_key": fields.get("run_key", ""),
    }
    name, text = fields.get("metric") or column or "value", "" if cell is None else str(cell)
    if not text and "status" in fields:
        collector.add(case, source, environment, **about)
        return
    if not text:
        raise InputProblem([f"{where}: has no value"])
    try:
        value = finite(float(text))
    except ValueError:
        value = None
    if value is None:
        raise InputProblem([f"{where}: its value is {text[:40]!r}, expected a number"])
    unit = fields.get("unit", "")
    if name in COUNTERS and unit == "count":
        collector.add(case, source, environment, counter=name, value=value, **about)
    else:
        metric = table_metric(name, unit, fields.get("direction", ""))
        collector.add(case, source, environment, metric=metric, value=value, where=where, **about)


def _moment(text: str) -> datetime | None:
    """Read the time in a cell: ISO 8601, in UTC where it has no offset, or seconds or milliseconds since 1970."""
    if not re.fullmatch(r"\d{9,13}(\.\d*)?", text):
        return moment(text, naive=timezone.utc)
    number = float(text)
    return moment_of_seconds(number / 1000 if number > 1e11 else number)


def table_metric(name: str, unit: str, direction: str) -> Metric:
    """Return one of `METRICS` where name and unit are its own, else define a metric of the table's."""
    if name in METRICS and METRICS[name].unit == unit:
        return METRICS[name]
    known = choice(Direction, direction, Direction.UNKNOWN)
    return own_metric(f"own.{name}" if name in METRICS else name, unit=unit, direction=known)
