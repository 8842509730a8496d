"""A command loads the rooms that it needs, and no others: what it does not import cannot slow or break it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from report_builders import both, case
from torchperf_ci.core.records import Record, to_line

LIST_MODULES = """
import sys
from torchperf_ci.cli.main import main
try:
    main()
finally:
    print(*sorted({name for name in sys.modules if name.startswith("torchperf_ci.")}), file=sys.stderr)
"""
FOR_ACTIONS = {"github.job"}
"""The modules of `github` that a step of GitHub Actions needs, and that talk to nobody."""


def loaded_by(folder: Path, *arguments: str) -> tuple[set[str], set[str]]:
    """Run a command; the rooms that it loaded, and what of `github`."""
    command = [sys.executable, "-c", LIST_MODULES, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode in {0, 3}, done.stderr
    modules = {name.removeprefix("torchperf_ci.") for name in done.stderr.splitlines()[-1].split()}
    return {name.partition(".")[0] for name in modules}, {name for name in modules if name.startswith("github.")}


def write(folder: Path, *records: Record) -> None:
    folder.mkdir()
    (folder / "records.jsonl").write_text("".join(to_line(record) + "\n" for record in records))


def test_comparing_two_folders_needs_nothing_that_measures(tmp_path: Path) -> None:
    """No worker, no GPU, no history."""
    records = both(case("mlp", "inductor"), 1.5)
    write(tmp_path / "base", *records)
    write(tmp_path / "head", *(replace(record, reason="") for record in records))
    rooms, github = loaded_by(tmp_path, "compare", "base", "head")
    assert rooms == {"cli", "compare", "core", "github", "report"}
    assert github <= FOR_ACTIONS
