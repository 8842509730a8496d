"""From a red check to its cause, as a user types it: a history with planted changes, compared, explained, bisected."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

SUITE = '''
"""Networks whose code follows the package of the commit."""
import importlib, torch

NAMES = ("kernel", "host", "compiling", "breaks", "fails", "bigger", "same")


def of(name):
    def make(batch_size):
        return importlib.import_module(f"package.{name}").Net(), (torch.randn(batch_size or 64, 128),)

    return make


MODELS = {name: of(name) for name in NAMES}
'''
LAYERS = """import torch
from torch import nn


def scale(x):
    return x * 0.5


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(128, 128)

    def forward(self, x):
        x = self.linear(x)
        return scale(x).relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x
"""
SCALED = "return scale(x).relu()"
PLANTED = {
    "kernel": LAYERS.replace(SCALED, "x = scale(x).sort(dim=-1)[0]\n        return x.relu()"),
    "host": LAYERS.replace(
        "def scale(x):\n",
        "def names(count):\n    return [str(n) for n in range(count)]\n\n\ndef scale(x):\n    names(3000)\n",
    ),
    "compiling": LAYERS.replace(
        "            x = block(x)\n",
        "            x = block(x)\n            for step in range(60):\n                x = x + step * 0.5\n",
    ),
    "breaks": LAYERS.replace(SCALED, "x = scale(x)\n        torch._dynamo.graph_break()\n        return x.relu()"),
    "fails": LAYERS.replace(SCALED, "return scale(x).relu() @ torch.ones(3, 3)"),
    "bigger": LAYERS.replace(SCALED, "return torch.cat([scale(x)] * 8).relu()[: len(x)]"),
}
"""The code of the modules after the commits that plant a change."""

LIVE = (
    "--suites", "suite.py", "--inference", "--devices", "cpu", "--threads", "1", "--budget-per-case", "1",
    "--launches", "2", "--no-accuracy",
)  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Ann Author", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen commits, of which every second one plants a change in another module; `start` is the first."""
    folder = tmp_path_factory.mktemp("history") / "project"
    (folder / "package").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "suite.py").write_text(SUITE)
    (folder / "package/__init__.py").write_text("")
    for name in (*PLANTED, "same"):
        (folder / f"package/{name}.py").write_text(LAYERS)
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "Start")
    git(folder, "tag", "start")
    for name, code in PLANTED.items():
        (folder / f"package/{name}.py").write_text(code)
        git(folder, "commit", "--quiet", "-a", "-m", f"Plant {name}")
        (folder / "README").write_text(name)
        git(folder, "add", "-A")
        git(folder, "commit", "--quiet", "-m", f"Write about {name}")
    return folder


