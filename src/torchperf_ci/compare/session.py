"""A whole live comparison: what each side has, every case of both measured, and what seems changed once more."""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from torchperf_ci.compare.checkouts import Repository, SideCommit, put_suite
from torchperf_ci.compare.effects import LaunchNoise, pool_launch_noise
from torchperf_ci.compare.live import CaseComparer, ComparePlan, Interleave
from torchperf_ci.compare.model import Header, Measured, SideResult
from torchperf_ci.compare.verdicts import is_to_repeat, share_launch_noise
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.records import MACHINE_UNKNOWN, Case, Environment, Source, Status
from torchperf_ci.core.results import LOGS, ResultsFolder
from torchperf_ci.core.text import count, format_digits
from torchperf_ci.machine.gpu import watched_gpu
from torchperf_ci.machine.host import LEAST_MEMORY, memory_left
from torchperf_ci.run.case_worker import CaseSettings
from torchperf_ci.run.counting import InstructionCounting, InstructionMethod, choose_method
from torchperf_ci.run.lanes import PROBE_LIMIT, cpu_sets, may_be_of_the_device, my_cpus, work_on_lanes
from torchperf_ci.run.plan import (
    PlannedCase,
    Selection,
    SuiteListing,
    make_plan,
    matches,
    nothing_left,
    partition,
    unknown_models,
)
from torchperf_ci.run.session import Preloaded, Stopped, WorkerError, is_lack_of_room
from torchperf_ci.run.survey import Survey, left_out_warnings, note_settings, python_under_test, refuse_cold_l2, survey
from torchperf_ci.run.world import claim_logs
from torchperf_ci.suites import SHARING_VARIABLE, WORKING_TREE_VARIABLE


class Processes:
    """One side's preloaded processes, a process per launch, started when first asked for. Leaving it ends them.

    Forks of one process share its layout in memory, which makes their code a little faster or slower for good. So
    launches have processes of their own, as if every one were started anew. They stay for the next case, until memory
    gets short.
    """

    def __init__(self, start: Callable[[], Preloaded], memory_left: Callable[[], int] = memory_left) -> None:
        self._start, self._memory_left = start, memory_left
        self._stack = ExitStack()
        self._started: dict[int, Preloaded] = {}
        self._begun: dict[int, Preloaded] = {}
        self._modules: tuple[str, ...] = ()
        self.left_out: dict[str, str] = {}
        self._stopped = False

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *exc: object) -> None:
        self.renew()

    def stop(self) -> None:
        """End all processes, from another thread than the one that works with them; none is started any more."""
        self._stopped = True
        self._stack.close()

    def begin(self, launch: int) -> None:
        """Start the process of a launch, from 0, if there is none or it has ended; nobody waits for it here."""
        if self._stopped:
            raise Stopped
        if launch in self._begun:
            return
        found = self._started.get(launch)
        is_there = found is not None and found.alive
        idle = len(self._started) - is_there  # their workers have ended
        if idle and (launch == 0 or not is_there) and self._memory_left() < LEAST_MEMORY:
            self.renew()
            is_there = False
        if not is_there:
            begun = self._begun[launch] = self._started[launch] = self._start()
            self._stack.callback(begun.close)

    def of(self, launch: int) -> Preloaded:
        """Return the process of a launch, when it can be forked."""
        self.begin(launch)
        if begun := self._begun.pop(launch, None):
            begun.wait_until_ready()
            begun.preload(self._modules)
        return self._started[launch]

    def preload(self, modules: Sequence[str]) -> None:
        """Import modules in every process, those to come too."""
        self._modules = tuple(modules)
        for launch, process in self._started.items():
            if launch not in self._begun:
                process.preload(self._modules)
                self.left_out.update(process.left_out)

    def make_more(self) -> Processes:
        """Make more processes of the same side, for work at the same time as these do theirs."""
        processes = Processes(self._start, self._memory_left)
        processes.preload(self._modules)
        return processes

    def renew(self) -> None:
        """End all processes: the next ones are fresh."""
        self._stack.close()
        self._started.clear()
        self._begun.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSide:
    """A side that is running: its name, what it told about itself, its cases. `compiler` replaces the case's own.
    instructions: counts these.
    broken: suites of existing benchmarks that cannot be loaded, with the reasons.
    """

    name: str
    survey: Survey
    cases: Mapping[Case, PlannedCase]
    processes: Processes
    compiler: str | None = None
    places: tuple[str, ...] = ()
    instructions: InstructionCounting | None = None
    broken: Mapping[str, str] = field(default_factory=dict)

    def planned(self, case: PlannedCase) -> PlannedCase | None:
        """Return the case as it runs on this side, on the device that was chosen for it."""
        found = self.cases.get(case.case)
        if found is None:
            return None
        own = found.case if self.compiler is None else replace(found.case, compiler=self.compiler)
        return replace(found, case=own, place=case.place)

    def begin(self, launch: int) -> None:
        self.processes.begin(launch)

    def process(self, launch: int) -> Preloaded:
        """Raises `WorkerError` when it ends, or says nothing, while it imports: that is a failure of the case."""
        try:
            return self.processes.of(launch)
        except (UsageProblem, OSError) as error:
            raise WorkerError(Status.CRASHED, f"there is no process to run it in: {error}", alive=False) from error

    @property
    def environment(self) -> Environment:
        return self.survey.environment


