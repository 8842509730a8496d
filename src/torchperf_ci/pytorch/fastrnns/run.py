"""fastrnns from the controller's side: every variant in a worker of its own, so that one that dies is only a row."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Status
from torchperf_ci.core.text import count
from torchperf_ci.pytorch.fastrnns.results import VariantTimes
from torchperf_ci.run.plan import device_problem
from torchperf_ci.run.session import WorkerError
from torchperf_ci.run.survey import Python, survey
from torchperf_ci.suites.fastrnns.catalog import UNUSABLE_SETTINGS, Executor, Fuser, Sizes, group_of

_LOG_LINES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FastrnnsSettings:
    """The settings of a measurement. `device` None: the first accelerator, else the CPU. `timeout`: seconds each.

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


class FastrnnsBench:
    """A Python under test, asked what it is, ready to measure variants. A context manager."""

    def __init__(self, python: Python, settings: FastrnnsSettings) -> None:
        self._python = python
        self._settings = settings
        self._stack = ExitStack()

    def __enter__(self) -> FastrnnsBench:
        """Start it. Raises `UsageProblem` when it has no such device."""
        try:
            self._preloaded = self._stack.enter_context(self._python.start())
            self.survey = survey(self._preloaded, (), threads=self._settings.threads, command=())
            device, machine = self._settings.device, self.survey.machine
            problem = (
                device_problem(device, machine, option="--device") if device else machine.why_not_cpu(option="--device")
            )
            if problem:
                raise UsageProblem(problem)
            self.device = device or machine.default_device
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def description(self) -> str:
        """Say in a line what is measured where."""
        environment = self.survey.environment
        machine = environment.cpu if self.device == "cpu" else f"{environment.gpu or self.device}, {environment.cpu}"
        return f"torch {environment.torch} on {self.device} ({machine}), {count(environment.threads, 'thread')}"

    def measure(self, variants: Sequence[str]) -> Iterator[VariantTimes]:
        """Yield a row per variant, as it is measured. Raises `UsageProblem` when torch lacks a switch that was asked
        for."""
        settings = self._settings
        for number, variant in enumerate(variants):
            group, log = group_of(variant).label, self._python.log.with_name(f"{number}.log")
            request = {
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
            if not self._preloaded.alive:
                self._stack.close()
                self._preloaded = self._stack.enter_context(self._python.start())
            try:
                with self._preloaded.fork(log) as worker:
                    times = worker.ask("fastrnns", deadline=time.monotonic() + settings.timeout, **request)
            except WorkerError as error:
                if error.status == UNUSABLE_SETTINGS:
                    raise UsageProblem(error.reason) from error
                timed_out = f"not done within {settings.timeout:g} s" if error.status is Status.TIMEOUT else ""
                lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
                yield VariantTimes(
                    group=group, variant=variant, failure=timed_out or error.reason, log=tuple(lines[-_LOG_LINES:])
                )
            else:
                yield VariantTimes(
                    group=group, variant=variant, forward=tuple(times["forward"]), backward=tuple(times["backward"])
                )