def compare(in_process: Cli, repository: Path, *arguments: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The explanations by model and metric of a comparison of the whole history."""
    asked = ("compare", "--base-ref", "start", "--head-ref", "HEAD", "--explain", "confirmed", *LIVE, *arguments)
    done = in_process(*asked, cwd=repository)
    assert done.returncode == 3, done.stderr + done.stdout
    document = json.loads((repository / arguments[-1] / "compare.json").read_text())
    return {(each["case"]["model"], each["metric"]): each for each in document["explanations"]}


def line_of(model: str, text: str) -> str:
    lines = PLANTED[model].splitlines()
    return f"package/{model}.py:{next(number for number, line in enumerate(lines, start=1) if text in line)}"


def check_first_cause(folder: Path, explanation: dict[str, Any], name: str, place: str) -> None:
    """With its place, which lies in changed lines; what it is stands in the report and on its page, too."""
    first = explanation["causes"][0]
    assert first["name"].startswith(name), explanation
    assert first["place"] == place, explanation
    assert first["is_changed"] is True
    assert place in (folder / "compare.md").read_text()
    page = folder / explanation["folder"] / "index.html"
    assert place.partition(":")[0].rpartition("/")[2] in page.read_text()
    assert f"{explanation['folder']}/index.html" in (folder / "compare.html").read_text()


@pytest.mark.slow
def test_changes_of_compiled_code_are_named_first(in_process: Cli, repository: Path) -> None:
    """A graph that takes longer to compile, and one that breaks."""
    chosen = "^(compiling|breaks)$"
    limits = ("--compilers", "aot_eager", "--launches", "3")  # each of them compiles from an empty cache
    found = compare(in_process, repository, *limits, "--filter", chosen, "--output-dir", "compiled")
    for model, metric, name, text in (
        ("compiling", "compilation_latency", "calls of ", "x = x + step"),
        ("breaks", "graph_breaks", "graph breaks", "graph_break()"),
    ):
        check_first_cause(repository / "compiled", found[model, metric], name, line_of(model, text))


@pytest.mark.slow
def test_changes_of_eager_code_are_named_first(in_process: Cli, repository: Path) -> None:
    """An operator, a Python function, memory and a failure. What did not change gets no cause, even if it is asked for:
    noise has none; and the comparison keeps everything else that is in it."""
    chosen = "^(kernel|host|fails|bigger|same)$"
    found = compare(in_process, repository, "--compilers", "eager", "--filter", chosen, "--output-dir", "eager")
    assert not any(model == "same" for model, _ in found)
    folder = repository / "eager"
    for model, metric, name, text in (
        ("kernel", "abs_latency", "aten::sort", "sort(dim=-1)"),
        ("host", "abs_latency", "names", "def names"),
        ("bigger", "dynamo_peak_mem", "aten::", "torch.cat"),
        ("fails", "abs_latency", "head fails", "@ torch.ones"),
    ):
        check_first_cause(folder, found[model, metric], name, line_of(model, text))

    beside = {path.name for path in (folder / found["kernel", "abs_latency"]["folder"]).iterdir()}
    assert {"base.trace.json.gz", "head.trace.json.gz", "flames.svg", "explanation.json", "index.html"} <= beside
    printed = in_process("explain", "eager", "suite/kernel", cwd=repository)
    assert printed.returncode == 0
    assert "aten::sort" in printed.stdout
    assert "Setting up" not in printed.stderr  # what is known is not measured again

    before = json.loads((folder / "compare.json").read_text())
    asked = in_process("explain", "eager", "suite/same", cwd=repository)
    assert asked.returncode == 4, asked.stdout
    assert "No cause" in asked.stdout
    after = json.loads((folder / "compare.json").read_text())
    assert {**after, "explanations": before["explanations"]} == before
    assert len(after["explanations"]) == len(before["explanations"]) + 1


@pytest.mark.slow
def test_a_bisection_explains_its_culprit(in_process: Cli, repository: Path) -> None:
    """Against its parent."""
    asked = (
        "bisect",
        "HEAD~7",
        "HEAD~4",
        "--case",
        "suite/breaks",
        "--metric",
        "graph_breaks",
        "--compilers",
        "aot_eager",
    )
    done = in_process(*asked, *LIVE, "--explain", "confirmed", "--output-dir", "bisected", cwd=repository)
    assert done.returncode == 0, done.stderr + done.stdout
    culprit = json.loads((repository / "bisected/bisect.json").read_text())["progress"]["culprits"][0]
    assert culprit["candidate"]["subject"] == "Plant breaks"
    assert culprit["explanation"]["causes"][0]["place"] == line_of("breaks", "graph_break()")
    assert "why: 1 more graph break" in done.stdout


def test_folders_that_cannot_be_explained_are_told(cli: Cli, tmp_path: Path) -> None:
    """No comparison, none that was measured live, no such case."""
    folder = tmp_path / "compared"
    case_first = cli("explain", "suite/net")
    assert case_first.returncode == 2
    assert 'explain compare_logs "suite/model"' in case_first.stderr
    folder.mkdir()
    no_comparison = cli("explain", str(folder))
    assert no_comparison.returncode == 2
    assert "compare.json cannot be read: there is none" in no_comparison.stderr
    case = {
        "suite": "a", "model": "b", "mode": "inference", "device": "cpu", "dtype": "float32", "compiler": "eager",
    }  # fmt: skip
    slower = {"case": case, "metric": "abs_latency", "verdict": "regressed", "ratio": 1.5}
    document = {"v": 1, "header": {"commands": ["rm -rf /"]}, "comparisons": [slower]}
    (folder / "compare.json").write_text(json.dumps(document))
    recorded = cli("explain", str(folder))
    assert recorded.returncode == 2
    assert "does not say how it was measured" in recorded.stderr
    unknown = cli("explain", str(folder), "a/c")
    assert unknown.returncode == 2
    assert "a/b eager inference float32 cpu" in unknown.stderr
