"""Records into the tables that every report is made of: one suite in one section, models down, compilers across.

A section is what may share a table: one mode, device and dtype. Joins are by model name; a model that a compiler lacks
stays in the table as `MISSING`. Pure: data in, data out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from torchperf_ci.core.records import METRICS, Case, Metric, Mode, Record, Status, Testing

if TYPE_CHECKING:
    import pandas as pd

Item = TypeVar("Item", bound=Hashable)

MISSING = "missing"
"""The status of a model that another compiler has, in the same suite and section."""

PASSES = frozenset(status.value for status in Status if status.is_pass)

LEAVES_TABLE = frozenset({Status.MODEL_FAIL_TO_LOAD.value, Status.EAGER_FAIL_TO_RUN.value})
"""Nothing can be said about any compiler on this model: its row leaves the pass rate of all of them."""

LEAVES_COMPILER = Status.COMPILER_NOT_AVAILABLE.value
"""Nothing can be said about this compiler here: the cell leaves its pass rate, the others keep theirs."""

ACCURACY = "accuracy"
"""The one table that holds words; the others are named by their metric."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Section:
    """The part of a run that shares a table."""

    mode: Mode
    device: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.mode}, {self.dtype}, {self.device}"

    @classmethod
    def of(cls, case: Case) -> Section:
        return cls(mode=case.mode, device=case.device, dtype=case.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSelection:
    """A choice of the records, and their order; an empty field means all, as they come."""

    suites: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    compilers: tuple[str, ...] = ()
    mode: Mode | None = None

    def takes(self, case: Case) -> bool:
        return (
            (not self.suites or case.suite in self.suites)
            and (not self.devices or case.device in self.devices)
            and (not self.dtypes or case.dtype in self.dtypes)
            and (not self.compilers or case.compiler in self.compilers)
            and (self.mode is None or case.mode is self.mode)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SuiteTables:
    """One suite in one section. Every table has the models as index, as they came, and `compilers` as columns.

    statuses: the words of both testings; `MISSING` where there is no record. A testing without any record is absent.
    values: by metric, in its unit; NaN where it was not measured.
    metrics: the definitions of these metrics: `METRICS`, then what else the records have.
    counted: which cases are in the pass rate's denominator.
    passed: which of them pass: right results and a measured speedup (or, without an eager arm, a measured latency), as
        far as both were looked at in this suite.
    batch_sizes: per testing and model the largest of the compilers'; 0 when none is known.
    records: every record by testing, model and compiler.
    """

    suite: str
    section: Section
    compilers: tuple[str, ...]
    models: tuple[str, ...]
    statuses: Mapping[Testing, pd.DataFrame]
    values: Mapping[str, pd.DataFrame]
    metrics: Mapping[str, Metric]
    counted: pd.DataFrame
    passed: pd.DataFrame
    batch_sizes: Mapping[Testing, Mapping[str, int]]
    records: Mapping[tuple[Testing, str, str], Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One case in one table. `value` is NaN where it was not measured, and always in the table of accuracies."""

    status: str
    value: float
    passed: bool
    counted: bool

    @property
    def measured(self) -> bool:
        return not math.isnan(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A model in one table; a cell per compiler."""

    model: str
    batch_size: int
    cells: tuple[Cell, ...]

    @property
    def failed(self) -> bool:
        return any(cell.counted and not cell.passed for cell in self.cells)


def suite_tables(records: Iterable[Record], selection: CaseSelection) -> tuple[SuiteTables, ...]:
    """Make the tables of what `selection` takes, by section, then by suite, both in the order asked for or seen."""
    groups: dict[tuple[Section, str], list[Record]] = {}
    for record in {record.key: record for record in records}.values():
        case = record.case
        if selection.takes(case):
            section = Section.of(case)
            groups.setdefault((section, case.suite), []).append(record)
    sections = _in_order(
        (section for section, _ in groups),
        key=lambda section: (rank(section.device, selection.devices), rank(section.dtype, selection.dtypes)),
    )
    suites = _in_order((suite for _, suite in groups), key=lambda suite: rank(suite, selection.suites))
    return tuple(
        _tables(section, suite, groups[section, suite], selection)
        for section in sections
        for suite in suites
        if (section, suite) in groups
    )


def model_rows(tables: SuiteTables, name: str) -> Iterator[ModelRow]:
    """Yield the rows of the table of a metric, or of `ACCURACY`, best model first; none if it was not looked at."""
    testing = Testing.ACCURACY if name == ACCURACY else Testing.PERFORMANCE
    if testing not in tables.statuses:
        return
    words = tables.statuses[testing]
    order = sort_models(words if name == ACCURACY else tables.values[name]).index
    at = words.index.get_indexer(order)
    values = None if name == ACCURACY else tables.values[name].to_numpy()[at]
    arrays = zip(words.to_numpy()[at], tables.passed.to_numpy()[at], tables.counted.to_numpy()[at], strict=True)
    sizes = tables.batch_sizes[testing]
    for number, (model, (statuses, passed, counted)) in enumerate(zip(order, arrays, strict=True)):
        numbers = [math.nan] * len(tables.compilers) if values is None else values[number]
        cells = (
            Cell(status=word, value=float(value), passed=bool(good), counted=bool(counts))
            for word, value, good, counts in zip(statuses, numbers, passed, counted, strict=True)
        )
        yield ModelRow(model=model, batch_size=sizes.get(model, 0), cells=tuple(cells))


def sort_models(table: pd.DataFrame) -> pd.DataFrame:
    """Sort the best first: by the last compiler, then the one before it, …; by `inductor` first of all if it is there.

    The order of PyTorch's own tables; equal rows keep the order they came in.
    """
    by = list(reversed(list(table.columns)))
    if "inductor" in by:
        by = ["inductor", *(name for name in by if name != "inductor")]
    ordered: pd.DataFrame = table.sort_values(by=by, ascending=False, kind="stable")
    return ordered


def rank(name: str, asked: Sequence[str]) -> int:
    """Find where `name` stands in a list that people gave; behind it when it is not there."""
    return asked.index(name) if name in asked else len(asked)


def _tables(section: Section, suite: str, records: Sequence[Record], selection: CaseSelection) -> SuiteTables:
    compilers = tuple(_in_order((r.case.compiler for r in records), key=lambda name: rank(name, selection.compilers)))
    models = tuple(dict.fromkeys(record.case.model for record in records))
    by_testing = {testing: [record for record in records if record.testing is testing] for testing in Testing}
    statuses = {
        testing: _wide({"status": [r.status.value for r in found]}, found, models, compilers)["status"]
        .astype(object)
        .fillna(MISSING)
        for testing, found in by_testing.items()
        if found
    }
    performed = by_testing[Testing.PERFORMANCE]
    own = {metric.name: metric for record in performed for metric in record.defined_metrics()}
    defined = {**METRICS, **{name: metric for name, metric in own.items() if name not in METRICS}}
    metrics = {name: [record.metrics.get(name, math.nan) for record in performed] for name in defined}
    values = _wide(metrics, performed, models, compilers)
    counted, passed = _judge(statuses, values)
    return SuiteTables(
        suite=suite,
        section=section,
        compilers=compilers,
        models=models,
        statuses=statuses,
        values=values,
        metrics=defined,
        counted=counted,
        passed=passed,
        batch_sizes={testing: _batch_sizes(found) for testing, found in by_testing.items()},
        records={(record.testing, record.case.model, record.case.compiler): record for record in records},
    )


def _wide(
    columns: Mapping[str, Sequence[object]], records: Sequence[Record], models: Sequence[str], compilers: Sequence[str]
) -> dict[str, pd.DataFrame]:
    """Spread columns with a value per record into tables of models and compilers; NaN where there is no record."""
    import pandas as pd

    # As objects: text of pandas' own type refuses halves of surrogate pairs, which a name in a file may hold.
    down, across = (pd.Index(list(names), dtype=object) for names in (models, compilers))
    if not records:
        return {name: pd.DataFrame(math.nan, index=down, columns=across) for name in columns}
    both = ([record.case.model for record in records], [record.case.compiler for record in records])
    index = pd.MultiIndex.from_arrays([pd.Index(each, dtype=object) for each in both])
    wide = pd.DataFrame(dict(columns), index=index).unstack()
    return {name: wide[name].reindex(index=down, columns=across) for name in columns}


def _judge(
    statuses: Mapping[Testing, pd.DataFrame], values: Mapping[str, pd.DataFrame]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tell which cases count in the pass rate, and which of them pass.

    Benchmarks of other tools have no eager arm, hence no speedup: they pass by their latency, or by a metric of their
    own. What a suite leaves out has neither, and passes by that.
    """
    counted = values["speedup"].isna() | True
    for words in statuses.values():
        counted &= ~words.isin(LEAVES_TABLE).any(axis=1).to_numpy()[:, None]
        counted &= words != LEAVES_COMPILER
    passed: pd.DataFrame = counted.copy()
    for words in statuses.values():
        passed &= words.isin(PASSES)
    if Testing.PERFORMANCE in statuses:
        speedups, latencies = values["speedup"], values["abs_latency"]
        skipped = statuses[Testing.PERFORMANCE] == Status.PASS_DUE_TO_SKIP
        measured = latencies > 0
        for name in values.keys() - METRICS.keys():
            measured |= latencies.isna() & values[name].notna()
        passed &= (speedups > 0) | (speedups.isna() & (measured | skipped))
    return counted, passed


def _batch_sizes(records: Sequence[Record]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for record in records:
        sizes[record.case.model] = max(record.batch_size, sizes.get(record.case.model, 0))
    return sizes


def _in_order(items: Iterable[Item], *, key: Callable[[Item], Any]) -> list[Item]:
    """Sort the different items by `key`, equal ones as they came."""
    return sorted(dict.fromkeys(items), key=key)
