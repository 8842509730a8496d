"""The CSV files of a suite runner, ours or PyTorch's: what their names say, their rows, and records made of these.

A name is `{compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv`, whose parts hold underscores too. The parts are
told apart by what suite runners are known to write. The names that PyTorch's nightly dashboard and Intel's XPU
repository use are in the lists; what else a run was asked for is given along. Pure: text in, records out.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import COUNTERS, METRICS, Case, Mode, Record, Status, Testing
from torchperf_ci.core.results import Problem
from torchperf_ci.core.text import count, from_csv_cell

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

KNOWN_SUITES = ("torchbench", "huggingface", "timm_models")
"""The suites of PyTorch's suite runner, in its order."""

_COMPILERS = frozenset(
    {
        *KNOWN_COMPILERS,
        "aot_eager_decomp_partition",
        "aot_inductor",
        "dynamo_eager",
        "export",
        "inductor_aot_inductor",
        "inductor_batch_invariant_accuracy",
        "inductor_cpp_wrapper",
        "inductor_cudagraphs_low_precision",
        "inductor_deterministic_perf",
        "inductor_dynamic",
        "inductor_export",
        "inductor_freezing",
        "inductor_with_cudagraphs",
        "inductor_with_cudagraphs_freezing",
        "inductor_with_cudagraphs_freezing_autotune",
        "inductor_with_cudagraphs_low_precision",
        "none",
        "onnxrt",
        "openxla",
        "tensorrt",
        "torch_tensorrt",
        "tvm",
    }
)
_SUITES = frozenset({*KNOWN_SUITES, "blueberries", "fastrnns", "huggingface_llm", "timm", "tiny"})
_DTYPE = re.compile(
    r"amp(_(bf16|fp16|bfloat16|float16))?"
    r"|(float|bfloat|fp|bf|int|uint|tf|mxfp|nvfp)\d+(_e\d+m\d+\w*)?"
    r"|float(64|32|16)_\w+|notset|none|quant|unknown"
)
_DEVICE = re.compile(r"(cpu|cuda|xpu|mps|hpu|npu|rocm|hip|mtia|musa|xla|meta)([-_:].+)?")
_NAME = re.compile(r"(?P<head>.+)_(?P<testing>performance|accuracy)\.csv")
_MODES = tuple(mode.value for mode in Mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvFile:
    """The parts of a file's name. `name` is the file's own, for messages."""

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


_NOTHING_ASKED = CaseSelection()


def parse_name(name: str, asked: CaseSelection = _NOTHING_ASKED) -> CsvFile | None:
    """Read the name of a result file; None for any other name, and for one that can be read in several ways.

    asked: what a run was asked for; its names count as known besides those that suite runners have.
    """
    readings = readings_of(name, asked)
    return readings[0] if len(readings) == 1 else None


def csv_name_problem(name: str, asked: CaseSelection = _NOTHING_ASKED) -> str:
    """Say why a file that ends like a result is not read; blank when it is."""
    readings = readings_of(name, asked)
    if not readings:
        return "is not named {compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv; it is not read"
    if len(readings) == 1:
        return ""
    meanings = [f"compiler {each.compiler}, suite {each.suite}, dtype {each.dtype}" for each in readings[:3]]
    more = f", and {count(len(readings) - 3, 'more way')}" if len(readings) > 3 else ""
    return (
        f"has a name that can be read in several ways ({'; or '.join(meanings)}{more}); it is not read. "
        "Rename it, or say which of them it is: `report` and `dashboard` take --compilers, --suites and --dtypes"
    )


def readings_of(name: str, asked: CaseSelection = _NOTHING_ASKED) -> list[CsvFile]:
    """List the likeliest readings of a name: those in which most parts are known; of these, where names of the run's
    own options stand; then the one whose known parts are the longest (`huggingface_llm` before `huggingface`).

    A part that nobody knows may be anything, so two unknown parts side by side leave several readings.
    """
    match = _NAME.fullmatch(name)
    files = list(_splits(match["head"], Testing(match["testing"]), name)) if match else []
    if not files:
        return []

    def score(file: CsvFile) -> tuple[int, int, int]:
        known = {
            file.compiler: file.compiler in _COMPILERS or file.compiler in asked.compilers,
            file.suite: file.suite in _SUITES or file.suite in asked.suites,
            file.dtype: bool(_DTYPE.fullmatch(file.dtype)) or file.dtype in asked.dtypes,
            file.device: bool(_DEVICE.fullmatch(file.device)),
        }
        wanted = sum([file.compiler in asked.compilers, file.suite in asked.suites, file.dtype in asked.dtypes])
        return sum(known.values()), wanted, sum(len(part) for part, is_known in known.items() if is_known)

    best = max(map(score, files))
    return [file for file in files if score(file) == best]


def _splits(head: str, testing: Testing, name: str) -> Iterator[CsvFile]:
    """Cut what stands before the testing at underscores into its five parts, in every way that leaves none empty."""
    words = head.split("_")
    for at in range(3, len(words) - 1):
        if words[at] not in _MODES:
            continue
        for first in range(1, at - 1):
            for second in range(first + 1, at):
                spans = (words[:first], words[first:second], words[second:at], words[at + 1 :])
                compiler, suite, dtype, device = ("_".join(span) for span in spans)
                if compiler and suite and dtype and device:
                    yield CsvFile(
                        name=name,
                        compiler=compiler,
                        suite=suite,
                        dtype=dtype,
                        mode=Mode(words[at]),
                        device=device,
                        testing=testing,
                    )


_OLDER_COUNTERS = COUNTERS[:-1]
"""Those of the files without a header, which get no new columns: all but `recompiles`."""

WITHOUT_DYNAMO = frozenset({"ts_nnc", "ts_nvfuser", "ts_nvfuser_cudagraphs", "trt", "torchscript-onnx", "dynamo-onnx"})
"""Compilers that make no graph of dynamo's, so that having none says nothing."""

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
    Testing.ACCURACY: ("dev", "name", "batch_size", "accuracy", *_OLDER_COUNTERS, "compilation_latency"),
}
_LEAST_CELLS = 4
"""Of a row without a header: device, name, batch size, and the first value."""

