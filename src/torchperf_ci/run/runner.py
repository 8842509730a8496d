"""Runs planned cases one after another and makes their records: the only place where a `Record` is made.

Every planned case ends as exactly one record per testing, whatever its model does.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from torchperf_ci.core.records import Case, Environment, GraphBreak, Record, Source, Status, Testing
from torchperf_ci.core.results import LOGS, ResultsFolder
from torchperf_ci.core.statistics import paired_ratio, slow_share
from torchperf_ci.core.text import one_line, safe_name
from torchperf_ci.machine.accelerators import Accelerator, indexed
from torchperf_ci.machine.gpu import GpuWatch, watched_gpu
from torchperf_ci.run.case_worker import CaseWorker, Memory, Settings
from torchperf_ci.run.lanes import PROBE_LIMIT, may_be_of_the_device
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.sampler import Pair, Sampler
from torchperf_ci.run.session import Preloaded, Stopped, Worker, WorkerError, is_lack_of_room
from torchperf_ci.run.world import log_names, start_worker

LONGEST_REMARK = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every record of a run says about where it was made.

    accelerators: the devices there are. variables: those of the measured processes, as far as they steer torch.
    """

    environment: Environment
    source: Source
    accelerators: tuple[Accelerator, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def environment_on(self, device: str) -> Environment:
        """The environment with the accelerator that a case ran on, which need not be the first one."""
        for one in self.accelerators:
            if one.device == indexed(device):
                return replace(self.environment, gpu=one.name, gpu_uuid=one.uuid, gpu_memory_bytes=one.memory_bytes)
        return self.environment


@dataclass(slots=True)
class _Findings:
    """What is known about a case so far; becomes its records."""

    batch_size: int = 0
    parameters: int = 0
    compile_scope: str = ""
    threads: int = 0
    loading: tuple[str, ...] = ()
    remarks: dict[str, None] = field(default_factory=dict)
    not_compiled: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    samples: dict[str, tuple[float, ...]] = field(default_factory=dict)
    counters: Mapping[str, int] = field(default_factory=dict)
    graph_breaks: tuple[GraphBreak, ...] = ()


class Runner:
    """Measures cases with workers of `preloaded`.

    `start` makes a new preloaded process where one is needed; `modules` are what it then imports besides torch.
    """

    def __init__(
        self,
        start: Callable[[], Preloaded],
        settings: Settings,
        surroundings: Surroundings,
        folder: ResultsFolder,
        *,
        preloaded: Preloaded | None = None,
        modules: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self.settings = settings
        self._surroundings = surroundings
        self.folder = folder
        self.clock = clock
        self._preloaded = preloaded
        self._modules = modules
        self._stack = ExitStack()
        self._stopped = False
        self.lost: dict[str, str] = {}
        self.ends = clock() + settings.budget if settings.budget is not None else float("inf")

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def stop(self) -> None:
        """End what is under way in another thread: it fails, and no process is started any more."""
        self._stopped = True
        self._stack.close()
        if self._preloaded is not None:
            self._preloaded.close()

    def run(self, planned: PlannedCase, testings: Sequence[Testing]) -> Iterator[Record]:
        """One record per testing, each as soon as it is known."""
        if planned.skip is not None:
            yield from self.same_for_all(planned, testings, Status.PASS_DUE_TO_SKIP, planned.skip)
        elif planned.lack:
            yield from self.same_for_all(planned, testings, Status.NOT_RUN, planned.lack)
        elif self.clock() >= self.ends:
            reason = f"the run's budget of {self.settings.budget:g} s was spent"
            yield from self.same_for_all(planned, testings, Status.NOT_RUN, reason)
        elif planned.device in self.lost:
            reason = f"the device {planned.device} was lost before its turn: {self.lost[planned.device]}"
            yield from self.same_for_all(planned, testings, Status.NOT_RUN, reason)
        else:
            surroundings = self._surroundings
            with watched_gpu(
                planned.device, accelerators=surroundings.accelerators, environ=surroundings.variables
            ) as gpu:
                yield from _CaseRun(self, planned, gpu).records(testings)

    def worker(self, log: Path) -> Worker:
        """A worker forked from the preloaded process."""
        return self.process().fork(log)

    def process(self) -> Preloaded:
        """The preloaded process, which is started if there is none (any more)."""
        if self._stopped:
            raise Stopped
        if self._preloaded is None or not self._preloaded.alive or self.settings.fresh_process:
            self._stack.close()
            self._preloaded = self._stack.enter_context(self._start())
            self._preloaded.preload(self._modules)
        return self._preloaded

    def has_lost(self, device: str, reason: str) -> bool:
        """Whether a device is lost, by trying it in a new worker, after a failure that may come from that."""
        if device.startswith("cpu") or not may_be_of_the_device(reason):
            return False
        try:
            with self.worker(self.folder.claim(f"{LOGS}/device.log")) as worker:
                worker.ask("probe_device", device=device, deadline=time.monotonic() + PROBE_LIMIT)
        except WorkerError as error:
            if is_lack_of_room(error):  # somebody else has taken it, or its memory: it is there
                return False
            self.lost[device] = error.reason
        return device in self.lost

    def same_for_all(
        self, planned: PlannedCase, testings: Sequence[Testing], status: Status, reason: str
    ) -> Iterator[Record]:
        """A record per testing of a case that nothing is measured of."""
        for testing in testings:
            yield self.record(planned, testing, status, reason=reason)

    def record(
        self,
        planned: PlannedCase,
        testing: Testing,
        status: Status,
        *,
        threads: int = 0,
        **rest: Any,  # noqa: ANN401 - fields of Record
    ) -> Record:
        """A record of now. `threads`: those the case ran with, where that is known. Raises `Stopped` when the run is:
        what came of it is no result."""
        if self._stopped:
            raise Stopped
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        source = replace(self._surroundings.source, time=now)
        environment = replace(self._surroundings.environment_on(planned.device), world=planned.world)
        return Record(
            case=planned.case,
            testing=testing,
            status=status,
            environment=replace(environment, threads=threads) if threads else environment,
            source=source,
            **rest,
        )


class _CaseRun:
    """One case: a worker, the commands in order, and what to do when one does not succeed."""

    def __init__(self, runner: Runner, planned: PlannedCase, gpu: GpuWatch) -> None:
        self._runner, self._gpu = runner, gpu
        self._planned = planned
        self._settings = runner.settings
        self._case = planned.case
        self._log = f"{LOGS}/{_log_name(planned.case)}"
        self._found = _Findings()
        self._began = runner.clock()
        self._deadline = min(self._began + self._settings.timeout, runner.ends)
        self._stack = ExitStack()
        self._worker: CaseWorker | None = None
        self._end: WorkerError | None = None

    def records(self, testings: Sequence[Testing]) -> Iterator[Record]:
        """A record per testing, in order."""
        with self._stack:
            for testing in testings:
                yield self._attempt(testing)

    def _attempt(self, testing: Testing) -> Record:
        """One testing. One that fails leaves a new worker to the next: what was compiled so far would make compiling
        look quicker. What keeps the model from running at all, a compiler that is not there, and a time limit end the
        case."""
        try:
            if self._end is not None:
                raise self._end
            if self._worker is None:
                self._worker = self._prepared_worker()
            return self._measure(self._worker, testing)
        except WorkerError as error:
            if self._worker is None or error.status in {Status.TIMEOUT, Status.COMPILER_NOT_AVAILABLE}:
                self._end = error
            self._drop_worker()
            return self._failed(testing, error)

    def _drop_worker(self) -> None:
        """Let the next testing have a new worker, in which nothing was compiled."""
        if self._worker is not None:
            self._worker.kill()
        self._worker = None

    def _prepared_worker(self) -> CaseWorker:
        """A worker that has loaded the model and run it eagerly."""
        logs = [self._runner.folder.claim(name) for name in log_names(self._log, self._planned.world)]
        worker = self._stack.enter_context(
            start_worker(self._runner.process(), self._planned, self._settings, logs, deadline=self._deadline)
        )
        case_worker = CaseWorker(worker, self._planned, self._settings, deadline=self._deadline)
        cold = self._settings.cold_start
        loaded = case_worker.load(cache_dir=self._stack.enter_context(cache_folder()) if cold else None)
        found = self._found
        found.parameters, found.batch_size = loaded.parameters, loaded.batch_size
        found.compile_scope, found.threads = loaded.compile_scope, loaded.threads
        found.loading = loaded.remarks
        return case_worker

    def _measure(self, worker: CaseWorker, testing: Testing) -> Record:
        self._found.remarks = {}
        self._remark(*self._found.loading)
        if testing is Testing.ACCURACY:
            return self._accuracy(worker)
        return self._performance(worker)

    def _accuracy(self, worker: CaseWorker) -> Record:
        checked = worker.accuracy()
        self._remark(*checked.remarks)
        self._capture(worker)
        if checked.is_spent:
            self._drop_worker()
        return self._record(Testing.ACCURACY, checked.status, checked.reason)

    def _performance(self, worker: CaseWorker) -> Record:
        found = self._found
        found.metrics["compilation_latency"] = worker.compile()
        self._capture(worker)
        self._remark(*worker.settle())
        pairs = WorkerPairs(worker)
        order = random.Random(f"{self._settings.seed} {self._case}")  # noqa: S311 - an order, not a secret
        sampler = Sampler(pairs, order, repeats=self._settings.repeats)
        sampler.warm_up(iterations=self._settings.warmup)
        found.samples = _samples(sampler.measure(self._settings.rule))
        self._capture_again(worker, pairs.recompiles)
        found.metrics.update(_metrics(found.samples))
        found.metrics.update(_memory_metrics(worker.memory()))
        return self._record(Testing.PERFORMANCE, Status.PASS, "")

    def _capture(self, worker: CaseWorker) -> None:
        captured, found = worker.capture(), self._found
        found.counters, found.graph_breaks = captured.counters, captured.graph_breaks
        found.not_compiled = captured.not_compiled
        self._remark(*captured.remarks)

    def _capture_again(self, worker: CaseWorker, sampled: int) -> None:
        """Take up what was compiled again while sampling: the counter, and the limit that it may have reached."""
        if sampled:
            self._capture(worker)
            self._remark(f"compiled again {sampled} times while its times were taken")

    def _remark(self, *remarks: str) -> None:
        self._found.remarks.update({one_line(remark, limit=LONGEST_REMARK): None for remark in remarks})

    def _failed(self, testing: Testing, error: WorkerError) -> Record:
        """The record of a testing that did not finish. It has no numbers: a row with status and reason."""
        words = _ACCURACY_WORDS if testing is Testing.ACCURACY else _PERFORMANCE_WORDS
        status = error.status if isinstance(error.status, Status) else Status.FAIL_TO_RUN
        status, reason = words.get(status, status), error.reason
        if status is Status.TIMEOUT:
            status, reason = self._why_out_of_time(reason)
        elif self._runner.has_lost(self._planned.device, reason):
            reason = f"the device {self._planned.device} was lost: {reason}"
        return self._runner.record(
            self._planned, testing, status, reason=reason, log=self._log, seconds=self._seconds()
        )

    def _why_out_of_time(self, reason: str) -> tuple[Status, str]:
        if self._runner.clock() < self._began + self._settings.timeout:
            return Status.NOT_RUN, f"the run's budget of {self._settings.budget:g} s was spent while it ran"
        return Status.TIMEOUT, f"not done within {self._settings.timeout:g} s: {reason}"

    def _record(self, testing: Testing, status: Status, reason: str) -> Record:
        found = self._found
        measured = testing is Testing.PERFORMANCE
        return self._runner.record(
            self._planned,
            testing,
            status,
            batch_size=found.batch_size,
            parameters=found.parameters,
            metrics=dict(found.metrics) if measured else {},
            samples=dict(found.samples) if measured else {},
            counters=found.counters,
            graph_breaks=found.graph_breaks,
            reason=reason,
            remarks=(*found.remarks, *(self._gpu.findings().all if measured else ())),
            not_compiled=found.not_compiled,
            compile_scope=found.compile_scope,
            threads=found.threads,
            log=self._log,
            seconds=self._seconds(),
        )

    def _seconds(self) -> float:
        return round(self._runner.clock() - self._began, 3)


_ACCURACY_WORDS = {Status.EAGER_FAIL_TO_RUN: Status.EAGER_1ST_RUN_FAIL}
_PERFORMANCE_WORDS = {
    Status.EAGER_1ST_RUN_FAIL: Status.EAGER_FAIL_TO_RUN,
    Status.EAGER_2ND_RUN_FAIL: Status.EAGER_FAIL_TO_RUN,
}


class WorkerPairs:
    """A `PairSource` of one worker that holds both arms: first and second are eager and compiled unless said."""

    def __init__(self, worker: CaseWorker, *, first: str = "eager", second: str = "compiled") -> None:
        self._worker, self._names = worker, (first, second)
        self._recompiled = False
        self.recompiles = 0
        self.asking = "head"  # for a comparison: the side that holds both arms

    def take(self, swapped: Sequence[bool], repeats: int) -> list[Pair]:
        first, second = self._names
        order = [[second, first] if turned else [first, second] for turned in swapped]
        reply = self._worker.sample(order, {first: repeats, second: repeats})
        self._recompiled |= reply["recompiled"]
        self.recompiles += reply["recompiles"]
        one, two = arm_times(reply, first), arm_times(reply, second)
        return [
            Pair(first=a, second=b, probe=probe / 1e9, first_device=a_device, second_device=b_device)
            for (a, a_device), (b, b_device), probe in zip(one, two, reply["probe"], strict=True)
        ]

    def invalidated(self) -> bool:
        recompiled, self._recompiled = self._recompiled, False
        return recompiled


def arm_times(reply: Mapping[str, Any], arm: str) -> list[tuple[float, float | None]]:
    """Host and device seconds of one arm's readings, in order; the device's are None where it has no events."""
    host = reply["host"].get(arm, [])
    device = reply["device"].get(arm) or [None] * len(host)
    return [(one / 1e9, None if two is None else two / 1e9) for one, two in zip(host, device, strict=True)]


def _samples(pairs: Sequence[Pair]) -> dict[str, tuple[float, ...]]:
    samples = {
        "eager": tuple(pair.first for pair in pairs),
        "compiled": tuple(pair.second for pair in pairs),
        "probe": tuple(pair.probe for pair in pairs),
        "eager_device": tuple(pair.first_device for pair in pairs if pair.first_device is not None),
        "compiled_device": tuple(pair.second_device for pair in pairs if pair.second_device is not None),
    }
    return {name: times for name, times in samples.items() if times}


def _metrics(samples: Mapping[str, tuple[float, ...]]) -> dict[str, float]:
    eager, compiled = median(samples["eager"]), median(samples["compiled"])
    estimate = paired_ratio(samples["eager"], samples["compiled"])
    metrics = {
        "speedup": estimate.ratio,
        "speedup_of_medians": eager / compiled,
        "abs_latency": compiled * 1e3,
        "eager_latency": eager * 1e3,
        "slow_share": slow_share(samples["probe"]),
    }
    if estimate.low > 0 and estimate.high < float("inf"):
        metrics |= {"speedup_low": estimate.low, "speedup_high": estimate.high}
    return metrics


def _memory_metrics(memory: Memory) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name, measured in (("peak", memory.peaks), ("process", memory.process)):
        eager, compiled = measured.get("eager"), measured.get("compiled")
        if eager and compiled:
            metrics |= {f"eager_{name}_mem": eager, f"dynamo_{name}_mem": compiled}
    if "eager_peak_mem" in metrics:
        metrics["compression_ratio"] = metrics["eager_peak_mem"] / metrics["dynamo_peak_mem"]
    return metrics


def cache_folder() -> tempfile.TemporaryDirectory[str]:
    """An empty compiler cache."""
    return tempfile.TemporaryDirectory(prefix="torchperf-cache-", ignore_cleanup_errors=True)


def _log_name(case: Case) -> str:
    parts = (case.suite, case.model, case.compiler, case.mode.value, case.dtype, case.device)
    return safe_name("_".join(safe_name(part) for part in parts)) + ".log"
