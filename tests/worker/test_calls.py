"""What a worker does with callables: as they are and compiled, with a setup, with checks and metrics of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchperf_ci.run.session import WorkerError

SUITE = str(Path(__file__).parent / "calls_suite.py")
GOOD = {"status": "pass", "reason": "", "remarks": []}


@pytest.fixture
def load_call(load):
    return lambda model, compiler="eager", **case: load(model, spec=SUITE, compiler=compiler, **case)


@pytest.mark.parametrize(
    "model", ["function", "alone", "builtin", "operator", "scripted", "bound", "in_place", "trained", "text"]
)
def test_any_callable_is_measured(load_call, model: str) -> None:
    """With gradients, if it wants them; what it returns, or changes, is held against eager."""
    ask = load_call(model)
    ask("eager")
    assert ask("accuracy") == GOOD
    ask("compile")
    ask("settle")
    sweep = ask("sample", order=[["eager", "compiled"]] * 2)
    assert min(*sweep["host"]["eager"], *sweep["host"]["compiled"]) > 0


@pytest.mark.parametrize(
    ("model", "compiler", "status", "reason"),
    [
        ("nothing", "eager", "pass_due_to_skip", "returns nothing"),
        ("function", "none", "pass_due_to_skip", "nothing is compiled"),
        ("wrong", "none", "fail_accuracy", "off by one"),
        ("wrong", "eager", "fail_accuracy", "off by one; eager's result is wrong as well: off by one"),
        ("checked", "none", "pass", ""),
        ("fails_itself", "eager", "not_judged", "check(result) failed itself: ZeroDivisionError"),
        ("balanced", "none", "pass", ""),
    ],
)
def test_what_is_right_is_said_by_eager_or_by_the_suite(
    load_call, model: str, compiler: str, status: str, reason: str
) -> None:
    """What has nothing to be compared with is skipped, and neither right nor wrong."""
    answer = load_call(model, compiler).steps("eager", "accuracy")
    assert answer["status"] == status
    assert reason in answer["reason"]


def test_a_setup_and_a_teardown_belong_to_each_call(load_call) -> None:
    """A reading is one call, unless the suite lets the calls of a reading share a setup."""
    ask = load_call("balanced", "none")
    ask("eager")
    ask("settle")
    assert len(ask("sample", order=[["eager", "eager"]] * 3)["host"]["eager"]) == 6
    assert ask("memory")["peaks"].keys() == {"eager"}
    assert load_call("set_up").steps("eager", "accuracy") == GOOD
    assert ask.loaded["one_call"] is True
    assert load_call("shared").loaded["one_call"] is False


def test_a_suite_makes_metrics_of_every_reading(load_call) -> None:
    """Of the result and the seconds of the call, or of the result alone."""
    ask = load_call("number", "none")
    ask("eager")
    assert ask("sample", order=[["eager", "eager"]])["values"] == {"eager": [{"answer": 42.0}] * 2}
    ask = load_call("rated", "none")
    ask("eager")
    sweep = ask("sample", order=[["eager"]])
    assert sweep["values"]["eager"][0]["rate"] == pytest.approx(2e9 / sweep["host"]["eager"][0])


@pytest.mark.parametrize(("model", "facts"), [("undeclared", ["'rat'", "'rate'"]), ("no_number", ["'answer'", "str"])])
def test_a_metric_that_is_none_is_told(load_call, model: str, facts: list[str]) -> None:
    """With the name that may be meant."""
    ask = load_call(model, "none")
    ask("eager")
    with pytest.raises(WorkerError) as refused:
        ask("sample", order=[["eager"]])
    assert [fact for fact in facts if fact not in refused.value.reason] == []


@pytest.mark.parametrize(("dynamic", "recompiles"), [(False, 2), (True, 0)])
def test_shapes_are_run_in_turn_and_recompilations_counted(load_call, dynamic: bool, recompiles: int) -> None:  # noqa: FBT001
    """The first shape compiles; another one compiles again, unless sizes are unknown from the start."""
    ask = load_call("in_turn", dynamic=dynamic)
    ask("eager")
    ask("compile")
    captured = ask("capture")
    assert captured["counters"]["recompiles"] == recompiles
    assert captured["counters"]["graph_breaks"] == 0
    assert (captured["recompile_seconds"] > 0) == (recompiles > 0)


def test_the_work_of_a_call_is_counted(load_call) -> None:
    """A product of 2 x 3 and 3 x 4 is 2 * 2 * 3 * 4 operations."""
    ask = load_call("product", "none")
    work = ask("eager")["work"]
    assert (ask("count")["metrics"]["flops"], work["items"]) == (48, 2)


def test_inputs_that_keep_their_precision_are_told(load_call) -> None:
    """Others get that of the case."""
    assert load_call("kept", "none").loaded["remarks"] == ["its inputs keep their precision: float64"]


def test_a_callable_has_no_training(load_call) -> None:
    """It is skipped, with what to do."""
    with pytest.raises(WorkerError, match="--inference") as refused:
        load_call("function", mode="training")
    assert str(refused.value.status) == "pass_due_to_skip"
