"""Base against head, live: per case two workers on the same CPUs or the same GPU, driven in turn, never both at once.

Processes of equal code differ among themselves, so each case is measured in several launch pairs; a case that is
clearly slower or clearly not stops early.

Whether both sides are the same program is seen from what the worker traced (`worker.tracing`) and counted
(`worker.counting`) on each.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torchperf_ci.compare.effects import (
    ARMS_FLOOR,
    BETWEEN_FLOOR,
    LAUNCHES,
    LEAST_PAIRS,
    LOOKS,
    Launch,
    LaunchNoise,
    is_settled,
)
from torchperf_ci.compare.model import (
    MOST_DIFFERENCES,
    Measured,
    ProgramDifference,
    Sameness,
    SideResult,
    ToleranceRules,
)
from torchperf_ci.compare.verdicts import estimate_slowdowns, is_clear_difference, is_compile_time_open, measure_spread
from torchperf_ci.core.records import AS_IT_IS, Status, Testing
from torchperf_ci.core.results import LOGS
from torchperf_ci.core.statistics import interquartile_mean
from torchperf_ci.core.text import Word, one_line
from torchperf_ci.machine.gpu import GpuWatch, watched_gpu
from torchperf_ci.machine.host import HostWatch
from torchperf_ci.run.case_worker import (
    CaseSettings,
    CaseWorker,
    ProgramTrace,
    WorkerPairs,
    arm_times,
    arm_values,
    make_pair,
)
from torchperf_ci.run.counting import InstructionCounting
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.runner import cache_folder
from torchperf_ci.run.sampler import PairSource, SamplePair, Sampler, StopRule, Turn
from torchperf_ci.run.session import Preloaded, WorkerError, is_lack_of_room
from torchperf_ci.run.world import start_case

TRACED = (
    "functions", "reachable functions", "built-in functions", "values", "weights", "inputs", "modules", "files",
    "variables", "settings", "packages", "libraries",
)  # fmt: skip
"""The parts that every trace has."""

COMPILED = "compiled functions"
OPERATORS = "operators"
GENERATED_CODE = "generated_code"

TRACEABLE_COMPILERS = (AS_IT_IS, "eager", "aot_eager", "inductor", "cudagraphs")
"""The beginnings of the names of compilers that are part of torch, so that their own code is the same on both sides."""


def compare_programs(
    base: ProgramTrace, head: ProgramTrace, *, compiler: str, counted: Mapping[str, Mapping[str, str]] | None = None
) -> Sameness:
    """Compare what was traced of a case on both sides.

    counted: the digests of the counts by side; None as long as nobody has counted. compiler: of the compared arm; the
    code of one that is not torch's may differ, too, and was not traced.
    """
    counts = counted or {}
    digests = ({**base.digests, **counts.get("base", {})}, {**head.digests, **counts.get("head", {})})
    doubts = dict.fromkeys((*base.doubts, *head.doubts))
    if not compiler.startswith(TRACEABLE_COMPILERS):
        doubts[f"nobody can trace what the compiler {compiler} does"] = None
    for part in _list_needed(compiler, is_counted=counted is not None):
        if not digests[0].get(part) or not digests[1].get(part):
            doubts[f"there is no digest of its {part.replace('_', ' ')}"] = None
    return Sameness(differences=tuple(_list_differences(base, head, digests))[:MOST_DIFFERENCES], doubts=tuple(doubts))


def _list_needed(compiler: str, *, is_counted: bool) -> Iterator[str]:
    """List the parts without which nothing is proved."""
    yield from TRACED
    if compiler not in {AS_IT_IS, "eager"}:
        yield COMPILED
    if is_counted:
        yield OPERATORS
    if is_counted and compiler.startswith("inductor"):
        yield GENERATED_CODE


def _list_differences(
    base: ProgramTrace, head: ProgramTrace, digests: tuple[Mapping[str, str], Mapping[str, str]]
) -> Iterator[ProgramDifference]:
    """List what differs, by name where the parts say it."""
    for part in dict.fromkeys([*digests[0], *digests[1]]):
        mine, theirs = base.parts.get(part, {}), head.parts.get(part, {})
        names = [name for name in dict.fromkeys([*mine, *theirs]) if _content(mine, name) != _content(theirs, name)]
        for name in names:
            yield ProgramDifference(part=part, name=name, base=mine.get(name), head=theirs.get(name))
        if not names and digests[0].get(part) != digests[1].get(part):
            yield ProgramDifference(part=part, name="", base=digests[0].get(part), head=digests[1].get(part))


def _content(items: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return what counts of an item: of a function not its place."""
    item = items.get(name)
    return item[2:] if isinstance(item, (list, tuple)) else item