def make_side(
    name: str, survey: Survey, selection: Selection, processes: Processes, *, compiler: str | None = None
) -> LiveSide:
    """Make a side with the cases that the selection finds there; none is fine here, `collect_cases` looks at both."""
    models = {model for suite in survey.suites for model in suite.models}
    checked = replace(
        selection,
        partition_id=0,  # `collect_cases` takes the partition: models of one side alone must not shift the other's
        total_partitions=1,
        compilers=selection.compilers if compiler is None else (compiler,),
        exclude=tuple(model for model in selection.exclude if model in models),
        filters=tuple(
            pattern for pattern in selection.filters if any(matches(pattern, suite) for suite in survey.suites)
        ),
    )
    if selection.filters and not checked.filters:
        return LiveSide(name=name, survey=survey, cases={}, processes=processes, compiler=compiler)
    try:
        plan = make_plan(checked, survey.suites, survey.machine)
    except UsageProblem as error:
        raise UsageProblem(f"{name}: {error}") from error
    processes.preload(plan.preload)
    shown = selection.compilers[0]
    cases = {
        (planned.case if compiler is None else replace(planned.case, compiler=shown)): planned
        for planned in plan.cases
        if planned.skip is None and not planned.broken
    }
    broken = {planned.case.suite: planned.broken for planned in plan.cases if planned.broken}
    return LiveSide(
        name=name, survey=survey, cases=cases, processes=processes, compiler=compiler, places=plan.places, broken=broken
    )


def collect_cases(base: LiveSide, head: LiveSide, selection: Selection) -> list[PlannedCase]:
    """Collect head's cases in its order, then those only base has, of the partition that is asked for.

    Raises `NothingToJudge` when no case is common, and `UsageProblem` when there is none at all, or a name that is
    asked for exists on neither side.
    """
    suites = _join_listings(base.survey.suites, head.survey.suites)
    if problems := unknown_models(selection, suites):
        raise UsageProblem("\n".join(problems))
    if broken := head.broken.keys() - base.broken.keys():
        raise UsageProblem("\n".join(f"head cannot load {suite}: {head.broken[suite]}" for suite in sorted(broken)))
    if not base.cases and not head.cases:
        models = sorted({model for side in (base, head) for suite in side.survey.suites for model in suite.models})
        raise UsageProblem(f"no model is left after --filter, --exclude and --quick. There are: {', '.join(models)}")
    if not base.cases.keys() & head.cases.keys():
        raise NothingToJudge(
            f"base and head have no case in common, so there is nothing to compare. Base: {_name_some(base.cases)}. "
            f"Head: {_name_some(head.cases)}"
        )
    alone = [case for case in base.cases if case not in head.cases]
    cases = [
        *(replace(planned, case=case) for case, planned in head.cases.items()),
        *(replace(base.cases[case], case=case) for case in alone),
    ]
    kept = {
        (suite, model)
        for suite in {planned.case.suite for planned in cases}
        for model in partition(
            {planned.case.model for planned in cases if planned.case.suite == suite},
            index=selection.partition_id,
            total=selection.total_partitions,
        )
    }
    found = [planned for planned in cases if (planned.case.suite, planned.case.model) in kept]
    if not found:
        raise UsageProblem(nothing_left(selection, suites))
    return found


