"""Measure a plan: what the results folder does not hold yet, each record appended as soon as it is known."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

from torchperf_ci.core.records import Record, Source, Status, Testing
from torchperf_ci.core.results import ResultsFolder, read_results
from torchperf_ci.run.case_worker import Settings
from torchperf_ci.run.lanes import cpu_sets, my_cpus, work_on_lanes
from torchperf_ci.run.plan import Plan, PlannedCase
from torchperf_ci.run.runner import Runner, Surroundings
from torchperf_ci.run.session import Preloaded
from torchperf_ci.run.survey import Python, Survey


class RunProgress(Protocol):
    """Is told what happens, in order: how much there is to do, each case as it starts and as its records are there."""

    def begin(self, *, total: int, already: int) -> None: ...

    def start(self, case: PlannedCase) -> None: ...

    def finish(self, records: Sequence[Record]) -> None: ...


def measure_plan(
    plan: Plan,
    survey: Survey,
    settings: Settings,
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
