"""Rows of models on which checking, counting and measuring went wrong once: each has its right value."""

from __future__ import annotations

from pathlib import Path

import pytest

from torchperf_ci.run.session import WorkerError
from torchperf_ci.suites.registry import resolve

SUITE = str(Path(__file__).parent / "honest_suite.py")
ROWS = [
    pytest.param(model, mode, *expected, id=f"{model}-{mode}")
    for model, modes in resolve(SUITE).module.EXPECTED.items()
    for mode, expected in modes.items()
]


@pytest.mark.parametrize(("model", "mode", "status", "reason"), ROWS)
def test_the_accuracy_row_names_the_culprit(load, model: str, mode: str, status: str, reason: str) -> None:
    """What deepcopy would lose is not the compiler's fault, and what it computes differently is never a pass."""
    verdict = load(model, spec=SUITE, mode=mode, compiler="aot_eager").steps("eager", "accuracy")
    assert (verdict["status"], reason in verdict["reason"]) == (status, True), verdict
    assert bool(verdict["reason"]) == (status != "pass")


@pytest.mark.slow
def test_processes_that_a_suite_starts_find_it(load) -> None:
    """A data loader's spawned process imports the suite's file by its name."""
    assert load("read_by_spawned_process", spec=SUITE).steps("eager", "accuracy")["status"] == "pass"


def test_what_copies_would_lack_is_said_where_it_decided(load) -> None:
    """A hook that nothing shows: eager is run on what the suite's function builds anew."""
    verdict = load("hidden_hook", spec=SUITE, mode="training").steps("eager", "accuracy")
    assert any("built anew" in remark for remark in verdict["remarks"])


def test_a_model_that_cannot_be_copied_is_measured_all_the_same(load) -> None:
    """Its accuracy is not judged; its times are taken."""
    ask = load("one_for_all_with_lock", spec=SUITE)
    assert ask.steps("eager", "accuracy")["status"] == "not_judged"
    assert ask("compile")["calls"] >= 2
    assert len(ask("sample", order=[["eager", "compiled"]])["host"]["compiled"]) == 1


@pytest.mark.parametrize(
    "model", ["cache", "cache_with_lock", "static_cache", "static_cache_of_tensors", "moved_key", "reading"]
)
def test_inputs_that_change_are_fresh_in_every_timed_call(load, model: str) -> None:
    """So that each call is the same program: nothing is compiled again, however many calls there are."""
    ask = load(model, spec=SUITE)
    ask.steps("eager", "accuracy", "compile")
    sweep = ask("sample", order=[["eager", "compiled"]] * 5, inner={"compiled": 3})
    assert (sweep["recompiles"], sweep["recompiled"]) == (0, False)
    assert ask("capture")["counters"]["recompiles"] == 0


@pytest.mark.parametrize(
    ("model", "nothing", "word"),
    [("disabled", True, "dynamo made no graph"), ("suppressed", True, "suppress_errors"), ("flat", False, "")],
)
def test_a_model_of_which_nothing_is_compiled_says_so(load, model: str, word: str, *, nothing: bool) -> None:
    """With what keeps it from being compiled, as far as that can be told."""
    ask = load(model, spec=SUITE)
    ask.steps("eager", "accuracy", "compile")
    captured = ask("capture")
    assert captured["not_compiled"] is nothing
    assert word in " ".join(captured["remarks"])


@pytest.mark.parametrize("model", ["expanded", "sliced", "thrice", "lazy"])
def test_inputs_are_timed_as_they_were_checked(load, model: str) -> None:
    """With their strides and their identity: the timed calls compile nothing again."""
    ask = load(model, spec=SUITE)
    ask.steps("eager", "accuracy")
    assert ask("compile")["calls"] == 2
    ask("sample", order=[["eager", "compiled"]] * 3)
    assert ask("capture")["counters"]["recompiles"] == 0


