"""Ask the Python under test what it is and what it has: torch, devices, compilers, suites and their models."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import (
    COUNTERS,
    METRICS,
    Build,
    Direction,
    Environment,
    Metric,
    environment_from,
    own_metric,
)
from torchperf_ci.core.text import name_problem, one_line
from torchperf_ci.machine.accelerators import Accelerator, Signs, accelerators_from, read_signs
from torchperf_ci.run.case_worker import CaseSettings
from torchperf_ci.run.lanes import unlike_devices
from torchperf_ci.run.plan import Machine, Plan, PlannedCase, SuiteListing, suite_spec
from torchperf_ci.run.session import (
    Preloaded,
    Python,
    WorkerError,
    is_shared_machine,
    package_path,
    worker_environment,
)
from torchperf_ci.worker.protocol import EXISTING_SPECS, MISSING_MODULE

READY = "ready"

_TAKEN = frozenset({"accuracy", "batch_size", "compiled", "eager", "probe", "compiled_device", "eager_device"})
"""Names of columns and of series of samples, which no metric can have."""

_SETS_VARIABLE = re.compile(r"--(extra|base|head)[-_]env")
_QUESTION_LIMIT = 120.0
_MOST_PROBLEMS = 5


@contextmanager
def python_under_test(
    executable: str,
    environ: Mapping[str, str],
    *,
    threads: int | None,
    extra: Mapping[str, str],
    log: Path | None = None,
    cwd: Path | None = None,
    name: str = "",
    option: str = "--python",
    install: str = "",
) -> Iterator[Python]:
    """Put this package on the path of `executable` while the block runs; nothing is installed into it.

    log: of its preloaded process; None: in a folder that is there as long. name, option, install: see `Python`.
    """
    with (
        tempfile.TemporaryDirectory(prefix="torchperf-log-") as logs,
        package_path(worker_environment(environ, threads=threads, extra=extra)) as prepared,
    ):
        yield Python(
            executable=executable,
            environ=prepared,
            log=log or Path(logs) / "preload.log",
            cwd=cwd,
            name=name,
            option=option,
            install=install,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The answers of the Python under test: machine, environment, suites, accelerators.

    no_instruction_counter: why the processor's counter of instructions does not work there; blank where it does.
    """

    machine: Machine
    build: Build
    suites: tuple[SuiteListing, ...]
    accelerators: tuple[Accelerator, ...] = ()
    no_instruction_counter: str = ""

    @property
    def environment(self) -> Environment:
        return self.build.environment


def survey(preloaded: Preloaded, suites: Sequence[str], *, threads: int | None, command: Sequence[str]) -> Survey:
    """Ask for the environment and the suites, each in a worker of its own. Raises `UsageProblem` for a bad suite."""
    answer = question(preloaded, "environment", threads=threads)
    environment = environment_from(answer["environment"])
    listings = list_suites(preloaded, suites)
    signs = Signs() if answer["accelerators"] else read_signs(answer["unusable_accelerator"], answer["variables"])
    warnings = []
    if environment.threads >= environment.cpu_count > 1 and is_shared_machine():
        warnings.append(
            f"torch uses all {environment.threads} CPUs of a machine that others may share: one busy neighbour slows "
            f"every measurement; --threads {environment.cpu_count - 1} leaves a CPU to the rest"
        )
    return Survey(
        machine=Machine(
            devices=answer["devices"],
            compilers=tuple(answer["compilers"]),
            dtypes=tuple(answer["dtypes"]),
            torch=environment.torch,
            without_cuda=not environment.cuda and not environment.hip,
            signs=signs,
        ),
        build=Build(
            environment=environment,
            dynamo_flags=answer["dynamo_flags"],
            variables=answer["variables"],
            packages=answer["packages"],
            suites={listing.name: name for name, listing in listings if listing.name != name},
            warnings=tuple(warnings),
            command=tuple(without_values(command)),
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        ),
        suites=tuple(listing for _, listing in listings),
        accelerators=accelerators_from(answer["accelerators"]),
        no_instruction_counter=answer["no_instruction_counter"],
    )


def note_settings(surveyed: Survey, settings: CaseSettings) -> Survey:
    """Put into the environment those settings that decide whether times may be compared."""
    if not settings.cold_l2:
        return surveyed
    environment = replace(surveyed.environment, l2_cache="cold")
    return replace(surveyed, build=replace(surveyed.build, environment=environment))


def refuse_cold_l2(cases: Iterable[PlannedCase], settings: CaseSettings) -> None:
    """Raise `UsageProblem` where a cache is to be emptied that torch knows nothing about."""
    if settings.cold_l2 and any(planned.device.startswith(("cpu", "mps")) for planned in cases):
        raise UsageProblem(
            "--cold-l2 empties the L2 cache of CUDA, ROCm and XPU devices; leave it out, or choose one with --devices"
        )


def without_values(command: Sequence[str]) -> Iterator[str]:
    """Yield the arguments, but of variables that are set with an option (`--extra-env` and its like) the names alone.

    A record goes where nobody should read a token.
    """
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


def preload(preloaded: Preloaded, plan: Plan, surveyed: Survey) -> Survey:
    """Import what the plan's suites want imported once; return the survey with a warning for what cannot be."""
    preloaded.preload(plan.preload)
    warnings = (
        *surveyed.build.warnings,
        *left_out_warnings(preloaded.left_out),
        *unlike_devices(plan.places, surveyed.accelerators),
    )
    return replace(surveyed, build=replace(surveyed.build, warnings=warnings))


