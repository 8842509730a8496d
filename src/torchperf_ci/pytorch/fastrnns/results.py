"""fastrnns' results: a row per variant, the table of them, two JSON formats, and two files of one side by side."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tabulate import tabulate

from torchperf_ci.core.text import code, csv_cell, one_line
from torchperf_ci.formats.inputs import Duration, convert, parse

BACKWARD = "-backward"
"""What is added to a group's name for its backward passes."""

Averages = Mapping[str, Mapping[str, float | None]]
"""Milliseconds by group and variant; None for one that failed."""

COLUMNS = ("name", "avg_fwd", "std_fwd", "info_fwd", "avg_bwd", "std_bwd", "info_bwd")
WIDTH = 16

_COMPARED = ("group", "name", "old (ms)", "new (ms)", "ratio", "note")
_ALIGNED = ("left", "left", "right", "right", "right", "left")
_ABSENT = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantTimes:
    """One variant: milliseconds of every forward and backward pass, or why there are none and the end of its log."""

    group: str
    variant: str
    forward: tuple[float, ...] = ()
    backward: tuple[float, ...] = ()
    failure: str = ""
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantPair:
    """A variant in two files. Milliseconds, None where there are none; `note` says why."""

    group: str
    variant: str
    old: float | None
    new: float | None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """new / old: above 1 is slower."""
        return self.new / self.old if self.old and self.new is not None else None


class ComparisonFormat(str, Enum):
    """How a comparison is written."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"

    __str__ = str.__str__


class VariantTable:
    """Lines of aligned columns, `WIDTH` wide or as wide as the longest of `variants`, between `separator`s."""

    def __init__(self, variants: Sequence[str], *, separator: str = " ") -> None:
        self._separator = separator
        self._name_width = max([WIDTH, *map(len, variants)])

    def header(self) -> str:
        return self._join(*COLUMNS)

    def row(self, row: VariantTimes) -> str:
        """Write mean, standard deviation and minimum of both directions in milliseconds, or why there are none."""
        if row.failure:
            name = row.variant.rjust(self._name_width)
            return f"{name}{self._separator}failed: {one_line(row.failure)}"
        cells = [
            cell
            for times in (row.forward, row.backward)
            for cell in (f"{statistics.fmean(times):.4g}", f"{deviation(times):.4g}", f"min={min(times):.4g}")
        ]
        return self._join(row.variant, *cells)

    def _join(self, name: str, *cells: str) -> str:
        return self._separator.join([name.rjust(self._name_width), *(cell.rjust(WIDTH)[:WIDTH] for cell in cells)])


def deviation(times: Sequence[float]) -> float:
    """Return the sample standard deviation; NaN for a single time."""
    return statistics.stdev(times) if len(times) > 1 else math.nan


def averages(rows: Sequence[VariantTimes]) -> dict[str, dict[str, float | None]]:
    """Make the format `oss`: mean milliseconds by group and variant, in both directions; None for one that failed."""
    means: dict[str, dict[str, float | None]] = {}
    for group, row, times in _directions(rows):
        means.setdefault(group, {})[row.variant] = statistics.fmean(times) if times else None
    return means


def observations(rows: Sequence[VariantTimes]) -> Iterator[Mapping[str, str | None]]:
    """Yield the format `pep`: an object per pass; for a variant that failed one with the value None and the error."""
    for group, row, times in _directions(rows):
        common = {"type": "NET", "metric": f"{group}-{row.variant}", "unit": "ms"}
        yield from ({**common, "value": str(time)} for time in times)
        if not times:
            yield {**common, "value": None, "error": row.failure}


def _directions(rows: Sequence[VariantTimes]) -> Iterator[tuple[str, VariantTimes, tuple[float, ...]]]:
    """Yield group, variant and times: of each group the forward passes, then the backward ones."""
    for group in dict.fromkeys(row.group for row in rows):
        members = [row for row in rows if row.group == group]
        yield from ((group, row, row.forward) for row in members)
        yield from ((group + BACKWARD, row, row.backward) for row in members)


def read_averages(content: bytes, where: str) -> Averages:
    """Read an `oss` file. Raises `InputProblem` naming the file `where` and what is wrong with it."""
    file: dict[str, dict[str, float | None]] = {}
    raw = convert(parse(content, file=where), dict[str, Any], where=f"{where}: not what --print-json oss writes")
    for group, variants in raw.items():
        place = f"{where}: {group}"
        file[group] = {
            variant: None if time is None else convert(time, Duration, where=f"{place}/{variant}")
            for variant, time in convert(variants, dict[str, Any], where=place).items()
        }
    return file


def pair_averages(old: Averages, new: Averages) -> list[VariantPair]:
    """Pair every variant of either file, in the order of `old`, then of `new`."""
    keys = dict.fromkeys((group, variant) for file in (old, new) for group in file for variant in file[group])
    pairs = []
    for group, variant in keys:
        notes = []
        for name, variants in (("old", old.get(group, {})), ("new", new.get(group, {}))):
            if variants.get(variant) is None:
                notes.append(f"{'failed' if variant in variants else 'not'} in {name}")
        times = {name: file.get(group, {}).get(variant) for name, file in (("old", old), ("new", new))}
        pairs.append(VariantPair(group=group, variant=variant, **times, note=", ".join(notes)))
    return pairs


def compare_pairs(pairs: Sequence[VariantPair], form: ComparisonFormat) -> str:
    """Write the pairs as text, without a line end after the last line."""
    if form is ComparisonFormat.JSON:
        objects = [{name: getattr(pair, field) for name, field in _FIELDS.items()} for pair in pairs]
        return json.dumps(objects, ensure_ascii=False, indent=2)
    if form is ComparisonFormat.CSV:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_FIELDS)
        for pair in pairs:
            numbers = ["" if value is None else repr(value) for value in (pair.old, pair.new, pair.ratio)]
            names = [csv_cell(one_line(name)) for name in (pair.group, pair.variant)]
            writer.writerow([*names, *numbers, pair.note])
        return stream.getvalue().rstrip("\n")
    is_markdown = form is ComparisonFormat.MARKDOWN
    rows = []
    for pair in pairs:
        names = [(code(name) if name else "") if is_markdown else one_line(name) for name in (pair.group, pair.variant)]
        times = [_ABSENT if time is None else f"{time:.4g}" for time in (pair.old, pair.new)]
        rows.append([*names, *times, _ABSENT if pair.ratio is None else f"{pair.ratio:.3f}", pair.note])
    style = "github" if is_markdown else "simple"
    return tabulate(rows, headers=_COMPARED, tablefmt=style, disable_numparse=True, colalign=_ALIGNED)


_FIELDS = {"group": "group", "name": "variant", "old": "old", "new": "new", "ratio": "ratio", "note": "note"}
"""The columns of CSV and JSON, and the attributes of a pair."""
