"""One case in one worker: the worker's commands as methods, with the case's settings and its deadline filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torchperf_ci.core.records import GraphBreak, Status, Testing
from torchperf_ci.run.lanes import my_cpus
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.sampler import StopRule

BREAKS_KEPT = 50
"""Graph breaks kept in a record; a model that has more tells nothing new with the rest."""

REMARKS_KEPT = 10
"""Remarks kept of one reply, for the same reason."""

BOTH = (Testing.ACCURACY, Testing.PERFORMANCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How cases are measured. Times in seconds; None leaves the choice to the model or the method.

    cpus: the CPUs a worker is pinned to before it is timed; empty: those it is started with.
    compile_scope: what the compiler is given, `step` or `module`; `auto` leaves it to the suite and the mode.
    cold_l2: the device's L2 cache is emptied before every reading.
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
    fresh_process: bool = False

    @property
    def repeats(self) -> int | None:
        """Calls in a reading, where there is no choice: only the first call after emptying a cache finds it empty."""
        return 1 if self.cold_l2 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a model turned out to be, and how it runs: `batch_size` after halving for memory, number of parameters.

    compile_scope, threads: those that really are. remarks: what a reader should know.
    """

    batch_size: int
    parameters: int
    compile_scope: str
    threads: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """Dynamo's counters by the names of `records.COUNTERS`, why graphs were broken, and whether there was any."""

    counters: Mapping[str, int]
    graph_breaks: tuple[GraphBreak, ...]
    not_compiled: bool = False
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """How the accuracy check ended; `reason` why not well, `remarks` what else a reader should know.

    is_spent: whether the worker can time nothing afterwards, for what it has compiled is not what users run.
    """

    status: Status
    reason: str
    remarks: tuple[str, ...] = ()
    is_spent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes by arm, None where they cannot be measured.

    peaks: what one iteration needs above the loaded model. process: the largest size the process had meanwhile.
    """

    peaks: Mapping[str, int | None]
    process: Mapping[str, int | None]


class Answering(Protocol):
    """A worker, or the processes of a case that are asked as one."""

    def ask(self, do: str, *, deadline: float, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
        """The reply to a command. Raises `WorkerError`."""

    def kill(self) -> None:
        """End it; fine to call twice."""


class CaseWorker:
    """A worker and the case it is for. Every method raises `WorkerError` when the command does not succeed."""

    def __init__(self, worker: Answering, planned: PlannedCase, settings: Settings, *, deadline: float) -> None:
        self._worker, self._planned, self._settings, self._deadline = worker, planned, settings, deadline

    def extend(self, deadline: float) -> None:
        """Give it until then, a time of `time.monotonic`."""
        self._deadline = deadline

    def kill(self) -> None:
        """End the worker; what it holds on its device is free afterwards."""
        self._worker.kill()

    def load(self, *, cache_dir: str | None) -> Loaded:
        """Load the model and run it eagerly. With `cache_dir` its compiler starts from that cache."""
        settings, case = self._settings, self._planned.case
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
            cpus=self._cpus(),
            compile_scope=settings.compile_scope,
        )
        return Loaded(
            batch_size=self.ask("eager")["batch_size"],
            parameters=loaded["parameters"],
            compile_scope=loaded["compile_scope"],
            threads=loaded["threads"],
            remarks=tuple(loaded["remarks"][:REMARKS_KEPT]),
        )

    def _cpus(self) -> list[int]:
        """The CPUs of the case: those of the settings, which are as many as one process has threads, for each of its
        processes, as far as there are so many."""
        cpus, wanted = self._settings.cpus, (self._settings.threads or 0) * self._planned.world
        return my_cpus()[-wanted:] if cpus and wanted > len(cpus) else list(cpus)

    def accuracy(self) -> Checked:
        """Compare the compiled results with eager ones."""
        told = self.ask("accuracy")
        return Checked(
            status=Status(told["status"]),
            reason=told["reason"],
            remarks=tuple(told["remarks"][:REMARKS_KEPT]),
            is_spent=told.get("is_spent", False),
        )

    def compile(self) -> float:
        """Compile; the compilation latency in seconds."""
        return float(self.ask("compile")["compilation_latency"])

    def settle(self) -> tuple[str, ...]:
        """Get ready to be timed, with no garbage collection from here on; what a reader should know of it."""
        return tuple(self.ask("settle", cold_l2=self._settings.cold_l2)["remarks"])

    def capture(self) -> Captured:
        """What dynamo did so far."""
        told = self.ask("capture")
        breaks = (GraphBreak(reason=reason, user_stack=stack) for reason, stack in told["graph_breaks"][:BREAKS_KEPT])
        return Captured(
            counters=told["counters"],
            graph_breaks=tuple(breaks),
            not_compiled=told["not_compiled"],
            remarks=tuple(told["remarks"][:REMARKS_KEPT]),
        )

    def memory(self) -> Memory:
        """What an iteration of each arm needs, and how large the process got."""
        told = self.ask("memory")
        return Memory(peaks=told["peaks"], process=told["process"])

    def sample(self, order: Sequence[Sequence[str]], inner: Mapping[str, int], *, discard: int = 0) -> dict[str, Any]:
        """Readings in nanoseconds: the worker's `sample`."""
        return self.ask("sample", order=order, inner=inner, discard=discard)

    @property
    def on_accelerator(self) -> bool:
        """Whether the case runs on something other than a CPU."""
        return not self._planned.case.device.startswith("cpu")

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
        return self._worker.ask(do, deadline=self._deadline, **arguments)
