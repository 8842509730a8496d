"""The two sides of a live comparison: what each has, and the union of their cases."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.records import Case, Environment, Status
from torchperf_ci.machine.host import LEAST_MEMORY, memory_left
from torchperf_ci.run.counting import InstructionCounting
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
from torchperf_ci.run.session import Preloaded, Stopped, WorkerError
from torchperf_ci.run.survey import Survey


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
