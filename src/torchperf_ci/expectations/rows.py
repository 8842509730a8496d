"""What a run found, as tables with the columns that expectations have: from its records, or from its CSVs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torchperf_ci.core.csv_files import (
    CsvRow,
    CsvRows,
    finite,
    integer,
    is_column_name,
    is_inflated_memory,
    read_rows,
    row_status,
)
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import COUNTERS, METRICS, Case, Record, Source, Status, Testing
from torchperf_ci.core.result_files import Read, is_result_csv, log_problems, read_files
from torchperf_ci.core.results import RECORDS, csv_name
from torchperf_ci.expectations.table import ACCURACY, GRAPH_BREAKS, NAME, Table, TableProblem, name_refusal, shown

METRIC_COLUMNS = (*COUNTERS, *METRICS)
"""The columns that a run can fill besides the accuracy: counters are integers, metrics numbers with six decimals."""

PERFORMANCE = "performance"
"""How the performance of a model ended, a status like its accuracy."""

SIDECARS = ("_compilation_metrics", "_graph_breaks", "_graph_breaks_deduped", "_stats")
"""What PyTorch's scripts write beside their results, some of it with names of models."""

_STATUS = re.compile(r"[A-Za-z0-9_.]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a run has for one table.

    table: `name`, `accuracy` and `performance` where they were tested, and columns of numbers; a blank cell was not
        measured. broken: the models whose rows cannot be judged, with the reason.
    problems: what keeps it from being the whole truth, a sentence each; broken rows are among them.
    """

    table: Table
    broken: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTables:
    """The tables of a results folder by file name, what of it could not be used, and where the records come from."""

    tables: Mapping[str, Found]
    problems: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)


def table_name(case: Case) -> str:
    """`{compiler}_{suite}_{dtype}_{mode}_{device}.csv`: everything of a case but the model, which names the row."""
    return csv_name(case, Testing.ACCURACY).removesuffix("_accuracy.csv") + ".csv"


def tables_from_files(names: Iterable[str], read: Read) -> FoundTables:
    """The tables of the files of a results folder: of its records.jsonl, else of all CSVs that hold a run's numbers."""
    there = sorted(names)
    if RECORDS in there:
        results = read_files(there, read, CaseSelection())
        return FoundTables(
            tables=tables_from_records(results.records),
            problems=tuple(map(str, results.problems)),
            source=results.records[0].source if results.records else Source(),
        )
    tables: dict[str, Found] = {}
    problems = [str(problem) for problem in log_problems(there, read)]
    for name in there:
        stem = name.removesuffix(".csv")
        if not name.endswith(".csv") or stem.endswith(SIDECARS):
            continue
        found = found_from_csv(read(name), source=name)
        if found is None:
            if is_result_csv(name):
                problems.append(f"{name}: holds no results")
            continue
        table = f"{table_stem(stem)}.csv"
        tables[table] = _beside(tables[table], found) if table in tables else found
    return FoundTables(tables=tables, problems=tuple(problems))


def tables_from_records(records: Iterable[Record]) -> dict[str, Found]:
    """By file name, what the records say of each table, models in the order of the run."""
    groups: dict[str, dict[str, dict[Testing, Record]]] = {}
    for record in records:
        models = groups.setdefault(table_name(record.case), {})
        models.setdefault(record.case.model, {})[record.testing] = record
    return {name: _found(models) for name, models in groups.items()}


def found_from_csv(content: bytes | str, *, source: str) -> Found | None:
    """The rows of a suite runner's CSV under the columns that expectations have; None when it has none of them.

    A blank counter is 0, an integer written as 3.0 is 3, a metric that is no finite number is blank. A model with
    several rows, or with a cell that no run writes, is broken; the others are not.
    """
    text = content if isinstance(content, str) else content.decode("utf-8-sig", errors="replace")
    testing = next((testing for testing in Testing if source.endswith(f"_{testing}.csv")), None)
    rows = read_rows(text, file=source, testing=testing, meaning_of_double="the model cannot be judged")
    columns = _columns_of(rows)
    if not columns:
        return None
    broken = {name: f"has several rows, on lines {', '.join(map(str, at))}" for name, at in rows.doubles.items()}
    problems = [str(problem) for problem in rows.problems]
    cells: dict[str, dict[str, str]] = {}
    for model, row in rows.rows.items():
        if refusal := name_refusal(model):
            problems.append(f"{source}:{row.line}: the name {shown(model)} {refusal}")
            broken[shown(model)] = f"the name {refusal}"
            continue
        try:
            cells[model] = _row(row, columns)
        except TableProblem as error:
            problems.append(f"{source}:{row.line}: {error}")
            broken.setdefault(model, str(error))
            cells[model] = {NAME: model}
    return Found(table=Table.of(columns, cells.values()), broken=broken, problems=tuple(problems))


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


def whole_rows(found: Found) -> Table:
    """The rows that are to be believed."""
    rows = [cells for name, cells in found.table.by_name().items() if name not in found.broken]
    return Table.of(found.table.columns, rows)


def table_stem(stem: str) -> str:
    """A run's CSV is called like its table, with what was tested behind it."""
    for testing in Testing:
        stem = stem.removesuffix(f"_{testing}")
    return stem


def _beside(first: Found, second: Found) -> Found:
    return Found(
        table=beside(first.table, second.table),
        broken={**second.broken, **first.broken},
        problems=(*first.problems, *second.problems),
    )


def _columns_of(rows: CsvRows) -> list[str]:
    """The columns of a run's CSV that a table can have, and `performance` where it tells; none of a foreign CSV's."""
    numeric = [c for c in rows.extra_columns if all(_is_number(row.cells.get(c, "")) for row in rows.rows.values())]
    known = [column for column in rows.columns if column in {ACCURACY, *METRIC_COLUMNS}]
    if not known or NAME not in rows.columns:
        return []
    ran = [PERFORMANCE] if "speedup" in known and PERFORMANCE not in rows.columns else []
    return [c for c in rows.columns if c in {NAME, *known, *numeric}] + ran


def _is_number(text: str) -> bool:
    return not text or finite(text) is not None


def _found(models: Mapping[str, Mapping[Testing, Record]]) -> Found:
    problems = [f"the model {shown(model)} {why}" for model in models if (why := name_refusal(model))]
    kept = {model: testings for model, testings in models.items() if not name_refusal(model)}
    not_run = [model for model, testings in kept.items() if _not_run(testings)]
    if not_run:
        problems.append(f"not run: {', '.join(not_run)}")
    rows = [_cells(model, testings) for model, testings in kept.items() if model not in not_run]
    measured = dict.fromkeys(column for row in rows for column in row)
    known = [c for c in (NAME, ACCURACY, *METRIC_COLUMNS) if c in measured or c in {NAME, GRAPH_BREAKS}]
    columns = [*known, *(column for column in measured if column not in known and column != PERFORMANCE)]
    columns += [PERFORMANCE] if PERFORMANCE in measured else []
    blank_counters = {column: "0" for column in columns if column in COUNTERS}
    return Found(table=Table.of(columns, [{**blank_counters, **row} for row in rows]), problems=tuple(problems))


def _not_run(testings: Mapping[Testing, Record]) -> bool:
    return any(record.status is Status.NOT_RUN for record in testings.values())


def _cells(model: str, testings: Mapping[Testing, Record]) -> dict[str, str]:
    cells = {NAME: model}
    if (accuracy := testings.get(Testing.ACCURACY)) is not None:
        cells[ACCURACY] = accuracy.status.value
    if (performance := testings.get(Testing.PERFORMANCE)) is not None:
        cells[PERFORMANCE] = performance.status.value
    for record in (testings[testing] for testing in (Testing.PERFORMANCE, Testing.ACCURACY) if testing in testings):
        cells.update({name: str(count) for name, count in record.counters.items() if is_column_name(name)})
        cells.update({name: _decimal(name, value) for name, value in record.metrics.items() if is_column_name(name)})
    return cells


def _decimal(metric: str, value: float) -> str:
    return f"{value * METRICS[metric].csv_scale if metric in METRICS else value:.6f}"


def _row(row: CsvRow, columns: Sequence[str]) -> dict[str, str]:
    cells = {NAME: row.model}
    for column in columns:
        text = row.cells.get(column, "")
        if column == ACCURACY and text and not _STATUS.fullmatch(text):
            raise TableProblem(f"row {shown(row.model)}: the accuracy {shown(text)} is not a status")
        if column == ACCURACY or column not in {NAME, PERFORMANCE, *METRIC_COLUMNS}:
            cells[column] = text
        elif column in COUNTERS:
            cells[column] = _counter(row.model, column, text)
        elif column in METRICS:
            value = finite(text)
            unusable = value is None or is_inflated_memory(column, value, row.cells.get("dev", ""))
            cells[column] = "" if unusable else f"{value:.6f}"
        elif column == PERFORMANCE:
            cells[column] = text or row_status(Testing.PERFORMANCE, row.cells)[0].value
    return cells


def _counter(name: str, column: str, text: str) -> str:
    count = integer(text) if text and text.lower() != "nan" else 0
    if count is None or count < 0:
        raise TableProblem(f"row {shown(name)}: {column} is {shown(text)}, expected a count")
    return str(count)
