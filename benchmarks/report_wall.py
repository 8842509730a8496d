"""Wall time of `torchperf-ci report` on a folder of CSV files: 3 suites, 4 compilers, 60 and more models per suite.

    python benchmarks/report_wall.py
    python benchmarks/report_wall.py --against "python benchmarks/dynamo/runner.py --visualize-logs --training ..."

The other command is timed on the smallest folder, in turn with ours; `{folder}` in it is where the CSV files are.
The growth is linear when the last column does not grow; it falls, because starting takes more than a second.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from torchperf_ci.core.records import COUNTERS

SUITES = ("torchbench", "huggingface", "timm_models")
COMPILERS = {"eager": 0.99, "aot_eager": 1.01, "inductor": 1.4, "inductor_no_cudagraphs": 1.3}
COUNTS = ",".join(["1"] * len(COUNTERS))
PERFORMANCE = (
    "dev,name,batch_size,speedup,abs_latency,compilation_latency,compression_ratio,eager_peak_mem,dynamo_peak_mem,"
)
ACCURACY = "dev,name,batch_size,accuracy,"
FAILING = 0.05


def write_folder(folder: Path, models: int) -> None:
    """The files of a run of PyTorch's suite runner, with one failure in twenty."""
    folder.mkdir()
    numbers = random.Random(models)
    for suite in SUITES:
        for compiler, typical in COMPILERS.items():
            performance, accuracy = [PERFORMANCE + ",".join(COUNTERS)], [ACCURACY + ",".join(COUNTERS)]
            for number in range(models):
                name = f"cuda,{suite}_model_{number},8"
                speedup = typical * numbers.lognormvariate(0, 0.2)
                rest = f"{numbers.uniform(1, 99):.6f},{numbers.uniform(9, 125):.6f},{numbers.uniform(0.9, 1.3):.6f}"
                performance.append(f"{name},{speedup:.6f},{rest},1.000000,1.000000,{COUNTS}")
                status = "fail_accuracy" if numbers.random() < FAILING else "pass"
                accuracy.append(f"{name},{status},{COUNTS}")
            stem = f"{compiler}_{suite}_float32_training_cuda"
            (folder / f"{stem}_performance.csv").write_text("\n".join(performance) + "\n")
            (folder / f"{stem}_accuracy.csv").write_text("\n".join(accuracy) + "\n")


@dataclass(frozen=True)
class Cost:
    """Seconds of one command: on the wall, and of processor time, which neighbours on the machine change less."""

    wall: float
    cpu: float


def cost(command: list[str]) -> Cost:
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{shlex.join(command)} failed")
    return Cost(wall=time.perf_counter() - start, cpu=usage.ru_utime + usage.ru_stime)


def middle(costs: list[Cost]) -> Cost:
    return Cost(wall=median(each.wall for each in costs), cpu=median(each.cpu for each in costs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", default=[60, 500, 1000, 2000], help="models per suite")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", default="", help="another command that makes the same files; {folder}: the CSVs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        for models in sorted(options.models):
            folder = Path(place) / str(models)
            write_folder(folder, models)
            commands = [[sys.executable, "-m", "torchperf_ci", "report", str(folder)]]
            if options.against and models == min(options.models):
                commands.append(shlex.split(options.against.replace("{folder}", str(folder))))
            rounds = [[cost(command) for command in commands] for _ in range(options.rounds)]
            ours, *others = (middle(list(costs)) for costs in zip(*rounds, strict=True))
            each = 1e3 * ours.cpu / (len(SUITES) * models)
            print(f"{models:>5} models per suite: {ours.wall:6.2f} s, CPU {ours.cpu:6.2f} s, {each:5.2f} ms per model")
            for other in others:
                print(f"      the other command: {other.wall:6.2f} s, CPU {other.cpu:6.2f} s;", end=" ")
                print(
                    f"ours takes {ours.wall / other.wall:.2f} of the wall time, {ours.cpu / other.cpu:.2f} of the CPU's"
                )


if __name__ == "__main__":
    main()
