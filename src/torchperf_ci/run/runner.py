"""Run planned cases one after another and make their records: the only place where a `Record` is made.

Every planned case ends as exactly one record per testing, whatever its model does.
"""

from __future__ import annotations

import math
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime, timezone
from statistics import median
from typing import Any, Protocol

from torchperf_ci.core.records import AS_IT_IS, Environment, Metric, Record, Source, Status, Testing, foreign_metric
from torchperf_ci.core.results import LOGS, ResultsFolder, read_results
from torchperf_ci.core.statistics import median_interval, paired_ratio, slow_share
from torchperf_ci.core.text import one_line
from torchperf_ci.machine.accelerators import Accelerator, find_peak, indexed
from torchperf_ci.machine.gpu import EnergyCounter, GpuWatch, watched_gpu
from torchperf_ci.run.case_worker import (
    AccuracyResult,
    Captured,
    CaseSettings,
    CaseWorker,
    Counted,
    Loaded,
    Memory,
    Work,
    WorkerPairs,
)
from torchperf_ci.run.counting import InstructionCounting, InstructionMethod
from torchperf_ci.run.lanes import PROBE_LIMIT, cpu_sets, may_be_of_the_device, my_cpus, work_on_lanes
from torchperf_ci.run.plan import Plan, PlannedCase
from torchperf_ci.run.sampler import SamplePair, Sampler
from torchperf_ci.run.session import Preloaded, Python, Stopped, WorkerError, is_lack_of_room
from torchperf_ci.run.survey import Survey
from torchperf_ci.run.world import log_names, name_log, start_case

Samples = Mapping[str, tuple[float, ...]]


def collect_samples(pairs: Sequence[SamplePair], *, one_arm: bool = False) -> dict[str, tuple[float, ...]]:
    """Collect the readings of a case by the names that `Record.samples` has. one_arm: both of a pair are of one arm."""
    first = [(pair.first, pair.first_device, pair.first_values) for pair in pairs]
    second = [(pair.second, pair.second_device, pair.second_values) for pair in pairs]
    arms = {"eager": first, "compiled": second}
    if one_arm:
        arms = {"compiled": [reading for both in zip(first, second, strict=True) for reading in both]}
    samples = {arm: tuple(host for host, _, _ in readings) for arm, readings in arms.items()}
    for arm, readings in arms.items():
        samples[f"{arm}_device"] = tuple(device for _, device, _ in readings if device is not None)
    samples["probe"] = tuple(pair.probe for pair in pairs)
    for arm, readings in reversed(arms.items()):
        prefix = "eager." if arm == "eager" else ""
        for name in dict.fromkeys(name for _, _, values in readings for name in values):
            samples[f"{prefix}{name}"] = tuple(values[name] for _, _, values in readings if name in values)
    return {name: values for name, values in samples.items() if values}


def measure_both_arms(samples: Samples, memory: Memory) -> dict[str, float]:
    """Compute what both arms say together; latencies in milliseconds, memory in bytes where it could be measured."""
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
    for name, measured in (("peak", memory.peaks), ("process", memory.process)):
        eager_bytes, compiled_bytes = measured.get("eager"), measured.get("compiled")
        if eager_bytes and compiled_bytes:
            metrics |= {f"eager_{name}_mem": eager_bytes, f"dynamo_{name}_mem": compiled_bytes}
    if "eager_peak_mem" in metrics:
        metrics["compression_ratio"] = metrics["eager_peak_mem"] / metrics["dynamo_peak_mem"]
    return metrics


def measure_as_it_is(samples: Samples, memory: Memory) -> dict[str, float]:
    """Compute what the one arm of a case says that runs as it is: its latency with an interval, and its memory."""
    metrics = {
        "abs_latency": median(samples["compiled"]) * 1e3,
        "slow_share": slow_share(samples["probe"]),
    }
    if interval := median_interval(samples["compiled"]):
        metrics |= {"abs_latency_low": interval[0] * 1e3, "abs_latency_high": interval[1] * 1e3}
    for name, measured in (("peak", memory.peaks), ("process", memory.process)):
        if size := measured.get("eager"):
            metrics[f"dynamo_{name}_mem"] = size
    return metrics


