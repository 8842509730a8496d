"""The two sides of a comparison: their cases together, and the processes of each, one per launch."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from torchperf_ci.compare.session import LiveSide, Processes, collect_cases, make_side
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Build, Case, Environment, Mode
from torchperf_ci.machine.host import LEAST_MEMORY
from torchperf_ci.run.plan import Machine, PlannedCase, Selection, SuiteListing
from torchperf_ci.run.session import Preloaded, Python, WorkerError, package_path, worker_environment
from torchperf_ci.run.survey import Survey

SELECTION = Selection(suites=("nets.py",), mode=Mode.INFERENCE)


def side(*models: str) -> LiveSide:
    """One that has these models, and no processes."""
    survey: Any = SimpleNamespace(suites=(SuiteListing(spec="nets.py", name="nets", models=models),))
    processes: Any = None
    cases = [
        Case(suite="nets", model=model, mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="eager")
        for model in models
    ]
    planned = {case: PlannedCase(case=case, spec="nets.py") for case in cases}
    return LiveSide(name="side", survey=survey, cases=planned, processes=processes)


def models(base: LiveSide, head: LiveSide, **selection: Any) -> list[str]:
    asked = Selection(suites=SELECTION.suites, mode=SELECTION.mode, **selection)
    return [planned.case.model for planned in collect_cases(base, head, asked)]


def test_a_model_of_one_side_alone_does_not_shift_the_partitions() -> None:
    """Every case of both sides is in one of them, head's order first."""
    base, head = side("b", "c", "d", "gone"), side("a", "b", "c", "d")
    assert models(base, head) == ["a", "b", "c", "d", "gone"]
    parts = [models(base, head, partition_id=number, total_partitions=2) for number in range(2)]
    assert parts == [["a", "b"], ["c", "d", "gone"]]
    with pytest.raises(UsageProblem, match="partition 0 of 9 has no model"):
        models(base, head, partition_id=0, total_partitions=9)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"exclude": ("gone", "resnet5O")}, "--exclude 'resnet5O': no suite has such a model."),
        ({"filters": (re.compile("^a$"), re.compile("lstn"))}, "--filter 'lstn': it matches no model."),
    ],
)
def test_what_neither_side_has_is_a_mistake(asked: dict[str, Any], message: str) -> None:
    """What one of them has is none."""
    with pytest.raises(UsageProblem, match=re.escape(message)) as raised:
        models(side("b", "gone"), side("a", "b"), **asked)
    assert "gone'" not in str(raised.value)


MACHINE = Machine(devices={"cpu": 1}, compilers=("eager", "inductor"), dtypes=("float32",))


def made_side(selection: Selection, *models: str, compiler: str | None = None, **listing: Any) -> LiveSide:
    """One that was asked for its models; its processes are never started."""
    suites = (SuiteListing(spec="nets.py", name="nets", models=models, **listing),)
    survey = Survey(machine=MACHINE, build=Build(environment=Environment()), suites=suites)

    def start() -> Preloaded:
        raise AssertionError("nothing is to be started")

    return make_side("head", survey, selection, Processes(start), compiler=compiler)


def test_a_side_has_the_cases_that_it_was_asked_for() -> None:
    """What the suite skips is none; a name that only the other side has is no mistake here."""
    asked = replace(
        SELECTION, compilers=("eager", "inductor"), exclude=("c", "gone"), partition_id=1, total_partitions=2
    )
    skips = ({"model": "b", "device": None, "mode": None, "reason": "too large"},)
    made = made_side(asked, "a", "b", "c", skips=skips)
    assert [(case.model, case.compiler) for case in made.cases] == [("a", "eager"), ("a", "inductor")]
    assert made_side(replace(SELECTION, filters=(re.compile("gone"),)), "a").cases == {}


def test_a_compiler_of_one_side_is_shown_under_the_name_of_the_case() -> None:
    """So that both sides' cases are the same ones; the side itself runs its own."""
    made = made_side(replace(SELECTION, compilers=("inductor",)), "a", compiler="eager")
    (case,) = made.cases
    assert case.compiler == "inductor"
    planned = made.planned(replace(made.cases[case], case=case, place="cuda:1"))
    assert planned is not None
    assert (planned.case.compiler, planned.place) == ("eager", "cuda:1")
    assert made.planned(PlannedCase(case=replace(case, model="gone"), spec="nets.py")) is None


def test_what_a_side_cannot_do_names_the_side() -> None:
    """Say a compiler that its torch does not have."""
    with pytest.raises(UsageProblem, match=r"^head: .*'trt'"):
        made_side(replace(SELECTION, compilers=("trt",)), "a")


def test_a_process_that_does_not_start_is_a_failure_of_the_case() -> None:
    """Not of the comparison."""

    def start() -> Preloaded:
        raise OSError("no memory")

    survey = Survey(machine=MACHINE, build=Build(environment=Environment()), suites=())
    broken = LiveSide(name="base", survey=survey, cases={}, processes=Processes(start))
    with pytest.raises(WorkerError, match="there is no process to run it in: no memory"):
        broken.process(0)


@pytest.mark.slow
def test_launches_have_processes_of_their_own_while_there_is_memory(tmp_path: Path) -> None:
    """They stay for the next case; when memory is short, a new one takes the place of all that were there."""
    left = [LEAST_MEMORY]
    with (
        package_path(worker_environment(os.environ, threads=1, extra={})) as environ,
        Processes(
            Python(executable=sys.executable, environ=environ, log=tmp_path / "preload.log").start, lambda: left[0]
        ) as processes,
    ):
        one, two = processes.of(0), processes.of(1)
        assert one is not two
        assert processes.of(0) is one
        left[0] -= 1
        assert processes.of(1) is two
        three = processes.of(2)
        assert (one.alive, two.alive, three.alive) == (False, False, True)
    assert not three.alive