def _join_listings(base: Sequence[SuiteListing], head: Sequence[SuiteListing]) -> list[SuiteListing]:
    """Join the suites of both sides, with the models and groups of both."""
    found = {suite.name: suite for suite in base}
    for suite in head:
        other = found.get(suite.name, suite)
        models = tuple(dict.fromkeys([*suite.models, *other.models]))
        groups = {
            name: (*suite.groups.get(name, ()), *other.groups.get(name, ())) for name in [*other.groups, *suite.groups]
        }
        found[suite.name] = replace(suite, models=models, groups=groups)
    return list(found.values())


def _name_some(cases: Collection[Case], most: int = 5) -> str:
    shown = [str(case) for case in list(cases)[:most]] or ["none"]
    return ", ".join(shown) + (f" and {len(cases) - most} more" if len(cases) > most else "")


LEAST_SECONDS = 1.0
"""Less than this per case is no budget."""

CONFIRMATION = 2
"""Times the launches and seconds of a first measurement that a second one has: it is made of few cases, and has to be
beyond doubt by itself."""


CaseListener = Callable[[int, int, Measured, bool], None]
"""Hears of each case as it is done: its number from 1, how many there are, what was measured, and whether it was the
second measurement of what seems to have changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideSpec:
    """A side to set up: its Python and the option that chose it, its variables, its compiler (None: the case's), or its
    commit."""

    name: str
    python: str
    python_option: str = field(default="--python", compare=False)
    label: str
    environ: Mapping[str, str] = field(default_factory=dict)
    compiler: str | None = None
    commit: SideCommit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """A comparison to make.

    setup: the shell command that installs a commit in its environment. source: where head comes from. server: where
    pages of commits are. reproduction: the commands that do the same again. bisect_options: see `Header`.
    """

    base: SideSpec
    head: SideSpec
    selection: Selection
    settings: CaseSettings
    plan: ComparePlan
    repository: Repository | None = None
    setup: str = ""
    command: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)
    server: str = ""
    reproduction: tuple[str, ...] = ()
    bisect_options: tuple[str, ...] | None = None


@contextmanager
def running_sides(request: CompareRequest, scratch: Path) -> Iterator[tuple[LiveSide, LiveSide]]:
    """Set up and start both sides; everything that was made for them is gone after the block."""
    with ExitStack() as stack:
        yield (
            stack.enter_context(running_side(request, request.base, scratch / "base")),
            stack.enter_context(running_side(request, request.head, scratch / "head")),
        )


@contextmanager
def running_side(request: CompareRequest, spec: SideSpec, scratch: Path) -> Iterator[LiveSide]:
    """Set up and start a side in `scratch`, which is made; nothing of it runs after the block."""
    # Idle threads of one side must not spin on the CPUs where the other one is measured.
    environ = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, SHARING_VARIABLE: str(request.plan.sides_at_once)}
    scratch.mkdir(parents=True)
    with ExitStack() as stack:
        selection, cwd, python = request.selection, None, spec.python
        if request.repository is not None and spec.commit is not None:
            cwd, python = stack.enter_context(
                request.repository.checkout(
                    spec.commit.checkout,
                    python=spec.python,
                    setup=request.setup,
                    at=scratch,
                    environ=environ,
                    side=spec.name,
                )
            )
            environ[WORKING_TREE_VARIABLE] = str(request.repository.folder)
            suites = tuple(put_suite(suite, request.repository, cwd) for suite in selection.suites)
            selection = replace(selection, suites=suites)
        under_test = stack.enter_context(
            python_under_test(
                python,
                environ,
                threads=request.settings.threads,
                extra=spec.environ,
                log=scratch / "preload.log",
                cwd=cwd,
                name=spec.python,
                option=spec.python_option,
                install=_advise_setup(request.setup) if spec.commit is not None else "",
            )
        )
        processes = stack.enter_context(Processes(under_test.start))
        try:
            found = survey(processes.of(0), selection.suites, threads=request.settings.threads, command=request.command)
        except UsageProblem as error:
            raise UsageProblem(f"{spec.name}: {error}") from error
        found = note_settings(found, request.settings)
        side = make_side(spec.name, found, selection, processes, compiler=spec.compiler)
        method = choose_method(InstructionMethod(request.settings.instructions), found, side.cases.values())
        counting = stack.enter_context(InstructionCounting(under_test, method))
        yield replace(side, instructions=counting)


def _advise_setup(setup: str) -> str:
    """Say what to do about a package of the repository that a side cannot import."""
    if setup:
        return f"The set-up command {setup!r} does not install it on this side"
    return "Install each commit on its side: --setup 'pip install --no-deps .'"


def describe_request(request: CompareRequest, base: LiveSide, head: LiveSide) -> Header:
    """Say what is compared, with what makes the two unequal. Raises `NothingToJudge` where that is too much."""
    plan, one, two = request.plan, base.environment, head.environment
    if one.gpu != two.gpu or one.cpu != two.cpu:
        raise NothingToJudge(
            f"base runs on {one.gpu or one.cpu}, head on {two.gpu or two.cpu}: that is no comparison of code"
        )
    mine, theirs = (
        ", ".join(each.uuid or each.pci or each.name for each in side.survey.accelerators) or "none"
        for side in (base, head)
    )
    if mine != theirs:
        raise NothingToJudge(
            f"base sees the GPUs {mine}, head {theirs}: that is no comparison of code; give both sides the same "
            "CUDA_VISIBLE_DEVICES"
        )
    turns = {Interleave.BLOCK: "some iterations each", Interleave.LAUNCH: "whole launches one after the other"}
    where, turn = "GPU" if two.gpu else "CPUs", turns.get(plan.interleave, "an iteration or a few each")
    pairs = count(plan.launches, "pair")
    how = (
        "Both ran in one process, one iteration each in turn, in random order."
        if plan.one_process
        else f"Both ran on the same {where} in turn, {turn}, in up to {pairs} of fresh processes."
    )
    if request.settings.cold_l2:
        how += " The L2 cache was emptied before every reading."
    commits = [side.commit.checkout for side in (request.base, request.head) if side.commit is not None]
    versions = [("Python", one.python, two.python), ("torch", one.torch, two.torch)]
    return Header(
        base=request.base.label,
        head=request.head.label,
        how=how,
        machine=f"{two.gpu or two.cpu}, {count(two.cpu_count, 'CPU')}, torch {two.torch}",
        tolerances=plan.tolerances,
        source=request.source,
        base_commit=request.base.commit.known if request.base.commit else None,
        head_commit=request.head.commit.known if request.head.commit else None,
        server=request.server,
        commands=request.reproduction,
        bisect_options=request.bisect_options,
        warnings=(
            *(["base and head are the same commit"] if len(commits) == 2 and commits[0] == commits[1] else []),
            *(f"{part} differs: {mine} against {theirs}" for part, mine, theirs in versions if mine != theirs),
            *(reason for reason in one.comparable_to(two) if reason != MACHINE_UNKNOWN),  # it is this one
            *(f"base cannot load {suite}, so nothing of it is compared: {why}" for suite, why in base.broken.items()),
            *left_out_warnings({**base.processes.left_out, **head.processes.left_out}),
        ),
    )


def shared_cpus(threads: int | None) -> tuple[int, ...]:
    """Choose the CPUs both sides are pinned to: as many as they have threads, the last ones (interrupts like the
    first)."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    mine = sorted(os.sched_getaffinity(0))
    return tuple(mine[-(threads or len(mine)) :])


class CaseBudget:
    """Shares the seconds for all cases out among them: what one leaves goes to the others, up to twice its usual time.

    usual: seconds of sampling per case. Kept back is as much as those cases took that have to be measured again.
    lanes: cases that are measured at the same time.
    """

    def __init__(
        self, seconds: float | None, *, usual: float, lanes: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock, self._usual, self._lanes = clock, usual, lanes
        self._ends = math.inf if seconds is None else clock() + seconds
        self._besides: list[float] = []
        self._kept = 0.0

    def share(self, cases: int, *, again: bool = False) -> float:
        """Return the seconds of sampling for the next of so many cases, less what cases take beside it; 0 when none are
        left."""
        usual = CONFIRMATION * self._usual if again else self._usual
        left = self._ends - self._clock() - (0.0 if again else self._kept / self._lanes)
        if math.isinf(left):
            return usual
        beside = fmean(self._besides) if self._besides else 0.0
        share = left * min(self._lanes, cases) / cases - beside
        return max(LEAST_SECONDS / 2, min(2 * usual, share)) if left > 0 else 0.0

    def note(self, seconds: float, *, sampling: float, to_repeat: bool) -> None:
        """Note how long a case took in all."""
        self._besides.append(max(0.0, seconds - sampling))
        if to_repeat:
            self._kept += seconds


@dataclass(slots=True)
class _Lane:
    """A device that cases are compared on, with processes of its own for both sides. `lost`: why it is no more."""

    place: str
    base: LiveSide
    head: LiveSide
    comparer: CaseComparer
    lost: str = ""

    def check(self, measured: Measured, planned: PlannedCase, log: Path) -> None:
        """Try the device in a worker of its own after a failure that may come from it."""
        said = [side.failure for side in (measured.base, measured.head) if side is not None and side.failure]
        if planned.device.startswith("cpu") or not any(map(may_be_of_the_device, said)):
            return
        try:
            with self.head.process(0).fork(log) as worker:
                worker.ask("probe_device", device=planned.device, deadline=time.monotonic() + PROBE_LIMIT)
        except WorkerError as error:
            self.lost = "" if is_lack_of_room(error) else f"the device {planned.device} was lost: {error.reason}"


class LiveComparison:
    """A comparison under way. `measured` holds what is finished, in the order of `cases`, also when it is interrupted.

    Where cases are spread over devices, both sides of a case run on one of them.
    """

    def __init__(
        self,
        request: CompareRequest,
        base: LiveSide,
        head: LiveSide,
        folder: ResultsFolder,
        *,
        earlier: Sequence[Mapping[str, LaunchNoise]] = (),
    ) -> None:
        """earlier: what launches of cases differed by, by metric, in earlier comparisons on this machine.

        Raises `NothingToJudge` when no case is common and `UsageProblem` when the budget is too small."""
        self.cases = collect_cases(base, head, request.selection)
        self._unconfirmed = 0
        self._request, self._sides, self._folder = request, (base, head), folder
        self._plan = replace(request.plan, family=len(self.cases))
        self._finished: dict[int, Measured] = {}
        self._earlier, self._spreads = earlier, list(earlier)
        budget, least = request.settings.budget, math.ceil(len(self.cases) * LEAST_SECONDS)
        if budget is not None and budget / len(self.cases) < LEAST_SECONDS:
            share = format_digits(budget / len(self.cases), 2)
            raise UsageProblem(
                f"--budget {budget:g} leaves {share} s for each of {len(self.cases)} cases, too "
                f"little for two rounds; give at least {least}, or choose fewer cases with --filter"
            )
        refuse_cold_l2(self.cases, request.settings)

    @property
    def measured(self) -> list[Measured]:
        return [self._finished[number] for number in sorted(self._finished)]

    @property
    def unmeasured(self) -> int:
        """Count the cases that are still to be measured, or to be measured again."""
        return len(self.cases) - len(self._finished) + self._unconfirmed

    def run(self, listener: CaseListener) -> None:
        """Measure every case, then those that look worse or better once more, in fresh processes: what differs by
        accident, of the processes or of the minute, does not differ twice."""
        with ExitStack() as stack:
            lanes = self._make_lanes(stack)
            budget = CaseBudget(self._request.settings.budget, usual=self._plan.seconds, lanes=len(lanes))
            self._measure(lanes, range(len(self.cases)), budget, listener, again=False)
            changed = [
                number
                for number, measured in zip(
                    sorted(self._finished), share_launch_noise(self.measured, self._earlier), strict=True
                )
                if is_to_repeat(measured, self._plan.tolerances)
            ]
            self._unconfirmed = len(changed)
            for lane in lanes if changed else ():
                lane.base.processes.renew()
                lane.head.processes.renew()
            self._measure([lane for lane in lanes if not lane.lost], changed, budget, listener, again=True)

    def _make_lanes(self, stack: ExitStack) -> list[_Lane]:
        """Make a lane per device that cases are spread over, or one for all cases."""
        base, head = self._sides
        places, settings = head.places or ("",), self._request.settings
        cpus = cpu_sets(places, head.survey.accelerators, my_cpus()) if len(places) > 1 else {}
        watch = partial(watched_gpu, accelerators=head.survey.accelerators, environ=head.survey.build.variables)
        lanes = []
        for number, place in enumerate(places):
            if number:
                base, head = (
                    replace(side, processes=stack.enter_context(side.processes.make_more())) for side in self._sides
                )
            pinned = cpus[place][-(settings.threads or len(cpus[place])) :] if cpus else settings.cpus
            comparer = CaseComparer(
                {"base": base, "head": head}, replace(settings, cpus=pinned), self._claim_logs, watch=watch
            )
            lanes.append(_Lane(place=place, base=base, head=head, comparer=comparer))
        return lanes

    def _measure(
        self, lanes: Sequence[_Lane], numbers: Sequence[int], budget: CaseBudget, listener: CaseListener, *, again: bool
    ) -> None:
        """Measure these cases on the lanes, and tell of each; those that no lane is left for are refused."""
        lock, waiting, done = threading.Lock(), itertools.count(len(numbers), -1), itertools.count(1)

        def finish(number: int, measured: Measured) -> None:
            with lock:
                before = self._finished.get(number)
                self._finished[number] = measured if before is None else replace(before, again=measured)
                self._unconfirmed -= before is not None
                if measured.spread and measured.between == self._plan.between:
                    self._spreads.append(measured.spread)
                listener(next(done), len(numbers), self._finished[number], again)

        def measure_case(lane: _Lane, number: int) -> bool:
            planned = replace(self.cases[number], place=lane.place)
            with lock:
                seconds = budget.share(next(waiting), again=again)
            finish(number, self._measure_case(lane, planned, budget, seconds, attempt=int(again)))
            return not (lane.place and lane.lost)

        def stop() -> None:
            for lane in lanes:
                lane.base.processes.stop()
                lane.head.processes.stop()

        left = work_on_lanes(numbers, lanes, measure_case, stop=stop) if lanes else numbers
        for number in left:
            finish(number, _not_measured(self.cases[number], "every device was lost before its turn"))

    def _measure_case(
        self, lane: _Lane, planned: PlannedCase, budget: CaseBudget, seconds: float, *, attempt: int = 0
    ) -> Measured:
        if not seconds:
            return _not_measured(
                planned, f"the budget of {self._request.settings.budget:g} s was spent before its turn"
            )
        start = time.monotonic()
        family = len(self.cases) - sum(each.spared for each in [*self._finished.values()])
        launches = self._plan.launches * (CONFIRMATION if attempt and not self._plan.one_process else 1)
        plan = replace(
            self._plan, seconds=seconds, launches=launches, family=family, noise=pool_launch_noise(self._spreads)
        )
        measured = lane.comparer.compare(planned, plan, attempt=attempt)
        lane.check(measured, planned, self._folder.claim(f"{LOGS}/device.log"))
        if lane.lost:
            measured = _not_measured(planned, lane.lost)
        spent = time.monotonic() - start
        if not measured.spared:  # others take longer beside their sampling
            to_repeat = not attempt and is_to_repeat(measured, self._plan.tolerances)
            budget.note(spent, sampling=measured.seconds, to_repeat=to_repeat)
        return replace(measured, wall_seconds=spent)

    def _claim_logs(self, planned: PlannedCase, side: str) -> list[Path]:
        return claim_logs(self._folder, planned, side)


def _not_measured(planned: PlannedCase, why: str) -> Measured:
    return Measured(case=planned.case, base=SideResult(), head=SideResult(), refusals=(why,))
