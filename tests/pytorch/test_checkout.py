"""What a checkout says of itself, without running it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from torchperf_ci.pytorch.harness import PyTorchCheckout, read_checkouts
from torchperf_ci.report.model import SourceTree

SHA = "b" * 40


def repository(path: Path) -> str:
    """A repository with one commit; its SHA."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(path), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    path.mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first", "--date", "2026-03-01T12:00:00+00:00")
    return git("rev-parse", "HEAD")


def test_commits_are_read_from_git(tmp_path: Path) -> None:
    """Of both trees with their dates; a given commit is believed; what is no repository has none."""
    head = repository(tmp_path / "pytorch")
    (tmp_path / "benchmark").mkdir()
    trees = {"pytorch_dir": tmp_path / "pytorch", "torchbench_dir": tmp_path / "benchmark"}
    pytorch, torchbench = read_checkouts(**trees, base_sha="")
    assert (pytorch.name, pytorch.commit, bool(pytorch.date)) == ("pytorch", head, True)
    assert torchbench == SourceTree(name="torchbench")
    given, absent = read_checkouts(pytorch_dir=tmp_path / "pytorch", torchbench_dir=None, base_sha=SHA)
    assert (given, absent) == (SourceTree(name="pytorch", commit=SHA), SourceTree(name="torchbench"))


def test_suites_are_the_scripts_of_a_checkout() -> None:
    """By their names, and whatever other module is beside them."""
    checkout = PyTorchCheckout(folder=Path(__file__).parent / "standin_checkout", environ={})
    assert checkout.suites() == ["common", "huggingface", "timm_models", "torchbench"]
