"""A command loads no room that it does not need: what it does not load costs no time and cannot break it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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


def loaded_modules(folder: Path, *arguments: str) -> set[str]:
    """Run a command line in a process of its own, which must succeed; return the modules it had loaded at its end."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "TORCHPERF_"))}
    listing = folder / "modules.json"
    subprocess.run([sys.executable, "-c", LISTING, str(listing), *arguments], check=True, cwd=folder, env=environ)
    return set(json.loads(listing.read_text()))


def rooms(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("torchperf_ci.")}


def test_a_run_loads_what_measures_and_reports(tmp_path: Path) -> None:
    """No shards, expectations, history, comparison or formats of other tools; torch stays in the worker."""
    (tmp_path / "one.py").write_text(SUITE)
    modules = loaded_modules(
        tmp_path, "run", "--suites", "one.py", "--inference", "--compilers", "eager", "--no-accuracy", "--repeat", "2"
    )
    assert rooms(modules) == {"cli", "core", "github", "machine", "report", "run", "worker"}
    assert not modules & {"torch", "github", "requests", "duckdb", "torchperf_ci.core.csv_files"}
    assert (tmp_path / "benchmark_logs" / "records.jsonl").is_file()
