"""The command line in this process: as `torchperf-ci` does it, without the second that starting Python takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from fakes.dashboard_server import DashboardGitHub
from fakes.github_server import TOKEN
from torchperf_ci.cli.main import main


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def in_process(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """Call it with the arguments of the command line, and the folder to be in."""

    def call(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["torchperf-ci", *arguments])
            patch.chdir(cwd)
            for name, value in (env or {}).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Done(returncode=code if isinstance(code, int) else 0, stdout=captured.out, stderr=captured.err)

    return call


@pytest.fixture
def dashboard(in_process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Done]:
    """The command in a folder of its own; GitHub's waits and drawing take no time, and what is fetched stays there."""
    monkeypatch.setattr("torchperf_ci.report.plots.saved", lambda _: {"svg": b"<svg/>", "png": b"\x89PNG"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("BETWEEN_WRITES_S", "FIRST_WAIT_S"):
        monkeypatch.setattr(f"torchperf_ci.github.client.{name}", 0.0)
    monkeypatch.setattr("torchperf_ci.github.comments.FIRST_WAIT_S", 0.0)

    def call(directory: str, *arguments: str, server: DashboardGitHub | None = None, env: dict[str, str] | None = None):
        there = {"GITHUB_TOKEN": TOKEN, "GITHUB_API_URL": server.url} if server else {}
        return in_process("dashboard", directory, *arguments, cwd=tmp_path, env={**there, **(env or {})})

    return call
