"""The example that searches for a commit, started by hand with a case."""

from __future__ import annotations

from pathlib import Path

import yaml

from unpacked_actions import ROOT
from workflow_engine import Engine, commit

SUITE = """
import torch
from mypackage import think

class Net(torch.nn.Linear):
    def forward(self, x):
        think()
        return super().forward(x)

MODELS = {"net": lambda batch_size: (Net(64, 64), (torch.randn(batch_size or 8, 64),))}
"""
INPUTS = {
    "setup": 'cp mypackage.py "$VIRTUAL_ENV"/lib/python3*/site-packages',
    "devices": "cpu",
    "threads": "1",
    "margin": "0.5",
}


def test_the_commit_is_named_in_outputs_summary_and_artifact(engine: Engine, project: Path, tmp_path: Path) -> None:
    """The one between the ends that sleeps."""
    workflow = yaml.safe_load((ROOT / "examples/bisect.yml").read_text(encoding="utf-8"))
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads `on` so
    *_, prepare, search = workflow["jobs"]["bisect"]["steps"]
    prepare["run"] = "true"  # torch is here
    search |= {"id": "bisect", "with": {**search["with"], **INPUTS}}
    (project / ".github/workflows/bisect.yml").write_text(yaml.safe_dump(workflow, sort_keys=False))
    (project / "benchmarks/models.py").write_text(SUITE)
    (project / "mypackage.py").write_text("def think():\n    pass\n")
    good = commit(project, "good")
    (project / "mypackage.py").write_text("import time\n\ndef think():\n    time.sleep(0.005)\n")
    culprit = commit(project, "slower")
    commit(project, "after")
    inputs = {"good": good, "bad": "HEAD", "case": "models/net eager", "metric": "latency"}
    run = engine.run(
        project,
        ".github/workflows/bisect.yml",
        "workflow_dispatch",
        payload={"inputs": inputs},
        artifacts=tmp_path / "artifacts",
    )
    assert (run.code, run.results) == (0, {"Bisect": "success"}), run.log
    outputs = run.outputs("bisect")
    assert (outputs["outcome"], outputs["culprit"], outputs["exit-code"]) == ("found", culprit, "0")
    assert culprit[:12] in run.summaries()
    stored = {path.name for path in (run.artifacts / "torchperf-bisect").iterdir()}
    assert {"bisect.md", "bisect.json", "rounds.jsonl"} <= stored