NEEDED: Mapping[Testing, tuple[str, ...]] = {
    Testing.PERFORMANCE: ("name", "speedup"),
    Testing.ACCURACY: ("name", "accuracy"),
}
MOST_PROBLEMS = 20
"""So many lines of one file are named one by one."""
MOST_BATCH_SIZE = 10**12
LONGEST_COLUMN = 64

LEAST_INFLATED_GB = 15.0
"""The scripts in benchmarks/dynamo write a CPU process's memory as per cent times total, without the division by 100
(and what it is now, not its peak). A process with torch has 0.15 GB at least, so that is where their numbers begin."""

_DESCRIBING = frozenset({"dev", "name", "batch_size", "tag", "accuracy"})
_MEMORY = ("eager_peak_mem", "dynamo_peak_mem")
_NEVER_NEGATIVE = frozenset({"batch_size", "speedup", "abs_latency", "compression_ratio"})
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvRow:
    """A model's row: its line, from 1, and its cells by column, without spaces around them."""

    line: int
    model: str
    cells: Mapping[str, str]


@dataclass(slots=True)
class CsvRows:
    """A file's usable rows, the last one of every model, under the columns of its header.

    doubles: the models that have several rows, with their lines.
    """

    file: str
    columns: tuple[str, ...] = ()
    rows: dict[str, CsvRow] = field(default_factory=dict)
    doubles: dict[str, list[int]] = field(default_factory=dict)
    meaning_of_double: str = "this later row counts"
    _problems: list[Problem] = field(default_factory=list, repr=False)
    _more: int = 0

    @property
    def extra_columns(self) -> list[str]:
        """List the columns that are unknown here; some may hold numbers of a run."""
        known = {*_DESCRIBING, *METRICS, *COUNTERS}
        return [column for column in self.columns if column not in known and is_column_name(column)]

    def add_problem(self, line: int, what: str) -> None:
        """Note a problem, the first ones in full; the rest is counted."""
        if len(self._problems) < MOST_PROBLEMS:
            self._problems.append(Problem(file=self.file, line=line, what=what))
        else:
            self._more += 1

    def add_row(self, line: int, cells: Sequence[str]) -> None:
        may_be_short = self.columns in HEADERLESS.values() or self._is_failure(cells)
        least = min(_LEAST_CELLS, len(self.columns)) if may_be_short else len(self.columns)
        if not least <= len(cells) <= len(self.columns):
            expected = f"has {len(cells)} cells where {len(self.columns)} are expected"
            self.add_problem(line, f"{expected}; the row is not used")
            return
        by_column = dict(zip(self.columns, cells, strict=False))
        model = from_csv_cell(by_column["name"])
        if not model:
            self.add_problem(line, "has no model name; the row is not used")
            return
        if model in self.rows:
            lines = self.doubles.setdefault(model, [self.rows[model].line])
            self.add_problem(line, f"{model!r} again, first on line {lines[0]}; {self.meaning_of_double}")
            lines.append(line)
        self.rows[model] = CsvRow(line=line, model=model, cells=by_column)

    def _is_failure(self, cells: Sequence[str]) -> bool:
        """Say whether a row has a speedup of 0: older runners write no more of a model that failed."""
        if not {"name", "speedup"} <= set(self.columns):
            return False
        at = self.columns.index("speedup")
        return self.columns.index("name") < len(cells) and at < len(cells) and finite(cells[at]) == 0

    @property
    def problems(self) -> list[Problem]:
        rest = [Problem(file=self.file, what=f"{self._more:,} more lines with problems")] if self._more else []
        return [*self._problems, *rest]


