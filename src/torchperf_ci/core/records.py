"""The types that cross module lines, and their codec: lines of strict JSON.

A `Record` is one testing (accuracy or performance) of one `Case`. Everything else this package shows (CSV files,
reports, comparisons, uploads) is made from records and can be made again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Annotated, Any, TypeVar

import msgspec

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.text import Word


def parse_json(text: str) -> Any:  # noqa: ANN401 - any JSON
    """Parse a document. Raises `ValueError` for what is none.

    Python's own parser takes `NaN`, `Infinity` and numbers beyond what a float holds, none of which a file of ours has:
    they are refused wherever in the document they stand, also in a field that nobody reads.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("too deep") from error


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is not a finite number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"{digits[:40]} is not a finite number")
    return number


VERSION = 1
"""The format of a line; a later one is for lines that this code would misunderstand."""

NOT_KNOWN = "unknown"
"""The precision of benchmarks that do not say it."""

AS_IT_IS = "none"
"""The compiler of what runs as it is: nothing is compiled, and there is one arm alone."""

DEFAULT_COMPILERS = ("eager", "inductor")
"""The compilers of `run`, `compare`, `bisect` and the actions where none are named, so that all have the same cases."""


class Mode(Word):
    """The work of one iteration: forward only, or forward, loss and backward."""

    INFERENCE = "inference"
    TRAINING = "training"


class Testing(Word):
    """The question that was asked: are the compiled results right, or how fast are they."""

    __test__ = False  # the name is the field's; pytest must not collect it

    ACCURACY = "accuracy"
    PERFORMANCE = "performance"


class Status(Word):
    """The ways in which a testing of a case ends. The first block is PyTorch's vocabulary, the second is ours."""

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
    """A need of the model (a download, a key, a device or a library of it that works) could not be had."""

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

    @classmethod
    def _missing_(cls, value: object) -> Status | None:
        """Keep a word that is not in our list: later versions of PyTorch's runner and its relatives have their own.

        It is no pass. Any other text is a `ValueError`.
        """
        return _foreign_status(value) if isinstance(value, str) and _STATUS_WORD.fullmatch(value) else None

    @property
    def is_pass(self) -> bool:
        return self in {Status.PASS, Status.PASS_DUE_TO_SKIP}


_STATUS_WORD = re.compile(r"[A-Za-z0-9_.]{1,64}")


@lru_cache(maxsize=1000)
def _foreign_status(word: str) -> Status:
    status = str.__new__(Status, word)
    status._name_ = status._value_ = word
    return status


class Direction(Word):
    """The direction in which a metric gets better."""

    HIGHER = "higher"
    LOWER = "lower"
    UNKNOWN = "unknown"
    """Recorded and shown, never judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measured quantity. `unit` is that of the numbers in `Record.metrics`; `csv_scale` turns it into the CSV's."""

    name: str = ""
    unit: str = ""
    direction: Direction = Direction.UNKNOWN
    title: str = ""
    csv_unit: str = ""
    csv_scale: float = 1.0


METRICS: Mapping[str, Metric] = {
    name: Metric(
        name=name, unit=unit, direction=Direction(direction), title=title, csv_unit=csv_unit, csv_scale=csv_scale
    )
    for name, unit, direction, title, csv_unit, csv_scale in (
        ("speedup", "ratio", "higher", "Performance speedup", "x", 1.0),
        ("abs_latency", "ms", "lower", "Absolute latency (ms)", "ms", 1.0),
        ("compilation_latency", "s", "lower", "Compilation latency (sec)", "s", 1.0),
        ("compression_ratio", "ratio", "higher", "Peak Memory Compression Ratio", "x", 1.0),
        ("eager_peak_mem", "bytes", "lower", "Peak memory, eager", "GB", 1e-9),
        ("dynamo_peak_mem", "bytes", "lower", "Peak memory, compiled", "GB", 1e-9),
        ("eager_process_mem", "bytes", "lower", "Largest size of the process, eager", "GB", 1e-9),
        ("dynamo_process_mem", "bytes", "lower", "Largest size of the process, compiled", "GB", 1e-9),
        ("speedup_low", "ratio", "higher", "Speedup, lower end of the 95 % interval", "", 1.0),
        ("speedup_high", "ratio", "higher", "Speedup, upper end of the 95 % interval", "", 1.0),
        ("speedup_of_medians", "ratio", "higher", "Speedup as median eager / median compiled", "", 1.0),
        ("eager_latency", "ms", "lower", "Eager latency (ms)", "ms", 1.0),
        ("slow_share", "ratio", "lower", "Share of samples in the machine's slow state", "", 1.0),
        ("operators", "count", "lower", "Dispatched operators", "", 1.0),
        ("flops", "count", "lower", "Floating-point operations", "", 1.0),
        ("generated_kernels", "count", "lower", "Calls of generated kernels", "", 1.0),
        ("kernel_launches", "count", "lower", "Kernels run on the device", "", 1.0),
        ("allocations", "count", "lower", "Allocations", "", 1.0),
        ("allocated_bytes", "bytes", "lower", "Bytes allocated", "", 1.0),
        ("instructions", "count", "lower", "Instructions", "", 1.0),
        ("compile_instructions", "count", "lower", "Instructions of compiling", "", 1.0),
        ("abs_latency_low", "ms", "lower", "Absolute latency, lower end of the 95 % interval", "ms", 1.0),
        ("abs_latency_high", "ms", "lower", "Absolute latency, upper end of the 95 % interval", "ms", 1.0),
        ("throughput", "1/s", "higher", "Throughput (items/s)", "1/s", 1.0),
        ("flops_per_second", "FLOP/s", "higher", "Arithmetic (TFLOP/s)", "TFLOP/s", 1e-12),
        ("peak_share", "ratio", "higher", "Share of the device's peak arithmetic", "", 1.0),
        ("bytes_per_second", "bytes/s", "higher", "Memory traffic (GB/s)", "GB/s", 1e-9),
        ("energy", "J", "lower", "Energy per iteration (J)", "J", 1.0),
        ("recompile_seconds", "s", "lower", "Compiling again for other shapes (sec)", "s", 1.0),
    )
}
"""Every metric by name. A new one is one entry here."""


