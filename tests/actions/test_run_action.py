"""The run action, step by step as GitHub runs it: what it hands on, and that it installs nothing where it measures."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from torchperf_ci.core.records import Status
from torchperf_ci.core.results import read_results

pytestmark = pytest.mark.slow


INSTALLED = """
from importlib.metadata import distributions
print(*sorted(f"{item.name} {item.version}" for item in distributions()), sep="\\n")
"""


def installed() -> str:
    """What the measured Python has."""
    return subprocess.run([sys.executable, "-c", INSTALLED], capture_output=True, text=True, check=True).stdout


def test_a_failing_case_fails_the_step_and_everything_is_handed_on(action, quick_inputs, tool_cache: Path) -> None:
    """Exit code 6; outputs for the upload and for later steps; the report in the step summary; the measured Python as
    it was, measured with the private environment's program."""
    before = installed()
    step = action.run("run", quick_inputs(name="night ly", partition_id="0", total_partitions="1"))
    assert step.code == 6, step.stderr
    assert step.outputs == {
        "results": "benchmark_logs",
        "artifact-name": "torchperf-night-ly-1-1-3",
        "passed": "1",
        "failed": "1",
        "exit-code": "6",
    }
    report = (action.workspace / "benchmark_logs/report.md").read_text()
    assert step.summary.splitlines()[:20] == report.splitlines()[:20]
    assert "](logs/" not in step.summary, "a step summary has no files beside it"
    assert "mixed" in step.summary
    check_commands_are_stopped(step.stderr)
    assert installed() == before
    assert len(list((tool_cache / "torchperf-ci").glob("*-all-*"))) == 1
    rows = read_results(action.workspace / "benchmark_logs").records
    assert [(row.case.model, row.status) for row in rows] == [
        *[("bad", Status.MODEL_FAIL_TO_LOAD)] * 2,
        *[("good", Status.PASS)] * 2,
    ]
    assert (rows[0].source.repository, rows[0].source.commit, rows[0].source.attempt) == ("owner/project", "f" * 40, 3)


def check_commands_are_stopped(log: str) -> None:
    """Commands are switched off by a secret word while models run, and on again at the end."""
    lines = log.splitlines()
    word = next(line for line in lines if line.startswith("::stop-commands::")).removeprefix("::stop-commands::")
    start, end = lines.index(f"::stop-commands::{word}"), lines.index(f"::{word}::")
    assert re.fullmatch("[0-9a-f]{32}", word)
    assert [number for number, line in enumerate(lines) if "::error::" in line]
    assert all(start < number < end for number, line in enumerate(lines) if "::error::" in line)


def test_the_step_can_go_on_after_a_failing_case(action, quick_inputs) -> None:
    """`fail-on: never`: exit code 0, and the output says what it would have been. Lists may stand on several lines."""
    step = action.run("run", quick_inputs(fail_on="never", compilers="eager\naot_eager\n"))
    assert step.code == 0, step.stderr
    assert (step.outputs["exit-code"], step.outputs["passed"], step.outputs["failed"]) == ("6", "2", "2")


def test_a_wrong_input_fails_the_step_with_a_message(action, quick_inputs) -> None:
    """Exit code 2 in the output as well, and there is nothing to upload."""
    step = action.run("run", quick_inputs(dtypes="float23"))
    assert (step.code, step.outputs) == (2, {"exit-code": "2"})
    assert (
        "Error: unknown dtype 'float23'. Did you mean float32? There are: float32, float16, bfloat16, amp."
        in step.stderr
    )


def test_inputs_are_text_and_never_code(action, quick_inputs) -> None:
    """Whatever an input holds, the shell does not run it."""
    hostile = "$(touch pwned) `touch pwned` ; touch pwned # \" ' \\ ${{ github.token }}"
    step = action.run("run", quick_inputs(name=hostile, output_dir="out $(touch pwned)", filter="^good$"))
    assert step.code == 0, step.stderr
    assert not list(action.workspace.rglob("pwned"))
    assert step.outputs["results"] == "out $(touch pwned)"
    assert re.fullmatch(r"torchperf-[A-Za-z0-9._-]+-1-1-3", step.outputs["artifact-name"])
    step = action.run("run", quick_inputs(extra_args="--warmup 0; touch pwned", filter="^good$"))
    assert step.code == 2
    assert not list(action.workspace.rglob("pwned"))


def test_nothing_of_the_workspace_takes_the_place_of_the_program(action, quick_inputs, tmp_path: Path) -> None:
    """A click.py of the project's own, there or on PYTHONPATH, is for the measured Python alone; and the action may lie
    in a folder whose name has spaces."""
    copy = shutil.copytree(action.unpacked, tmp_path / "my actions")
    for folder in (action.workspace, tmp_path / "theirs"):
        folder.mkdir(exist_ok=True)
        (folder / "click.py").write_text("raise ImportError('not the click you want')")
    step = action.run(
        "run",
        quick_inputs(filter="^good$", extra_args="--warmup 0 --no-performance"),
        env={"PYTHONPATH": str(tmp_path / "theirs")},
        root=copy,
    )
    assert step.code == 0, step.stderr
    assert len(list((action.tool_cache / "torchperf-ci").glob("*-all-*"))) == 1


def test_a_runner_without_python_is_told(action, quick_inputs, tmp_path: Path) -> None:
    """Exit code 2, an annotation, and no half-made environment."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bash", "dirname", "find", "sort", "xargs", "cat", "cksum", "tr", "mkdir", "rm", "mv", "cp"):
        (tools / name).symlink_to(str(shutil.which(name)))
    cache = tmp_path / "other-cache"
    step = action.run("run", quick_inputs(), env={"PATH": str(tools), "RUNNER_TOOL_CACHE": str(cache)})
    assert step.code == 2, step.stderr
    assert (
        "::error::torchperf-ci needs uv, or a Python 3.10 or later with the venv module, on this runner." in step.stderr
    )
    assert not list((cache / "torchperf-ci").glob("building-*"))
