"""`torchperf-ci fastrnns` as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch

from torchperf_ci.cli.fastrnns import FastrnnsVariantOptions
from torchperf_ci.suites.fastrnns.catalog import VARIANTS, VariantGroup

Cli = Callable[..., subprocess.CompletedProcess[str]]

SMALL = ("--seqLength", "3", "--inputSize", "8", "--hiddenSize", "8", "--miniBatch", "2", "--device", "cpu", "-t", "1")
FEW = ("--warmup", "1", "--nloops", "2")


def sitecustomize(folder: Path, code: str) -> dict[str, str]:
    """Variables under which `code` runs at the start of the Python under test, and only there."""
    guarded = "import sys\nif 'torchperf_ci.worker.preload' in sys.orig_argv:\n"
    text = guarded + "".join(f"    {line}\n" for line in code.splitlines())
    (folder / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.mark.slow
def test_every_variant_is_in_the_table_and_in_the_json(cli: Cli) -> None:
    """Rows on stderr as they finish, one JSON document on stdout with milliseconds of both directions."""
    done = cli("fastrnns", *SMALL, "--warmup", "0", "--nloops", "1", "--variable_lstms", "--print-json")
    assert done.returncode == 0, done.stderr
    averages = json.loads(done.stdout)
    labels = [
        label
        for group in (VariantGroup.VL, VariantGroup.RNNS, VariantGroup.CNNS)
        for label in (group.label, f"{group.label}-backward")
    ]
    assert list(averages) == labels
    for group, names in VARIANTS.items():
        for label in (group.label, f"{group.label}-backward"):
            assert list(averages[label]) == list(names)
            assert all(0.001 < value < 60_000 for value in averages[label].values())
    rows = [line.split() for line in done.stderr.splitlines()]
    measured = [row[0] for row in rows if len(row) == 7 and row[0] != "name"]
    assert measured == [*VARIANTS[VariantGroup.VL], *VARIANTS[VariantGroup.RNNS], *VARIANTS[VariantGroup.CNNS]]
    assert "there is none in jit_dropout, cudnn_dropout" in done.stderr


@pytest.mark.slow
def test_a_variant_that_fails_is_a_row_with_its_reason(cli: Cli, tmp_path: Path) -> None:
    """The others go on, JSON has its place, the log's end is shown, traces are written, and the exit code is 6."""
    done = cli(
        *("fastrnns", *SMALL, *FEW, "--numLayers", "2", "--rnns", "jit_simple", "py", "--group", "rnns"),
        *("--print_json", "pep", "--profile", str(tmp_path / "traces")),
    )
    assert done.returncode == 6, done.stderr
    reason = "ValueError: jit_simple has one layer: it does not run with 2"
    assert f"jit_simple failed: {reason}" in done.stderr
    assert "    | Traceback (most recent call last):\n    |   File " in done.stderr
    assert "1 of 2 variants measured; failed: jit_simple" in done.stderr
    lines = [line.partition(" ") for line in done.stdout.splitlines()]
    assert {prefix for prefix, _, _ in lines} == {"Caffe2Observer"}
    observations = [json.loads(text) for _, _, text in lines]
    metrics = [observation["metric"] for observation in observations]
    assert metrics == [
        *("lstm-jit_simple", "lstm-py", "lstm-py"),
        *("lstm-backward-jit_simple", "lstm-backward-py", "lstm-backward-py"),
    ]
    assert [item["error"] for item in observations if item["value"] is None] == [reason, reason]
    assert [path.name for path in (tmp_path / "traces").iterdir()] == ["py.json"]
    events = json.loads((tmp_path / "traces" / "py.json").read_text())["traceEvents"]
    assert {"## forward ##", "## backward ##"} <= {event.get("name") for event in events}


@pytest.mark.slow
def test_a_process_that_dies_is_a_row(cli: Cli, tmp_path: Path) -> None:
    """A crash costs its own variant only, and a hanging one ends at its time limit."""
    counter = tmp_path / "forks"
    counter.write_text("0")
    env = sitecustomize(
        tmp_path,
        "import os, pathlib, time\n"
        f"counter = pathlib.Path({str(counter)!r})\n"
        "def in_child():\n"
        "    number = int(counter.read_text())\n"
        "    counter.write_text(str(number + 1))\n"
        "    if number == 1:\n"  # the first worker is asked for the machine
        "        os.abort()\n"
        "    if number == 2:\n"
        "        import torch\n"
        "        torch.autograd.backward = lambda *_: time.sleep(600)\n"
        "os.register_at_fork(after_in_child=in_child)",
    )
    names = ("cudnn", "aten", "py")
    done = cli("fastrnns", *SMALL, *FEW, "--rnns", *names, "--group", "rnns", "--timeout", "6", "--print-json", env=env)
    assert done.returncode == 6, done.stderr
    averages = json.loads(done.stdout)
    assert averages["lstm"]["cudnn"] is averages["lstm"]["aten"] is None
    assert averages["lstm-backward"]["py"] > 0
    assert "cudnn failed: ended by signal 6 (SIGABRT)" in done.stderr
    assert "aten failed: not done within 6 s" in done.stderr


