"""Running the scripts of a PyTorch checkout: whatever a command does, it ends as one line that says so."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Build, Environment, Mode, Status, Testing
from torchperf_ci.core.result_files import CommandResult, plan_line, read_command_log, read_folder
from torchperf_ci.core.results import COMMANDS, open_folder
from torchperf_ci.pytorch.harness import (
    TESTINGS,
    CheckoutRun,
    HarnessRequest,
    PyTorchCheckout,
    ask_skips,
    commands,
)
from torchperf_ci.run.supervisor import command_environment

MODELS = ("AlbertForMaskedLM", "BertForMaskedLM", "SkippedForAll", "SkippedInTraining")
BUILD = Build(environment=Environment(torch="2.13.0"))


@pytest.fixture
def pytorch(tmp_path: Path) -> Path:
    """A stand-in checkout of its own."""
    return Path(shutil.copytree(Path(__file__).parent / "standin_checkout", tmp_path / "py torch"))


def request_for(
    *compilers: str, suite: str = "huggingface", testings: tuple[Testing, ...] = TESTINGS
) -> HarnessRequest:
    return HarnessRequest(
        mode=Mode.INFERENCE,
        python=sys.executable,
        suites=(suite,),
        devices=("cpu",),
        compilers=compilers,
        testings=testings,
    )


def checkout_at(folder: Path, behaviour: dict[str, str] | None = None) -> PyTorchCheckout:
    extra = {"STANDIN": json.dumps(behaviour or {})}
    return PyTorchCheckout(folder=folder, environ=command_environment(os.environ, extra=extra))


def measure(
    request: HarnessRequest,
    pytorch: Path,
    out: Path,
    behaviour: dict[str, str] | None = None,
    *,
    timeout: float = 60,
    budget: float | None = None,
    said: list[str] | None = None,
) -> list[CommandResult]:
    with open_folder(out) as folder:
        return CheckoutRun(
            commands=commands(request, output=str(out), skips={}),
            checkout=checkout_at(pytorch, behaviour),
            folder=folder,
            build=BUILD,
            timeout=timeout,
            budget=budget,
        ).measure([].append if said is None else said.append)


def csv_of(compiler: str, testing: str = "performance") -> str:
    return f"{compiler}_huggingface_float32_inference_cpu_{testing}.csv"


def test_commands_that_fail_in_every_way_are_told_apart_and_leave_their_rows(pytorch: Path, tmp_path: Path) -> None:
    """Raising, segfaulting, hanging, writing nothing or rubbish, losing a model; the healthy one beside them passes."""
    out = tmp_path / "out"
    behaviour = {
        csv_of("eager"): "raise",
        csv_of("aot_eager"): "segfault",
        csv_of("inductor"): f"hang:2718.{os.getpid()}",
        csv_of("inductor_no_cudagraphs"): "silent",
        csv_of("ts_nnc"): "binary",
        csv_of("trt"): "lose:BertForMaskedLM",
    }
    compilers = ("eager", "aot_eager", "inductor", "inductor_no_cudagraphs", "ts_nnc", "trt", "dynamo-onnx")
    made = measure(request_for(*compilers, testings=(Testing.PERFORMANCE,)), pytorch, out, behaviour, timeout=4)
    assert [(result.status, result.rows, result.trouble) for result in made] == [
        (Status.CRASHED, 1, "ended with exit code 1: RuntimeError: the harness itself | fails <b>here</b>"),
        (Status.CRASHED, 1, "ended by signal 11 (SIGSEGV): cpu eval AlbertForMaskedLM"),
        (Status.TIMEOUT, 1, "not done within 4 s"),
        (Status.FAIL_TO_RUN, 0, "ended with exit code 0 and wrote no rows"),
        (
            Status.FAIL_TO_RUN,
            0,
            f"ended with exit code 0 and wrote no rows; no row for {', '.join(MODELS)}",
        ),
        (Status.PASS, 3, "no row for BertForMaskedLM"),
        (Status.PASS, 4, ""),
    ]
    assert list(read_command_log(out).results.values()) == made
    for result in made[:4]:
        assert (out / result.log).is_file()
    problems = [problem.file for problem in read_folder(out, CaseSelection()).problems]
    assert problems == [csv_of(compiler) for compiler in compilers[:6]] + [csv_of("ts_nnc")]
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if f"time.sleep(2718.{os.getpid()})" in str(p.info["cmdline"])
    ]


def test_the_csv_files_and_their_companions_stay_as_they_were_written_and_are_ours(
    pytorch: Path, tmp_path: Path
) -> None:
    """Emptying the folder later removes them, and nothing that a person put beside them."""
    out = tmp_path / "out"
    measure(request_for("eager"), pytorch, out)
    held = (out / csv_of("eager")).read_text()
    assert held.startswith("dev,name,batch_size,speedup,abs_latency,")
    assert "cpu,AlbertForMaskedLM,4,1.250000,8.000000,3.500000,0.900000,1.000000,1.100000,1,1" in held
    stats = csv_of("eager").replace(".csv", "_stats.csv")
    assert (out / stats).is_file()
    (out / "notes.txt").write_text("mine")
    with open_folder(out) as folder:
        assert {csv_of("eager"), csv_of("eager", "accuracy"), stats, COMMANDS} <= folder.written
        folder.empty()
    assert {path.name for path in out.iterdir()} == {"notes.txt", ".torchperf-ci"}


def test_a_second_run_takes_up_what_failed_and_leaves_what_passed(pytorch: Path, tmp_path: Path) -> None:
    """A stale file of a command that failed does not count for the next attempt."""
    out = tmp_path / "out"
    first = measure(request_for("eager", "inductor"), pytorch, out, {csv_of("eager"): "raise"})
    assert [result.status.is_pass for result in first] == [False, True, True, True]
    said: list[str] = []
    (second,) = measure(request_for("eager", "inductor"), pytorch, out, {csv_of("eager"): "silent"}, said=said)
    assert said[0] == "3 commands done already; 1 left."
    assert second.rows == 0
    assert not (out / csv_of("eager")).exists()
    said.clear()
    third = measure(request_for("eager", "inductor"), pytorch, out, said=said)
    assert (len(third), said[0]) == (1, "3 commands done already; 1 left.")
    assert read_folder(out, CaseSelection()).problems == ()


def test_commands_beyond_the_budget_are_not_run_and_said_so(pytorch: Path, tmp_path: Path) -> None:
    """A line each; a later run takes them up."""
    made = measure(request_for("eager"), pytorch, tmp_path / "out", budget=0.0)
    assert [(result.status, result.reason) for result in made] == [
        (Status.NOT_RUN, "not run: the run's budget of 0 s was spent")
    ] * 2
    assert len(measure(request_for("eager"), pytorch, tmp_path / "out")) == 2


def test_a_folder_tells_its_readers_what_became_of_its_commands(pytorch: Path, tmp_path: Path) -> None:
    """Environment of the run, commands that never ran, lines that cannot be read; no fuss about what was not asked."""
    out, left = tmp_path / "out", csv_of("inductor", "accuracy")
    measure(request_for("eager", testings=(Testing.PERFORMANCE,)), pytorch, out)
    results = read_folder(out, CaseSelection())
    assert (results.problems, results.builds) == ((), (BUILD,))
    with (out / COMMANDS).open("a") as stream:
        stream.write(f'{plan_line([left])}\n{{"type":\n')
    assert [str(problem) for problem in read_folder(out, CaseSelection()).problems] == [
        "commands.jsonl:5: cannot be used: not JSON: Expecting value: line 1 column 9 (char 8)",
        f"{left}: its command was not run to its end; the same `run` with --keep-output-dir does what is left",
    ]
    assert len(read_folder(out, CaseSelection(compilers=("eager",))).problems) == 1


def test_a_python_that_cannot_be_started_fails_every_command(pytorch: Path, tmp_path: Path) -> None:
    """With the reason, and the run goes on."""
    request = request_for("eager", "inductor", testings=(Testing.ACCURACY,))
    made = measure(replace(request, python="/no/python"), pytorch, tmp_path / "out")
    assert [(result.status, result.reason) for result in made] == [
        (Status.FAIL_TO_RUN, "/no/python cannot be started: No such file or directory")
    ] * 2


@pytest.mark.parametrize(
    ("suite", "mode", "cpu", "cuda"),
    [
        (
            "torchbench",
            Mode.INFERENCE,
            ["left_out", "not_on_cpu", "with space"],
            ["left_out", "not_on_cuda", "with space"],
        ),
        (
            "torchbench",
            Mode.TRAINING,
            ["left_out", "not_for_training", "not_on_cpu", "with space"],
            ["left_out", "not_for_training", "not_on_cuda", "with space"],
        ),
        ("huggingface", Mode.INFERENCE, ["SkippedForAll"], ["SkippedForAll"]),
        ("huggingface", Mode.TRAINING, ["SkippedForAll", "SkippedInTraining"], ["SkippedForAll", "SkippedInTraining"]),
    ],
)
def test_suites_say_which_models_to_skip(
    pytorch: Path, suite: str, mode: Mode, cpu: list[str], cuda: list[str]
) -> None:
    """torchbench by its class, by mode and device; other suites by the lists of their module."""
    request = HarnessRequest(mode=mode, python=sys.executable, devices=("cpu", "cuda:1"))
    assert ask_skips(checkout_at(pytorch), request, suite) == ({"cpu": cpu, "cuda:1": cuda}, "")


def test_where_a_suite_cannot_be_asked_the_reason_is_known_and_no_skip(pytorch: Path) -> None:
    """An import that fails, one that ends the process, a list that is computed, a script that is none, no Python."""
    request = HarnessRequest(mode=Mode.TRAINING, python=sys.executable)
    broken = pytorch / "benchmarks" / "dynamo" / "broken.py"
    runner = "\nclass TorchBenchmarkRunner: ...\n"
    texts = {
        "fails": f"import no_such_module{runner}",
        "exits": f"raise SystemExit('no torchbench here'){runner}",
        "dies": f"import os; os._exit(3){runner}",
        "computed": "SKIP = set(open('names').read().split())",
        "no script": "SKIP = {",
    }
    reasons = {}
    for name, text in texts.items():
        broken.write_text(text)
        skips, reasons[name] = ask_skips(checkout_at(pytorch), request, "broken")
        assert skips == {}
    reasons["none"] = ask_skips(checkout_at(pytorch), replace(request, python="/no/python"), "torchbench")[1]
    assert reasons.pop("no script").startswith("SyntaxError: ")
    assert reasons == {
        "fails": "ModuleNotFoundError: No module named 'no_such_module'",
        "exits": "SystemExit: no torchbench here",
        "dies": "ended with exit code 3: no output",
        "computed": "ValueError: SKIP is not written out in the module, so it is not known",
        "none": "/no/python cannot be started: No such file or directory",
    }


def test_a_module_that_cannot_be_imported_is_not_imported_for_its_lists(pytorch: Path) -> None:
    """Where its package is missing, the real one would run pip: only its source is read."""
    request = HarnessRequest(mode=Mode.TRAINING, python=sys.executable)
    assert ask_skips(checkout_at(pytorch), request, "timm_models") == ({"cuda": []}, "")
    installs = "import os\nSKIP: set = {'a'}\nSKIP_TRAIN = ['b']\nos.system('touch installed')\n"
    (pytorch / "benchmarks" / "dynamo" / "installs.py").write_text(installs)
    assert ask_skips(checkout_at(pytorch), request, "installs") == ({"cuda": ["a", "b"]}, "")
    assert not list(pytorch.rglob("installed"))


@pytest.mark.parametrize(
    "attempt",
    [
        "subprocess.check_call([sys.executable, '-m', 'pip', 'install', 'marker'])",
        "subprocess.check_call([sys.executable, '-m', 'pip', 'install', 'git+https://example.invalid/marker.git'])",
        "subprocess.run('pip install marker', shell=True, check=True)",
        "subprocess.run(['uv', 'pip', 'install', 'marker'], check=True)",
        "subprocess.run(['conda', 'install', '-y', 'marker'], check=True)",
        "os.system('pip3 install marker')",
        "os.execvp(sys.executable, [sys.executable, '-m', 'pip', 'install', 'marker'])",
        "os.posix_spawn(sys.executable, [sys.executable, '-m', 'pip', 'install', 'marker'], os.environ)",
        "from pip._internal.cli.main import main; main(['install', 'marker'])",
        "import ensurepip; ensurepip.bootstrap()",
        "import urllib.request; urllib.request.urlopen('http://example.invalid/weights')",
        "import socket; socket.create_connection(('example.invalid', 80))",
    ],
)
def test_asking_for_skips_installs_and_downloads_nothing(pytorch: Path, tmp_path: Path, attempt: str) -> None:
    """A suite whose module reaches for pip where a package is missing is refused, and says what it wanted."""
    log = tmp_path / "called"
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("pip", "pip3", "uv", "conda"):
        (tools / name).write_text(f"#!/bin/sh\necho {name} >> {log}\n")
        (tools / name).chmod(0o755)
    module = f"import os, subprocess, sys\n{attempt}\nclass TorchBenchmarkRunner:\n    skip_models = ()\n"
    (pytorch / "benchmarks" / "dynamo" / "installs.py").write_text(module)
    checkout = checkout_at(pytorch)
    environ = {**checkout.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}
    request = HarnessRequest(mode=Mode.TRAINING, python=sys.executable)
    skips, reason = ask_skips(replace(checkout, environ=environ), request, "installs")
    assert skips == {}
    assert reason.startswith("InstallRefused: it wants to ")
    assert not log.exists()


def test_a_shell_script_that_calls_pip_finds_nothing_to_install_into(pytorch: Path, tmp_path: Path) -> None:
    """What no hook sees gets no index, and a folder that goes away in place of the Python under test."""
    script = tmp_path / "install.sh"
    script.write_text(f'#!/bin/sh\nenv > {tmp_path}/variables\n"{sys.executable}" -m pip install marker\n')
    script.chmod(0o755)
    module = f"import subprocess\nsubprocess.run(['{script}'])\nclass TorchBenchmarkRunner:\n    skip_models = ['a']\n"
    (pytorch / "benchmarks" / "dynamo" / "hidden.py").write_text(module)
    request = HarnessRequest(mode=Mode.TRAINING, python=sys.executable)
    assert ask_skips(checkout_at(pytorch), request, "hidden") == ({"cuda": ["a"]}, "")
    variables = (tmp_path / "variables").read_text()
    assert "PIP_NO_INDEX=1" in variables
    assert "PIP_TARGET=" in variables
    with pytest.raises(ModuleNotFoundError):
        __import__("marker")


def test_secrets_stay_out_of_the_commands_environment() -> None:
    """GitHub's tokens are not for measured code; what was asked for is there, and folders come first in PYTHONPATH."""
    environ = {"GITHUB_TOKEN": "secret", "GITHUB_OUTPUT": "/x", "PATH": "/bin", "PYTHONPATH": "/mine"}
    assert command_environment(environ, extra={"A": "1"}, module_paths=("/bench",)) == {
        "PATH": "/bin",
        "A": "1",
        "PYTHONPATH": "/bench:/mine",
        "PYTHONUNBUFFERED": "1",
    }
