"""Expectation tables: what is expected of every model, as text cells, and the conflict-free CSV layout they live in.

Between two rows stand three blank lines, so that changes to neighbouring rows never touch the same lines of a diff and
merge without conflicts. A table that exists can be written, and what is written reads back as the same table.

Models that may differ from their expectation stand in `flaky.yaml` of the same folder, with a reason for each.
"""

from __future__ import annotations

import csv
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import yaml

from torchperf_ci.core.csv_files import readings_of
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Mode, Status, Testing
from torchperf_ci.core.safe_files import write_whole
from torchperf_ci.core.text import Word, count, write_csv
from torchperf_ci.shards.uploads import is_suite_config

NAME = "name"
ACCURACY = "accuracy"
GRAPH_BREAKS = "graph_breaks"

REMARK = "#"
"""Begins a line that is no row; in `ExpectationTable.remarks` the key of those above the header."""

MAX_BYTES = 16 * 1024 * 1024
MAX_ROWS = 20_000
MAX_COLUMNS = 100
MAX_CELL = 500
"""Limits far above any real table: what exceeds them is not one."""

_GAP = "\n" * 4
_MODES = frozenset(mode.value for mode in Mode)
_FORMULA = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_STATUSES = frozenset(status.value for status in Status)

Lines = list[tuple[int, tuple[str, ...]]]
"""Numbers of lines, from 1, and their cells."""


class TableProblem(UsageProblem):
    """A table, or a run's CSV, that cannot be used. The message names the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectationTable:
    """Rows of text cells under unique columns; the column `name` holds a unique, harmless name in every row.

    Raises `TableProblem` for anything that could not be written and read back as it is, or that would be a formula in
    a spreadsheet or a command in a log.

    remarks: lines that begin with `#`, by the name of the row that they stand above; blank for those at the end.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()
    remarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_columns(self.columns)
        if len(self.rows) > MAX_ROWS:
            raise TableProblem(f"more than {MAX_ROWS:,} rows")
        at = self.columns.index(NAME)
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise TableProblem(
                    f"row {number} has {count(len(row), 'cell')} for {count(len(self.columns), 'column')}"
                )
            if why := refuse_name(row[at]):
                raise TableProblem(f"row {number}: the name {quote(row[at])} {why}")
            for column, cell in zip(self.columns, row, strict=True):
                if why := _refuse_cell(cell):
                    raise TableProblem(f"row {quote(row[at])}: {quote(column)} {why}: {quote(cell)}")
        if twice := [name for name, times in Counter(self.names).items() if times > 1]:
            raise TableProblem(f"the name {quote(twice[0])} is there twice")

    @property
    def names(self) -> tuple[str, ...]:
        at = self.columns.index(NAME)
        return tuple(row[at] for row in self.rows)

    def by_name(self) -> dict[str, dict[str, str]]:
        """Return the cells of every row by column, by the row's name, in the table's order."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {row[NAME]: row for row in rows}

    @staticmethod
    def of(
        columns: Sequence[str],
        rows: Iterable[Mapping[str, str]],
        *,
        remarks: Mapping[str, tuple[str, ...]] | None = None,
    ) -> ExpectationTable:
        """Make a table of rows that need not have every column; a cell that is absent is blank."""
        filled = tuple(tuple(row.get(column, "") for column in columns) for row in rows)
        return ExpectationTable(columns=tuple(columns), rows=filled, remarks=remarks or {})


def write_table(table: ExpectationTable) -> str:
    """Write the table in the conflict-free layout: three blank lines between rows, one line end at the end."""
    blocks = []
    for name, cells in zip((REMARK, *table.names), (table.columns, *table.rows), strict=True):
        blocks.append("\n".join((*table.remarks.get(name, ()), write_csv([cells]).removesuffix("\n"))))
    return _GAP.join((*blocks, *table.remarks.get("", ()))) + "\n"


def parse_table(content: bytes | str, *, source: str, at_lines: dict[str, list[int]] | None = None) -> ExpectationTable:
    """Parse a CSV, with or without blank lines. `source` is how messages call it.

    A first line without a cell `name` is a row of the columns name, accuracy and graph_breaks where it can be one.
    at_lines: takes the lines, from 1, that every name stands on; the first one counts then. Without it a table that has
    a name twice is refused. Raises `TableProblem` with the source and, where there is one, the line.
    """
    try:
        lines, remarks = _split_lines(content)
        if not lines:
            raise TableProblem(f"empty, expected a header with the column '{NAME}'")
        default_header = _guess_header(lines[0][1])
        header, body = (default_header, lines) if default_header else (lines[0][1], lines[1:])
        _check_columns(header)
        at = header.index(NAME)
        numbers: dict[str, list[int]] = {}
        for number, cells in body:
            if len(cells) != len(header):
                has_cells = f"line {number} has {count(len(cells), 'cell')}"
                raise TableProblem(f"{has_cells}, the header has {len(header)}; is the file truncated?")
            numbers.setdefault(cells[at], []).append(number)
        if at_lines is not None:
            body = [(number, cells) for number, cells in body if numbers[cells[at]][0] == number]
            at_lines |= numbers
        # A remark belongs to the row that comes next, however many lines are blank in between.
        names = {number: cells[at] for number, cells in body} | ({} if default_header else {lines[0][0]: REMARK})
        placed: dict[str, tuple[str, ...]] = {}
        for number, remark in remarks.items():
            name = names.get(min((line for line in names if line > number), default=0), "")
            placed[name] = (*placed.get(name, ()), remark)
        return ExpectationTable(columns=header, rows=tuple(cells for _, cells in body), remarks=placed)
    except TableProblem as error:
        raise TableProblem(f"{source}: {error}") from error


def _is_table_name(stem: str) -> bool:
    """Say whether a file is called as tables are, in any of the layouts."""
    suites, _, mode = stem.rpartition("_")
    return bool(readings_of(f"{stem}_{Testing.ACCURACY}.csv")) or (mode in _MODES and is_suite_config(suites))


def _has_names(path: Path) -> bool:
    """Say whether a CSV has a column `name`, or rows that need no header. Any other is not a table of models."""
    try:
        content = path.read_bytes()
    except OSError:
        return True  # nobody knows; what cannot be read is no reason to pass
    try:
        lines, _ = _split_lines(content)
    except TableProblem:
        return NAME.encode() in content[:1000]
    return bool(lines) and (NAME in lines[0][1] or bool(_guess_header(lines[0][1])))


def _guess_header(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a table without a header; none when this is one."""
    is_row = NAME not in cells and 2 <= len(cells) <= 3 and cells[1] in _STATUSES
    return (NAME, ACCURACY, GRAPH_BREAKS)[: len(cells)] if is_row else ()