def measure_rates(work: Work, seconds: float, *, counted: Counted, gpu: str, dtype: str) -> dict[str, float]:
    """Compute what is done in a second, as far as the work of a call of `seconds` is known.

    The share of the device's peak is the least time in which it could do the arithmetic, over `seconds`: convolutions
    may run in another precision than the rest, with another peak.
    """
    flops = counted.metrics.get("flops", 0)
    rates = {"throughput": work.items, "flops_per_second": flops, "bytes_per_second": work.bytes}
    metrics = {name: amount / seconds for name, amount in rates.items() if amount and seconds > 0}
    if not gpu or "flops_per_second" not in metrics:
        return metrics
    parts = ((flops - counted.convolution_flops, work.tf32), (counted.convolution_flops, work.tf32_convolutions))
    least = [(amount, find_peak(gpu, dtype, tf32=tf32)) for amount, tf32 in parts if amount]
    if all(peak for _, peak in least):
        metrics["peak_share"] = sum(amount / peak for amount, peak in least if peak) / seconds
    return metrics


def measure_own(samples: Samples, own: Iterable[Metric]) -> dict[str, float]:
    """Compute the suite's own metrics: the median of what the readings said of each."""
    return {metric.name: median(samples[metric.name]) for metric in own if metric.name in samples}


LONGEST_REMARK = 300
ENERGY_SECONDS = 1.0

_EAGER_STATUSES = {
    (Testing.ACCURACY, Status.EAGER_FAIL_TO_RUN): Status.EAGER_1ST_RUN_FAIL,
    (Testing.PERFORMANCE, Status.EAGER_1ST_RUN_FAIL): Status.EAGER_FAIL_TO_RUN,
    (Testing.PERFORMANCE, Status.EAGER_2ND_RUN_FAIL): Status.EAGER_FAIL_TO_RUN,
}
"""The names that PyTorch's tables have for a failure of eager, by the testing whose row it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The facts that every record of a run has about where it was made.

    accelerators: the devices there are. variables: those of the measured processes, as far as they steer torch.
    """

    environment: Environment
    source: Source
    accelerators: tuple[Accelerator, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def environment_on(self, device: str) -> Environment:
        """Return the environment with the accelerator that a case ran on, which need not be the first one."""
        for one in self.accelerators:
            if one.device == indexed(device):
                return replace(self.environment, gpu=one.name, gpu_uuid=one.uuid, gpu_memory_bytes=one.memory_bytes)
        return self.environment


@dataclass(slots=True, eq=False)
class Runner:
    """Measures cases with workers of `preloaded`.

    `start` makes a new preloaded process where one is needed; `modules` are what it then imports besides torch.
    `instructions` counts these, if anything does.
    """

    start: Callable[[], Preloaded]
    settings: CaseSettings
    surroundings: Surroundings
    folder: ResultsFolder
    _: KW_ONLY
    preloaded: Preloaded | None = None
    modules: Sequence[str] = ()
    instructions: InstructionCounting | None = None
    clock: Callable[[], float] = time.monotonic
    lost: dict[str, str] = field(default_factory=dict, init=False)
    ends: float = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack, init=False)
    _stopped: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.ends = self.clock() + self.settings.budget if self.settings.budget is not None else float("inf")

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
        if self.instructions is not None:
            self.instructions.close()

    def stop(self) -> None:
        """End what is under way in another thread: it fails, and no process is started any more."""
        self._stopped = True
        self._stack.close()
        if self.instructions is not None:
            self.instructions.close()
        if self.preloaded is not None:
            self.preloaded.close()

    def run(self, planned: PlannedCase, testings: Sequence[Testing]) -> Iterator[Record]:
        """Yield one record per testing, each as soon as it is known."""
        if not_measured := self._find_why_not(planned):
            yield from self.same_for_all(planned, testings, *not_measured)
            return
        surroundings = self.surroundings
        with watched_gpu(planned.device, accelerators=surroundings.accelerators, environ=surroundings.variables) as gpu:
            yield from _CaseRun(self, planned, gpu).records(testings)

    def _find_why_not(self, planned: PlannedCase) -> tuple[Status, str] | None:
        """Find status and reason of a case that is not to be measured; None when it is."""
        if planned.skip is not None:
            return Status.PASS_DUE_TO_SKIP, planned.skip
        if planned.broken:
            return Status.MODEL_FAIL_TO_LOAD, planned.broken
        if planned.lack:
            return Status.NOT_RUN, planned.lack
        if self.clock() >= self.ends:
            return Status.NOT_RUN, f"the run's budget of {self.settings.budget:g} s was spent"
        if planned.device in self.lost:
            return Status.NOT_RUN, f"the device {planned.device} was lost before its turn: {self.lost[planned.device]}"
        return None

    def process(self) -> Preloaded:
        """Return the preloaded process, which is started if there is none (any more)."""
        if self._stopped:
            raise Stopped
        if self.preloaded is None or not self.preloaded.alive or self.settings.fresh_process:
            self._stack.close()
            self.preloaded = self._stack.enter_context(self.start())
            self.preloaded.preload(self.modules)
        return self.preloaded

    def environment_on(self, planned: PlannedCase) -> Environment:
        """Return the environment of a case: the accelerator that it runs on, and in how many processes."""
        return replace(self.surroundings.environment_on(planned.device), world=planned.world)

    def has_lost(self, device: str, reason: str) -> bool:
        """Say whether a device is lost, by trying it in a new worker, after a failure that may come from that."""
        if device.startswith("cpu") or not may_be_of_the_device(reason):
            return False
        try:
            with self.process().fork(self.folder.claim(f"{LOGS}/device.log")) as worker:
                worker.ask("probe_device", device=device, deadline=time.monotonic() + PROBE_LIMIT)
        except WorkerError as error:
            if is_lack_of_room(error):  # somebody else has taken it, or its memory: it is there
                return False
            self.lost[device] = error.reason
        return device in self.lost

    def same_for_all(
        self, planned: PlannedCase, testings: Sequence[Testing], status: Status, reason: str
    ) -> Iterator[Record]:
        """Make a record per testing of a case that nothing is measured of."""
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
        """Make a record of now. `threads`: those the case ran with, where that is known.

        Raises `Stopped` when the run is: what came of it is no result.
        """
        if self._stopped:
            raise Stopped
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        environment = self.environment_on(planned)
        return Record(
            case=planned.case,
            testing=testing,
            status=status,
            environment=replace(environment, threads=threads) if threads else environment,
            source=replace(self.surroundings.source, time=now),
            params=dict(planned.params),
            **rest,
        )


