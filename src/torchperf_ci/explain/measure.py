"""Take the evidence: some pairs of processes of both sides, profiled in turn, one of them inspected in full."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any

import msgspec

from torchperf_ci.compare.live import compare_programs
from torchperf_ci.compare.model import Sameness
from torchperf_ci.compare.session import LiveSide
from torchperf_ci.core.results import ResultsFolder
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
from torchperf_ci.run.world import claim_logs, start_case

LAUNCHES = 3
"""Pairs of processes: those of equal code differ a little, and one pair would take that for a cause."""

TURNS = 4
"""Turns per pair of processes."""

_SECONDS = 0.15
"""Seconds that a side is timed, and again profiled, in a turn."""

_MOST_READINGS = 200
_WARM_UP = 3
_LONGEST_LOG = 20_000


class CaseExplainer:
    """Takes the evidence of one case after the other. folder: where traces and logs go."""

    def __init__(self, base: LiveSide, head: LiveSide, settings: CaseSettings, folder: ResultsFolder) -> None:
        self._sides = {"base": base, "head": head}
        self._settings, self._folder = settings, folder
        self._untaken = {name: SideEvidence(environment=list_environment(side)) for name, side in self._sides.items()}
        self._taken: dict[str, SideEvidence] = {}
        self._traces: dict[str, ProgramTrace] = {}

    def take(self, planned: PlannedCase, at: str, *, until: float) -> Evidence:
        """Take the evidence of a case. at: the folder for traces, in the results folder. until: a time of
        `time.monotonic` after which no further launch begins."""
        sides = {name: side.planned(planned) for name, side in self._sides.items()}
        cases = {name: case for name, case in sides.items() if case is not None}
        self._taken, self._traces = dict(self._untaken), {}
        if len(cases) < len(sides) or any(case.world > 1 for case in cases.values()):
            why = "it is missing on a side" if len(cases) < len(sides) else "it runs in several processes"
            return self._conclude([], problem=f"{why}, and is not profiled")
        turns: list[ProfiledTurn] = []
        problem, start = "", time.monotonic()
        with ExitStack() as kept:
            caches = {name: kept.enter_context(cache_folder()) for name in sides}
            for launch in range(LAUNCHES):
                each = (time.monotonic() - start) / max(1, launch)
                if launch and time.monotonic() + each > until:
                    break
                with ExitStack() as stack:
                    workers = self._start_both(stack, cases, launch, caches)
                    problem = next(
                        (f"{name} fails: {side.failure}" for name, side in self._taken.items() if side.failure), ""
                    )
                    if problem:
                        break
                    try:
                        turns += self._take_turns(workers, cases, launch)
                        if launch == 0:
                            self._inspect(workers, cases, at)
                    except WorkerError as error:
                        problem = f"it cannot be profiled: {error.reason}"
                        break
        sameness = None
        if len(self._traces) == len(cases):
            compiler = cases["head"].case.compiler
            sameness = compare_programs(self._traces["base"], self._traces["head"], compiler=compiler)
        return self._conclude(turns, sameness, problem=problem)

    def _conclude(self, turns: Sequence[ProfiledTurn], sameness: Sameness | None = None, *, problem: str) -> Evidence:
        base, head = self._taken["base"], self._taken["head"]
        return Evidence(base=base, head=head, turns=turns, sameness=sameness, problem=problem)

    def _note(self, name: str, **fields: Any) -> None:  # noqa: ANN401 - fields of SideEvidence
        self._taken[name] = replace(self._taken[name], **fields)

    def _start_both(
        self,
        stack: ExitStack,
        cases: Mapping[str, PlannedCase],
        launch: int,
        caches: Mapping[str, str],
    ) -> dict[str, CaseWorker]:
        """Start the workers of a launch, in random order; one that fails is missing, and noted."""
        for name in cases:  # both import at the same time
            self._sides[name].begin(launch)
        order = random.Random(launch).sample(sorted(cases), len(cases))  # noqa: S311 - an order, no secret
        started = {name: self._start(stack, name, cases[name], launch, caches[name]) for name in order}
        return {name: worker for name, worker in started.items() if worker is not None}

    def _start(self, stack: ExitStack, name: str, planned: PlannedCase, launch: int, cache: str) -> CaseWorker | None:
        """Start a worker of a side, ready to be profiled; None when it fails, which is then noted.

        The compilers' caches are empty in the first launch, whose artefacts count; later ones find them filled.
        """
        deadline = time.monotonic() + self._settings.timeout
        watches = launch == 0 and not planned.is_test
        logs = claim_logs(self._folder, planned, f"explain_{name}")
        try:
            preloaded = self._sides[name].process(launch)
            worker = stack.enter_context(start_case(preloaded, planned, self._settings, logs, deadline=deadline))
            worker.load(cache_dir=cache, watch=watches, artefacts=True)
            if planned.arm == "compiled":
                self._note(name, compile_seconds=(*self._taken[name].compile_seconds, worker.compile()))
                self._note(name, counters=worker.capture().counters)
            if watches:
                self._traces[name] = worker.trace()
            worker.settle()
            artefacts = msgspec.convert(worker.ask("artefacts"), type=CompilerArtefacts)
            self._note(name, artefacts=(*self._taken[name].artefacts, artefacts))
        except WorkerError as error:
            log = logs[0].read_text(encoding="utf-8", errors="replace")[-_LONGEST_LOG:]
            self._note(name, failure=f"{error.status}: {error.reason}", log=log)
            return None
        return worker

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

    def _inspect(self, workers: Mapping[str, CaseWorker], planned: Mapping[str, PlannedCase], at: str) -> None:
        for name, worker in workers.items():
            trace = self._folder.claim(f"{at}/{name}.trace.json.gz").absolute()
            arm = planned[name].arm
            seen = msgspec.convert(worker.ask("inspect", arm=arm, trace=str(trace)), type=SeenIteration)
            counted = worker.ask("count", arm=arm, detail=True)
            self._note(name, seen=seen, code=counted["code"], operators=dict(counted["operators"]))


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
