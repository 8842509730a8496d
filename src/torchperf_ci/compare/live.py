"""Base against head, live: per case two workers on the same CPUs or the same GPU, driven in turn, never both at once.

Processes of equal code differ among themselves, so each case is measured in several launch pairs; a case that is
clearly slower or clearly not stops early.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torchperf_ci.compare.effects import (
    ARMS_FLOOR,
    BETWEEN_FLOOR,
    LAUNCHES,
    LEAST_PAIRS,
    LOOKS,
    Launch,
    estimate_effect,
    is_settled,
)
from torchperf_ci.compare.model import LATENCY, Measured, SideResult, ToleranceRules
from torchperf_ci.compare.pairs import AskedPairs, Interleave, OneArm, TwoWorkerPairs, launch_of, plain_arm
from torchperf_ci.compare.verdicts import is_compile_time_open
from torchperf_ci.core.records import Status, Testing
from torchperf_ci.core.results import LOGS
from torchperf_ci.core.text import one_line
from torchperf_ci.machine.gpu import GpuWatch, watched_gpu
from torchperf_ci.machine.host import HostWatch
from torchperf_ci.run.case_worker import AccuracyResult, CaseSettings, CaseWorker, WorkerPairs
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.runner import cache_folder
from torchperf_ci.run.sampler import SamplePair, Sampler, StopRule
from torchperf_ci.run.session import Preloaded, WorkerError, is_lack_of_room
from torchperf_ci.run.world import start_worker

UNPAIRED_FLOOR = 0.03
"""Standard deviation between launches whose sides did not run in turn: the machine's mood is then in the ratio."""

LEAST_LAUNCHES = 3
"""Launches of a case, however slow it is and however little time it has."""

LAUNCH_SECONDS = 1.0
"""Sampling that makes a launch worth its start."""