class _CaseRun:
    """One case: a worker, the commands in order, and what to do when one does not succeed."""

    def __init__(self, runner: Runner, planned: PlannedCase, gpu: GpuWatch) -> None:
        self._runner, self._planned, self._gpu = runner, planned, gpu
        self._settings = runner.settings
        case = planned.case
        self._log = name_log(case.suite, case.model, case.compiler, case.mode.value, case.dtype, case.device)
        self._began = runner.clock()
        self._deadline = min(self._began + self._settings.timeout, runner.ends)
        self._stack = ExitStack()
        self._worker: CaseWorker | None = None
        self._loaded: Loaded
        self._end: WorkerError | None = None
        self._tested: AccuracyResult | None = None

    def records(self, testings: Sequence[Testing]) -> Iterator[Record]:
        """Yield a record per testing, in order.

        A testing that fails leaves a new worker to the next: what was compiled so far would make compiling look
        quicker. What keeps the model from running at all, a compiler that is not there, and a time limit end the case.
        A test is measured first: its accuracy check is what comes after its call.
        """
        with self._stack:
            for testing in reversed(testings) if self._planned.is_test else testings:
                try:
                    if self._end is not None:
                        raise self._end
                    if self._worker is None:
                        self._worker = self._prepare_worker()
                    measure = self._check_accuracy if testing is Testing.ACCURACY else self._measure_performance
                    record = measure(self._worker)
                except WorkerError as error:
                    if self._worker is None or error.status in {Status.TIMEOUT, Status.COMPILER_NOT_AVAILABLE}:
                        self._end = error
                    self._drop_worker()
                    record = self._failed(testing, error)
                yield record

    def _prepare_worker(self) -> CaseWorker:
        logs = [self._runner.folder.claim(name) for name in log_names(self._log, self._planned.world)]
        worker = self._stack.enter_context(
            start_case(self._runner.process(), self._planned, self._settings, logs, deadline=self._deadline)
        )
        cold = self._settings.cold_start
        self._loaded = worker.load(cache_dir=self._stack.enter_context(cache_folder()) if cold else None)
        return worker

    def _drop_worker(self) -> None:
        """Let the next testing have a new worker, in which nothing was compiled."""
        if self._worker is not None:
            self._worker.kill()
        self._worker = None

    def _check_accuracy(self, worker: CaseWorker) -> Record:
        result = self._tested or worker.accuracy()
        captured = worker.capture()
        if result.is_spent:
            self._drop_worker()
        remarks = (*result.remarks, *captured.remarks)
        return self._record(Testing.ACCURACY, result.status, captured, remarks, reason=result.reason)

    def _measure_performance(self, worker: CaseWorker) -> Record:
        is_as_it_is = self._planned.case.compiler == AS_IT_IS
        arm = "eager" if is_as_it_is else "compiled"
        compiled = {} if is_as_it_is else {"compilation_latency": worker.compile()}
        captured = worker.capture()
        remarks = [*captured.remarks, *worker.settle()]
        pairs = WorkerPairs(worker, arm, arm) if is_as_it_is else WorkerPairs(worker)
        order = random.Random(f"{self._settings.seed} {self._planned.case}")  # noqa: S311 - an order, not a secret
        sampler = Sampler(pairs, order, repeats=1 if self._loaded.one_call else self._settings.repeats)
        sampler.warm_up(iterations=self._settings.warmup)
        samples = collect_samples(sampler.measure(self._settings.rule), one_arm=is_as_it_is)
        if pairs.recompiles:  # the counter, and the limit that it may have reached
            captured = worker.capture()
            remarks += [*captured.remarks, f"compiled again {pairs.recompiles} times while its times were taken"]
        if captured.recompile_seconds is not None:
            compiled["recompile_seconds"] = captured.recompile_seconds
        measure = measure_as_it_is if is_as_it_is else measure_both_arms
        times = samples.get("compiled_device") or samples["compiled"]
        gpu = self._runner.environment_on(self._planned).gpu if worker.on_accelerator else ""
        memory, energy = worker.memory(), self._measure_energy(worker, arm, median(times))
        counted = worker.count(arm)
        metrics = {
            **compiled,
            **measure(samples, memory),
            **measure_rates(self._loaded.work, median(times), counted=counted, gpu=gpu, dtype=self._planned.case.dtype),
            **measure_own(samples, self._planned.metrics),
            **energy,
        }
        own = {metric.name: metric for metric in self._planned.metrics if metric.name in metrics}
        if self._planned.is_test:
            self._tested = worker.accuracy()
            for name, value in self._tested.extra_info.items():
                if name != "batch_size":
                    metric = foreign_metric(name)
                    metrics[metric.name], own[metric.name] = value, metric
        counted = self._add_instructions(counted, arm)  # the last thing: it ends the worker
        return self._record(
            Testing.PERFORMANCE,
            Status.PASS,
            captured,
            (*remarks, *self._gpu.findings().all, *counted.remarks),
            metrics={**metrics, **counted.metrics},
            samples=samples,
            digests=counted.digests,
            own_metrics=own,
        )

    def _measure_energy(self, worker: CaseWorker, arm: str, seconds: float) -> dict[str, float]:
        """Measure what an iteration of one arm uses, over about a second of it alone, where the GPU counts that."""
        uuid = self._runner.environment_on(self._planned).gpu_uuid
        if not self._planned.device.startswith("cuda") or self._planned.world > 1:
            return {}
        counter = EnergyCounter(uuid)
        if counter.read() is None:
            return {}
        inner = 1 if self._loaded.one_call else max(1, int(0.05 / max(seconds, 1e-7)))  # few gaps between readings
        count = max(1, math.ceil(ENERGY_SECONDS / max(inner * seconds, 1e-7)))
        before = counter.read()
        worker.sample([[arm]] * count, {arm: inner})
        after = counter.read()
        if before is None or after is None or after <= before:
            return {}
        return {"energy": (after - before) / (count * inner)}

    def _add_instructions(self, counted: Counted, arm: str) -> Counted:
        """Count the instructions of an arm, in another process, if they are to be counted."""
        if self._runner.instructions is None:
            return counted
        self._drop_worker()  # two of a model need not fit
        logs = [self._runner.folder.claim(name) for name in log_names(self._log, self._planned.world)]
        more = self._runner.instructions.count(self._planned, self._settings, logs, arm=arm)
        return replace(counted, metrics={**counted.metrics, **more.metrics}, remarks=(*counted.remarks, *more.remarks))

    def _record(
        self,
        testing: Testing,
        status: Status,
        captured: Captured,
        remarks: Sequence[str],
        **rest: Any,  # noqa: ANN401 - fields of Record
    ) -> Record:
        loaded = self._loaded
        said = (one_line(remark, limit=LONGEST_REMARK) for remark in (*loaded.remarks, *remarks))
        return self._runner.record(
            self._planned,
            testing,
            status,
            batch_size=loaded.batch_size,
            parameters=loaded.parameters,
            compile_scope=loaded.compile_scope,
            threads=loaded.threads,
            counters=captured.counters,
            graph_breaks=captured.graph_breaks,
            not_compiled=captured.not_compiled,
            remarks=tuple(dict.fromkeys(said)),
            log=self._log,
            seconds=self._seconds(),
            **rest,
        )

    def _failed(self, testing: Testing, error: WorkerError) -> Record:
        """Make the record of a testing that did not finish. It has no numbers: a row with status and reason."""
        settings, device = self._settings, self._planned.device
        status = error.status if isinstance(error.status, Status) else Status.FAIL_TO_RUN
        reason = error.reason
        if error.alive and status is Status.TIMEOUT:
            pass  # a limit of the benchmark's own
        elif status is Status.TIMEOUT and self._runner.clock() < self._began + settings.timeout:
            status, reason = Status.NOT_RUN, f"the run's budget of {settings.budget:g} s was spent while it ran"
        elif status is Status.TIMEOUT:
            reason = f"not done within {settings.timeout:g} s: {reason}"
        elif self._runner.has_lost(device, reason):
            reason = f"the device {device} was lost: {reason}"
        status = _EAGER_STATUSES.get((testing, status), status)
        return self._runner.record(
            self._planned, testing, status, reason=reason, log=self._log, seconds=self._seconds()
        )

    def _seconds(self) -> float:
        return round(self._runner.clock() - self._began, 3)


