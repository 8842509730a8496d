"""The root action as a pull request meets it: a check in progress, a live comparison, check, comment and summary."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes.github_server import REPOSITORY
from fakes.review_server import ReviewGitHub
from torchperf_ci.core.results import open_folder

pytestmark = pytest.mark.slow

SUITE = """
import torch

def mlp(batch_size):
    return torch.nn.Linear(64, 64), (torch.randn(batch_size or 8, 64),)

MODELS = {"mlp": mlp}
"""


def commit(folder: Path, text: str) -> str:
    """A commit in which there is something new; its SHA."""
    (folder / "text").write_text(text)
    who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
    for arguments in (("init", "-q"), ("add", "-A"), (*who, "commit", "-q", "-m", text)):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True).stdout[
        :40
    ]


@dataclass(frozen=True, kw_only=True)
class Pull:
    """A pull request with one commit on main, its number, and what the gate's steps are told."""

    sha: str
    number: int
    inputs: dict[str, str]
    env: dict[str, str]


@pytest.fixture
def server() -> Iterator[ReviewGitHub]:
    with ReviewGitHub() as running:
        yield running


@pytest.fixture
def pull(action: Any, server: ReviewGitHub, tmp_path: Path) -> Pull:
    (action.workspace / "models.py").write_text(SUITE)
    base = commit(action.workspace, "base")
    subprocess.run(["git", "update-ref", "refs/remotes/origin/main", base], cwd=action.workspace, check=True)
    sha = commit(action.workspace, "head")
    event = tmp_path / "event.json"
    event.write_text(
        json.dumps({"pull_request": {"head": {"sha": sha, "ref": "feature", "repo": {"full_name": REPOSITORY}}}})
    )
    inputs = {
        "suites": "models.py",
        "upstream": "origin/main",
        "compilers": "eager",
        "devices": "cpu",
        "threads": "1",
        "launches": "2",
        "budget-per-case": "1",
        "python": sys.executable,
    }
    env = {**server.environ, "GITHUB_EVENT_PATH": str(event), "GITHUB_RUN_ID": "7"}
    return Pull(sha=sha, number=server.add_pull(sha=sha), inputs=inputs, env=env)


def test_a_pull_request_gets_check_comment_and_summary(action: Any, server: ReviewGitHub, pull: Pull) -> None:
    """In progress before the comparison starts, completed after it, of the pull request's head."""
    assert action.run("", pull.inputs, step="start", env=pull.env).code == 0
    assert [(check["status"], check["head_sha"]) for check in server.checks] == [("in_progress", pull.sha)]
    compared = action.run("", pull.inputs, step="compare", env=pull.env)
    assert compared.code in {0, 3}, compared.stderr  # it is a real measurement
    posted = action.run("", pull.inputs, step="post", env=pull.env, before={"compare": compared})
    assert posted.code == 0, posted.stderr
    (check,) = server.checks
    (comment,) = server.comments[pull.number]
    assert (check["status"], check["conclusion"]) == ("completed", posted.outputs["conclusion"])
    assert posted.outputs["conclusion"] in {"success", "neutral", "failure"}
    assert "models/mlp eager" in comment["body"]
    assert comment["body"].partition("\n")[2] + "\n" == posted.summary


@pytest.mark.parametrize("wrong", [{"setup": "exit 7"}, {"mode": "trainning"}, {"base-ref": "gone"}], ids=str)
def test_a_comparison_that_fails_completes_the_check(
    action: Any, server: ReviewGitHub, pull: Pull, wrong: dict[str, str]
) -> None:
    """As something that a person has to look at; what an earlier step left in the same folder is not shown for it."""
    earlier = action.workspace / "compare_logs"
    with open_folder(earlier) as folder:
        folder.write_text("compare.json", "what another comparison found")
    inputs = {**pull.inputs, **wrong}
    assert action.run("", inputs, step="start", env=pull.env).code == 0
    compared = action.run("", inputs, step="compare", env=pull.env)
    assert compared.code == 2, compared.stderr
    posted = action.run("", inputs, step="post", env=pull.env, before={"compare": compared})
    assert (posted.code, posted.outputs["conclusion"]) == (0, "action_required"), posted.stderr
    (check,) = server.checks
    assert (check["status"], check["conclusion"]) == ("completed", "action_required")
    assert "has no results: the step that measures failed or was cancelled; see its log" in posted.summary
    assert posted.summary == server.comments[pull.number][0]["body"].partition("\n")[2] + "\n"
