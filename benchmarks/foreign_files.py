"""How long reading another tool's large file takes, beside json.loads of the same bytes, and how much memory.

    python benchmarks/foreign_files.py [--megabytes 37]

Every line is a process of its own: CPU seconds, these as a multiple of those of json.loads, and peak memory.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 2_000


def write_file(path: Path, megabytes: float) -> int:
    """Write a file as `pytest --benchmark-json` does; the number of benchmarks in it."""
    rng = random.Random(0)
    benchmarks: list[dict[str, object]] = []
    size = 0
    while size < megabytes * 1e6:
        data = [rng.lognormvariate(-7, 0.1) for _ in range(ROUNDS)]
        stats = {"min": min(data), "max": max(data), "mean": sum(data) / ROUNDS, "stddev": 1e-5, "rounds": ROUNDS}
        name = f"test_op[{len(benchmarks)}]"
        benchmarks.append(
            {
                "group": None,
                "name": name,
                "fullname": f"bench.py::{name}",
                "params": {"size": len(benchmarks)},
                "param": str(len(benchmarks)),
                "extra_info": {},
                "stats": {**stats, "median": sorted(data)[ROUNDS // 2], "iterations": 1, "data": data},
            }
        )
        size += len(json.dumps(benchmarks[-1], indent=1))
    whole = {"machine_info": {}, "commit_info": {}, "benchmarks": benchmarks, "version": "5.3.1"}
    path.write_text(json.dumps({**whole, "datetime": "2026-11-28T12:00:00+00:00"}, indent=1))
    return len(benchmarks)


def measure(name: str, path: Path) -> None:
    """Print seconds and peak memory of one way to read the file."""
    start = time.process_time()
    if name == "json.loads":
        json.loads(path.read_bytes())
    else:
        from click.testing import CliRunner

        from torchperf_ci.cli.main import cli

        out = path.parent / "out"
        result = CliRunner().invoke(cli, ["ingest", "pytest-benchmark", str(path), "--output-dir", str(out)])
        if result.exit_code:
            raise SystemExit(result.output)
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(json.dumps({"seconds": time.process_time() - start, "peak": peak * 1024}))


def report(megabytes: float) -> None:
    """Measure in turn, three times each, and print the best."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.json"
        count = write_file(path, megabytes)
        print(f"{path.stat().st_size / 1e6:.0f} MB, {count:,} benchmarks of {ROUNDS:,} rounds")
        command = [sys.executable, __file__, "--file", str(path), "--measure"]
        best: dict[str, dict[str, float]] = {}
        for name in ("json.loads", "ingest") * 3:
            done = subprocess.run([*command, name], capture_output=True, text=True, check=True)
            found = json.loads(done.stdout)
            best[name] = min(best.get(name, found), found, key=lambda item: item["seconds"])
        for name, found in best.items():
            times = found["seconds"] / best["json.loads"]["seconds"]
            print(f"{name:12} {found['seconds']:6.2f} s {times:6.1f}x {found['peak'] / 1e6:8.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=37)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.file)
    else:
        report(arguments.megabytes)
