"""Commands with what they need around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes.dashboard_server import DashboardGitHub
from fakes.github_server import TOKEN


@pytest.fixture
def dashboard(in_process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command in a folder of its own; GitHub's waits and drawing take no time, and what is fetched stays there."""
    monkeypatch.setattr("torchperf_ci.report.plots.saved", lambda _: {"svg": b"<svg/>", "png": b"\x89PNG"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("BETWEEN_WRITES_S", "FIRST_WAIT_S"):
        monkeypatch.setattr(f"torchperf_ci.github.client.{name}", 0.0)
    monkeypatch.setattr("torchperf_ci.github.issues.FIRST_WAIT_S", 0.0)

    def call(directory: str, *arguments: str, server: DashboardGitHub | None = None, env: dict[str, str] | None = None):
        there = {"GITHUB_TOKEN": TOKEN, "GITHUB_API_URL": server.url} if server else {}
        return in_process("dashboard", directory, *arguments, cwd=tmp_path, env={**there, **(env or {})})

    return call
