"""Records as rows of PyTorch's benchmark database, schema v3: one JSON object per metric; and its bucket.

The table is `benchmark.oss_ci_benchmark_v3` (pytorch/test-infra, clickhouse_db_schema); its loader reads JSON lines
from `{schema}/{repository}/{workflow id}/{job id}/{file}` of a bucket.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from torchperf_ci.core.errors import Refused, UsageProblem, require
from torchperf_ci.core.file_systems import open_file_system, shown
from torchperf_ci.core.records import COUNTERS, METRICS, Build, Environment, Record, Testing
from torchperf_ci.core.results import Results, csv_name
from torchperf_ci.core.text import one_line
from torchperf_ci.formats.model import moment
from torchperf_ci.report.gh_parts import ZERO_ON_ERROR

SCHEMA_VERSION = "v3"
SCHEMA_FILE = "pytorch_benchmark_v3.schema.json"

_GIB = 1024**3
_SCHEMES_WITH_HEADERS = frozenset({"s3", "s3a"})

_REPOSITORIES: Mapping[str, str] = {
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
"""Where packages are developed: the database names dependencies by their repository."""

_OPTIONS = {
    "repo": "--repository OWNER/NAME",
    "head_branch": "--branch",
    "head_sha": "--commit",
    "workflow_id": "--workflow-id",
    "job_id": "--job-id",
}
"""The options of `upload hud` that set a field."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The names of a run that the records do not know, or should not decide. Empty means: ask the record.

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
class Gpus:
    """The first GPU's name and memory, how many there are, the driver; and whose GPUs they are, as NVML says."""

    host: str
    name: str
    count: int
    memory_bytes: int
    driver: str

    def complete(self, environment: Environment) -> Environment:
        """Add to `environment` what it lacks, when it was measured on this machine."""
        if environment.host != self.host:
            return environment
        return replace(
            environment,
            gpu=environment.gpu or self.name,
            gpu_count=environment.gpu_count or self.count,
            gpu_memory_bytes=environment.gpu_memory_bytes or self.memory_bytes,
            driver=environment.driver or self.driver,
        )


def gpus_here() -> Gpus | None:
    """Ask NVML for the GPUs of this machine; None without it, its Python library, or a GPU."""
    if importlib.util.find_spec("pynvml") is None:
        return None
    import pynvml

    def text(value: object) -> str:
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)  # bytes in older versions

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        count = pynvml.nvmlDeviceGetCount()
        if not count:
            return None
        first = pynvml.nvmlDeviceGetHandleByIndex(0)
        return Gpus(
            host=socket.gethostname(),
            name=text(pynvml.nvmlDeviceGetName(first)),
            count=int(count),
            memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(first).total),
            driver=text(pynvml.nvmlSystemGetDriverVersion()),
        )
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def rows_of(results: Results, identity: Identity, *, gpus: Gpus | None) -> list[Row]:
    """Make a row of every metric of every record, in order."""
    builds = {build.environment: build for build in results.builds}
    return [row for record in results.records for row in _rows(record, builds.get(record.environment), identity, gpus)]


