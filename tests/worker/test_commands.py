"""What a worker does at each command, seen from the controller: real processes, small models."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import psutil
import pytest
import torch

from torchperf_ci.core.records import COUNTERS
from torchperf_ci.run.session import WorkerError
from torchperf_ci.worker.load import DTYPES

GOOD = {"status": "pass", "reason": "", "remarks": []}


def test_a_model_is_loaded_with_its_own_batch_size(load) -> None:
    """The reply to `load` says batch size and parameters; `eager` takes two calls."""
    ask = load("linear", threads=None)
    eager = ask("eager")
    assert eager["batch_size"] == 4
    assert len(eager["seconds"]) == 2
    assert all(seconds > 0 for seconds in eager["seconds"])


@pytest.mark.parametrize("mode", ["inference", "training"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_mode_and_precision_passes_on_a_cpu(load, mode: str, dtype: str) -> None:
    """From loading to memory: each step succeeds and gives what it promises."""
    ask = load("batch_norm", mode=mode, dtype=dtype, batch_size=6)
    assert ask("eager")["batch_size"] == 6
    assert ask("accuracy") == GOOD
    compiled = ask("compile")
    assert compiled["calls"] >= 2
    assert compiled["compilation_latency"] > 0
    ask("settle")
    sweep = ask("sample", order=[["eager", "compiled"], ["compiled", "eager"]])
    assert (len(sweep["host"]["eager"]), len(sweep["host"]["compiled"]), len(sweep["probe"])) == (2, 2, 2)
    assert sweep["device"] == {}
    assert sweep["recompiled"] is False
    counters = ask("capture")["counters"]
    assert tuple(counters) == COUNTERS
    assert (counters["unique_graphs"], counters["graph_breaks"]) == (1, 0)


def test_inputs_may_be_keywords_and_outputs_mappings(load) -> None:
    """A model called with keywords is measured like any other."""
    assert load("keyword_input").steps("eager", "accuracy") == GOOD
    assert load("keyword_input", mode="training").steps("eager", "accuracy") == GOOD


def test_a_scalar_output_is_the_loss(load) -> None:
    """Training runs backward from it, and its gradients agree."""
    assert load("own_loss", mode="training").steps("eager", "accuracy") == GOOD


@pytest.mark.parametrize(
    ("model", "mode", "status", "reason"),
    [
        (
            "integers",
            "training",
            "eager_fail_to_run",
            "TypeError: training needs a floating-point output to make a loss of",
        ),
        ("nothing_to_learn", "training", "eager_fail_to_run", "RuntimeError: element 0 of tensors does not require"),
        ("out_of_memory", "inference", "OOM", "out of memory at batch size 1: RuntimeError: [enforce fail] Default"),
    ],
)
def test_what_eager_cannot_do_is_told(load, model: str, mode: str, status: str, reason: str) -> None:
    """The status, and why, in one line; the worker is there for another command."""
    ask = load(model, mode=mode)
    with pytest.raises(WorkerError) as failed:
        ask("eager")
    assert str(failed.value.status) == status
    assert reason in failed.value.reason
    assert failed.value.alive
    assert ask("environment")["environment"]["torch"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            "not_to_be_called",
            "TypeError: small_suite/not_to_be_called: its function returned",
        ),
        ("not_a_pair", "small_suite.py:164: the function gives a Linear alone"),
        ("missing", "it needs a library that is not here"),
    ],
)
def test_a_model_that_cannot_be_loaded_says_why(load, model: str, reason: str) -> None:
    """What the suite's function returned, or what the suite says is missing."""
    with pytest.raises(WorkerError) as failed:
        load(model)
    assert str(failed.value.status) == "model_fail_to_load"
    assert reason in failed.value.reason


def test_a_batch_too_large_for_the_memory_is_halved_until_it_fits(load) -> None:
    """100, 50, 25, 12, 6: the batch size that was measured is the one in the reply."""
    ask = load("out_of_memory_above_8")
    assert ask("eager")["batch_size"] == 6
    assert ask("accuracy") == GOOD


