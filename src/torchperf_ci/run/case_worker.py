"""Drive one case in one worker: its commands as methods, with the case's settings and deadline filled in."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from torchperf_ci.core.records import GraphBreak, Status, Testing
from torchperf_ci.run.lanes import my_cpus
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.sampler import SamplePair, StopRule, Turn
from torchperf_ci.run.session import WorkerError

Reply = TypeVar("Reply")

BREAKS_KEPT = 50
"""Graph breaks kept in a record; a model that has more tells nothing new with the rest."""

REMARKS_KEPT = 10
"""Remarks kept of one reply, for the same reason."""

COUNT_LIMIT = 300.0
"""Seconds that counting may take; what is counted are a few iterations."""

BOTH = (Testing.ACCURACY, Testing.PERFORMANCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseSettings:
    """The way cases are measured. Times in seconds; None leaves the choice to the model or the method.

    cpus: the CPUs a worker is pinned to before it is timed; empty: those it is started with.
    compile_scope: what is compiled in training: the `module`, or the whole `step` with loss and backward; `auto` is the
        step for the suites that bear PyTorch's names.
    cold_l2: the device's L2 cache is emptied before every reading.
    counts: whether an iteration is counted after its times are taken. instructions: how instructions are counted, a
        name of `InstructionMethod`.
    dynamic: torch.compile's, about shapes; None leaves it to torch.
    fresh_process: a new preloaded process for every worker, instead of a fork of the one there is.
    """

    testings: tuple[Testing, ...] = BOTH
    batch_size: int | None = None
    threads: int | None = None
    cpus: tuple[int, ...] = ()
    warmup: int | None = None
    rule: StopRule = StopRule()  # noqa: RUF009 - frozen
    timeout: float = 1800.0
    budget: float | None = None
    cold_start: bool = True
    inductor_mode: str | None = None
    seed: int = 0
    scale: str = "full"
    compile_scope: str = "auto"
    cold_l2: bool = False
    counts: bool = True
    instructions: str = "never"
    dynamic: bool | None = None
    fresh_process: bool = False

    @property
    def repeats(self) -> int | None:
        """Return the calls in a reading, where there is no choice: only the first call finds an emptied cache empty."""
        return 1 if self.cold_l2 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The work of one iteration; 0 where it is not known. bytes: that it moves, as the suite declares them. tf32:
    whether products of float32 matrices run as TF32; tf32_convolutions: and those in convolutions."""

    items: float = 0
    bytes: float = 0
    tf32: bool = False
    tf32_convolutions: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A loaded model, and how it runs: `batch_size` after halving for memory, number of parameters.

    compile_scope, threads: those that really are. one_call: a reading has one call, which has a setup of its own.
    work: what one iteration does. remarks: what a reader should know. strays: packages that come from
    the repository's working tree, where a commit's own tree is measured.
    """

    batch_size: int
    parameters: int
    compile_scope: str
    threads: int
    one_call: bool = False
    work: Work = Work()
    remarks: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """Dynamo's counters by the names of `records.COUNTERS`, why graphs were broken, and whether there was any.

    recompile_seconds: what compiling again for other shapes took, where a case has several; None elsewhere.
    """

    counters: Mapping[str, int]
    graph_breaks: tuple[GraphBreak, ...]
    not_compiled: bool = False
    remarks: tuple[str, ...] = ()
    recompile_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyResult:
    """The end of an accuracy check; `reason`: why it did not pass; `remarks`: what else a reader should know.

    is_spent: whether the worker can time nothing afterwards, for what it has compiled is not what users run.
    extra_info: the numbers that a test noted beside its times, by its own names.
    """

    status: Status
    reason: str
    remarks: tuple[str, ...] = ()
    is_spent: bool = False
    extra_info: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes by arm, None where they cannot be measured.

    peaks: what one iteration needs above the loaded model. process: the largest size the process had meanwhile.
    """

    peaks: Mapping[str, int | None]
    process: Mapping[str, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTrace:
    """The program that a case is: `digests` by part, `parts` by part and name, and why equal ones prove nothing.

    A function's part is `[file, line, calls, digest]`, every other one a digest.
    """

    digests: Mapping[str, str]
    parts: Mapping[str, Mapping[str, Any]]
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Everything counted of an iteration: metrics by the names of `records.METRICS`, and digests as a record has them.

    remarks: why something of it is absent. convolution_flops: those of its floating-point operations that are in
    convolutions.
    """

    metrics: Mapping[str, int | float] = field(default_factory=dict)  # a count is an int in a record's JSON
    digests: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    convolution_flops: float = 0


class Answering(Protocol):
    """A worker, or the processes of a case that are asked as one."""

    def ask(self, do: str, *, deadline: float, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
        """Return the reply to a command. Raises `WorkerError`."""

    def kill(self) -> None:
        """End it; fine to call twice."""


class CaseWorker:
    """A worker and the case it is for. Every method raises `WorkerError` when the command does not succeed."""

    def __init__(self, worker: Answering, planned: PlannedCase, settings: CaseSettings, *, deadline: float) -> None:
        self._worker, self._planned, self._settings, self._deadline = worker, planned, settings, deadline

    def extend(self, deadline: float) -> None:
        """Give it until then, a time of `time.monotonic`."""
        self._deadline = deadline

    def kill(self) -> None:
        """End the worker; what it holds on its device is free afterwards."""
        self._worker.kill()

    def load(self, *, cache_dir: str | None, watch: bool = False, artefacts: bool = False) -> Loaded:
        """Load the model and run it eagerly; the arguments are those of the worker's `Bench.load`."""
        settings, case = self._settings, self._planned.case
        cpus, wanted = list(settings.cpus), (settings.threads or 0) * self._planned.world
        if cpus and wanted > len(cpus):  # they are for one process; each of the case's processes gets as many
            cpus = my_cpus()[-wanted:]
        loaded = self.ask(
            "load",
            spec=self._planned.spec,
            case={
                **{name: str(getattr(case, name)) for name in ("model", "mode", "dtype", "compiler")},
                "device": self._planned.device,
            },
            batch_size=settings.batch_size,
            threads=settings.threads,
            seed=settings.seed,
            scale=settings.scale,
            inductor_mode=settings.inductor_mode,
            cache_dir=cache_dir,
            cpus=cpus,
            compile_scope=settings.compile_scope,
            dynamic=settings.dynamic,
            **({"watch": True} if watch else {}),
            **({"artefacts": True} if artefacts else {}),
        )
        eager = self.ask("eager")
        return _read_reply({**loaded, **eager}, Loaded)

    def accuracy(self) -> AccuracyResult:
        """Compare the compiled results with eager ones; or let a test go on, and tell whether it passes."""
        return _read_reply(self.ask("accuracy"), AccuracyResult)

    def compile(self) -> float:
        return float(self.ask("compile")["compilation_latency"])

    def trace(self) -> ProgramTrace:
        return msgspec.convert(self.ask("trace"), ProgramTrace)

    def settle(self) -> tuple[str, ...]:
        """Get ready to be timed, with no garbage collection from here on; return remarks about it."""
        return tuple(self.ask("settle", cold_l2=self._settings.cold_l2)["remarks"])

    def capture(self) -> Captured:
        answer = self.ask("capture")
        breaks = [{"reason": why, "user_stack": stack} for why, stack in answer["graph_breaks"][:BREAKS_KEPT]]
        return _read_reply({**answer, "graph_breaks": breaks}, Captured)

    def memory(self) -> Memory:
        return msgspec.convert(self.ask("memory"), Memory)

    def count(self, arm: str | None = None) -> Counted:
        """Count what an iteration of an arm does, or of the compiled one where there is one.

        It never raises: what cannot be counted has a remark. Where that ends the worker, nothing else can follow.
        """
        if not self._settings.counts:
            return Counted()
        try:
            answer = self._worker.ask("count", arm=arm, deadline=min(self._deadline, time.monotonic() + COUNT_LIMIT))
        except WorkerError as error:
            return Counted(remarks=(f"nothing could be counted: {error.reason}",))
        return _read_reply(answer, Counted)

    def sample(
        self, order: Sequence[Sequence[str]], inner: Mapping[str, int], *, discard: int = 0, probe: bool = True
    ) -> dict[str, Any]:
        """Take readings in nanoseconds: the worker's `sample`."""
        return self.ask("sample", order=order, inner=inner, discard=discard, probe=probe)

    @property
    def on_accelerator(self) -> bool:
        return not self._planned.case.device.startswith("cpu")

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
        return self._worker.ask(do, deadline=self._deadline, **arguments)


def _read_reply(reply: Mapping[str, Any], kind: type[Reply]) -> Reply:
    """Make a type of a reply, with as many remarks as are kept."""
    return msgspec.convert({**reply, "remarks": reply["remarks"][:REMARKS_KEPT]}, kind)


class WorkerPairs:
    """A `PairSource` of one worker. It holds both arms, eager and compiled unless said; or both are the same arm, of a
    launch without its other side, or of what runs as it is.

    side: for a comparison, the one whose worker it is.
    """

    def __init__(
        self, worker: CaseWorker, first: str = "eager", second: str = "compiled", *, side: str = "head"
    ) -> None:
        self._worker, self._names = worker, (first, second)
        self._recompiled = False
        self.recompiles = 0
        self.asking = side

    def take(self, swapped: Sequence[bool], turn: Turn) -> list[SamplePair]:
        first, second = self._names
        order = [[second, first] if turned else [first, second] for turned in swapped]
        reply = self._worker.sample(order, dict.fromkeys(self._names, turn.repeats))
        self._recompiled |= reply["recompiled"]
        self.recompiles += reply["recompiles"]
        # One iterator per arm: where it is one arm, it gives the two readings of a pair in the order of time.
        arms = {name: zip(arm_times(reply, name), arm_values(reply, name), strict=True) for name in self._names}
        pairs = []
        for probe in reply["probe"]:
            (one, own), (two, other) = (next(arms[name]) for name in self._names)
            pairs.append(make_pair(one, two, probe, values=(own, other)))
        return pairs

    def invalidated(self) -> bool:
        recompiled, self._recompiled = self._recompiled, False
        return recompiled


def make_pair(
    first: tuple[float, float | None],
    second: tuple[float, float | None],
    probe: int,
    *,
    values: tuple[Mapping[str, float], Mapping[str, float]],
) -> SamplePair:
    """Make a pair of host and device seconds of both arms, nanoseconds of the probe, and the values of both."""
    return SamplePair(
        first=first[0],
        second=second[0],
        probe=probe / 1e9,
        first_device=first[1],
        second_device=second[1],
        first_values=values[0],
        second_values=values[1],
    )


def arm_values(reply: Mapping[str, Any], arm: str) -> list[Mapping[str, float]]:
    """List the suite's own metrics of one arm's readings, in order; empty ones where it has none."""
    return reply.get("values", {}).get(arm) or [{}] * len(reply["host"].get(arm, []))


def arm_times(reply: Mapping[str, Any], arm: str) -> list[tuple[float, float | None]]:
    """List host and device seconds of one arm's readings, in order; the device's are None where it has no events."""
    host = reply["host"].get(arm, [])
    device = reply["device"].get(arm) or [None] * len(host)
    return [(one / 1e9, None if two is None else two / 1e9) for one, two in zip(host, device, strict=True)]
