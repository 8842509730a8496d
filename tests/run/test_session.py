"""Workers as real processes: what they see, how they end, and that nothing of them stays."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Status
from torchperf_ci.run.session import (
    LOG_KEPT,
    LOG_LIMIT,
    Preloaded,
    Python,
    Worker,
    WorkerError,
    how_it_ended,
    last_line,
    oom_kills,
    package_path,
    worker_environment,
)

SUITE = str(Path(__file__).parent / "session_suite.py")
SMALL = str(Path(__file__).parents[1] / "worker" / "small_suite.py")


def ask_to_load(worker: Worker, model: str, *, spec: str = SUITE, seconds: float = 60) -> dict[str, Any]:
    case = {"model": model, "mode": "inference", "device": "cpu", "dtype": "float32", "compiler": "aot_eager"}
    return worker.ask(
        "load",
        deadline=time.monotonic() + seconds,
        spec=spec,
        case=case,
        batch_size=None,
        threads=1,
        seed=0,
        scale="full",
        inductor_mode=None,
        cache_dir=None,
    )


def told(preloaded: Preloaded, model: str, log: Path) -> Any:
    """What a model of the suite file tells about its process."""
    with preloaded.fork(log) as worker, pytest.raises(WorkerError) as failed:
        ask_to_load(worker, model)
    assert str(failed.value.status) == "model_fail_to_load"
    return json.loads(re.findall(r"TOLD (.*)", log.read_text())[0])


def failure(preloaded: Preloaded, model: str, log: Path, *, seconds: float = 60) -> WorkerError:
    """How a worker ends that loads a model."""
    with preloaded.fork(log) as worker, pytest.raises(WorkerError) as failed:
        ask_to_load(worker, model, seconds=seconds)
    return failed.value


@contextlib.contextmanager
def started(tmp_path: Path, python: str = sys.executable, **extra: str) -> Iterator[Preloaded]:
    """A preloaded process of its own."""
    environ = worker_environment({**os.environ, **extra}, threads=1, extra={})
    with package_path(environ) as prepared:
        log = tmp_path / "preload.log"
        with Python(executable=python, environ=prepared, log=log).start() as process:
            yield process


def script(path: Path, body: str) -> str:
    path.write_text(body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def gone(pid: int) -> bool:
    """Whether a process has ended, waiting a little for it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for _ in range(100):
            if process.status() == psutil.STATUS_ZOMBIE:
                return True
            time.sleep(0.05)
        return False
    return True


def test_a_python_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With what to do about it."""
    with pytest.raises(UsageProblem) as refused, started(tmp_path, "/no/such/python"):
        pass
    assert str(refused.value) == (
        "cannot start /no/such/python: No such file or directory; give a Python with --python"
    )


def test_a_file_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    """A folder, say."""
    with pytest.raises(UsageProblem) as refused, started(tmp_path, str(tmp_path)):
        pass
    assert str(refused.value) == f"cannot start {tmp_path}: Permission denied; give a Python with --python"


def test_what_is_no_python_is_told_with_what_it_said(tmp_path: Path) -> None:
    """Its exit code and its last line."""
    other = script(tmp_path / "other", "#!/bin/sh\necho first\necho 'unknown option -m' >&2\nexit 3\n")
    with pytest.raises(UsageProblem) as refused, started(tmp_path, other):
        pass
    assert str(refused.value) == (
        f"{other} ended with exit code 3 while importing torch: unknown option -m; give another with --python"
    )


def test_a_silent_end_is_told(tmp_path: Path) -> None:
    """/bin/true is no Python either."""
    said = "ended with exit code 0 while importing torch: no output; give another"
    with pytest.raises(UsageProblem, match=said), started(tmp_path, "/bin/true"):
        pass


def test_a_torch_that_crashes_is_told_with_the_signal(tmp_path: Path) -> None:
    """As it happens with a build for another processor."""
    (tmp_path / "broken/torch").mkdir(parents=True)
    (tmp_path / "broken/torch/__init__.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    said = r"ended by signal 4 \(SIGILL\) while importing torch: no output; give another"
    with pytest.raises(UsageProblem, match=said), started(tmp_path, PYTHONPATH=str(tmp_path / "broken")):
        pass


def test_a_python_without_torch_is_told_with_its_version(tmp_path: Path) -> None:
    """This Python without its site-packages has no torch."""
    bare = script(tmp_path / "bare", f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    with pytest.raises(UsageProblem) as refused, started(tmp_path, bare, PYTHONPATH=""):
        pass
    assert str(refused.value) == (
        f"{bare} (Python {sys.version.split()[0]}) cannot import torch: ModuleNotFoundError: No module named 'torch'. "
        "Install torch there, or give the Python that has it with --python"
    )


def test_a_torch_that_cannot_be_imported_is_told_with_its_error(tmp_path: Path) -> None:
    """A broken installation is not an absent one."""
    (tmp_path / "broken/torch").mkdir(parents=True)
    (tmp_path / "broken/torch/__init__.py").write_text("raise OSError('libgomp.so.1: cannot open\\nmore')")
    said = r"cannot import torch: OSError: libgomp\.so\.1: cannot open\. Install"
    with pytest.raises(UsageProblem, match=said), started(tmp_path, PYTHONPATH=str(tmp_path / "broken")):
        pass


def test_the_python_under_test_sees_this_package_and_nothing_else_of_the_controllers(tmp_path: Path) -> None:
    """One entry of its path is ours, and it holds one name: the caller's own PYTHONPATH comes behind it."""
    with package_path({"PYTHONPATH": "/theirs", "OTHER": "1"}) as environ:
        ours, theirs = environ["PYTHONPATH"].split(os.pathsep)
        assert ([path.name for path in Path(ours).iterdir()], theirs, environ["OTHER"]) == (
            ["torchperf_ci"],
            "/theirs",
            "1",
        )
        assert not Path(ours).is_relative_to(sys.prefix)
    assert not Path(ours).exists()
    with package_path({}) as environ:
        assert os.pathsep not in environ["PYTHONPATH"]


