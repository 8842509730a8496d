"""The private environment of the actions: made once per version, by uv where it is there, whoever is first."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import uv

from torchperf_ci import __version__

pytestmark = pytest.mark.slow

SETUP = Path(__file__).parents[2] / "actions" / "_setup.sh"
NO_INDEX = {"UV_OFFLINE": "1", "UV_NO_CACHE": "1", "PIP_NO_INDEX": "1"}


def started(home: Path, **env: str) -> subprocess.Popen[str]:
    """The script, on a runner that has uv."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = os.pathsep.join([str(Path(uv.find_uv_bin()).parent), os.environ["PATH"]])
    return subprocess.Popen(
        ["bash", str(SETUP), "--version"],
        env={**known, "PATH": path, "RUNNER_TOOL_CACHE": str(home), **env},
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_jobs_that_start_together_share_one_environment(tmp_path: Path) -> None:
    """Made by uv, one of them wins, no half-made one stays; later runs install nothing."""
    jobs = [started(tmp_path) for _ in range(2)]
    ended = [(*job.communicate(timeout=600), job.returncode) for job in jobs]
    assert [(out.strip(), code) for out, _, code in ended] == [(f"torchperf-ci, version {__version__}", 0)] * 2, ended
    (environment,) = (tmp_path / "torchperf-ci").iterdir()
    assert "uv = " in (environment / "pyvenv.cfg").read_text()
    with started(tmp_path, **NO_INDEX) as again:
        assert (again.wait(timeout=60), again.stderr and again.stderr.read()) == (0, "")


def test_what_cannot_be_installed_leaves_nothing_behind(tmp_path: Path) -> None:
    """The step fails with uv's words, and the next job starts from the beginning."""
    with started(tmp_path, **NO_INDEX) as job:
        _, talk = job.communicate(timeout=60)
    assert job.returncode != 0
    assert "pandas" in talk or "hatchling" in talk
    assert list((tmp_path / "torchperf-ci").iterdir()) == []