UNPAIRED_FLOOR = 0.03
"""Standard deviation between launches whose sides did not run in turn: the machine may change its speed meanwhile."""

LEAST_LAUNCHES = 3
"""Launches of a case, however slow it is and however little time it has."""

LAUNCH_SECONDS = 1.0
"""Sampling that makes a launch worth its start."""

COLD_LAUNCHES = 3
"""Launches that compile from an empty cache, whose time counts; later ones take what the first one compiled."""


UNLIKE = "its trace is the same on both sides, but a short check shows a difference: measured in full"
"""The remark on a case of which the trace has missed something."""

_Item = TypeVar("_Item")


class Interleave(Word):
    """The turns of the two sides: single iterations, blocks of about 50 ms, or whole launches one after the other.

    Auto: single iterations, and whole launches for a case whose sides do not fit beside each other.
    """

    AUTO = "auto"
    ITERATION = "iteration"
    BLOCK = "block"
    LAUNCH = "launch"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparePlan:
    """The plan by which a case is compared. `seconds`: of sampling per case, all launches together; a launch takes
    `LEAST_PAIRS` pairs whatever that costs.

    launches: at most. It is `LEAST_LAUNCHES` when the time is short, or over. family: how many cases are compared.
    one_process: both sides are arms of one worker: base is the plain module, head the compiled one.
    stop_early: whether a look may end a case before its time. noise: what launches of other cases differ by, by metric.
    spares: whether a case that is proved to be the same program on both sides gets no more than a short check: the
        first look of one launch.
    """

    tolerances: ToleranceRules
    launches: int = LAUNCHES
    seconds: float = 10.0
    interleave: Interleave = Interleave.AUTO
    between: float = BETWEEN_FLOOR
    family: int = 1
    one_process: bool = False
    stop_early: bool = True
    noise: Mapping[str, LaunchNoise] = field(default_factory=dict)
    spares: bool = False

    @property
    def sides_at_once(self) -> int:
        """The number of sides that hold the model at the same time."""
        return 1 if self.one_process or self.interleave is Interleave.LAUNCH else 2

    @property
    def launches_in_time(self) -> int:
        """As many as the time is worth."""
        return min(self.launches, max(LEAST_LAUNCHES, int(self.seconds / LAUNCH_SECONDS)))

    def end_of(self, number: int) -> float:
        """Seconds of sampling at which a launch is over, from 0. They share the time, but the first one takes the first
        look, so that what is clear is loaded and compiled once."""
        count = self.launches_in_time
        # With many launches less, or the others would be too short beside it to count.
        first = max(min(LOOKS[0][0], 1.6 / count), 1 / count)
        return self.seconds * (first + (1 - first) * number / max(1, count - 1))


class AskedPairs(PairSource, Protocol):
    """A source that knows which side it asked last: the one to blame when it fails."""

    asking: str


def make_launch(pairs: Sequence[SamplePair]) -> Launch:
    """Make a launch of pairs whose first arm is base and whose second is head, of the device's times where it has
    events."""
    return Launch(
        base=tuple(pair.first if pair.first_device is None else pair.first_device for pair in pairs),
        head=tuple(pair.second if pair.second_device is None else pair.second_device for pair in pairs),
        probe=tuple(pair.probe for pair in pairs),
        values={
            name: (
                tuple(pair.first_values[name] for pair in pairs),
                tuple(pair.second_values[name] for pair in pairs),
            )
            for name in (pairs[0].first_values if pairs else ())
            if all(name in pair.first_values and name in pair.second_values for pair in pairs)
        },
    )