def _split_lines(content: bytes | str) -> tuple[Lines, dict[int, str]]:
    """Split into every line that is not blank, and the remarks by their line. Raises `TableProblem`."""
    if len(content) > MAX_BYTES:
        raise TableProblem(f"larger than {MAX_BYTES // 1024 // 1024} MiB")
    try:
        text = content if isinstance(content, str) else content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableProblem(f"not UTF-8 text (byte {error.start})") from error
    lines: Lines = []
    remarks: dict[int, str] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip("\r")
        if not line.strip():
            continue
        if line.lstrip().startswith(REMARK):
            remarks[number] = line.strip()
            if _holds_unseen(remarks[number]):
                raise TableProblem(f"line {number}: the remark holds control characters")
            continue
        if len(lines) > MAX_ROWS:
            raise TableProblem(f"line {number}: more than {MAX_ROWS:,} rows")
        if len(line) > MAX_CELL * MAX_COLUMNS:
            raise TableProblem(f"line {number}: {len(line):,} characters long")
        try:
            lines.append((number, tuple(cell.strip() for cell in next(csv.reader([line], strict=True)))))
        except csv.Error as error:
            raise TableProblem(f"line {number}: not CSV ({error})") from error
    return lines, remarks


def _check_columns(columns: Sequence[str]) -> None:
    if NAME not in columns:
        raise TableProblem(f"no column '{NAME}', only: {quote(', '.join(columns))}")
    if len(columns) > MAX_COLUMNS:
        raise TableProblem(f"more than {MAX_COLUMNS} columns")
    if twice := [column for column, times in Counter(columns).items() if times > 1]:
        raise TableProblem(f"column {quote(twice[0])} is there twice")
    for column in columns:
        if not column or (why := _refuse_cell(column)):
            raise TableProblem(f"column {quote(column)} {why if column else 'has no name'}")


def refuse_name(name: str) -> str:
    """Say why `name` may not stand in a table; blank when it may. What starts with a letter, a digit or `_` is no
    formula, no workflow command and no option."""
    if not (name[:1].isalnum() or name.startswith("_")):
        return "does not start with a letter, a digit or _"
    return _refuse_cell(name)


def _refuse_cell(cell: str) -> str:
    if len(cell) > MAX_CELL:
        return f"is longer than {MAX_CELL} characters"
    if cell != cell.strip():
        return "has spaces around it"
    if _holds_unseen(cell):
        return "holds control characters"
    if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell):
        return "looks like a formula"
    return ""


def _holds_unseen(text: str) -> bool:
    return any(unicodedata.category(char) in _UNSEEN for char in text)


def quote(text: str) -> str:
    """Quote `text` for a message, with what cannot be seen spelled out, and short."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 80 else quoted[:79] + "…"


FLAKY_FILE = "flaky.yaml"
_KEYS = ("name", "configs", "checks", "reason")


class CheckKind(Word):
    """The kinds of checks."""

    ACCURACY = "accuracy"
    GRAPH_BREAKS = "graph-breaks"
    PERFORMANCE = "performance"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaky:
    """A model that passes either way, for `checks`, in the configurations that match a shell pattern of `configs`."""

    name: str
    configs: tuple[str, ...] = ("*",)
    checks: tuple[CheckKind, ...] = tuple(CheckKind)
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A table, what it is called, and the flaky models that its folder knows.

    name: the file's name without `.csv`. config: how the flaky file's patterns call it (`rocm/…` from one folder up).
    at_lines: the lines, from 1, that every model stands on.
    """

    path: Path
    name: str
    config: str
    table: ExpectationTable
    flaky: tuple[Flaky, ...] = ()
    at_lines: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def flaky_names(self, kind: CheckKind) -> dict[str, str]:
        """Return the models that are flaky here in a kind of check, with the reason."""
        return {
            entry.name: entry.reason
            for entry in self.flaky
            if kind in entry.checks and any(fnmatchcase(self.config, pattern) for pattern in entry.configs)
        }


