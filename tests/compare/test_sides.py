"""The two sides of a comparison: their cases together, and the processes of each, one per launch."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from torchperf_ci.compare.sides import LiveSide, Processes, collect_cases
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Case, Mode
from torchperf_ci.machine.host import LEAST_MEMORY
from torchperf_ci.run.plan import PlannedCase, Selection, SuiteListing
from torchperf_ci.run.session import Preloaded, package_path, worker_environment

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


@pytest.mark.slow
def test_launches_have_processes_of_their_own_while_there_is_memory(tmp_path: Path) -> None:
    """They stay for the next case; when memory is short, a new one takes the place of all that were there."""
    left = [LEAST_MEMORY]
    with (
        package_path(worker_environment(os.environ, threads=1, extra={})) as environ,
        Processes(
            lambda: Preloaded(sys.executable, environ, log=tmp_path / "preload.log"), lambda: left[0]
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