def left_out_warnings(left_out: Mapping[str, str]) -> list[str]:
    """Warn of modules of a PRELOAD that touch a device, by name."""
    return [
        f"PRELOAD: importing {one_line(module)} initialises {one_line(device)}, which no process forked afterwards can "
        "use, so every case imports it for itself; leave it out of PRELOAD, or let it ask for the device later"
        for module, device in left_out.items()
    ]


def list_suites(preloaded: Preloaded, names: Sequence[str]) -> list[tuple[str, SuiteListing]]:
    """Ask for what these suites (names, files, modules) hold; return each with the name that it was asked for by.

    The benchmarks of another tool, asked for by one path, are several suites. Raises `UsageProblem` for one that cannot
    be used.
    """
    listings = []
    for name in dict.fromkeys(names):
        spec = suite_spec(name)
        for answer in question(preloaded, "suite", spec=spec)["suites"]:
            if not name.startswith(EXISTING_SPECS):  # their names are made of whatever they are called there
                _refuse_suite(name, answer)
            metrics = _own_metrics(answer.pop("metrics", {}))
            by_model = {model: _own_metrics(own) for model, own in answer.pop("metrics_by_model", {}).items()}
            fields = {**answer, "spec": spec, "metrics": metrics, "metrics_by_model": by_model}
            try:
                listings.append((name, msgspec.convert(fields, SuiteListing)))
            except msgspec.ValidationError as error:
                raise UsageProblem(f"suite {one_line(name, limit=200)}: {error}") from error
    return listings


def _own_metrics(metrics: Mapping[str, Mapping[str, str]]) -> tuple[Metric, ...]:
    return tuple(
        own_metric(name, unit=metric["unit"], direction=Direction(metric["direction"]))
        for name, metric in metrics.items()
    )


def _refuse_suite(name: str, answer: Mapping[str, Any]) -> None:
    """Raise `UsageProblem` where a suite cannot run here, or has names that results cannot have."""
    if answer["missing"]:
        raise UsageProblem(f"suite {name} cannot run here: {answer['missing']}")
    problems = []
    if problem := name_problem(answer["name"]):
        problems.append(f"its name {answer['name'][:60]!r} {problem}; rename the file or the module")
    named = ((model, name_problem(model, may_have_folders=True)) for model in answer["models"])
    for model, problem in islice(((model, problem) for model, problem in named if problem), _MOST_PROBLEMS):
        problems.append(f"the name of its model {model[:60]!r} {problem}; rename it in MODELS")
    problems += [
        f"its metric {metric!r} has the name of one that torchperf-ci measures; rename it in METRICS"
        for metric in answer["metrics"]
        if metric in METRICS or metric in COUNTERS or metric in _TAKEN
    ]
    if problems:
        raise UsageProblem("\n".join(f"suite {one_line(name, limit=200)}: {problem}" for problem in problems))


Row = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteEntry:
    """A suite of the Python under test. missing: why none of it can run here.

    models: of each its name and its description, `quick` where `--quick` keeps it, and its state in words.
    """

    name: str
    models: tuple[Row, ...] = ()
    missing: str = ""

    @property
    def row(self) -> Row:
        """Return name, number of models, number of those `--quick` keeps, state."""
        quick = sum(bool(mark) for _, _, mark, _ in self.models)
        return (self.name, str(len(self.models) or ""), str(quick or ""), self.missing or READY)


def describe_suite(preloaded: Preloaded, name: str) -> SuiteEntry:
    """Describe the suite `name` (a name, a file, a module). Raises `UsageProblem` where it cannot be imported."""
    answer = question(preloaded, "describe", spec=suite_spec(name))
    missing = answer["missing"] or ""
    models = []
    for model in answer["models"]:
        skips = []
        for skip in model["skips"]:
            places = [
                f"{word} {skip[key]}" for key, word in (("device", "on"), ("mode", "in")) if skip[key] is not None
            ]
            skips.append(" ".join(["skipped", *places]) + f": {skip['reason']}")
        state = "" if missing else model["missing"] or "; ".join(skips) or READY
        models.append((model["name"], model["description"], "quick" if model["quick"] else "", state))
    return SuiteEntry(name=answer["name"], missing=missing, models=tuple(models))


def describe_known(preloaded: Preloaded) -> Iterator[SuiteEntry]:
    """Describe every suite that has a name there; one that cannot be imported says why."""
    for name in question(preloaded, "suites")["suites"]:
        try:
            yield describe_suite(preloaded, name)
        except UsageProblem as error:
            yield SuiteEntry(name=name, missing=str(error))


def question(preloaded: Preloaded, do: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON values
    """Ask a worker of its own, so that what the answer imports is gone afterwards. Raises `UsageProblem`."""
    with preloaded.fork(preloaded.log) as worker:
        try:
            return worker.ask(do, deadline=time.monotonic() + _QUESTION_LIMIT, **arguments)
        except WorkerError as error:
            subject = arguments.get("spec", "the machine")
            reason = error.reason if error.alive else f"asking about {subject}: the worker {error.reason}"
            advice = f". {preloaded.install}" if error.status == MISSING_MODULE else ""
            raise UsageProblem(reason + advice) from error
