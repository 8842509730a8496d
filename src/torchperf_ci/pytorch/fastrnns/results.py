"""fastrnns' results: a row per variant, the two JSON formats, and two files of the first one side by side."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torchperf_ci.core.errors import UsageProblem

BACKWARD = "-backward"
"""What is added to a group's name for its backward passes."""

Averages = Mapping[str, Mapping[str, float | None]]
"""Milliseconds by group and variant; None for one that failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant: milliseconds of every forward and backward pass, or why there are none and the end of its log."""

    group: str
    variant: str
    forward: tuple[float, ...] = ()
    backward: tuple[float, ...] = ()
    failure: str = ""
    log: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
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


def deviation(times: Sequence[float]) -> float:
    """Sample standard deviation; NaN for a single time."""
    return statistics.stdev(times) if len(times) > 1 else math.nan


def averages(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """The format `oss`: mean milliseconds by group and variant, in both directions; None for a variant that failed."""
    made: dict[str, dict[str, float | None]] = {}
    for group, variant, times in _directions(rows):
        made.setdefault(group, {})[variant] = statistics.fmean(times) if times else None
    return made


def observations(rows: Sequence[Row]) -> Iterator[Mapping[str, str | None]]:
    """The format `pep`: an object per iteration; for a variant that failed one with the value None and the error."""
    failures = {(row.group, row.variant): row.failure for row in rows}
    for group, variant, times in _directions(rows):
        common = {"type": "NET", "metric": f"{group}-{variant}", "unit": "ms"}
        yield from ({**common, "value": str(time)} for time in times)
        if not times:
            yield {**common, "value": None, "error": failures[group.removesuffix(BACKWARD), variant]}


def read_averages(text: str, where: str) -> Averages:
    """The content of an `oss` file. Raises `UsageProblem` naming the file `where` and what is wrong with it."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise UsageProblem(f"{where} is not JSON: {error}") from error
    if not isinstance(raw, dict) or not all(isinstance(group, dict) for group in raw.values()):
        raise UsageProblem(f"{where} is not what --print-json oss writes: an object of objects")
    for group, variants in raw.items():
        for variant, value in variants.items():
            if value is not None and not _is_time(value):
                raise UsageProblem(f"{where}: {group}/{variant} is {str(value)[:40]!r}, not a number of milliseconds")
    return raw


def pairs(old: Averages, new: Averages) -> list[Pair]:
    """Every variant of either, in the order of `old`, then of `new`."""
    keys = dict.fromkeys((group, variant) for file in (old, new) for group in file for variant in file[group])
    return [_pair(group, variant, old.get(group, {}), new.get(group, {})) for group, variant in keys]


def _pair(group: str, variant: str, old: Mapping[str, float | None], new: Mapping[str, float | None]) -> Pair:
    notes = [
        f"{state} {name}"
        for name, file in (("old", old), ("new", new))
        if (state := "not in" if variant not in file else "failed in" if file[variant] is None else "")
    ]
    return Pair(group=group, variant=variant, old=old.get(variant), new=new.get(variant), note=", ".join(notes))


def _directions(rows: Sequence[Row]) -> Iterator[tuple[str, str, tuple[float, ...]]]:
    """Group, variant and times: of each group the forward passes, then the backward ones."""
    for group in dict.fromkeys(row.group for row in rows):
        members = [row for row in rows if row.group == group]
        yield from ((group, row.variant, row.forward) for row in members)
        yield from ((group + BACKWARD, row.variant, row.backward) for row in members)


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
