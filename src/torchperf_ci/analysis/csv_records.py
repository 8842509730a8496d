"""The CSV files of a suite runner, ours or PyTorch's, back into records. Pure: name and text in, records out."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torchperf_ci.escape import from_csv_cell
from torchperf_ci.records import COUNTERS, METRICS, Case, Mode, Record, Status, Testing
from torchperf_ci.results import Problem

KNOWN_COMPILERS = (
    "eager",
    "aot_eager",
    "inductor",
    "inductor_no_cudagraphs",
    "inductor_max_autotune",
    "inductor_max_autotune_no_cudagraphs",
    "cudagraphs",
    "ts_nnc",
    "ts_nvfuser",
    "ts_nvfuser_cudagraphs",
    "aot_nvfuser",
    "nvprims_nvfuser",
    "trt",
    "torchscript-onnx",
    "dynamo-onnx",
)
"""The compilers of PyTorch's suite runner, its defaults first: the order of the tables."""

WITHOUT_DYNAMO = frozenset({"ts_nnc", "ts_nvfuser", "ts_nvfuser_cudagraphs", "trt", "torchscript-onnx", "dynamo-onnx"})
"""Compilers that make no graph of dynamo's, so that having none says nothing."""

KNOWN_SUITES = ("torchbench", "huggingface", "timm_models")
"""The suites of PyTorch's suite runner, in its order."""

HEADERLESS: Mapping[Testing, tuple[str, ...]] = {
    Testing.PERFORMANCE: (
        "dev",
        "name",
        "batch_size",
        "speedup",
        "abs_latency",
        "compilation_latency",
        "compression_ratio",
    ),
    Testing.ACCURACY: ("dev", "name", "batch_size", "accuracy", *COUNTERS[:-1], "compilation_latency"),
}
"""The columns of a file without a header. Such files are old and lack `recompiles`; see `_columns_of`."""
NEEDED: Mapping[Testing, tuple[str, ...]] = {
    Testing.PERFORMANCE: ("name", "batch_size", "speedup"),
    Testing.ACCURACY: ("name", "batch_size", "accuracy"),
}
MOST_PROBLEMS = 20
"""So many lines of one file are named one by one."""
MOST_BATCH_SIZE = 10**12

