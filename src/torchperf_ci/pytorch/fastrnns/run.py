"""fastrnns from the controller's side: every variant in a worker of its own, so that one that dies is only a row."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Status
from torchperf_ci.pytorch.fastrnns.results import Row
from torchperf_ci.run.plan import Machine, device_problem
from torchperf_ci.run.session import Preloaded, WorkerError
from torchperf_ci.run.survey import Python, survey
from torchperf_ci.suites.fastrnns.catalog import UNUSABLE_SETTINGS, Executor, Fuser, Sizes, group_of

_LOG_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How every variant is measured. `device` None: the first accelerator, else the CPU. `timeout`: seconds each.

    pointwise: `loop_level`, `block_count`, `block_size` of the CUDA kernels that the fuser `te` makes.
    traces: the folder that gets a Chrome trace of every variant.
    """

    sizes: Sizes = field(default_factory=Sizes)
    warmup: int = 10
    nloops: int = 100
    device: str | None = None
    fuser: Fuser = Fuser.TE
    executor: Executor | None = None
    pointwise: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0
    threads: int | None = None
    timeout: float = 1800.0
    traces: Path | None = None


class Bench:
    """A Python under test, asked what it is, ready to measure variants. A context manager."""

    def __init__(self, python: Python, settings: Settings) -> None:
        self._python = python
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        try:
            self._preloaded = self._stack.enter_context(self._python.start())
            self.survey = survey(self._preloaded, (), threads=self._settings.threads, command=())
            self.device = _device(self._settings.device, self.survey.machine)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def description(self) -> str:
        """What is measured where, in a line."""
        environment = self.survey.environment
        machine = environment.cpu if self.device == "cpu" else f"{environment.gpu or self.device}, {environment.cpu}"
        return f"torch {environment.torch} on {self.device} ({machine}), {environment.threads} threads"

    def measure(self, variants: Sequence[str]) -> Iterator[Row]:
        """A row per variant, as it is measured. Raises `UsageProblem` when torch lacks a switch that was asked for."""
        for number, variant in enumerate(variants):
            yield self._row(variant, self._python.log.with_name(f"{number}.log"))

    def _row(self, variant: str, log: Path) -> Row:
        group = group_of(variant).label
        try:
            with self._alive().fork(log) as worker:
                deadline = time.monotonic() + self._settings.timeout
                times = worker.ask("fastrnns", deadline=deadline, **self._request(variant))
        except WorkerError as error:
            if error.status == UNUSABLE_SETTINGS:
                raise UsageProblem(error.reason) from error
            timed_out = f"not done within {self._settings.timeout:g} s" if error.status is Status.TIMEOUT else ""
            return Row(group=group, variant=variant, failure=timed_out or error.reason, log=_end_of(log))
        return Row(group=group, variant=variant, forward=tuple(times["forward"]), backward=tuple(times["backward"]))

    def _alive(self) -> Preloaded:
        if not self._preloaded.alive:
            self._stack.close()
            self._preloaded = self._stack.enter_context(self._python.start())
        return self._preloaded

    def _request(self, variant: str) -> dict[str, object]:
        settings = self._settings
        return {
            "variant": variant,
            "sizes": settings.sizes.as_json(),
            "warmup": settings.warmup,
            "nloops": settings.nloops,
            "device": self.device,
            "fuser": settings.fuser.value,
            "executor": settings.executor.value if settings.executor else None,
            "pointwise": dict(settings.pointwise),
            "seed": settings.seed,
            "threads": settings.threads,
            "trace": str(settings.traces / f"{variant}.json") if settings.traces else None,
        }


def _device(asked: str | None, machine: Machine) -> str:
    if asked is None:
        if reason := machine.why_not_cpu(option="--device"):
            raise UsageProblem(reason)
        return machine.default_device
    if problem := device_problem(asked, machine, option="--device"):
        raise UsageProblem(problem)
    return asked


def _end_of(log: Path) -> tuple[str, ...]:
    if not log.is_file():
        return ()
    return tuple(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])
