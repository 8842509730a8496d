"""Benchmarks that a project already has, of other tools: they are listed as suites, and measured as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ExistingBenchmark:
    """A benchmark of another tool.

    suite, model: its name as a case, the one by which the tool's results are imported. spec: what loads it alone.
    metrics: units and directions of its own, by name. skip: why it is left out; empty if it is not. broken: why it
    cannot be loaded, and neither can the benchmarks beside it, whose names nobody knows.
    """

    suite: str
    model: str
    spec: str = ""
    metrics: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    skip: str = ""
    broken: str = ""


def find_asv_folder(path: Path) -> Path:
    """Find the folder of the benchmarks: the one that asv.conf.json names, where that is in this one."""
    configuration = path / "asv.conf.json"
    if not configuration.is_file():
        return path
    match = re.search(r'^\s*"benchmark_dir"\s*:\s*"([^"]+)"', configuration.read_text(encoding="utf-8"), re.MULTILINE)
    return (path / (match[1] if match else "benchmarks")).resolve()