_NEVER_NEGATIVE = frozenset({"batch_size", "speedup", "abs_latency", "compression_ratio"})
_COUNT = re.compile(r"[0-9]{1,18}")
_NAME = re.compile(
    r"(?P<head>.+)_(?P<dtype>[^_]+)_(?P<mode>inference|training)_(?P<device>.+)_(?P<testing>performance|accuracy)\.csv"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFile:
    """What a file's name says. `name` is the file's own, for messages."""

    name: str
    compiler: str
    suite: str
    dtype: str
    mode: Mode
    device: str
    testing: Testing

    def case(self, model: str) -> Case:
        return Case(
            suite=self.suite,
            model=model,
            mode=self.mode,
            device=self.device,
            dtype=self.dtype,
            compiler=self.compiler,
        )

    @property
    def other_name(self) -> str:
        """The file of the other testing that belongs to this one."""
        other = Testing.ACCURACY if self.testing is Testing.PERFORMANCE else Testing.PERFORMANCE
        return self.name.removesuffix(f"{self.testing}.csv") + f"{other}.csv"


@dataclass(slots=True)
class _Problems:
    """Problems of one file, the first ones in full and the rest counted."""

    file: str
    found: list[Problem] = field(default_factory=list)
    more: int = 0

    def add(self, line: int, what: str) -> None:
        if len(self.found) < MOST_PROBLEMS:
            self.found.append(Problem(file=self.file, line=line, what=what))
        else:
            self.more += 1

    def all(self) -> list[Problem]:
        rest = [Problem(file=self.file, what=f"{self.more:,} more lines with problems")] if self.more else []
        return [*self.found, *rest]


def parse_name(name: str, *, compilers: Sequence[str] = (), suites: Sequence[str] = ()) -> CsvFile | None:
    """What `{compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv` says; None for any other name.

    Compiler and suite may hold underscores themselves: the split is where a compiler or suite that was asked for or
    that PyTorch knows fits best, else at the first underscore.
    """
    found = _NAME.fullmatch(name)
    split = _split_head(found["head"], [*compilers, *KNOWN_COMPILERS], [*suites, *KNOWN_SUITES]) if found else None
    if not found or not split:
        return None
    return CsvFile(
        name=name,
        compiler=split[0],
        suite=split[1],
        dtype=found["dtype"],
        mode=Mode(found["mode"]),
        device=found["device"],
        testing=Testing(found["testing"]),
    )


def parse_csv(file: CsvFile, text: str) -> tuple[list[Record], list[Problem]]:
    """The records of a file's text, the last one where a name comes twice, and what could not be used."""
    problems = _Problems(file.name)
    if "\0" in text:
        return [], [Problem(file=file.name, what="is not text")]
    if not text.strip():
        return [], [Problem(file=file.name, what="is empty")]
    records: dict[str, Record] = {}
    lines: dict[str, int] = {}
    for line, row in _rows(file, text, problems):
        record = _record(file, row, line, problems)
        if record is None:
            continue
        model = record.case.model
        if model in records:
            problems.add(line, f"{model!r} again, first on line {lines[model]}; this later row counts")
        records[model], lines[model] = record, line
    if not records and not problems.found:
        problems.add(0, "holds no rows")
    return list(records.values()), problems.all()


def _split_head(head: str, compilers: Sequence[str], suites: Sequence[str]) -> tuple[str, str] | None:
    splits = [(head[:at], head[at + 1 :]) for at in range(1, len(head) - 1) if head[at] == "_"]
    return max(
        splits,
        key=lambda split: (split[1] in suites, split[0] in compilers, len(split[0]) if split[0] in compilers else 0),
        default=None,
    )


def _rows(file: CsvFile, text: str, problems: _Problems) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line number and cells by column of every usable row."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: Sequence[str] | None = None
    least = 0
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if columns is None:
                has_header = "dev" in (cell.strip() for cell in cells)
                columns = [cell.strip() for cell in cells] if has_header else _columns_of(file.testing, len(cells))
                least = len(columns) if has_header else len(NEEDED[file.testing]) + 1
                if not _has_needed(file, columns, problems):
                    return
                if has_header:
                    continue
            if least <= len(cells) <= len(columns):
                yield reader.line_num, dict(zip(columns, cells, strict=False))
            else:
                problems.add(
                    reader.line_num, f"has {len(cells)} cells where {len(columns)} are expected; the row is not used"
                )
    except csv.Error as error:
        problems.add(reader.line_num, f"cannot be read from here on: {error}")


def _has_needed(file: CsvFile, columns: Sequence[str], problems: _Problems) -> bool:
    absent = [name for name in NEEDED[file.testing] if name not in columns]
    if absent:
        problems.add(1, f"has no column {', '.join(absent)}; its columns are {', '.join(columns)[:200]}")
    return not absent


def _columns_of(testing: Testing, cells: int) -> Sequence[str]:
    """The columns of a file without a header whose rows have so many cells: with the newest counter, or without it."""
    columns = HEADERLESS[testing]
    if testing is Testing.ACCURACY and cells > len(columns):
        return (*columns[:-1], COUNTERS[-1], columns[-1])
    return columns


def _record(file: CsvFile, row: Mapping[str, str], line: int, problems: _Problems) -> Record | None:
    model = from_csv_cell(row["name"].strip())
    if not model:
        problems.add(line, "has no model name; the row is not used")
        return None
    size = _number(row, "batch_size", line, problems)
    numbers = {name: _number(row, name, line, problems) for name in METRICS if name in row}
    status, reason = _status(file, row, numbers)
    known = {name: value for name, value in numbers.items() if value is not None}
    if file.testing is Testing.PERFORMANCE and not status.is_pass:
        known = {name: value for name, value in known.items() if value}  # the runner fills such rows up with zeros
    counters = {name: int(row[name]) for name in COUNTERS if _COUNT.fullmatch(row.get(name, "").strip())}
    return Record(
        case=file.case(model),
        testing=file.testing,
        status=status,
        reason=reason,
        batch_size=int(size or 0),
        metrics={name: round(value / METRICS[name].csv_scale, 6) for name, value in known.items()},
        counters=counters,
        not_compiled=status is Status.PASS
        and file.compiler not in WITHOUT_DYNAMO
        and counters.get("unique_graphs") == 0 == counters.get("calls_captured"),
    )


def _status(file: CsvFile, row: Mapping[str, str], numbers: Mapping[str, float | None]) -> tuple[Status, str]:
    """How the testing ended, and why if the file says so."""
    match file.testing:
        case Testing.PERFORMANCE:
            speedup = numbers.get("speedup")
            if speedup is not None and speedup > 0:
                return Status.PASS, ""
            return Status.FAIL_TO_RUN, f"speedup is {row['speedup'].strip() or 'blank'}"
        case Testing.ACCURACY:
            word = row["accuracy"].strip()
            try:
                return Status(word), ""
            except ValueError:
                return Status.FAIL_TO_RUN, f"accuracy is {word or 'blank'}"


def _number(row: Mapping[str, str], name: str, line: int, problems: _Problems) -> float | None:
    """A cell as a number; None when it is blank, and with a problem when it is no finite one."""
    text = row.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    whole = name != "batch_size" or (value.is_integer() and value < MOST_BATCH_SIZE)
    if not math.isfinite(value) or not whole or (value < 0 and name in _NEVER_NEGATIVE):
        problems.add(line, f"{name} is {text[:40]!r}, which is not a usable number")
        return None
    return value
