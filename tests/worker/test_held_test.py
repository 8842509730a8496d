"""Tests of a project run unchanged: each stands still in its call, and goes on when its case has been measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from existing_project import write_project
from torchperf_ci.core.records import Status
from torchperf_ci.run.session import WorkerError
from worker.conftest import Asker


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def begin(fork: Callable[[], Asker], project: Path) -> Callable[[str], Asker]:
    """A worker that has loaded a test, which therefore stands in its call."""

    def start(test: str) -> Asker:
        ask = fork()
        case = {"model": test, "mode": "inference", "device": "cpu", "dtype": "unknown", "compiler": "none"}
        request: dict[str, Any] = {"batch_size": None, "threads": 1, "seed": 0, "scale": "full", "inductor_mode": None}
        ask("load", spec=f"pytest:{project}/bench/test_lists.py::{test}", case=case, cache_dir=None, **request)
        ask("eager")
        return ask

    return start


def end(ask: Asker) -> dict[str, Any]:
    ask("settle")
    readings = ask("sample", order=[["eager", "eager"]] * 3)["host"]["eager"]
    assert len(readings) == 6
    assert min(readings) > 0
    return ask("accuracy")


def test_a_test_goes_on_with_its_result_and_the_readings(begin: Callable[[str], Asker], project: Path) -> None:
    """What it asserts afterwards is its accuracy check; numbers that it notes come with that; its fixtures are torn
    down."""
    (project / "torn_down").unlink(missing_ok=True)
    answer = end(begin("test_sum"))
    assert (answer["status"], answer["reason"]) == ("pass", "")
    assert answer["extra_info"] == {"wrapped": 1, "size": 1000}
    assert (project / "torn_down").exists()


@pytest.mark.parametrize("test", ["test_sorted[None]", r"test_sorted[\xe9\n]"])
def test_a_decorated_function_and_parameters_are_measured(begin: Callable[[str], Asker], test: str) -> None:
    """Also of a test that the project's configuration leaves out."""
    assert end(begin(test))["status"] == "pass"


def test_setup_and_teardown_stand_around_every_call(begin: Callable[[str], Asker]) -> None:
    """One call per reading."""
    ask = begin("TestPop::test_setup")
    assert end(ask)["status"] == "pass"


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ("test_fails_after", "assert 1 == 2 (test_lists.py:"),
        ("test_twice", "FixtureAlreadyUsed: benchmark can be used once per test"),
    ],
)
def test_a_test_that_fails_afterwards_is_wrong(begin: Callable[[str], Asker], test: str, reason: str) -> None:
    """With pytest's message and the line, after it has been measured."""
    answer = end(begin(test))
    assert answer["status"] == "fail_accuracy"
    assert reason in answer["reason"]


@pytest.mark.parametrize(
    ("test", "status", "reason"),
    [
        ("test_fails_before", Status.MODEL_FAIL_TO_LOAD, "ValueError: no such data (test_lists.py:"),
        ("test_fails_inside", Status.EAGER_FAIL_TO_RUN, "ZeroDivisionError"),
        ("test_skips", Status.PASS_DUE_TO_SKIP, "needs another machine"),
        ("test_calls_nothing", Status.PASS_DUE_TO_SKIP, "without calling its `benchmark` fixture"),
        ("test_weaves", Status.MODEL_FAIL_TO_LOAD, "write benchmark(function)"),
        ("test_pedantic_misused", Status.EAGER_FAIL_TO_RUN, "not both"),
        ("test_pedantic_iterations", Status.MODEL_FAIL_TO_LOAD, "leave `iterations` at 1"),
        ("test_in_a_thread", Status.MODEL_FAIL_TO_LOAD, "in another thread; call it in the test itself"),
        ("test_coroutine", Status.MODEL_FAIL_TO_LOAD, "lambda: asyncio.run(function())"),
        ("test_async", Status.MODEL_FAIL_TO_LOAD, "async def functions are not natively supported"),
        ("test_gives_the_result", Status.MODEL_FAIL_TO_LOAD, "takes the function to call, and not its result; got int"),
        ("test_gone", Status.MODEL_FAIL_TO_LOAD, "not found"),
    ],
)
def test_a_test_that_cannot_be_measured_says_why(
    begin: Callable[[str], Asker], test: str, status: Status, reason: str
) -> None:
    """It fails or is skipped before its call, or its call fails."""
    with pytest.raises(WorkerError) as error:
        begin(test)
    assert error.value.status is status
    assert reason in error.value.reason