def test_a_worker_needs_none_of_the_controllers_libraries(tmp_path: Path) -> None:
    """The standard library and torch are enough, up to the accuracy check."""
    for name in ("click", "pandas", "scipy", "matplotlib", "tabulate", "requests", "github", "jinja2", "psutil"):
        (tmp_path / "poison" / name).mkdir(parents=True)
        (tmp_path / "poison" / name / "__init__.py").write_text("raise ImportError('not for a worker')")
    with started(tmp_path, PYTHONPATH=str(tmp_path / "poison")) as process, process.fork(tmp_path / "log") as worker:
        ask_to_load(worker, "linear", spec=SMALL)
        soon = time.monotonic() + 60
        worker.ask("eager", deadline=soon)
        assert worker.ask("accuracy", deadline=soon)["status"] == "pass"


def test_measured_code_sees_no_token_and_no_file_of_the_step(tmp_path: Path) -> None:
    """GitHub's secrets are removed, everything else stays, and OpenMP and CUDA are set up."""
    secret = {
        "GITHUB_TOKEN": "s", "GH_TOKEN": "s", "GITHUB_ENV": "/f", "GITHUB_OUTPUT": "/f", "GITHUB_PATH": "/f",
        "GITHUB_STATE": "/f", "GITHUB_STEP_SUMMARY": "/f", "ACTIONS_RUNTIME_TOKEN": "s",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "s", "ACTIONS_ID_TOKEN_REQUEST_URL": "s",
    }  # fmt: skip
    caller = {**secret, "GITHUB_SHA": "abc", "MINE": "1", "CUBLAS_WORKSPACE_CONFIG": ":16:8"}
    made = worker_environment(caller, threads=3, extra={"MINE": "2", "YOURS": "a=b"})
    assert not set(made) & set(secret)
    assert made["GITHUB_SHA"] == "abc"
    assert (made["MINE"], made["YOURS"], made["CUBLAS_WORKSPACE_CONFIG"]) == ("2", "a=b", ":16:8")
    assert (made["OMP_NUM_THREADS"], made["MKL_NUM_THREADS"], made["PYTHONUNBUFFERED"]) == ("3", "3", "1")
    with started(tmp_path, **secret) as process:
        variables = told(process, "variables", tmp_path / "log")
    assert not set(variables) & set(secret)
    assert variables["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_the_preloaded_process_has_one_thread_when_it_forks(preloaded: Preloaded, tmp_path: Path) -> None:
    """A lock that another thread held would never be released in a worker."""
    assert psutil.Process(preloaded._process.pid).num_threads() == 1
    assert told(preloaded, "threads", tmp_path / "log") == 1


def test_a_worker_has_no_descriptors_of_other_workers(preloaded: Preloaded, tmp_path: Path) -> None:
    """Else the end of one would not be seen while another lives."""
    alone = told(preloaded, "descriptors", tmp_path / "alone")
    with preloaded.fork(tmp_path / "first"), preloaded.fork(tmp_path / "second"):
        assert len(told(preloaded, "descriptors", tmp_path / "beside")) == len(alone)


def test_a_model_that_reads_its_input_gets_an_end_of_file(preloaded: Preloaded, tmp_path: Path) -> None:
    """It neither waits for ever nor eats the controller's requests."""
    assert told(preloaded, "stdin", tmp_path / "log") == ""


def test_a_time_limit_kills_the_worker_and_what_it_started(preloaded: Preloaded, tmp_path: Path) -> None:
    """Also a child in a session of its own, and a worker that ignores signals."""
    error = failure(preloaded, "hangs", tmp_path / "log", seconds=5)
    assert (error.status, error.alive) == (Status.TIMEOUT, False)
    assert error.reason == "the time limit passed in its step 'load'"
    assert gone(int(re.findall(r"CHILD (\d+)", (tmp_path / "log").read_text())[0]))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("exits_0", "ended with exit code 0"),
        ("exits_7", "ended with exit code 7"),
        ("thread_exits", "ended with exit code 9"),
        ("killed", "ended by signal 9 (SIGKILL)"),
        ("aborts", "ended by signal 6 (SIGABRT)"),
        ("answers_for_the_worker", "the worker sent something that is not a reply"),
    ],
)
def test_a_worker_that_ends_by_itself_crashed(preloaded: Preloaded, tmp_path: Path, model: str, reason: str) -> None:
    """Its exit code or signal is told, and the next worker is fine."""
    error = failure(preloaded, model, tmp_path / "log")
    assert (error.status, error.reason, error.alive) == (Status.CRASHED, reason, False)
    with preloaded.fork(tmp_path / "next") as worker:
        assert ask_to_load(worker, "linear", spec=SMALL)["batch_size"] == 4


