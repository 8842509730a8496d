"""A whole run: ask the Python under test what there is, plan, measure what is not recorded yet, append the records."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Build, Environment, Record, Source, Status, Testing, environment_from
from torchperf_ci.core.results import ResultsFolder, read_results
from torchperf_ci.core.text import name_problem, one_line
from torchperf_ci.machine.accelerators import Accelerator, Signs, accelerators_from, read_signs
from torchperf_ci.run.case_worker import Settings
from torchperf_ci.run.lanes import cpu_sets, my_cpus, unlike_devices, work_on_lanes
from torchperf_ci.run.plan import Machine, Plan, PlannedCase, Selection, SuiteListing, make_plan, suite_spec
from torchperf_ci.run.runner import Runner, Surroundings
from torchperf_ci.run.session import (
    Preloaded,
    WorkerError,
    is_shared_machine,
    package_path,
    worker_environment,
)

_SETS_VARIABLE = re.compile(r"--(extra|base|head)[-_]env")

_QUESTION_LIMIT = 120.0
_MOST_PROBLEMS = 5


class Progress(Protocol):
    """Is told what happens, in order: how much there is to do, each case as it starts and as its records are there."""

    def begin(self, *, total: int, already: int) -> None: ...

    def start(self, case: PlannedCase) -> None: ...

    def finish(self, records: Sequence[Record]) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """The Python under test, the variables its processes get, and the folder they run in (None: this one)."""

    executable: str
    environ: Mapping[str, str]
    log: Path
    cwd: Path | None = None

    def start(self) -> Preloaded:
        """A preloaded process of it."""
        return Preloaded(self.executable, self.environ, log=self.log, cwd=self.cwd)


@contextmanager
def python_under_test(
    executable: str,
    environ: Mapping[str, str],
    *,
    threads: int | None,
    extra: Mapping[str, str],
    log: Path,
    cwd: Path | None = None,
) -> Iterator[Python]:
    """`executable` with this package on its path while the block runs; nothing is installed into it."""
    with package_path(worker_environment(environ, threads=threads, extra=extra)) as prepared:
        yield Python(executable=executable, environ=prepared, log=log, cwd=cwd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the Python under test said: machine, environment, suites, accelerators."""

    machine: Machine
    build: Build
    suites: tuple[SuiteListing, ...]
    accelerators: tuple[Accelerator, ...] = ()

    @property
    def environment(self) -> Environment:
        return self.build.environment


def survey(preloaded: Preloaded, suites: Sequence[str], *, threads: int | None, command: Sequence[str]) -> Survey:
    """Ask for the environment and the suites, each in a worker of its own. Raises `UsageProblem` for a bad suite."""
    told = question(preloaded, "environment", threads=threads)
    environment = environment_from(told["environment"])
    listed = {name: list_suite(preloaded, name) for name in dict.fromkeys(suites)}
    return Survey(
        machine=Machine(
            devices=told["devices"],
            compilers=tuple(told["compilers"]),
            dtypes=tuple(told["dtypes"]),
            torch=environment.torch,
            signs=Signs() if told["accelerators"] else read_signs(told["unusable_accelerator"], told["variables"]),
        ),
        build=Build(
            environment=environment,
            dynamo_flags=told["dynamo_flags"],
            variables=told["variables"],
            packages=told["packages"],
            suites={suite.name: name for name, suite in listed.items() if suite.name != name},
            warnings=tuple(_warnings(environment)),
            command=tuple(without_values(command)),
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ),
        suites=tuple(listed.values()),
        accelerators=accelerators_from(told["accelerators"]),
    )


def note_settings(found: Survey, settings: Settings) -> Survey:
    """Put into the environment those settings that decide whether times may be compared."""
    if not settings.cold_l2:
        return found
    environment = replace(found.environment, l2_cache="cold")
    return replace(found, build=replace(found.build, environment=environment))


def refuse_cold_l2(cases: Iterable[PlannedCase], settings: Settings) -> None:
    """Raise `UsageProblem` where a cache is to be emptied that torch knows nothing about."""
    if settings.cold_l2 and any(planned.device.startswith(("cpu", "mps")) for planned in cases):
        raise UsageProblem(
            "--cold-l2 empties the L2 cache of CUDA, ROCm and XPU devices; leave it out, or choose one with --devices"
        )


def without_values(command: Sequence[str]) -> Iterator[str]:
    """The arguments, but of variables that are set with an option (`--extra-env` and its like) their names alone: a
    record goes where nobody should read a token."""
    is_variable = False
    for argument in command:
        option, equals, rest = argument.partition("=")
        if is_variable:
            yield f"{option}=…" if equals else argument
        elif _SETS_VARIABLE.fullmatch(option) and equals:
            yield f"{option}={rest.partition('=')[0]}=…"
        else:
            yield argument
        is_variable = not equals and not is_variable and _SETS_VARIABLE.fullmatch(option) is not None


