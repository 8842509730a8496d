"""`torchperf-ci run --harness dynamo` as a user starts it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]
DYNAMO = ("run", "--harness", "dynamo", "--inference", "--devices", "cpu")
SCRIPT = """\
#!/bin/bash
set -x
failed=0
trap 'failed=6; echo "Failed: $BASH_COMMAND" >&2' ERR
export TORCH_LOGS=recompiles
# The folder of the results
rm -rf out
mkdir -p out

# performance of huggingface: training, float32, cuda
python benchmarks/dynamo/huggingface.py --performance --float32 -dcuda \
--output=out/inductor_huggingface_float32_training_cuda_performance.csv --training --inductor --freezing --label='a b' \
--no-skip --dashboard -x SkippedForAll -x SkippedInTraining -k Albert --batch-size 2

exit "$failed"
"""


@pytest.fixture
def pytorch(tmp_path: Path) -> Path:
    """A stand-in checkout of its own."""
    return Path(shutil.copytree(Path(__file__).parent / "standin_checkout", tmp_path / "pytorch"))


def csv_of(compiler: str, testing: str) -> str:
    return f"{compiler}_huggingface_float32_inference_cpu_{testing}.csv"


def children_sleeping(seconds: str) -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if f"time.sleep({seconds})" in str(p.info["cmdline"])]


def test_the_commands_are_printed_and_written_and_none_is_run(cli: Cli, pytorch: Path) -> None:
    """From inside the checkout the script is PyTorch's own, with `python` for whichever that will be."""
    done = cli(
        *("run", "--harness", "dynamo", "--training", "--print-run-commands", "--suites", "huggingface", "--quick"),
        *("--compilers", "inductor", "--no-accuracy", "--output-dir", "out", "--batch_size", "2"),
        *(
            "--no-cold-start-latency",
            "--extra_args",
            "--freezing --label='a b'",
            "--extra-env",
            "TORCH_LOGS=recompiles",
        ),
        cwd=pytorch,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == SCRIPT.replace("\\\n", "").replace("--label='a b'", "'--label=a b'")
    written = pytorch / "out" / "run_training_cuda_float32_huggingface_inductor.sh"
    assert written.read_text() == done.stdout
    assert os.access(written, os.X_OK)
    assert {path.name for path in (pytorch / "out").iterdir()} == {written.name, ".torchperf-ci"}


def test_the_printed_script_does_what_a_run_does(cli: Cli, pytorch: Path, tmp_path: Path) -> None:
    """From any folder: it goes to the checkout and writes the CSV files of a run, which `report` reads."""
    done = cli(
        *(*DYNAMO, "--print-run-commands", "--suites", "torchbench", "--compilers", "eager"),
        *("--python", sys.executable, "--pytorch-dir", str(pytorch), "--output-dir", "my out"),
    )
    script = tmp_path / "script.sh"
    script.write_text(done.stdout)
    assert subprocess.run(["bash", str(script)], capture_output=True).returncode == 0
    names = {path.name for path in (tmp_path / "cwd" / "my out").glob("*_*.csv")}
    assert {f"eager_torchbench_float32_inference_cpu_{testing}.csv" for testing in ("performance", "accuracy")} <= names
    report = cli("report", "my out")
    assert report.returncode == 0, report.stderr
    assert report.stdout.endswith("✅ 4 cases passed\n")


@pytest.mark.slow
def test_a_run_with_failing_commands_is_reported_resumed_and_reported_again(cli: Cli, pytorch: Path) -> None:
    """Named on stderr and in the report, exit code 6; the same command with --keep-output-dir runs what is left."""
    command = (*DYNAMO, "--pytorch-dir", str(pytorch), "--suites", "huggingface", "--output-dir", "out")
    compilers = ("--compilers", "eager", "--compilers", "inductor")
    out = pytorch.parent / "cwd" / "out"
    outputs = pytorch.parent / "outputs"
    behaviour = {csv_of("eager", "performance"): "raise", csv_of("inductor", "accuracy"): "silent"}
    env = {"STANDIN": json.dumps(behaviour), "GITHUB_OUTPUT": str(outputs), "GITHUB_TOKEN": "secret"}
    done = cli(*command, *compilers, "--github-files", env=env)
    assert done.returncode == 6, done.stderr
    assert "[1/4] huggingface eager inference float32 cpu performance …" in done.stderr.splitlines()
    causes = [
        f"{csv_of('eager', 'performance')}: its command: ended with exit code 1: RuntimeError: the harness itself",
        f"{csv_of('inductor', 'accuracy')}: its command: ended with exit code 0 and wrote no rows",
    ]
    assert [
        line[9:].partition(" |")[0].partition(" (")[0] for line in done.stderr.splitlines() if line[:8] == "Problem:"
    ] == causes
    report = (out / "report.md").read_text()
    assert "2 problems with the input" in done.stdout.splitlines()[-1]
    assert "wrote no rows" in report
    assert "torch 2" in report
    assert "exit-code" in outputs.read_text()
    again = cli("report", "out")
    assert again.returncode == 6
    assert again.stdout == done.stdout
    resumed = cli(*command, *compilers, "--keep-output-dir")
    assert resumed.returncode == 0, resumed.stderr
    assert "2 commands done already; 2 left." in resumed.stderr
    assert resumed.stdout.endswith("✅ 6 cases passed\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_what_is_finished_and_nothing_running(pytorch: Path, number: int) -> None:
    """Whoever stops the controller, by whatever signal, stops the command and what it has started."""
    seconds = f"3141.{os.getpid()}{number}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "torchperf_ci", *DYNAMO, "--suites", "huggingface", "--output-dir", "out"),
            *("--compilers", "eager", "--compilers", "inductor"),
        ],
        cwd=pytorch,
        env={**os.environ, "STANDIN": json.dumps({csv_of("inductor", "performance"): f"hang:{seconds}"})},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr:
        for line in process.stderr:
            if line.startswith("[2/4]"):
                break
        while not children_sleeping(seconds):
            time.sleep(0.05)
        process.send_signal(number)
        talk = process.stderr.read()
    assert process.wait(timeout=30) == (-number if number == signal.SIGKILL else 128 + number)
    assert number == signal.SIGKILL or "the same command with --keep-output-dir measures the rest" in talk
    until = time.monotonic() + 20
    while children_sleeping(seconds) and time.monotonic() < until:
        time.sleep(0.05)
    assert children_sleeping(seconds) == []
    assert (pytorch / "out" / csv_of("eager", "performance")).is_file()
    report = subprocess.run(
        [sys.executable, "-m", "torchperf_ci", "report", "out"], cwd=pytorch, capture_output=True, text=True
    )
    assert report.returncode == 6
    assert report.stderr.count("its command was not run to its end") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--harness", "dynamo"], "name its folder with --pytorch-dir"),
        (["--harness", "dynamo", "--torchbench-dir", "none"], "Directory 'none' does not exist"),
        (["--pytorch-dir", "."], "--pytorch-dir: not an option of --harness torchperf"),
        (
            ["--harness", "dynamo", "--warmup", "3", "--seed", "1"],
            "--warmup, --seed: not an option of --harness dynamo; the scripts' own options go into --extra-args",
        ),
        (
            ["--harness", "dynamo", "--extra-args", "'"],
            "--extra-args cannot be split into arguments: No closing quotation",
        ),
        (
            ["--harness", "dynamo", "--cpu-launcher-args", "-n 1"],
            "--cpu-launcher-args without --enable-cpu-launcher has",
        ),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(cli: Cli, arguments: list[str], message: str) -> None:
    """Exit code 2, and the sentence says what to do."""
    done = cli("run", "--inference", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_suites_and_compilers_the_checkout_does_not_have_are_refused_with_the_choices(cli: Cli, pytorch: Path) -> None:
    """Before anything is written."""
    done = cli(*DYNAMO, "--suites", "tiny", "--compilers", "inducter", cwd=pytorch)
    assert done.returncode == 2
    assert "unknown suite 'tiny'. There are: torchbench, huggingface, timm_models." in done.stderr
    assert "unknown compiler 'inducter'. Did you mean inductor?" in done.stderr
    assert not (pytorch / "benchmark_logs").exists()


def test_options_of_this_harness_in_the_environment_do_not_disturb_the_other(cli: Cli, pytorch: Path) -> None:
    """A workflow sets TORCHPERF_PYTORCH_DIR for `report` as well."""
    done = cli("run", env={"TORCHPERF_PYTORCH_DIR": str(pytorch)})
    assert done.stderr.splitlines()[-1] == "Error: give exactly one of --inference and --training"