def _rows(record: Record, build: Build | None, identity: Identity, gpus: Gpus | None) -> Iterator[Row]:
    case, source, environment = record.case, record.source, record.environment
    if gpus is not None and not case.device.startswith("cpu"):
        environment = gpus.complete(environment)
    when = moment(source.time)
    extra = {
        "device": case.device,
        "batch_size": str(record.batch_size),
        "suite": case.suite,
        "output": csv_name(case, record.testing),  # HUD reads the compiler and the testing from this name
        "parameters": str(record.parameters or ""),
        "params": json.dumps(dict(record.params)) if record.params else "",
        "world_size": str(record.environment.world) if record.environment.world > 1 else "",
        "status": record.status.value,
        "reason": one_line(record.reason, limit=300),
    }
    shared = {
        "timestamp": int(when.timestamp()) if when else identity.now,
        "schema_version": SCHEMA_VERSION,
        "name": identity.name or source.workflow,
        "repo": identity.repository or source.repository,
        "head_branch": identity.branch or source.branch,
        "head_sha": identity.commit or source.commit,
        "workflow_id": identity.workflow_id or (int(source.run_id) if source.run_id.isdecimal() else 0),
        "run_attempt": source.attempt,
        "job_id": identity.job_id,
        "runners": [_runner(environment, case.device, identity)],
        "benchmark": {
            "name": identity.benchmark,
            "mode": case.mode.value,
            "dtype": case.dtype,
            "extra_info": {name: value for name, value in extra.items() if value},
        },
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
    for name, values, about in _metrics(record):
        metric = {"name": name, "benchmark_values": values, "target_value": 0.0, "extra_info": about}
        yield {**shared, "metric": metric}


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


def _metrics(record: Record) -> Iterator[tuple[str, list[float], dict[str, str]]]:
    """Yield name, values and extra information of every metric."""
    if record.testing is Testing.ACCURACY:
        # The table has numbers only; the loader keeps a word, such as an accuracy, in the metric's extra_info.
        yield "accuracy", [], {"benchmark_values": json.dumps([record.status.value])}
    measured = dict(record.metrics)
    if record.testing is Testing.PERFORMANCE and not record.status.is_pass:
        measured.update(dict.fromkeys(ZERO_ON_ERROR, 0.0))  # what PyTorch's runner writes, so that a failure is seen
    for name, metric in METRICS.items():
        if name in measured:
            unit = {"unit": metric.csv_unit or metric.unit, "direction": metric.direction.value}
            yield name, [measured[name] * metric.csv_scale], unit
    for metric in record.defined_metrics():
        if metric.name not in METRICS:
            unit = {"unit": metric.unit, "direction": metric.direction.value}
            yield metric.name, [record.metrics[metric.name]], unit
    yield from ((name, [float(record.counters[name])], {}) for name in COUNTERS if name in record.counters)


def check_rows(rows: Iterable[Row]) -> None:
    """Raise `UsageProblem` naming the field, when a row is not by the schema."""
    require("jsonschema", extra="hud", purpose="checking rows for PyTorch's benchmark database")
    import jsonschema

    schema = json.loads(resources.files(__package__).joinpath(SCHEMA_FILE).read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    for row in rows:
        for error in validator.iter_errors(row):
            field = error.json_path.removeprefix("$.")
            hint = f"; {_OPTIONS[field]} sets it" if field in _OPTIONS else ""
            raise UsageProblem(
                f"{one_line(str(row['model']['name']), limit=80)}: {field}: {one_line(error.message, limit=200)}{hint}"
            )


def lines_of(rows: Iterable[Row]) -> bytes:
    """Write rows as JSON lines."""
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def compress(content: bytes) -> bytes:
    """Compress by gzip to the same bytes for the same content, whenever they are made."""
    return gzip.compress(content, mtime=0)


def bucket_files(rows: Iterable[Row]) -> dict[str, bytes]:
    """Make a file of JSON lines, by its path in the bucket, per repository, workflow and job.

    Its name is made of its content: repeated uploads write the same file, and different results of a job do not
    overwrite each other.

    Raises `UsageProblem` when the layout lacks a part of the path.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if missing := [_OPTIONS[name] for name in ("repo", "workflow_id", "job_id") if not row[name]]:
            names = ", ".join(missing)
            raise UsageProblem(
                f"a bucket's folders are by repository, workflow and job, which were not recorded: add {names}"
            )
        folder = f"{row['schema_version']}/{row['repo']}/{row['workflow_id']}/{row['job_id']}"
        groups.setdefault(folder, []).append(row)
    contents = {folder: lines_of(members) for folder, members in groups.items()}
    return {
        f"{folder}/torchperf-ci-{hashlib.sha256(content).hexdigest()[:16]}.json": content
        for folder, content in contents.items()
    }


def put_files(url: str, files: Mapping[str, bytes]) -> list[str]:
    """Write files gzipped below any URL that fsspec knows, and return their URLs.

    Raises `UsageProblem` for an unknown scheme, or when its library is missing, and `Refused` saying which files are
    there already.
    """
    system, root = open_file_system(url, purpose=f"writing to {shown(url)}")
    # The database's loader reads `.json` and trusts the header; where there are no headers the name says it.
    has_headers = urlsplit(url).scheme in _SCHEMES_WITH_HEADERS
    headers = {"ContentEncoding": "gzip", "ContentType": "application/json"} if has_headers else {}
    urls: list[str] = []
    for name, content in files.items():
        path = name if has_headers else f"{name}.gz"
        target = f"{root.rstrip('/')}/{path}"
        try:
            if not has_headers:
                system.makedirs(target.rpartition("/")[0], exist_ok=True)
            system.pipe_file(target, compress(content), **headers)
        # Every file system raises errors of its own, which have no base in common but this one.
        except Exception as error:
            user, at, _ = urlsplit(url).netloc.rpartition("@")
            text = str(error).replace(f"{user}{at}", "") if at else str(error)  # without the secrets of the URL
            before = f" ({len(urls)} of {len(files)} files were written before)" if urls else ""
            reason = one_line(f"{type(error).__name__}: {text}", limit=300)
            raise Refused(f"{shown(url)}/{name} could not be written{before}: {reason}") from error
        urls.append(f"{shown(url)}/{path}")
    return urls
