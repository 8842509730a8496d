"""Which commits the source trees beside a run are at, asked from git."""

from __future__ import annotations

import subprocess
from pathlib import Path

from torchperf_ci.report.model import SourceTree

SECONDS = 20


def read_checkouts(*, pytorch_dir: Path | None, torchbench_dir: Path | None, base_sha: str) -> tuple[SourceTree, ...]:
    """PyTorch's and torchbench's commits. A `base_sha` is believed, not looked up."""
    pytorch = SourceTree(name="pytorch", commit=base_sha) if base_sha else _checkout("pytorch", pytorch_dir)
    return (pytorch, _checkout("torchbench", torchbench_dir))


def _checkout(name: str, path: Path | None) -> SourceTree:
    if path is None or not path.is_dir():
        return SourceTree(name=name)
    try:
        asked = subprocess.run(
            ["git", "-C", str(path), "log", "-1", "--format=%H %cI"],  # noqa: S607 - the user's git
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return SourceTree(name=name)
    commit, _, date = asked.stdout.strip().partition(" ")
    return SourceTree(name=name, commit=commit, date=date)
