"""Whatever a model does, every planned case ends as one row per testing with its right status."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from torchperf_ci.core.records import Testing
from torchperf_ci.core.results import read_results

SUITE = Path(__file__).parent / "hostile_suite.py"
MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")
LIMIT = 1_500_000_000

EXPECTED = {
    # model: (accuracy, performance, what the reason holds)
    "differs": ("eager_two_runs_differ", "pass", "two eager runs differ: output: 32 of 32 values differ, most at "),
    "exits": ("crashed", "crashed", "ended with exit code 0"),
    "healthy_before": ("pass", "pass", ""),
    "healthy_behind": ("pass", "pass", ""),
    "nan": ("fail_accuracy", "pass", "output: 32 of 32 eager values are NaN, so there is nothing to compare with"),
    "prints": ("pass", "pass", ""),
    "raises_in_forward": ("eager_1st_run_fail", "eager_fail_to_run", "ValueError: a forward that fails | with"),
    "raises_while_loading": ("model_fail_to_load", "model_fail_to_load", "RuntimeError: no weights"),
    "segfaults": ("crashed", "crashed", "ended by signal 11 (SIGSEGV)"),
    "sleeps": ("timeout", "timeout", "not done within 25 s: the time limit passed in its step 'eager'"),
    "wrong_when_compiled": ("fail_accuracy", "pass", "output: 32 of 32 values differ, most at "),
}


def command(out: Path, *more: str) -> list[str]:
    options = ["--inference", "--compilers", "aot_eager", "--devices", "cpu", "-n", "30", "--output-dir", str(out)]
    return ["run", "--suites", str(SUITE), *options, *more]


@pytest.mark.slow
def test_every_hostile_model_is_a_row_with_its_status_and_the_healthy_ones_are_measured(
    cli: Callable, tmp_path: Path
) -> None:
    """Raising, crashing, exiting, hanging, printing, NaN, random and wrong results: a row each, exit code 6."""
    done = cli(*command(tmp_path / "out", "-x", "allocates", "--timeout", "25"))
    assert done.returncode == 6, done.stderr
    results = read_results(tmp_path / "out")
    rows = {(record.case.model, record.testing): record for record in results.records}
    assert len(results.records) == len(rows) == 2 * len(EXPECTED)
    for model, (accuracy, performance, reason) in EXPECTED.items():
        statuses = [rows[model, testing].status.value for testing in (Testing.ACCURACY, Testing.PERFORMANCE)]
        assert statuses == [accuracy, performance], model
        assert rows[model, Testing.ACCURACY].reason.startswith(reason), model
        assert "\n" not in rows[model, Testing.ACCURACY].reason
        assert (tmp_path / "out" / rows[model, Testing.ACCURACY].log).is_file(), model
    healthy = rows["healthy_behind", Testing.PERFORMANCE]
    assert len(healthy.samples["eager"]) == len(healthy.samples["compiled"]) == len(healthy.samples["probe"]) == 30
    assert "::error::" not in done.stdout + done.stderr
    assert "::set-output" not in done.stdout + done.stderr
    assert (tmp_path / "out" / rows["prints", Testing.ACCURACY].log).stat().st_size < 40_000_000


@pytest.mark.slow
def test_what_a_hanging_model_started_dies_with_it(cli: Callable, tmp_path: Path) -> None:
    """Also a child in a session of its own: nothing goes on using the machine."""
    cli(*command(tmp_path / "out", "-k", "^sleeps$", "--timeout", "15"))
    sleeping = [
        process for process in psutil.process_iter(["cmdline"]) if "time.sleep(1000)" in str(process.info["cmdline"])
    ]
    assert sleeping == []


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A memory cgroup with a limit, where this machine lets us make one: what allocates is soon killed there."""
    group = MEMORY_GROUPS / f"torchperf-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT))
    except OSError as error:
        pytest.skip(f"no memory cgroup can be made here: {error}")
    yield group
    with contextlib.suppress(OSError):
        group.rmdir()


@pytest.mark.slow
def test_a_model_that_allocates_until_the_kernel_kills_it_is_killed_oom(tmp_path: Path, memory_group: Path) -> None:
    """The worker goes, the controller stays, and the row says that memory ran out."""
    start = ["sh", "-c", f'echo $$ > {memory_group}/cgroup.procs && exec "$@"', "sh"]
    start += [sys.executable, "-m", "torchperf_ci"]
    done = subprocess.run(
        [*start, *command(tmp_path / "out", "-k", "allocates|healthy_b")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 6, done.stderr
    rows = {record.case.model: record for record in read_results(tmp_path / "out").records}
    assert rows["allocates"].status.value == "killed_oom"
    assert rows["allocates"].reason == "killed by the kernel because memory ran out"
    assert rows["healthy_behind"].status.value == "pass"
