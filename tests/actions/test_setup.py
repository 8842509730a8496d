"""The private environment of the actions: made once per version, by uv, of nobody's folders but ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
import uv

from fakes.artifacts import record
from fakes.github_server import REPOSITORY
from fakes.review_server import ReviewGitHub
from torchperf_ci import __version__
from torchperf_ci.core.records import Source, Testing
from torchperf_ci.core.results import open_folder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SETUP = ROOT / "actions" / "_setup.sh"
UV_VERSION = version("uv")
NO_INDEX = {"UV_OFFLINE": "1", "UV_NO_CACHE": "1", "PIP_NO_INDEX": "1"}


def started(
    home: Path, *arguments: str, cwd: Path | None = None, setup: Path = SETUP, **env: str
) -> subprocess.Popen[str]:
    """The script, on a runner that has uv; without arguments it asks for the version."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    path = os.pathsep.join([str(Path(uv.find_uv_bin()).parent), os.environ["PATH"]])
    return subprocess.Popen(
        ["bash", str(setup), *(arguments or ["--version"])],
        env={**known, "PATH": path, "RUNNER_TOOL_CACHE": str(home), **env},
        cwd=cwd or home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def environments(tool_cache: Path) -> list[Path]:
    """The private environments in a tool cache."""
    return sorted(path.parent for path in tool_cache.glob("torchperf-ci*/*/pyvenv.cfg"))


def without_uv() -> str:
    """PATH as on a runner that has no uv."""
    return os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if not (Path(each) / "uv").exists())


def test_jobs_that_start_together_share_one_environment(tmp_path: Path) -> None:
    """Made by uv, one of them wins, no half-made one stays, nor one that nobody has used for long; later runs install
    nothing."""
    unused = tmp_path / "torchperf-ci/1-2"
    unused.mkdir(parents=True)
    os.utime(unused, (0, 0))
    jobs = [started(tmp_path) for _ in range(2)]
    ended = [(*job.communicate(timeout=600), job.returncode) for job in jobs]
    assert [(out.strip(), code) for out, _, code in ended] == [(f"torchperf-ci, version {__version__}", 0)] * 2, ended
    (environment,) = environments(tmp_path)
    assert "uv = " in (environment / "pyvenv.cfg").read_text()
    with started(tmp_path, **NO_INDEX) as again:
        assert (again.wait(timeout=60), again.stderr and again.stderr.read()) == (0, "")


def test_an_environment_of_another_machine_is_let_be(tmp_path: Path) -> None:
    """A container sees its host's, made with a Python that is not there: it makes its own, once."""
    with started(tmp_path) as first:
        assert first.wait(timeout=600) == 0
    (mine,) = environments(tmp_path)
    theirs = mine.with_name(mine.name.rpartition("-")[0] + "-0")
    (theirs / "bin").mkdir(parents=True)
    (theirs / "bin/python").symlink_to("/host/python")
    (mine / "bin/python").unlink()
    (mine / "bin/python").symlink_to("/host/python")
    with started(tmp_path) as second:
        assert second.wait(timeout=600) == 0
    assert environments(tmp_path) == [mine]
    assert theirs.exists()
    with started(tmp_path, **NO_INDEX) as third:
        assert third.wait(timeout=60) == 0


def test_somebody_who_may_not_write_into_the_tool_cache_has_a_folder_of_their_own(tmp_path: Path) -> None:
    """In a container job, say; and without any such folder the step fails with a message."""
    for name in ("torchperf-ci", f"torchperf-ci-{os.getuid()}"):
        (tmp_path / name).touch()  # no folder can be made here, not even by root
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
    """On a runner without uv, which then gets one of ours beside the environment, as pinned."""
    with started(tmp_path, PATH=without_uv(), PIP_USER="1", PYTHONHOME="1") as job:
        _, talk = job.communicate(timeout=600)
    assert job.returncode == 0, talk
    (environment,) = environments(tmp_path)
    assert "uv = " in (environment / "pyvenv.cfg").read_text()
    pinned = (ROOT / "actions/uv.txt").read_text().split()[0].replace("==", "-")
    assert (tmp_path / "torchperf-ci" / pinned / "bin/uv").exists()


def test_pip_installs_where_uv_cannot_be_had(tmp_path: Path) -> None:
    """And the log says so: here the wheel is not the one whose hash is pinned."""
    copy = shutil.copytree(ROOT, tmp_path / "v1", ignore=shutil.ignore_patterns(".*", "tests", "__pycache__"))
    (copy / "actions/uv.txt").write_text(f"uv=={UV_VERSION} --hash=sha256:{'0' * 64}\n")
    with started(tmp_path, "check", "--help", setup=copy / "actions/_setup.sh", PATH=without_uv()) as job:
        _, talk = job.communicate(timeout=600)
    assert job.returncode == 0, talk
    assert "pip installs instead" in talk
    (environment,) = environments(tmp_path)
    assert "uv = " not in (environment / "pyvenv.cfg").read_text()