def test_graphs_are_those_of_the_compiled_call_alone(load) -> None:
    """A model that compiles a part of itself in eager calls has one graph when all of it is compiled."""
    ask = load("self_compiling", spec=SUITE)
    ask.steps("eager", "accuracy", "compile")
    assert ask("capture")["counters"]["unique_graphs"] == 1


def test_a_model_that_was_never_compiled_is_not_called_uncompiled(load) -> None:
    """Where eager alone differs, nothing tried to compile it; what eager calls compiled does not count."""
    ask = load("drifting", spec=SUITE)
    assert ask.steps("eager", "accuracy")["status"] == "eager_two_runs_differ"
    captured = ask("capture")
    assert (captured["not_compiled"], captured["remarks"], captured["graph_breaks"]) == (False, [], [])
    assert set(captured["counters"].values()) == {0}


def test_a_model_that_is_compiled_already_is_not_compiled_again(load) -> None:
    """What its eager arm compiles for itself is done before the sample, and is no recompile of the other arm."""
    ask = load("compiled_already", spec=SUITE)
    ask.steps("eager", "compile", "settle")
    sweep = ask("sample", order=[["eager", "compiled"]] * 3)
    assert (sweep["recompiles"], sweep["recompiled"]) == (0, False)
    counters = ask("capture")["counters"]
    assert (counters["recompiles"], counters["unique_graphs"], counters["graph_breaks"]) == (0, 3, 2)


def test_a_recompile_of_the_first_call_is_no_graph_break(load) -> None:
    """There are as many breaks as dynamo has reasons for."""
    ask = load("shapes_inside", spec=SUITE)
    ask.steps("eager", "compile")
    captured = ask("capture")
    assert captured["counters"]["graph_breaks"] == len(captured["graph_breaks"]) == 5
    assert (captured["counters"]["recompiles"], captured["counters"]["unique_graphs"]) == (2, 8)


@pytest.mark.parametrize(
    ("model", "steps", "status"),
    [
        ("full_while_sampled", ("eager", "accuracy", "compile", "settle"), "eager_fail_to_run"),
        ("full_when_compiled", ("eager", "accuracy"), "fail_to_run"),
    ],
)
def test_what_eager_cannot_do_so_often_is_no_fault_of_the_compilers(load, model: str, steps, status: str) -> None:
    """A model that is built anew, and called as often, tells whose it is."""
    ask = load(model, spec=SUITE)
    ask.steps(*steps)
    last = {"do": "sample", "order": [["eager", "compiled"]] * 5} if "compile" in steps else {"do": "compile"}
    with pytest.raises(WorkerError, match="IndexError: the cache is full") as failed:
        ask(**last)
    assert str(failed.value.status) == status


def test_an_exception_without_words_is_eagers_failure(load) -> None:
    """It ends the command and not the worker."""
    ask = load("mute", spec=SUITE)
    with pytest.raises(WorkerError, match=r"^Mute$") as failed:
        ask("eager")
    assert (str(failed.value.status), failed.value.alive) == ("eager_fail_to_run", True)


def test_what_draws_numpys_random_numbers_is_compiled_again_to_be_timed(load) -> None:
    """Its check lets NumPy draw them, outside of the graph; what is timed has them in it, as torch compiles them."""
    verdict = load("numpy_noise", spec=SUITE).steps("eager", "accuracy")
    assert verdict["is_spent"] is True
    ask = load("numpy_noise", spec=SUITE)
    ask.steps("eager", "compile")
    assert ask("capture")["counters"]["unique_graphs"] == 1


def test_a_slow_first_call_is_not_taken_from_compile_time(load) -> None:
    """What eager calls usually take is."""
    ask = load("slow_first", spec=SUITE)
    assert max(ask("eager")["seconds"]) >= 2
    assert ask("compile")["compilation_latency"] > 0