def cache_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder for a compiler's cache, empty at first."""
    return tempfile.TemporaryDirectory(prefix="torchperf-cache-", ignore_cleanup_errors=True)


class RunProgress(Protocol):
    """Is told what happens, in order: how much there is to do, each case as it starts and as its records are there."""

    def begin(self, *, total: int, already: int) -> None: ...

    def start(self, case: PlannedCase) -> None: ...

    def finish(self, records: Sequence[Record]) -> None: ...


def measure_plan(
    plan: Plan,
    survey: Survey,
    settings: CaseSettings,
    *,
    source: Source,
    folder: ResultsFolder,
    python: Python,
    preloaded: Preloaded,
    progress: RunProgress,
) -> list[Record]:
    """Measure what the folder does not hold yet, appending each record as soon as it is known; return the new ones.

    Cases that are spread over devices have a runner on each; when all devices are lost, what is left is `not_run`.
    """
    done = read_results(folder.path).done()
    todo = [
        (planned, testings)
        for planned in plan.cases
        if (testings := [each for each in settings.testings if (planned.case, each) not in done])
    ]
    folder.append(survey.build)
    progress.begin(total=len(todo), already=len(plan.cases) - len(todo))
    surroundings = Surroundings(
        environment=survey.environment,
        source=source,
        accelerators=survey.accelerators,
        variables=survey.build.variables,
    )
    places = plan.places or ("",)
    cpus = cpu_sets(places, survey.accelerators, my_cpus()) if len(places) > 1 else {}
    new_records: list[Record] = []
    writing = threading.Lock()
    with ExitStack() as stack:
        runners = {
            place: stack.enter_context(
                Runner(
                    python.start,
                    replace(settings, cpus=cpus.get(place, settings.cpus)),
                    surroundings,
                    folder,
                    preloaded=None if number else preloaded,
                    modules=plan.preload,
                    instructions=InstructionCounting(python, InstructionMethod(settings.instructions))
                    if settings.instructions != InstructionMethod.NEVER
                    else None,
                )
            )
            for number, place in enumerate(places)
        }

        def keep(records: Iterable[Record]) -> list[Record]:
            kept = []
            for record in records:
                with writing:
                    folder.append(record)
                    new_records.append(record)
                kept.append(record)
            return kept

        def measure_case(place: str, job: tuple[PlannedCase, list[Testing]]) -> bool:
            planned = replace(job[0], place=place)
            with writing:
                progress.start(planned)
            records = keep(runners[place].run(planned, job[1]))
            with writing:
                progress.finish(records)
            return not place or place not in runners[place].lost

        def stop_runners() -> None:
            for runner in runners.values():
                runner.stop()

        for planned, testings in work_on_lanes(todo, places, measure_case, stop=stop_runners):
            losses = "; ".join(f"{place}: {reason}" for place in places for reason in runners[place].lost.values())
            reason = f"every device was lost before its turn: {losses}"
            progress.start(planned)
            progress.finish(keep(runners[places[0]].same_for_all(planned, testings, Status.NOT_RUN, reason)))
    return new_records
