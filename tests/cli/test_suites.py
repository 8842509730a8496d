"""`torchperf-ci suites list`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

Cli = Callable[..., subprocess.CompletedProcess[str]]

MINE = '''
from torchperf_ci.suites.registry import Skip

def small(batch_size):
    """A linear layer.

    More about it."""

def silent(batch_size): ...

def broken(batch_size):
    """Needs \x1b[31mred\x1b[0m hardware."""

MODELS = {"small": small, "silent": silent, "broken": broken}
QUICK = ["^s.all$"]
SKIPS = [Skip(model="silent", device="cpu", mode="training", reason="too loud")]

def missing(name=None):
    return "there is no such hardware" if name == "broken" else None
'''


def test_a_users_suite_is_listed_with_what_it_says(cli: Cli, tmp_path: Path) -> None:
    """Docstrings, quick models, skips and what is missing stand beside the names; control characters do not."""
    (tmp_path / "mine.py").write_text(MINE)
    ran = cli("suites", "list", str(tmp_path / "mine.py"))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == (
        "model   description                   quick  state\n"
        "------  ----------------------------  -----  ------------------------------------\n"
        "small   A linear layer.               quick  ready\n"
        "silent                                       skipped on cpu in training: too loud\n"
        "broken  Needs �[31mred�[0m hardware.         there is no such hardware\n"
    )


@pytest.fixture
def registered(tmp_path: Path) -> Path:
    """A folder with an installed distribution that registers one good suite and one that cannot be imported."""
    (tmp_path / "theirs.py").write_text("def net(batch_size): ...\nMODELS = {'net': net}\n")
    (tmp_path / "bad_theirs.py").write_text("raise OSError('no disk')\n")
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[torchperf_ci.suites]\ntheirs = theirs\nbad = bad_theirs\n")
    return tmp_path


def test_suites_of_installed_packages_are_listed_beside_the_built_in_ones(cli: Cli, registered: Path) -> None:
    """An entry point is enough to be found; a suite that cannot be imported says why instead of hiding the others."""
    path = os.pathsep.join([str(registered), *filter(None, [os.environ.get("PYTHONPATH")])])
    ran = cli("suites", "list", env={"PYTHONPATH": path})
    assert ran.returncode == 0, ran.stderr
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in ran.stdout.splitlines()}
    assert {"suite", "tiny", "huggingface", "timm_models", "torchbench", "theirs", "bad"} <= set(rows)
    assert rows["tiny"] == "9 3 ready"
    assert rows["theirs"] == "1 ready"
    assert rows["bad"].startswith("suite bad cannot be imported: ")
    assert rows["bad"].endswith("bad_theirs.py:1: OSError: no disk")
    assert rows["torchbench"].startswith("torchbenchmark is not installed in this Python; give --torchbench-dir ")


def test_an_unknown_suite_is_told_with_the_nearest_name(cli: Cli) -> None:
    """Exit code 2, and the choices."""
    ran = cli("suites", "list", "tinny")
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith("Error: unknown suite 'tinny'. Did you mean tiny? There are: ")


def test_a_suite_that_cannot_run_here_is_refused_before_anything_runs(cli: Cli, tmp_path: Path) -> None:
    """`run` says what is missing and leaves no results folder's records behind."""
    (tmp_path / "mine.py").write_text(
        "def net(batch_size): ...\nMODELS = {'net': net}\ndef missing(name=None): return 'it needs a moon'\n"
    )
    ran = cli("run", "--suites", str(tmp_path / "mine.py"), "--inference", "--output-dir", str(tmp_path / "out"))
    assert ran.returncode == 2
    assert ran.stderr.endswith(f"Error: suite {tmp_path / 'mine.py'} cannot run here: it needs a moon\n")
    assert not (tmp_path / "out" / "records.jsonl").exists()


def test_a_suite_whose_package_is_not_here_is_told_with_the_way_to_have_it(cli: Cli, tmp_path: Path) -> None:
    """Which line imports it, and the command that installs it for this Python."""
    (tmp_path / "mine.py").write_text("import no_such_package\nMODELS = {}\n")
    listed = cli("suites", "list", "mine.py", cwd=tmp_path)
    assert listed.returncode == 2
    assert "suite mine.py cannot be imported: mine.py:1: ModuleNotFoundError" in listed.stderr
    assert f"{sys.executable} -m pip install" in listed.stderr


def test_a_filter_that_matches_no_model_is_told_with_the_nearest_name(cli: Cli) -> None:
    """A misspelt model is an error, not an empty run."""
    ran = cli("run", "--suites", "huggingface", "--inference", "-k", "BertForMaskedLn", "-k", "Albert")
    assert ran.returncode == 2
    assert "--filter 'BertForMaskedLn': it matches no model. Did you mean BertForMaskedLM? There are: " in ran.stderr
