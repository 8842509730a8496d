"""Runs the shell steps of a composite action as GitHub's runner does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from step_outputs import read_outputs
from unpacked_actions import ROOT, unpack

_EXPRESSION = re.compile(r"\$\{\{\s*((?:inputs|github|steps\.\w+\.outputs)\.[a-z_-]+)(?: \|\| '([^']*)')?\s*\}\}")
_GITHUB = {"github.token": "secret-token", "github.run_id": "77", "github.run_attempt": "3"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """How a step ended. `outputs` are those it wrote, `summary` is the step summary."""

    code: int
    stdout: str
    stderr: str
    outputs: Mapping[str, str]
    summary: str


@dataclass(frozen=True, kw_only=True)
class ActionRunner:
    """`run(name, inputs)` runs the first shell step of the action in folder {name}, or the one called `step`, in
    `workspace`; without a name, of the root action. `before` are the steps that ended before it, by their id.
    `unpacked` is the repository as the runner unpacks it."""

    workspace: Path
    files: Path
    tool_cache: Path
    unpacked: Path

    def run(
        self,
        name: str,
        inputs: Mapping[str, str],
        *,
        step: str = "",
        env: Mapping[str, str] | None = None,
        before: Mapping[str, Step] | None = None,
        root: Path | None = None,
    ) -> Step:
        folder = (root or self.unpacked) / name
        action = yaml.safe_load((folder / "action.yml").read_text(encoding="utf-8"))
        shells = [each for each in action["runs"]["steps"] if "run" in each]
        chosen = next(each for each in shells if step in {"", each["id"]})
        assert chosen["shell"] == "bash"
        script = self.files / "step.sh"
        script.write_text(chosen["run"])
        github = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(folder),
            "GITHUB_OUTPUT": str(self.files / "output"),
            "GITHUB_STEP_SUMMARY": str(self.files / "summary.md"),
            "GITHUB_RUN_ATTEMPT": "3",
            "GITHUB_REPOSITORY": "owner/project",
            "GITHUB_SHA": "f" * 40,
            "GITHUB_REF_NAME": "main",
            "RUNNER_TOOL_CACHE": str(self.tool_cache),
        }
        for path in ("output", "summary.md"):
            (self.files / path).write_text("")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.workspace,
            env={**_own(os.environ), **github, **_evaluated(action, chosen, inputs, before or {}), **(env or {})},
            capture_output=True,
            text=True,
            timeout=900,
        )
        return Step(
            code=done.returncode,
            stdout=done.stdout,
            stderr=done.stderr,
            outputs=read_outputs((self.files / "output").read_text()),
            summary=(self.files / "summary.md").read_text(),
        )


def _own(environ: Mapping[str, str]) -> dict[str, str]:
    """Without what makes this checkout importable: the private environment must do without."""
    return {name: value for name, value in environ.items() if name != "PYTHONPATH"}


def _evaluated(
    action: Mapping[str, Any], step: Mapping[str, Any], inputs: Mapping[str, str], before: Mapping[str, Step]
) -> dict[str, str]:
    """The step's `env` with inputs and earlier steps' outputs filled in; an input nobody gave has its default."""
    assert set(inputs) <= set(action["inputs"])
    values = {name: str(item.get("default", "")) for name, item in action["inputs"].items()} | dict(inputs)
    outputs = {
        f"steps.{step_id}.outputs.{key}": text
        for step_id, ended in before.items()
        for key, text in ended.outputs.items()
    }
    known = outputs | {f"inputs.{name}": _filled(value, _GITHUB) for name, value in values.items()} | _GITHUB
    return {name: _filled(text, known) for name, text in step["env"].items()}


def _filled(text: str, known: Mapping[str, str]) -> str:
    return _EXPRESSION.sub(lambda found: known.get(found.group(1), "") or found.group(2) or "", text)


@pytest.fixture(scope="session")
def tool_cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests, also where several processes run them, so that the private environment is made once."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if hasattr(request.config, "workerinput") else own
    (shared / "tool-cache").mkdir(exist_ok=True)
    return shared / "tool-cache"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout as the runner unpacks it."""
    return unpack(ROOT, tmp_path_factory.mktemp("runner") / "torchperf-ci" / "v1")


@pytest.fixture
def action(tmp_path: Path, tool_cache: Path, unpacked: Path) -> ActionRunner:
    """Runs actions in an empty workspace."""
    workspace, files = tmp_path / "work space", tmp_path / "files"
    workspace.mkdir()
    files.mkdir()
    return ActionRunner(workspace=workspace, files=files, tool_cache=tool_cache, unpacked=unpacked)


@pytest.fixture
def suite(action: ActionRunner) -> str:
    """A suite file in the workspace, with a model that passes and one that does not."""
    (action.workspace / "mixed.py").write_text(
        "import torch\n"
        "def good(batch_size):\n    return torch.nn.Linear(4, 4), (torch.randn(batch_size or 2, 4),)\n"
        "def bad(batch_size):\n    raise RuntimeError('::error::no weights')\n"
        "MODELS = {'good': good, 'bad': bad}\n"
    )
    return "mixed.py"


Inputs = Callable[..., dict[str, str]]


@pytest.fixture
def quick_inputs(suite: str) -> Inputs:
    """Inputs of the run action that take little time."""

    def make(**more: str) -> dict[str, str]:
        return {
            "suites": suite,
            "compilers": "eager",
            "devices": "cpu",
            "repeat": "10",
            "threads": "1",
            "python": sys.executable,
            "extra-args": "--warmup 0",
            **{name.replace("_", "-"): value for name, value in more.items()},
        }

    return make