def test_a_batch_size_that_was_asked_for_is_halved_as_well(load) -> None:
    """Asking for one does not end the case where it does not fit."""
    assert load("out_of_memory_above_8", batch_size=32)("eager")["batch_size"] == 8


def test_compiled_code_that_runs_out_of_memory_is_oom(load) -> None:
    """In the accuracy check and when it is measured alone."""
    for command in ("accuracy", "compile"):
        ask = load("out_of_memory_when_compiled")
        ask("eager")
        with pytest.raises(WorkerError) as failed:
            ask(command)
        assert str(failed.value.status) == "OOM", failed.value.reason


def test_the_second_eager_run_has_a_status_of_its_own(load) -> None:
    """A model that runs once and not twice is named so."""
    with pytest.raises(WorkerError, match="ValueError: five") as failed:
        load("fails_at_fifth_call").steps("eager", "accuracy")
    assert str(failed.value.status) == "eager_2nd_run_fail"


def test_gradients_are_compared_in_training(load) -> None:
    """The same outputs with another gradient fail, with the parameter's name; inference has no gradients to fail by."""
    verdict = load("other_gradient_when_compiled", mode="training").steps("eager", "accuracy")
    assert verdict["status"] == "fail_accuracy"
    assert verdict["reason"].startswith("gradient of layer.weight: 64 of 64 values differ, most at [")
    assert "RMSE to float64 is " in verdict["reason"]
    assert load("other_gradient_when_compiled").steps("eager", "accuracy") == GOOD


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("a_little_off_when_compiled", "fail_accuracy"),
        ("a_little_off_and_allowed", "pass"),
        ("scaled_when_compiled", "fail_accuracy"),
        ("scaled_and_cosine", "pass"),
        ("not_in_float64", "pass"),
    ],
)
def test_the_suite_chooses_tolerance_and_cosine(load, model: str, status: str) -> None:
    """Its functions `tolerance` and `use_cosine` are asked; without a float64 reference cosine similarity decides,
    within a tenth of the size."""
    assert load(model).steps("eager", "accuracy")["status"] == status


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_dropout_passes_with_the_same_random_numbers(load, mode: str) -> None:
    """Eager and compiled draw from the same seed. Where they draw at all the worker is spent afterwards."""
    verdict = load("dropout", mode=mode).steps("eager", "accuracy")
    assert verdict == ({**GOOD, "is_spent": True} if mode == "training" else GOOD)


@pytest.mark.slow
def test_what_was_compiled_with_eagers_random_numbers_is_never_timed(load, tmp_path: Path) -> None:
    """The accuracy check compiles with them, and then its worker refuses to time; another one compiles without them."""
    ask = load("dropout", mode="training", compiler="inductor", cache_dir=str(tmp_path / "accuracy"))
    assert ask.steps("eager", "accuracy") == {**GOOD, "is_spent": True}
    with pytest.raises(WorkerError, match="compile in a new one"):
        ask("compile")
    ask = load("dropout", mode="training", compiler="inductor", cache_dir=str(cache := tmp_path / "performance"))
    assert ask.steps("eager", "compile")["compilation_latency"] > 0
    kernels = [path.read_text() for path in cache.rglob("*.py")]
    assert any("normalized_rand_cpu" in kernel for kernel in kernels)
    assert ask("capture")["counters"]["unique_graphs"] == 1


@pytest.mark.slow
def test_a_model_without_random_numbers_is_compiled_once(load, tmp_path: Path) -> None:
    """What was checked is what is timed: on a CPU there is no second compilation."""
    ask = load("linear", compiler="inductor", cache_dir=str(cache := tmp_path / "cache"))
    ask.steps("eager", "accuracy")
    kernels = set(cache.rglob("*.py"))
    ask("compile")
    assert kernels
    assert set(cache.rglob("*.py")) == kernels