@pytest.mark.slow
def test_a_switch_that_this_torch_lacks_is_an_error(cli: Cli, tmp_path: Path) -> None:
    """A fuser whose function has gone ends the command with its name, and nothing is measured."""
    env = sitecustomize(tmp_path, "import torch\ndel torch._C._jit_set_texpr_fuser_enabled")
    done = cli("fastrnns", *SMALL, *FEW, "--fuser", "old", "--rnns", "py", "--group", "rnns", env=env)
    assert done.returncode == 2
    assert "Error: fuser old: torch" in done.stderr
    assert "has no torch._C._jit_set_texpr_fuser_enabled any more" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_signal_ends_everything(tmp_path: Path) -> None:
    """SIGTERM exits with 143 and leaves no process."""
    command = [sys.executable, "-m", "torchperf_ci", "fastrnns", "--group", "rnns", "--rnns", "py", "--device", "cpu"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("torch "):
                break
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.send_signal(signal.SIGTERM)
        _, talk = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Interrupted by SIGTERM." in talk
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in family)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_an_absent_device_says_which_exist(cli: Cli) -> None:
    """The message names the devices of this machine."""
    done = cli("fastrnns", "--device", "cuda")
    assert done.returncode == 2
    assert "Error: there is no device 'cuda' here. There are: cpu." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--rnns cudn,aten jitt", "unknown variant for --rnns 'jitt'. Did you mean jit? There are: cudnn, aten, jit,"),
        ("--cnns resnet34", "There are: resnet18, resnet18_jit, resnet50, resnet50_jit."),
        ("--group lstms", "unknown group 'lstms'. There are: rnns, cnns, vl."),
        ("--seqLength 0", "0 is not in the range x>=1"),
        ("--hiddenSize -1", "-1 is not in the range x>=1"),
        ("--nloops 0", "0 is not in the range x>=1"),
        ("--warmup -1", "-1 is not in the range x>=0"),
        ("--fuser nvfuser", "'nvfuser' is not one of 'te', 'old', 'none'"),
        ("--executor fast", "'fast' is not one of 'legacy', 'simple', 'profiling'"),
        ("--profile /dev/null/traces", "--profile /dev/null/traces cannot be written"),
        ("--python /nowhere/python", "cannot start /nowhere/python"),
        ("--compare missing.json missing.json", "'missing.json' does not exist"),
    ],
)
def test_bad_input_says_what_to_type_instead(cli: Cli, arguments: str, message: str) -> None:
    """Exit code 2, the choices or the range in the message, and no traceback."""
    done = cli("fastrnns", *arguments.split())
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_two_files_are_compare_pairs(cli: Cli, tmp_path: Path) -> None:
    """`--compare` measures nothing and prints old, new and ratio on stdout."""
    (tmp_path / "old.json").write_text('{"lstm": {"jit": 2.0}}')
    (tmp_path / "new.json").write_text('{"lstm": {"jit": 3.0}}')
    done = cli("fastrnns", "--compare", str(tmp_path / "old.json"), str(tmp_path / "new.json"), "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "group,name,old,new,ratio,note\nlstm,jit,2.0,3.0,1.5,\n"
    (tmp_path / "old.json").write_text("{}")
    done = cli("fastrnns", "--compare", str(tmp_path / "old.json"), str(tmp_path / "old.json"))
    assert done.returncode == 4
    assert "holds a variant" in done.stderr


def test_options_choose_variants() -> None:
    """--rnns and --cnns choose within their groups, vl comes first, and nothing is measured twice."""

    def chosen(*groups: str, rnns: tuple[str, ...] = (), cnns: tuple[str, ...] = (), variable: bool = False) -> object:
        return FastrnnsVariantOptions(groups=groups, rnns=rnns, cnns=cnns, variable_lstms=variable).variants()

    everything = (*VARIANTS[VariantGroup.RNNS], *VARIANTS[VariantGroup.CNNS])
    assert chosen("cnns", "rnns") == everything
    assert chosen("cnns", "rnns", variable=True) == (*VARIANTS[VariantGroup.VL], *everything)
    assert chosen("rnns", rnns=("py", "jit", "py"), cnns=("resnet18",)) == ("py", "jit")
    assert chosen("vl", "rnns", rnns=("vl_py", "py")) == (*VARIANTS[VariantGroup.VL], "py")
    assert chosen("cnns", rnns=("py",)) == VARIANTS[VariantGroup.CNNS]
