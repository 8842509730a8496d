"""Rows of PyTorch's benchmark database, schema v3: a JSON object per metric, as lines, a list or one object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from statistics import median
from typing import Any

import msgspec

from torchperf_ci.core.records import (
    COUNTERS,
    METRICS,
    Direction,
    Environment,
    Mode,
    Source,
    Testing,
    foreign_metric,
    own_metric,
)
from torchperf_ci.formats.model import (
    Imported,
    ImportRequest,
    InputProblem,
    RecordCollector,
    choice,
    convert,
    count_in,
    finite,
    moment_of_seconds,
    parse,
    parse_status,
    text_in,
)

_MILLISECONDS_ABOVE = 1e11
"""As seconds that is the year 5138."""

_INDUCTOR = "TorchInductor"
"""The benchmark of PyTorch's compiler dashboard, whose metrics are those of `METRICS` in the CSV's units."""


class _Benchmark(msgspec.Struct, frozen=True):
    name: str = ""
    mode: str = ""
    dtype: str = ""
    extra_info: dict[str, Any] = {}


class _Model(msgspec.Struct, frozen=True):
    name: str = ""
    backend: str = ""
    origins: list[str] = []


class _Metric(msgspec.Struct, frozen=True):
    name: str = ""
    benchmark_values: Any = None
    extra_info: dict[str, Any] = {}

    @property
    def values(self) -> list[Any]:
        return self.benchmark_values if isinstance(self.benchmark_values, list) else [self.benchmark_values]


class _Machine(msgspec.Struct, frozen=True):
    name: str = ""
    gpu_info: str = ""
    gpu_count: int = 0
    cpu_info: str = ""
    cpu_count: int = 0
    extra_info: dict[str, Any] = {}


class _Dependency(msgspec.Struct, frozen=True):
    version: str = ""
    sha: str = ""


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    metric: _Metric
    model: _Model | str = ""
    benchmark: _Benchmark = _Benchmark()
    runners: list[_Machine] = []
    dependencies: dict[str, _Dependency] = {}
    timestamp: float = 0
    repo: str = ""
    head_sha: str = ""
    head_branch: str = ""
    name: str = ""
    workflow_id: int = 0
    run_attempt: int = 1


def import_hud(content: bytes, request: ImportRequest, *, file: str) -> Imported:
    """Read all rows. One that is none is left out, and that is said. Raises `InputProblem` for what is not JSON."""
    collector = RecordCollector()
    for where, raw in _rows(content, file, collector):
        with collector.skip_faults():
            _collect(collector, convert(_without_nulls(raw), _Row, where=where), request, where)
    return collector.imported()


def _rows(content: bytes, file: str, collector: RecordCollector) -> Iterator[tuple[str, Any]]:
    """Yield places and rows: of a list, of one object, or of an object a line; a line that is none is left out."""
    stripped = content.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        raw = parse(stripped, file=file)
    except InputProblem:
        if stripped.startswith(b"[") or b"\n" not in stripped:
            raise
    else:
        yield from (
            (f"{file}: row {place}", item) for place, item in enumerate(raw if isinstance(raw, list) else [raw])
        )
        return
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            with collector.skip_faults():
                yield f"{file}:{number}", parse(line, file=file, first_line=number)


def _without_nulls(raw: Any) -> Any:  # noqa: ANN401 - any JSON
    """Leave out what is null: in this database that is as good as not there."""
    if isinstance(raw, dict):
        return {name: _without_nulls(value) for name, value in raw.items() if value is not None}
    return [_without_nulls(item) for item in raw] if isinstance(raw, list) else raw


def _read_params(text: str) -> dict[str, str | bool | int | float]:
    """Read the parameters that our own export writes; what another tool means by them is not known."""
    try:
        params = json.loads(text) if text else {}
    except ValueError:
        return {}
    return params if isinstance(params, dict) and all(isinstance(v, str | int | float) for v in params.values()) else {}


def _collect(collector: RecordCollector, row: _Row, request: ImportRequest, where: str) -> None:
    """Take a row. Raises `InputProblem` saying what is wrong with it."""
    benchmark, metric, extra = row.benchmark, row.metric, row.benchmark.extra_info
    model = _Model(name=row.model) if isinstance(row.model, str) else row.model
    runner = row.runners[0] if row.runners else _Machine()
    if not metric.name or not model.name:
        raise InputProblem([f"{where}: has no name of its {'metric' if model.name else 'model'}"])
    case = request.case(
        suite=text_in(extra, "suite") or next(iter(model.origins), "") or benchmark.name or "hud",
        model=model.name,
        device=text_in(extra, "device") or runner.name,
        dtype=benchmark.dtype,
        mode=choice(Mode, benchmark.mode, None),
        compiler=model.backend,
    )
    key = (case, _source(row, request), _environment(row, runner))
    status = parse_status(text_in(extra, "status"), where=where)
    about: dict[str, Any] = {
        "where": where,
        "reason": text_in(extra, "reason"),
        "batch_size": count_in(extra, "batch_size"),
        "params": _read_params(text_in(extra, "params")),
    }
    numbers = [number for value in metric.values if (number := finite(value)) is not None]
    value = median(numbers) if numbers else None
    if metric.name == "accuracy":
        if value is not None:  # of another benchmark: a share of right answers, say
            collector.add(*key, metric=foreign_metric("accuracy", direction=Direction.HIGHER), value=value, where=where)
            return
        word = _accuracy_word(metric)
        if not isinstance(word, str) or not word:
            raise InputProblem([f"{where}: its accuracy is {str(word)[:40]!r}, which is no status"])
        collector.add(*key, testing=Testing.ACCURACY, status=parse_status(word, where=where), **about)
        return
    if value is None:
        raise InputProblem([f"{where}: {metric.name} has no numbers"])
    is_accuracy = text_in(extra, "output").endswith("_accuracy.csv")
    about |= {"testing": Testing.ACCURACY if is_accuracy else Testing.PERFORMANCE, "status": status}
    ours = benchmark.name == _INDUCTOR or bool(text_in(extra, "output"))
    if ours and metric.name in COUNTERS:
        collector.add(*key, counter=metric.name, value=value, **about)
    elif not status.is_pass and value == 0:
        collector.add(*key, **about)  # the zero stands for the failure
    elif ours and metric.name in METRICS:
        definition = METRICS[metric.name]
        collector.add(*key, metric=definition, value=value / definition.csv_scale, **about)
    else:
        define = own_metric if ours else foreign_metric
        direction = choice(Direction, metric.extra_info.get("direction"), Direction.UNKNOWN)
        definition = define(metric.name, unit=text_in(metric.extra_info, "unit"), direction=direction)
        collector.add(*key, metric=definition, value=value, **about)


def _accuracy_word(metric: _Metric) -> object:
    """Return an accuracy's word, which the table of numbers has no place for but the extra information."""
    try:
        words = json.loads(text_in(metric.extra_info, "benchmark_values") or "[]")
    except ValueError:
        words = []
    return next(iter(words if isinstance(words, list) and words else metric.values), "")


