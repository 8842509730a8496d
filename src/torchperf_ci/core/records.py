"""The types that cross module lines, and their JSON-lines codec.

A `Record` is one testing (accuracy or performance) of one `Case`. Everything else this package shows (CSV files,
reports, comparisons, uploads) is made from records and can be made again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.strict_json import parse_json

DEFAULT_COMPILERS = ("eager", "aot_eager", "inductor", "inductor_no_cudagraphs")


class Mode(str, Enum):
    """What one iteration does: forward only, or forward, loss and backward."""

    INFERENCE = "inference"
    TRAINING = "training"

    __str__ = str.__str__


class Testing(str, Enum):
    """What was looked at: are the compiled results right, or how fast are they."""

    __test__ = False  # the name is the field's; pytest must not collect it

    ACCURACY = "accuracy"
    PERFORMANCE = "performance"

    __str__ = str.__str__


class Status(str, Enum):
    """How a testing of a case ended. The first block is PyTorch's vocabulary, the second is ours."""

    PASS = "pass"
    PASS_DUE_TO_SKIP = "pass_due_to_skip"
    FAIL_ACCURACY = "fail_accuracy"
    FAIL_TO_RUN = "fail_to_run"
    OOM = "OOM"
    EAGER_1ST_RUN_OOM = "eager_1st_run_OOM"
    EAGER_1ST_RUN_FAIL = "eager_1st_run_fail"
    EAGER_2ND_RUN_OOM = "eager_2nd_run_OOM"
    EAGER_2ND_RUN_FAIL = "eager_2nd_run_fail"
    EAGER_TWO_RUNS_DIFFER = "eager_two_runs_differ"
    NOT_BITWISE_EQUIVALENT = "not_bitwise_equivalent"
    MODEL_FAIL_TO_LOAD = "model_fail_to_load"
    EAGER_FAIL_TO_RUN = "eager_fail_to_run"
    TIMEOUT = "timeout"
    WARMUP_FAILED = "warmup_failed"
    INFRA_ERROR = "infra_error"
    """What the model needs (a download, a key) could not be had."""

    CRASHED = "crashed"
    """The worker process ended by itself: a signal, or an exit code (also 0)."""
    KILLED_OOM = "killed_oom"
    """The kernel killed the worker because memory ran out."""
    COMPILER_NOT_AVAILABLE = "compiler_not_available"
    """This torch knows the compiler, but cannot run it here."""
    NOT_JUDGED = "not_judged"
    """The accuracy check could not compare the results, or failed itself: the model may be right."""
    NOT_RUN = "not_run"
    """Planned, and left out because the budget of the run was spent. A resumed run takes it up again."""

    __str__ = str.__str__

    @property
    def is_pass(self) -> bool:
        return self in {Status.PASS, Status.PASS_DUE_TO_SKIP}


def status_named(word: str) -> Status:
    """Turn the word of a file into a status; one that is not in our list stays what it is, and is no pass.

    Later versions of PyTorch's runner and its relatives have words of their own. Raises `ValueError` for other text.
    """
    try:
        return Status(word)
    except ValueError:
        if not _STATUS_WORD.fullmatch(word):
            raise
        return _foreign_status(word)


_STATUS_WORD = re.compile(r"[A-Za-z0-9_.]{1,64}")


@lru_cache(maxsize=1000)
def _foreign_status(word: str) -> Status:
    status = str.__new__(Status, word)
    status._name_ = status._value_ = word
    return status


