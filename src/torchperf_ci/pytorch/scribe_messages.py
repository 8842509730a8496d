"""Messages for Scribe: the schema of its category, and its fields from a pytest-benchmark file or from records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median, stdev

import msgspec
from msgspec import UNSET, UnsetType

from torchperf_ci.core.records import Record, Testing
from torchperf_ci.core.text import nearest, one_line
from torchperf_ci.formats.inputs import Finite, InputProblem, explain
from torchperf_ci.formats.pytest_benchmark import STATS, Benchmark, BenchmarkFile

CATEGORY = "perfpipe_pytorch_benchmarks"

Message = Mapping[str, Mapping[str, int | float | str]]
Fields = Mapping[str, object]


class ScribeFields(msgspec.Struct, kw_only=True):
    """Every field of a message. A message has a part for each type of value; a new field is one line here."""

    time: int
    """Seconds since 1970, of the upload."""
    rounds: int | UnsetType = UNSET
    benchmark_group: str | UnsetType = UNSET
    benchmark_name: str | UnsetType = UNSET
    benchmark_executor: str | UnsetType = UNSET
    benchmark_fuser: str | UnsetType = UNSET
    benchmark_class: str | UnsetType = UNSET
    benchmark_time: str | UnsetType = UNSET
    pytorch_commit_id: str | UnsetType = UNSET
    pytorch_branch: str | UnsetType = UNSET
    pytorch_commit_time: str | UnsetType = UNSET
    pytorch_version: str | UnsetType = UNSET
    pytorch_git_dirty: str | UnsetType = UNSET
    machine_kernel: str | UnsetType = UNSET
    machine_processor: str | UnsetType = UNSET
    machine_hostname: str | UnsetType = UNSET
    circle_build_num: str | UnsetType = UNSET
    circle_project_reponame: str | UnsetType = UNSET
    stddev: Finite | UnsetType = UNSET
    min: Finite | UnsetType = UNSET
    median: Finite | UnsetType = UNSET
    max: Finite | UnsetType = UNSET
    mean: Finite | UnsetType = UNSET


_PARTS = {int: "int", str: "normal", float: "float"}
_NUMBERS = frozenset({"time", "rounds", *STATS})
_NAMES = ScribeFields.__struct_fields__


def message_of(fields: Fields, *, where: str) -> Message:
    """Make the message of `fields`, every value coerced to its field's type; those that are None are left out.

    Raises `InputProblem` naming unknown fields, and one that is missing or not of its type.
    """
    if unknown := [name for name in fields if name not in _NAMES]:
        raise InputProblem(
            [
                f"{where}: unknown field {name!r}.{nearest(name, _NAMES)} The fields are: {', '.join(_NAMES)}."
                for name in unknown
            ]
        )
    values = {
        name: str(value) if name not in _NUMBERS and isinstance(value, (int, float)) else value
        for name, value in fields.items()
        if value is not None
    }
    try:
        checked = msgspec.convert(values, ScribeFields, strict=False)
    except msgspec.ValidationError as error:
        raise InputProblem([f"{where}: field {explain(error)}"]) from None
    message: dict[str, dict[str, int | float | str]] = {}
    for name, value in msgspec.to_builtins(checked).items():
        message.setdefault(_PARTS[type(value)], {})[name] = value
    return message


def messages_of(fields: Sequence[tuple[str, Fields]]) -> list[tuple[str, Message]]:
    """Make places and messages of places and fields. Raises `InputProblem` with what is wrong in all of them."""
    messages: list[tuple[str, Message]] = []
    problems: list[str] = []
    for where, values in fields:
        try:
            messages.append((where, message_of(values, where=where)))
        except InputProblem as error:
            problems.extend(error.problems)
    if problems:
        raise InputProblem(problems)
    return messages


def upload_fields(environ: Mapping[str, str], *, time: int) -> Fields:
    """Name what all messages of an upload share: its time (UTC, seconds since 1970) and the CI run it is part of.

    The CI run is known by CircleCI's variables, or else by GitHub's.
    """
    return {
        "time": time,
        "circle_build_num": environ.get("CIRCLE_BUILD_NUM") or environ.get("GITHUB_RUN_NUMBER") or None,
        "circle_project_reponame": environ.get("CIRCLE_PROJECT_REPONAME") or environ.get("GITHUB_REPOSITORY") or None,
    }


def fields_of_benchmarks(
    whole: BenchmarkFile, benchmarks: Sequence[Benchmark], upload: Fields
) -> Iterator[tuple[str, Fields]]:
    """Yield the place and the fields of every benchmark in the file. What the file does not say is None."""
    machine, commit = whole.machine_info, whole.commit_info
    for benchmark in benchmarks:
        params = {name: None if value is None else str(value) for name, value in benchmark.params.items()}
        # `test[net_name]` for the benchmarks that have one, as the dashboards of this category expect.
        named = {"executor", "fuser"} if "net_name" in params else set()
        yield (
            benchmark.where,
            {
                **upload,
                "benchmark_group": benchmark.group or None,
                "benchmark_name": benchmark.name_without(named) if named else benchmark.name,
                "benchmark_executor": params.get("executor"),
                "benchmark_fuser": params.get("fuser"),
                "benchmark_class": benchmark.fullname,
                "benchmark_time": whole.datetime or None,
                "pytorch_commit_id": commit.get("id"),
                "pytorch_branch": commit.get("branch"),
                "pytorch_commit_time": commit.get("time"),
                "pytorch_git_dirty": commit.get("dirty"),
                "pytorch_version": machine.get("pytorch_version"),
                "machine_kernel": machine.get("release"),
                "machine_processor": machine.get("processor"),
                "machine_hostname": machine.get("node"),
                **{name: getattr(benchmark.stats, name) for name in STATS},
            },
        )


def fields_of_records(records: Sequence[Record], upload: Fields) -> Iterator[tuple[str, Fields]]:
    """Yield the place and the fields of every performance record that has times; Scribe has no field for a status.

    Times are seconds of one compiled iteration; eager's are those of the compiler named `eager`.
    """
    for record in records:
        case, environment, source = record.case, record.environment, record.source
        rounds, latency = record.samples.get("compiled", ()), record.metrics.get("abs_latency")
        if record.testing is not Testing.PERFORMANCE or not record.status.is_pass or (not rounds and latency is None):
            continue
        stats: dict[str, object] = {"median": (latency or 0.0) / 1000}
        if rounds:
            stats = {
                "rounds": len(rounds),
                "min": min(rounds),
                "median": median(rounds),
                "max": max(rounds),
                "mean": fmean(rounds),
                "stddev": stdev(rounds) if len(rounds) > 1 else 0.0,
            }
        yield (
            one_line(str(case), limit=120),
            {
                **upload,
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
                "circle_project_reponame": upload["circle_project_reponame"] or source.repository or None,
                **stats,
            },
        )
