"""Expected counts in the files of PyTorch's benchmarks/dynamo/pr_time_benchmarks, checked and brought up to date.

A file has no header; its rows are `benchmark,metric,expected,noise`, three blank lines between two of them. Results are
rows `benchmark,metric,value`. What is beyond the noise fails either way: a win, too, is to be written down.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torchperf_ci.core.csv_files import finite
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import EXACT_COUNTS, INSTRUCTIONS, Record
from torchperf_ci.core.result_files import read_file, read_folder
from torchperf_ci.core.safe_files import write_whole
from torchperf_ci.core.text import Word, count, one_line, write_csv
from torchperf_ci.expectations.table import refuse_name

USUAL_NOISE = 0.015
"""The noise of a new row for what varies a little, as PyTorch's files have it."""

_KEPT_DIGITS = 4
_GAP = "\n" * 4
_ROW = ("benchmark", "metric", "value")
_EXPECTED_ROW = ("benchmark", "metric", "expected", "noise")
_MOST_NOISE = 10
_MOST_FAULTS = 5

Key = tuple[str, str]
"""A benchmark and its metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedCount:
    """The value that is expected, and the share by which it may differ either way."""

    value: float
    noise: float


class CountOutcome(Word):
    """The ways in which a count stands against its expectation."""

    PASS = "PASS"
    REGRESSION = "REGRESSION"
    WIN = "WIN"
    MISSING = "MISSING"
    """It is expected, and there is no result."""
    NEW = "NEW"
    """There is a result, and nothing is expected."""

    @property
    def fails(self) -> bool:
        return self in {CountOutcome.REGRESSION, CountOutcome.WIN, CountOutcome.MISSING}


@dataclass(frozen=True, slots=True, kw_only=True)
class CountCheck:
    """The verdict on one count of one benchmark."""

    benchmark: str
    metric: str
    outcome: CountOutcome
    expected: ExpectedCount | None = None
    value: float | None = None

    @property
    def change(self) -> float | None:
        """The share by which the value differs from what is expected."""
        if self.expected is None or self.value is None or not self.expected.value:
            return None
        return self.value / self.expected.value - 1


def read_expected_counts(path: Path) -> dict[Key, ExpectedCount]:
    """Read a file of expected counts. Raises `UsageProblem` naming the lines that are none."""
    rows: dict[Key, ExpectedCount] = {}
    problems = []
    for line, cells in _read_rows(path):
        if fault := _find_fault(cells, _EXPECTED_ROW):
            problems.append(f"line {line}: {fault}")
        elif (key := (cells[0], cells[1])) in rows:
            problems.append(f"line {line}: {key[0]} {key[1]} is there twice")
        else:
            rows[key] = ExpectedCount(value=float(cells[2]), noise=float(cells[3]))
    _refuse_faults(path, problems)
    return rows


def read_counts(path: Path, *, warn: Callable[[str], None] = lambda _: None) -> dict[Key, float]:
    """Read what was counted: rows `benchmark,metric,value`, or a results folder, whose benchmarks are its cases.

    warn: takes a sentence for each case whose name may not stand in a table.
    Raises `UsageProblem` for a file that has other rows, and `NothingToJudge` where nothing was counted.
    """
    refused: list[str] = []
    if path.is_dir():
        counts, refused = _count_records(read_folder(path, CaseSelection()).records)
        for sentence in refused:
            warn(f"{path}: {sentence}; its counts are left out")
    else:
        rows = _read_rows(path)
        _refuse_faults(path, [f"line {line}: {fault}" for line, cells in rows if (fault := _find_fault(cells, _ROW))])
        counts = {(cells[0], cells[1]): float(cells[2]) for _, cells in rows}
    if refused and not counts:
        raise NothingToJudge(
            f"{path} holds no counts of a case that may stand in a table: {refused[0]}. Give the model another name"
        )
    if not counts:
        raise NothingToJudge(f"{path} holds no counts; `torchperf-ci run` records them unless --no-count is given")
    return counts


def _count_records(records: Iterable[Record]) -> tuple[dict[Key, float], list[str]]:
    """Take the counts of records; and say which names are refused."""
    counts: dict[Key, float] = {}
    refused: dict[str, None] = {}
    for record in records:
        counted = {name: record.metrics[name] for name in (*EXACT_COUNTS, *INSTRUCTIONS) if name in record.metrics}
        case = str(record.case)
        if counted and (why := _refuse([case])):
            refused[why] = None
            continue
        counts |= {(case, name): value for name, value in counted.items()}
    return counts, list(refused)


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Read the rows that are not blank, with their lines from 1. Raises `UsageProblem`."""
    content = read_file(path)
    if isinstance(content, str):
        raise UsageProblem(f"{path} {content}")
    try:
        lines = content.decode("utf-8-sig").splitlines()
        return [
            (number, [cell.strip() for cell in next(csv.reader([line], strict=True))])
            for number, line in enumerate(lines, start=1)
            if line.strip() and not line.lstrip().startswith("#")
        ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageProblem(f"{path} is not a CSV of counts ({error})") from error


def _find_fault(cells: Sequence[str], columns: Sequence[str]) -> str:
    """Say which cell of a row is at fault, and how; blank where none is."""
    expected = f"expected {','.join(columns)}"
    if [cell.lower() for cell in cells[:2]] == list(columns[:2]):
        return f"a header is not expected; remove it, so that every line has {','.join(columns)}"
    if len(cells) != len(columns):
        return f"it has {count(len(cells), 'cell')}; {expected}"
    for column, cell in zip(columns[2:], cells[2:], strict=True):
        number, written = finite(cell), repr(one_line(cell, limit=40))
        if number is None:
            return f"the {column} {written if cell else 'is blank and'} is not a finite number; {expected}"
        if column != "noise" and number < 0:
            return f"the {column} {written} is below 0"
        if column == "noise" and not 0 <= number <= _MOST_NOISE:
            return f"the noise {written} is not between 0 and {_MOST_NOISE}; 0.015 is 1.5 %"
    return _refuse(cells[:2])


def _refuse(names: Iterable[str]) -> str:
    """Say which name may not stand in a table, and why; blank where all may."""
    faults = ((name, refuse_name(name)) for name in names)
    return next((f"the name {one_line(name, limit=80)!r} {why}" for name, why in faults if why), "")


def _refuse_faults(path: Path, faults: Sequence[str]) -> None:
    if faults:
        more = f"; and {len(faults) - _MOST_FAULTS:,} more" if len(faults) > _MOST_FAULTS else ""
        raise UsageProblem(f"{path}: {'; '.join(faults[:_MOST_FAULTS])}{more}")


def check_counts(counts: Mapping[Key, float], expected: Mapping[Key, ExpectedCount]) -> list[CountCheck]:
    """Check every expected count, in the order of the file, then list the results that nothing is expected of."""
    checks = []
    for (benchmark, metric), wanted in expected.items():
        value = counts.get((benchmark, metric))
        if value is None:
            outcome = CountOutcome.MISSING
        elif value > wanted.value * (1 + wanted.noise):
            outcome = CountOutcome.REGRESSION
        elif value < wanted.value * (1 - wanted.noise):
            outcome = CountOutcome.WIN
        else:
            outcome = CountOutcome.PASS
        checks.append(CountCheck(benchmark=benchmark, metric=metric, outcome=outcome, expected=wanted, value=value))
    new = [(key, value) for key, value in counts.items() if key not in expected]
    return checks + [CountCheck(benchmark=b, metric=m, outcome=CountOutcome.NEW, value=v) for (b, m), v in new]


def update_counts(
    counts: Mapping[Key, float], expected: Mapping[Key, ExpectedCount], *, prune: bool = False
) -> dict[Key, ExpectedCount]:
    """Take over the values that moved by more than a third of their noise, and those that are new.

    Four significant digits are kept, the rest become zeros, unless the count is exact (a noise of 0). What has no
    result stays, or goes with `prune`.
    """
    updated = {}
    for key, wanted in expected.items():
        value = counts.get(key)
        if value is None:
            if not prune:
                updated[key] = wanted
        elif abs(value - wanted.value) > wanted.value * wanted.noise / 3:
            updated[key] = replace(wanted, value=_shorten(value, wanted.noise))
        else:
            updated[key] = wanted
    for key, value in counts.items():
        if key not in updated and key not in expected:
            noise = 0.0 if key[1] in EXACT_COUNTS else USUAL_NOISE
            updated[key] = ExpectedCount(value=_shorten(value, noise), noise=noise)
    return updated


def _shorten(value: float, noise: float) -> float:
    """Keep the first digits of a count, as PyTorch's check_results.py does: they are cut off, not rounded."""
    if not noise or value < 10**_KEPT_DIGITS:
        return value
    unit = 10 ** (math.floor(math.log10(value)) + 1 - _KEPT_DIGITS)
    return float(int(value) // unit * unit)


def write_counts(expected: Mapping[Key, ExpectedCount]) -> str:
    """Write a file of expected counts."""
    rows = [
        write_csv([(benchmark, metric, _format(wanted.value), _format(wanted.noise))]).removesuffix("\n")
        for (benchmark, metric), wanted in expected.items()
    ]
    return _GAP.join(rows) + "\n" if rows else ""


def save_counts(path: Path, expected: Mapping[Key, ExpectedCount]) -> None:
    """Replace the file at once. Raises `UsageProblem` when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path.resolve(), write_counts(expected).encode(), mode=None)
    except OSError as error:
        raise UsageProblem(f"{path} cannot be written ({error.strerror})") from error


def _format(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def describe_count(check: CountCheck) -> str:
    """Write a check in a line."""
    name = one_line(f"{check.benchmark} {check.metric}")
    now = "no result" if check.value is None else _format(check.value)
    if check.expected is None:
        return f"{check.outcome}: {name}: {now}, nothing is expected"
    change = "" if check.change is None else f", {100 * check.change:+.2f} %"
    wanted = f"{_format(check.expected.value)} ± {100 * check.expected.noise:g} %"
    return f"{check.outcome}: {name}: {now}, expected {wanted}{change}"
