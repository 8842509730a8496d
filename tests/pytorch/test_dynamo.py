"""The commands of PyTorch's own suite runner, and the script of them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Mode, Testing
from torchperf_ci.pytorch.harness import COMPILERS, HarnessRequest, ScriptPlace, check, commands, script, script_name

GOLDEN = Path(__file__).parents[1] / "golden"
HERE = ScriptPlace(output="benchmark_logs")
SKIPS = {("torchbench", "cuda"): ["fambench_xlmr", "detectron2_maskrcnn"], ("huggingface", "cuda"): ["GPTJForCausalLM"]}
EVERYTHING = HarnessRequest(
    mode=Mode.INFERENCE,
    python="/opt/my python/bin/python",
    suites=("huggingface", "timm_models"),
    devices=("cpu", "cuda"),
    dtypes=("amp",),
    compilers=("inductor", "dynamo-onnx"),
    quick=True,
    filters=("$(rm -rf ~)",),
    exclude=("it's", "GPTJForCausalLM"),
    log_operator_inputs=True,
    cold_start=False,
    batch_size=8,
    threads=4,
    repeat=7,
    total_partitions=3,
    partition_id=2,
    inductor_mode="max-autotune",
    extra=("--freezing", "--label=a b"),
    launcher=("--node-id", "0"),
)


def text_of(request: HarnessRequest, place: ScriptPlace = HERE, *, keep: bool = False) -> str:
    return script(commands(request, output=place.output, skips=SKIPS), place, keep=keep)


@pytest.mark.parametrize("mode", list(Mode))
def test_the_default_script_has_pytorchs_commands_in_pytorchs_order(mode: Mode) -> None:
    """Performance before accuracy, then suite, device, dtype, compiler; flags, skips and file names to the letter."""
    assert text_of(HarnessRequest(mode=mode)) == (GOLDEN / f"dynamo_{mode}.sh").read_text(encoding="utf-8")


def test_every_compiler_and_every_option_has_its_place_in_the_command() -> None:
    """Also with the CPU launcher, and with text that a shell would act upon."""
    place = ScriptPlace(
        output="/tmp/my logs",
        checkout="/src/py torch",
        extra_env={"TORCHINDUCTOR_FREEZING": "1", "A": "$(b)"},
        module_paths=("/src/torch bench",),
    )
    assert text_of(EVERYTHING, place, keep=True) == (GOLDEN / "dynamo_everything.sh").read_text(encoding="utf-8")


def test_a_secret_is_not_written_into_the_script() -> None:
    """It is taken from where the script runs."""
    text = script([], ScriptPlace(output="/tmp/logs", extra_env={"HF_TOKEN": "hf_123", "A": "1"}), keep=True)
    assert "export HF_TOKEN\nexport A=1\n" in text
    assert "hf_123" not in text


FLAGS = """
training ts_nnc --training --speedup-ts
training ts_nvfuser --training --nvfuser --speedup-dynamo-ts
training eager --training --backend=eager
training aot_eager --training --backend=aot_eager
training cudagraphs --training --backend=cudagraphs
training aot_nvfuser --training --nvfuser --backend=aot_ts_nvfuser
training nvprims_nvfuser --training --backend=nvprims_nvfuser
training inductor --training --inductor
training inductor_no_cudagraphs --training --inductor --disable-cudagraphs
training inductor_max_autotune --training --inductor --inductor-compile-mode max-autotune
training inductor_max_autotune_no_cudagraphs --training --inductor --inductor-compile-mode \
max-autotune-no-cudagraphs --disable-cudagraphs
inference aot_eager --inference --backend=aot_eager
inference eager --inference --backend=eager
inference ts_nnc --inference --speedup-ts
inference ts_nvfuser --inference -n100 --speedup-ts --nvfuser
inference trt --inference -n100 --speedup-trt
inference ts_nvfuser_cudagraphs --inference --backend=cudagraphs_ts
inference inductor --inference -n50 --inductor
inference inductor_no_cudagraphs --inference -n50 --inductor --disable-cudagraphs
inference inductor_max_autotune --inference -n50 --inductor --inductor-compile-mode max-autotune
inference inductor_max_autotune_no_cudagraphs --inference -n50 --inductor --inductor-compile-mode \
max-autotune-no-cudagraphs --disable-cudagraphs
inference torchscript-onnx --inference -n5 --torchscript-onnx
inference dynamo-onnx --inference -n5 --dynamo-onnx
"""


def test_every_compiler_has_its_flags() -> None:
    """What stands between the output and --no-skip chooses the compiler."""
    made = [
        item
        for mode in (Mode.TRAINING, Mode.INFERENCE)
        for item in commands(
            HarnessRequest(mode=mode, suites=("x",), compilers=tuple(COMPILERS[mode]), testings=(Testing.ACCURACY,)),
            output="out",
            skips={},
        )
    ]
    lines = [[item.case.mode, item.case.compiler, *item.argv[6 : item.argv.index("--no-skip")]] for item in made]
    assert "\n".join(" ".join(line) for line in lines) == FLAGS.strip()


def test_the_script_is_named_after_everything_it_runs() -> None:
    """Mode, devices, dtypes, suites, compilers; a name too long for a file is cut and still tells scripts apart."""
    assert script_name(HarnessRequest(mode=Mode.TRAINING)) == (
        "run_training_cuda_float32_torchbench_huggingface_timm_models"
        "_eager_aot_eager_inductor_inductor_no_cudagraphs.sh"
    )
    compilers = tuple(COMPILERS[Mode.INFERENCE])
    long = [script_name(replace(EVERYTHING, compilers=some)) for some in (compilers, compilers[:-1])]
    assert len(set(long)) == 2
    assert all(len(name) < 255 and name.endswith(".sh") for name in long)


def test_what_is_asked_for_twice_runs_once() -> None:
    """A repeated name would write the same file again."""
    request = HarnessRequest(mode=Mode.TRAINING, suites=("torchbench",) * 2, compilers=("eager", "inductor", "eager"))
    assert [item.csv for item in commands(request, output="out", skips={})] == [
        f"{compiler}_torchbench_float32_training_cuda_{testing}.csv"
        for testing in (Testing.PERFORMANCE, Testing.ACCURACY)
        for compiler in ("eager", "inductor")
    ]


def test_everything_the_checkout_cannot_do_is_listed_at_once() -> None:
    """Unknown suites, compilers of the other mode, unknown dtypes, a quick look without filters: with the choices."""
    request = HarnessRequest(
        mode=Mode.TRAINING,
        suites=("torchbnch", "huggingface_llm"),
        compilers=("inducter", "trt"),
        dtypes=("float64",),
        quick=True,
    )
    with pytest.raises(UsageProblem) as raised:
        check(request, ["common", "huggingface", "huggingface_llm", "torchbench"])
    choices = ", ".join(COMPILERS[Mode.TRAINING])
    assert str(raised.value).splitlines() == [
        "unknown suite 'torchbnch'. Did you mean torchbench? There are: torchbench, huggingface.",
        f"unknown compiler 'inducter'. Did you mean inductor? There are: {choices}.",
        f"unknown compiler 'trt'. There are: {choices}.",
        "unknown dtype 'float64'. Did you mean float16? There are: float32, float16, bfloat16, amp.",
        "--quick knows no filters for the suite 'torchbnch'; give them with --filter",
        "--quick knows no filters for the suite 'huggingface_llm'; give them with --filter",
    ]


WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@settings(max_examples=25)
@given(skip=WORDS, extra=WORDS, variable=WORDS)
def test_bash_passes_every_text_on_as_it_is(skip: str, extra: str, variable: str) -> None:
    """Whatever a suite's names and the user's arguments hold, the shell does nothing with it."""
    program = "import json, os, sys; print(json.dumps([sys.argv[1:], os.environ['HELD']]))"
    request = HarnessRequest(
        mode=Mode.INFERENCE, python=sys.executable, suites=("x",), compilers=("eager",), extra=(extra,)
    )
    made = [
        replace(item, argv=(sys.executable, "-c", program, *item.argv[1:]))
        for item in commands(request, output="out", skips={("x", "cuda"): [skip]})
    ]
    text = script(made, ScriptPlace(output="/dev/null/..", extra_env={"HELD": variable}), keep=True).replace(
        "mkdir", ": mkdir"
    )
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [[list(item.argv[3:]), variable] for item in made]
    assert done.returncode == 0


def test_a_failing_command_does_not_stop_the_script_and_is_not_forgotten(tmp_path: Path) -> None:
    """The rest runs, the command is named, the exit code is 6."""
    request = HarnessRequest(mode=Mode.INFERENCE, suites=("x",), compilers=("eager", "inductor"))
    first, *rest = commands(request, output="out", skips={})
    made = [replace(first, argv=("false", "it's")), *(replace(item, argv=("echo", item.csv)) for item in rest)]
    done = subprocess.run(
        ["bash", "-c", script(made, ScriptPlace(output=str(tmp_path / "a b")), keep=False)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 6
    assert f"Failed: {shlex.join(made[0].argv)}" in done.stderr.splitlines()
    assert done.stdout.splitlines() == [item.csv for item in rest]
    assert (tmp_path / "a b").is_dir()
