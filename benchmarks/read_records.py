"""Time and memory of reading a large artifact's records.jsonl.

    python benchmarks/read_records.py
    python benchmarks/read_records.py --records 40000 --samples 30 --rounds 5

Processes that read it take turns with others that only start; the table shows medians of processor time, which
neighbours on the machine change less than wall time, and the largest memory of a process.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from torchperf_ci.core.records import Case, Environment, Mode, Record, Source, Status, Testing, to_line
from torchperf_ci.core.results import RECORDS, read_results

SERIES = ("eager", "compiled", "probe")
WAYS = ("reading", "nothing")


def write_records(path: Path, *, count: int, samples: int) -> None:
    """As a nightly run of four compilers leaves them: half accuracy, half performance with raw times."""
    numbers = random.Random(count)
    environment = Environment(python="3.11.7", torch="2.13.0", cpu="A CPU", cpu_count=64, gpu="A GPU", gpu_count=1)
    source = Source(repository="org/project", commit="a" * 40, run_id="1", time="2026-01-01T00:00:00+00:00")
    with path.open("w", encoding="utf-8") as stream:
        for number in range(count):
            model, testing = number // 8, (Testing.ACCURACY, Testing.PERFORMANCE)[number % 2]
            case = Case(
                suite="huggingface",
                model=f"model_{model}",
                mode=Mode.INFERENCE,
                device="cuda",
                dtype="float32",
                compiler=f"compiler_{number // 2 % 4}",
            )
            timed = testing is Testing.PERFORMANCE
            record = Record(
                case=case,
                testing=testing,
                status=Status.PASS,
                batch_size=8,
                metrics={"speedup": 1.5, "abs_latency": 2.0, "compilation_latency": 30.0} if timed else {},
                samples={name: tuple(numbers.random() for _ in range(samples)) for name in SERIES} if timed else {},
                counters={"graph_breaks": 1, "calls_captured": 100},
                environment=environment,
                source=source,
            )
            stream.write(to_line(record) + "\n")


def measure(folder: Path, way: str) -> tuple[float, float]:
    """Seconds of processor time and MB of one process that reads the folder; none: that only imports."""
    code = f"import benchmarks.read_records as b; b.read({str(folder)!r}, {way!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, check=True)
    seconds, megabytes = done.stdout.split()
    return float(seconds), float(megabytes)


def read(folder: str, way: str) -> None:
    """Print what one reading costs."""
    began = time.process_time()
    if way == "reading":
        read_results(Path(folder))
    print(time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=40_000)
    parser.add_argument("--samples", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / RECORDS
        write_records(path, count=options.records, samples=options.samples)
        costs = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way, found in costs.items():
                found.append(measure(Path(scratch), way))
        print(f"{options.records:,} records, {path.stat().st_size / 1e6:.1f} MB")
        print("| | Seconds | MB |\n| --- | ---: | ---: |")
        for way, found in costs.items():
            seconds, megabytes = (median(values) for values in zip(*found, strict=True))
            print(f"| {way} | {seconds:.2f} | {megabytes:.0f} |")


if __name__ == "__main__":
    main()
