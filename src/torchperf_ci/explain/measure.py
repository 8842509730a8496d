"""Take the evidence: some pairs of processes of both sides, profiled in turn, one of them inspected in full."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import msgspec

from torchperf_ci.compare.live import Side, Sides
from torchperf_ci.compare.model import Sameness
from torchperf_ci.compare.sameness import compare_programs
from torchperf_ci.compare.sides import LiveSide
from torchperf_ci.core.results import LOGS, ResultsFolder
from torchperf_ci.core.text import safe_name
from torchperf_ci.explain.model import (
    CallProfile,
    CompilerArtefacts,
    Evidence,
    ProfiledTurn,
    SeenIteration,
    SideEvidence,
)
from torchperf_ci.run.case_worker import CaseSettings, CaseWorker, ProgramTrace, arm_times
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.runner import cache_folder
from torchperf_ci.run.session import WorkerError
from torchperf_ci.run.world import log_names, start_worker

LAUNCHES = 3
"""Pairs of processes: those of equal code differ a little, and one pair would take that for a cause."""

TURNS = 4
"""Turns per pair of processes."""

_SECONDS = 0.15
"""Seconds that a side is timed, and again profiled, in a turn."""

_MOST_READINGS = 200
_WARM_UP = 3
_LONGEST_LOG = 20_000


@dataclass(slots=True)
class _Notes:
    """The notes on a side so far."""

    seen: SeenIteration = field(default_factory=SeenIteration)
    operators: Mapping[str, int] = field(default_factory=dict)
    artefacts: list[CompilerArtefacts] = field(default_factory=list)
    code: str = ""
    compile_seconds: list[float] = field(default_factory=list)
    counters: Mapping[str, int] = field(default_factory=dict)
    log: str = ""
    failure: str = ""
    trace: ProgramTrace | None = None


class CaseExplainer:
    """Takes the evidence of one case after the other. folder: where traces and logs go."""

    def __init__(self, base: LiveSide, head: LiveSide, settings: CaseSettings, folder: ResultsFolder) -> None:
        self._sides = Sides(base=base, head=head)
        self._settings, self._folder = settings, folder
        self._environments = {"base": list_environment(base), "head": list_environment(head)}

    def take(self, planned: PlannedCase, at: str, *, until: float) -> Evidence:
        """Take the evidence of a case. at: the folder for traces, in the results folder. until: a time of
        `time.monotonic` after which no further launch begins."""
        sides = {name: self._sides.of(name).planned(planned) for name in ("base", "head")}
        cases = {name: case for name, case in sides.items() if case is not None}
        notes = {name: _Notes() for name in sides}
        if len(cases) < len(sides) or any(case.world > 1 for case in cases.values()):
            why = "it is missing on a side" if len(cases) < len(sides) else "it runs in several processes"
            return self._conclude(notes, [], None, problem=f"{why}, and is not profiled")
        turns: list[ProfiledTurn] = []
        problem, start = "", time.monotonic()
        with ExitStack() as kept:
            caches = {name: kept.enter_context(cache_folder()) for name in sides}
            for launch in range(LAUNCHES):
                each = (time.monotonic() - start) / max(1, launch)
                if launch and time.monotonic() + each > until:
                    break
                with ExitStack() as stack:
                    workers = self._start_both(stack, cases, launch, caches, notes)
                    problem = next(
                        (f"{name} fails: {note.failure}" for name, note in notes.items() if note.failure), ""
                    )
                    if problem:
                        break
                    try:
                        turns += self._take_turns(workers, cases, launch)
                        if launch == 0:
                            self._inspect(workers, cases, notes, at)
                    except WorkerError as error:
                        problem = f"it cannot be profiled: {error.reason}"
                        break
        traces = [note.trace for note in notes.values()]
        sameness = None
        if traces[0] is not None and traces[1] is not None:
            sameness = compare_programs(traces[0], traces[1], compiler=cases["head"].case.compiler)
        return self._conclude(notes, turns, sameness, problem=problem)

    def _conclude(
        self, notes: Mapping[str, _Notes], turns: Sequence[ProfiledTurn], sameness: Sameness | None, *, problem: str
    ) -> Evidence:
        base, head = (
            SideEvidence(
                seen=note.seen,
                operators=note.operators,
                artefacts=note.artefacts,
                code=note.code,
                compile_seconds=note.compile_seconds,
                counters=note.counters,
                environment=self._environments[name],
                log=note.log,
                failure=note.failure,
            )
            for name, note in sorted(notes.items())
        )
        return Evidence(base=base, head=head, turns=turns, sameness=sameness, problem=problem)

    def _start_both(
        self,
        stack: ExitStack,
        cases: Mapping[str, PlannedCase],
        launch: int,
        caches: Mapping[str, str],
        notes: Mapping[str, _Notes],
    ) -> dict[str, CaseWorker]:
        """Start the workers of a launch, in random order; one that fails is missing, and noted."""
        for name in cases:  # both import at the same time
            self._sides.of(name).begin(launch)
        order = random.Random(launch).sample(sorted(cases), len(cases))  # noqa: S311 - an order, no secret
        started = {name: self._start(stack, name, cases[name], launch, caches[name], notes[name]) for name in order}
        return {name: worker for name, worker in started.items() if worker is not None}

    def _start(
        self, stack: ExitStack, name: str, planned: PlannedCase, launch: int, cache: str, note: _Notes
    ) -> CaseWorker | None:
        """Start a worker of a side, ready to be profiled; None when it fails, which is then noted.

        The compilers' caches are empty in the first launch, whose artefacts count; later ones find them filled.
        """
        side: Side = self._sides.of(name)
        deadline = time.monotonic() + self._settings.timeout
        watches = launch == 0 and not planned.is_test
        logs = [self._folder.claim(log) for log in log_names(self._log_of(planned, name), planned.world)]
        try:
            preloaded = side.process(launch)
            worker = CaseWorker(
                stack.enter_context(start_worker(preloaded, planned, self._settings, logs, deadline=deadline)),
                planned,
                self._settings,
                deadline=deadline,
            )
            worker.load(cache_dir=cache, watch=watches, artefacts=True)
            if planned.arm == "compiled":
                note.compile_seconds.append(worker.compile())
                note.counters = worker.capture().counters
            if watches:
                note.trace = worker.trace()
            worker.settle()
            note.artefacts.append(msgspec.convert(worker.ask("artefacts"), type=CompilerArtefacts))
        except WorkerError as error:
            note.failure = f"{error.status}: {error.reason}"
            note.log = logs[0].read_text(encoding="utf-8", errors="replace")[-_LONGEST_LOG:]
            return None
        return worker

    def _log_of(self, planned: PlannedCase, side: str) -> str:
        parts = (side, planned.case.suite, planned.case.model, planned.case.compiler, planned.case.dtype)
        return f"{LOGS}/explain_{safe_name('_'.join(safe_name(part) for part in parts))}.log"

    def _take_turns(
        self, workers: Mapping[str, CaseWorker], planned: Mapping[str, PlannedCase], launch: int
    ) -> list[ProfiledTurn]:
        """Take turns, the side that begins changing in balanced order. What a turn times first warms it up."""
        readings = {}
        for name, worker in workers.items():
            arm = planned[name].arm
            times = [_time(worker, arm, 1) for _ in range(_WARM_UP)]
            readings[name] = max(1, min(_MOST_READINGS, int(_SECONDS / max(min(times), 1e-6))))
        turns = []
        for number in range(TURNS):
            taken = {}
            for name in sorted(workers, reverse=number % 2 == 1):
                worker, arm = workers[name], planned[name].arm
                wall = _time(worker, arm, readings[name])
                profile = worker.ask("profile", arm=arm, seconds=_SECONDS)
                taken[name] = CallProfile(
                    wall=1e9 * wall,
                    profiled=profile["wall"],
                    outside=profile["outside"],
                    events=profile["events"],
                    host=_read_calls(profile["host"]),
                    device=_read_calls(profile["device"]),
                )
            turns.append(ProfiledTurn(launch=launch, base=taken["base"], head=taken["head"]))
        return turns

    def _inspect(
        self,
        workers: Mapping[str, CaseWorker],
        planned: Mapping[str, PlannedCase],
        notes: Mapping[str, _Notes],
        at: str,
    ) -> None:
        for name, worker in workers.items():
            trace = self._folder.claim(f"{at}/{name}.trace.json.gz").absolute()
            arm = planned[name].arm
            inspected = worker.ask("inspect", arm=arm, trace=str(trace))
            notes[name].seen = msgspec.convert(inspected, type=SeenIteration)
            counted = worker.ask("count", arm=arm, detail=True)
            notes[name].code, notes[name].operators = counted["code"], dict(counted["operators"])


def _time(worker: CaseWorker, arm: str, readings: int) -> float:
    """Time some iterations without a profiler; return the median seconds, of the device where it has events."""
    times = arm_times(worker.sample([[arm]] * readings, {arm: 1}), arm)
    return median(host if device is None else device for host, device in times)


def _read_calls(listed: Sequence[Sequence[Any]]) -> Mapping[str, tuple[float, float]]:
    return {str(name): (float(calls), float(nanoseconds)) for name, calls, nanoseconds in listed}


def list_environment(side: LiveSide) -> dict[str, str]:
    """List what surrounds the cases of a side, by name: Python, packages, driver, variables, dynamo's flags."""
    build, environment = side.survey.build, side.environment
    named = {
        "Python": environment.python,
        "torch": environment.torch,
        "CUDA": environment.cuda,
        "HIP": environment.hip,
        "GPU driver": environment.driver,
        "threads": environment.threads,
    }
    return {
        **{name: str(value) for name, value in named.items() if value},
        **{f"package {name}": version for name, version in build.packages.items()},
        **{f"variable {name}": value for name, value in build.variables.items()},
        **{f"flag {name}": str(value) for name, value in build.dynamo_flags.items()},
    }
