"""pytest-benchmark's JSON (`--benchmark-json`, `--benchmark-save`) of every version since 3.0, read and written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timezone
from statistics import median
from typing import Any

import msgspec

from torchperf_ci import __version__
from torchperf_ci.core.records import (
    METRICS,
    Case,
    Direction,
    Environment,
    Metric,
    Mode,
    Record,
    Status,
    Testing,
    foreign_metric,
    own_metric,
)
from torchperf_ci.core.statistics import describe_times
from torchperf_ci.core.text import one_line
from torchperf_ci.formats.model import (
    Duration,
    Imported,
    ImportRequest,
    InputProblem,
    as_object,
    choice,
    convert,
    count_in,
    finite,
    parse,
    text_in,
)

STATS = ("stddev", "rounds", "min", "median", "max", "mean")
"""The statistics that every complete file has."""

_UNSERIALIZABLE = "UNSERIALIZABLE["
"""Begins the text of a parameter that JSON has no word for; its repr follows."""

_OUR_VERSION = "torchperf-ci"
"""Begins the version in files of our own export, whose names and metrics are known to be ours."""

_OWN_METRICS = "own_metrics"
"""The entry of `extra_info` in which our export defines metrics that are not in `METRICS`."""

_LONGEST_PARAM = 1000
"""Characters; nobody reads a longer one, and finding its parts takes longer than its length."""

_UNKNOWN_COMMITS = frozenset({"unversioned", "unknown"})
_UNKNOWN_BRANCHES = frozenset({"(unknown)", "(detached head)"})


class BenchmarkStats(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of a benchmark in seconds; None where the file lacks one. `data`: the rounds, when they were saved.

    People who shorten files by hand write texts among the rounds.
    """

    stddev: Duration | None = None
    rounds: int | None = None
    min: Duration | None = None
    median: Duration | None = None
    max: Duration | None = None
    mean: Duration | None = None
    data: list[Duration | str] | str | None = None