class TwoWorkerPairs:
    """Pairs of two workers driven in turn; `asking` is the one asked last.

    A turn of several readings is one half of a pair, by the mean of its middle half: its readings are not independent.
    On an accelerator the first iteration after a switch of sides is not read: the other process has just used
    the device.
    """

    def __init__(self, workers: Mapping[str, CaseWorker], arms: Mapping[str, str], *, interleave: Interleave) -> None:
        self._workers, self._arms, self._interleave = workers, arms, interleave
        self._recompiled = False
        self.asking = "base"

    def take(self, swapped: Sequence[bool], turn: Turn) -> list[SamplePair]:
        if self._interleave is Interleave.BLOCK:
            return self._take_in_order(len(swapped), swapped[0] if swapped else False, turn)
        return list(chain.from_iterable(self._take_in_order(1, turned, turn) for turned in swapped))

    def invalidated(self) -> bool:
        recompiled, self._recompiled = self._recompiled, False
        return recompiled

    def _take_in_order(self, count: int, turned: bool, turn: Turn) -> list[SamplePair]:  # noqa: FBT001 - as in PairSource
        times: dict[str, list[tuple[float, float | None]]] = {}
        values: dict[str, list[Mapping[str, float]]] = {}
        probe: list[int] = []
        order = ("head", "base") if turned else ("base", "head")
        for side in order:
            self.asking = side
            worker, arm = self._workers[side], self._arms[side]
            reply = worker.sample(
                [[arm] * turn.readings] * count,
                {arm: turn.repeats},
                discard=int(worker.on_accelerator),
                probe=side == order[-1],  # one is enough for a pair
            )
            self._recompiled |= reply["recompiled"]
            probe = reply["probe"]
            times[side] = [_average_times(each) for each in _split(arm_times(reply, arm), turn.readings)]
            values[side] = [_average_values(each) for each in _split(arm_values(reply, arm), turn.readings)]
        both = zip(values["base"], values["head"], strict=True)
        pairs = zip(times["base"], times["head"], probe, both, strict=True)
        return [make_pair(first, second, time, values=pair) for first, second, time, pair in pairs]