def read_rows(
    text: str,
    *,
    file: str,
    testing: Testing | None,
    needed: Sequence[str] = ("name",),
    meaning_of_double: str = "this later row counts",
) -> CsvRows:
    """Read the rows of a file of models; what cannot be used of it is among the problems.

    Lines that begin with `#` are remarks. A first row without a cell `name` or `dev` is no header: the columns are then
    those of PyTorch's runner for this `testing` (None: that of the row's fourth cell, a number or a word).
    meaning_of_double: what messages say becomes of a model's second row.
    """
    table = CsvRows(file=file, meaning_of_double=meaning_of_double)
    if "\0" in text:
        table.add_problem(0, "is not text")
        return table
    for line, cells in _cells(text, table):
        if not table.columns:
            # A row without a header has a batch size in its third cell, and a number or a word in its fourth.
            may_be_row = len(cells) >= _LEAST_CELLS and integer(cells[2]) is not None
            has_header = bool({"name", "dev"} & set(cells)) or (testing is None and not may_be_row)
            if has_header:
                table.columns = tuple(cells)
            else:
                is_word = finite(cells[_LEAST_CELLS - 1]) is None if testing is None else testing is Testing.ACCURACY
                table.columns = HEADERLESS[Testing.ACCURACY if is_word else Testing.PERFORMANCE]
            if absent := [name for name in needed if name not in table.columns]:
                columns = ", ".join(table.columns)[:200]
                table.add_problem(line, f"has no column {', '.join(absent)}; its columns are {columns}")
                return table
            if has_header:
                continue
        table.add_row(line, cells)
    if not table.columns:
        table.add_problem(0, "is empty")
    elif not table.rows and not table.problems:
        table.add_problem(0, "holds no rows")
    return table


def parse_csv(file: CsvFile, text: str) -> tuple[list[Record], list[Problem]]:
    """Make records of a file's text, the last one where a name comes twice, and what could not be used."""
    table = read_rows(text, file=file.name, testing=file.testing, needed=NEEDED[file.testing])
    counts = [
        column
        for column in table.extra_columns
        if all(_is_count(row.cells.get(column, "")) for row in table.rows.values())
    ]
    return [_record(file, row, table, counts) for row in table.rows.values()], table.problems


