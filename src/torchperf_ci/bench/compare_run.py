"""A whole live comparison: set up both sides, measure every case, and what looks worse once more."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Protocol

from torchperf_ci.analysis.verdicts import Measured, SideResult, to_repeat
from torchperf_ci.bench.case_worker import Settings
from torchperf_ci.bench.checkouts import Checkout, Repository, put_suite
from torchperf_ci.bench.compare import CaseComparer, ComparePlan, Sides
from torchperf_ci.bench.plan import PlannedCase, Selection
from torchperf_ci.bench.run import python_under_test, survey
from torchperf_ci.bench.sides import LiveSide, Processes, all_cases, live_side
from torchperf_ci.errors import UsageProblem
from torchperf_ci.records import Source
from torchperf_ci.results import LOGS, ResultsFolder, safe_name

LEAST_SECONDS = 1.0
"""Less than this per case is no budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SideSpec:
    """How a side is made: its Python, its variables, its compiler (None: the case's), or its commit."""

    name: str
    python: str
    label: str
    environ: Mapping[str, str] = field(default_factory=dict)
    compiler: str | None = None
    commit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """What to compare and how.

    setup: the shell command that installs a commit in its environment. source: where head comes from.
    """

    base: SideSpec
    head: SideSpec
    selection: Selection
    settings: Settings
    plan: ComparePlan
    repository: Repository | None = None
    setup: str = ""
    command: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)


@contextmanager
def running_sides(request: CompareRequest, scratch: Path) -> Iterator[tuple[LiveSide, LiveSide]]:
    """Both sides, set up and started; everything that was made for them is gone after the block."""
    with ExitStack() as stack:
        yield (
            stack.enter_context(_running_side(request, request.base, scratch / "base")),
            stack.enter_context(_running_side(request, request.head, scratch / "head")),
        )


@contextmanager
def _running_side(request: CompareRequest, spec: SideSpec, scratch: Path) -> Iterator[LiveSide]:
    # Idle threads of one side must not spin on the CPUs where the other one is measured.
    environ = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    scratch.mkdir(parents=True)
    with ExitStack() as stack:
        selection, cwd, python = request.selection, None, spec.python
        if request.repository is not None and spec.commit is not None:
            checkout = stack.enter_context(_checkout(request, spec, scratch, environ))
            suites = tuple(put_suite(suite, request.repository, checkout.folder) for suite in selection.suites)
            selection, cwd, python = replace(selection, suites=suites), checkout.folder, checkout.python
        under_test = stack.enter_context(
            python_under_test(
                python,
                environ,
                threads=request.settings.threads,
                extra=spec.environ,
                log=scratch / "preload.log",
                cwd=cwd,
            )
        )
        processes = stack.enter_context(Processes(under_test.start))
        found = survey(processes.of(0), selection.suites, threads=request.settings.threads, command=request.command)
        yield live_side(spec.name, found, selection, processes, compiler=spec.compiler)


def _checkout(
    request: CompareRequest, spec: SideSpec, scratch: Path, environ: Mapping[str, str]
) -> contextlib.AbstractContextManager[Checkout]:
    assert request.repository is not None
    assert spec.commit is not None
    return request.repository.checkout(
        spec.label, spec.commit, python=spec.python, setup=request.setup, at=scratch, environ=environ
    )


