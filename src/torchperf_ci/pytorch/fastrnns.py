"""fastrnns' results: a row per variant, the table of them, two JSON formats, and two files of one side by side."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Status
from torchperf_ci.core.text import Word, code, count, csv_cell, draw_table, one_line, sentence, write_csv
from torchperf_ci.formats.model import Duration, convert, parse
from torchperf_ci.run.plan import device_problem
from torchperf_ci.run.session import Python, WorkerError
from torchperf_ci.run.survey import survey
from torchperf_ci.suites.fastrnns.catalog import UNUSABLE_SETTINGS, Executor, Fuser, Sizes, group_of

BACKWARD = "-backward"
"""The ending of a group's name for its backward passes."""

Averages = Mapping[str, Mapping[str, float | None]]
"""Milliseconds by group and variant; None for one that failed."""

COLUMNS = ("name", "avg_fwd", "std_fwd", "min_fwd", "avg_bwd", "std_bwd", "min_bwd")
NAME_WIDTH, WIDTH = 19, 9
"""Of the columns, so that a row has less than 80 characters."""

_COMPARED = ("group", "name", "old ms", "new ms", "ratio", "note")
_MEASURED = ("group", "name", "forward ms", "min", "backward ms", "min", "failure")
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


class TableFormat(Word):
    """The forms in which a table is written."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"


class VariantTable:
    """Lines of aligned columns, wide enough for the longest of `variants`, between `separator`s."""

    def __init__(self, variants: Sequence[str], *, separator: str = " ") -> None:
        self._separator = separator
        self._name_width = max([NAME_WIDTH, *map(len, variants)])

    def header(self) -> str:
        return self._join(COLUMNS)

    def row(self, row: VariantTimes) -> str:
        """Write mean, standard deviation and minimum of both directions in milliseconds, or why there are none."""
        if row.failure:
            name = row.variant.rjust(self._name_width)
            return f"{name}{self._separator}failed: {one_line(row.failure)}"
        cells = [cell for times in (row.forward, row.backward) for cell in _numbers(times)]
        return self._join([row.variant, *cells])

    def _join(self, cells: Sequence[str]) -> str:
        widths = [self._name_width, *[WIDTH] * (len(cells) - 1)]
        return self._separator.join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _numbers(times: Sequence[float]) -> tuple[str, str, str]:
    """Write mean, standard deviation and minimum of times, the deviation with two digits: it is not known better."""
    return _digits(statistics.fmean(times), 4), _digits(deviation(times), 2), _digits(min(times), 4)


def _digits(value: float, digits: int) -> str:
    """Write so many significant digits, and never an exponent for a large number."""
    text = f"{value:.{digits}g}"
    return f"{value:.0f}" if "e+" in text else text


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


def compare_pairs(pairs: Sequence[VariantPair], form: TableFormat) -> str:
    """Write the pairs as text, for people with the mean of their ratios; without a line end after the last line."""
    columns = {"group": "group", "name": "variant", "old": "old", "new": "new", "ratio": "ratio", "note": "note"}
    objects = [{name: getattr(pair, field) for name, field in columns.items()} for pair in pairs]
    rows = []
    for pair in pairs:
        times = [_ABSENT if time is None else _digits(time, 4) for time in (pair.old, pair.new)]
        rows.append([pair.group, pair.variant, *times, f"{pair.ratio:.3f}" if pair.ratio else _ABSENT, pair.note])
    text = _write(objects, rows, _COMPARED, form)
    if form in {TableFormat.CSV, TableFormat.JSON}:
        return text
    ratios = [pair.ratio for pair in pairs if pair.ratio]
    mean = f"{statistics.geometric_mean(ratios):.3f}" if ratios else _ABSENT
    return f"{text}\n\nGeometric mean of new / old over {count(len(ratios), 'variant')}: {mean} (above 1 is slower)"


def write_rows(rows: Sequence[VariantTimes], form: TableFormat) -> str:
    """Write what was measured as text, without a line end after the last line."""
    objects = []
    cells = []
    for row in rows:
        numbers: dict[str, float | None] = dict.fromkeys(COLUMNS[1:])
        texts = [_ABSENT] * 4
        if not row.failure:
            of_both = [(statistics.fmean(times), deviation(times), min(times)) for times in (row.forward, row.backward)]
            numbers = dict(
                zip(COLUMNS[1:], [None if math.isnan(n) else n for three in of_both for n in three], strict=True)
            )
            texts = []
            for times in (row.forward, row.backward):
                mean, spread, least = _numbers(times)
                texts += [f"{mean} ± {spread}" if len(times) > 1 else mean, least]
        objects.append({"group": row.group, "name": row.variant, **numbers, "failure": row.failure})
        cells.append([row.group, row.variant, *texts, row.failure])
    return _write(objects, cells, _MEASURED, form)


def _write(
    objects: Sequence[Mapping[str, Any]], rows: Sequence[Sequence[str]], headers: Sequence[str], form: TableFormat
) -> str:
    """Write a table: `objects` for machines, `rows` of texts for people, with group, name and a remark in it."""
    if form is TableFormat.JSON:
        return json.dumps(objects, ensure_ascii=False, indent=2)
    if form is TableFormat.CSV:
        lines = [
            [csv_cell(one_line(value)) if isinstance(value, str) else value for value in item.values()]
            for item in objects
        ]
        return write_csv([objects[0] if objects else headers, *lines]).rstrip("\n")
    is_markdown = form is TableFormat.MARKDOWN
    cells = []
    for group, name, *numbers, remark in rows:
        names = [(code(text) if text else "") if is_markdown else one_line(text) for text in (group, name)]
        cells.append([*names, *numbers, sentence(remark) if is_markdown and remark else one_line(remark)])
    aligned = ("left", "left", *["right"] * (len(headers) - 3), "left")
    if not is_markdown:
        return draw_table(headers, cells, right=range(2, len(headers) - 1))
    return tabulate(cells, headers=headers, tablefmt="github", disable_numparse=True, colalign=aligned)


_LOG_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FastrnnsSettings:
    """The settings of a measurement. `device` None: the first accelerator, else the CPU. `timeout`: seconds each.

    pointwise: `loop_level`, `block_count`, `block_size` of the CUDA kernels that the fuser `te` makes.
    traces: the folder that gets a Chrome trace of every variant.
    """

    sizes: Sizes = field(default_factory=Sizes)
    warmup: int = 10
    nloops: int = 100
    device: str | None = None
    fuser: Fuser = Fuser.TE
    executor: Executor | None = None
    pointwise: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    threads: int | None = None
    timeout: float = 1800.0
    traces: Path | None = None


class FastrnnsBench:
    """A Python under test, asked what it is, ready to measure variants. A context manager."""

    def __init__(self, python: Python, settings: FastrnnsSettings) -> None:
        self._python = python
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> FastrnnsBench:
        """Start it. Raises `UsageProblem` when it has no such device."""
        try:
            self._preloaded = self._stack.enter_context(self._python.start())
            self.survey = survey(self._preloaded, (), threads=self._settings.threads, command=())
            device, machine = self._settings.device, self.survey.machine
            problem = (
                device_problem(device, machine, option="--device") if device else machine.why_not_cpu(option="--device")
            )
            if problem:
                raise UsageProblem(problem)
            self.device = device or machine.default_device
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def description(self) -> str:
        """Say in a line what is measured where."""
        environment = self.survey.environment
        machine = environment.cpu if self.device == "cpu" else f"{environment.gpu or self.device}, {environment.cpu}"
        return f"torch {environment.torch} on {self.device} ({machine}), {count(environment.threads, 'thread')}"

    def measure(self, variants: Sequence[str]) -> Iterator[VariantTimes]:
        """Yield a row per variant, as it is measured. Raises `UsageProblem` when torch lacks a switch that was asked
        for."""
        settings = self._settings
        for number, variant in enumerate(variants):
            group, log = group_of(variant).label, self._python.log.with_name(f"{number}.log")
            request = {
                "variant": variant,
                "sizes": settings.sizes.as_json(),
                "warmup": settings.warmup,
                "nloops": settings.nloops,
                "device": self.device,
                "fuser": settings.fuser.value,
                "executor": settings.executor.value if settings.executor else None,
                "pointwise": dict(settings.pointwise),
                "seed": settings.seed,
                "threads": settings.threads,
                "trace": str(settings.traces / f"{variant}.json") if settings.traces else None,
            }
            if not self._preloaded.alive:
                self._stack.close()
                self._preloaded = self._stack.enter_context(self._python.start())
            try:
                with self._preloaded.fork(log) as worker:
                    times = worker.ask("fastrnns", deadline=time.monotonic() + settings.timeout, **request)
            except WorkerError as error:
                if error.status == UNUSABLE_SETTINGS:
                    raise UsageProblem(error.reason) from error
                timed_out = f"not done within {settings.timeout:g} s" if error.status is Status.TIMEOUT else ""
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
                yield VariantTimes(
                    group=group, variant=variant, failure=timed_out or error.reason, log=tuple(lines[-_LOG_LINES:])
                )
            else:
                yield VariantTimes(
                    group=group, variant=variant, forward=tuple(times["forward"]), backward=tuple(times["backward"])
                )
