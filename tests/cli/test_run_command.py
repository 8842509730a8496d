"""`torchperf-ci run` as a user starts it: what it refuses, what it takes from where, and what it leaves behind."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from torchperf_ci.cli.run import run
from torchperf_ci.core.records import Status, Testing
from torchperf_ci.core.results import open_folder, read_results
from torchperf_ci.run.survey import without_values

SMALL = """
import os
import torch
from torch import nn

def linear(batch_size):
    return nn.Linear(8, 8), (torch.randn(batch_size or 4, 8),)

MODELS = {name: linear for name in os.environ.get("NAMES_OF_MODELS", "one two").split()}
"""
QUICKLY = ("--inference", "--devices", "cpu", "--compilers", "eager", "-n", "10", "--warmup", "0", "-t", "1")


@pytest.fixture
def suite(tmp_path: Path) -> str:
    """A suite file with two small models."""
    path = tmp_path / "small.py"
    path.write_text(SMALL)
    return str(path)


def parsed(*arguments: str) -> dict[str, Any]:
    """The values the command would get."""
    return run.make_context("run", list(arguments)).params


def test_the_values_of_variables_are_not_part_of_the_command_that_is_kept() -> None:
    """In every way that an option may be written; everything else is."""
    typed = [
        "run",
        "--extra-env",
        "HF_TOKEN=s=1",
        "--base_env=A=s",
        "--head-env",
        "B=s",
        "--name",
        "x=y",
        "--suites=a=b",
    ]
    kept = ["run", "--extra-env", "HF_TOKEN=…", "--base_env=A=…", "--head-env", "B=…", "--name", "x=y", "--suites=a=b"]
    assert list(without_values(typed)) == kept


# What is refused, and how


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give exactly one of --inference and --training"),
        (("--inference", "--training"), "give exactly one of --inference and --training"),
        (("--inference", "--mode", "training"), "give exactly one of --inference and --training"),
        (
            ("--inference", "--partition-id", "2", "--total-partitions", "2"),
            "--partition-id 2 is not below --total-partitions 2; partitions count from 0",
        ),
        (("--inference", "--partition-id", "-1"), "-1 is not in the range x>=0."),
        (("--inference", "--total-partitions", "0"), "0 is not in the range x>=1."),
        (
            ("--inference", "--no-accuracy", "--no-performance"),
            "--no-accuracy and --no-performance together leave nothing to do",
        ),
        (
            ("--inference", "-k", "a(b"),
            "--filter 'a(b' is not a regular expression: missing ), unterminated subpattern at position 1",
        ),
        (("--inference", "--extra-env", "=x"), "'=x' is not KEY=VALUE"),
        (("--inference", "--extra-env", "KEY"), "'KEY' is not KEY=VALUE"),
        (("--inference", "--timeout", "0"), "0.0 is not in the range x>0."),
        (("--inference", "--timeout", "nan"), "'nan' is not a finite number"),
        (("--inference", "--budget", "soon"), "'soon' is not a valid seconds."),
        (("--inference", "--repeat", "0"), "0 is not in the range x>=1."),
        (("--inference", "--threads", "0"), "0 is not in the range x>=1."),
        (("--inference", "--batch-size", "0"), "0 is not in the range x>=1."),
        (("--inference", "--seed", str(2**63)), f"{2**63} is not in the range 0<=x<={2**63 - 1}."),
        (("--inference", "--fail-on", "always"), "'always' is not one of 'failed', 'never'."),
        (("--inference", "--suites", "no/mine.py"), "suite no/mine.py: there is no such file."),
        (("--inference", "surplus"), "Got unexpected extra argument (surplus)"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_starts(
    cli, tmp_path: Path, arguments: Sequence[str], message: str
) -> None:
    """Exit code 2, the message last, no traceback, and no folder is made."""
    done = cli("run", *arguments)
    assert done.returncode == 2
    assert done.stderr.rstrip("\n").endswith(message)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list((tmp_path / "cwd").iterdir()) == []


def test_a_python_that_cannot_be_measured_is_refused(cli, tmp_path: Path, suite: str) -> None:
    """One that is not there, and one without torch: exit code 2 with what to do."""
    missing = cli("run", *QUICKLY, "--suites", suite, "--python", "/no/python")
    assert missing.returncode == 2
    assert missing.stderr.splitlines()[-1] == (
        "Error: cannot start /no/python: No such file or directory; give a Python with --python"
    )
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec {sys.executable} -S "$@"\n')
    bare.chmod(bare.stat().st_mode | stat.S_IXUSR)
    without = cli("run", *QUICKLY, "--suites", suite, "--python", str(bare))
    assert without.returncode == 2
    assert "Traceback" not in without.stderr


@pytest.mark.parametrize("name", ["unreadable", "a_file", "foreign", "beneath_a_file"])
def test_a_folder_that_cannot_be_used_is_refused_before_anything_starts(cli, tmp_path: Path, name: str) -> None:
    """A person's files are never at risk, and no model runs for results that could not be kept."""
    (tmp_path / "a_file").write_text("mine")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign/thesis.tex").write_text("mine")
    targets = {
        "unreadable": ("/proc/nothing", "cannot be written"),
        "a_file": (str(tmp_path / "a_file"), "is a file, not a folder; choose another with --output-dir"),
        "foreign": (
            str(tmp_path / "foreign"),
            "holds files that torchperf-ci did not write; choose another with --output-dir",
        ),
        "beneath_a_file": (str(tmp_path / "a_file/out"), "choose another with --output-dir"),
    }
    target, message = targets[name]
    done = cli("run", *QUICKLY, "--python", "/no/python", "--output-dir", target)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "a_file").read_text() == (tmp_path / "foreign/thesis.tex").read_text() == "mine"
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_a_wrong_request_leaves_earlier_results_as_they_are(cli, tmp_path: Path, suite: str) -> None:
    """Every unknown name is told with the choices, in one message, and nothing was removed."""
    out = tmp_path / "out"
    with open_folder(out) as folder:
        folder.write_text("records.jsonl", "earlier\n")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    wrong = ("--compilers", "inductr", "--dtypes", "float31", "--devices", "tpu", "-x", "tow")
    done = cli("run", "--inference", "--suites", suite, "--output-dir", str(out), *wrong)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("Error: "))
    assert lines[at].startswith(
        "Error: unknown compiler 'inductr'. Did you mean inductor? There are: eager, aot_eager,"
    )
    assert lines[at + 1 :] == [
        "unknown dtype 'float31'. Did you mean float32? There are: float32, float16, bfloat16, amp.",
        lines[at + 2],
        "--exclude 'tow': no suite has such a model. Did you mean two? There are: one, two.",
    ]
    assert lines[at + 2].startswith("there is no device 'tpu' here.")
    nothing = cli("run", *QUICKLY, "--suites", suite, "--output-dir", str(out), "-k", "one", "-x", "one")
    assert nothing.returncode == 2
    assert nothing.stderr.endswith(
        "Error: no model is left after --filter, --exclude and --quick. Models by suite: small: one two\n"
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.slow
def test_a_suite_that_cannot_be_used_is_refused(cli, tmp_path: Path) -> None:
    """Unknown, or one that crashes while it is imported."""
    unknown = cli("run", *QUICKLY, "--suites", "tinny")
    assert unknown.returncode == 2
    assert "Error: unknown suite 'tinny'. Did you mean tiny? There are: " in unknown.stderr
    (tmp_path / "crashes.py").write_text("import os; os.abort()")
    crashed = cli("run", *QUICKLY, "--suites", str(tmp_path / "crashes.py"))
    assert crashed.returncode == 2
    assert crashed.stderr.endswith(
        f"Error: asking about {tmp_path}/crashes.py: the worker ended by signal 6 (SIGABRT)\n"
    )


def test_arguments_from_the_environment_are_split_as_in_a_shell(cli) -> None:
    """TORCHPERF_ARGS holds more of them; a quote without an end is a usage error."""
    done = cli("run", "--inference", env={"TORCHPERF_ARGS": "--timeout '0'"})
    assert (done.returncode, done.stderr.splitlines()[-1].endswith("0.0 is not in the range x>0.")) == (2, True)
    unbalanced = cli("run", "--inference", env={"TORCHPERF_ARGS": "-k 'x"})
    assert unbalanced.returncode == 2
    assert unbalanced.stderr == (
        "Error: TORCHPERF_ARGS (extra-args) cannot be split into arguments: No closing quotation\n"
    )


BROKEN = (
    SMALL
    + """
class Broken(nn.Linear):
    def forward(self, x):
        raise RuntimeError("needs a package that is not here")

def unloadable(batch_size):
    raise RuntimeError("needs a package that is not here")

MODELS |= {"unloadable": unloadable, "broken": lambda batch_size: (Broken(8, 8), (torch.randn(4, 8),))}
"""
)


@pytest.mark.slow
def test_models_that_cannot_run_are_in_the_headline(cli, tmp_path: Path) -> None:
    """With how many and why, in everything that is written; the exit code says the same."""
    (tmp_path / "models.py").write_text(BROKEN)
    done = cli("run", *QUICKLY, "--suites", str(tmp_path / "models.py"), "-x", "two", "--output-dir", "out")
    assert done.returncode == 6, done.stderr
    said = "❌ 2 of 3 models could not run: "
    assert done.stdout.splitlines()[-1].startswith(f"{said}RuntimeError: needs a package that is not here")
    report = (tmp_path / "cwd" / "out" / "report.md").read_text()
    assert report.startswith(f"## {said}`RuntimeError: needs a package that is not here`")
    assert '<header class="failed">' in (tmp_path / "cwd" / "out" / "report.html").read_text()


@pytest.mark.slow
def test_what_was_not_compiled_is_said(cli, suite: str, tmp_path: Path) -> None:
    """It passes in PyTorch's words and with exit code 0, under a warning; --strict fails, and measures nothing anew."""
    options = (*QUICKLY, "--suites", suite, "-k", "one", "--output-dir", "out")
    done = cli("run", *options, "--extra-env", "TORCH_COMPILE_DISABLE=1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("⚠️ 1 case passed; 1 not compiled\n")
    folder = tmp_path / "cwd" / "out"
    assert [(record.status, record.not_compiled) for record in read_results(folder).records] == [
        (Status.PASS, True)
    ] * 2
    assert "cpu,one,4,pass," in (folder / "eager_small_float32_inference_cpu_accuracy.csv").read_text()
    strict = cli("run", *options, "--strict", "--keep-output-dir")
    assert (strict.returncode, strict.stdout.splitlines()[-1]) == (6, done.stdout.splitlines()[-1])


CHANGING = (
    SMALL
    + """
class Changing(nn.Linear):
    calls = 0.5
    def forward(self, x):
        self.calls += 1
        return super().forward(x) * self.calls

MODELS = {"changing": lambda batch_size: (Changing(8, 8), (torch.randn(4, 8),))}
"""
)


@pytest.mark.slow
def test_what_is_compiled_again_and_again_is_counted(cli, tmp_path: Path) -> None:
    """In the record, its CSV file and the report; the record says how much was compiled, and with how many threads."""
    (tmp_path / "models.py").write_text(CHANGING)
    scope = ("--training", "--compile-scope", "step", "--no-accuracy")
    done = cli("run", *scope, *QUICKLY[1:], "--suites", str(tmp_path / "models.py"), "--output-dir", "out")
    assert done.returncode == 0, done.stderr
    (record,) = read_results(tmp_path / "cwd" / "out").records
    assert record.counters["recompiles"] >= 1
    assert (record.compile_scope, record.environment.threads) == ("step", 1)
    assert f"models/changing eager (dynamo): {'; '.join(record.remarks)}"[:80] in done.stdout
    assert f"{record.counters['recompiles']} recompilation" in (tmp_path / "cwd" / "out" / "report.md").read_text()


# Where values come from

VALUES = {
    "suites": ("a b", ("a", "b")),
    "devices": ("cpu,cuda:1", ("cpu", "cuda:1")),
    "dtypes": ("amp\nfloat16", ("amp", "float16")),
    "compilers": ("eager, inductor", ("eager", "inductor")),
    "flag_compilers": ("inductor", ("inductor",)),
    "inference": ("true", True),
    "training": ("1", True),
    "mode": ("training", "training"),
    "pytest": ("tests/a b\nc", ("tests/a b", "c")),
    "asv": ("benchmarks", ("benchmarks",)),
    "cases_from": (__file__, Path(__file__)),
    "quick": ("true", True),
    "filter": ("^a b{1,2}$", ("^a", "b{1,2}$")),
    "exclude": ("a\nb,c", ("a", "b", "c")),
    "batch_size": ("3", 3),
    "threads": ("2", 2),
    "repeat": ("4", 4),
    "warmup": ("0", 0),
    "timeout": ("1.5", 1.5),
    "budget": ("60", 60.0),
    "python": ("/my python", "/my python"),
    "total_partitions": ("3", 3),
    "partition_id": ("1", 1),
    "no_cold_start_latency": ("true", True),
    "inductor_compile_mode": ("max-autotune", "max-autotune"),
    "seed": ("7", 7),
    "scale": ("small", "small"),
    "compile_scope": ("step", "step"),
    "cold_l2": ("true", True),
    "dynamic": ("false", "false"),
    "count": ("false", False),
    "instructions": ("never", "never"),
    "accuracy": ("false", False),
    "performance": ("0", False),
    "extra_env": ("A=1 2,3\n\nB=x=y", (("A", "1 2,3"), ("B", "x=y"))),
    "output_dir": ("some where", Path("some where")),
    "keep_output_dir": ("true", True),
    "fail_on": ("never", "never"),
    "strict": ("true", True),
    "quiet": ("true", True),
    "verbose": ("1", True),
    "name": ("nightly", "nightly"),
    "github_files": ("true", True),
    "torchbench_dir": ("/", Path("/")),
    "harness": ("dynamo", "dynamo"),
    "pytorch_dir": ("/", Path("/")),
    "print_run_commands": ("true", True),
    "log_operator_inputs": ("true", True),
    "extra_args": ("--freezing 'a b'", "--freezing 'a b'"),
    "enable_cpu_launcher": ("true", True),
    "cpu_launcher_args": ("--ninstances 1", "--ninstances 1"),
    "shard": ("2-3", "2-3"),
    "parallel": ("true", True),
    "lock_clocks": ("1200", "1200"),
    "runner_labels": ("self-hosted gpu", ("self-hosted", "gpu")),
}


def named(option: str) -> str:
    """The name under which an option's value reaches the command."""
    return {"filter": "filters", "shard": "shard_name"}.get(option, option)


def test_every_option_is_in_the_table_of_this_test() -> None:
    """An option that is added is tested, or this fails."""
    assert {named(name) for name in VALUES} == {parameter.name for parameter in run.params}


@pytest.mark.parametrize("option", VALUES)
def test_every_option_has_an_environment_variable(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """TORCHPERF_ and its name; empty is the same as absent, which is how an action passes an input nobody set."""
    text, value = VALUES[option]
    monkeypatch.setenv("TORCHPERF_" + option.upper(), "")
    assert parsed() == (default := parsed())
    monkeypatch.setenv("TORCHPERF_" + option.upper(), text)
    assert parsed() == {**default, named(option): value}


@pytest.mark.parametrize("option", VALUES)
def test_every_option_can_be_written_with_underscores(option: str) -> None:
    """As in the scripts people come from; the help shows hyphens only."""
    text, value = VALUES[option]
    flag = f"--{option}"
    if isinstance(value, bool):
        arguments = [flag if value else f"--no_{option}"]
    elif option == "extra_env":
        arguments = [flag, "A=1 2,3", flag, "B=x=y"]
    elif isinstance(value, tuple):
        arguments = [part for item in value for part in (flag, item)]
    else:
        arguments = [flag, text]
    hyphens = [part.replace("_", "-") if part.startswith("--") else part for part in arguments]
    assert parsed(*arguments) == parsed(*hyphens) == {**parsed(), named(option): value}


@pytest.mark.parametrize("text", ["a b c", "a,b,c", "a\nb\nc\n", " a ,\n b,, c "])
def test_a_list_is_split_at_spaces_commas_and_new_lines(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever way people write them in a workflow."""
    monkeypatch.setenv("TORCHPERF_COMPILERS", text)
    assert parsed()["compilers"] == ("a", "b", "c")


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is split at commas alone: a name may hold spaces."""
    monkeypatch.setenv("TORCHPERF_SUITES", "a b")
    assert parsed("--suites", "my suite.py, b")["suites"] == ("my suite.py", "b")


def test_help_names_every_option(cli) -> None:
    """What can be asked for can be found; the variables stand in docs/cli.md."""
    text = cli("run", "--help").stdout
    assert [name for name in VALUES if f"--{name.replace('_', '-')}" not in text] == []
    assert "--batch_size" not in text


HEAVY = ("torch", "pandas", "numpy", "scipy", "matplotlib", "github", "requests", "tabulate", "jinja2")


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("report", "--help"), ("--version",)])
def test_help_imports_no_heavy_library(arguments: tuple[str, ...]) -> None:
    """So that it is there at once."""
    code = (
        "import sys\n"
        "from torchperf_ci.cli.main import main\n"
        "try:\n    main()\n"
        "finally:\n    print(*sorted(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    imported = {name.partition(".")[0] for name in done.stderr.split()}
    assert "click" in imported
    assert not imported & set(HEAVY)


# What a run does


@pytest.mark.slow
def test_a_budget_leaves_rows_that_a_resumed_run_measures(cli, tmp_path: Path, suite: str) -> None:
    """Nothing is lost and nothing is measured twice; exit code 6 until all is there."""
    out = tmp_path / "out"
    command = ("run", *QUICKLY, "--suites", suite, "--output-dir", str(out), "--no-accuracy")
    spent = cli(*command, "--budget", "0.001")
    assert spent.returncode == 6, spent.stderr
    rows = read_results(out).records
    assert [(row.case.model, row.testing, row.status) for row in rows] == [
        (model, Testing.PERFORMANCE, Status.NOT_RUN) for model in ("one", "two")
    ]
    assert rows[1].reason == "the run's budget of 0.001 s was spent"
    resumed = cli(*command, "--keep-output-dir", "--verbose")
    assert resumed.returncode == 0, resumed.stderr
    logs = [line.removeprefix("  log: ") for line in resumed.stderr.splitlines() if line.startswith("  log: ")]
    assert [Path(log).is_file() for log in logs] == [True, True]
    assert rows[0].environment.torch in resumed.stderr
    rows = read_results(out).records
    assert [(row.case.model, row.testing, row.status) for row in rows] == [
        (model, Testing.PERFORMANCE, Status.PASS) for model in ("one", "two")
    ]
    assert all(len(row.samples["eager"]) == len(row.samples["compiled"]) == 10 for row in rows)
    assert [path.name for path in out.glob("*accuracy.csv")] == []
    again = cli(*command, "--keep-output-dir")
    assert again.returncode == 0
    assert "2 cases are recorded already; 0 left to measure." in again.stderr
    assert read_results(out).records == rows
    quiet = cli(*command, "--keep-output-dir", "-q")
    assert (quiet.stderr, quiet.stdout) == ("", again.stdout)


@pytest.mark.slow
def test_a_module_of_the_current_folder_is_measured_with_the_variables_asked_for(cli, tmp_path: Path) -> None:
    """`--suites package.module`, `--extra-env` reaching the model's code, results told in lines and on stdout."""
    package = tmp_path / "project" / "benchmarks_of_mine"
    package.mkdir(parents=True)
    (package / "models.py").write_text(SMALL)
    arguments = tuple(part for part in QUICKLY if part != "--inference")
    done = cli(
        *("run", *arguments, "--suites", "benchmarks_of_mine.models", "--no-performance"),
        *("--extra-env", "NAMES_OF_MODELS=first second", "--training", "--batch-size", "6"),
        cwd=tmp_path / "project",
    )
    assert done.returncode == 0, done.stderr
    rows = read_results(tmp_path / "project/benchmark_logs").records
    assert [(str(row.case), row.testing, row.batch_size) for row in rows] == [
        (f"models/{model} eager training float32 cpu", Testing.ACCURACY, 6) for model in ("first", "second")
    ]
    assert "[1/2] models/first eager training float32 cpu: pass\n" in done.stderr
    assert "✅ 2 cases passed" in done.stdout
    assert "The report is benchmark_logs/report.html" in done.stderr


@pytest.mark.slow
def test_everything_can_be_made_again_from_the_records(cli, tmp_path: Path, suite: str) -> None:
    """`torchperf-ci report` writes the same CSV files and the same report as the run did."""
    out = tmp_path / "out"
    done = cli("run", *QUICKLY, "--compilers", "aot_eager", "--suites", suite, "--output-dir", str(out))
    assert done.returncode == 0, done.stderr
    made = {path: path.read_bytes() for path in out.iterdir() if path.suffix in {".csv", ".md"}}
    assert {path.name for path in made} >= {
        *("report.md", "geomean.csv", "passrate.csv", "comp_time.csv", "memory.csv"),
        *(
            f"{compiler}_small_float32_inference_cpu_{testing}.csv"
            for compiler in ("eager", "aot_eager")
            for testing in ("accuracy", "performance")
        ),
    }
    for path in made:
        path.unlink()
    again = cli("report", str(out))
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in out.iterdir() if path.suffix in {".csv", ".md"}} == made
    assert again.stdout == done.stdout
    lines = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert [line["type"] for line in lines] == ["build"] + ["record"] * 8
    assert lines[0]["command"][:2] == ["run", "--inference"]
    assert lines[0]["suites"] == {"small": suite}
    assert len(list((out / "logs").iterdir())) == 4
