"""Run real workflows on nektos/act, without containers, with the actions unpacked as GitHub's runner does it.

What differs from GitHub: actions/checkout and its three siblings are the stand-ins in tests/engine/standins, which work
on folders of this machine; nobody reads `concurrency` and `permissions`; and the engine does not know `$/` yet, so that
references within this repository are rewritten to `org/torchperf-ci/…@v1` in the unpacked copy.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from fakes.github_server import REPOSITORY, TOKEN
from unpacked_actions import ROOT

ACT = Path(sys.executable).parent / "act"
OPTIONS = (
    "--json", "--platform", "ubuntu-latest=-self-hosted", "--use-new-action-cache", "--action-offline-mode",
    "--no-cache-server", "--no-skip-checkout", "--concurrent-jobs", "1",
)  # fmt: skip
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "safe.directory=*")


@dataclass(frozen=True, kw_only=True)
class WorkflowRun:
    """How a workflow run ended; `lines` are the engine's log, each with its job and, in a step, its step."""

    code: int
    lines: Sequence[Mapping[str, Any]]
    artifacts: Path

    @cached_property
    def results(self) -> dict[str, str]:
        """Each job's result by its name, without those of the workflows around it."""
        return {self._name(line): line["jobResult"] for line in self.lines if "jobResult" in line}

    def outputs(self, step: str) -> dict[str, str]:
        """Give the outputs of the job's step with this id, by its last part: an action's own steps have outputs too."""
        ids = [line for line in self.lines if line.get("command") == "set-output" and line["stepID"] == [step]]
        return {line["name"]: line["arg"] for line in ids}

    def summaries(self, job: str = "") -> str:
        """Give what the steps of a job, or of all, wrote into their step summaries."""
        written = [line for line in self.lines if line.get("command") == "summary"]
        return "\n".join(line["content"] for line in written if job in {"", self._name(line)})

    @cached_property
    def log(self) -> str:
        """All that the steps printed, and what the engine says of them."""
        told = [line["msg"].rstrip("\n") for line in self.lines if line.get("stage", "Main") == "Main"]
        return "\n".join(each for each in told if not each.startswith("LocalRepositoryCache"))

    def _name(self, line: Mapping[str, Any]) -> str:
        return str(line["job"]).rpartition("/")[2].strip()


@dataclass(frozen=True, kw_only=True)
class Engine:
    """`run` runs a workflow of a project. One tool cache and one copy of the actions serve all tests."""

    home: Path
    actions: Path
    tool_cache: Path

    def run(
        self,
        project: Path,
        workflow: str,
        event: str,
        *arguments: str,
        payload: Mapping[str, Any] | None = None,
        artifacts: Path,
        env: Mapping[str, str] | None = None,
    ) -> WorkflowRun:
        """Run a workflow as `event` with its payload; `env` is what GitHub would set otherwise."""
        artifacts.mkdir(exist_ok=True)
        event_file = artifacts.with_name("event.json")
        event_file.write_text(json.dumps({"repository": {"default_branch": "main"}, **(payload or {})}))
        known = {
            "RUNNER_TOOL_CACHE": str(self.tool_cache),
            "ENGINE_ARTIFACTS": str(artifacts),
            "ENGINE_PROJECT": str(project),
            "OMP_NUM_THREADS": "1",
            "GIT_PAGER": "cat",
            **(env or {}),
        }
        done = subprocess.run(
            [
                str(ACT), event, "--workflows", workflow, "--eventpath", str(event_file), *OPTIONS, *arguments,
                "--action-cache-path", str(self.home / "cache"), "--secret", f"GITHUB_TOKEN={TOKEN}",
                *(part for each in self._repositories() for part in ("--local-repository", each)),
                *(part for name, value in known.items() for part in ("--env", f"{name}={value}")),
            ],
            cwd=project,
            env={
                **os.environ,
                "PATH": f"{ACT.parent}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(self.home),
                "DOCKER_HOST": "",
            },
            capture_output=True,
            text=True,
            timeout=900,
        )  # fmt: skip
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        return WorkflowRun(code=done.returncode, lines=lines, artifacts=artifacts)

    def _repositories(self) -> list[str]:
        """Say where the engine finds each action that a file here names, by repository and version."""
        texts = [path.read_text(encoding="utf-8") for path in self.actions.rglob("*.yml")]
        used = {found for text in texts for found in re.findall(r"uses: (actions/([a-z-]+)@\w+)", text)}
        stand_ins = [f"{name}={self.home / 'standins' / folder}" for name, folder in sorted(used)]
        return [f"org/torchperf-ci@v1={self.actions}", *stand_ins]


def commit(folder: Path, message: str = "all") -> str:
    """Commit everything in a folder, which becomes a repository; its SHA."""
    if not (folder / ".git").exists():
        subprocess.run([*GIT, "init", "-q", "-b", "main"], cwd=folder, check=True)
        subprocess.run([*GIT, "config", "uploadpack.allowAnySHA1InWant", "true"], cwd=folder, check=True)
        subprocess.run([*GIT, "remote", "add", "origin", f"https://github.com/{REPOSITORY}"], cwd=folder, check=True)
    subprocess.run([*GIT, "add", "-A"], cwd=folder, check=True)
    subprocess.run([*GIT, "commit", "-q", "--allow-empty", "-m", message], cwd=folder, check=True)
    head = subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return head.stdout.strip()


def use_example(project: Path, name: str, inputs: Mapping[str, Mapping[str, str]]) -> str:
    """Copy an example into the project as it is, but with more inputs for what its jobs call; where it lies."""
    target = f".github/workflows/{name}"
    workflow = yaml.safe_load((ROOT / "examples" / name).read_text(encoding="utf-8"))
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads `on` so
    for job, more in inputs.items():
        workflow["jobs"][job]["with"] = {**workflow["jobs"][job].get("with", {}), **more}
    (project / target).write_text(yaml.safe_dump(workflow, sort_keys=False))
    return target
