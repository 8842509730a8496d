"""Records as rows of PyTorch's benchmark database, schema v3: one JSON object per metric.

The table is `benchmark.oss_ci_benchmark_v3` (pytorch/test-infra, clickhouse_db_schema); its loader reads JSON lines
from `{schema}/{repository}/{workflow id}/{job id}/{file}` of a bucket.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Any

from torchperf_ci.core.errors import UsageProblem, require
from torchperf_ci.core.records import COUNTERS, METRICS, Build, Environment, Record, Source, Testing
from torchperf_ci.core.results import Results, csv_name
from torchperf_ci.core.text import one_line
from torchperf_ci.formats.inputs import moment
from torchperf_ci.pytorch.nvml import Gpus
from torchperf_ci.report.csv_tables import ZERO_ON_ERROR

SCHEMA_VERSION = "v3"
SCHEMA_FILE = "pytorch_benchmark_v3.schema.json"

_GIB = 1024**3

_REPOSITORIES: Mapping[str, str] = MappingProxyType(
    {
        "torch": "pytorch/pytorch",
        "torchvision": "pytorch/vision",
        "torchaudio": "pytorch/audio",
        "torchao": "pytorch/ao",
        "triton": "triton-lang/triton",
        "numpy": "numpy/numpy",
        "transformers": "huggingface/transformers",
        "timm": "huggingface/pytorch-image-models",
        "onnxruntime": "microsoft/onnxruntime",
    }
)
"""Where packages are developed: the database names dependencies by their repository."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What names a run in the database and the records do not know, or should not decide. Empty means: ask the record.

    benchmark: the benchmark's name there; `TorchInductor` is what HUD's compiler dashboard shows.
    job_id: GitHub's number of the job, `job.check_run_id` in a workflow.
    now: seconds since 1970, for records without a time.
    """

    now: int
    benchmark: str = "TorchInductor"
    repository: str = ""
    branch: str = ""
    commit: str = ""
    name: str = ""
    runner_type: str = ""
    workflow_id: int = 0
    job_id: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketFile:
    """A file of the bucket: its path below the root, and its rows as JSON lines."""

    path: str
    content: bytes


def rows_of(results: Results, identity: Identity, *, gpus: Gpus | None) -> list[Row]:
    """Every row of every record, in order."""
    builds = {build.environment: build for build in results.builds}
    return [row for record in results.records for row in _rows(record, builds.get(record.environment), identity, gpus)]


def check_rows(rows: Iterable[Row]) -> None:
    """Raises `UsageProblem` naming the field, when a row is not by the schema."""
    require("jsonschema", extra="hud", purpose="checking rows for PyTorch's benchmark database")
    import jsonschema

    schema = json.loads(resources.files(__package__).joinpath(SCHEMA_FILE).read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    for row in rows:
        for error in validator.iter_errors(row):
            raise UsageProblem(
                f"{one_line(str(row['model']['name']), limit=80)}: {error.json_path.removeprefix('$.')}: "
                f"{one_line(error.message, limit=200)}"
            )


def lines_of(rows: Iterable[Row]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def compressed(content: bytes) -> bytes:
    """The same bytes for the same content, whenever they are made."""
    return gzip.compress(content, mtime=0)


def bucket_files(rows: Iterable[Row]) -> list[BucketFile]:
    """A file per repository, workflow and job. Its name is made of its content: repeated uploads write the same file,
    and different results of a job do not overwrite each other.

    Raises `UsageProblem` when the layout lacks a part of the path.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_folder(row), []).append(row)
    return [_bucket_file(folder, held) for folder, held in groups.items()]


def _bucket_file(folder: str, rows: Sequence[Row]) -> BucketFile:
    content = lines_of(rows)
    digest = hashlib.sha256(content).hexdigest()[:16]
    return BucketFile(path=f"{folder}/torchperf-ci-{digest}.json", content=content)


def _folder(row: Row) -> str:
    options = {"repo": "--repository", "workflow_id": "--workflow-id", "job_id": "--job-id"}
    if missing := [option for name, option in options.items() if not row[name]]:
        raise UsageProblem(f"the bucket's folders are by repository, workflow and job; give {', '.join(missing)}")
    return f"{row['schema_version']}/{row['repo']}/{row['workflow_id']}/{row['job_id']}"


