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


def started(home: Path, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
    """The script, on a runner that has uv; without arguments it asks for the version."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = os.pathsep.join([str(Path(uv.find_uv_bin()).parent), os.environ["PATH"]])
    return subprocess.Popen(
        ["bash", str(SETUP), *(arguments or ["--version"])],
        env={**known, "PATH": path, "RUNNER_TOOL_CACHE": str(home), **env},
        cwd=cwd or home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_jobs_that_start_together_share_one_environment(tmp_path: Path) -> None:
    """Made by uv, one of them wins, no half-made one stays, nor one that nobody has used for long; later runs install
    nothing."""
    unused = tmp_path / "torchperf-ci/1-2"
    unused.mkdir(parents=True)
    os.utime(unused, (0, 0))
    jobs = [started(tmp_path) for _ in range(2)]
    ended = [(*job.communicate(timeout=600), job.returncode) for job in jobs]
    assert [(out.strip(), code) for out, _, code in ended] == [(f"torchperf-ci, version {__version__}", 0)] * 2, ended
    (environment,) = (tmp_path / "torchperf-ci").iterdir()
    assert "uv = " in (environment / "pyvenv.cfg").read_text()
    with started(tmp_path, **NO_INDEX) as again:
        assert (again.wait(timeout=60), again.stderr and again.stderr.read()) == (0, "")


def test_an_environment_of_another_machine_is_let_be(tmp_path: Path) -> None:
    """A container sees its host's, made with a Python that is not there: it makes its own, once."""
    with started(tmp_path) as first:
        assert first.wait(timeout=600) == 0
    (mine,) = (tmp_path / "torchperf-ci").iterdir()
    theirs = mine.with_name(mine.name.partition("-")[0] + "-0")
    (theirs / "bin").mkdir(parents=True)
    (theirs / "bin/python").symlink_to("/host/python")
    (mine / "bin/python").unlink()
    (mine / "bin/python").symlink_to("/host/python")
    with started(tmp_path) as second:
        assert second.wait(timeout=600) == 0
    assert sorted((tmp_path / "torchperf-ci").iterdir()) == sorted([mine, theirs])
    with started(tmp_path, **NO_INDEX) as third:
        assert third.wait(timeout=60) == 0


def test_somebody_who_may_not_write_into_the_tool_cache_has_a_folder_of_their_own(tmp_path: Path) -> None:
    """In a container job, say; and without any such folder the step fails with a message."""
    (tmp_path / "torchperf-ci").touch()  # no folder can be made here, not even by root
    (tmp_path / "scratch").mkdir()
    with started(tmp_path, TMPDIR=str(tmp_path / "scratch")) as job:
        assert job.wait(timeout=600) == 0
    (home,) = (tmp_path / "scratch").glob("torchperf-ci-*")
    assert home.name == f"torchperf-ci-{os.getuid()}"
    with started(tmp_path, TMPDIR="/dev/null") as job:
        _, talk = job.communicate(timeout=60)
    assert job.returncode == 2
    assert "::error::torchperf-ci can write neither into RUNNER_TOOL_CACHE" in talk


def test_what_is_set_for_the_callers_python_does_not_count(tmp_path: Path) -> None:
    """With pip, on a runner without uv."""
    path = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if not (Path(each) / "uv").exists())
    with started(tmp_path, PATH=path, PIP_USER="1", PYTHONHOME="1") as job:
        _, talk = job.communicate(timeout=600)
    assert job.returncode == 0, talk
    (environment,) = (tmp_path / "torchperf-ci").iterdir()
    assert "uv = " not in (environment / "pyvenv.cfg").read_text()


def test_a_checkout_of_another_user_is_trusted_in_a_job(tmp_path: Path) -> None:
    """As a container job has it: git works in it, and keeps what the caller has set."""
    project = tmp_path / "project"
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    env = {"GITHUB_ACTIONS": "true", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "a.b", "GIT_CONFIG_VALUE_0": "c"}
    compare = ["compare", "--base-ref", "gone", "--inference"]
    with started(tmp_path, *compare, cwd=project, **env, GIT_TEST_ASSUME_DIFFERENT_OWNER="1") as job:
        _, talk = job.communicate(timeout=600)
    assert f"there is no ref 'HEAD' in {project}" in talk


def test_what_cannot_be_installed_leaves_nothing_behind(tmp_path: Path) -> None:
    """The step fails with uv's words, and the next job starts from the beginning."""
    with started(tmp_path, **NO_INDEX) as job:
        _, talk = job.communicate(timeout=60)
    assert job.returncode != 0
    assert "pandas" in talk or "hatchling" in talk
    assert list((tmp_path / "torchperf-ci").iterdir()) == []