def test_a_worker_that_closes_its_end_is_killed(preloaded: Preloaded, tmp_path: Path) -> None:
    """It lives and will never answer."""
    with preloaded.fork(tmp_path / "log") as worker:
        with pytest.raises(WorkerError) as failed:
            ask_to_load(worker, "closes_its_end")
        assert failed.value.status is Status.CRASHED
        assert gone(worker.pid)


def test_an_exit_of_python_is_an_error_like_any_other(preloaded: Preloaded, tmp_path: Path) -> None:
    """`sys.exit` in a model ends nothing."""
    error = failure(preloaded, "system_exit", tmp_path / "log")
    assert (str(error.status), error.reason, error.alive) == ("model_fail_to_load", "SystemExit: bye", True)


def test_what_a_crashed_worker_left_dies(preloaded: Preloaded, tmp_path: Path) -> None:
    """A child in a session of its own does not go on using the machine."""
    assert failure(preloaded, "leaves_a_child", tmp_path / "log").reason == "ended with exit code 3"
    assert gone(int(re.findall(r"CHILD (\d+)", (tmp_path / "log").read_text())[0]))


def test_a_log_is_cut_before_it_fills_the_disk(preloaded: Preloaded, tmp_path: Path) -> None:
    """Its first part is kept, and the cut is told."""
    log = tmp_path / "log"
    log.write_text("the beginning\n")
    failure(preloaded, "prints", log)
    content = log.read_text()
    assert content.startswith("the beginning\n")
    assert "[torchperf-ci: a long stretch of output was cut here]" in content
    assert "RuntimeError: printed" in content
    assert LOG_KEPT < len(content) < LOG_LIMIT + 2**23


def test_two_workers_of_one_preloaded_process_are_driven_in_turn(preloaded: Preloaded, tmp_path: Path) -> None:
    """Each has its own model and answers for itself; the end of one is not the end of the other."""
    with preloaded.fork(tmp_path / "a") as first, preloaded.fork(tmp_path / "b") as second:
        for worker in (first, second):
            ask_to_load(worker, "linear", spec=SMALL)
        soon = time.monotonic() + 60
        for worker in (first, second):
            worker.ask("eager", deadline=soon)
        for worker in (first, second) * 3:
            assert len(worker.ask("sample", deadline=soon, order=[["eager"]])["host"]["eager"]) == 1
        with pytest.raises(WorkerError, match="ended with exit code 7"):
            ask_to_load(first, "exits_7")
        assert worker.ask("sample", deadline=soon, order=[["eager"]] * 3)["probe"]
        with pytest.raises(WorkerError):
            first.ask("eager", deadline=soon)