def row_status(testing: Testing, cells: Mapping[str, str]) -> tuple[Status, str]:
    """Say how the testing of a row ended, and why if the file says so."""
    match testing:
        case Testing.PERFORMANCE:
            speedup = finite(cells.get("speedup", ""))
            if speedup is not None and speedup > 0:
                return Status.PASS, ""
            return Status.FAIL_TO_RUN, f"speedup is {cells.get('speedup') or 'blank'}"
        case Testing.ACCURACY:
            word = cells["accuracy"]
            try:
                return Status(word), ""
            except ValueError:
                return Status.FAIL_TO_RUN, f"accuracy is {word[:80] or 'blank'}"


def finite(text: str) -> float | None:
    """Read the finite number that `text` writes; None for other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def integer(text: str) -> int | None:
    """Read the integer that `text` writes (also as 3.0); None for other text."""
    value = finite(text)
    return int(value) if value is not None and value.is_integer() and abs(value) < 1e15 else None


def is_column_name(name: str) -> bool:
    """Say whether a number of this name may stand in a table's column."""
    return len(name) <= LONGEST_COLUMN and _COLUMN.fullmatch(name) is not None


def is_inflated_memory(column: str, value: float, device: str) -> bool:
    """Say whether this is a CPU's memory that PyTorch's scripts wrote 100 times too large. `value` is in GB."""
    return column in _MEMORY and device.startswith("cpu") and value >= LEAST_INFLATED_GB


def _cells(text: str, table: CsvRows) -> Iterator[tuple[int, list[str]]]:
    """Yield line and stripped cells of everything that is neither blank nor a remark, up to what is no CSV."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped) and not stripped[0].startswith("#"):
                yield reader.line_num, stripped
    except csv.Error as error:
        table.add_problem(reader.line_num, f"cannot be read from here on: {error}")


def _record(file: CsvFile, row: CsvRow, table: CsvRows, counts: Sequence[str]) -> Record:
    size = _number(row, "batch_size", table)
    numbers = {name: _number(row, name, table) for name in METRICS if name in row.cells}
    known = {name: value for name, value in numbers.items() if value is not None}
    status, reason = row_status(file.testing, row.cells)
    if file.testing is Testing.PERFORMANCE and not status.is_pass:
        known = {name: value for name, value in known.items() if value}  # the runner fills such rows up with zeros
    metrics = {
        name: round(value / METRICS[name].csv_scale, 6)
        for name, value in known.items()
        if not is_inflated_memory(name, value, file.device)
    }
    extra = {name: finite(row.cells.get(name, "")) for name in table.extra_columns if name not in counts}
    counters = {name: integer(row.cells.get(name, "")) for name in (*COUNTERS, *counts)}
    return Record(
        case=file.case(row.model),
        testing=file.testing,
        status=status,
        reason=reason,
        batch_size=int(size or 0),
        metrics={**metrics, **{name: value for name, value in extra.items() if value is not None}},
        counters={name: count for name, count in counters.items() if count is not None and count >= 0},
        not_compiled=status is Status.PASS
        and file.compiler not in WITHOUT_DYNAMO
        and counters.get("unique_graphs") == 0 == counters.get("calls_captured"),
    )


def _is_count(text: str) -> bool:
    return not text or ((count := integer(text)) is not None and count >= 0)


def _number(row: CsvRow, name: str, table: CsvRows) -> float | None:
    """Read a cell as a number; None when it is blank, and with a problem when it is no finite one."""
    text = row.cells.get(name, "")
    if not text:
        return None
    value = finite(text)
    whole = name != "batch_size" or (value is not None and value.is_integer() and value < MOST_BATCH_SIZE)
    if value is None or not whole or (value < 0 and name in _NEVER_NEGATIVE):
        table.add_problem(row.line, f"{name} is {text[:40]!r}, which is not a usable number")
        return None
    return value