def _source(row: _Row, request: ImportRequest) -> Source:
    """Say where a row comes from; rows that were not uploaded yet do not say it, and are of the usual source."""
    usual = request.usual_source
    if not row.timestamp:
        return usual
    when = moment_of_seconds(row.timestamp / 1000 if row.timestamp > _MILLISECONDS_ABOVE else row.timestamp)
    return Source(
        repository=row.repo or usual.repository,
        commit=request.commit or row.head_sha,
        branch=request.branch or row.head_branch,
        workflow=row.name,
        run_id=str(row.workflow_id or ""),
        attempt=max(1, row.run_attempt),
        time=when.isoformat() if when else usual.time,
    )


def _environment(row: _Row, runner: _Machine) -> Environment:
    extra = runner.extra_info
    torch = row.dependencies.get("pytorch/pytorch", _Dependency())
    return Environment(
        python=text_in(extra, "python"),
        torch=torch.version,
        torch_git=torch.sha,
        cuda=text_in(extra, "cuda"),
        cudnn=text_in(extra, "cudnn"),
        driver=text_in(extra, "driver"),
        gpu=runner.gpu_info,
        gpu_count=runner.gpu_count,
        cpu=runner.cpu_info,
        cpu_count=runner.cpu_count,
        kernel=text_in(extra, "kernel"),
        host=text_in(extra, "hostname"),
        threads=count_in(extra, "threads"),
        world=count_in(row.benchmark.extra_info, "world_size") or 1,
    )
