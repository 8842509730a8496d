"""From a red check to its cause, as a user types it: a history with planted changes, compared, explained, bisected."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
        "            x = block(x)\n            for step in range(200):\n                x = x + step * 0.5\n",
    ),
    "breaks": LAYERS.replace(SCALED, "x = scale(x)\n        torch._dynamo.graph_break()\n        return x.relu()"),
    "fails": LAYERS.replace(SCALED, "return scale(x).relu() @ torch.ones(3, 3)"),
    "bigger": LAYERS.replace(SCALED, "return torch.cat([scale(x)] * 8).relu()[: len(x)]"),
}
"""The code of the modules after the commits that plant a change."""

LIVE = (
    "--suites", "suite.py", "--inference", "--devices", "cpu", "--threads", "1", "--budget-per-case", "1",
    "--no-accuracy",
)  # fmt: skip


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Ann Author", "-c", "user.email=t@example.org", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def torchperf(*arguments: str, cwd: Path, explain: str = "never") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "torchperf_ci", *arguments],
        cwd=cwd,
        env={**os.environ, "TORCHPERF_EXPLAIN": explain},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


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


def compare(repository: Path, *arguments: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The explanations by model and metric of a comparison of the whole history."""
    asked = ("compare", "--base-ref", "start", "--head-ref", "HEAD", *LIVE, *arguments)
    done = torchperf(*asked, cwd=repository, explain="confirmed")
    assert done.returncode == 3, done.stderr + done.stdout
    document = json.loads((repository / arguments[-1] / "compare.json").read_text())
    return {(each["case"]["model"], each["metric"]): each for each in document["explanations"]}


@pytest.fixture(scope="module")
def eager(repository: Path) -> dict[tuple[str, str], dict[str, Any]]:
    chosen = "^(kernel|host|fails|bigger|same)$"
    return compare(repository, "--compilers", "eager", "--filter", chosen, "--output-dir", "eager")


@pytest.fixture(scope="module")
def compiled(repository: Path) -> dict[tuple[str, str], dict[str, Any]]:
    chosen = "^(compiling|breaks)$"
    return compare(repository, "--compilers", "aot_eager", "--filter", chosen, "--output-dir", "compiled")


def line_of(model: str, text: str) -> str:
    lines = PLANTED[model].splitlines()
    return f"package/{model}.py:{next(number for number, line in enumerate(lines, start=1) if text in line)}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiler", "model", "metric", "name", "text"),
    [
        ("eager", "kernel", "abs_latency", "aten::sort", "sort(dim=-1)"),
        ("eager", "host", "abs_latency", "names", "def names"),
        ("eager", "bigger", "dynamo_peak_mem", "aten::", "torch.cat"),
        ("eager", "fails", "abs_latency", "head fails", "@ torch.ones"),
        ("compiled", "compiling", "compilation_latency", "calls of ", "x = x + step"),
        ("compiled", "breaks", "graph_breaks", "graph breaks", "graph_break()"),
    ],
)
def test_the_planted_change_is_named_first(
    request: pytest.FixtureRequest, repository: Path, compiler: str, model: str, metric: str, name: str, text: str
) -> None:
    """With its place, which lies in changed lines; what it is stands in the report and on its page, too."""
    explanation = request.getfixturevalue(compiler)[model, metric]
    first = explanation["causes"][0]
    assert first["name"].startswith(name), explanation
    assert first["place"] == line_of(model, text), explanation
    assert first["is_changed"] is True
    assert first["place"] in (repository / compiler / "compare.md").read_text()
    page = repository / compiler / explanation["folder"] / "index.html"
    assert f"{model}.py" in page.read_text()
    assert f"{explanation['folder']}/index.html" in (repository / compiler / "compare.html").read_text()


@pytest.mark.slow
def test_everything_about_a_case_lies_beside_its_page(repository: Path, eager: dict[tuple[str, str], Any]) -> None:
    """Traces of both sides and a flame graph; the command prints what is known without measuring again."""
    folder = repository / "eager" / eager["kernel", "abs_latency"]["folder"]
    names = {path.name for path in folder.iterdir()}
    assert {"base.trace.json.gz", "head.trace.json.gz", "flames.svg", "explanation.json", "index.html"} <= names
    printed = torchperf("explain", "eager", "suite/kernel", cwd=repository)
    assert printed.returncode == 0
    assert "aten::sort" in printed.stdout
    assert "Setting up" not in printed.stderr


@pytest.mark.slow
def test_a_case_that_did_not_change_gets_no_cause(repository: Path, eager: dict[tuple[str, str], Any]) -> None:
    """Though it is asked for: noise has none. The comparison keeps everything else that is in it."""
    assert not any(model == "same" for model, _ in eager)
    path = repository / "eager/compare.json"
    before = json.loads(path.read_text())
    asked = torchperf("explain", "eager", "suite/same", cwd=repository)
    assert asked.returncode == 4, asked.stdout
    assert "No cause" in asked.stdout
    after = json.loads(path.read_text())
    assert {**after, "explanations": before["explanations"]} == before
    assert len(after["explanations"]) == len(before["explanations"]) + 1


@pytest.mark.slow
def test_a_bisection_explains_its_culprit(repository: Path) -> None:
    """Against its parent."""
    asked = (
        "bisect",
        "start",
        "HEAD",
        "--case",
        "suite/breaks",
        "--metric",
        "graph_breaks",
        "--compilers",
        "aot_eager",
    )
    done = torchperf(*asked, *LIVE, "--output-dir", "bisected", cwd=repository, explain="confirmed")
    assert done.returncode == 0, done.stderr + done.stdout
    culprit = json.loads((repository / "bisected/bisect.json").read_text())["progress"]["culprits"][0]
    assert culprit["candidate"]["subject"] == "Plant breaks"
    assert culprit["explanation"]["causes"][0]["place"] == line_of("breaks", "graph_break()")
    assert "why: 1 more graph break" in done.stdout


def test_folders_that_cannot_be_explained_are_told(cli: Cli, tmp_path: Path) -> None:
    """No comparison, none that was measured live, no such case."""
    folder = tmp_path / "compared"
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