def read_table(path: Path, at_lines: dict[str, list[int]] | None = None) -> ExpectationTable | None:
    """Read the table at `path`; None where there is none. `at_lines` takes the lines that every name stands on; without
    it names that stand there twice are refused. Raises `TableProblem`."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TableProblem(f"{path} cannot be read ({error.strerror})") from error
    return parse_table(content, source=str(path), at_lines=at_lines)


def read_expectation(path: Path) -> Expectation:
    """Read the table at `path` with its flaky models, from the nearest flaky file: beside it, or one folder up.

    Raises `UsageProblem` when there is none, or one that is no table.
    """
    at_lines: dict[str, list[int]] = {}
    table = read_table(path, at_lines)
    if table is None:
        raise UsageProblem(f"there is no expectation table {path}; torchperf-ci update-expected makes one")
    here = path.absolute().parent
    for folder, config in ((here, path.stem), (here.parent, f"{here.name}/{path.stem}")):
        flaky_file = folder / FLAKY_FILE
        if flaky_file.is_file():
            try:
                text = flaky_file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise UsageProblem(f"{flaky_file} cannot be read ({error})") from error
            flaky = parse_flaky(text, source=str(flaky_file))
            return Expectation(path=path, name=path.stem, config=config, table=table, flaky=flaky, at_lines=at_lines)
    return Expectation(path=path, name=path.stem, config=path.stem, table=table, at_lines=at_lines)


def list_doubles(at_lines: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """List the models that stand in a table more than once, with the lines."""
    return {name: f"lines {', '.join(map(str, lines))}" for name, lines in at_lines.items() if len(lines) > 1}


def read_expectations(folder: Path) -> tuple[tuple[Expectation, ...], dict[str, str], dict[str, str]]:
    """Read the tables in `folder`, by name; by name, why a table of models cannot be used; and likewise the CSVs that
    are no such tables. A damaged table is told by its name. Raises `UsageProblem`."""
    if not folder.is_dir():
        raise UsageProblem(f"there is no folder {folder} of expectation tables; torchperf-ci update-expected makes one")
    tables: list[Expectation] = []
    unusable: dict[str, str] = {}
    foreign: dict[str, str] = {}
    for path in sorted(path for path in folder.glob("*.csv") if path.is_file()):
        try:
            tables.append(read_expectation(path))
        except TableProblem as error:
            is_table = _is_table_name(path.stem) or _has_names(path)
            (unusable if is_table else foreign)[path.stem] = str(error)
    return tuple(tables), unusable, foreign


def write_expectation(path: Path, table: ExpectationTable) -> None:
    """Replace the table at `path`: a reader sees the old one or the new one, never half of it.

    A link stays a link, and the file keeps its permissions. Raises `UsageProblem` when it cannot be written.
    """
    target = path.resolve()
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        write_whole(target, write_table(table).encode("utf-8"), mode=mode)
    except OSError as error:
        raise UsageProblem(f"{path} cannot be written ({error.strerror})") from error


def parse_flaky(text: str, *, source: str) -> tuple[Flaky, ...]:
    """Parse a flaky file: a list of entries with `name`, `reason`, and optionally `configs` and `checks`.

    Raises `UsageProblem` that lists everything wrong with it.
    """
    try:
        entries = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageProblem(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise UsageProblem(f"{source} is not a list of entries with 'name' and 'reason'")
    problems = [
        f"entry {at}: {problem}" for at, entry in enumerate(entries, start=1) for problem in _find_problems(entry)
    ]
    if problems:
        raise UsageProblem(f"{source}: {'; '.join(problems)}")
    return tuple(
        Flaky(
            name=str(entry["name"]),
            reason=str(entry["reason"]),
            configs=tuple(_list_texts(entry.get("configs", "*"))),
            checks=tuple(
                CheckKind(word) for word in _list_texts(entry.get("checks", [kind.value for kind in CheckKind]))
            ),
        )
        for entry in entries
    )


def _find_problems(entry: object) -> list[str]:
    if not isinstance(entry, dict):
        return ["is not a mapping"]
    choices = [kind.value for kind in CheckKind]
    unknown = [word for word in _list_texts(entry.get("checks", [])) if word not in choices]
    return [
        *(f"unknown key {quote(str(key))}, expected {', '.join(_KEYS)}" for key in entry if key not in _KEYS),
        *(f"'{key}' is missing" for key in ("name", "reason") if not str(entry.get(key) or "").strip()),
        *(f"unknown check {quote(word)}, expected {', '.join(choices)}" for word in unknown),
    ]


def _list_texts(value: object) -> list[str]:
    return [str(part) for part in value] if isinstance(value, list) else [str(value)]
