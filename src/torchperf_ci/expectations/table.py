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
from dataclasses import dataclass, field

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Status

NAME = "name"
ACCURACY = "accuracy"
GRAPH_BREAKS = "graph_breaks"

REMARK = "#"
"""Begins a line that is no row; in `Table.remarks` the key of those above the header."""

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
    def of(
        columns: Sequence[str],
        rows: Iterable[Mapping[str, str]],
        *,
        remarks: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Table:
        """A table of rows that need not have every column; a cell that is absent is blank."""
        filled = tuple(tuple(row.get(column, "") for column in columns) for row in rows)
        return Table(columns=tuple(columns), rows=filled, remarks=remarks or {})


def write_table(table: Table) -> str:
    """The table in the conflict-free layout: three blank lines between rows, one line end at the end."""
    named = zip((REMARK, *table.names), (table.columns, *table.rows), strict=True)
    blocks = ["\n".join((*table.remarks.get(name, ()), _line(cells))) for name, cells in named]
    return _GAP.join((*blocks, *table.remarks.get("", ()))) + "\n"


def parse_table(content: bytes | str, *, source: str, doubles: dict[str, str] | None = None) -> Table:
    """The table of a CSV, with or without blank lines. `source` is how messages call it.

    A first line without a cell `name` is a row of the columns name, accuracy and graph_breaks where it can be one.
    doubles: takes the names that stand there more than once, with the lines; the first row counts then. Without it such
    a table is refused. Raises `TableProblem` with the source and, where there is one, the line.
    """
    try:
        lines, remarks = _parsed_lines(_text(content))
        if not lines:
            raise TableProblem(f"empty, expected a header with the column '{NAME}'")
        header = _default_header(lines[0][1])
        body = lines if header else lines[1:]
        header = header or lines[0][1]
        _check_columns(header)
        _refuse_ragged(body, header)
        if doubles is not None:
            body = _without_doubles(body, header.index(NAME), doubles)
        names = {number: cells[header.index(NAME)] for number, cells in body}
        return Table(
            columns=header,
            rows=tuple(cells for _, cells in body),
            remarks=_placed(remarks, {**names, **({lines[0][0]: REMARK} if body is not lines else {})}),
        )
    except TableProblem as error:
        raise TableProblem(f"{source}: {error}") from error


def has_names(content: bytes) -> bool:
    """Is this a CSV with a column `name`, or one whose rows need no header? Any other is not a table of models."""
    try:
        lines, _ = _parsed_lines(_text(content))
    except TableProblem:
        return NAME.encode() in content[:1000]
    return bool(lines) and (NAME in lines[0][1] or bool(_default_header(lines[0][1])))


def _default_header(cells: Sequence[str]) -> tuple[str, ...]:
    """The columns of a table without a header; none when this is one."""
    default = (NAME, ACCURACY, GRAPH_BREAKS)[: len(cells)]
    is_row = NAME not in cells and 2 <= len(cells) <= 3 and cells[1] in _STATUSES
    return default if is_row else ()


_STATUSES = frozenset(status.value for status in Status)


def _without_doubles(
    body: Sequence[tuple[int, tuple[str, ...]]], at: int, doubles: dict[str, str]
) -> list[tuple[int, tuple[str, ...]]]:
    """The first row of every name; the others are told in `doubles`."""
    lines: dict[str, list[int]] = {}
    for number, cells in body:
        lines.setdefault(cells[at], []).append(number)
    doubles |= {name: f"lines {', '.join(map(str, all_))}" for name, all_ in lines.items() if len(all_) > 1}
    return [(number, cells) for number, cells in body if lines[cells[at]][0] == number]


def _placed(remarks: Mapping[int, str], names: Mapping[int, str]) -> dict[str, tuple[str, ...]]:
    """Remarks by their lines as remarks by the name of the next row, blank after the last one."""
    placed: dict[str, tuple[str, ...]] = {}
    for number, remark in remarks.items():
        below = min((line for line in names if line > number), default=0)
        name = names.get(below, "")
        placed[name] = (*placed.get(name, ()), remark)
    return placed


def _text(content: bytes | str) -> str:
    if len(content) > MAX_BYTES:
        raise TableProblem(f"larger than {MAX_BYTES // 1024 // 1024} MiB")
    if isinstance(content, str):
        return content
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableProblem(f"not UTF-8 text (byte {error.start})") from error


def _parsed_lines(text: str) -> tuple[list[tuple[int, tuple[str, ...]]], dict[int, str]]:
    """Number (from 1) and cells of every line that is not blank, and the remarks by their line."""
    lines: list[tuple[int, tuple[str, ...]]] = []
    remarks: dict[int, str] = {}
    for number, raw in enumerate(text.split("\n"), start=1):
        line = raw.rstrip("\r")
        if not line.strip():
            continue
        if line.lstrip().startswith(REMARK):
            remarks[number] = line.strip()
            if any(unicodedata.category(char) in _UNSEEN for char in remarks[number]):
                raise TableProblem(f"line {number}: the remark holds control characters")
            continue
        if len(lines) > MAX_ROWS:
            raise TableProblem(f"line {number}: more than {MAX_ROWS:,} rows")
        lines.append((number, _cells(line, number)))
    return lines, remarks


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
