"""What pytest-benchmark writes (`--benchmark-json`, `--benchmark-save`), of every version since 3.0, and with any
parametrisation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from torchperf_ci.escape import one_line
from torchperf_ci.upload.inputs import InputProblem, object_in, objects_in, read_object, text_in

STATS = ("stddev", "rounds", "min", "median", "max", "mean")
"""The statistics every file has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One benchmark of the file.

    where: its place, for messages.
    params: parameter names and values as pytest-benchmark wrote them; empty without parametrisation.
    stats: its numbers in seconds, as they stand in the file; `data` holds the rounds when they were saved.
    """

    where: str
    name: str
    fullname: str
    group: str
    params: Mapping[str, Any]
    param: str
    stats: Mapping[str, Any]

    def name_without(self, names: Collection[str]) -> str:
        """The name with the values of these parameters left out of its brackets; empty brackets go away."""
        base = self.name.partition("[")[0]
        values = [str(value) for value in self.params.values()]
        parts = self.param.split("-")
        # An id may hold hyphens, or differ from the value: it is taken where it is clear which parameter it belongs to.
        clear = len(parts) == len(values) and "-".join(values) != self.param
        ids = parts if clear else values
        kept = [value for name, value in zip(self.params, ids, strict=True) if name not in names]
        return f"{base}[{'-'.join(kept)}]" if kept else base


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkFile:
    """One file: the machine, the commit and the time of its benchmarks, as pytest-benchmark found them."""

    file: str
    machine: Mapping[str, Any]
    commit: Mapping[str, Any]
    time: str
    benchmarks: tuple[Benchmark, ...]


def read_pytest_benchmark(content: bytes, *, file: str) -> BenchmarkFile:
    """Raises `InputProblem` naming the line or the benchmark, when `content` is not pytest-benchmark's JSON."""
    raw = read_object(content, file=file)
    found = objects_in(raw, "benchmarks", file=file)
    problems: list[str] = []
    benchmarks = tuple(_benchmark(item, f"{file}: benchmarks[{at}]", problems) for at, item in enumerate(found))
    if problems:
        raise InputProblem(problems)
    return BenchmarkFile(
        file=file,
        machine=object_in(raw, "machine_info"),
        commit=object_in(raw, "commit_info"),
        time=text_in(raw, "datetime"),
        benchmarks=benchmarks,
    )


def _benchmark(raw: Mapping[str, Any], where: str, problems: list[str]) -> Benchmark:
    name = text_in(raw, "name")
    where = f"{where} ({one_line(name, limit=120)})" if name else where
    if not name:
        problems.append(f"{where}: name missing")
    stats = object_in(raw, "stats")
    missing = [f"stats.{each}" for each in STATS if stats.get(each) is None]
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
    )