def test_performance_needs_no_accuracy_before_it(load) -> None:
    """`compile` makes the compiled arm where nobody did."""
    ask = load("dropout", mode="training")
    assert ask.steps("eager", "compile")["calls"] >= 2
    assert set(ask("sample", order=[["compiled"]])["host"]) == {"compiled"}


@pytest.mark.parametrize("compiler", ["eager", "aot_eager"])
@pytest.mark.parametrize("mode", ["inference", "training"])
def test_the_break_of_graph_break_is_counted_with_its_reason(load, compiler: str, mode: str) -> None:
    """A branch on data, which dynamo's own counter leaves out, is one break with its place in the model's code."""
    ask = load("graph_break", spec="tiny", mode=mode, compiler=compiler, batch_size=2)
    ask.steps("eager", "accuracy", "compile")
    captured = ask("capture")
    assert captured["counters"]["graph_breaks"] == captured["counters"]["unique_graph_breaks"] == 1
    assert captured["counters"]["unique_graphs"] == 2
    ((reason, stack),) = captured["graph_breaks"]
    assert reason.startswith("generic_jump")
    assert Path(stack.partition(":")[0]).is_file()
    assert stack.partition(":")[0].endswith("/torchperf_ci/suites/tiny.py")
    assert stack.endswith("in forward")


def test_every_break_is_counted(load) -> None:
    """Two breaks are two, and three graphs."""
    ask = load("breaks_twice")
    ask.steps("eager", "compile")
    captured = ask("capture")
    assert (captured["counters"]["graph_breaks"], captured["counters"]["unique_graphs"]) == (2, 3)
    assert len(captured["graph_breaks"]) == 2
    assert all("small_suite.py" in stack for _, stack in captured["graph_breaks"])


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("cudagraphs", "cudagraphs needs a CUDA device"),
        ("ts_nvfuser", "nvFuser left TorchScript with torch 2.2"),
        ("ts_nvfuser_cudagraphs", "torch {torch} has no backend cudagraphs_ts"),
        ("aot_nvfuser", "torch {torch} has no backend aot_ts_nvfuser"),
        ("nvprims_nvfuser", "torch {torch} has no backend nvprims_nvfuser"),
        ("trt", "trt needs torch_tensorrt, not installed here"),
        ("torchscript-onnx", "torchscript-onnx needs onnx and onnxruntime, not installed here"),
        ("dynamo-onnx", "dynamo-onnx needs onnx and onnxscript and onnxruntime, not installed here"),
        ("tvm", "BackendCompilerFailed: backend='tvm' raised: ImportError: Please install apache-tvm"),
        ("openxla", "BackendCompilerFailed: backend='openxla' raised: ImportError: Please follow the instruction"),
    ],
)
def test_a_compiler_that_cannot_run_here_says_why(load, compiler: str, reason: str) -> None:
    """Every row of the table that this torch lacks is a status with a reason, alike in both testings."""
    ask = load("linear", compiler=compiler)
    ask("eager")
    torch_version = ask("environment")["environment"]["torch"]
    for command in ("accuracy", "compile"):
        with pytest.raises(WorkerError) as failed:
            ask(command)
        assert str(failed.value.status) == "compiler_not_available"
        assert failed.value.reason.startswith(reason.format(torch=torch_version))
        assert failed.value.alive


@pytest.mark.parametrize("mode", ["inference", "training"])
def test_torchscript_runs(load, mode: str) -> None:
    """ts_nnc is a row that this torch can run."""
    assert load("linear", compiler="ts_nnc", mode=mode).steps("eager", "accuracy") == GOOD


def test_a_backend_of_torch_that_fails_says_what_it_said(load) -> None:
    """The reason is the backend's own, not only its name."""
    with pytest.raises(WorkerError) as failed:
        load("linear", compiler="dynamo_minifier_backend").steps("eager", "compile")
    assert str(failed.value.status) == "fail_to_run"
    assert "raised: TypeError: dynamo_minifier_backend() missing 1 required" in failed.value.reason


