"""Every action by its `uses:` line, each in a step of one job that gives the next what it needs."""

from __future__ import annotations

from pathlib import Path

from fakes.review_server import ReviewGitHub
from unpacked_actions import ROOT
from workflow_engine import Engine, commit

CHECKOUT = next(
    line.partition("uses: ")[2]
    for line in (ROOT / ".github/workflows/perf-pr.yml").read_text().splitlines()
    if "actions/checkout@" in line
)
WORKFLOW = f"""
name: All
on: push
jobs:
  all:
    name: All
    runs-on: ubuntu-latest
    steps:
      - uses: {CHECKOUT}
        with: {{ fetch-depth: "0" }}
      - id: plan
        uses: org/torchperf-ci/plan@v1
        with: {{ suites: benchmarks/models.py }}
      - id: run
        uses: org/torchperf-ci/run@v1
        with:
          suites: ${{{{ fromJSON(steps.plan.outputs.matrix).include[0].suites }}}}
          filter: ${{{{ fromJSON(steps.plan.outputs.matrix).include[0].filter }}}}
          shard: ${{{{ fromJSON(steps.plan.outputs.matrix).include[0].shard }}}}
          compilers: eager
          repeat: "10"
          threads: "1"
          extra-args: --warmup 0
      - id: merge
        uses: org/torchperf-ci/merge@v1
        with: {{ matrix: "${{{{ steps.plan.outputs.matrix }}}}", output-dir: merged }}
      - id: check
        uses: org/torchperf-ci/actions/check@v1
        with: {{ results: merged }}
      - id: dashboard
        uses: org/torchperf-ci/dashboard@v1
        with: {{ results: merged, history: history }}
      - id: upload
        uses: org/torchperf-ci/upload@v1
        with: {{ results: merged, out: rows.json }}
      - id: compare
        uses: org/torchperf-ci/compare@v1
        with:
          results: |
            merged
            merged
          artifact: compared
      - id: update
        uses: org/torchperf-ci/update-expected@v1
        with: {{ sha: "${{{{ github.sha }}}}" }}
        continue-on-error: true # there is no run of this commit yet
      - id: gate
        uses: org/torchperf-ci@v1
        with:
          suites: benchmarks/models.py
          filter: first
          base-ref: HEAD
          compilers: eager
          launches: "2"
          budget-per-case: "1"
          threads: "1"
          extra-args: --head-env ENGINE_SIDE=head
          margin: "0.9"
          threshold: "0.9"
      - id: post
        uses: org/torchperf-ci/post@v1
        with: {{ results: merged, name: models }}
"""


def test_each_action_starts_and_does_its_work(engine: Engine, project: Path, tmp_path: Path) -> None:
    """From the copy that the runner makes: nine folders and the root, one of them below actions/."""
    (project / ".github/workflows/all.yml").write_text(WORKFLOW)
    (project / "expected").mkdir()
    table = "name,accuracy,graph_breaks\n\nfirst,pass,0\n\nsecond,pass,0\n"
    (project / "expected/eager_models_float32_inference_cpu.csv").write_text(table)
    sha = commit(project)
    with ReviewGitHub() as github:
        run = engine.run(
            project,
            ".github/workflows/all.yml",
            "push",
            artifacts=tmp_path / "artifacts",
            env={"GITHUB_API_URL": github.url, "GITHUB_RUN_ID": "7"},
        )
    assert (run.code, run.results) == (0, {"All": "success"}), run.log
    assert run.outputs("plan")["jobs"] == "1"
    assert (run.outputs("run")["passed"], run.outputs("merge")["passed"]) == ("2", "2")
    assert run.outputs("check") == {"failed": "0", "improved": "0"}
    assert run.outputs("dashboard")["open"] == "0"
    assert run.outputs("upload")["rows"] != "0"
    assert run.outputs("compare")["exit-code"] == "0"
    assert run.outputs("gate")["exit-code"] == "0"
    assert sha[:12] in run.log.partition("update-expected --github-files")[2]
    assert {check["name"]: check["status"] for check in github.checks} == {
        "torchperf": "completed",
        "models": "completed",
    }
    assert {path.name for path in run.artifacts.iterdir()} == {
        "torchperf-results-1-1-1",
        "torchperf-merged-results",
        "torchperf-report",
        "compared",
    }
