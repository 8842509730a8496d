"""`--cold-l2`: where it is refused, what it changes about a reading, and that its times stay among themselves."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from torchperf_ci.compare.live import Interleave, TwoWorkerPairs
from torchperf_ci.core.records import Build, Environment
from torchperf_ci.run.case_worker import CaseSettings
from torchperf_ci.run.plan import Machine
from torchperf_ci.run.sampler import Sampler, Turn
from torchperf_ci.run.survey import Survey, note_settings

Cli = Callable[..., subprocess.CompletedProcess[str]]


class OnDevice:
    """A worker on an accelerator whose calls take a microsecond; it keeps what it is asked for."""

    on_accelerator = True

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def sample(
        self, order: Sequence[Sequence[str]], inner: dict[str, int], *, discard: int = 0, probe: bool = True
    ) -> dict[str, Any]:
        count = sum(map(len, order))
        self.asked.append((count, inner["compiled"], discard))
        times = {"compiled": [1000] * count}
        return {"host": times, "device": times, "probe": [1] * len(order) * probe, "recompiled": False}


def pairs_of(workers: dict[str, Any], interleave: Interleave) -> TwoWorkerPairs:
    return TwoWorkerPairs(workers, dict.fromkeys(workers, "compiled"), interleave=interleave)


def test_a_block_discards_one_reading_after_a_switch_of_sides() -> None:
    """Not one for each of its readings; single iterations switch each time."""
    workers = {"base": OnDevice(), "head": OnDevice()}
    assert len(pairs_of(workers, Interleave.BLOCK).take([False] * 5, Turn())) == 5
    assert workers["base"].asked == workers["head"].asked == [(5, 1, 1)]
    workers = {"base": OnDevice(), "head": OnDevice()}
    pairs_of(workers, Interleave.ITERATION).take([False, True], Turn())
    assert workers["base"].asked == workers["head"].asked == [(1, 1, 1), (1, 1, 1)]


def test_a_turn_of_several_readings_is_one_half_of_a_pair() -> None:
    """By the mean of its middle half; one is discarded after a switch of sides, and the side that comes last has a
    probe."""

    class Rising(OnDevice):
        def sample(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            reply = super().sample(*args, **kwargs)
            times = {"compiled": [9_000_000, *range(1000, 8000, 1000)][: len(reply["host"]["compiled"])]}
            values = {"compiled": [{"rate": nanoseconds / 1e3} for nanoseconds in times["compiled"]]}
            return {**reply, "host": times, "device": times, "values": values}

    workers = {"base": Rising(), "head": Rising()}
    taken = pairs_of(workers, Interleave.ITERATION).take([False, True], Turn(repeats=3, readings=8))
    assert workers["base"].asked == workers["head"].asked == [(8, 3, 1), (8, 3, 1)]
    assert [(pair.first, pair.second_device) for pair in taken] == [(pytest.approx(4.5e-6), pytest.approx(4.5e-6))] * 2
    assert taken[0].first_values == {"rate": pytest.approx(4.5)}
    assert [pair.probe for pair in taken] == [1e-9, 1e-9]


def test_with_a_cold_cache_a_reading_is_one_call() -> None:
    """However short it is: the second one would find what the first one has read."""
    for settings, repeats in ((CaseSettings(), 51), (CaseSettings(cold_l2=True), 1)):
        workers = {"base": OnDevice(), "head": OnDevice()}
        sampler = Sampler(pairs_of(workers, Interleave.BLOCK), random.Random(0), repeats=settings.repeats)
        sampler.warm_up(iterations=10)
        assert sampler.repeats == repeats


def test_times_from_a_cold_cache_are_compared_with_each_other_alone() -> None:
    """The environment of a record says it."""
    machine = Machine(devices={"cpu": 1}, compilers=(), dtypes=(), torch="2.13.0")
    survey = Survey(machine=machine, build=Build(environment=Environment(cpu="AMD EPYC 7763")), suites=())
    warm, cold = (note_settings(survey, CaseSettings(cold_l2=is_cold)).environment for is_cold in (False, True))
    assert warm.comparable_to(cold) == ["state of the L2 cache differs: none against cold"]
    assert cold.comparable_to(replace(cold)) == []


def test_on_a_cpu_it_is_refused(cli: Cli) -> None:
    """Before anything is measured, by `run` and `compare`."""
    asked = ("--suites", "tiny", "-k", "^mlp$", "--inference", "--compilers", "eager", "--devices", "cpu", "--cold-l2")
    for command in (("run",), ("compare", "--head-env", "A=1")):
        done = cli(*command, *asked)
        assert done.returncode == 2
        assert "--cold-l2 empties the L2 cache of CUDA, ROCm and XPU devices" in done.stderr
