"""Tables with named columns: CSV and Parquet of our own export, or anybody's; and OpenMetrics text."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
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
    Source,
    Status,
    Testing,
    own_metric,
)
from torchperf_ci.core.text import from_csv_cell
from torchperf_ci.formats.exports.openmetrics import BASE_UNITS, OWN
from torchperf_ci.formats.exports.tidy import COLUMNS
from torchperf_ci.formats.foreign import Defaults
from torchperf_ci.formats.imports import Columns, Gathered, Imported
from torchperf_ci.formats.inputs import InputProblem, moment

FIELDS = tuple(COLUMNS)
"""What columns may hold, and what they are called where nothing else is said."""

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?P<labels>.*)\})? (?P<value>\S+)( \S+)?")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


def read_csv(text: str, columns: Columns, defaults: Defaults, source: Source, *, file: str) -> Imported:
    """Read a table: a row per value. Raises `InputProblem` for a column that it lacks."""
    csv.field_size_limit(2**27)
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    try:
        names, rows = list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise InputProblem([f"{file}:{reader.line_num}: not CSV: {error}"]) from error
    cells = ({name: from_csv_cell(cell or "") for name, cell in row.items() if name is not None} for row in rows)
    return _read_rows(cells, names, columns, defaults, source, file=file)


def read_parquet(content: bytes, columns: Columns, defaults: Defaults, source: Source, *, file: str) -> Imported:
    """Read the same table from Parquet. Raises `InputProblem` for what is none."""
    require("pyarrow", extra="history", purpose="reading Parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
    except (pa.ArrowException, OSError) as error:
        raise InputProblem([f"{file}: cannot be read as Parquet: {error}"]) from error
    return _read_rows(table.to_pylist(), table.column_names, columns, defaults, source, file=file)


def _read_rows(
    rows: Iterable[Mapping[str, Any]],
    names: list[str],
    columns: Columns,
    defaults: Defaults,
    source: Source,
    *,
    file: str,
) -> Imported:
    named = {field: [field] for field in FIELDS if field in names} | {k: list(v) for k, v in columns.items()}
    lacking = [column for each in named.values() for column in each if column not in names]
    lacking += [field for field in ("model", "value") if field not in named]
    if lacking:
        raise InputProblem(
            [
                f"{file}: has no column {', '.join(map(repr, lacking))}; it has {', '.join(names) or 'none'}",
                "say which columns hold what, for instance --column model=NAME --column value=SECONDS",
            ]
        )
    values = named.pop("value")
    gathered = Gathered()
    for number, row in enumerate(rows, start=2):
        where = f"{file}:{number}"
        said = {field: "" if row[column[0]] is None else str(row[column[0]]) for field, column in named.items()}
        for column in values:
            problem = _take(gathered, said, row[column], column if len(values) > 1 else "", defaults, source, where)
            if problem:
                gathered.left_out.append(f"{where}: {problem}")
    return gathered.imported()


def _take(
    gathered: Gathered,
    said: Mapping[str, str],
    cell: object,
    column: str,
    defaults: Defaults,
    source: Source,
    where: str,
) -> str:
    """Take the value of a row; says what is wrong with it, or nothing."""
    if not said.get("model"):
        return "names no model"
    when = _moment(said["time"]) if said.get("time") else None
    if said.get("time") and when is None:
        return f"its time is {said['time'][:40]!r}, expected ISO 8601 or seconds since 1970"
    case = defaults.case(
        suite=said.get("suite") or "table",
        model=said["model"],
        device=said.get("device", ""),
        dtype=said.get("dtype", ""),
        mode=next((each for each in Mode if each.value == said.get("mode")), None),
        compiler=said.get("compiler", ""),
    )
    origin = Source(
        repository=said.get("repository") or source.repository,
        commit=defaults.commit or said.get("commit") or source.commit,
        branch=defaults.branch or said.get("branch") or source.branch,
        run_id=said.get("run_id") or source.run_id,
        attempt=_whole(said.get("attempt", "")) or source.attempt,
        shard=said.get("shard") or source.shard,
        time=when.isoformat() if when else source.time,
    )
    environment = Environment(
        host=said.get("host", ""),
        cpu=said.get("cpu", ""),
        gpu=said.get("gpu", ""),
        torch=said.get("torch", ""),
        world=_whole(said.get("world", "")) or 1,
    )
    testing = next((each for each in Testing if each.value == said.get("testing")), Testing.PERFORMANCE)
    status = next((each for each in Status if each.value == said.get("status")), Status.PASS)
    about: dict[str, Any] = {
        "testing": testing,
        "status": status,
        "reason": said.get("reason", ""),
        "batch_size": _whole(said.get("batch_size", "")),
    }
    name, text = said.get("metric") or column or "value", "" if cell is None else str(cell)
    if not text:
        if "status" not in said:
            return "has no value"
        gathered.add(case, origin, environment, **about)
        return ""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        return f"its value is {text[:40]!r}, expected a number"
    if name in COUNTERS and said.get("unit") == "count":
        gathered.add(case, origin, environment, counter=name, value=value, **about)
    else:
        metric = _metric(name, said.get("unit", ""), said.get("direction", ""))
        gathered.add(case, origin, environment, metric=metric, value=value, where=where, **about)
    return ""


def _moment(text: str) -> datetime | None:
    """The time in a cell: ISO 8601, in UTC where it has no offset, or seconds or milliseconds since 1970."""
    if not re.fullmatch(r"\d{9,13}(\.\d*)?", text):
        return moment(text, naive=timezone.utc)
    number = float(text)
    return datetime.fromtimestamp(number / 1000 if number > 1e11 else number, tz=timezone.utc)


def _metric(name: str, unit: str, direction: str) -> Metric:
    """One of `METRICS` where name and unit are its own, else a metric of the table's."""
    if name in METRICS and METRICS[name].unit == unit:
        return METRICS[name]
    known = next((each for each in Direction if each.value == direction), Direction.UNKNOWN)
    return own_metric(f"own.{name}" if name in METRICS else name, unit=unit, direction=known)