class Direction(str, Enum):
    """Which way a metric gets better."""

    HIGHER = "higher"
    LOWER = "lower"
    UNKNOWN = "unknown"
    """Recorded and shown, never judged."""

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measured quantity. `unit` is that of the numbers in `Record.metrics`; `csv_scale` turns it into the CSV's."""

    name: str
    unit: str
    direction: Direction
    title: str
    csv_unit: str = ""
    csv_scale: float = 1.0


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                name="speedup",
                unit="ratio",
                direction=Direction.HIGHER,
                title="Performance speedup",
                csv_unit="x",
            ),
            Metric(
                name="abs_latency",
                unit="ms",
                direction=Direction.LOWER,
                title="Absolute latency (ms)",
                csv_unit="ms",
            ),
            Metric(
                name="compilation_latency",
                unit="s",
                direction=Direction.LOWER,
                title="Compilation latency (sec)",
                csv_unit="s",
            ),
            Metric(
                name="compression_ratio",
                unit="ratio",
                direction=Direction.HIGHER,
                title="Peak Memory Compression Ratio",
                csv_unit="x",
            ),
            Metric(
                name="eager_peak_mem",
                unit="bytes",
                direction=Direction.LOWER,
                title="Peak memory, eager",
                csv_unit="GB",
                csv_scale=1e-9,
            ),
            Metric(
                name="dynamo_peak_mem",
                unit="bytes",
                direction=Direction.LOWER,
                title="Peak memory, compiled",
                csv_unit="GB",
                csv_scale=1e-9,
            ),
            Metric(
                name="eager_process_mem",
                unit="bytes",
                direction=Direction.LOWER,
                title="Largest size of the process, eager",
                csv_unit="GB",
                csv_scale=1e-9,
            ),
            Metric(
                name="dynamo_process_mem",
                unit="bytes",
                direction=Direction.LOWER,
                title="Largest size of the process, compiled",
                csv_unit="GB",
                csv_scale=1e-9,
            ),
            Metric(
                name="speedup_low",
                unit="ratio",
                direction=Direction.HIGHER,
                title="Speedup, lower end of the 95 % interval",
            ),
            Metric(
                name="speedup_high",
                unit="ratio",
                direction=Direction.HIGHER,
                title="Speedup, upper end of the 95 % interval",
            ),
            Metric(
                name="speedup_of_medians",
                unit="ratio",
                direction=Direction.HIGHER,
                title="Speedup as median eager / median compiled",
            ),
            Metric(
                name="eager_latency",
                unit="ms",
                direction=Direction.LOWER,
                title="Eager latency (ms)",
                csv_unit="ms",
            ),
            Metric(
                name="slow_share",
                unit="ratio",
                direction=Direction.LOWER,
                title="Share of samples in the machine's slow state",
            ),
        )
    }
)
"""Every metric by name. A new one is one entry here."""


def own_metric(name: str, *, unit: str = "", direction: Direction = Direction.UNKNOWN) -> Metric:
    """Define a metric that `METRICS` does not have, as another tool or a user has it."""
    return Metric(name=name, unit=unit, direction=direction, title=f"{name} ({unit})" if unit else name)


COUNTERS = (
    "calls_captured",
    "unique_graphs",
    "fallbacks_to_eager",
    "graph_breaks",
    "unique_graph_breaks",
    "autograd_captures",
    "autograd_compiles",
    "cudagraph_skips",
    "recompiles",
)
"""Dynamo's counters, in the CSV's order. `recompiles`, which only newer tables have, stays the last."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Case:
    """What is measured: the join key of every table, comparison and history."""

    suite: str
    model: str
    mode: Mode
    device: str
    dtype: str
    compiler: str

    def __str__(self) -> str:
        return f"{self.suite}/{self.model} {self.compiler} {self.mode} {self.dtype} {self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBreak:
    """Why dynamo left a graph, and where in the user's code."""

    reason: str
    user_stack: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The machine and the Python under test, as the worker saw them. Empty text and 0 mean absent or not known.

    threads: of each process. world: the processes that ran the case together.
    """

    python: str = ""
    torch: str = ""
    torch_git: str = ""
    cuda: str = ""
    hip: str = ""
    cudnn: str = ""
    driver: str = ""
    gpu: str = ""
    gpu_uuid: str = ""
    gpu_count: int = 0
    gpu_memory_bytes: int = 0
    cpu: str = ""
    cpu_count: int = 0
    memory_bytes: int = 0
    kernel: str = ""
    host: str = ""
    threads: int = 0
    omp_wait_policy: str = ""
    governor: str = ""
    cpu_mhz: int = 0
    world: int = 1

    @property
    def processor(self) -> str:
        """The CPU's brand; empty where only its architecture is known, which thousands of machines share."""
        return "" if _ARCHITECTURE.fullmatch(self.cpu.strip()) else self.cpu.strip()

    def comparable_to(self, other: Environment) -> list[str]:
        """Why timings of the two may not be compared, a sentence each; empty when they may.

        A machine is known by the brand of its CPU; without one by its host's name and its clock. Where these are not
        recorded either, the one reason is `MACHINE_UNKNOWN`.
        """
        identity: list[str] = []
        if self.processor and other.processor:
            if self.processor != other.processor:
                identity = [f"CPU differs: {self.processor} against {other.processor}"]
        elif not (self.gpu and other.gpu):
            identity = _different_hosts(self, other)
            if identity == [MACHINE_UNKNOWN]:
                return identity
        names = {
            "cpu_count": "number of CPUs",
            "gpu": "GPU",
            "gpu_count": "number of GPUs",
            "driver": "GPU driver",
            "cuda": "CUDA version",
            "hip": "HIP version",
            "threads": "number of threads",
            "omp_wait_policy": "OpenMP wait policy",
            "world": "number of processes",
        }
        return identity + [
            f"{title} differs: {mine or 'none'} against {theirs or 'none'}"
            for name, title in names.items()
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]


