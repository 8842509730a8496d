"""Small builders of what the tests of uploads and exports work on."""

from pathlib import Path

import torchperf_ci
from torchperf_ci.core.records import Build, Case, Environment, Mode, Record, Source, Status, Testing
from torchperf_ci.core.results import open_folder

SOURCES = Path(torchperf_ci.__file__).parents[1]
"""Where a process of its own finds the package."""

GOLDEN = Path(__file__).parent / "golden" / "upload"
"""Whole expected outputs."""

ENVIRONMENT = Environment(
    python="3.12.1",
    torch="2.8.0",
    torch_git="a" * 40,
    cuda="12.8",
    driver="570.1",
    gpu="NVIDIA H100",
    gpu_count=2,
    gpu_memory_bytes=80 * 1024**3,
    cpu="AMD EPYC",
    cpu_count=64,
    memory_bytes=512 * 1024**3,
    kernel="Linux-6.1",
    host="runner-1",
    threads=32,
)
SOURCE = Source(
    repository="octo/repo",
    commit="0123456789abcdef0123456789abcdef01234567",
    branch="main",
    workflow="perf",
    run_id="777",
    attempt=2,
    time="2026-03-01T12:00:00+00:00",
)
BUILD = Build(environment=ENVIRONMENT, packages={"torch": "2.8.0", "transformers": "4.50.0", "numpy": "2.1.0"})


def record(model="mlp", compiler="inductor", testing=Testing.PERFORMANCE, status=Status.PASS, **rest):
    """A record of a case on a GPU."""
    case = Case(suite="tiny", model=model, mode=Mode.INFERENCE, device="cuda", dtype="float32", compiler=compiler)
    shared = {"environment": ENVIRONMENT, "source": SOURCE, "batch_size": 8}
    return Record(case=case, testing=testing, status=status, **{**shared, **rest})


def measured(model="mlp", compiler="inductor", **rest):
    """A performance record with metrics and raw times: compiled 1, 2, 3 and 4 ms."""
    metrics = {
        "speedup": 1.5,
        "abs_latency": 2.5,
        "compilation_latency": 12.0,
        "compression_ratio": 0.95,
        "eager_peak_mem": 2e9,
        "speedup_low": 1.4,
        "speedup_high": 1.6,
    }
    samples = {"eager": (0.0015, 0.003, 0.0045, 0.006), "compiled": (0.001, 0.002, 0.003, 0.004)}
    shared = {"metrics": metrics, "samples": samples, "counters": {"graph_breaks": 1}}
    return record(model, compiler, **{**shared, **rest})


def accuracy(model="mlp", status=Status.PASS, **rest):
    """An accuracy record."""
    return record(model, testing=Testing.ACCURACY, status=status, **rest)


def write_results(path, *items):
    """A results folder that holds `items`."""
    with open_folder(path) as folder:
        folder.append(*items)
    return path