def _rows(record: Record, build: Build | None, identity: Identity, gpus: Gpus | None) -> Iterator[Row]:
    case = record.case
    environment = record.environment
    if gpus is not None and not case.device.startswith("cpu"):
        environment = gpus.complete(environment)
    shared = {
        **_run(record.source, identity),
        "runners": [_runner(environment, case.device, identity)],
        "benchmark": _benchmark(record, identity),
        "model": {
            "name": case.model,
            "type": "OSS model",
            "backend": case.compiler,
            "origins": [case.suite],
            "extra_info": {},
        },
        "inputs": {},
        "dependencies": _dependencies(environment, build),
    }
    for metric in _metrics(record):
        yield {**shared, "metric": metric}


def _run(source: Source, identity: Identity) -> Row:
    when = moment(source.time)
    return {
        "timestamp": int(when.timestamp()) if when else identity.now,
        "schema_version": SCHEMA_VERSION,
        "name": identity.name or source.workflow,
        "repo": identity.repository or source.repository,
        "head_branch": identity.branch or source.branch,
        "head_sha": identity.commit or source.commit,
        "workflow_id": identity.workflow_id or (int(source.run_id) if source.run_id.isdecimal() else 0),
        "run_attempt": source.attempt,
        "job_id": identity.job_id,
    }


def _benchmark(record: Record, identity: Identity) -> Row:
    case = record.case
    extra = {
        "device": case.device,
        "batch_size": str(record.batch_size),
        "suite": case.suite,
        "output": csv_name(case, record.testing),  # HUD reads the compiler and the testing from this name
        "parameters": str(record.parameters or ""),
        "world_size": str(record.environment.world) if record.environment.world > 1 else "",
        "status": record.status.value,
        "reason": one_line(record.reason, limit=300),
    }
    return {
        "name": identity.benchmark,
        "mode": case.mode.value,
        "dtype": case.dtype,
        "extra_info": {name: value for name, value in extra.items() if value},
    }


def _runner(environment: Environment, device: str, identity: Identity) -> Row:
    extra = {
        "hostname": environment.host,
        "kernel": environment.kernel,
        "python": environment.python,
        "driver": environment.driver,
        "cuda": environment.cuda,
        "cudnn": environment.cudnn,
        "threads": str(environment.threads or ""),
    }
    memory, gpu_memory = environment.memory_bytes // _GIB, environment.gpu_memory_bytes // _GIB
    return {
        "name": device.partition(":")[0],
        "type": identity.runner_type or environment.gpu or environment.cpu,
        "cpu_info": environment.cpu,
        "cpu_count": environment.cpu_count,
        "mem_info": f"{memory} GiB" if memory else "",
        "avail_mem_in_gb": memory,
        "gpu_info": environment.gpu,
        "gpu_count": environment.gpu_count,
        "gpu_mem_info": f"{environment.gpu_count} x {gpu_memory} GiB" if gpu_memory else "",
        "avail_gpu_mem_in_gb": environment.gpu_count * gpu_memory,
        "extra_info": {name: value for name, value in extra.items() if value},
    }


def _dependencies(environment: Environment, build: Build | None) -> Row:
    versions = dict(build.packages) if build else {}
    if environment.torch:
        versions["torch"] = environment.torch
    return {
        (repository := _REPOSITORIES.get(package, package)): {
            "repo": repository,
            "branch": "",
            "sha": environment.torch_git if package == "torch" else "",
            "version": version,
            "extra_info": {},
        }
        for package, version in versions.items()
    }


def _metrics(record: Record) -> Iterator[Row]:
    if record.testing is Testing.ACCURACY:
        # The table has numbers only; the loader keeps a word, such as an accuracy, in the metric's extra_info.
        yield _metric("accuracy", [], {"benchmark_values": json.dumps([record.status.value])})
    measured = dict(record.metrics)
    if record.testing is Testing.PERFORMANCE and not record.status.is_pass:
        measured.update(dict.fromkeys(ZERO_ON_ERROR, 0.0))  # what PyTorch's runner writes, so that a failure is seen
    for name, metric in METRICS.items():
        if name in measured:
            unit = {"unit": metric.csv_unit or metric.unit, "direction": metric.direction.value}
            yield _metric(name, [measured[name] * metric.csv_scale], unit)
    for metric in record.defined_metrics():
        if metric.name not in METRICS:
            unit = {"unit": metric.unit, "direction": metric.direction.value}
            yield _metric(metric.name, [record.metrics[metric.name]], unit)
    for name in COUNTERS:
        if name in record.counters:
            yield _metric(name, [float(record.counters[name])], {})


def _metric(name: str, values: list[float], extra: dict[str, str]) -> Row:
    return {"name": name, "benchmark_values": values, "target_value": 0.0, "extra_info": extra}
