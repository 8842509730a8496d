"""Make tables of a run, with the columns that expectations have: from its records, or from its CSVs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torchperf_ci.core.csv_files import (
    CsvRow,
    finite,
    integer,
    is_column_name,
    is_inflated_memory,
    read_rows,
    row_status,
)
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import COUNTERS, EXACT_COUNTS, METRICS, Case, Record, Source, Status, Testing
from torchperf_ci.core.result_files import Read, is_result_csv, log_problems, read_files
from torchperf_ci.core.results import RECORDS, csv_name
from torchperf_ci.expectations.table import (
    ACCURACY,
    GRAPH_BREAKS,
    NAME,
    ExpectationTable,
    TableProblem,
    quote,
    refuse_name,
)

METRIC_COLUMNS = (*COUNTERS, *METRICS)
"""The columns that a run can fill besides the accuracy: counters are integers, metrics numbers with six decimals."""

PERFORMANCE = "performance"
"""The column of how the performance of a model ended, a status like its accuracy."""

SIDECARS = ("_compilation_metrics", "_graph_breaks", "_graph_breaks_deduped", "_stats")
"""The files that PyTorch's scripts write beside their results, some of it with names of models."""

_STATUS = re.compile(r"[A-Za-z0-9_.]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTable:
    """The rows of a run for one table.

    table: `name`, `accuracy` and `performance` where they were tested, and columns of numbers; a blank cell was not
        measured. broken: the models whose rows cannot be judged, with the reason.
    problems: what keeps it from being the whole truth, a sentence each; broken rows are among them.
    """

    table: ExpectationTable
    broken: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def whole_rows(self) -> ExpectationTable:
        """Return the rows that are to be believed."""
        rows = [cells for name, cells in self.table.by_name().items() if name not in self.broken]
        return ExpectationTable.of(self.table.columns, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTables:
    """The tables of a results folder by file name, what of it could not be used, and where the records come from."""

    tables: Mapping[str, RunTable]
    problems: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)


def name_table(case: Case) -> str:
    """Return `{compiler}_{suite}_{dtype}_{mode}_{device}.csv`: everything of a case but the model, which names the
    row."""
    return csv_name(case, Testing.ACCURACY).removesuffix("_accuracy.csv") + ".csv"


def strip_testing(stem: str) -> str:
    """Return what a run's CSV and its table are both called, without what was tested."""
    for testing in Testing:
        stem = stem.removesuffix(f"_{testing}")
    return stem


def read_run_tables(names: Iterable[str], read: Read) -> RunTables:
    """Make the tables of a results folder: of its records.jsonl, else of all CSVs that hold a run's numbers."""
    there = sorted(names)
    if RECORDS in there:
        results = read_files(there, read, CaseSelection())
        return RunTables(
            tables=make_run_tables(results.records),
            problems=tuple(map(str, results.problems)),
            source=results.records[0].source if results.records else Source(),
        )
    tables: dict[str, RunTable] = {}
    problems = [str(problem) for problem in log_problems(there, read)]
    for name in there:
        stem = name.removesuffix(".csv")
        if not name.endswith(".csv") or stem.endswith(SIDECARS):
            continue
        table = read_run_csv(read(name), source=name)
        if table is None:
            if is_result_csv(name):
                problems.append(f"{name}: holds no results")
            continue
        # The accuracy and the performance of one run are two CSVs, and one table.
        target = f"{strip_testing(stem)}.csv"
        first = tables.get(target)
        tables[target] = (
            table
            if first is None
            else RunTable(
                table=join_columns(first.table, table.table),
                broken={**table.broken, **first.broken},
                problems=(*first.problems, *table.problems),
            )
        )
    return RunTables(tables=tables, problems=tuple(problems))


def make_run_tables(records: Iterable[Record]) -> dict[str, RunTable]:
    """Make, by file name, the tables of records, models in the order of the run."""
    groups: dict[str, dict[str, dict[Testing, Record]]] = {}
    for record in records:
        models = groups.setdefault(name_table(record.case), {})
        models.setdefault(record.case.model, {})[record.testing] = record
    return {name: _make_run_table(models) for name, models in groups.items()}


def _make_run_table(models: Mapping[str, Mapping[Testing, Record]]) -> RunTable:
    problems = [f"the model {quote(model)} {why}" for model in models if (why := refuse_name(model))]
    not_run: list[str] = []
    rows: list[dict[str, str]] = []
    for model, testings in models.items():
        if refuse_name(model):
            continue
        if any(record.status is Status.NOT_RUN for record in testings.values()):
            not_run.append(model)
            continue
        cells = {NAME: model}
        for testing, column in ((Testing.ACCURACY, ACCURACY), (Testing.PERFORMANCE, PERFORMANCE)):
            cells |= {column: testings[testing].status.value} if testing in testings else {}
        # What both tested counts as the accuracy's record has it.
        for record in (testings[each] for each in (Testing.PERFORMANCE, Testing.ACCURACY) if each in testings):
            cells |= {name: str(number) for name, number in record.counters.items() if is_column_name(name)}
            for name, value in record.metrics.items():
                if is_column_name(name):
                    scaled = value * METRICS[name].csv_scale if name in METRICS else value
                    cells[name] = f"{scaled:.0f}" if name in EXACT_COUNTS else f"{scaled:.6f}"
        rows.append(cells)
    if not_run:
        problems.append(f"not run: {', '.join(not_run)}")
    measured = dict.fromkeys(column for row in rows for column in row)
    known = [c for c in (NAME, ACCURACY, *METRIC_COLUMNS) if c in measured or c in {NAME, GRAPH_BREAKS}]
    columns = [*known, *(column for column in measured if column not in known and column != PERFORMANCE)]
    columns += [PERFORMANCE] if PERFORMANCE in measured else []
    blank_counters = {column: "0" for column in columns if column in COUNTERS}
    table = ExpectationTable.of(columns, [{**blank_counters, **row} for row in rows])
    return RunTable(table=table, problems=tuple(problems))


def read_run_csv(content: bytes | str, *, source: str) -> RunTable | None:
    """Read the rows of a suite runner's CSV under the columns that expectations have; None when it has none of them.

    A blank counter is 0, an integer written as 3.0 is 3, a metric that is no finite number is blank. A model with
    several rows, or with a cell that no run writes, is broken; the others are not.
    """
    text = content if isinstance(content, str) else content.decode("utf-8-sig", errors="replace")
    testing = next((testing for testing in Testing if source.endswith(f"_{testing}.csv")), None)
    rows = read_rows(text, file=source, testing=testing, meaning_of_double="the model cannot be judged")
    known = [column for column in rows.columns if column in {ACCURACY, *METRIC_COLUMNS}]
    if not known or NAME not in rows.columns:
        return None
    numeric = [
        column
        for column in rows.extra_columns
        if all(not (cell := row.cells.get(column, "")) or finite(cell) is not None for row in rows.rows.values())
    ]
    columns = [column for column in rows.columns if column in {NAME, *known, *numeric}]
    columns += [PERFORMANCE] if "speedup" in known and PERFORMANCE not in rows.columns else []
    broken = {name: f"has several rows, on lines {', '.join(map(str, at))}" for name, at in rows.doubles.items()}
    problems = [str(problem) for problem in rows.problems]
    cells: dict[str, dict[str, str]] = {}
    for model, row in rows.rows.items():
        if refusal := refuse_name(model):
            problems.append(f"{source}:{row.line}: the name {quote(model)} {refusal}")
            broken[quote(model)] = f"the name {refusal}"
            continue
        try:
            cells[model] = {NAME: model, **{column: _read_cell(row, column) for column in columns if column != NAME}}
        except TableProblem as error:
            problems.append(f"{source}:{row.line}: {error}")
            broken.setdefault(model, str(error))
            cells[model] = {NAME: model}
    return RunTable(table=ExpectationTable.of(columns, cells.values()), broken=broken, problems=tuple(problems))


def _read_cell(row: CsvRow, column: str) -> str:
    """Return a cell as expectations have it. Raises `TableProblem` for one that no run writes."""
    text = row.cells.get(column, "")
    if column == ACCURACY and text and not _STATUS.fullmatch(text):
        raise TableProblem(f"row {quote(row.model)}: the accuracy {quote(text)} is not a status")
    if column in COUNTERS:
        count = integer(text) if text and text.lower() != "nan" else 0
        if count is None or count < 0:
            raise TableProblem(f"row {quote(row.model)}: {column} is {quote(text)}, expected a count")
        return str(count)
    if column in METRICS:
        value = finite(text)
        unusable = value is None or is_inflated_memory(column, value, row.cells.get("dev", ""))
        return "" if unusable else f"{value:.0f}" if column in EXACT_COUNTS else f"{value:.6f}"
    if column == PERFORMANCE:
        return text or row_status(Testing.PERFORMANCE, row.cells)[0].value
    return text


def join_shards(parts: Sequence[tuple[str, ExpectationTable]]) -> ExpectationTable:
    """Join the rows of several shards, each given with its name, under the columns that all of them have.

    Raises `TableProblem` for a model that two shards have.
    """
    columns = [c for c in parts[0][1].columns if all(c in table.columns for _, table in parts)]
    owner: dict[str, str] = {}
    for label, table in parts:
        for name in table.names:
            if name in owner:
                raise TableProblem(f"the model {quote(name)} is in {owner[name]} and in {label}")
            owner[name] = label
    return ExpectationTable.of(columns, [row for _, table in parts for row in table.by_name().values()])


def join_columns(first: ExpectationTable, second: ExpectationTable) -> ExpectationTable:
    """Join two tables of the same models side by side, as the accuracy and the performance CSV of one run; where both
    have a value the first one's stays."""
    columns = [*first.columns, *(column for column in second.columns if column not in first.columns)]
    rows = {name: dict(cells) for name, cells in second.by_name().items()}
    ours = first.by_name()
    names = [*ours, *(name for name in rows if name not in ours)]
    return ExpectationTable.of(columns, [{**rows.get(name, {NAME: name}), **ours.get(name, {})} for name in names])
