"""Benchmarks that a project already has, of other tools: they are listed as suites, and measured as they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


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


def list_existing(spec: str) -> list[dict[str, Any]]:
    """List the suites that a path holds, `pytest:PATH` or `asv:PATH`, in JSON's types. Raises `SuiteError`."""
    from torchperf_ci.suites.asv_benchmarks import collect_benchmarks
    from torchperf_ci.suites.pytest_tests import PRELOAD, collect_tests

    kind, _, path = spec.partition(":")
    found = collect_tests(path) if kind == "pytest" else collect_benchmarks(path)
    suites: dict[str, list[ExistingBenchmark]] = {}
    for benchmark in found:
        suites.setdefault(benchmark.suite, []).append(benchmark)
    return [
        {
            "name": name,
            "specs": {benchmark.model: benchmark.spec for benchmark in benchmarks},
            "metrics": {benchmark.model: benchmark.metrics for benchmark in benchmarks if benchmark.metrics},
            "skips": {benchmark.model: benchmark.skip for benchmark in benchmarks if benchmark.skip},
            "broken": {benchmark.model: benchmark.broken for benchmark in benchmarks if benchmark.broken},
            "preload": PRELOAD if kind == "pytest" else (),
        }
        for name, benchmarks in suites.items()
    ]
