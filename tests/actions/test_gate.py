"""The root action as a pull request meets it: a check in progress, a live comparison, check, comment and summary."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fakes.github_server import REPOSITORY
from fakes.review_server import ReviewGitHub

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


def test_a_pull_request_gets_check_comment_and_summary(action: Any, tmp_path: Path) -> None:
    """In progress before the comparison starts, completed after it, of the pull request's head."""
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
    with ReviewGitHub() as github:
        pull = github.add_pull(sha=sha)
        env = {**github.environ, "GITHUB_EVENT_PATH": str(event), "GITHUB_RUN_ID": "7"}
        assert action.run("", inputs, step="start", env=env).code == 0
        assert [(check["status"], check["head_sha"]) for check in github.checks] == [("in_progress", sha)]
        compared = action.run("", inputs, step="compare", env=env)
        assert compared.code in {0, 3}, compared.stderr  # it is a real measurement
        posted = action.run("", inputs, step="post", env=env)
    assert posted.code == 0, posted.stderr
    (check,) = github.checks
    (comment,) = github.comments[pull]
    assert (check["status"], check["conclusion"]) == ("completed", posted.outputs["conclusion"])
    assert posted.outputs["conclusion"] in {"success", "neutral", "failure"}
    assert "models/mlp eager" in comment["body"]
    assert comment["body"].partition("\n")[2] + "\n" == posted.summary