def test_light_commands_do_their_work_without_large_libraries(tmp_path: Path) -> None:
    """All four in one environment that has no scipy and matplotlib: what they import is in the short list."""
    (tmp_path / "suite.py").write_text("import torch\nMODELS = {'net': lambda batch_size: (torch.nn.ReLU(), ())}\n")
    sha = "a" * 40
    with open_folder(tmp_path / "results") as folder:
        measured = record("mlp", source=Source(repository=REPOSITORY, commit=sha, run_id="7", attempt=1))
        times = {"eager": (0.002, 0.0021, 0.0019, 0.002), "compiled": (0.001, 0.0011, 0.0009, 0.001)}
        folder.append(measured)
        folder.append(replace(measured, testing=Testing.PERFORMANCE, samples=times))
    event = tmp_path / "event.json"
    head = {"sha": sha, "ref": "feature", "repo": {"full_name": REPOSITORY}}
    event.write_text(json.dumps({"pull_request": {"number": 1, "head": head}}))
    with ReviewGitHub() as github:
        github.add_pull(sha=sha)
        job = {**github.environ, "GITHUB_EVENT_PATH": str(event), "GITHUB_RUN_ID": "7", "GITHUB_SHA": sha}
        for command in (
            ("update-expected", "--from", "results", "--expected-dir", "expected"),
            ("check", "all", "results", "--expected-dir", "expected"),
            ("plan", "--inference", "--suites", "suite.py", "--python", sys.executable),
            ("post", "results"),
        ):
            with started(tmp_path, *command, **(job if command[0] == "post" else {})) as process:
                _, talk = process.communicate(timeout=600)
            assert process.returncode == 0, talk
    (light,) = environments(tmp_path)
    packages = {path.name.partition("-")[0].lower() for path in light.glob("lib/python*/site-packages/*.dist-info")}
    assert "click" in packages
    assert not packages & {"scipy", "matplotlib", "pyarrow", "duckdb"}


def plant(folder: Path, kind: str) -> None:
    """Put something of somebody else's where the private environments go."""
    if kind == "link":
        (folder.parent / "elsewhere").mkdir()
        folder.symlink_to(folder.parent / "elsewhere")
        return
    folder.mkdir()
    if kind == "owner":
        os.chown(folder, 12345, 12345)
    else:
        folder.chmod(0o775 if kind == "group" else 0o777)


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")


@pytest.mark.parametrize("kind", ["link", "group", "others", pytest.param("owner", marks=as_root)])
def test_a_folder_that_others_may_write_is_not_used(tmp_path: Path, kind: str) -> None:
    """Nor one behind a link or of somebody else: what lies there is not run, and the environment is made elsewhere."""
    planted = tmp_path / "torchperf-ci"
    plant(planted, kind)
    with started(tmp_path, "check", "--help") as job:
        assert job.wait(timeout=600) == 0
    assert list(planted.iterdir()) == []
    (environment,) = environments(tmp_path)
    assert environment.parent.name == f"torchperf-ci-{os.getuid()}"


def test_where_no_folder_is_ours_a_fresh_one_is_made(tmp_path: Path) -> None:
    """In the temporary folder, under a name that nobody can know before."""
    (tmp_path / "tmp").mkdir()
    mine = f"torchperf-ci-{os.getuid()}"
    for folder in (tmp_path / "torchperf-ci", tmp_path / mine, tmp_path / "tmp" / mine):
        plant(folder, "others")
    with started(tmp_path, "check", "--help", TMPDIR=str(tmp_path / "tmp")) as job:
        assert job.wait(timeout=600) == 0
    (environment,) = environments(tmp_path / "tmp")
    assert environment.parent.name not in {mine, "torchperf-ci"}


@pytest.mark.parametrize("kind", ["group", pytest.param("owner", marks=as_root)])
def test_an_environment_that_others_may_write_is_made_anew(tmp_path: Path, kind: str) -> None:
    """Though it works: somebody may have changed it."""
    with started(tmp_path, "check", "--help") as job:
        assert job.wait(timeout=600) == 0
    (environment,) = environments(tmp_path)
    (environment / "mark").touch()
    if kind == "owner":
        os.chown(environment, 12345, 12345)
    else:
        environment.chmod(0o775)
    with started(tmp_path, "check", "--help") as job:
        assert job.wait(timeout=600) == 0
    assert environments(tmp_path) == [environment]
    assert not (environment / "mark").exists()


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
    assert "pandas" in talk or "click" in talk
    assert environments(tmp_path) == []
    assert not list((tmp_path / "torchperf-ci").glob("building-*"))