def test_the_arms_run_in_the_order_asked_for(load) -> None:
    """A sweep names its arms; `inner` repeats inside a reading, `discard` runs untimed before the first one."""
    ask = load("tells_its_arm")
    ask.steps("eager", "compile")
    before = ask.log.read_text().count("ran ")
    sweep = ask("sample", order=[["compiled", "eager"], ["eager"]], inner={"eager": 3}, discard=1)
    words = [line for line in ask.log.read_text().splitlines() if line.startswith("ran ")][before:]
    assert words == ["ran compiled"] * 2 + ["ran eager"] * 3 + ["ran eager"] * 3
    assert (len(sweep["host"]["compiled"]), len(sweep["host"]["eager"]), len(sweep["probe"])) == (1, 2, 2)
    assert all(isinstance(time, int) and time > 0 for times in sweep["host"].values() for time in times)


def test_no_reading_is_a_sweep_of_nothing(load) -> None:
    """No warm-up at all is a fair request."""
    ask = load("linear")
    ask.steps("eager", "compile")
    nothing = {"host": {}, "device": {}, "probe": [], "recompiled": False, "recompiles": 0}
    assert ask("sample", order=[]) == nothing


def test_a_sample_that_compiled_again_says_so(load) -> None:
    """Its times are not those of the compiled model; the next sample is fine."""
    ask = load("compiles_again_at_call_30")
    ask.steps("eager", "compile")
    assert [ask("sample", order=[["eager", "compiled"]] * 10)["recompiled"] for _ in range(3)] == [False, True, False]


def test_memory_is_that_of_each_arm(load) -> None:
    """400 MB that only eager allocates are in eager's peak and not in the other; the process is larger than both."""
    ask = load("hungry_in_eager")
    ask.steps("eager", "compile")
    memory = ask("memory")
    peaks, process = memory["peaks"], memory["process"]
    assert set(peaks) == set(process) == {"eager", "compiled"}
    assert 400_000_000 <= peaks["eager"] < 400_100_000
    assert peaks["compiled"] < 100_000
    assert process["eager"] - process["compiled"] > 300_000_000
    assert 50_000_000 < process["compiled"] < psutil.virtual_memory().total


def test_threads_and_cpus_are_limited(fork, load) -> None:
    """Never more threads than CPUs the process may run on, whatever was asked for."""
    told = fork()("environment", threads=100_000)["environment"]
    assert told["threads"] == told["cpu_count"] == len(psutil.Process().cpu_affinity())
    ask = load("linear", cpus=[psutil.Process().cpu_affinity()[0]], threads=8)
    assert ask("environment")["environment"]["threads"] == 1
    ask.steps("eager", "settle")  # compilers have had all CPUs; what is timed has its own
    assert ask("environment")["environment"]["cpu_count"] == 1


def test_a_suite_lists_itself(fork) -> None:
    """Models, what --quick keeps, and what is left out with the reason."""
    told = fork()("suite", spec=str(Path(__file__).parent / "small_suite.py"))
    assert told["name"] == "small_suite"
    assert told["models"][:2] == ["linear", "dropout"]
    assert (told["quick"], told["preload"]) == (["^linear$"], [])
    assert told["skips"] == [
        {"model": "own_loss", "reason": "it has no sense here", "device": None, "mode": "inference"}
    ]


def test_the_environment_is_described(fork) -> None:
    """What a record needs to be compared later, and what a person may choose from."""
    told = fork()("environment")
    environment = told["environment"]
    assert environment["python"] == platform.python_version()
    assert (environment["torch"], environment["torch_git"]) == (torch.__version__, torch.version.git_version)
    assert environment["memory_bytes"] == pytest.approx(psutil.virtual_memory().total, rel=0.1)
    assert environment["cpu"]
    assert told["devices"]["cpu"] == 1
    assert told["dtypes"] == ["float32", "float16", "bfloat16", "amp"]
    assert {"eager", "inductor", "trt", "tvm"} <= set(told["compilers"])
    assert told["dynamo_flags"]["verbose"] is False
    assert told["packages"]["torch"] == metadata.version("torch")
