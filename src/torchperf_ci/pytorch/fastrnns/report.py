"""fastrnns' results as text: the table that grows while variants are measured, and two files side by side."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Sequence
from enum import Enum

from tabulate import tabulate

from torchperf_ci.core.text import code, csv_cell, one_line
from torchperf_ci.pytorch.fastrnns.results import Pair, Row, deviation

COLUMNS = ("name", "avg_fwd", "std_fwd", "info_fwd", "avg_bwd", "std_bwd", "info_bwd")
WIDTH = 16

_COMPARED = ("group", "name", "old (ms)", "new (ms)", "ratio", "note")
_ABSENT = "–"


class Format(str, Enum):
    """How a comparison is written."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"

    __str__ = str.__str__


class Table:
    """Lines of aligned columns, `WIDTH` wide or as wide as the longest of `variants`, between `separator`s."""

    def __init__(self, variants: Sequence[str], *, separator: str = " ") -> None:
        self._separator = separator
        self._name_width = max([WIDTH, *map(len, variants)])

    def header(self) -> str:
        return self._joined(*COLUMNS)

    def row(self, row: Row) -> str:
        """Mean, standard deviation and minimum of both directions in milliseconds, or why there are none."""
        if row.failure:
            name = row.variant.rjust(self._name_width)
            return f"{name}{self._separator}failed: {one_line(row.failure)}"
        return self._joined(row.variant, *_numbers(row.forward), *_numbers(row.backward))

    def _joined(self, name: str, *cells: str) -> str:
        return self._separator.join([name.rjust(self._name_width), *(cell.rjust(WIDTH)[:WIDTH] for cell in cells)])


def _numbers(times: Sequence[float]) -> tuple[str, str, str]:
    return f"{statistics.fmean(times):.4g}", f"{deviation(times):.4g}", f"min={min(times):.4g}"


def compared(pairs: Sequence[Pair], form: Format) -> str:
    """The pairs as text, without a line end after the last line."""
    match form:
        case Format.TABLE:
            cells = [[one_line(cell) for cell in _cells(pair)] for pair in pairs]
            return tabulate(cells, headers=_COMPARED, tablefmt="simple", disable_numparse=True, colalign=_ALIGNED)
        case Format.MARKDOWN:
            return tabulate(
                [[code(cell) if cell else "" for cell in _cells(pair)[:2]] + _cells(pair)[2:] for pair in pairs],
                headers=_COMPARED,
                tablefmt="github",
                disable_numparse=True,
                colalign=_ALIGNED,
            )
        case Format.CSV:
            return _csv(pairs)
        case Format.JSON:
            return json.dumps([_object(pair) for pair in pairs], ensure_ascii=False, indent=2)


_ALIGNED = ("left", "left", "right", "right", "right", "left")


def _cells(pair: Pair) -> list[str]:
    times = [_ABSENT if time is None else f"{time:.4g}" for time in (pair.old, pair.new)]
    ratio = _ABSENT if pair.ratio is None else f"{pair.ratio:.3f}"
    return [pair.group, pair.variant, *times, ratio, pair.note]


def _object(pair: Pair) -> dict[str, object]:
    return {
        "group": pair.group,
        "name": pair.variant,
        "old": pair.old,
        "new": pair.new,
        "ratio": pair.ratio,
        "note": pair.note,
    }


def _csv(pairs: Sequence[Pair]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["group", "name", "old", "new", "ratio", "note"])
    for pair in pairs:
        numbers = ["" if value is None else repr(value) for value in (pair.old, pair.new, pair.ratio)]
        writer.writerow([csv_cell(one_line(pair.group)), csv_cell(one_line(pair.variant)), *numbers, pair.note])
    return stream.getvalue().rstrip("\n")