def list_suite(preloaded: Preloaded, name: str) -> SuiteListing:
    """What the suite `name` (a name, a file, a module) holds. Raises `UsageProblem` when it cannot be used."""
    spec = suite_spec(name)
    told = question(preloaded, "suite", spec=spec)
    if told["missing"]:
        raise UsageProblem(f"suite {name} cannot run here: {told['missing']}")
    if problems := list(_name_problems(told["name"], told["models"])):
        raise UsageProblem("\n".join(f"suite {one_line(name, limit=200)}: {problem}" for problem in problems))
    return SuiteListing(
        spec=spec,
        name=told["name"],
        models=tuple(told["models"]),
        quick=tuple(told["quick"]),
        groups={name: tuple(models) for name, models in told["groups"].items()},
        preload=tuple(told["preload"]),
        worlds=told["worlds"],
        skips=tuple(told["skips"]),
    )


def _name_problems(suite: str, models: Sequence[str]) -> Iterator[str]:
    """Say which names cannot be kept apart, shown or written, the first few of them."""
    if problem := name_problem(suite):
        yield f"its name {suite[:60]!r} {problem}; rename the file or the module"
    problems = ((model, problem) for model in models if (problem := name_problem(model, may_have_folders=True)))
    for model, problem in islice(problems, _MOST_PROBLEMS):
        yield f"the name of its model {model[:60]!r} {problem}; rename it in MODELS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A planned run, ready to measure."""

    plan: Plan
    survey: Survey
    settings: Settings
    source: Source
    folder: ResultsFolder
    python: Python

    def measure(self, preloaded: Preloaded, progress: Progress) -> list[Record]:
        """Measure what the folder does not hold yet, appending each record as soon as it is known; the new records."""
        done = read_results(self.folder.path).done()
        todo = [
            (planned, missing)
            for planned in self.plan.cases
            if (missing := [t for t in self.settings.testings if (planned.case, t) not in done])
        ]
        self.folder.append(self.survey.build)
        progress.begin(total=len(todo), already=len(self.plan.cases) - len(todo))
        made: list[Record] = []
        writing = threading.Lock()
        surroundings = Surroundings(
            environment=self.survey.environment,
            source=self.source,
            accelerators=self.survey.accelerators,
            variables=self.survey.build.variables,
        )
        places = self.plan.places or ("",)
        cpus = cpu_sets(places, self.survey.accelerators, my_cpus()) if len(places) > 1 else {}
        with ExitStack() as stack:
            runners = {
                place: stack.enter_context(
                    Runner(
                        self.python.start,
                        replace(self.settings, cpus=cpus.get(place, self.settings.cpus)),
                        surroundings,
                        self.folder,
                        preloaded=None if number else preloaded,
                        modules=self.plan.preload,
                    )
                )
                for number, place in enumerate(places)
            }

            def keep(records: Iterable[Record]) -> list[Record]:
                kept = []
                for record in records:
                    with writing:
                        self.folder.append(record)
                        made.append(record)
                    kept.append(record)
                return kept

            def measure_case(place: str, job: tuple[PlannedCase, list[Testing]]) -> bool:
                planned, missing = replace(job[0], place=place), job[1]
                with writing:
                    progress.start(planned)
                records = keep(runners[place].run(planned, missing))
                with writing:
                    progress.finish(records)
                return not place or place not in runners[place].lost

            def stop_runners() -> None:
                for runner in runners.values():
                    runner.stop()

            left = work_on_lanes(todo, places, measure_case, stop=stop_runners)
            for planned, missing in left:
                lost = "; ".join(f"{place}: {said}" for place in places for said in runners[place].lost.values())
                records = keep(
                    runners[places[0]].same_for_all(
                        planned, missing, Status.NOT_RUN, f"every device was lost before its turn: {lost}"
                    )
                )
                progress.start(planned)
                progress.finish(records)
        return made


def preload(preloaded: Preloaded, plan: Plan, found: Survey) -> Survey:
    """Import what the plan's suites want imported once; `found` with a warning for what cannot be."""
    preloaded.preload(plan.preload)
    warnings = (
        *found.build.warnings,
        *left_out_warnings(preloaded.left_out),
        *unlike_devices(plan.places, found.accelerators),
    )
    return replace(found, build=replace(found.build, warnings=warnings))


def left_out_warnings(left_out: Mapping[str, str]) -> list[str]:
    """What to tell about modules of a PRELOAD that touch a device, by name."""
    return [
        f"PRELOAD: importing {one_line(module)} initialises {one_line(device)}, which no process forked afterwards can "
        "use, so every case imports it for itself; leave it out of PRELOAD, or let it ask for the device later"
        for module, device in left_out.items()
    ]


def plan_run(selection: Selection, found: Survey) -> Plan:
    """The cases of `selection` on what was found."""
    return make_plan(selection, found.suites, found.machine)


def question(preloaded: Preloaded, do: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    """Ask a worker of its own, so that what the answer imports is gone afterwards."""
    with ExitStack() as stack:
        worker = stack.enter_context(preloaded.fork(preloaded.log))
        try:
            return worker.ask(do, deadline=time.monotonic() + _QUESTION_LIMIT, **arguments)
        except WorkerError as error:
            what = arguments.get("spec", "the machine")
            alive = f"{error.reason}" if error.alive else f"asking about {what}: the worker {error.reason}"
            raise UsageProblem(alive) from error


def _warnings(environment: Environment) -> Iterator[str]:
    if environment.threads >= environment.cpu_count > 1 and is_shared_machine():
        yield (
            f"torch uses all {environment.threads} CPUs of a machine that others may share: one busy neighbour slows "
            f"every measurement; --threads {environment.cpu_count - 1} leaves a CPU to the rest"
        )
