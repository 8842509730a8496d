"""The results folder of asv (airspeed velocity): every commit, machine and environment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from itertools import product
from pathlib import Path
from typing import Any

from torchperf_ci.core.records import Direction, Environment, Metric, Source, Status, own_metric
from torchperf_ci.formats.foreign import Defaults
from torchperf_ci.formats.imports import Gathered, Imported
from torchperf_ci.formats.inputs import InputProblem, moment, object_in, read_object, seconds_of, text_in

_UNITS = {"time": "seconds", "mem": "bytes", "peakmem": "bytes"}
_NO_RESULTS = frozenset({"benchmarks.json", "machine.json"})


def read_asv(root: Path, defaults: Defaults) -> Imported:
    """Read `results/`, or a folder that has it: a series per benchmark, combination of parameters and environment.

    In asv every metric gets better when it gets less. A file that cannot be read is left out, and that is said.
    """
    root = next((each for each in (root, root / "results", root / ".asv" / "results") if _is_results(each)), root)
    gathered = Gathered()
    benchmarks = _optional(root / "benchmarks.json", gathered)
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        machine = _optional(folder / "machine.json", gathered)
        for path in sorted(folder.glob("*.json")):
            if path.name not in _NO_RESULTS:
                _read_results(gathered, path, benchmarks, machine, defaults)
    return gathered.imported()


def read_asv_file(path: Path, defaults: Defaults) -> Imported:
    """Read one file of results, with what lies beside it."""
    gathered = Gathered()
    benchmarks = _optional(path.parent.parent / "benchmarks.json", gathered)
    _read_results(gathered, path, benchmarks, _optional(path.parent / "machine.json", gathered), defaults)
    return gathered.imported()


def _is_results(root: Path) -> bool:
    return root.is_dir() and ((root / "benchmarks.json").is_file() or any(root.glob("*/machine.json")))


def _optional(path: Path, gathered: Gathered) -> Mapping[str, Any]:
    """The object in a file; without one, that is said, and reading goes on without what it would tell."""
    try:
        return read_object(path.read_bytes(), file=str(path))
    except FileNotFoundError:
        gathered.left_out.append(f"{path}: is not there; units or the machine are not known without it")
    except (OSError, InputProblem) as error:
        gathered.left_out.append(str(error))
    return {}


def _read_results(
    gathered: Gathered, path: Path, benchmarks: Mapping[str, Any], machine: Mapping[str, Any], defaults: Defaults
) -> None:
    try:
        raw = read_object(path.read_bytes(), file=str(path))
    except (OSError, InputProblem) as error:
        gathered.left_out.append(str(error))
        return
    results = raw.get("results", raw.get("result"))
    time = _time(raw.get("date"))
    if not isinstance(results, dict) or time is None:
        gathered.left_out.append(f"{path}: has no {'date' if isinstance(results, dict) else 'results'}")
        return
    source = Source(
        repository=defaults.source.repository,
        commit=defaults.commit or text_in(raw, "commit_hash"),
        branch=defaults.branch,
        time=time.isoformat(),
    )
    environment = _environment({**machine, **object_in(raw, "params")}, raw)
    name_of_environment = text_in(raw, "env_name") or path.stem.partition("-")[2]
    columns = raw.get("result_columns")
    for benchmark, row in results.items():
        about = object_in(benchmarks, benchmark)
        metric = _metric(benchmark, about)
        suite, _, function = benchmark.rpartition(".")
        suite, _, owner = suite.partition(".") if suite.count(".") == 1 else (suite, "", "")
        where = f"{path}: {benchmark}"
        for parameters, value, samples in _values(row, columns, gathered, where):
            model = f"{owner}.{function}" if owner else function
            model += f"({', '.join(parameters)})" if parameters else ""
            model += f" [{name_of_environment}]" if name_of_environment else ""
            case = defaults.case(suite=suite or "asv", model=model)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                gathered.add(case, source, environment, status=Status.FAIL_TO_RUN, reason="asv has no result for it")
            elif math.isnan(value):
                skipped = Status.PASS_DUE_TO_SKIP
                gathered.add(case, source, environment, status=skipped, reason="asv skipped it")
            elif math.isfinite(value):
                of_time = samples if metric.unit == "seconds" else ()
                gathered.add(case, source, environment, metric=metric, value=float(value), samples=of_time, where=where)
            else:
                gathered.left_out.append(f"{where}: {model} is infinite")


def _values(
    row: object, columns: object, gathered: Gathered, where: str
) -> Iterator[tuple[tuple[str, ...], object, tuple[float, ...]]]:
    """The parameters, the value and the raw times of every combination, whatever the version of the file.

    Version 1 has a number, or an object with lists; version 2 a row of columns, that may end early.
    """
    samples: object = None
    if isinstance(columns, list) and isinstance(row, list):
        cells = dict(zip(map(str, columns), row, strict=False))
        values, params, samples = cells.get("result"), cells.get("params"), cells.get("samples")
    elif isinstance(row, dict):
        values, params, samples = row.get("result"), row.get("params"), row.get("samples")
    else:
        values, params = row, None
    axes = [list(map(str, axis)) for axis in params if isinstance(axis, list)] if isinstance(params, list) else []
    combinations = list(product(*axes))
    values = values if isinstance(values, list) else [values] * len(combinations)
    if len(values) != len(combinations):
        gathered.left_out.append(f"{where}: has {len(values)} results for {len(combinations)} combinations")
        return
    taken = samples if isinstance(samples, list) and len(samples) == len(values) else [None] * len(values)
    for combination, value, times in zip(combinations, values, taken, strict=True):
        rounds = [seconds_of(time) for time in times] if isinstance(times, list) else []
        yield combination, value, tuple(time for time in rounds if time is not None)


def _metric(benchmark: str, about: Mapping[str, Any]) -> Metric:
    """A metric named by the kind of the benchmark, in the unit that asv says, or that its kind has."""
    function = benchmark.rpartition(".")[2]
    kind = next((kind for kind in ("time", "timeraw", "mem", "peakmem") if function.startswith(f"{kind}_")), "")
    kind = kind or {"memory": "mem", "peakmemory": "peakmem"}.get(text_in(about, "type"), text_in(about, "type"))
    kind = "time" if kind == "timeraw" else kind or "track"
    unit = text_in(about, "unit") or _UNITS.get(kind, "")
    return own_metric(kind, unit=unit, direction=Direction.LOWER)


def _environment(machine: Mapping[str, Any], raw: Mapping[str, Any]) -> Environment:
    count = text_in(machine, "num_cpu")
    return Environment(
        python=text_in(raw, "python"),
        cpu=text_in(machine, "cpu"),
        cpu_count=int(count) if count.isdecimal() else 0,
        kernel=text_in(machine, "os"),
        host=text_in(machine, "machine"),
    )


def _time(value: object) -> datetime | None:
    if isinstance(value, str):
        return moment(value, naive=timezone.utc)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(value / 1000, tz=timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


def is_asv(raw: Mapping[str, Any]) -> bool:
    """Does this object look like a file of asv's results?"""
    return "commit_hash" in raw and ("results" in raw or "result" in raw)
