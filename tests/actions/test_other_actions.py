"""The actions that no pull request and no night needs: update-expected, and upload to Scribe."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fakes.artifacts import record, records_file, zipped
from fakes.github_server import REPOSITORY, SHA, FakeGitHub
from torchperf_ci.core.records import Testing
from torchperf_ci.core.results import open_folder

pytestmark = pytest.mark.slow


def test_tables_of_a_commit_become_a_pull_request(action: Any) -> None:
    """With its address among the outputs, and what changed in the step summary."""
    (action.workspace / ".git").mkdir()
    with FakeGitHub() as github:
        github.commit({"README": b"x"}, branch="main")
        run = github.add_run()
        for number, model in ((1, "mlp"), (2, "lstm")):
            content = {"records.jsonl": records_file(record(model))}
            github.add_artifact(run, f"torchperf-nightly-{number}-2-1", zipped(content))
        step = action.run("update-expected", {"sha": SHA}, env=github.environ)
        branch = github.files(f"torchperf/update-expected-{SHA[:12]}")
    assert step.code == 0, step.stderr
    table = "expected/inductor_tiny_float32_inference_cpu.csv"
    assert set(branch) == {"README", table}
    assert [line for line in branch[table].decode().splitlines() if line] == [
        "name,accuracy,graph_breaks",
        "lstm,pass,0",
        "mlp,pass,0",
    ]
    assert step.outputs["changed"] == "1"
    assert step.outputs["pull-request-url"].endswith(f"/{REPOSITORY}/pull/1")
    assert "mlp" in step.summary


def test_messages_for_scribe_are_made(action: Any) -> None:
    """And with dry-run they are only printed."""
    with open_folder(action.workspace / "benchmark_logs") as folder:
        times = {"compiled": (0.001, 0.002, 0.003)}
        folder.append(replace(record("mlp"), testing=Testing.PERFORMANCE, samples=times))
    inputs = {
        "to": "scribe",
        "dry-run": "true",
        "field": "benchmark_group=perf\npytorch_branch=night",
        "scribe-token": "secret",
    }
    step = action.run("upload", inputs, step="scribe")
    assert step.code == 0, step.stderr
    (message,) = map(json.loads, step.stdout.splitlines())
    assert message["normal"]["benchmark_name"] == "inference[mlp]"
    assert (message["normal"]["benchmark_group"], message["normal"]["pytorch_branch"]) == ("perf", "night")
    assert "secret" not in step.stdout + step.stderr