class Benchmark(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark of a file.

    where: its place, for messages.
    params: parameter names and values as pytest-benchmark wrote them; empty without parametrisation.
    extra_info: what the test itself added.
    """

    name: str
    stats: BenchmarkStats
    where: str = ""
    fullname: str = ""
    group: str = ""
    params: dict[str, Any] = {}
    param: str = ""
    extra_info: dict[str, Any] = {}

    def times(self) -> tuple[float, ...]:
        """Return the rounds, if the file has them; in seconds."""
        data = self.stats.data
        return tuple(each for each in data if not isinstance(each, str)) if isinstance(data, list) else ()

    def middle(self) -> float | None:
        """Return the median, or else the mean or the least time; in seconds."""
        stats = self.stats
        return next((each for each in (stats.median, stats.mean, stats.min) if each is not None), None)

    def problems(self, needed: Collection[str]) -> list[str]:
        """List what makes the statistics useless: odd texts among the rounds, no time, a `needed` one missing."""
        data = self.stats.data
        problems = [
            f"{self.where}: stats.data holds {each[:40]!r}, expected seconds"
            for each in (data if isinstance(data, list) else ())
            if isinstance(each, str) and "omitted" not in each
        ]
        if missing := [f"stats.{name}" for name in needed if getattr(self.stats, name) is None]:
            problems.append(f"{self.where}: {', '.join(missing)} missing")
        if self.middle() is None and not self.times():
            problems.append(f"{self.where}: stats has neither a median nor rounds")
        return problems

    def parameter_ids(self) -> dict[str, str]:
        """Find the part of `param` that stands for each parameter; empty where it is not clear which does.

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
        """Leave the ids of these parameters out of the name's brackets; empty brackets go away.

        Where the ids cannot be told apart, all of them stay: a name is the same whenever the code is measured.
        """
        base, opened, _ = self.name.partition("[")
        ids = self.parameter_ids()
        if not opened or not ids:
            return self.name
        kept = [text for name, text in ids.items() if name not in names]
        return f"{base}[{'-'.join(kept)}]" if kept else base


def _possible_ids(name: str, value: object) -> list[str]:
    """List what pytest may call a parameter with this value, as patterns; none when that cannot be known."""
    if value is not None and not isinstance(value, (str, int, float)):
        return []
    text = str(value)
    if text.startswith(_UNSERIALIZABLE):
        text = text.removeprefix(_UNSERIALIZABLE).removesuffix("]")
        words = [text.removeprefix("torch."), *re.findall(r"'(\w+)'", text)] if "0x" not in text else []
        return [*map(re.escape, [text, *words]), rf"{re.escape(name)}\d+"] if words else []
    return [re.escape(text), rf"{re.escape(name)}\d+"]


class BenchmarkFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file: the machine, the commit and the time of its benchmarks, as pytest-benchmark wrote them.

    What machine and commit hold may be of any type, since a project can change both by hooks.
    """

    benchmarks: list[Any]
    machine_info: dict[str, Any] = {}
    commit_info: dict[str, Any] = {}
    datetime: str = ""
    version: str = ""


def read_pytest_benchmark(
    content: bytes, *, file: str, needed: Collection[str] = STATS
) -> tuple[BenchmarkFile, list[Benchmark]]:
    """Read a file whose benchmarks have the `needed` statistics.

    Raises `InputProblem` naming the line or the benchmarks, when `content` is not pytest-benchmark's JSON.
    """
    whole = convert(parse(content, file=file), BenchmarkFile, where=f"{file}: not a file of pytest-benchmark")
    benchmarks: list[Benchmark] = []
    problems: list[str] = []
    for place, raw in enumerate(whole.benchmarks):
        name = text_in(as_object(raw), "name")
        where = f"{file}: benchmarks[{place}]" + (f" ({one_line(name, limit=120)})" if name else "")
        try:
            read = convert(raw, Benchmark, where=where)
        except InputProblem as error:
            problems += error.problems
            continue
        benchmark = msgspec.structs.replace(read, where=where, fullname=read.fullname or read.name)
        problems += benchmark.problems(needed)
        benchmarks.append(benchmark)
    if problems:
        raise InputProblem(problems)
    return whole, benchmarks


def import_pytest_benchmark(content: bytes, request: ImportRequest, *, file: str) -> Imported:
    """Make a record of every benchmark. The suite is its group, or else its file; the model is its name in that file.

    Raises `InputProblem` naming the benchmarks whose times cannot be used.
    """
    whole, benchmarks = read_pytest_benchmark(content, file=file, needed=())
    commit, branch = text_in(whole.commit_info, "id"), text_in(whole.commit_info, "branch")
    source = request.source_of(
        commit="" if commit in _UNKNOWN_COMMITS else commit,
        branch="" if branch in _UNKNOWN_BRANCHES else branch,
        time=whole.datetime,
        naive=timezone.utc,  # pytest-benchmark before 5.0 writes UTC without saying so
    )
    environment = _environment(whole.machine_info)
    ours = whole.version.startswith(_OUR_VERSION)
    cases = [_case(each, request, ours=True) for each in benchmarks] if ours else _cases(benchmarks, request)
    pairs = list(zip(benchmarks, cases, strict=True))
    if nameless := [f"{each.where}: has no name" for each, case in pairs if not case.suite or not case.model]:
        raise InputProblem(nameless)
    records = []
    for benchmark, case in pairs:
        times, own = benchmark.times(), _extra_metrics(benchmark.extra_info, ours=ours)
        latency = median(times) if (middle := benchmark.middle()) is None else middle
        records.append(
            Record(
                case=case,
                testing=Testing.PERFORMANCE,
                status=Status.PASS,
                batch_size=count_in(benchmark.params, "batch_size") or count_in(benchmark.extra_info, "batch_size"),
                metrics={"abs_latency": latency * 1000, **{metric.name: value for metric, value in own.items()}},
                samples={"compiled": times} if times else {},
                seconds=sum(times),
                environment=environment,
                source=source,
                own_metrics={metric.name: metric for metric in own if metric.name not in METRICS},
            )
        )
    dirty = whole.commit_info.get("dirty") is True
    warnings = ("the checkout had changes that were not committed",) if dirty else ()
    return Imported(records=tuple(records), warnings=warnings)


def _word(value: object, own_id: str) -> str:
    """Read a parameter's value as a word; its id for an object whose text is none. Empty for what is no word either.

    pytest-benchmark writes objects as `UNSERIALIZABLE[torch.float32]`.
    """
    if not isinstance(value, str):
        return ""
    if not value.startswith(_UNSERIALIZABLE):
        return value.strip()
    text = value.removeprefix(_UNSERIALIZABLE).removesuffix("]")
    if device := re.match(r"device\(type='(\w+)'(?:, index=(\d+))?\)", text):
        return ":".join(part for part in device.groups() if part)
    if numpy := re.fullmatch(r"dtype\('(\w+)'\)|<class '[\w.]*?(\w+)'>", text):
        return numpy[1] or numpy[2]
    word = text.removeprefix("torch.").strip()
    return next((each for each in (word, own_id) if re.fullmatch(r"[\w.:+-]+", each)), "")


def _cases(benchmarks: Sequence[Benchmark], request: ImportRequest) -> list[Case]:
    """Make a case of each, different ones: benchmarks of the same name in one group are told apart by their files, and
    objects whose texts differ by nothing but an address by the order they stand in."""
    cases = [_case(benchmark, request) for benchmark in benchmarks]
    times = Counter(cases)
    cases = [
        _case(benchmark, request, with_path=True) if times[case] > 1 else case
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


def _case(benchmark: Benchmark, request: ImportRequest, *, ours: bool = False, with_path: bool = False) -> Case:
    """Make the case of what the parameters say of it; the rest of them stays in the model's name.

    ours: our own export wrote it, whose names may hold anything. with_path: the name begins with the file.
    """
    ids = benchmark.parameter_ids()
    mode = choice(Mode, benchmark.params.get("mode"), None)
    words = {
        name: _word(benchmark.params.get(name), ids.get(name, ""))
        for name in ("device", "dtype", "compiler", "backend")
    }
    path, _, inside = benchmark.fullname.partition("::")
    if ours:
        suite, model = benchmark.group, benchmark.name.removesuffix(f"[{benchmark.param}]")
    else:
        used = {name for name, word in words.items() if word} | ({"mode"} if mode else set())
        name = benchmark.name_without(used) if used else benchmark.name
        # The class before the function's name stays; brackets may hold `::` too.
        head = (inside or benchmark.name).partition("[")[0].rpartition("::")[0]
        parts = [path if with_path else "", head, name]
        # The memory addresses that Python puts into the repr of an object differ every time.
        suite, model = (
            re.sub(r"( at )?0x[0-9A-Fa-f]{5,}", "", text)
            for text in (benchmark.group, "::".join(part for part in parts if part))
        )
        suite = suite or path.removesuffix(".py") or benchmark.name
    return request.case(
        suite=suite,
        model=model,
        device=words["device"],
        dtype=words["dtype"],
        mode=mode,
        compiler=words["compiler"] or words["backend"],
    )


def _extra_metrics(extra: Mapping[str, Any], *, ours: bool) -> dict[Metric, float]:
    """Take the numbers of `extra_info`; in a file of our own export with their definitions."""
    definitions = as_object(extra.get(_OWN_METRICS)) if ours else {}
    metrics: dict[Metric, float] = {}
    for name, value in extra.items():
        number = finite(value)
        if number is None or name == "batch_size" or not name.strip():
            continue
        if not ours:
            metric = foreign_metric(name)
        elif name in METRICS:
            metric = METRICS[name]
        else:
            about = as_object(definitions.get(name))
            direction = choice(Direction, about.get("direction"), Direction.UNKNOWN)
            metric = own_metric(name, unit=text_in(about, "unit"), direction=direction)
        metrics[metric] = number
    return metrics


def _environment(machine: Mapping[str, Any]) -> Environment:
    cpu = as_object(machine.get("cpu"))
    # py-cpuinfo before 6.0 wrote `brand`; the processor is often no more than an architecture.
    names = (text_in(cpu, "brand_raw"), text_in(cpu, "brand"), text_in(machine, "processor"))
    mhz = 0
    for name in ("hz_advertised", "hz_advertised_raw"):  # the clock the CPU is sold with: a number and a scale
        match cpu.get(name):
            case [int(hertz), *_] if not isinstance(hertz, bool) and 0 < hertz < 10**12:
                mhz = mhz or round(hertz / 1e6)
    return Environment(
        python=text_in(machine, "python_version"),
        torch=text_in(machine, "pytorch_version"),
        torch_git=text_in(machine, "pytorch_git_version"),
        cuda=text_in(machine, "cuda_version"),
        gpu=text_in(machine, "gpu"),
        cpu=next((name for name in names if Environment(cpu=name).processor), ""),
        cpu_count=count_in(cpu, "count"),
        cpu_mhz=mhz,
        kernel=text_in(machine, "release"),
        host=text_in(machine, "node"),
    )


def as_pytest_benchmark(records: Sequence[Record]) -> dict[str, Any]:
    """Make a benchmark per passing performance record with times: seconds of one compiled iteration, all raw rounds.

    The group is the suite; mode, device, dtype and compiler are parameters, so that `--group-by param:compiler` works.
    """
    benchmarks: list[dict[str, Any]] = []
    newest: Record | None = None
    for record in records:
        if record.testing is not Testing.PERFORMANCE or not record.status.is_pass:
            continue
        times, latency = record.samples.get("compiled", ()), record.metrics.get("abs_latency")
        if not times and latency is None:
            continue
        case = record.case
        params = {"compiler": case.compiler, "mode": case.mode.value, "dtype": case.dtype, "device": case.device}
        param = "-".join(params.values())
        own = [metric for metric in record.defined_metrics() if metric.name not in METRICS]
        # Units and directions of what is no metric of ours, for our own import.
        definitions = {_OWN_METRICS: {m.name: {"unit": m.unit, "direction": m.direction.value} for m in own}}
        benchmarks.append(
            {
                "group": case.suite,
                "name": f"{case.model}[{param}]",
                "fullname": f"{case.suite}::{case.model}[{param}]",
                "params": params,
                "param": param,
                "extra_info": {"batch_size": record.batch_size, **record.metrics, **(definitions if own else {})},
                "options": {},
                "stats": {**describe_times(times), "iterations": 1} if times else {"median": (latency or 0.0) / 1000},
            }
        )
        newest = record if newest is None or record.source.time > newest.source.time else newest
    whole = {"machine_info": {}, "commit_info": {}, "benchmarks": benchmarks, "datetime": ""}
    if newest:
        source, environment = newest.source, newest.environment
        whole["datetime"] = source.time
        whole["machine_info"] = {
            "node": environment.host,
            "processor": environment.cpu,
            "machine": "",
            "python_version": environment.python,
            "release": environment.kernel,
            "cpu": {"brand_raw": environment.cpu, "count": environment.cpu_count},
            "gpu": environment.gpu,
            "pytorch_version": environment.torch,
        }
        whole["commit_info"] = {
            "id": source.commit or "unversioned",
            "time": None,
            "dirty": False,
            "project": source.repository,
            "branch": source.branch or "(unknown)",
        }
    return {**whole, "version": f"{_OUR_VERSION} {__version__}"}