def test_two_workers_of_two_preloaded_processes_are_driven_in_turn(preloaded: Preloaded, tmp_path: Path) -> None:
    """As base and head need it: the end of one preloaded process leaves the other's worker alone."""
    with preloaded.fork(tmp_path / "a") as ours:
        ask_to_load(ours, "linear", spec=SMALL)
        with started(tmp_path) as other, other.fork(tmp_path / "b") as theirs:
            ask_to_load(theirs, "linear", spec=SMALL)
            soon = time.monotonic() + 60
            for worker in (ours, theirs):
                worker.ask("eager", deadline=soon)
            for worker in (ours, theirs) * 3:
                assert worker.ask("sample", deadline=soon, order=[["eager"]])["probe"]
        assert gone(theirs.pid)
        assert gone(other._process.pid)
        assert ours.ask("sample", deadline=time.monotonic() + 60, order=[["eager"]])["probe"]


def test_a_preloaded_process_that_is_killed_takes_its_worker_with_it(tmp_path: Path) -> None:
    """The case becomes a row, and the next one can tell that it needs a new process."""
    with started(tmp_path) as process:
        error = failure(process, "kills_its_parent", tmp_path / "log")
        assert (error.status, error.alive) == (Status.CRASHED, False)
        assert not process.alive
        with pytest.raises(WorkerError, match="the preloaded process has gone"):
            process.fork(tmp_path / "log")


def test_killing_a_worker_twice_is_fine(preloaded: Preloaded, tmp_path: Path) -> None:
    """And what it was is gone after the first time."""
    worker = preloaded.fork(tmp_path / "log")
    worker.kill()
    assert gone(worker.pid)
    worker.kill()


ELSEWHERE = """
import os
for name in ("pipe2", "sched_getaffinity", "sched_setaffinity", "memfd_create", "posix_fadvise", "eventfd"):
    if hasattr(os, name):
        delattr(os, name)
"""


def test_a_worker_needs_none_of_the_calls_that_only_linux_has(tmp_path: Path) -> None:
    """On macOS `os` has no pipe2 and no CPU sets: the process starts, forks, and its worker computes."""
    (tmp_path / "sitecustomize.py").write_text(ELSEWHERE)
    with started(tmp_path, PYTHONPATH=str(tmp_path)) as process, process.fork(tmp_path / "worker.log") as worker:
        told = worker.ask("environment", deadline=time.monotonic() + 60)
        assert told["environment"]["cpu_count"] == os.cpu_count()
        assert worker.ask("probe_device", device="cpu", deadline=time.monotonic() + 60) == {"sum": 1024.0}


@pytest.mark.parametrize(
    ("exit_code", "status", "words"),
    [
        (0, Status.CRASHED, "exit code 0"),
        (3, Status.CRASHED, "exit code 3"),
        (-11, Status.CRASHED, "signal 11 (SIGSEGV)"),
        (-9, Status.CRASHED, "signal 9 (SIGKILL)"),
        (-50, Status.CRASHED, "signal 50 (a signal without a name)"),
    ],
)
def test_the_end_of_a_process_has_a_status_and_a_reason(exit_code: int, status: Status, words: str) -> None:
    """As `subprocess` counts: a signal is a negative exit code."""
    word, reason = how_it_ended(exit_code, oom_kills_before=oom_kills())
    assert (word, words in reason) == (status, True)


def test_a_kill_for_want_of_memory_is_told_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel's own count, which has grown meanwhile."""
    before = oom_kills()
    monkeypatch.setattr("torchperf_ci.run.session.oom_kills", lambda: before + 1)
    assert how_it_ended(-9, oom_kills_before=before)[0] is Status.KILLED_OOM
    assert how_it_ended(-6, oom_kills_before=before)[0] is Status.CRASHED


def test_the_last_line_of_a_log_is_the_last_that_says_something(tmp_path: Path) -> None:
    """In one line of printable characters; an empty log says so."""
    log = tmp_path / "log"
    log.write_bytes(b"first\nlast \x1b[31m line\xff\n  \n\n")
    assert last_line(log).startswith("last")
    assert last_line(log).isprintable()
    log.write_bytes(b"")
    assert last_line(log) == "no output"
