"""Start-up time: `torchperf-ci --help` against `python -c "import click"`, run in turn; prints medians and their ratio.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROUNDS = 41


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    script = str(Path(sys.executable).parent / "torchperf-ci")
    commands = {"torchperf-ci --help": [script, "--help"], "import click": [sys.executable, "-c", "import click"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    ours, theirs = (median(values) * 1e3 for values in times.values())
    ratio = median(a / b for a, b in zip(*times.values(), strict=True))
    print(f"torchperf-ci --help {ours:.0f} ms, import click {theirs:.0f} ms, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
