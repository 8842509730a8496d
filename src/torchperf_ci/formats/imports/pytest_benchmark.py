"""pytest-benchmark's results as records."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timezone
from statistics import median
from typing import Any

from torchperf_ci.core.records import (
    METRICS,
    Build,
    Case,
    Direction,
    Environment,
    Metric,
    Mode,
    Record,
    own_metric,
)
from torchperf_ci.formats.foreign import Defaults, Ingested, foreign_metric, timed_record
from torchperf_ci.formats.inputs import InputProblem, count_in, number_in, object_in, seconds_of, text_in
from torchperf_ci.formats.pytest_benchmark import OUR_VERSION, OWN_METRICS, UNSERIALIZABLE, Benchmark, BenchmarkFile

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
        naive=timezone.utc,  # pytest-benchmark before 5.0 writes UTC without saying so
    )
    ours = found.version.startswith(OUR_VERSION)
    records: list[Record] = []
    cases = [_our_case(each, defaults) for each in found.benchmarks] if ours else _cases(found.benchmarks, defaults)
    for benchmark, case in zip(found.benchmarks, cases, strict=True):
        times, middle = _times(benchmark, problems)
        records.append(
            timed_record(
                case,
                times=times,
                middle=middle,
                environment=environment,
                source=source,
                batch_size=max(0, count_in(benchmark.params, "batch_size") or count_in(benchmark.extra, "batch_size")),
                own=_extra_metrics(benchmark.extra, ours=ours),
            )
        )
    if problems:
        raise InputProblem(problems)
    dirty = ("the checkout had changes that were not committed",) if found.commit.get("dirty") is True else ()
    return Ingested(records=tuple(records), build=Build(environment=environment, warnings=dirty, time=source.time))


def _our_case(benchmark: Benchmark, defaults: Defaults) -> Case:
    """The case that our own export wrote, whatever its names hold."""
    named = _named(benchmark)
    return defaults.case(
        suite=benchmark.group,
        model=benchmark.name.removesuffix(f"[{benchmark.param}]"),
        device=named.device,
        dtype=named.dtype,
        mode=named.mode,
        compiler=named.compiler,
    )


def _cases(benchmarks: Sequence[Benchmark], defaults: Defaults) -> list[Case]:
    """The cases, different ones: benchmarks of the same name in one group are told apart by their files, and objects
    whose texts differ by nothing but an address by the order they stand in."""
    cases = [_case(benchmark, defaults) for benchmark in benchmarks]
    times = Counter(cases)
    cases = [
        _case(benchmark, defaults, whole=True) if times[case] > 1 else case
        for benchmark, case in zip(benchmarks, cases, strict=True)
    ]
    seen: Counter[Case] = Counter()
    names: dict[Case, set[str]] = {}
    for place, (benchmark, case) in enumerate(zip(benchmarks, cases, strict=True)):
        if benchmark.fullname not in names.setdefault(case, set()):  # what comes twice is refused later
            names[case].add(benchmark.fullname)
            seen[case] += 1
        if seen[case] > 1:
            cases[place] = replace(case, model=f"{case.model}#{seen[case]}")
    return cases


def _case(benchmark: Benchmark, defaults: Defaults, *, whole: bool = False) -> Case:
    path, _, _ = benchmark.fullname.partition("::")
    named = _named(benchmark)
    return defaults.case(
        suite=_without_addresses(benchmark.group) or path.removesuffix(".py") or benchmark.name,
        model=_without_addresses(f"{path}::{named.model}" if whole else named.model),
        device=named.device,
        dtype=named.dtype,
        mode=named.mode,
        compiler=named.compiler,
    )


def _named(benchmark: Benchmark) -> _Named:
    params, ids = benchmark.params, benchmark.parameter_ids()
    mode = next((each for each in Mode if each.value == params.get("mode")), None)
    said = {name: _word(params.get(name), ids.get(name, "")) for name in ("device", "dtype", "compiler", "backend")}
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


def _word(value: object, own_id: str) -> str:
    """A parameter's value as a word; its id for an object whose text is none. Empty for what is no word either.

    pytest-benchmark writes objects as `UNSERIALIZABLE[torch.float32]`.
    """
    if not isinstance(value, str):
        return ""
    if not value.startswith(UNSERIALIZABLE):
        return value.strip()
    text = value.removeprefix(UNSERIALIZABLE).removesuffix("]")
    if device := re.match(r"device\(type='(\w+)'(?:, index=(\d+))?\)", text):
        return ":".join(part for part in device.groups() if part)
    if numpy := re.fullmatch(r"dtype\('(\w+)'\)|<class '[\w.]*?(\w+)'>", text):
        return numpy[1] or numpy[2]
    word = text.removeprefix("torch.").strip()
    return next((each for each in (word, own_id) if re.fullmatch(r"[\w.:+-]+", each)), "")


def _without_addresses(text: str) -> str:
    """`text` without the memory addresses that Python puts into the repr of an object: they differ every time."""
    return re.sub(r"( at )?0x[0-9A-Fa-f]{5,}", "", text)


def _extra_metrics(extra: Mapping[str, Any], *, ours: bool) -> dict[Metric, float]:
    """The numbers of `extra_info`; in a file of our own export with their definitions."""
    definitions = object_in(extra, OWN_METRICS) if ours else {}
    metrics: dict[Metric, float] = {}
    for name in extra:
        number = number_in(extra, name)
        if number is None or name == "batch_size":
            continue
        if ours and name in METRICS:
            metrics[METRICS[name]] = number
        elif ours:
            unit, direction = (
                text_in(object_in(definitions, name), "unit"),
                object_in(definitions, name).get("direction"),
            )
            known = next((each for each in Direction if each.value == direction), Direction.UNKNOWN)
            metrics[own_metric(name, unit=unit, direction=known)] = number
        else:
            metrics[foreign_metric(name)] = number
    return metrics


def _times(benchmark: Benchmark, problems: list[str]) -> tuple[tuple[float, ...], float]:
    """The raw rounds, if the file has them, and the median, or else the mean; what is wrong goes to `problems`."""
    data = benchmark.stats.get("data")
    if isinstance(data, list):  # people who shorten files write that there was more
        data = [each for each in data if not (isinstance(each, str) and "omitted" in each)]
    elif data is None or isinstance(data, str):
        data = []
    rounds: list[float | None] = [None]
    if isinstance(data, list):
        usual = all(type(each) is float and 0 <= each < math.inf for each in data)  # a look at each would be slow
        rounds = data if usual else [seconds_of(each) for each in data]
    name = next((each for each in ("median", "mean", "min") if benchmark.stats.get(each) is not None), "")
    if None in rounds:
        problems.append(f"{benchmark.where}: stats.data holds what is no time")
    times = tuple(each for each in rounds if each is not None)
    if not name and times:
        return times, median(times)
    middle = seconds_of(benchmark.stats.get(name))
    if middle is None:
        wrong = f"stats.{name} is {str(benchmark.stats[name])[:40]!r}" if name else "stats missing"
        problems.append(f"{benchmark.where}: {wrong}, expected seconds")
    return times, middle or 0.0


def _environment(machine: Mapping[str, Any]) -> Environment:
    cpu = object_in(machine, "cpu")
    # py-cpuinfo before 6.0 wrote `brand`; the processor is often no more than an architecture.
    names = (text_in(cpu, "brand_raw"), text_in(cpu, "brand"), text_in(machine, "processor"))
    return Environment(
        python=text_in(machine, "python_version"),
        torch=text_in(machine, "pytorch_version"),
        torch_git=text_in(machine, "pytorch_git_version"),
        cuda=text_in(machine, "cuda_version"),
        gpu=text_in(machine, "gpu"),
        cpu=next((name for name in names if Environment(cpu=name).processor), ""),
        cpu_count=count_in(cpu, "count"),
        cpu_mhz=_advertised_mhz(cpu),
        kernel=text_in(machine, "release"),
        host=text_in(machine, "node"),
    )


def _advertised_mhz(cpu: Mapping[str, Any]) -> int:
    """The clock the CPU is sold with, from py-cpuinfo's pair of a number and a scale; 0 when it is not known."""
    for name in ("hz_advertised", "hz_advertised_raw"):
        match cpu.get(name):
            case [int(hertz), *_] if not isinstance(hertz, bool) and 0 < hertz < 10**12:
                return round(hertz / 1e6)
    return 0


def _unless(text: str, unknown: frozenset[str]) -> str:
    return "" if text in unknown else text
