"""examples/nightly.yml over two attempts, and examples/update-expected.yml after it."""

from __future__ import annotations

from pathlib import Path

from fakes.artifacts import zipped
from fakes.dashboard_server import DashboardGitHub
from torchperf_ci.core.results import read_results
from workflow_engine import Engine, WorkflowRun, commit, use_example

FAIL_ONCE = 'for n in 1 2 3; do mkdir "$ENGINE_TURNS/$n" 2>/dev/null && exit $((n / 3)); done; true'
"""A set-up that fails when it runs for the third time, which is in one of the two shards: the first is the plan's."""

INPUTS = {
    "setup": FAIL_ONCE,
    "shards": "2",
    "run-args": "--compilers eager --repeat 10 --warmup 0 --threads 1",
}


def test_a_night_whose_shard_is_repeated(engine: Engine, project: Path, tmp_path: Path) -> None:
    """A shard that fails is named and keeps the dashboard from being written; when it is repeated, the newest attempt
    of each shard becomes the merged results, the history and the comment; and expectation tables follow from them."""
    nightly = use_example(project, "nightly.yml", {"nightly": INPUTS, "dashboard": {"issue": "7"}})
    tables = use_example(project, "update-expected.yml", {})
    sha = commit(project)
    turns = tmp_path / "turns"
    turns.mkdir()
    with DashboardGitHub() as github:
        github.is_installation = True
        github.commit({"README": b"x"}, branch="main")

        def attempt(number: int, *arguments: str) -> WorkflowRun:
            return engine.run(
                project,
                nightly,
                "workflow_dispatch",
                *arguments,
                artifacts=tmp_path / "artifacts",
                env={
                    "GITHUB_API_URL": github.url,
                    "GITHUB_RUN_ID": "77",
                    "GITHUB_RUN_ATTEMPT": str(number),
                    "ENGINE_TURNS": str(turns),
                },
            )

        first = attempt(1)
        assert (first.code, first.outputs("merge")["missing"]) == (1, "1"), first.log
        (measured,) = (path.name for path in first.artifacts.glob("torchperf-nightly-*"))
        failed = {"1": "2-2", "2": "1-2"}[measured.split("-")[-3]]
        assert "torchperf-data" not in github.refs
        assert failed in first.log

        second = attempt(2, "--matrix", f"shard:{failed}")
        assert second.code == 0, second.log
        assert {name: result for name, result in second.results.items() if result != "success"} == {}
        merged = read_results(second.artifacts / second.outputs("merge")["artifact-name"])
        attempts = {each.case.model: each.source.attempt for each in merged.records}
        assert sorted(attempts.values()) == [1, 2]
        assert any(path.endswith(".parquet") for path in github.files("torchperf-data"))
        (comment,) = github.bodies(7)
        assert "models" in comment

        run_id = github.add_run(sha=sha)
        for folder in second.artifacts.glob("torchperf-nightly-*"):
            files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
            github.add_artifact(run_id, folder.name, zipped(files))
        updated = engine.run(
            project,
            tables,
            "workflow_dispatch",
            payload={"inputs": {"sha": sha}},
            artifacts=tmp_path / "artifacts",
            env={"GITHUB_API_URL": github.url},
        )
        assert updated.code == 0, updated.log
        (pull,) = github.pulls
        written = github.files(pull["head"]["ref"])
        table = next(text.decode() for path, text in written.items() if path.startswith("expected/"))
        assert {"first,pass,0", "second,pass,0"} <= set(table.splitlines())
