"""The runner, without a command: every planned case ends as one record per testing, whatever its model does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from torchperf_ci.core.records import Case, Environment, Mode, Record, Source, Status, Testing
from torchperf_ci.core.results import ResultsFolder, open_folder
from torchperf_ci.machine.accelerators import Accelerator
from torchperf_ci.run.case_worker import BOTH, CaseSettings
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.runner import Runner, Surroundings
from torchperf_ci.run.sampler import StopRule
from torchperf_ci.run.session import Preloaded, Stopped

SUITE = str(Path(__file__).parents[1] / "worker" / "small_suite.py")
GPU = Accelerator(device="cuda:1", name="H100", uuid="GPU-1", memory_bytes=80)
SURROUNDINGS = Surroundings(environment=Environment(torch="2.13.0"), source=Source(shard="2-3"), accelerators=(GPU,))
QUICK = CaseSettings(threads=1, warmup=0, rule=StopRule(repeat=20), cold_start=False)


def planned(model: str, **more: object) -> PlannedCase:
    case = Case(
        suite="small_suite",
        model=model,
        mode=Mode.INFERENCE,
        device=str(more.pop("device", "cpu")),
        dtype="float32",
        compiler=str(more.pop("compiler", "aot_eager")),
    )
    return PlannedCase(case=case, spec=SUITE, **more)  # type: ignore[arg-type]  # fields of PlannedCase


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ResultsFolder]:
    with open_folder(tmp_path / "out") as folder:
        yield folder


Measure = Callable[[PlannedCase], list[Record]]


@pytest.fixture
def measure(preloaded: Preloaded, folder: ResultsFolder) -> Measure:
    """Run a case in workers of the test session's preloaded process."""

    def run(case: PlannedCase) -> list[Record]:
        runner = Runner(nothing_starts, QUICK, SURROUNDINGS, folder, preloaded=preloaded)
        return list(runner.run(case, BOTH))

    return run


def nothing_starts() -> Preloaded:
    raise AssertionError("a process was started")


def test_a_case_is_a_record_per_testing(measure: Measure, folder: ResultsFolder) -> None:
    """With what was loaded in both, times in one, and the log of its worker."""
    accuracy, performance = measure(planned("linear"))
    assert [(each.testing, each.status) for each in (accuracy, performance)] == [
        (Testing.ACCURACY, Status.PASS),
        (Testing.PERFORMANCE, Status.PASS),
    ]
    assert accuracy.parameters == performance.parameters > 0
    assert (accuracy.metrics, accuracy.samples) == ({}, {})
    assert len(performance.samples["eager"]) == len(performance.samples["compiled"]) == 20
    assert performance.metrics["abs_latency"] > 0
    assert performance.metrics["speedup_low"] <= performance.metrics["speedup"] <= performance.metrics["speedup_high"]
    assert performance.metrics["dynamo_peak_mem"] > 0
    assert performance.counters["unique_graphs"] == 1
    assert (performance.environment.threads, performance.source.shard) == (1, "2-3")
    assert (folder.path / performance.log).is_file()


@pytest.mark.parametrize(
    ("model", "statuses", "reason"),
    [
        ("missing", ["model_fail_to_load", "model_fail_to_load"], "a library that is not here"),
        ("not_a_pair", ["model_fail_to_load", "model_fail_to_load"], "gives a Linear alone"),
        ("out_of_memory", ["OOM", "OOM"], "out of memory"),
    ],
)
def test_what_does_not_run_is_a_record_with_its_reason(
    measure: Measure, model: str, statuses: list[str], reason: str
) -> None:
    """The same one for each testing, without numbers."""
    records = measure(planned(model))
    assert [str(record.status) for record in records] == statuses
    assert all(reason in record.reason and not record.metrics for record in records)


def test_a_compiler_that_is_not_here_ends_the_case(measure: Measure) -> None:
    """No second worker finds it."""
    records = measure(planned("linear", compiler="trt"))
    assert {record.status for record in records} == {Status.COMPILER_NOT_AVAILABLE}


@pytest.mark.parametrize(
    ("case", "status", "reason"),
    [
        (planned("linear", skip="too large"), Status.PASS_DUE_TO_SKIP, "too large"),
        (planned("linear", lack="needs 2 devices, has 1"), Status.NOT_RUN, "needs 2 devices, has 1"),
    ],
)
def test_what_is_not_run_starts_nothing(folder: ResultsFolder, case: PlannedCase, status: Status, reason: str) -> None:
    """A record per testing, with the reason."""
    records = list(Runner(nothing_starts, QUICK, SURROUNDINGS, folder).run(case, BOTH))
    assert [(record.testing, record.status, record.reason) for record in records] == [
        (testing, status, reason) for testing in BOTH
    ]


def test_a_spent_budget_leaves_cases_as_not_run(folder: ResultsFolder) -> None:
    """From the moment on at which it is spent."""
    now = [100.0]
    settings = CaseSettings(budget=60)
    runner = Runner(nothing_starts, settings, SURROUNDINGS, folder, clock=lambda: now[0])
    now[0] = 160.0
    (record,) = runner.run(planned("linear"), [Testing.PERFORMANCE])
    assert (record.status, record.reason) == (Status.NOT_RUN, "the run's budget of 60 s was spent")


def test_a_lost_device_is_not_tried_again(folder: ResultsFolder) -> None:
    """What was to run on it is told why; a record on another device names that one's GPU."""
    runner = Runner(nothing_starts, QUICK, SURROUNDINGS, folder)
    runner.lost["cuda:1"] = "CUDA error: device-side assert"
    (record,) = runner.run(planned("linear", device="cuda:1"), [Testing.ACCURACY])
    assert record.status is Status.NOT_RUN
    assert "device-side assert" in record.reason
    assert (record.environment.gpu, record.environment.gpu_uuid) == ("H100", "GPU-1")


def test_a_runner_that_is_stopped_makes_no_record(folder: ResultsFolder) -> None:
    """What was under way is no result."""
    runner = Runner(nothing_starts, QUICK, SURROUNDINGS, folder)
    runner.stop()
    with pytest.raises(Stopped):
        list(runner.run(planned("linear", skip="too large"), BOTH))
