"""What pytest-benchmark writes (`--benchmark-json`, `--benchmark-save`), of every version since 3.0, and with any
parametrisation."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torchperf_ci.core.text import one_line
from torchperf_ci.formats.inputs import InputProblem, object_in, objects_in, read_object, text_in

UNSERIALIZABLE = "UNSERIALIZABLE["
"""Begins the text of a parameter that JSON has no word for; its repr follows."""

OUR_VERSION = "torchperf-ci"
"""Begins the version in files of our own export, whose names and metrics are known to be ours."""

OWN_METRICS = "own_metrics"
"""The entry of `extra_info` in which our export defines metrics that are not in `METRICS`."""

_LONGEST_PARAM = 1000
"""Characters; nobody reads a longer one, and finding its parts takes longer than its length."""

STATS = ("stddev", "rounds", "min", "median", "max", "mean")
"""The statistics every file has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark of the file.

    where: its place, for messages.
    params: parameter names and values as pytest-benchmark wrote them; empty without parametrisation.
    stats: its numbers in seconds, as they stand in the file; `data` holds the rounds when they were saved.
    extra: what the test itself added (`benchmark.extra_info`).
    """

    where: str
    name: str
    fullname: str
    group: str
    params: Mapping[str, Any]
    param: str
    stats: Mapping[str, Any]
    extra: Mapping[str, Any]

    def parameter_ids(self) -> dict[str, str]:
        """The part of `param` that stands for each parameter; empty where it is not clear which does.

        `param` is what pytest makes the test's name of: the ids with hyphens between. An id may hold hyphens itself.
        Values are no help where they are objects: their text in the file may hold a memory address.
        """
        parts = self.param.split("-")
        if len(parts) == len(self.params):
            return dict(zip(self.params, parts, strict=True))
        known = {name: _possible_ids(name, value) for name, value in self.params.items()}
        if sum(not ids for ids in known.values()) > 1 or len(self.param) > _LONGEST_PARAM:
            return {}
        pattern = "-".join("(" + ("|".join(ids) if ids else ".+?") + ")" for ids in known.values())
        match = re.fullmatch(pattern, self.param, re.DOTALL)
        return dict(zip(self.params, match.groups(), strict=True)) if match else {}

    def name_without(self, names: Collection[str]) -> str:
        """The name with the ids of these parameters left out of its brackets; empty brackets go away.

        Where the ids cannot be told apart, all of them stay: a name is the same whenever the code is measured.
        """
        base, opened, _ = self.name.partition("[")
        ids = self.parameter_ids()
        if not opened or not ids:
            return self.name
        kept = [text for name, text in ids.items() if name not in names]
        return f"{base}[{'-'.join(kept)}]" if kept else base


def _possible_ids(name: str, value: object) -> list[str]:
    """What pytest may call a parameter with this value, as patterns; none when that cannot be known."""
    if value is not None and not isinstance(value, (str, int, float)):
        return []
    text = str(value)
    if text.startswith(UNSERIALIZABLE):
        text = text.removeprefix(UNSERIALIZABLE).removesuffix("]")
        words = [text.removeprefix("torch."), *re.findall(r"'(\w+)'", text)] if "0x" not in text else []
        return [*map(re.escape, [text, *words]), rf"{re.escape(name)}\d+"] if words else []
    return [re.escape(text), rf"{re.escape(name)}\d+"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkFile:
    """One file: the machine, the commit and the time of its benchmarks, as pytest-benchmark found them."""

    file: str
    machine: Mapping[str, Any]
    commit: Mapping[str, Any]
    time: str
    version: str
    benchmarks: tuple[Benchmark, ...]


def read_pytest_benchmark(content: bytes, *, file: str, needed: Collection[str] = STATS) -> BenchmarkFile:
    """Read a file whose benchmarks have the `needed` statistics.

    Raises `InputProblem` naming the line or the benchmark, when `content` is not pytest-benchmark's JSON.
    """
    raw = read_object(content, file=file)
    found = objects_in(raw, "benchmarks", file=file)
    problems: list[str] = []
    benchmarks = tuple(_benchmark(item, f"{file}: benchmarks[{at}]", needed, problems) for at, item in enumerate(found))
    if problems:
        raise InputProblem(problems)
    return BenchmarkFile(
        file=file,
        machine=object_in(raw, "machine_info"),
        commit=object_in(raw, "commit_info"),
        time=text_in(raw, "datetime"),
        version=text_in(raw, "version"),
        benchmarks=benchmarks,
    )


def _benchmark(raw: Mapping[str, Any], where: str, needed: Collection[str], problems: list[str]) -> Benchmark:
    name = text_in(raw, "name")
    where = f"{where} ({one_line(name, limit=120)})" if name else where
    if not name:
        problems.append(f"{where}: name missing")
    stats = object_in(raw, "stats")
    missing = [f"stats.{each}" for each in needed if stats.get(each) is None]
    if missing:
        problems.append(f"{where}: {', '.join(missing) if stats else 'stats'} missing")
    return Benchmark(
        where=where,
        name=name,
        fullname=text_in(raw, "fullname") or name,
        group=text_in(raw, "group"),
        params=object_in(raw, "params"),
        param=text_in(raw, "param"),
        stats=stats,
        extra=object_in(raw, "extra_info"),
    )