MACHINE_UNKNOWN = "the machine is not recorded"

_ARCHITECTURE = re.compile(
    r"(x86([_-]?64)?|amd64|i[3-6]86(pc)?|ia-?64|arm(64|v\d+\w*|hf|el)?(_?32)?|aarch64(_be)?|ppc(64)?(le)?|powerpc\w*"
    r"|s390x?|riscv(32|64)?|loongarch64|mips\w*|sparc\w*|unknown|none|n/?a)?",
    re.IGNORECASE,
)

_CLOCK_SPREAD = 0.05
"""Share by which two readings of one machine's clock may differ: some tools read the speed of the moment."""


def _is_name(host: str) -> bool:
    return host.partition(".")[0].lower() not in {"", "localhost", "(none)", "unknown", "none"}


def _different_hosts(one: Environment, other: Environment) -> list[str]:
    """Why two machines, one of them without a CPU's brand, are not the same, as far as names and clocks say."""
    if not _is_name(one.host) or not _is_name(other.host):
        return [MACHINE_UNKNOWN]
    if one.host != other.host:
        return [f"host differs: {one.host} against {other.host}, and the CPU's name is not recorded"]
    clocks = (one.cpu_mhz, other.cpu_mhz)
    if all(clocks) and max(clocks) - min(clocks) > _CLOCK_SPREAD * max(clocks):
        return [f"CPU clock differs: {one.cpu_mhz} MHz against {other.cpu_mhz} MHz"]
    return []


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What a run was built from, once per run: everything a build summary shows besides the `Environment`.

    suites: how suites were asked for that are called something else in records, files and modules, by that name.
    gaps: what of a run that was shared out is not there, a sentence each.
    """

    environment: Environment
    dynamo_flags: Mapping[str, bool] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    suites: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a record comes from. `time` is UTC in ISO 8601 with the year; `attempt` counts from 1."""

    repository: str = ""
    commit: str = ""
    branch: str = ""
    workflow: str = ""
    run_id: str = ""
    attempt: int = 1
    shard: str = "1-1"
    time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One testing of one case, made once by the runner and never edited.

    metrics: by the names of `METRICS` or `own_metrics`, in their units; a metric that could not be measured is absent,
        never made up.
    samples: every raw time in seconds. `eager` and `compiled` have the same length, element i of both is pair i;
        `probe` is the pure-Python probe of pair i; `eager_device` and `compiled_device` are device event times.
    counters: by the names of `COUNTERS`.
    own_metrics: unit and direction of the metrics that are not in `METRICS`, by name.
    reason: one line on why the status is not a pass, or empty.
    remarks: what a reader should know about the numbers, a line each.
    not_compiled: nothing was compiled, so that the compiled arm ran eagerly, whatever the status says.
    compile_scope: what the compiler was given: the whole `step`, or the `module`; empty where it is not known.
    log: path of the case's log below the results folder, or empty.
    """

    case: Case
    testing: Testing
    status: Status
    batch_size: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    samples: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    graph_breaks: tuple[GraphBreak, ...] = ()
    parameters: int = 0
    seconds: float = 0.0
    reason: str = ""
    remarks: tuple[str, ...] = ()
    not_compiled: bool = False
    compile_scope: str = ""
    log: str = ""
    environment: Environment = Environment()
    source: Source = Source()
    own_metrics: Mapping[str, Metric] = field(default_factory=dict)

    def defined_metrics(self) -> list[Metric]:
        """The definitions of what was measured: those of `METRICS` in their order, then the others as they stand."""
        known = [metric for name, metric in METRICS.items() if name in self.metrics]
        others = (name for name in self.metrics if name not in METRICS)
        return [*known, *(self.own_metrics.get(name) or own_metric(name) for name in others)]

    @property
    def key(self) -> tuple[Case, Testing]:
        return (self.case, self.testing)


class RecordProblem(UsageProblem):
    """A line that is not a record; the message names the field."""


def to_line(item: Record | Build) -> str:
    """One line of JSON, without the line end. Non-finite metrics are left out: JSON has no word for them."""
    kind = "record" if isinstance(item, Record) else "build"
    body = _plain(item)
    if isinstance(item, Record):
        body["own_metrics"] = {
            name: {"unit": metric.unit, "direction": metric.direction.value}
            for name, metric in item.own_metrics.items()
        }
        if not body["own_metrics"]:
            del body["own_metrics"]  # most records have none, and there are many
    return json.dumps({"type": kind, "v": 1, **body}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_line(line: str) -> Record | Build:
    """The record or build of one line. Raises `RecordProblem` for everything else; unknown fields are ignored,
    so that records of a later version can be read."""
    return _record_at_once(line) or _item_by_field(line)


def _record_at_once(line: str) -> Record | None:
    """Decode a line that is a record as it should be, ten times as fast as field by field; None for any other line,
    which the slow way then reads, or names the fault of."""
    if not line.startswith(_RECORD_START):
        return None
    try:
        record = _DECODER.decode(line)
    except (msgspec.MsgspecError, UnicodeError):  # halves of surrogate pairs, say, which JSON can hold
        return None
    case = record.case
    return record if all((case.suite, case.model, case.device, case.dtype, case.compiler)) else None


_RECORD_START = '{"type":"record",'
"""How every line begins that `to_line` made of a record."""

_DECODER = msgspec.json.Decoder(Record)


def _item_by_field(line: str) -> Record | Build:
    try:
        raw = parse_json(line)
    except ValueError as error:
        raise RecordProblem(f"not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise RecordProblem("not a JSON object")
    match raw.get("type"):
        case "record":
            return _record(raw)
        case "build":
            return _build(raw)
        case other:
            raise RecordProblem(f"field 'type' is {str(other)[:40]!r}, expected 'record' or 'build'")


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    match value:
        case Enum():
            return value.value
        case Mapping():
            plain = {str(key): _plain(item) for key, item in value.items()}
            return {key: item for key, item in plain.items() if not _is_non_finite(item)}
        case tuple() | list():
            if value and all(type(item) is float for item in value):  # samples: by far most of what is written
                return value
            return [_plain(item) for item in value]
        case _ if is_dataclass(value):
            return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
        case _:
            return value


def _is_non_finite(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _record(raw: Mapping[str, Any]) -> Record:
    case = _object(raw, "case")
    return Record(
        case=Case(
            suite=_text(case, "suite", required=True),
            model=_text(case, "model", required=True),
            mode=_choice(case, "mode", Mode),
            device=_text(case, "device", required=True),
            dtype=_text(case, "dtype", required=True),
            compiler=_text(case, "compiler", required=True),
        ),
        testing=_choice(raw, "testing", Testing),
        status=_status(raw),
        batch_size=_integer(raw, "batch_size"),
        metrics={name: _number(value, f"metrics.{name}") for name, value in _object(raw, "metrics").items()},
        samples={
            name: tuple(_number(item, f"samples.{name}") for item in _list(values, f"samples.{name}"))
            for name, values in _object(raw, "samples").items()
        },
        counters={name: int(_number(value, f"counters.{name}")) for name, value in _object(raw, "counters").items()},
        graph_breaks=tuple(
            GraphBreak(reason=_text(item, "reason"), user_stack=_text(item, "user_stack"))
            for item in _list(raw.get("graph_breaks", []), "graph_breaks")
            if isinstance(item, dict)
        ),
        parameters=_integer(raw, "parameters"),
        seconds=_number(raw.get("seconds", 0.0), "seconds"),
        reason=_text(raw, "reason"),
        remarks=tuple(str(item) for item in _list(raw.get("remarks", []), "remarks")),
        not_compiled=_flag(raw, "not_compiled"),
        compile_scope=_text(raw, "compile_scope"),
        log=_text(raw, "log"),
        environment=_flat(Environment, _object(raw, "environment")),
        source=_flat(Source, _object(raw, "source")),
        own_metrics={
            name: own_metric(
                name,
                unit=_text(definition, "unit"),
                direction=_choice({"direction": definition.get("direction", "unknown")}, "direction", Direction),
            )
            for name, definition in _object(raw, "own_metrics").items()
            if isinstance(definition, dict)
        },
    )


def _build(raw: Mapping[str, Any]) -> Build:
    return Build(
        environment=_flat(Environment, _object(raw, "environment")),
        dynamo_flags={str(k): bool(v) for k, v in _object(raw, "dynamo_flags").items()},
        variables={str(k): str(v) for k, v in _object(raw, "variables").items()},
        packages={str(k): str(v) for k, v in _object(raw, "packages").items()},
        suites={str(k): str(v) for k, v in _object(raw, "suites").items()},
        warnings=tuple(str(item) for item in _list(raw.get("warnings", []), "warnings")),
        gaps=tuple(str(item) for item in _list(raw.get("gaps", []), "gaps")),
        command=tuple(str(item) for item in _list(raw.get("command", []), "command")),
        time=_text(raw, "time"),
    )


def environment_from(raw: Mapping[str, Any]) -> Environment:
    """The environment a worker described. Raises `RecordProblem` naming a field of the wrong type."""
    environment: Environment = _flat(Environment, raw)
    return environment


def _flat(kind: Any, raw: Mapping[str, Any]) -> Any:  # noqa: ANN401 - a flat dataclass of text and integers
    known = {item.name: item for item in fields(kind)}
    return kind(
        **{
            name: _integer(raw, name) if item.type == "int" else _text(raw, name)
            for name, item in known.items()
            if name in raw
        }
    )


def _object(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name, {})
    if not isinstance(value, dict):
        raise RecordProblem(f"field '{name}' is not an object")
    return value


def _list(value: object, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise RecordProblem(f"field '{name}' is not a list")
    return value


def _text(raw: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    value = raw.get(name, "")
    if not isinstance(value, str) or (required and not value):
        raise RecordProblem(f"field '{name}' is missing or not text")
    return value


def _flag(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name, False)
    if not isinstance(value, bool):
        raise RecordProblem(f"field '{name}' is neither true nor false")
    return value


def _integer(raw: Mapping[str, Any], name: str) -> int:
    value = raw.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise RecordProblem(f"field '{name}' is not an integer")
    return value


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not _is_finite(value):
        raise RecordProblem(f"field '{name}' is not a finite number")
    return float(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond what a float can hold
        return False


def _status(raw: Mapping[str, Any]) -> Status:
    word = raw.get("status")
    try:
        return status_named(word if isinstance(word, str) else "")
    except ValueError as error:
        raise RecordProblem(f"field 'status' is {str(word)[:40]!r}, expected a word such as pass") from error


def _choice(raw: Mapping[str, Any], name: str, kind: Any) -> Any:  # noqa: ANN401 - one of our enums
    value = raw.get(name)
    try:
        return kind(value)
    except ValueError as error:
        choices = ", ".join(item.value for item in kind)
        raise RecordProblem(f"field '{name}' is {str(value)[:40]!r}, expected one of: {choices}") from error
