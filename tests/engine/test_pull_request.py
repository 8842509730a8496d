"""examples/pr.yml and examples/post.yml, as a repository has them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from fakes.artifacts import zipped
from fakes.github_server import REPOSITORY
from fakes.review_server import ReviewGitHub
from workflow_engine import Engine, commit, use_example

SUITE = """
import torch
from mypackage import think

class Net(torch.nn.Linear):
    def forward(self, x):
        think()
        return super().forward(x)

def net(batch_size, kind=torch.nn.Linear):
    return kind(64, 64), (torch.randn(batch_size or 8, 64),)

MODELS = {"first": net, "second": lambda batch_size: net(batch_size, Net)}
"""
INPUTS = {
    "prepare": "true",
    "setup": 'cp mypackage.py "$VIRTUAL_ENV"/lib/python3*/site-packages',
    "compilers": "eager",
    "filter": "second",
    "compare-args": "--launches 3 --budget-per-case 1 --devices cpu --threads 1",
}


def branch_off(project: Path) -> tuple[str, str]:
    """Commit the project on main, and the slowdown on a branch; the two SHAs."""
    (project / "benchmarks/models.py").write_text(SUITE)
    (project / "mypackage.py").write_text("def think():\n    pass\n")
    base = commit(project, "base")
    subprocess.run(["git", "checkout", "-q", "-b", "feature"], cwd=project, check=True)
    (project / "mypackage.py").write_text("import time\n\ndef think():\n    time.sleep(0.005)\n")
    return base, commit(project, "slower")


def test_a_slowdown_fails_the_gate_and_is_told_everywhere(engine: Engine, project: Path, tmp_path: Path) -> None:
    """The job fails; outputs, artifact, step summary, check and comment name the slower case; then the workflow that
    posts for forks says the same of the same artifact where the job itself may not write."""
    pr = use_example(project, "pr.yml", {"compare": INPUTS})
    base, head = branch_off(project)
    with ReviewGitHub() as github:
        number = github.add_pull(sha=head)
        request = {"number": number, "head": {"sha": head, "ref": "feature", "repo": {"full_name": REPOSITORY}}}
        run = engine.run(
            project,
            pr,
            "pull_request",
            payload={"pull_request": {**request, "base": {"ref": "main", "sha": base}}},
            artifacts=tmp_path / "artifacts",
            env={"GITHUB_API_URL": github.url, "GITHUB_RUN_ID": "7"},
        )
        assert (run.code, run.results) == (1, {"Compare": "failure"}), run.log
        assert "models/second" in run.summaries()
        (check,) = github.checks
        (comment,) = github.comments[number]
        assert (check["name"], check["head_sha"], check["status"]) == ("torchperf", head, "completed")
        assert check["conclusion"] == "failure"
        assert "models/second" in comment["body"]
        stored = run.artifacts / "torchperf-report"
        assert {"compare.json", "records.jsonl"} & {path.name for path in stored.iterdir()}
        post_from_a_fork(engine, github, project, stored, tmp_path)


def post_from_a_fork(engine: Engine, github: ReviewGitHub, project: Path, stored: Path, tmp_path: Path) -> None:
    """Run the workflow that posts, about the same artifact of a run that a fork's pull request started."""
    head = project_head(project)
    workflow = use_example(project, "post.yml", {})
    run_id = github.add_run(sha=head)
    files = {path.name: of_run(run_id, path.read_bytes()) for path in stored.iterdir() if path.is_file()}
    github.add_artifact(run_id, "torchperf-report", zipped(files))
    number = github.add_pull(sha=head, branch="theirs", fork="stranger/project")
    github.checks.clear()
    started_by = {
        "id": run_id,
        "run_attempt": 1,
        "conclusion": "failure",
        "head_sha": head,
        "head_branch": "theirs",
        "head_repository": {"full_name": "stranger/project"},
        "actor": {"login": "stranger"},
    }
    run = engine.run(
        project,
        workflow,
        "workflow_run",
        payload={"workflow_run": started_by, "action": "completed"},
        artifacts=tmp_path / "artifacts",
        env={"GITHUB_API_URL": github.url, "GITHUB_RUN_ID": "8"},
    )
    assert (run.code, run.results) == (0, {"Post": "success"}), run.log
    (check,) = github.checks
    assert (check["head_sha"], check["status"], check["conclusion"]) == (head, "completed", "failure")
    (comment,) = github.comments[number]
    assert "models/second" in comment["body"]
    assert "models/second" in run.summaries("Post")


def of_run(number: int, content: bytes) -> bytes:
    """Make results of the run that measured here those of another one: `post` takes them from no other run."""
    return re.sub(rb'("run_id": ?)"7"', rb'\g<1>"%d"' % number, content)


def project_head(project: Path) -> str:
    """Name the commit that is checked out."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, check=True, capture_output=True, text=True)
    return done.stdout.strip()
