"""What a run found, as a table with the columns that expectations have: from its records, or from its CSVs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torchperf_ci.analysis.csv_records import HEADERLESS
from torchperf_ci.analysis.expected import ACCURACY, NAME, Table, TableProblem, name_refusal, parse_table, shown
from torchperf_ci.records import COUNTERS, METRICS, Case, Record, Status, Testing
from torchperf_ci.results import csv_name

GRAPH_BREAKS = "graph_breaks"

METRIC_COLUMNS = (*COUNTERS, *METRICS)
"""The columns that a run can fill besides the accuracy: counters are integers, metrics numbers with six decimals."""

_STATUS = re.compile(r"[A-Za-z0-9_.]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a run has for one table.

    table: `name`, `accuracy` where accuracy was tested, and the metric columns; a blank cell was not measured.
    problems: what keeps it from being the whole truth, a sentence each.
    """

    table: Table
    problems: tuple[str, ...] = ()


def table_name(case: Case) -> str:
    """`{compiler}_{suite}_{dtype}_{mode}_{device}.csv`: everything of a case but the model, which names the row."""
    return csv_name(case, Testing.ACCURACY).removesuffix("_accuracy.csv") + ".csv"


def tables_from_records(records: Iterable[Record]) -> dict[str, Found]:
    """By file name, what the records say of each table, models in the order of the run."""
    groups: dict[str, dict[str, dict[Testing, Record]]] = {}
    for record in records:
        models = groups.setdefault(table_name(record.case), {})
        models.setdefault(record.case.model, {})[record.testing] = record
    return {name: _found(models) for name, models in groups.items()}


def table_from_csv(content: bytes | str, *, source: str) -> Table:
    """The rows of a suite runner's CSV: the columns that expectations have, checked and written alike.

    A blank counter is 0, an integer written as 3.0 is 3, a metric that is no finite number is blank.
    Raises `TableProblem` with the source and the row.
    """
    table = parse_table(content, source=source, default_columns=HEADERLESS[Testing.PERFORMANCE])
    columns = [column for column in table.columns if column in {NAME, ACCURACY, *METRIC_COLUMNS}]
    try:
        return Table.of(columns, [_row(cells, columns) for cells in table.by_name().values()])
    except TableProblem as error:
        raise TableProblem(f"{source}: {error}") from error


def joined(parts: Sequence[tuple[str, Table]]) -> Table:
    """The rows of several shards, each given with its name, under the columns that all of them have.

    Raises `TableProblem` for a model that two shards have.
    """
    columns = [c for c in parts[0][1].columns if all(c in table.columns for _, table in parts)]
    owner: dict[str, str] = {}
    for label, table in parts:
        for name in table.names:
            if name in owner:
                raise TableProblem(f"the model {shown(name)} is in {owner[name]} and in {label}")
            owner[name] = label
    return Table.of(columns, [row for _, table in parts for row in table.by_name().values()])


def beside(first: Table, second: Table) -> Table:
    """Two tables of the same models side by side, as the accuracy and the performance CSV of one run; where both have
    a value the first one's stays."""
    columns = [*first.columns, *(column for column in second.columns if column not in first.columns)]
    rows = {name: dict(cells) for name, cells in second.by_name().items()}
    ours = first.by_name()
    names = [*ours, *(name for name in rows if name not in ours)]
    return Table.of(columns, [{**rows.get(name, {NAME: name}), **ours.get(name, {})} for name in names])


def integer(text: str) -> int | None:
    """The integer that `text` writes (also as 3.0), or nothing."""
    value = number(text)
    return int(value) if value is not None and value.is_integer() and abs(value) < 1e15 else None


def number(text: str) -> float | None:
    """The finite number that `text` writes, or nothing."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _found(models: Mapping[str, Mapping[Testing, Record]]) -> Found:
    problems = [f"the model {shown(model)} {why}" for model in models if (why := name_refusal(model))]
    kept = {model: testings for model, testings in models.items() if not name_refusal(model)}
    not_run = [model for model, testings in kept.items() if _not_run(testings)]
    if not_run:
        problems.append(f"not run, the budget was spent: {', '.join(not_run)}")
    rows = [_cells(model, testings) for model, testings in kept.items() if model not in not_run]
    measured = {column for row in rows for column in row}
    columns = [c for c in (NAME, ACCURACY, *METRIC_COLUMNS) if c in measured or c in {NAME, GRAPH_BREAKS}]
    blank_counters = {column: "0" for column in columns if column in COUNTERS}
    return Found(table=Table.of(columns, [{**blank_counters, **row} for row in rows]), problems=tuple(problems))


def _not_run(testings: Mapping[Testing, Record]) -> bool:
    return any(record.status is Status.NOT_RUN for record in testings.values())


def _cells(model: str, testings: Mapping[Testing, Record]) -> dict[str, str]:
    cells = {NAME: model}
    if (accuracy := testings.get(Testing.ACCURACY)) is not None:
        cells[ACCURACY] = accuracy.status.value
    for record in (testings[testing] for testing in (Testing.PERFORMANCE, Testing.ACCURACY) if testing in testings):
        cells.update({name: str(count) for name, count in record.counters.items() if name in COUNTERS})
        cells.update({name: _decimal(name, value) for name, value in record.metrics.items() if name in METRICS})
    return cells


def _decimal(metric: str, value: float) -> str:
    return f"{value * METRICS[metric].csv_scale:.6f}"


def _row(cells: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    return {column: _cell(cells[NAME], column, cells[column]) for column in columns}


def _cell(name: str, column: str, text: str) -> str:
    if column == ACCURACY and text and not _STATUS.fullmatch(text):
        raise TableProblem(f"row {shown(name)}: the accuracy {shown(text)} is not a status")
    if column in COUNTERS:
        return _counter(name, column, text)
    if column in METRICS:
        value = number(text)
        return "" if value is None else f"{value:.6f}"
    return text


def _counter(name: str, column: str, text: str) -> str:
    count = integer(text) if text and text.lower() != "nan" else 0
    if count is None or count < 0:
        raise TableProblem(f"row {shown(name)}: {column} is {shown(text)}, expected a count")
    return str(count)
