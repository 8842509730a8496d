"""pytest-benchmark's results as records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchperf_ci.records import Build, Case, Environment, Mode, Record
from torchperf_ci.upload.foreign import Defaults, Ingested, timed_record
from torchperf_ci.upload.inputs import InputProblem, count_in, object_in, seconds_of, text_in
from torchperf_ci.upload.pytest_benchmark import Benchmark, BenchmarkFile

_UNKNOWN_COMMITS = frozenset({"unversioned", "unknown"})
_UNKNOWN_BRANCHES = frozenset({"(unknown)", "(detached head)"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A benchmark with what its parameters say of the case; the rest of them stays in its name."""

    device: str
    dtype: str
    mode: Mode | None
    compiler: str
    model: str


def ingest_pytest_benchmark(found: BenchmarkFile, defaults: Defaults) -> Ingested:
    """A record per benchmark. The suite is its group, or else its file; the model is its name in that file.

    Raises `InputProblem` naming the benchmarks whose times cannot be used.
    """
    problems: list[str] = []
    environment = _environment(found.machine)
    source = defaults.source_of(
        commit=_unless(text_in(found.commit, "id"), _UNKNOWN_COMMITS),
        branch=_unless(text_in(found.commit, "branch"), _UNKNOWN_BRANCHES),
        time=found.time,
    )
    records: list[Record] = []
    for benchmark, case in zip(found.benchmarks, _cases(found.benchmarks, defaults), strict=True):
        times, middle = _times(benchmark, problems)
        records.append(
            timed_record(
                case,
                times=times,
                middle=middle,
                environment=environment,
                source=source,
                batch_size=max(0, count_in(benchmark.params, "batch_size")),
            )
        )
    if problems:
        raise InputProblem(problems)
    dirty = ("the checkout had changes that were not committed",) if found.commit.get("dirty") is True else ()
    return Ingested(records=tuple(records), build=Build(environment=environment, warnings=dirty, time=source.time))


def _cases(benchmarks: Sequence[Benchmark], defaults: Defaults) -> list[Case]:
    """The cases, different ones; benchmarks of the same name in one group are told apart by their files."""
    cases = [_case(benchmark, defaults) for benchmark in benchmarks]
    times = Counter(cases)
    return [
        _case(benchmark, defaults, whole=True) if times[case] > 1 else case
        for benchmark, case in zip(benchmarks, cases, strict=True)
    ]


def _case(benchmark: Benchmark, defaults: Defaults, *, whole: bool = False) -> Case:
    path, _, _ = benchmark.fullname.partition("::")
    named = _named(benchmark)
    return defaults.case(
        suite=benchmark.group or path.removesuffix(".py") or benchmark.name,
        model=f"{path}::{named.model}" if whole else named.model,
        device=named.device,
        dtype=named.dtype,
        mode=named.mode,
        compiler=named.compiler,
    )


def _named(benchmark: Benchmark) -> _Named:
    params = benchmark.params
    mode = next((each for each in Mode if each.value == params.get("mode")), None)
    said = {name: _word(params.get(name)) for name in ("device", "dtype", "compiler", "backend")}
    used = {name for name, word in said.items() if word} | ({"mode"} if mode else set())
    _, _, inside = benchmark.fullname.partition("::")
    inside = inside or benchmark.name
    # The class before the function's name stays; brackets may hold `::` too.
    head = inside.partition("[")[0].rpartition("::")[0]
    name = benchmark.name_without(used) if used else benchmark.name
    return _Named(
        device=said["device"],
        dtype=said["dtype"],
        mode=mode,
        compiler=said["compiler"] or said["backend"],
        model=f"{head}::{name}" if head else name,
    )


def _word(value: object) -> str:
    """A parameter's value as a word. pytest-benchmark writes objects of torch as `UNSERIALIZABLE[torch.float32]`."""
    if not isinstance(value, str):
        return ""
    text = value.removeprefix("UNSERIALIZABLE[").removesuffix("]") if value.startswith("UNSERIALIZABLE[") else value
    if device := re.match(r"device\(type='(\w+)'(?:, index=(\d+))?\)", text):
        return ":".join(part for part in device.groups() if part)
    return text.removeprefix("torch.").strip()


def _times(benchmark: Benchmark, problems: list[str]) -> tuple[tuple[float, ...], float]:
    """The raw rounds, if the file has them, and the median; what is wrong with them goes to `problems`."""
    data = benchmark.stats.get("data") or []
    rounds = [seconds_of(each) for each in data] if isinstance(data, list) else [None]
    middle = seconds_of(benchmark.stats["median"])
    if None in rounds:
        problems.append(f"{benchmark.where}: stats.data holds what is no time")
    if middle is None:
        problems.append(f"{benchmark.where}: stats.median is {str(benchmark.stats['median'])[:40]!r}, expected seconds")
    return tuple(each for each in rounds if each is not None), middle or 0.0


def _environment(machine: Mapping[str, Any]) -> Environment:
    cpu = object_in(machine, "cpu")
    return Environment(
        python=text_in(machine, "python_version"),
        torch=text_in(machine, "pytorch_version"),
        torch_git=text_in(machine, "pytorch_git_version"),
        cuda=text_in(machine, "cuda_version"),
        gpu=text_in(machine, "gpu"),
        cpu=text_in(cpu, "brand_raw") or text_in(machine, "processor") or text_in(machine, "machine"),
        cpu_count=count_in(cpu, "count"),
        kernel=text_in(machine, "release"),
        host=text_in(machine, "node"),
    )


def _unless(text: str, unknown: frozenset[str]) -> str:
    return "" if text in unknown else text
