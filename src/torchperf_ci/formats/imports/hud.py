"""Rows of PyTorch's benchmark database, schema v3: a JSON object per metric, as lines, a list or one object."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from statistics import median
from typing import Any

from torchperf_ci.core.records import (
    COUNTERS,
    METRICS,
    Case,
    Direction,
    Environment,
    Metric,
    Mode,
    Source,
    Status,
    Testing,
    own_metric,
)
from torchperf_ci.formats.foreign import Defaults, foreign_metric
from torchperf_ci.formats.imports import Gathered, Imported
from torchperf_ci.formats.inputs import InputProblem, count_in, number_in, object_in, text_in

_MILLISECONDS_ABOVE = 1e11
"""As seconds that is the year 5138."""

INDUCTOR = "TorchInductor"
"""The benchmark of PyTorch's compiler dashboard, whose metrics are those of `METRICS` in the CSV's units."""


def read_hud(text: str, defaults: Defaults, source: Source, *, file: str) -> Imported:
    """Read all rows. One that is none is left out, and that is said. Raises `InputProblem` for what is not JSON."""
    gathered = Gathered()
    for where, row in _rows(text, file, gathered):
        problem = _take(gathered, row, defaults, source, where)
        if problem:
            gathered.left_out.append(f"{where}: {problem}")
    return gathered.imported()


def _rows(text: str, file: str, gathered: Gathered) -> Iterator[tuple[str, Mapping[str, Any]]]:
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith("["):
        try:
            items = json.loads(stripped)
        except (ValueError, RecursionError) as error:
            raise InputProblem([f"{file}: not JSON: {error}"]) from error
        numbered = [(f"{file}: row {place}", item) for place, item in enumerate(items)]
    else:
        numbered = list(_objects(stripped, file, gathered))
    for where, item in numbered:
        if isinstance(item, dict):
            yield where, item
        else:
            gathered.left_out.append(f"{where}: is not an object")


def _objects(text: str, file: str, gathered: Gathered) -> Iterator[tuple[str, Any]]:
    """One object, or one a line; a line that is none is left out."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if isinstance(whole, dict):
        yield f"{file}: row 0", whole
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{file}:{number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                gathered.left_out.append(f"{file}:{number}: not JSON: {error}")


def _take(gathered: Gathered, row: Mapping[str, Any], defaults: Defaults, usual: Source, where: str) -> str:
    """Take a row; says what is wrong with it, or nothing."""
    benchmark, model, metric = (object_in(row, name) for name in ("benchmark", "model", "metric"))
    extra, about = object_in(benchmark, "extra_info"), object_in(metric, "extra_info")
    name, named = text_in(metric, "name"), text_in(model, "name") or text_in(row, "model")
    if not name or not named:
        return f"has no name of its {'metric' if named else 'model'}"
    case = _case(benchmark, model, extra, row, named, defaults)
    source, environment = _source(row, defaults, usual), _environment(row)
    status = next((each for each in Status if each.value == text_in(extra, "status")), Status.PASS)
    batch = text_in(extra, "batch_size")
    shared: dict[str, Any] = {
        "where": where,
        "status": status,
        "reason": text_in(extra, "reason"),
        "batch_size": int(batch) if batch.isdecimal() else 0,
    }
    if name == "accuracy":
        return _take_accuracy(gathered, case, source, environment, metric, about, shared)
    accuracy = text_in(extra, "output").endswith("_accuracy.csv")
    shared["testing"] = Testing.ACCURACY if accuracy else Testing.PERFORMANCE
    numbers = _numbers(metric)
    if not numbers:
        return f"{name} has no numbers"
    value = median(numbers)
    ours = text_in(benchmark, "name") == INDUCTOR or bool(text_in(extra, "output"))
    if ours and name in COUNTERS:
        gathered.add(case, source, environment, counter=name, value=value, **shared)
    elif not status.is_pass and value == 0:
        gathered.add(case, source, environment, **shared)  # the zero stands for the failure
    else:
        definition, scale = _definition(name, about, ours=ours)
        gathered.add(case, source, environment, metric=definition, value=value / scale, **shared)
    return ""


def _take_accuracy(
    gathered: Gathered,
    case: Case,
    source: Source,
    environment: Environment,
    metric: Mapping[str, Any],
    about: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> str:
    try:
        words = json.loads(text_in(about, "benchmark_values") or "[]")
    except ValueError:
        words = []
    words = words or metric.get("benchmark_values") or []
    word = words[0] if isinstance(words, list) and words else ""
    status = next((each for each in Status if each.value == word), None)
    if status is None:
        numbers = _numbers(metric)
        if not numbers:
            return f"its accuracy is {str(word)[:40]!r}, which is no status"
        own = foreign_metric("accuracy", direction=Direction.HIGHER)
        gathered.add(case, source, environment, metric=own, value=median(numbers), where=shared["where"])
        return ""
    gathered.add(case, source, environment, testing=Testing.ACCURACY, **{**shared, "status": status})
    return ""


def _definition(name: str, about: Mapping[str, Any], *, ours: bool) -> tuple[Metric, float]:
    """The metric and the factor of its numbers here."""
    if ours and name in METRICS:
        return METRICS[name], METRICS[name].csv_scale
    direction = next((each for each in Direction if each.value == about.get("direction")), Direction.UNKNOWN)
    define = own_metric if ours else foreign_metric
    return define(name, unit=text_in(about, "unit"), direction=direction), 1.0


def _numbers(metric: Mapping[str, Any]) -> list[float]:
    values = metric.get("benchmark_values")
    numbered = [number_in({"": each}, "") for each in (values if isinstance(values, list) else [values])]
    return [number for number in numbered if number is not None]


def _case(
    benchmark: Mapping[str, Any],
    model: Mapping[str, Any],
    extra: Mapping[str, Any],
    row: Mapping[str, Any],
    named: str,
    defaults: Defaults,
) -> Case:
    origins = model.get("origins")
    origin = origins[0] if isinstance(origins, list) and origins and isinstance(origins[0], str) else ""
    runner = next(iter(_list(row, "runners")), {})
    mode = next((each for each in Mode if each.value == text_in(benchmark, "mode")), None)
    return defaults.case(
        suite=text_in(extra, "suite") or origin or text_in(benchmark, "name") or "hud",
        model=named,
        device=text_in(extra, "device") or text_in(runner, "name"),
        dtype=text_in(benchmark, "dtype"),
        mode=mode,
        compiler=text_in(model, "backend"),
    )


def _source(row: Mapping[str, Any], defaults: Defaults, usual: Source) -> Source:
    """Where a row comes from; rows that were not uploaded yet do not say it, and are of `usual`."""
    time, run = number_in(row, "timestamp"), count_in(row, "workflow_id")
    if not time:
        return usual
    seconds = time / 1000 if time > _MILLISECONDS_ABOVE else time
    try:
        when = datetime.fromtimestamp(seconds, tz=timezone.utc).isoformat()
    except (ValueError, OverflowError, OSError):
        when = usual.time
    return Source(
        repository=text_in(row, "repo") or usual.repository,
        commit=defaults.commit or text_in(row, "head_sha"),
        branch=defaults.branch or text_in(row, "head_branch"),
        workflow=text_in(row, "name"),
        run_id=str(run) if run else "",
        attempt=max(1, count_in(row, "run_attempt")),
        time=when,
    )


def _environment(row: Mapping[str, Any]) -> Environment:
    runner = next(iter(_list(row, "runners")), {})
    extra = object_in(runner, "extra_info")
    torch = object_in(object_in(row, "dependencies"), "pytorch/pytorch")
    threads = text_in(extra, "threads")
    return Environment(
        python=text_in(extra, "python"),
        torch=text_in(torch, "version"),
        torch_git=text_in(torch, "sha"),
        cuda=text_in(extra, "cuda"),
        cudnn=text_in(extra, "cudnn"),
        driver=text_in(extra, "driver"),
        gpu=text_in(runner, "gpu_info"),
        gpu_count=count_in(runner, "gpu_count"),
        cpu=text_in(runner, "cpu_info"),
        cpu_count=count_in(runner, "cpu_count"),
        kernel=text_in(extra, "kernel"),
        host=text_in(extra, "hostname"),
        threads=int(threads) if threads.isdecimal() else 0,
    )


def _list(row: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = row.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
