"""Expectation tables: what is expected of every model, as text cells, and the conflict-free CSV layout they live in.

Between two rows stand three blank lines, so that changes to neighbouring rows never touch the same lines of a diff and
merge without conflicts. A `Table` that exists can be written, and what is written reads back as the same table.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torchperf_ci.errors import UsageProblem

NAME = "name"
ACCURACY = "accuracy"

MAX_BYTES = 16 * 1024 * 1024
MAX_ROWS = 20_000
MAX_COLUMNS = 100
MAX_CELL = 500
"""Limits far above any real table: what exceeds them is not one."""

_GAP = "\n" * 4
_FORMULA = ("=", "+", "-", "@")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf)", re.IGNORECASE)
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class TableProblem(UsageProblem):
    """A table, or a run's CSV, that cannot be used. The message names the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text cells under unique columns; the column `name` holds a unique, harmless name in every row.

    Raises `TableProblem` for anything that could not be written and read back as it is, or that would be a formula in
    a spreadsheet or a command in a log.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        _check_columns(self.columns)
        if len(self.rows) > MAX_ROWS:
            raise TableProblem(f"more than {MAX_ROWS:,} rows")
        at = self.columns.index(NAME)
        seen: set[str] = set()
        for number, row in enumerate(self.rows, start=1):
            _check_row(row, self.columns, name=row[at] if at < len(row) else "", number=number, seen=seen)

    @property
    def names(self) -> tuple[str, ...]:
        at = self.columns.index(NAME)
        return tuple(row[at] for row in self.rows)

    def by_name(self) -> dict[str, dict[str, str]]:
        """The cells of every row by column, by the row's name, in the table's order."""
        rows = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return {row[NAME]: row for row in rows}

    @staticmethod
    def of(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> Table:
        """A table of rows that need not have every column; a cell that is absent is blank."""
        return Table(columns=tuple(columns), rows=tuple(tuple(row.get(c, "") for c in columns) for row in rows))


def write_table(table: Table) -> str:
    """The table in the conflict-free layout: three blank lines between rows, one line end at the end."""
    return _GAP.join(_line(cells) for cells in (table.columns, *table.rows)) + "\n"


def parse_table(content: bytes | str, *, source: str, default_columns: Sequence[str] = ()) -> Table:
    """The table of a CSV, with or without blank lines. `source` is how messages call it.

    default_columns: those of a CSV whose first line is no header, that is, has no cell `name`.
    Raises `TableProblem` with the source and, where there is one, the line.
    """
    try:
        lines = _parsed_lines(_text(content))
    except TableProblem as error:
        raise TableProblem(f"{source}: {error}") from error
    if not lines:
        raise TableProblem(f"{source}: empty, expected a header with the column '{NAME}'")
    header = lines[0][1]
    if NAME not in header and len(header) == len(default_columns):
        header, body = tuple(default_columns), lines
    else:
        body = lines[1:]
    try:
        _check_columns(header)
        _refuse_ragged(body, header)
        return Table(columns=header, rows=tuple(cells for _, cells in body))
    except TableProblem as error:
        raise TableProblem(f"{source}: {error}") from error


def _text(content: bytes | str) -> str:
    if len(content) > MAX_BYTES:
        raise TableProblem(f"larger than {MAX_BYTES // 1024 // 1024} MiB")
    if isinstance(content, str):
        return content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableProblem(f"not UTF-8 text (byte {error.start})") from error


def _parsed_lines(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """Number (from 1) and cells of every line that is not blank."""
    lines: list[tuple[int, tuple[str, ...]]] = []
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip("\r")
        if not line.strip():
            continue
        if len(lines) > MAX_ROWS:
            raise TableProblem(f"line {number}: more than {MAX_ROWS:,} rows")
        lines.append((number, _cells(line, number)))
    return lines


def _cells(line: str, number: int) -> tuple[str, ...]:
    if len(line) > MAX_CELL * MAX_COLUMNS:
        raise TableProblem(f"line {number}: {len(line):,} characters long")
    try:
        return tuple(cell.strip() for cell in next(csv.reader([line], strict=True)))
    except csv.Error as error:
        raise TableProblem(f"line {number}: not CSV ({error})") from error


def _refuse_ragged(body: Iterable[tuple[int, tuple[str, ...]]], header: Sequence[str]) -> None:
    for number, cells in body:
        if len(cells) != len(header):
            raise TableProblem(
                f"line {number} has {len(cells)} cells, the header has {len(header)}; is the file truncated?"
            )


def _line(cells: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(cells)
    return stream.getvalue()


def _check_columns(columns: Sequence[str]) -> None:
    if NAME not in columns:
        raise TableProblem(f"no column '{NAME}', only: {shown(', '.join(columns))}")
    if len(columns) > MAX_COLUMNS:
        raise TableProblem(f"more than {MAX_COLUMNS} columns")
    if twice := [column for column, times in Counter(columns).items() if times > 1]:
        raise TableProblem(f"column {shown(twice[0])} stands there twice")
    for column in columns:
        if not column or (why := _refusal(column)):
            raise TableProblem(f"column {shown(column)} {why if column else 'has no name'}")


def _check_row(row: Sequence[str], columns: Sequence[str], *, name: str, number: int, seen: set[str]) -> None:
    if len(row) != len(columns):
        raise TableProblem(f"row {number} has {len(row)} cells for {len(columns)} columns")
    if why := name_refusal(name):
        raise TableProblem(f"row {number}: the name {shown(name)} {why}")
    if name in seen:
        raise TableProblem(f"the name {shown(name)} stands there twice")
    seen.add(name)
    for column, cell in zip(columns, row, strict=True):
        if why := _refusal(cell):
            raise TableProblem(f"row {shown(name)}: {shown(column)} {why}: {shown(cell)}")


def name_refusal(name: str) -> str:
    """Why `name` may not stand in a table, or nothing. What starts with a letter, a digit or `_` is no formula, no
    workflow command and no option."""
    if not (name[:1].isalnum() or name.startswith("_")):
        return "does not start with a letter, a digit or _"
    return _refusal(name)


def _refusal(cell: str) -> str:
    if len(cell) > MAX_CELL:
        return f"is longer than {MAX_CELL} characters"
    if cell != cell.strip():
        return "has spaces around it"
    if any(unicodedata.category(char) in _UNSEEN for char in cell):
        return "holds control characters"
    if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell):
        return "looks like a formula"
    return ""


def shown(text: str) -> str:
    """`text` as messages show it: quoted, with what cannot be seen spelled out, and short."""
    quoted = ascii(text)
    return quoted if len(quoted) <= 80 else quoted[:79] + "…"
