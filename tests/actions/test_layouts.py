"""Where an action may lie when its steps start."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from unpacked_actions import ROOT, unpack

pytestmark = pytest.mark.slow

GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "safe.directory=*")


def run_first_step(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the first shell step of the action in `folder` as the runner does, with nothing else in its environment."""
    steps = yaml.safe_load((folder / "action.yml").read_text())["runs"]["steps"]
    script = next(step["run"] for step in steps if "run" in step)
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd="/",
        env={"GITHUB_ACTION_PATH": str(folder), "PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        text=True,
        timeout=60,
    )


@dataclass(frozen=True)
class Place:
    """A copy of the repository whose set-up says where it lies and what it was asked for."""

    root: Path

    def mark(self) -> Place:
        (self.root / "actions/_setup.sh").write_text('realpath "${BASH_SOURCE[0]%/*}"; echo "$@"\n')
        return self


@pytest.fixture
def place(unpacked: Path, tmp_path: Path) -> Place:
    return Place(shutil.copytree(unpacked, tmp_path / "work space" / "v1")).mark()


ACTIONS = [path for depth in ("", "*/", "actions/*/") for path in ROOT.glob(f"{depth}action.yml")]


@pytest.mark.parametrize("path", sorted(path.relative_to(ROOT).parent for path in ACTIONS), ids=str)
def test_every_action_finds_its_set_up_wherever_it_lies(place: Place, path: Path) -> None:
    """As org/torchperf-ci/NAME@v1, org/torchperf-ci/actions/NAME@v1, and the root."""
    step = run_first_step(place.root / path)
    assert step.returncode == 0, step.stderr
    at, command = step.stdout.splitlines()
    assert (at, command.split()[0]) == (
        str(place.root / "actions"),
        {"": "post", "gate": "post"}.get(path.name, path.name),
    )


def test_a_checkout_without_links_is_the_same(tmp_path: Path) -> None:
    """On Windows, say, or with core.symlinks=false: a clone has the actions as the runner's archive has them."""
    archive = unpack(ROOT, tmp_path / "archive")
    subprocess.run([*GIT, "init", "-q"], cwd=archive, check=True)
    subprocess.run([*GIT, "add", "-A"], cwd=archive, check=True)
    subprocess.run([*GIT, "commit", "-q", "-m", "all"], cwd=archive, check=True)
    clone = tmp_path / "clone"
    subprocess.run([*GIT, "clone", "-q", "-c", "core.symlinks=false", str(archive), str(clone)], check=True)
    step = run_first_step(Place(clone).mark().root / "run")
    assert (step.returncode, step.stdout.split()[-2:]) == (0, ["run", "--github-files"])


def test_links_to_folders_do_not_survive_the_runner(tmp_path: Path) -> None:
    """The layout that looked right in a checkout: `run`, a link to actions/run whose step went up by one folder."""
    project = tmp_path / "project"
    (project / "actions/run").mkdir(parents=True)
    (project / "actions/_setup.sh").write_text("echo started\n")
    step = {"shell": "bash", "run": 'bash "$GITHUB_ACTION_PATH/../_setup.sh"'}
    (project / "actions/run/action.yml").write_text(yaml.safe_dump({"runs": {"using": "composite", "steps": [step]}}))
    (project / "run").symlink_to("actions/run")
    subprocess.run([*GIT, "init", "-q"], cwd=project, check=True)
    assert run_first_step(project / "run").stdout == "started\n"
    assert run_first_step(unpack(project, tmp_path / "v1") / "run").returncode == 127


def test_a_step_without_its_set_up_ends_with_words(tmp_path: Path, unpacked: Path) -> None:
    """Also with a path that never gets shorter: exit code 2 and an annotation that names the place."""
    alone = shutil.copytree(unpacked / "run", tmp_path / "alone/below/run")
    for path in (str(alone), "run", ""):
        step = run_first_step(alone, GITHUB_ACTION_PATH=path)
        assert step.returncode == 2
        assert step.stdout.startswith("::error::no actions/_setup.sh above")
        assert path in step.stdout


def test_a_step_runs_from_the_runners_copy(action: Any) -> None:
    """With the real set-up, from the folder at the top: what fails is the command, with its words."""
    step = action.run("check", {"results": "none-here"})
    assert step.code == 2
    assert "none-here" in step.stderr
