"""`compare` of two commits where most cases are the same program: real repositories, real workers."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

SUITE = '''
"""Models that sleep, each by a function of its own in the package."""
import torch
from package import touched, left, lying

class Sleeps(torch.nn.Module):
    def __init__(self, nap):
        super().__init__()
        self.nap = nap
    def forward(self, x):
        self.nap()
        return x + 1

def sleeping(nap):
    return lambda batch_size: (Sleeps(nap), (torch.ones(1),))

MODELS = {"touched": sleeping(touched.nap), "left": sleeping(left.nap), "lying": sleeping(lying.nap)}
'''
NAP = "import time\n\ndef nap():\n    time.sleep(0.006)\n"
LYING = "import os, time\n\ndef nap():\n    time.sleep(0.03 if '/head/' in os.getcwd() else 0.006)\n"
"""It looks at something that no trace knows: the folder of its side."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository of two commits. The second one touches one model, and comments."""
    folder = tmp_path / "project"
    (folder / "package").mkdir(parents=True)
    (folder / "suite.py").write_text(SUITE)
    for name, content in {"__init__": "", "touched": NAP, "left": NAP, "lying": LYING}.items():
        (folder / f"package/{name}.py").write_text(content)
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@e")
    for command in (("init", "-q", "-b", "main"), ("add", "."), ("commit", "-q", "-m", "one")):
        subprocess.run([*git, *command], cwd=folder, check=True)
    (folder / "package/touched.py").write_text(NAP.replace("0.006", "0.009"))
    (folder / "package/left.py").write_text(f"# Sleeps.\n\n{NAP}")
    subprocess.run([*git, "commit", "-q", "-a", "-m", "two"], cwd=folder, check=True)
    return folder


def compare(cli: Cli, project: Path, *more: str) -> dict[str, dict[str, Any]]:
    limits = ("--budget-per-case", "3", "--launches", "2", "--margin", "0.1", "--threshold", "0.25", "--threads", "1")
    sides = ("--base-ref", "HEAD~1", "--head-ref", "HEAD", "--suites", "suite.py", "--inference")
    done = cli("compare", *sides, "--compilers", "eager", "--devices", "cpu", *limits, *more, cwd=project)
    assert done.returncode in {0, 3}, done.stderr
    found = json.loads((project / "compare_logs/compare.json").read_text())
    own = {c["case"]["model"]: c for c in found["comparisons"] if c["metric"] == "abs_latency"}
    return {m["case"]["model"]: {**m, "own": own[m["case"]["model"]]} for m in found["measured"]}


@pytest.mark.slow
def test_only_what_a_commit_touches_is_measured_in_full(cli: Cli, project: Path) -> None:
    """What is the same program has one launch and no p value; the function that differs is named; and where the short
    check contradicts the trace, the case is measured like every other one."""
    found = compare(cli, project)
    left, touched, lying = found["left"], found["touched"], found["lying"]
    assert (left["own"]["verdict"], left["own"]["p"], len(left["launches"])) == ("unchanged", None, 1)
    assert left["spared"]
    assert left["sameness"] == {"differences": [], "doubts": []}
    assert touched["own"]["verdict"] == "regressed"
    assert not touched["spared"]
    assert ("functions", "package.touched.nap") in {(d["part"], d["name"]) for d in touched["sameness"]["differences"]}
    assert lying["own"]["verdict"] == "regressed"
    assert "a short check shows a difference" in lying["own"]["why"]


@pytest.mark.slow
def test_all_cases_are_measured_where_that_is_asked_for(cli: Cli, project: Path) -> None:
    """Nothing is traced then."""
    found = compare(cli, project, "--measure-all", "--filter", "left")
    assert found["left"]["sameness"] is None
    assert found["left"]["own"]["p"] is not None