def shared_cpus(threads: int | None) -> tuple[int, ...]:
    """The CPUs both sides are pinned to: as many as they have threads, the last ones (interrupts like the first)."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    mine = sorted(os.sched_getaffinity(0))
    return tuple(mine[-(threads or len(mine)) :])


class Progress(Protocol):
    """Hears of each case as it is done; `again` is the second measurement of what looked bad."""

    def __call__(self, number: int, total: int, measured: Measured, *, again: bool) -> None: ...


class CaseBudget:
    """Shares the seconds for all cases out among them: what one leaves goes to the others, up to twice its usual time.

    usual: seconds of sampling per case. Kept back is as much as those cases took that have to be measured again.
    """

    def __init__(self, seconds: float | None, *, usual: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._usual = clock, usual
        self._ends = math.inf if seconds is None else clock() + seconds
        self._besides: list[float] = []
        self._kept = 0.0

    def share(self, cases: int, *, again: bool = False) -> float:
        """Seconds of sampling for the next of so many cases, less what cases take beside it; 0 when none are left."""
        left = self._ends - self._clock() - (0.0 if again else self._kept)
        if math.isinf(left):
            return self._usual
        beside = fmean(self._besides) if self._besides else 0.0
        return max(LEAST_SECONDS / 2, min(2 * self._usual, left / cases - beside)) if left > 0 else 0.0

    def took(self, seconds: float, *, sampling: float, to_repeat: bool) -> None:
        """A case took so long in all."""
        self._besides.append(max(0.0, seconds - sampling))
        if to_repeat:
            self._kept += seconds


class LiveComparison:
    """A comparison under way. `measured` holds what is finished, also when it is interrupted."""

    def __init__(self, request: CompareRequest, base: LiveSide, head: LiveSide, folder: ResultsFolder) -> None:
        """Raises `NothingToJudge` when no case is common and `UsageProblem` when the budget is too small."""
        self.cases = all_cases(base, head, request.selection)
        self.measured: list[Measured] = []
        self._unconfirmed = 0
        self._request, self._sides, self._folder = request, (base, head), folder
        self._comparer = CaseComparer(Sides(base=base, head=head), request.settings, self._log)
        self._plan = replace(request.plan, family=len(self.cases))
        _refuse_small_budget(request.settings.budget, len(self.cases))

    @property
    def unmeasured(self) -> int:
        """The cases that are still to be measured, or to be measured again."""
        return len(self.cases) - len(self.measured) + self._unconfirmed

    def run(self, tell: Progress) -> None:
        """Measure every case, then those that look worse once more, in fresh processes."""
        budget, total = CaseBudget(self._request.settings.budget, usual=self._plan.seconds), len(self.cases)
        for number, planned in enumerate(self.cases, start=1):
            self.measured.append(self._measured(planned, budget, budget.share(total - number + 1)))
            tell(number, total, self.measured[-1], again=False)
        self._confirm(tell, budget)

    def _measured(self, planned: PlannedCase, budget: CaseBudget, seconds: float, *, attempt: int = 0) -> Measured:
        if not seconds:
            return _not_measured(
                planned, f"the budget of {self._request.settings.budget:g} s was spent before its turn"
            )
        start = time.monotonic()
        measured = self._comparer.compare(planned, replace(self._plan, seconds=seconds), attempt=attempt)
        spent = time.monotonic() - start
        budget.took(spent, sampling=measured.seconds, to_repeat=not attempt and self._is_to_repeat(measured))
        return measured

    def _is_to_repeat(self, measured: Measured) -> bool:
        return to_repeat(measured, self._plan.tolerances)

    def _confirm(self, tell: Progress, budget: CaseBudget) -> None:
        """What is bad by accident, of the processes or of the minute, is not bad twice."""
        bad = [place for place, measured in enumerate(self.measured) if self._is_to_repeat(measured)]
        self._unconfirmed = len(bad)
        if bad:
            for side in self._sides:
                side.processes.renew()
        for number, place in enumerate(bad, start=1):
            seconds = budget.share(len(bad) - number + 1, again=True)
            again = self._measured(self.cases[place], budget, seconds, attempt=1)
            self.measured[place] = replace(self.measured[place], again=again)
            self._unconfirmed -= 1
            tell(number, len(bad), self.measured[place], again=True)

    def _log(self, planned: PlannedCase, side: str) -> Path:
        parts = (side, planned.case.suite, planned.case.model, planned.case.compiler, planned.case.dtype)
        return self._folder.claim(f"{LOGS}/{safe_name('_'.join(safe_name(part) for part in parts))}.log")


def _not_measured(planned: PlannedCase, why: str) -> Measured:
    return Measured(case=planned.case, base=SideResult(), head=SideResult(), refusals=(why,))


def _refuse_small_budget(budget: float | None, cases: int) -> None:
    if budget is not None and budget / cases < LEAST_SECONDS:
        raise UsageProblem(
            f"--budget {budget:g} leaves {budget / cases:.2g} s for each of {cases} cases, too little for two rounds; "
            f"give at least {math.ceil(cases * LEAST_SECONDS)}, or choose fewer cases with --filter"
        )
