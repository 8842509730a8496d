"""A night as a repository has it: a plan, three shards of which one fails and is repeated, and everything after it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from fakes.artifacts import zipped
from fakes.github_server import REPOSITORY
from fakes.review_server import ReviewGitHub
from torchperf_ci.core.results import read_results

pytestmark = pytest.mark.slow

SHA = "f" * 40
SUITE = """
import pathlib
import torch

def model(batch_size):
    return torch.nn.Linear(4, 4), (torch.randn(batch_size or 2, 4),)

def moody(batch_size):
    if not pathlib.Path("awake").exists():
        raise RuntimeError("::error::not yet @octocat")
    return model(batch_size)

MODELS = {"first": model, "moody": moody, "third": model}
"""


class Night:
    """The jobs of a workflow run, each with what the one before left."""

    def __init__(self, action: Any, github: ReviewGitHub) -> None:
        self.action = action
        self.github = github
        self.shards = action.workspace / ".torchperf-shards-77-3"
        (action.workspace / "suite.py").write_text(SUITE)

    def step(
        self,
        name: str,
        inputs: dict[str, str],
        *,
        step: str = "",
        attempt: int = 1,
        before: dict[str, Any] | None = None,
        **env: str,
    ) -> Any:
        known = {**self.github.environ, "GITHUB_RUN_ATTEMPT": str(attempt), "GITHUB_SHA": SHA, "GITHUB_RUN_ID": "77"}
        return self.action.run(name, inputs, step=step, env={**known, **env}, before=before)

    def measure(self, entry: dict[str, Any], *, attempt: int) -> int:
        """A shard's job; its exit code. What it uploads is among the run's artifacts."""
        inputs = {
            "suites": entry["suites"],
            "filter": entry["filter"],
            "devices": entry["device"],
            "name": entry["name"],
            "shard": entry["shard"],
            "compilers": "eager",
            "repeat": "10",
            "threads": "1",
            "python": sys.executable,
            "extra-args": "--warmup 0",
        }
        step = self.step("run", inputs, attempt=attempt)
        target = self.shards / step.outputs["artifact-name"]
        shutil.copytree(self.action.workspace / step.outputs["results"], target)
        return step.code


def test_a_night_and_the_review_that_follows(action: Any, cli: Any, tmp_path: Path) -> None:
    """Plan, three shards (one fails, and passes when repeated), merge, check, dashboard, compare, upload, `post`."""
    with ReviewGitHub() as github:
        night = Night(action, github)
        planned = night.step("plan", {"suites": "suite.py", "shards": "3", "python": sys.executable}, step="plan")
        assert planned.code == 0, planned.stderr
        entries = json.loads(planned.outputs["matrix"])["include"]
        assert [entry["filter"] for entry in entries] == [r"^suite/first\Z", r"^suite/moody\Z", r"^suite/third\Z"]

        assert [night.measure(entry, attempt=1) for entry in entries] == [0, 6, 0]
        early = night.step("merge", {"matrix": planned.outputs["matrix"], "fail-on": "failed"})
        assert (early.code, early.outputs["failed"]) == (6, "1")

        (action.workspace / "awake").touch()
        assert night.measure(entries[1], attempt=2) == 0
        merged = night.step("merge", {"matrix": planned.outputs["matrix"]})
        assert (merged.code, merged.outputs["passed"], merged.outputs["missing"]) == (0, "3", "0"), merged.stderr
        results = action.workspace / merged.outputs["results"]
        models = [(each.case.model, each.source.attempt) for each in read_results(results).records]
        assert models == [*[("first", 1)] * 2, *[("moody", 2)] * 2, *[("third", 1)] * 2]

        updated = cli("update-expected", "--from", str(results), "--expected-dir", "expected", cwd=action.workspace)
        assert updated.returncode == 0, updated.stderr
        checked = night.step("check", {"results": str(results)})
        assert (checked.code, checked.outputs) == (0, {"failed": "0", "improved": "0"}), checked.stderr

        kept = night.step("dashboard", {"results": str(results), "history": "history"})
        assert (kept.code, kept.outputs["open"]) == (0, "0"), kept.stderr
        assert list((action.workspace / "history").rglob("*.parquet"))
        next_night(night)

        compare_with_main(night, results)
        uploaded = night.step("upload", {"results": str(results), "out": "rows.json"}, step="hud")
        rows = (action.workspace / "rows.json").read_text().splitlines()
        assert (uploaded.code, uploaded.outputs) == (0, {"rows": str(len(rows))}), uploaded.stderr

        post_from_fork(night, results, tmp_path)


def next_night(night: Night) -> None:
    """By what the history has: how long models take; what is usual it cannot say after one night."""
    inputs = {"suites": "suite.py", "history": "history", "python": sys.executable}
    fetched = night.step("plan", inputs, step="durations")
    assert fetched.code == 0, fetched.stderr
    planned = night.step("plan", inputs, step="plan", before={"durations": fetched})
    assert planned.code == 0, planned.stderr
    (entry,) = json.loads(planned.outputs["matrix"])["include"]
    assert entry["seconds"] > 0
    compared = night.step(
        "compare",
        {"results": "benchmark_logs", "history": "history", "output-dir": "usual_logs"},
        step="recorded",
    )
    assert compared.code == 4
    assert "the history history holds no runs named 'results' before it" in compared.stderr


def compare_with_main(night: Night, results: Path) -> None:
    """Against what the commit before uploaded: here the same numbers, so that nothing is slower."""
    base = night.github.commit({}, branch="main")
    night.github.objects[SHA] = {"message": "head", "parents": [base]}
    content = {path.name: path.read_bytes() for path in results.iterdir() if path.is_file()}
    night.github.add_artifact(night.github.add_run(sha=base), "torchperf-merged-results", zipped(content))
    inputs = {"results": str(results), "baseline-artifact": "torchperf-merged-results"}
    step = night.step("compare", inputs, step="recorded")
    assert step.code == 0, step.stderr
    assert (step.outputs["results"], step.outputs["regressed"], step.outputs["exit-code"]) == ("compare_logs", "0", "0")
    headline = step.summary.strip().partition("\n")[0]
    assert ("3 cases" in headline, "slower" in headline) == (True, False)
    assert f"Base is torchperf-merged-results of {base[:12]}" in step.stderr


def post_from_fork(night: Night, results: Path, tmp_path: Path) -> None:
    """The second workflow, about the run of a fork's pull request that made these results."""
    run = night.github.add_run(sha=SHA)
    content = {path.name: path.read_bytes() for path in results.iterdir() if path.is_file()}
    night.github.add_artifact(run, "torchperf-report", zipped(rewritten(content, run=run)))
    pull = night.github.add_pull(sha=SHA, fork="stranger/project")
    head = {"head_sha": SHA, "head_branch": "feature", "head_repository": {"full_name": "stranger/project"}}
    event = tmp_path / "event.json"
    event.write_text(json.dumps({"workflow_run": {"id": run, "run_attempt": 2, **head}}))
    posted = night.step("post", {}, GITHUB_EVENT_PATH=str(event), GITHUB_SERVER_URL="https://github.test")
    assert (posted.code, posted.outputs["conclusion"]) == (0, "success"), posted.stderr
    assert posted.outputs["check-url"] == night.github.checks[0]["html_url"]
    (comment,) = night.github.comments[pull]
    assert posted.outputs["comment-url"] == comment["html_url"]
    assert comment["body"].partition("\n")[2] + "\n" == posted.summary


def rewritten(files: dict[str, bytes], *, run: int) -> dict[str, bytes]:
    """The files, as of the repository and the workflow run that the local GitHub has."""
    own = {b"owner/project": REPOSITORY.encode(), b'"run_id":"77"': f'"run_id":"{run}"'.encode()}
    for before, after in own.items():
        files = {name: content.replace(before, after) for name, content in files.items()}
    return files
