"""Comparisons as finished runs stored them, for tests of what reads them later."""

from __future__ import annotations

from dataclasses import replace

from compare_builders import HEADER, measured
from fakes.artifacts import zipped
from fakes.github_server import REPOSITORY, SHA, FakeGitHub
from torchperf_ci.compare.model import Measured
from torchperf_ci.compare.report import judge_cases, to_json
from torchperf_ci.core.records import Source


def store(server: FakeGitHub, *cases: Measured, sha: str = SHA) -> int:
    """A finished run of a commit, with the comparison that it stored; its number."""
    run = server.add_run(sha=sha)
    header = replace(HEADER, source=Source(repository=REPOSITORY, commit=sha, run_id=str(run)))
    server.add_artifact(run, "torchperf-report", zipped({"compare.json": to_json(judge_cases(header, cases))}))
    return run


def slower(ratio: float) -> Measured:
    """A case that is so many times slower, seen twice."""
    return replace(measured("slow", ratio), again=measured("slow", ratio))
