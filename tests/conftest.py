"""What every test gets: a clean environment, and the command line as a user starts it."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from zygote import forked_pythons

if TYPE_CHECKING:
    from torchperf_ci.run.session import Preloaded

pytest_plugins = ["fakes.fixtures", "other_tools"]


def pytest_configure() -> None:
    """What tests start is no part of a parallel run, also when it is a pytest."""
    for name in list(os.environ):
        if name.startswith("PYTEST_XDIST_"):
            del os.environ[name]
    # No test asserts how long something takes, nor do those of generated examples: machines are busy at times.
    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


NO_SKIPS = os.environ.get("TORCHPERF_TESTS_NO_SKIP") == "1"
"""Set by .ci/run: a test that is skipped there for a reason that is not among these has not been run by anybody."""

ALLOWED_SKIPS = re.compile(
    r"GPU|CUDA"  # a machine with one runs them: pytest -m gpu
    r"|\btimm\b"  # some 200 MB that a job of its own has
    r"|chdb"  # some 900 MB, in a job of its own
    r"|valgrind"  # a package of the system
    r"|no memory cgroup can be made here"
    r"|only root can give a folder away"
)


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip that nobody allowed into a failure."""
    if not NO_SKIPS or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not ALLOWED_SKIPS.search(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped, and TORCHPERF_TESTS_NO_SKIP=1 allows no skip for this reason: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    forbid_skip(report)
    return report


def is_of_a_job(name: str) -> bool:
    """Whether a variable comes from the job that runs the tests."""
    of_ci = ("GITHUB_", "TORCHPERF_", "RUNNER_", "ACTIONS_", "CIRCLE_", "SCRIBE_")
    return name.startswith(of_ci) or name in {"GH_TOKEN", "CI"} or name.lower().endswith("_proxy")


@pytest.fixture(autouse=True, scope="session")
def _clean_environment() -> Generator[None]:
    """No test sees the job it may be running in, nor how wide the terminal is that it was started from."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if is_of_a_job(name) or name == "COLUMNS":
                patch.delenv(name)
        yield


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


@contextmanager
def one_process_per_side() -> Generator[None]:
    """Let all launches of a comparison be forks of one process per side. Every process of its own imports torch, some
    seconds, for another layout in memory, which decides nothing about changes as large as those of tests."""
    from torchperf_ci.compare.session import Processes

    begin, of, renew = Processes.begin, Processes.of, Processes.renew
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Processes, "begin", lambda self, _: begin(self, 0))
        patch.setattr(Processes, "of", lambda self, _: of(self, 0))
        patch.setattr(Processes, "renew", lambda _: None)
        patch.setattr(Processes, "__exit__", lambda self, *_: renew(self))
        yield


@pytest.fixture(scope="session")
def in_process() -> Callable[..., Done]:
    """Call it with the arguments of the command line, and the folder to be in: as `torchperf-ci` does it, without the
    seconds that starting Python and its libraries takes."""
    from torchperf_ci.cli.main import main

    def call(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
        out, err = io.BytesIO(), io.BytesIO()
        with ExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            stack.enter_context(one_process_per_side())
            stack.enter_context(forked_pythons())
            patch.setattr(sys, "argv", ["torchperf-ci", *arguments])
            patch.chdir(cwd)
            # Explaining a change takes some seconds: only where a test is about it.
            for name, value in {"TORCHPERF_EXPLAIN": "never", **(env or {})}.items():
                patch.setenv(name, value)
            stack.enter_context(
                redirect_stdout(io.TextIOWrapper(out, encoding="utf-8", newline="", write_through=True))
            )
            stack.enter_context(
                redirect_stderr(io.TextIOWrapper(err, encoding="utf-8", newline="", write_through=True))
            )
            with pytest.raises(SystemExit) as ended:
                main()
            code = ended.value.code
            said = [stream.getvalue().decode() for stream in (out, err)]  # before the wrappers go, and close them
        return Done(returncode=code if isinstance(code, int) else 0, stdout=said[0], stderr=said[1])

    return call


@pytest.fixture
def cli(in_process: Callable[..., Done], tmp_path: Path) -> Callable[..., Done]:
    """The command line in an empty folder; `env` adds variables."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    return partial(in_process, cwd=folder)


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Preloaded]:
    """A preloaded process of this Python, for all tests that need nothing but workers forked from it."""
    from torchperf_ci.run.plan import CPP_COMPILER
    from torchperf_ci.run.session import Python, package_path, worker_environment

    log = tmp_path_factory.mktemp("preloaded") / "preload.log"
    clean = {name: value for name, value in os.environ.items() if not is_of_a_job(name)}
    with (
        package_path(worker_environment(clean, threads=1, extra={})) as environ,
        Python(executable=sys.executable, environ=environ, log=log).start() as process,
    ):
        process.preload([CPP_COMPILER])
        yield process


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a shell script in the place of nvidia-smi."""

    def put(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(script)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return put
