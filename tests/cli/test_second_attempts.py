"""A workflow run that is repeated: `dashboard` shows its newest attempt alone. What `merge`, `post` and the artifacts'
names make of attempts stands with their own tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes.dashboard_server import DashboardGitHub
from fakes.github_server import REPOSITORY, TOKEN
from report_builders import accuracy, both, case
from run_builders import a_run
from torchperf_ci.core.records import Record, Status
from torchperf_ci.core.results import open_folder
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.runs import RunFilter
from torchperf_ci.history.storage import LocalFiles

GOOD = both(case("mlp"), 1.5)
BAD = [accuracy(case("mlp"), Status.FAIL_ACCURACY), *both(case("mlp"), 1.5)[1:]]


def test_a_second_attempt_takes_the_place_of_the_first(
    in_process: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the history, where the run counts once, and in its comment; it is compared with the run before, as the first
    attempt was, and not with that."""
    for name in ("client.BETWEEN_WRITES_S", "client.FIRST_WAIT_S", "issues.FIRST_WAIT_S"):
        monkeypatch.setattr(f"torchperf_ci.github.{name}", 0.0)
    with DashboardGitHub() as server:

        def dashboard(name: str, day: int, records: Sequence[Record], attempt: int) -> str:
            with open_folder(tmp_path / name) as folder:
                folder.append(*a_run(day, records, attempt=attempt).results.records)
            arguments = ("--history", "kept", "--repo", REPOSITORY, "--issue", "7")
            env = {"GITHUB_TOKEN": TOKEN, "GITHUB_API_URL": server.url}
            done = in_process("dashboard", name, *arguments, cwd=tmp_path, env=env)
            assert done.returncode == 0, done.stderr
            return next(line for line in done.stdout.splitlines() if " float32: " in line)

        dashboard("before", 0, GOOD, 1)
        first = dashboard("first", 1, BAD, 1)
        second = dashboard("second", 1, GOOD, 2)
        bodies = [comment["body"].partition("\n")[2] for comment in server.comments[7]]
    assert first == "❌ float32: 1 of 1 case failed: fail_accuracy"
    assert second == "✅ float32: 1 case passed"
    assert bodies == [(tmp_path / name / "dashboard_float32.md").read_text() for name in ("before", "second")]
    _, newest = ParquetHistory(files=LocalFiles(root=tmp_path / "kept")).read_last(9, RunFilter()).runs
    assert {(record.source.attempt, record.status) for record in newest.results.records} == {(2, Status.PASS)}
