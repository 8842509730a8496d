"""The pretended CUDA: skipped where it is not built."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from torchperf_ci.core.records import Record
from torchperf_ci.core.results import read_results


@pytest.fixture
def on_fake_cuda(cli: Callable, tmp_path: Path) -> Callable:
    """`torchperf-ci` with the Python of the pretended CUDA, on a machine of the test's own; `env` adds variables."""
    if not os.environ.get("FAKE_CUDA"):
        pytest.skip("FAKE_CUDA does not name the pretended CUDA; make fake-cuda builds it")
    built = Path(os.environ["FAKE_CUDA"]).resolve()

    def call(*arguments: str, env: dict[str, str] | None = None):
        variables = {
            "PATH": f"{built / 'bin'}:{os.environ['PATH']}",
            "FAKE_EQ": "1",
            "FAKE_SHM": str(tmp_path / "gpu.shm"),
            **(env or {}),
        }
        return cli(*arguments, "--python", str(built / "python"), env=variables, cwd=tmp_path)

    return call


@pytest.fixture
def records(tmp_path: Path) -> Callable[[], list[Record]]:
    """What a run into the folder `out` has recorded."""
    return lambda: list(read_results(tmp_path / "out").records)
