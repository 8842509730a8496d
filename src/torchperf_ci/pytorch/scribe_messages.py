"""Results as the fields of Scribe messages: from a pytest-benchmark file, and from records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from torchperf_ci.core.records import Record, Testing
from torchperf_ci.core.text import one_line
from torchperf_ci.formats.pytest_benchmark import STATS, Benchmark, BenchmarkFile

Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What all messages of one upload share: its time (UTC, whole seconds since 1970) and the CI run it is part of."""

    time: int
    build: str | None = None
    repository: str | None = None


def upload_from(environ: Mapping[str, str], *, time: int) -> Upload:
    """The CI run by CircleCI's variables, or else by GitHub's."""
    return Upload(
        time=time,
        build=environ.get("CIRCLE_BUILD_NUM") or environ.get("GITHUB_RUN_NUMBER") or None,
        repository=environ.get("CIRCLE_PROJECT_REPONAME") or environ.get("GITHUB_REPOSITORY") or None,
    )


def fields_of_benchmarks(found: BenchmarkFile, upload: Upload) -> Iterator[tuple[str, Fields]]:
    """The place and the fields of every benchmark in the file. What the file does not say is None."""
    machine, commit = found.machine, found.commit
    shared = {
        **_shared(upload),
        "benchmark_time": found.time or None,
        "pytorch_commit_id": commit.get("id"),
        "pytorch_branch": commit.get("branch"),
        "pytorch_commit_time": commit.get("time"),
        "pytorch_git_dirty": commit.get("dirty"),
        "pytorch_version": machine.get("pytorch_version"),
        "machine_kernel": machine.get("release"),
        "machine_processor": machine.get("processor"),
        "machine_hostname": machine.get("node"),
    }
    for benchmark in found.benchmarks:
        yield (
            benchmark.where,
            {
                **shared,
                "benchmark_group": benchmark.group or None,
                "benchmark_name": _name(benchmark),
                "benchmark_executor": _plain(benchmark.params.get("executor")),
                "benchmark_fuser": _plain(benchmark.params.get("fuser")),
                "benchmark_class": benchmark.fullname,
                **{name: benchmark.stats[name] for name in STATS},
            },
        )


def fields_of_records(records: Sequence[Record], upload: Upload) -> Iterator[tuple[str, Fields]]:
    """The place and the fields of every performance record that has times; Scribe has no field for a status.

    Times are seconds of one compiled iteration; eager's are those of the compiler named `eager`.
    """
    for record in records:
        if not (stats := _stats(record)):
            continue
        case, environment, source = record.case, record.environment, record.source
        yield (
            one_line(str(case), limit=120),
            {
                **_shared(upload),
                "benchmark_group": case.suite,
                "benchmark_name": f"{case.mode}[{case.model}]",
                "benchmark_executor": case.compiler,
                "benchmark_class": str(case),
                "benchmark_time": source.time or None,
                "pytorch_commit_id": source.commit or None,
                "pytorch_branch": source.branch or None,
                "pytorch_version": environment.torch or None,
                "machine_kernel": environment.kernel or None,
                "machine_processor": environment.cpu or None,
                "machine_hostname": environment.host or None,
                "circle_project_reponame": upload.repository or source.repository or None,
                **stats,
            },
        )


def _shared(upload: Upload) -> dict[str, object]:
    return {
        "time": upload.time,
        "circle_build_num": upload.build,
        "circle_project_reponame": upload.repository,
    }


def _name(benchmark: Benchmark) -> str:
    """`test[net_name]` for the benchmarks that have one, as the dashboards of this category expect."""
    if "net_name" in benchmark.params:
        return benchmark.name_without({"executor", "fuser"})
    return benchmark.name


def _plain(value: object) -> object:
    """A parameter's value as text: it may be anything."""
    return None if value is None else str(value)


def _stats(record: Record) -> dict[str, object]:
    if record.testing is not Testing.PERFORMANCE or not record.status.is_pass:
        return {}
    if rounds := record.samples.get("compiled"):
        return {
            "rounds": len(rounds),
            "min": min(rounds),
            "median": median(rounds),
            "max": max(rounds),
            "mean": fmean(rounds),
            "stddev": stdev(rounds) if len(rounds) > 1 else 0.0,
        }
    latency = record.metrics.get("abs_latency")
    return {} if latency is None else {"median": latency / 1000}