def read_openmetrics(text: str, defaults: Defaults, source: Source, *, file: str) -> Imported:
    """Read the gauges of our own export; families of other programs are left out, and that is said."""
    families = {f"torchperf_{m.name}".removesuffix(f"_{u}") + f"_{u}": (m, f) for m, u, f in _base_metrics()}
    gathered, foreign = Gathered(), set()
    for number, line in enumerate(text.split("\n"), start=1):
        match = _SAMPLE.fullmatch(line)
        if match is None:
            if line.strip() and not line.startswith("#"):
                gathered.left_out.append(f"{file}:{number}: is no sample of a gauge")
            continue
        name = match["name"]
        labels = {key: _unescape(value) for key, value in _LABEL.findall(match["labels"] or "")}
        counter = name.removeprefix("torchperf_")
        if not labels.get("model") or not (name in families or name in {OWN, "torchperf_pass"} or counter in COUNTERS):
            foreign.add(name)
            continue
        keys = ("suite", "model", "device", "dtype", "compiler")
        mode = next((each for each in Mode if each.value == labels.get("mode")), None)
        case = defaults.case(mode=mode, **{key: labels.get(key, "") for key in keys})
        testing = next((each for each in Testing if each.value == labels.get("testing")), Testing.PERFORMANCE)
        value = float(match["value"])
        if name == "torchperf_pass":
            status = next((each for each in Status if each.value == labels.get("status")), Status.PASS)
            gathered.add(case, source, testing=testing, status=status)
        elif name == OWN:
            metric = _metric(labels.get("metric", "value"), labels.get("unit", ""), labels.get("direction", ""))
            gathered.add(case, source, testing=testing, metric=metric, value=value)
        elif name in families:
            metric, factor = families[name]
            gathered.add(case, source, testing=testing, metric=metric, value=value / factor)
        else:
            gathered.add(case, source, testing=testing, counter=counter, value=value)
    gathered.left_out += [f"{file}: {name} is no metric of this program" for name in sorted(foreign)]
    return gathered.imported()


def _base_metrics() -> list[tuple[Metric, str, float]]:
    return [(metric, *BASE_UNITS[metric.unit]) for metric in METRICS.values()]


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], text, flags=re.DOTALL)


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else 0