def _split(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _average_times(readings: Sequence[tuple[float, float | None]]) -> tuple[float, float | None]:
    """Average host and device seconds of a turn; the device's are None where a reading has none."""
    device = [seconds for _, seconds in readings if seconds is not None]
    whole = interquartile_mean(device) if len(device) == len(readings) else None
    return interquartile_mean([seconds for seconds, _ in readings]), whole


def _average_values(readings: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Average the suite's own metrics that all readings of a turn have."""
    shared = [name for name in readings[0] if all(name in each for each in readings)]
    return {name: interquartile_mean([each[name] for each in readings]) for name in shared}


class Side(Protocol):
    """One side of a comparison: whether it has a case, how it is planned there, and its preloaded processes."""

    def planned(self, case: PlannedCase) -> PlannedCase | None: ...

    def begin(self, launch: int) -> None: ...

    def process(self, launch: int) -> Preloaded: ...

    @property
    def instructions(self) -> InstructionCounting | None: ...


class CaseComparer:
    """Compares one case after the other. sides: base and head. logs: where the output of a side's worker for a case
    goes, and of its ranks."""

    def __init__(
        self,
        sides: Mapping[str, Side],
        settings: CaseSettings,
        logs: Callable[[PlannedCase, str], Sequence[Path]],
        *,
        clock: Callable[[], float] = time.monotonic,
        watch: Callable[[str], AbstractContextManager[GpuWatch]] = watched_gpu,
    ) -> None:
        self.sides, self.settings, self.logs, self.clock, self.watch = sides, settings, logs, clock, watch

    def compare(self, planned: PlannedCase, plan: ComparePlan, *, attempt: int = 0) -> Measured:
        """Measure a case on both sides. Another `attempt` takes its samples in another order."""
        base, head = (self.sides[name].planned(planned) for name in ("base", "head"))
        if base is None or head is None:
            return Measured(
                case=planned.case,
                base=None if base is None else SideResult(),
                head=None if head is None else SideResult(),
            )
        refusals = dict.fromkeys(filter(None, (base.lack, head.lack)))
        if base.world != head.world:
            refusals = {f"{base.world} processes against {head.world}: not the same model": None, **refusals}
        if refusals:
            return Measured(case=planned.case, base=SideResult(), head=SideResult(), refusals=tuple(refusals))
        host = HostWatch()
        with self.watch(planned.device) as gpu:
            comparison = _CaseComparison(self, plan, {"base": base, "head": head}, planned, attempt=attempt)
            measured = comparison.measure()
            if comparison.no_room and plan.interleave is Interleave.AUTO:
                in_turn = replace(plan, interleave=Interleave.LAUNCH)
                again = _CaseComparison(self, in_turn, {"base": base, "head": head}, planned, attempt=attempt)
                measured = again.measure()
                why = f"measured in whole launches: {comparison.no_room}"
                measured = replace(measured, remarks=(why, *measured.remarks))
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
        self._arms = {side: case.arm for side, case in planned.items()}
        self._metrics = tuple(metric for metric in planned["head"].metrics if metric in planned["base"].metrics)
        self._results = {"base": SideResult(), "head": SideResult()}
        self._counted: set[str] = set()
        self._launches: list[Launch] = []
        self._kept = ExitStack()
        self._caches: dict[str, str] = {}
        self._rng = random.Random(f"{self._settings.seed} {shown.case} {attempt}")  # noqa: S311 - an order, not a secret
        self._deadline = 0.0
        self.no_room = ""
        self._is_alive = True
        self._repeats = self._settings.repeats
        in_single_turns = plan.interleave in {Interleave.AUTO, Interleave.ITERATION} and not plan.one_process
        self._readings = None if in_single_turns else 1
        self._spent = 0.0
        self._look = 0
        can_be_watched = all(case.world == 1 and not case.is_test for case in planned.values())
        self._is_watched = plan.spares and not attempt and can_be_watched
        self._traced: dict[str, ProgramTrace] = {}
        self._sameness: Sameness | None = None
        self._is_checked = self._is_spared = False
        self._workers: Mapping[str, CaseWorker] = {}
        self._between = ARMS_FLOOR if plan.one_process else plan.between
        if plan.interleave is Interleave.LAUNCH:
            self._between = max(self._between, UNPAIRED_FLOOR)
        self._noise = plan.noise if self._between == plan.between else {}

    def measure(self) -> Measured:
        """Take launches until a look decides, the time is over, or a side fails."""
        with self._kept:
            for number in range(self._plan.launches_in_time):
                is_time_over = self._spent >= self._plan.seconds and self._settings.rule.repeat is None
                if number >= LEAST_LAUNCHES and is_time_over:
                    self._look = len(LOOKS) - 1
                    break
                with ExitStack() as stack:
                    if not self._launch(stack, number) or self._is_decided():
                        break
            else:
                self._look = len(LOOKS) - 1
            self._note_instructions()
        return self._measured()

    def _measured(self) -> Measured:
        is_unlike = self._sameness is not None and self._sameness.is_same and not self._is_spared
        return Measured(
            case=self._case,
            base=self._results["base"],
            head=self._results["head"],
            launches=tuple(self._launches),
            between=self._between,
            seconds=self._spent,
            look=self._look,
            spread=measure_spread(self._launches, self._metrics),
            noise=self._noise,
            metrics=self._metrics,
            refusals=tuple(self._list_refusals()),
            remarks=(UNLIKE,) if is_unlike and self._is_checked else (),
            sameness=self._sameness,
            spared=self._is_spared,
        )

    def _launch(self, stack: ExitStack, number: int) -> bool:
        """Measure one launch pair; say whether it worked. What failed is in the results."""
        self._renew_deadline()
        order = ["base", "head"]
        self._rng.shuffle(order)
        until = self._plan.end_of(number)
        if self._plan.one_process:
            order = ["head"]
        elif self._plan.interleave is Interleave.LAUNCH:
            return self._launch_in_turn(order, number, until)
        for side in order:  # both import at the same time, on as many CPUs as there are
            self._comparer.sides[side].begin(number)
        workers: dict[str, CaseWorker] = {}
        for side in order:  # also the second one when the first failed: a failure of both is nobody's change
            worker = self._start(stack, side, number, beside=bool(workers))
            if worker is not None:
                workers[side] = worker
        self._workers = workers
        if len(workers) == len(order):
            source = self._make_source(workers)
            if number == 0 and any(self._list_refusals()):
                return False
            if self._sample(source, workers, until):
                return True
        self._try_other_side(stack, workers, number)
        return False

    def _try_other_side(self, stack: ExitStack, workers: Mapping[str, CaseWorker], number: int) -> None:
        """Run the side that has not failed for a while, when the other one has: what fails there, too, and would have
        failed a moment later, is no difference between the two."""
        if not self._plan.one_process:
            for side, worker in workers.items():
                if not self._results[side].failure and not self.no_room:
                    self._run_alone(worker, self._arms[side], side)
        elif workers:  # nobody knows which of the two arms failed, and it may have ended the worker
            fresh = workers["head"] if self._is_alive else self._start(stack, "head", number)
            if fresh is not None:
                self._run_alone(fresh, "eager", "base")

    def _renew_deadline(self) -> None:
        self._deadline = self._comparer.clock() + self._settings.timeout

    def _run_alone(self, worker: CaseWorker, arm: str, side: str) -> None:
        """Run one arm for a warm-up and as many pairs as a launch needs."""
        self._renew_deadline()
        worker.extend(self._deadline)
        source = WorkerPairs(worker, arm, arm, side=side)
        sampler = Sampler(source, self._rng, clock=self._comparer.clock, repeats=self._repeats)
        try:
            sampler.warm_up(iterations=self._settings.warmup)
            sampler.measure(StopRule(repeat=LEAST_PAIRS))
            worker.memory()
        except WorkerError as error:
            self._note(side, failure=_explain(error))

    def _make_source(self, workers: Mapping[str, CaseWorker]) -> AskedPairs:
        if self._plan.one_process:
            head = self._results["head"]
            self._note("base", batch_size=head.batch_size, parameters=head.parameters)
            return WorkerPairs(workers["head"])
        sizes = {side: self._results[side].batch_size for side in workers}
        if len(set(sizes.values())) > 1:
            self.no_room = f"side by side they get batch sizes {sizes['base']} and {sizes['head']}"
        return TwoWorkerPairs(workers, self._arms, interleave=self._plan.interleave)

    def _start(self, stack: ExitStack, side: str, number: int, *, beside: bool = False) -> CaseWorker | None:
        """Start a worker of one side, ready to be sampled; None when it failed, which is then in the side's result.

        beside: whether the other side's worker is there.
        """
        loaded = None
        is_compiled = self._arms[side] == "compiled"
        try:
            preloaded = self._comparer.sides[side].process(number)
            if any(result.failure for result in self._results.values()):
                self._renew_deadline()  # what the other side used up, by hanging, is not this one's
            worker = self._fork(stack, preloaded, side)
            is_watched = self._is_watched and number == 0
            loaded = worker.load(cache_dir=self._choose_cache(stack, side, number), watch=is_watched)
            if loaded.one_call:
                self._repeats = 1
            planned = self._planned[side]
            is_checked = is_compiled or (planned.case.compiler == AS_IT_IS and not planned.is_test)
            is_first = number == 0 and Testing.ACCURACY in self._settings.testings
            if is_checked and is_first and self._check(worker, side):
                worker.kill()
                worker = self._fork(stack, preloaded, side)
                loaded = worker.load(cache_dir=self._choose_cache(stack, side, number), watch=is_watched)
            self._note(side, batch_size=loaded.batch_size, parameters=loaded.parameters, strays=loaded.strays)
            if is_compiled:
                self._compile(worker, side, number)
            self._note_reference()
            if is_watched:
                self._trace(worker, side)
            if (remarks := worker.settle()) and number == 0:
                self._note(side, remarks=(*self._results[side].remarks, *remarks))
        except WorkerError as error:
            if beside and is_lack_of_room(error):
                self._blame_neither(side, error)
            else:
                self._note(side, failure=_explain(error))
                if self._plan.one_process and loaded is None:  # it is the plain module, which is base
                    self._note("base", failure=_explain(error))
            return None
        return worker

    def _check(self, worker: CaseWorker, side: str) -> bool:
        """Note whether the results are right, if that was looked at; say whether the worker is spent."""
        checked = worker.accuracy()
        reason = f": {checked.reason}" if checked.reason else ""
        if checked.status is not Status.PASS_DUE_TO_SKIP:
            self._note(side, accuracy=f"{checked.status}{reason}")
        return checked.is_spent

    def _fork(self, stack: ExitStack, preloaded: Preloaded, side: str) -> CaseWorker:
        planned = self._planned[side]
        logs = self._comparer.logs(planned, side)
        self._note(side, log=f"{LOGS}/{logs[0].name}")
        return stack.enter_context(start_case(preloaded, planned, self._settings, logs, deadline=self._deadline))

    def _blame_neither(self, side: str, error: WorkerError) -> None:
        """A side failed for want of what the other one has taken: that says nothing about its code."""
        self.no_room = f"the two sides do not fit into memory together ({side}: {one_line(_explain(error), limit=90)})"

    def _choose_cache(self, stack: ExitStack, side: str, number: int) -> str | None:
        """Choose the compiler cache of a launch: empty for the first few, then that of the first one."""
        if not self._settings.cold_start:
            return None
        if number == 0:
            self._caches[side] = self._kept.enter_context(cache_folder())
        if 0 < number < COLD_LAUNCHES:
            return stack.enter_context(cache_folder())
        return self._caches[side]

    def _note_reference(self) -> None:
        """Call the plain module right where the other side's compiled one is held against it: it is so by definition,
        unless it does not agree with itself."""
        for side, other in (("base", "head"), ("head", "base")):
            status = self._results[other].accuracy
            if (self._arms[side], self._arms[other]) == ("eager", "compiled") and status:
                self._note(side, accuracy=status if status.startswith("eager") else Status.PASS.value)

    def _compile(self, worker: CaseWorker, side: str, number: int) -> None:
        seconds = worker.compile()
        if number < COLD_LAUNCHES:
            self._note(side, compile_seconds=(*self._results[side].compile_seconds, seconds))
        if number == 0:
            captured = worker.capture()
            self._note(side, counters=captured.counters, not_compiled=captured.not_compiled, remarks=captured.remarks)

    def _trace(self, worker: CaseWorker, side: str) -> None:
        """Trace which program the case is on one side, and compare it with the other one's when that is known."""
        self._traced[side] = worker.trace()
        if len(self._traced) == len(self._planned):
            self._sameness = self._compare_programs()

    def _sample(self, source: AskedPairs, workers: Mapping[str, CaseWorker], until: float) -> bool:
        """Sample until `until` seconds are spent, or a look decides; say whether that worked.

        A recompilation starts the launch over, once: what recompiles for ever is measured as it is.
        """
        sampler = Sampler(source, self._rng, clock=self._comparer.clock, repeats=self._repeats, readings=self._readings)
        has_repeats = self._settings.rule.repeat is not None
        try:
            sampler.warm_up(iterations=self._settings.warmup)
            self._repeats, self._readings = sampler.repeats, sampler.readings
            pairs: list[SamplePair] = []
            self._launches.append(make_launch(pairs))
            source.invalidated()
            start, may_restart = self._spent, not has_repeats
            while (self._spent < until or len(pairs) < LEAST_PAIRS) and not self._is_decided():
                pairs += self._draw(sampler, min(until, self._next_look()) - self._spent)
                if may_restart and source.invalidated():
                    may_restart, pairs, self._spent = False, [], start
                self._launches[-1] = make_launch(pairs)
                if has_repeats:
                    break
            self._note_memory(workers, source)
            self._note_counts(workers)
            self._end_tests(workers, source)
        except WorkerError as error:
            self._is_alive = error.alive
            if len(workers) > 1 and is_lack_of_room(error):
                self._blame_neither(source.asking, error)
            else:
                self._note(source.asking, failure=_explain(error))
            return False
        return True

    def _draw(self, sampler: Sampler, seconds: float) -> list[SamplePair]:
        """Draw pairs for so many seconds, or exactly as many as the settings say."""
        start = self._comparer.clock()
        rule = self._settings.rule
        pairs = sampler.draw_for(seconds) if rule.repeat is None else sampler.measure(rule)
        self._spent += self._comparer.clock() - start
        return pairs

    def _next_look(self) -> float:
        """Return the seconds of sampling at which the next look is due."""
        if not self._plan.stop_early:
            return self._plan.seconds
        return LOOKS[self._look][0] * self._plan.seconds

    def _is_decided(self) -> bool:
        """Take the looks that are due; say whether one decides. The last one is due only when all launches are there.

        A case whose compile time is still open needs another launch.
        """
        has_repeats = self._settings.rule.repeat is not None
        if self._passes_short_check(has_repeats):
            return True
        if has_repeats or not self._plan.stop_early:
            return False
        while self._look < len(LOOKS) - 1 and self._spent >= self._next_look():
            effects = estimate_slowdowns(self._measured(), self._plan.tolerances)
            if all(is_settled(effect, tolerance, family=self._plan.family) for effect, tolerance in effects):
                base, head = (self._results[side].compile_seconds for side in ("base", "head"))
                has_all = len(head) >= min(COLD_LAUNCHES, self._plan.launches_in_time)
                if has_all or not is_compile_time_open(self._case, base, head, self._plan.tolerances):
                    return True
            self._look += 1
        return False

    def _compare_programs(self, counted: Mapping[str, Mapping[str, str]] | None = None) -> Sameness:
        base, head = self._traced["base"], self._traced["head"]
        return compare_programs(base, head, compiler=self._planned["head"].case.compiler, counted=counted)

    def _passes_short_check(self, has_repeats: bool) -> bool:  # noqa: FBT001 - of the settings
        """Take the first look at a case that is the same program, once; say whether that is all that is needed.

        A clear difference means that the trace has missed something: then the case is measured like every other one.
        """
        if self._is_spared:
            return True
        is_due = has_repeats or self._spent >= LOOKS[0][0] * self._plan.seconds
        is_same = self._sameness is not None and self._sameness.is_same
        if (
            self._is_checked
            or not is_same
            or not is_due
            or not any(len(each.base) >= LEAST_PAIRS for each in self._launches)
        ):
            return False
        self._is_checked = True
        if is_clear_difference(replace(self._measured(), look=0), self._plan.tolerances):
            return False
        self._note_counts(self._workers)  # after the samples of the short check, for a profiler takes part in it
        self._sameness = self._compare_programs({side: each.digests for side, each in self._results.items()})
        self._is_spared = self._sameness.is_same
        return self._is_spared

    def _launch_in_turn(self, order: Sequence[str], number: int, until: float) -> bool:
        """Measure whole launches in turn, for models that do not fit twice and for what interleaving disturbs."""
        times: dict[str, list[float]] = {}
        values: dict[str, Mapping[str, list[float]]] = {}
        probes: list[float] = []
        each = (until - self._spent) / 2
        for side in order:
            with ExitStack() as stack:
                worker = self._start(stack, side, number)
                if worker is None:
                    each = 0.0  # the other one is tried all the same, but not for long
                    continue
                source = WorkerPairs(worker, self._arms[side], self._arms[side], side=side)
                sampler = Sampler(source, self._rng, clock=self._comparer.clock, repeats=self._repeats)
                try:
                    sampler.warm_up(iterations=self._settings.warmup)
                    self._repeats = sampler.repeats
                    pairs = self._draw(sampler, each)
                    while len(pairs) < LEAST_PAIRS and self._settings.rule.repeat is None:
                        pairs += self._draw(sampler, 0.0)
                    self._note_memory({side: worker}, source)
                    self._note_counts({side: worker})
                    self._end_tests({side: worker}, source)
                except WorkerError as error:
                    self._note(side, failure=_explain(error))
                    each = 0.0
                    continue
                launch = make_launch(pairs)
                times[side] = list(chain.from_iterable(zip(launch.base, launch.head, strict=True)))
                values[side] = {
                    name: list(chain.from_iterable(zip(*both, strict=True))) for name, both in launch.values.items()
                }
                probes += launch.probe
        if any(result.failure for result in self._results.values()):
            return False
        size = min(map(len, times.values()))
        self._launches.append(
            Launch(
                base=tuple(times["base"][:size]),
                head=tuple(times["head"][:size]),
                probe=tuple(probes),
                values={
                    name: (tuple(values["base"][name][:size]), tuple(values["head"][name][:size]))
                    for name in values["base"].keys() & values["head"].keys()
                },
            )
        )
        return True

    def _note(self, side: str, **fields: Any) -> None:  # noqa: ANN401 - fields of SideResult
        self._results[side] = replace(self._results[side], **fields)

    def _note_memory(self, workers: Mapping[str, CaseWorker], source: AskedPairs) -> None:
        """Note the peak memory, once per side."""
        for side in self._results:
            worker = workers.get("head" if self._plan.one_process else side)
            if worker is not None and self._results[side].memory_bytes is None:
                source.asking = "head" if self._plan.one_process else side
                memory, arm = worker.memory(), self._arms[side]
                self._note(side, memory_bytes=memory.peaks.get(arm), process_bytes=memory.process.get(arm))

    def _note_counts(self, workers: Mapping[str, CaseWorker]) -> None:
        """Count an iteration, once per side, where both run the same compiler: else they differ by what is compared."""
        if len({planned.case.compiler for planned in self._planned.values()}) > 1:
            return
        for side, worker in workers.items():
            if side not in self._counted:
                self._counted.add(side)
                counted = worker.count(self._arms[side])
                remarks = (*self._results[side].remarks, *counted.remarks)
                self._note(side, counted=counted.metrics, digests=counted.digests, remarks=remarks)

    def _note_instructions(self) -> None:
        """Count the instructions of both sides, when their other processes have ended: four of a model need not fit."""
        for side in sorted(self._counted):
            if (counting := self._comparer.sides[side].instructions) is not None:
                planned, result = self._planned[side], self._results[side]
                logs = self._comparer.logs(planned, side)
                more = counting.count(planned, self._settings, logs, arm=self._arms[side])
                counted, remarks = {**result.counted, **more.metrics}, (*result.remarks, *more.remarks)
                self._note(side, counted=counted, remarks=remarks)

    def _end_tests(self, workers: Mapping[str, CaseWorker], source: AskedPairs) -> None:
        """Let tests go on to their ends, and note whether they pass: the first launch in which one does not counts."""
        for side, worker in workers.items():
            if self._planned[side].is_test:
                source.asking, before = side, self._results[side].accuracy
                self._check(worker, side)
                if before.startswith(Status.FAIL_ACCURACY) or Testing.ACCURACY not in self._settings.testings:
                    self._note(side, accuracy=before)

    def _list_refusals(self) -> Iterator[str]:
        base, head = self._results["base"], self._results["head"]
        if self.no_room:
            yield f"{self.no_room}; --interleave launch measures whole launches in turn"
        if base.failure or head.failure or self.no_room:
            return
        if strays := sorted({*base.strays, *head.strays}):
            yield (
                f"{', '.join(strays)} was imported from the working tree, not from the commit that is measured; "
                "install each commit on its side, for example with --setup 'pip install --no-deps -e .'"
            )
        if base.batch_size != head.batch_size:
            yield f"batch size {base.batch_size} against {head.batch_size}"
        if base.parameters != head.parameters:
            yield f"{base.parameters:,} parameters against {head.parameters:,}: not the same model"


def _explain(error: WorkerError) -> str:
    return f"{error.status}: {error.reason}"
