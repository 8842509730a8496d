"""A command loads no room that it does not need: what it does not load costs no time and cannot break it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from report_builders import both, case
from torchperf_ci.core.records import Record, to_line

SUITE = """
import torch

def line(batch_size):
    return torch.nn.Linear(4, 4), (torch.randn(batch_size or 2, 4),)

MODELS = {"line": line}
"""

LISTING = """
import atexit, json, pathlib, sys
listing = pathlib.Path(sys.argv.pop(1))
atexit.register(lambda: listing.write_text(json.dumps(sorted(sys.modules))))
from torchperf_ci.cli.main import main
main()
"""


def loaded_modules(folder: Path, *arguments: str, codes: Collection[int] = (0,)) -> set[str]:
    """Run a command line in a process of its own, which must end with one of the exit codes; return the modules it had
    loaded at its end."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "TORCHPERF_"))}
    listing = folder / "modules.json"
    command = [sys.executable, "-c", LISTING, str(listing), *arguments]
    assert subprocess.run(command, cwd=folder, env=environ).returncode in codes
    return set(json.loads(listing.read_text()))


def rooms(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("torchperf_ci.")}


def test_a_run_loads_what_measures_and_reports(tmp_path: Path) -> None:
    """No shards, expectations, history, comparison or formats of other tools; torch stays in the worker, and of suites
    the registry, with what it is made of, is asked whether a file is there."""
    (tmp_path / "one.py").write_text(SUITE)
    modules = loaded_modules(
        tmp_path, "run", "--suites", "one.py", "--inference", "--compilers", "eager", "--no-accuracy", "--repeat", "2"
    )
    assert rooms(modules) == {"cli", "core", "github", "machine", "report", "run", "suites", "worker"}
    asked = ("registry", "parameters", "problems", "program")
    assert {name for name in modules if name.startswith("torchperf_ci.suites.")} <= {
        f"torchperf_ci.suites.{name}" for name in asked
    }
    assert not modules & {"torch", "github", "requests", "duckdb", "torchperf_ci.core.csv_files"}
    assert (tmp_path / "benchmark_logs" / "records.jsonl").is_file()


def write_results(folder: Path, *records: Record) -> None:
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(to_line(record) + "\n" for record in records))


def test_comparing_two_folders_needs_nothing_that_measures(tmp_path: Path) -> None:
    """No worker, no GPU, no history; and of `github` what a step needs, which talks to nobody."""
    records = both(case("mlp", "inductor"), 1.5)
    write_results(tmp_path / "base", *records)
    write_results(tmp_path / "head", *(replace(record, reason="") for record in records))
    modules = loaded_modules(tmp_path, "compare", "base", "head", codes=(0, 3))
    assert rooms(modules) == {"cli", "compare", "core", "github", "report"}
    assert {name for name in modules if name.startswith("torchperf_ci.github.")} <= {"torchperf_ci.github.job"}