def test_uncollected_cycles_are_not_summed_up(load) -> None:
    """Half a megabyte that each call leaves behind counts once, however many calls came before."""
    ask = load("cycle", spec=SUITE)
    ask.steps("eager", "compile", "settle")
    ask("sample", order=[["eager", "compiled"]] * 50)
    assert ask("memory")["peaks"]["eager"] < 2 * 8 * 1000 * 16 * 4


def test_recompiles_are_counted_up_to_torchs_limit_and_the_limit_is_said(load) -> None:
    """Dynamo compiles a frame eight times, and runs it eagerly from then on."""
    ask = load("counting", spec=SUITE)
    ask.steps("eager", "compile")
    assert ask("capture")["counters"]["recompiles"] == 5
    sweep = ask("sample", order=[["eager", "compiled"]] * 20)
    captured = ask("capture")
    assert captured["counters"]["recompiles"] == 5 + sweep["recompiles"] >= 7
    assert any("limit recompile_limit (8)" in remark and "forward" in remark for remark in captured["remarks"])


def test_peak_memory_is_that_of_one_iteration(load) -> None:
    """Seven temporaries at once and one after another, models whose true peak is known."""
    peaks = {}
    for model in ("at_once", "in_turn"):
        ask = load(model, spec=SUITE)
        ask.steps("eager", "compile", "settle")
        peaks[model] = ask("memory")["peaks"]
    assert peaks["at_once"]["eager"] == pytest.approx(28e6, rel=1e-3)
    assert peaks["in_turn"]["eager"] == pytest.approx(4e6, rel=1e-3)
    assert peaks["at_once"]["compiled"] == peaks["at_once"]["eager"]


def test_out_of_memory_halves_what_the_suite_calls_the_batch(load) -> None:
    """12, 6, 3, 1 in the second dimension: no batch is tried that is larger than the model's own."""
    ask = load("time_first", spec=SUITE)
    assert ask("eager")["batch_size"] == 1
    tried = [int(line.rpartition(" ")[2]) for line in ask.log.read_text().splitlines() if "tried a batch" in line]
    assert list(dict.fromkeys(tried)) == [12, 6, 3, 1]


def test_a_batch_that_nobody_can_change_is_not_halved(load) -> None:
    """The row says what to do."""
    with pytest.raises(WorkerError, match="--batch-size") as failed:
        load("fixed_batch", spec=SUITE)("eager")
    assert str(failed.value.status) == "OOM"


@pytest.mark.parametrize(("asked", "fits"), [(None, 4), (12, 3)])
def test_a_model_too_large_to_load_is_loaded_with_a_smaller_batch(load, asked: int | None, fits: int) -> None:
    """Whether the batch was asked for or is the model's own."""
    assert load("too_large_to_load", spec=SUITE, batch_size=asked)("eager")["batch_size"] == fits


def test_a_model_in_another_precision_is_cast_and_that_is_said(fork) -> None:
    """The record's precision is the one that ran."""
    case = {"model": "half", "mode": "inference", "device": "cpu", "dtype": "float32", "compiler": "eager"}
    options = {"batch_size": None, "threads": 1, "seed": 0, "scale": "full", "inductor_mode": None, "cache_dir": None}
    loaded = fork()("load", spec=SUITE, case=case, **options)
    assert loaded["remarks"] == ["cast from bfloat16 to float32, as asked for"]
    assert loaded["threads"] == 1


@pytest.mark.parametrize(("scope", "breaks"), [("module", 0), ("step", 2)])
def test_the_whole_step_can_be_compiled(load, scope: str, breaks: int) -> None:
    """Its backward is not in a graph, which counts as breaks, as in PyTorch's harness."""
    ask = load("flat", spec=SUITE, mode="training", compile_scope=scope)
    assert ask.steps("eager", "accuracy")["status"] == "pass"
    ask("compile")
    assert (ask("capture")["counters"]["graph_breaks"] > 0) is (breaks > 0)