EXACT_COUNTS = ("operators", "flops", "generated_kernels", "kernel_launches", "allocations", "allocated_bytes")
"""The metrics of one iteration that are the same in every process: one more is one too many."""

INSTRUCTIONS = ("instructions", "compile_instructions")
"""The metrics that are counted and still vary a little."""


def own_metric(name: str, *, unit: str = "", direction: Direction = Direction.UNKNOWN) -> Metric:
    """Define a metric that `METRICS` does not have, as another tool or a user has it."""
    return Metric(name=name, unit=unit, direction=direction, title=f"{name} ({unit})" if unit else name)


def foreign_metric(name: str, *, unit: str = "", direction: Direction = Direction.UNKNOWN) -> Metric:
    """Define a metric of another tool. One that only shares its name with one of ours is told apart from it."""
    return own_metric(f"own.{name}" if name in METRICS else name, unit=unit, direction=direction)


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


Name = Annotated[str, msgspec.Meta(min_length=1)]
Decoded = TypeVar("Decoded")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Case:
    """One thing that is measured: the join key of every table, comparison and history."""

    suite: Name
    model: Name
    mode: Mode
    device: Name
    dtype: Name
    compiler: Name

    def __str__(self) -> str:
        return f"{self.suite}/{self.model} {self.compiler} {self.mode} {self.dtype} {self.device}"

    def has_words(self, name: str) -> bool:
        """Say whether all words of a name are in the whole name: `suite/model`, then what tells it from others."""
        return set(name.split()) <= set(str(self).split())

    def matches(self, pattern: str) -> bool:
        """Say whether shell wildcards fit `suite/model`, or the whole name."""
        return any(fnmatchcase(name, pattern) for name in (f"{self.suite}/{self.model}", str(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphBreak:
    """A place in the user's code where dynamo left a graph, and the reason."""

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
    l2_cache: str = ""
    """`cold` where the device's L2 cache was emptied before every reading."""

    @property
    def processor(self) -> str:
        """The CPU's brand; empty where only its architecture is known, which thousands of machines share."""
        return "" if _ARCHITECTURE.fullmatch(self.cpu.strip()) else self.cpu.strip()

    def comparable_to(self, other: Environment) -> list[str]:
        """Say why timings of the two may not be compared, a sentence each; empty when they may.

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
            "l2_cache": "state of the L2 cache",
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
    """List why two machines, one of them without a CPU's brand, are not the same, as far as names and clocks say."""
    if not _is_name(one.host) or not _is_name(other.host):
        return [MACHINE_UNKNOWN]
    if one.host != other.host:
        return [f"host differs: {one.host} against {other.host}, and the CPU's name is not recorded"]
    clocks = (one.cpu_mhz, other.cpu_mhz)
    if all(clocks) and max(clocks) - min(clocks) > _CLOCK_SPREAD * max(clocks):
        return [f"CPU clock differs: {one.cpu_mhz} MHz against {other.cpu_mhz} MHz"]
    return []


PARTITION = "a partition"
"""The word in `Build.narrowed_by` for a shard that is one of several equal parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """The origins of a run, once per run: everything a build summary shows besides the `Environment`.

    suites: how suites were asked for that are called something else in records, files and modules, by that name.
    gaps: what of a run that was shared out is not there, a sentence each.
    narrowed_by: what left models of the suites out, e.g. `--filter bert`; of a run that was shared out and joined, of
        the whole.
    """

    environment: Environment
    dynamo_flags: Mapping[str, bool] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    suites: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    gaps: tuple[str, ...] = ()
    narrowed_by: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a record comes from. `time` is UTC in ISO 8601 with the year; `attempt` counts from 1.

    subject: the first line of the commit's message; blank where it was not at hand.
    """

    repository: str = ""
    commit: str = ""
    branch: str = ""
    workflow: str = ""
    run_id: str = ""
    attempt: int = 1
    shard: str = "1-1"
    time: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One testing of one case, made once by the runner and never edited.

    metrics: by the names of `METRICS` or `own_metrics`, in their units; a metric that could not be measured is absent,
        never made up.
    samples: every raw time in seconds. `eager` and `compiled` have the same length, element i of both is pair i;
        `probe` is the pure-Python probe of pair i; `eager_device` and `compiled_device` are device event times. What
        runs as it is has `compiled` alone. `NAME` and `eager.NAME` are what every reading of both arms said of an own
        metric, in its unit.
    counters: by the names of `COUNTERS`.
    own_metrics: unit and direction of the metrics that are not in `METRICS`, by name.
    digests: SHA-256 of the compiled arm's `operators` with their arguments and of its `generated_code`, as far as they
        are known: where they are equal, so are the programs behind them.
    params: the parameters in the model's name, as the suite has them.
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
    digests: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str | bool | int | float] = field(default_factory=dict)

    def defined_metrics(self) -> list[Metric]:
        """Return the definitions of what was measured: those of `METRICS` in their order, then the others."""
        known = [metric for name, metric in METRICS.items() if name in self.metrics]
        others = (name for name in self.metrics if name not in METRICS)
        return [*known, *(self.own_metrics.get(name) or own_metric(name) for name in others)]

    @property
    def key(self) -> tuple[Case, Testing]:
        return (self.case, self.testing)


class RecordProblem(UsageProblem):
    """A line that is not a record; the message names the field."""


def to_line(item: Record | Build) -> str:
    """Write one line of JSON, without the line end. Non-finite metrics are left out: JSON has no word for them."""
    if isinstance(item, Build):
        return encode_line("build", item)
    body = msgspec.to_builtins(item)
    body["metrics"] = {name: value for name, value in item.metrics.items() if math.isfinite(value)}
    own = {
        name: {"unit": metric.unit, "direction": metric.direction.value} for name, metric in item.own_metrics.items()
    }
    body |= {"own_metrics": own}
    for name in ("own_metrics", "digests", "params"):  # not in most records, of which there are many
        if not body[name]:
            del body[name]
    if not item.source.subject:
        del body["source"]["subject"]
    return encode_line("record", body)


def from_line(line: str) -> Record | Build:
    """Read the record or build of one line. Raises `RecordProblem` for everything else.

    Unknown fields are ignored, so that records with more fields can be read; those of a later `VERSION` mean something
    else, and are refused.
    """
    item: Record | Build = decode_line(line, {"record": Record, "build": Build})
    if isinstance(item, Record) and item.own_metrics:
        own = {name: own_metric(name, unit=m.unit, direction=m.direction) for name, m in item.own_metrics.items()}
        return replace(item, own_metrics=own)
    return item


def environment_from(raw: Mapping[str, Any]) -> Environment:
    """Turn what a worker said into an environment. Raises `RecordProblem` naming a field of the wrong type."""
    try:
        return msgspec.convert(raw, Environment)
    except msgspec.ValidationError as error:
        raise _problem_of(error) from error


def encode_line(kind: str, item: Any) -> str:  # noqa: ANN401 - a dataclass, or a mapping
    """Write a line of JSON that says of what kind it is, without the line end.

    Python's encoder keeps halves of surrogate pairs, which a file name in a message may hold; msgspec refuses them.
    """
    body = {"type": kind, "v": VERSION, **msgspec.to_builtins(item)}
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def decode_line(line: str, kinds: Mapping[str, type[Any]]) -> Any:  # noqa: ANN401 - one of the kinds
    """Read a line of JSON as the dataclass that `kinds` has for its field `type`. Raises `RecordProblem`."""
    try:
        about = _decode(line, _Kind)
        kind = about.type
        if about.v > VERSION:
            raise RecordProblem(
                f"written by a newer torchperf-ci (format version {about.v}, and this one reads {VERSION}); "
                "update this one"
            )
        if kind not in kinds:
            raise RecordProblem(f"field 'type' is {kind[:40]!r}, expected one of: {', '.join(kinds)}")
        return _decode(line, kinds[kind])
    except msgspec.ValidationError as error:
        raise _problem_of(error) from error
    except ValueError as error:
        raise RecordProblem(f"not JSON: {error}") from error


class _Kind(msgspec.Struct):
    type: str = ""
    v: int = VERSION


def _decode(line: str, kind: type[Decoded]) -> Decoded:
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError:
        raise
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # halves of surrogate pairs, say, which JSON can hold
        return msgspec.convert(parse_json(line), kind)


def _problem_of(error: msgspec.ValidationError) -> RecordProblem:
    """Name the field first, as in: field 'case.model': expected `str`, got `int`."""
    reason, _, path = str(error).partition(" - at `$")
    reason = reason[:1].lower() + reason[1:]
    return RecordProblem(f"field '{path.strip('.`')}': {reason}" if path else reason)
