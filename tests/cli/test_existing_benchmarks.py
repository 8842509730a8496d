"""Benchmarks of other tools as a user measures them: `run` and live `compare` with `--pytest` and `--asv`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from existing_project import write_project
from torchperf_ci.core.records import Testing
from torchperf_ci.core.results import read_results

Cli = Callable[..., subprocess.CompletedProcess[str]]

QUICKLY = ("--devices", "cpu", "--threads", "1", "--output-dir", "out")


@pytest.mark.slow
def test_run_measures_them_as_they_are(cli: Cli, tmp_path: Path) -> None:
    """Without a mode or a suite. A test that fails is a failed check, a benchmark's own metric stands in its record."""
    project = write_project(tmp_path)
    wanted = ("test_sum", "fails_after", "collection", "track_count", "peakmem_bytes", "100, 'reversed'", "too_slow")
    filters = [word for name in wanted for word in ("-k", name)]
    paths = ("--pytest", "bench", "--asv", ".")
    done = cli("run", *paths, *filters, *QUICKLY, "--repeat", "10", "--warmup", "0", cwd=project)
    assert done.returncode == 6, done.stderr
    records = read_results(project / "out").records
    accuracy = {each.case.model: str(each.status) for each in records if each.testing is Testing.ACCURACY}
    assert accuracy == {
        "test_sum": "pass",
        "test_fails_after": "fail_accuracy",
        "(collection)": "model_fail_to_load",
        "Cached.track_count": "pass_due_to_skip",
        "peakmem_bytes": "pass_due_to_skip",
        "Sorting.mem_data(100, 'reversed')": "pass_due_to_skip",
        "Sorting.time_sort(100, 'reversed')": "pass_due_to_skip",
        "time_too_slow": "timeout",
    }
    times = {each.case.model: each for each in records if each.testing is Testing.PERFORMANCE}
    assert times["test_sum"].metrics["size"] == 1000
    assert len(times["test_sum"].samples["compiled"]) == 20
    assert times["Cached.track_count"].metrics["track"] == 7
    assert times["peakmem_bytes"].metrics["peakmem"] > 50_000_000
    assert "0.2 s" in times["time_too_slow"].reason


WORK = """
import time

def quick():
    time.sleep({seconds})

def same():
    time.sleep(0.006)

def count():
    return {count}
"""
BENCHMARKS = {
    "bench/test_work.py": """
import work

def test_quick(benchmark):
    benchmark(work.quick)

def test_same(benchmark):
    benchmark(work.same)

def test_count(benchmark):
    assert benchmark(lambda: work.same() or work.count()) == 10
""",
    "asv_bench/__init__.py": "",
    "asv_bench/work_of_asv.py": """
import work

def time_quick():
    work.quick()

def track_count():
    work.same()
    return work.count()
""",
}


def git(folder: Path, *arguments: str) -> None:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)


@pytest.mark.slow
def test_compare_finds_the_slow_commit(cli: Cli, tmp_path: Path) -> None:
    """The same tests run on the code of both commits: what is slower, wrong and larger is said, and nothing else. The
    benchmarks need not be in any commit."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    for seconds, count in ((0.006, 10), (0.008, 13)):
        (tmp_path / "work.py").write_text(WORK.format(seconds=seconds, count=count))
        git(tmp_path, "add", "work.py")
        git(tmp_path, "commit", "--quiet", "-m", f"{seconds} s")
    for name, content in BENCHMARKS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    limits = ("--margin", "0.1", "--threshold", "0.25", "--budget-per-case", "3", "--launches", "3")
    paths = ("--pytest", "bench", "--asv", "asv_bench")
    done = cli("compare", *paths, "--base-ref", "HEAD~1", *limits, *QUICKLY, cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    found = json.loads((tmp_path / "out/compare.json").read_text())["comparisons"]
    verdicts = {(each["case"]["model"], each["metric"]): each["verdict"] for each in found}
    assert verdicts["test_quick", "abs_latency"] == verdicts["time_quick", "abs_latency"] == "regressed"
    assert verdicts["test_same", "abs_latency"] == verdicts["test_count", "abs_latency"] == "unchanged"
    assert verdicts["test_count", "accuracy"] == "failed"
    assert verdicts["test_same", "accuracy"] == "unchanged"
    assert verdicts["track_count", "track"] == "regressed"


def test_a_folder_with_the_code_itself_is_refused(cli: Cli, tmp_path: Path) -> None:
    """It would put the code of the working tree in the place of each commit's."""
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    for number in (1, 2):
        (tmp_path / "work.py").write_text(f"NUMBER = {number}\n")
        git(tmp_path, "add", "work.py")
        git(tmp_path, "commit", "--quiet", "-m", "work")
    done = cli("compare", "--pytest", ".", "--base-ref", "HEAD~1", *QUICKLY, cwd=tmp_path)
    assert done.returncode == 2
    assert "give the benchmarks' folder" in done.stderr
