"""The results folder of asv (airspeed velocity): every commit, machine and environment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import timezone
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from torchperf_ci.core.records import Direction, Environment, Metric, Source, Status, own_metric
from torchperf_ci.formats.model import (
    Duration,
    Imported,
    ImportRequest,
    InputProblem,
    RecordCollector,
    as_object,
    convert,
    count_in,
    moment,
    moment_of_seconds,
    parse,
    text_in,
)

_UNITS = {"time": "seconds", "mem": "bytes", "peakmem": "bytes"}
_KINDS = {"memory": "mem", "peakmemory": "peakmem", "timeraw": "time"}
"""The names of some kinds of benchmark that asv has elsewhere than in their names."""
_NO_RESULTS = frozenset({"benchmarks.json", "machine.json"})


class _Results(msgspec.Struct, frozen=True, kw_only=True):
    """A file of results, of version 2, or of version 1, which called its results by another name."""

    date: float | str
    commit_hash: str = ""
    env_name: str = ""
    python: str = ""
    params: dict[str, Any] = {}
    results: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    result_columns: list[str] = []


def find_results(root: Path) -> Path | None:
    """Find the folder of results: this one, or the one that it has; None where there is none."""
    folders = (root, root / "results", root / ".asv" / "results")
    return next((f for f in folders if (f / "benchmarks.json").is_file() or any(f.glob("*/machine.json"))), None)


def import_asv(path: Path, request: ImportRequest) -> Imported:
    """Read a folder of results, or a file of one: a series per benchmark, combination of parameters and environment.

    In asv every metric gets better when it gets less. A file that cannot be read is left out, and that is said.
    """
    collector = RecordCollector()
    root = path.parent.parent if path.is_file() else find_results(path) or path
    benchmarks = _read_optional(root / "benchmarks.json", collector)
    folders = [path.parent] if path.is_file() else sorted(folder for folder in root.iterdir() if folder.is_dir())
    for folder in folders:
        machine = _read_optional(folder / "machine.json", collector)
        files = [path] if path.is_file() else sorted(folder.glob("*.json"))
        for file in files:
            if file.name not in _NO_RESULTS:
                try:
                    results = convert(parse(file.read_bytes(), file=str(file)), _Results, where=str(file))
                    _collect(collector, file, results, benchmarks, machine, request)
                except (OSError, InputProblem) as error:
                    collector.left_out.append(str(error))
    return collector.imported()


def _read_optional(path: Path, collector: RecordCollector) -> Mapping[str, Any]:
    """Read the object in a file; without one, that is said, and reading goes on without what it would tell."""
    try:
        return convert(parse(path.read_bytes(), file=str(path)), dict[str, Any], where=str(path))
    except FileNotFoundError:
        collector.left_out.append(f"{path}: is not there; units or the machine are not known without it")
    except (OSError, InputProblem) as error:
        collector.left_out.append(str(error))
    return {}


def _collect(
    collector: RecordCollector,
    file: Path,
    results: _Results,
    benchmarks: Mapping[str, Any],
    machine: Mapping[str, Any],
    request: ImportRequest,
) -> None:
    """Take every result of a file. Raises `InputProblem` for one without results or without a date."""
    date = results.date
    when = moment(date, naive=timezone.utc) if isinstance(date, str) else moment_of_seconds(date / 1000)
    rows = results.result if results.results is None else results.results
    if when is None or rows is None:
        raise InputProblem([f"{file}: has no {'date' if when is None else 'results'}"])
    source = Source(
        repository=request.source.repository,
        commit=request.commit or results.commit_hash,
        branch=request.branch,
        time=when.isoformat(),
    )
    hardware = {**machine, **results.params}
    environment = Environment(
        python=results.python,
        cpu=text_in(hardware, "cpu"),
        cpu_count=count_in(hardware, "num_cpu"),
        kernel=text_in(hardware, "os"),
        host=text_in(hardware, "machine"),
    )
    environment_name = results.env_name or file.stem.partition("-")[2]
    for benchmark, row in rows.items():
        module, _, function = benchmark.rpartition(".")
        suite, _, owner = module.partition(".") if module.count(".") == 1 else (module, "", "")
        metric = _metric(function, as_object(benchmarks.get(benchmark)))
        where = f"{file}: {benchmark}"
        for parameters, value, samples in _values(row, results.result_columns, collector, where):
            model = f"{owner}.{function}" if owner else function
            model += f"({', '.join(parameters)})" if parameters else ""
            model += f" [{environment_name}]" if environment_name else ""
            case = request.case(suite=suite or "asv", model=model)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                reason = "asv has no result for it"
                collector.add(case, source, environment, status=Status.FAIL_TO_RUN, reason=reason)
            elif math.isnan(value):
                collector.add(case, source, environment, status=Status.PASS_DUE_TO_SKIP, reason="asv skipped it")
            elif math.isinf(value):
                collector.left_out.append(f"{where}: {model} is infinite")
            else:
                times = samples if metric.unit == "seconds" else ()
                collector.add(case, source, environment, metric=metric, value=float(value), samples=times, where=where)


def _metric(function: str, about: Mapping[str, Any]) -> Metric:
    """Define a metric named by the kind of the benchmark, in the unit that asv says, or that its kind has."""
    kind = next((kind for kind in ("time", "timeraw", "mem", "peakmem") if function.startswith(f"{kind}_")), "")
    kind = kind or text_in(about, "type")
    kind = _KINDS.get(kind, kind) or "track"
    return own_metric(kind, unit=text_in(about, "unit") or _UNITS.get(kind, ""), direction=Direction.LOWER)


def _values(
    row: object, columns: list[str], collector: RecordCollector, where: str
) -> Iterator[tuple[tuple[str, ...], object, tuple[float, ...]]]:
    """Yield the parameters, the value and the raw times of every combination, whatever the version of the file.

    Version 1 has a number, or an object with lists; version 2 a row of columns, that may end early.
    """
    cells: Mapping[str, Any] = {"result": row}
    if isinstance(row, dict):
        cells = row
    elif columns and isinstance(row, list):
        cells = dict(zip(columns, row, strict=False))
    values, params, samples = cells.get("result"), cells.get("params"), cells.get("samples")
    axes = [list(map(str, axis)) for axis in params if isinstance(axis, list)] if isinstance(params, list) else []
    combinations = list(product(*axes))
    values = values if isinstance(values, list) else [values] * len(combinations)
    if len(values) != len(combinations):
        collector.left_out.append(f"{where}: has {len(values)} results for {len(combinations)} combinations")
        return
    rounds = samples if isinstance(samples, list) and len(samples) == len(values) else [None] * len(values)
    for combination, value, times in zip(combinations, values, rounds, strict=True):
        try:
            yield combination, value, msgspec.convert(times, tuple[Duration, ...])
        except msgspec.ValidationError:  # not recorded, or of a metric that is no time
            yield combination, value, ()