COLD_LAUNCHES = 3
"""Launches that compile from an empty cache, whose time counts; later ones take what the first one compiled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparePlan:
    """How long and how a case is compared. `seconds`: of sampling per case, all launches together; a launch takes
    `LEAST_PAIRS` pairs whatever that costs.

    launches: at most. It is `LEAST_LAUNCHES` when the time is short, or over. family: how many cases are compared.
    one_process: both sides are arms of one worker: base is the plain module, head the compiled one.
    stop_early: whether a look may end a case before its time.
    """

    tolerances: ToleranceRules
    launches: int = LAUNCHES
    seconds: float = 10.0
    interleave: Interleave = Interleave.AUTO
    between: float = BETWEEN_FLOOR
    family: int = 1
    one_process: bool = False
    stop_early: bool = True

    @property
    def sides_at_once(self) -> int:
        """How many sides hold the model at the same time."""
        return 1 if self.one_process or self.interleave is Interleave.LAUNCH else 2

    @property
    def launches_in_time(self) -> int:
        """As many as the time is worth."""
        return min(self.launches, max(LEAST_LAUNCHES, int(self.seconds / LAUNCH_SECONDS)))

    def end_of(self, number: int) -> float:
        """Seconds of sampling at which a launch is over, from 0. They share the time, but the first one takes the first
        look, so that what is clear is loaded and compiled once."""
        count = self.launches_in_time
        first = max(LOOKS[0][0], 1 / count)
        return self.seconds * (first + (1 - first) * number / max(1, count - 1))


class Side(Protocol):
    """One side of a comparison: whether it has a case, how it is planned there, and its preloaded processes."""

    def planned(self, case: PlannedCase) -> PlannedCase | None: ...

    def begin(self, launch: int) -> None: ...

    def process(self, launch: int) -> Preloaded: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """The two sides."""

    base: Side
    head: Side

    def of(self, name: str) -> Side:
        return self.base if name == "base" else self.head


class CaseComparer:
    """Compares one case after the other. `logs`: where the output of a side's worker for a case goes, and of its
    ranks."""

    def __init__(
        self,
        sides: Sides,
        settings: CaseSettings,
        logs: Callable[[PlannedCase, str], Sequence[Path]],
        *,
        clock: Callable[[], float] = time.monotonic,
        watch: Callable[[str], AbstractContextManager[GpuWatch]] = watched_gpu,
    ) -> None:
        self.sides, self.settings, self.logs, self.clock, self.watch = sides, settings, logs, clock, watch

    def compare(self, planned: PlannedCase, plan: ComparePlan, *, attempt: int = 0) -> Measured:
        """Measure a case on both sides. Another `attempt` takes its samples in another order."""
        base, head = self.sides.base.planned(planned), self.sides.head.planned(planned)
        if base is None or head is None:
            return Measured(
                case=planned.case,
                base=None if base is None else SideResult(),
                head=None if head is None else SideResult(),
            )
        if refusals := tuple(_world_problems(base, head)):
            return Measured(case=planned.case, base=SideResult(), head=SideResult(), refusals=refusals)
        host = HostWatch()
        with self.watch(planned.device) as gpu:
            comparison = _CaseComparison(self, plan, {"base": base, "head": head}, planned, attempt=attempt)
            measured = comparison.measure()
            if comparison.no_room and plan.interleave is Interleave.AUTO:
                in_turn = replace(plan, interleave=Interleave.LAUNCH)
                again = _CaseComparison(self, in_turn, {"base": base, "head": head}, planned, attempt=attempt)
                measured = replace(again.measure(), remarks=(f"measured in whole launches: {comparison.no_room}",))
        seen = gpu.findings()
        world = (f"{head.world} processes on each side; the slowest one's times count",) if head.world > 1 else ()
        return replace(
            measured,
            refusals=(*measured.refusals, *seen.refusals),
            remarks=(*measured.remarks, *world, *seen.remarks),
            host=host.seen(),
        )


class _CaseComparison:
    """One case: launches until a look decides or the time is over."""

    def __init__(
        self,
        comparer: CaseComparer,
        plan: ComparePlan,
        planned: Mapping[str, PlannedCase],
        shown: PlannedCase,
        *,
        attempt: int,
    ) -> None:
        self._comparer, self._plan, self._settings = comparer, plan, comparer.settings
        self._case, self._planned = shown.case, planned
        self._arms = {side: plain_arm(case) for side, case in planned.items()}
        self._tolerance = plan.tolerances.find(shown.case, LATENCY)
        self._results = {"base": SideResult(), "head": SideResult()}
        self._launches: list[Launch] = []
        self._kept = ExitStack()
        self._caches: dict[str, str] = {}
        self._rng = random.Random(f"{self._settings.seed} {shown.case} {attempt}")  # noqa: S311 - an order, not a secret
        self._deadline = 0.0
        self.no_room = ""
        self._is_alive = True
        self._repeats = self._settings.repeats
        self._spent = 0.0
        self._look = 0
        self._between = ARMS_FLOOR if plan.one_process else plan.between
        if plan.interleave is Interleave.LAUNCH:
            self._between = max(self._between, UNPAIRED_FLOOR)

    def measure(self) -> Measured:
        with self._kept:
            self._take_launches()
        return Measured(
            case=self._case,
            base=self._results["base"],
            head=self._results["head"],
            launches=tuple(self._launches),
            between=self._between,
            seconds=self._spent,
            look=self._look,
            refusals=tuple(self._refusals()),
        )

    def _take_launches(self) -> None:
        for number in range(self._plan.launches_in_time):
            if number >= LEAST_LAUNCHES and self._spent >= self._plan.seconds and self._settings.rule.repeat is None:
                break
            with ExitStack() as stack:
                if not self._launch(stack, number) or self._decided():
                    return
        self._look = len(LOOKS) - 1

    def _launch(self, stack: ExitStack, number: int) -> bool:
        """One launch pair; whether it worked. What failed is in the results."""
        self._renew_deadline()
        order = ["base", "head"]
        self._rng.shuffle(order)
        until = self._plan.end_of(number)
        if self._plan.one_process:
            order = ["head"]
        elif self._plan.interleave is Interleave.LAUNCH:
            return self._one_after_the_other(order, number, until)
        for side in order:  # both import at the same time, on as many CPUs as there are
            self._comparer.sides.of(side).begin(number)
        workers: dict[str, CaseWorker] = {}
        for side in order:  # also the second one when the first failed: a failure of both is nobody's change
            worker = self._start(stack, side, number, beside=bool(workers))
            if worker is not None:
                workers[side] = worker
        if len(workers) < len(order):
            self._run_alone(workers)
            return False
        source = self._source(workers)
        if number == 0 and any(self._refusals()):
            return False
        if self._sample(source, workers, until):
            return True
        if self._plan.one_process:
            self._run_base_alone(stack, workers["head"], number)
        else:
            self._run_alone(workers)
        return False

    def _renew_deadline(self) -> None:
        self._deadline = self._comparer.clock() + self._settings.timeout

    def _run_alone(self, workers: Mapping[str, CaseWorker]) -> None:
        """Run the side that has not failed for a while, when the other one has: what fails there, too, and would have
        failed a moment later, is no difference between the two."""
        for side, worker in workers.items():
            if not self._results[side].failure and not self.no_room:
                self._run_arm(worker, self._arms[side], side)

    def _run_base_alone(self, stack: ExitStack, worker: CaseWorker, number: int) -> None:
        """The same for arms of one process: nobody knows which of the two failed. It may have ended the worker."""
        if not self._is_alive:
            fresh = self._start(stack, "head", number)
            if fresh is None:
                return
            worker = fresh
        self._run_arm(worker, "eager", "base")

    def _run_arm(self, worker: CaseWorker, arm: str, side: str) -> None:
        self._renew_deadline()
        worker.extend(self._deadline)
        source = OneArm(worker, arm, side=side)
        sampler = Sampler(source, self._rng, clock=self._comparer.clock, repeats=self._settings.repeats)
        try:
            sampler.warm_up(iterations=self._settings.warmup)
            sampler.measure(StopRule(repeat=LEAST_PAIRS))
            worker.memory()
        except WorkerError as error:
            self._note(side, failure=_failure_text(error))

    def _source(self, workers: Mapping[str, CaseWorker]) -> AskedPairs:
        if not self._plan.one_process:
            sizes = {side: self._results[side].batch_size for side in workers}
            if len(set(sizes.values())) > 1:
                self.no_room = f"beside each other they get batch sizes {sizes['base']} and {sizes['head']}"
            return TwoWorkerPairs(workers, self._arms, interleave=self._plan.interleave)
        head = self._results["head"]
        self._note("base", batch_size=head.batch_size, parameters=head.parameters)
        return WorkerPairs(workers["head"])

    def _start(self, stack: ExitStack, side: str, number: int, *, beside: bool = False) -> CaseWorker | None:
        """A worker of one side, ready to be sampled; None when it failed, which is then in the side's result.

        beside: whether the other side's worker is there.
        """
        loaded = None
        try:
            preloaded = self._comparer.sides.of(side).process(number)
            if any(result.failure for result in self._results.values()):
                self._renew_deadline()  # what the other side used up, by hanging, is not this one's
            case_worker = self._fork(stack, preloaded, side)
            loaded = case_worker.load(cache_dir=self._cache(stack, side, number))
            if self._is_accuracy_due(side, number) and self._check_accuracy(case_worker, side).is_spent:
                case_worker.kill()
                case_worker = self._fork(stack, preloaded, side)
                loaded = case_worker.load(cache_dir=self._cache(stack, side, number))
            self._note(side, batch_size=loaded.batch_size, parameters=loaded.parameters)
            if self._arms[side] == "compiled":
                self._compile(case_worker, side, number)
            self._note_reference()
            if (remarks := case_worker.settle()) and number == 0:
                self._note(side, remarks=(*self._results[side].remarks, *remarks))
        except WorkerError as error:
            if beside and is_lack_of_room(error):
                self._blame_neither(side, error)
            else:
                self._note(side, failure=_failure_text(error))
                if self._plan.one_process and loaded is None:
                    self._note("base", failure=_failure_text(error))  # the plain module, which is base
            return None
        return case_worker

    def _fork(self, stack: ExitStack, preloaded: Preloaded, side: str) -> CaseWorker:
        planned = self._planned[side]
        logs = self._comparer.logs(planned, side)
        self._note(side, log=f"{LOGS}/{logs[0].name}")
        worker = stack.enter_context(start_worker(preloaded, planned, self._settings, logs, deadline=self._deadline))
        return CaseWorker(worker, planned, self._settings, deadline=self._deadline)

    def _is_accuracy_due(self, side: str, number: int) -> bool:
        return number == 0 and self._arms[side] == "compiled" and Testing.ACCURACY in self._settings.testings

    def _check_accuracy(self, worker: CaseWorker, side: str) -> AccuracyResult:
        checked = worker.accuracy()
        self._note(side, accuracy=f"{checked.status}: {checked.reason}" if checked.reason else checked.status.value)
        return checked

    def _blame_neither(self, side: str, error: WorkerError) -> None:
        """A side failed for want of what the other one has taken: that says nothing about its code."""
        self.no_room = f"the sides do not fit beside each other ({side}: {one_line(_failure_text(error), limit=90)})"

    def _cache(self, stack: ExitStack, side: str, number: int) -> str | None:
        """The compiler cache of a launch: empty for the first few, then that of the first one."""
        if not self._settings.cold_start:
            return None
        if number == 0:
            self._caches[side] = self._kept.enter_context(cache_folder())
        if 0 < number < COLD_LAUNCHES:
            return stack.enter_context(cache_folder())
        return self._caches[side]

    def _note_reference(self) -> None:
        """The plain module is right by definition where the other side's compiled one is held against it, unless it
        does not agree with itself."""
        for side, other in (("base", "head"), ("head", "base")):
            if (self._arms[side], self._arms[other]) == ("eager", "compiled") and (
                said := self._results[other].accuracy
            ):
                self._note(side, accuracy=said if said.startswith("eager") else Status.PASS.value)

    def _compile(self, worker: CaseWorker, side: str, number: int) -> None:
        seconds = worker.compile()
        if number < COLD_LAUNCHES:
            self._note(side, compile_seconds=(*self._results[side].compile_seconds, seconds))
        if number == 0:
            captured = worker.capture()
            self._note(side, counters=captured.counters, not_compiled=captured.not_compiled, remarks=captured.remarks)

    def _sample(self, source: AskedPairs, workers: Mapping[str, CaseWorker], until: float) -> bool:
        """Sample until `until` seconds are spent, or a look decides; whether that worked."""
        sampler = Sampler(source, self._rng, clock=self._comparer.clock, repeats=self._repeats)
        try:
            sampler.warm_up(iterations=self._settings.warmup)
            self._repeats = sampler.repeats
            self._sample_until(sampler, source, until)
            self._note_memory(workers, source)
        except WorkerError as error:
            self._is_alive = error.alive
            if len(workers) > 1 and is_lack_of_room(error):
                self._blame_neither(source.asking, error)
            else:
                self._note(source.asking, failure=_failure_text(error))
            return False
        return True

    def _sample_until(self, sampler: Sampler, source: AskedPairs, until: float) -> None:
        """A recompilation starts the launch over, once: what recompiles for ever is measured as it is."""
        pairs: list[SamplePair] = []
        self._launches.append(launch_of(pairs))
        source.invalidated()
        start, fresh = self._spent, self._settings.rule.repeat is None
        while (self._spent < until or len(pairs) < LEAST_PAIRS) and not self._decided():
            pairs += self._drawn(sampler, min(until, self._next_look()) - self._spent)
            if fresh and source.invalidated():
                fresh, pairs, self._spent = False, [], start
            self._launches[-1] = launch_of(pairs)
            if self._settings.rule.repeat is not None:
                return

    def _drawn(self, sampler: Sampler, seconds: float) -> list[SamplePair]:
        """Pairs for so many seconds, or exactly as many as the settings say."""
        start = self._comparer.clock()
        rule = self._settings.rule
        pairs = sampler.draw_for(seconds) if rule.repeat is None else sampler.measure(rule)
        self._spent += self._comparer.clock() - start
        return pairs

    def _next_look(self) -> float:
        """Seconds of sampling at which the next look is due."""
        if not self._plan.stop_early:
            return self._plan.seconds
        return LOOKS[self._look][0] * self._plan.seconds

    def _decided(self) -> bool:
        """Take the looks that are due; whether one decides. The last one is due only when all launches are there."""
        if self._settings.rule.repeat is not None or not self._plan.stop_early:
            return False
        while self._look < len(LOOKS) - 1 and self._spent >= self._next_look():
            found = estimate_effect(self._launches, between=self._between, look=self._look)
            settled = is_settled(found, self._tolerance, family=self._plan.family)
            if settled and not self._is_compile_time_open():
                return True
            self._look += 1
        return False

    def _is_compile_time_open(self) -> bool:
        base, head = (self._results[side].compile_seconds for side in ("base", "head"))
        if len(head) >= min(COLD_LAUNCHES, self._plan.launches_in_time):
            return False
        return is_compile_time_open(self._case, base, head, self._plan.tolerances)

    def _one_after_the_other(self, order: Sequence[str], number: int, until: float) -> bool:
        """Whole launches in turn, for models that do not fit twice and for what interleaving disturbs."""
        pairs: dict[str, list[SamplePair]] = {}
        each = (until - self._spent) / 2
        for side in order:
            with ExitStack() as stack:
                worker = self._start(stack, side, number)
                if worker is None:
                    each = 0.0  # the other one is tried all the same, but not for long
                    continue
                source = OneArm(worker, self._arms[side], side=side)
                sampler = Sampler(source, self._rng, clock=self._comparer.clock, repeats=self._repeats)
                try:
                    sampler.warm_up(iterations=self._settings.warmup)
                    self._repeats = sampler.repeats
                    pairs[side] = self._drawn(sampler, each)
                    while len(pairs[side]) < LEAST_PAIRS and self._settings.rule.repeat is None:
                        pairs[side] += self._drawn(sampler, 0.0)
                    self._note_memory({side: worker}, source)
                except WorkerError as error:
                    self._note(side, failure=_failure_text(error))
                    each = 0.0
        if any(result.failure for result in self._results.values()):
            return False
        self._launches.append(_unpaired(pairs["base"], pairs["head"]))
        return True

    def _note(self, side: str, **found: Any) -> None:  # noqa: ANN401 - fields of SideResult
        self._results[side] = replace(self._results[side], **found)

    def _note_memory(self, workers: Mapping[str, CaseWorker], source: AskedPairs) -> None:
        """Peak memory, once per side."""
        for side in self._results:
            worker = workers.get("head" if self._plan.one_process else side)
            if worker is not None and self._results[side].memory_bytes is None:
                source.asking = "head" if self._plan.one_process else side
                memory, arm = worker.memory(), self._arms[side]
                self._note(side, memory_bytes=memory.peaks.get(arm), process_bytes=memory.process.get(arm))

    def _refusals(self) -> Iterator[str]:
        base, head = self._results["base"], self._results["head"]
        if self.no_room:
            yield f"{self.no_room}; --interleave launch measures whole launches in turn"
        if base.failure or head.failure or self.no_room:
            return
        if base.batch_size != head.batch_size:
            yield f"batch size {base.batch_size} against {head.batch_size}"
        if base.parameters != head.parameters:
            yield f"{base.parameters:,} parameters against {head.parameters:,}: not the same model"


def _unpaired(base: Sequence[SamplePair], head: Sequence[SamplePair]) -> Launch:
    """The readings of two sides that ran one after the other, as many of each, in the order they were taken."""
    one, two = launch_of(base), launch_of(head)
    times = [[time for pair in zip(side.base, side.head, strict=True) for time in pair] for side in (one, two)]
    size = min(len(times[0]), len(times[1]))
    return Launch(base=tuple(times[0][:size]), head=tuple(times[1][:size]), probe=one.probe + two.probe)


def _world_problems(base: PlannedCase, head: PlannedCase) -> Iterator[str]:
    """Why the sides cannot be compared: another number of processes, or more than there are devices."""
    if base.world != head.world:
        yield f"{base.world} processes against {head.world}: not the same model"
    yield from dict.fromkeys(filter(None, (base.lack, head.lack)))


def _failure_text(error: WorkerError) -> str:
    return f"{error.status}: {error.reason}"
