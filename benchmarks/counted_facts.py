"""Change one thing in N small models, and print how often counting finds it, and how often it finds what is not there.

python benchmarks/counted_facts.py --cases 5 --compiler inductor
python benchmarks/counted_facts.py --cases 5 --instructions callgrind
python benchmarks/counted_facts.py --cases 50 --compiler aot_eager --raw counted.jsonl

Each case is an MLP of another depth and width. It is counted twice as it is, in workers of their own with empty caches
(a difference is a false alarm), and once with one more kernel, or with about 1 % more instructions. What stands in the
file of `--raw` is not counted again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from torchperf_ci.compare.effects import Verdict
from torchperf_ci.compare.model import ToleranceRules
from torchperf_ci.compare.verdicts import compare_counted
from torchperf_ci.core.records import Case, Mode
from torchperf_ci.run.case_worker import CaseSettings, Counted
from torchperf_ci.run.counting import InstructionCounting, InstructionMethod
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.session import Preloaded, Python
from torchperf_ci.run.survey import python_under_test
from torchperf_ci.run.world import start_case

SUITE = """
import torch
from torch import nn


class Model(nn.Module):
    def __init__(self, depth, width, change):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.change, self.turns = change, round(depth * (5.3 + width * width / 3460))  # 1 % by callgrind, about

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        if self.change == "kernel":
            x = x @ x.softmax(0).T
        if self.change == "instructions":
            for _ in range(self.turns):  # it is counted in eager code
                pass
        return x


def make(number, change):
    depth, width = 2 + number % 5, 64 + 16 * (number // 5)
    if CHANGE == "instructions":  # so many that 1 % of them is more than the least difference
        depth = 24 + 2 * (number % 5)
    return lambda batch_size: (Model(depth, width, change), (torch.randn(batch_size or 16, width),))


MODELS = {f"{change}_{number}": make(number, change) for number in range(50) for change in ("none", CHANGE)}
"""
SETTINGS = CaseSettings(threads=1)

Line = dict[str, Any]


@contextmanager
def start(change: str) -> Iterator[tuple[Python, str, Path]]:
    """Yield the Python that counts, the suite's path, and a folder for logs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = folder / "counted_suite.py"
        suite.write_text(f"CHANGE = {change!r}\n{SUITE}")
        with python_under_test(sys.executable, os.environ, threads=1, extra={}) as python:
            yield python, str(suite), folder


def count_once(preloaded: Preloaded, planned: PlannedCase, folder: Path) -> Counted:
    """Compile a case in a worker of its own with an empty cache, and count it."""
    deadline = time.monotonic() + SETTINGS.timeout
    with (
        tempfile.TemporaryDirectory() as cache,
        start_case(preloaded, planned, SETTINGS, [folder / "worker.log"], deadline=deadline) as worker,
    ):
        worker.load(cache_dir=cache)
        worker.compile()
        worker.settle()
        return worker.count()


def differs(base: Counted, head: Counted, case: Case) -> bool:
    """Say whether any count, or a digest, is told to differ."""
    found = compare_counted(case, (base.metrics, base.digests), (head.metrics, head.digests), ToleranceRules())
    return any(comparison.verdict is not Verdict.UNCHANGED for comparison in found)


def try_case(number: int, change: str, compiler: str, count: Callable[[PlannedCase], Counted], suite: str) -> Line:
    """Count a case twice as it is and once changed; say what was told, and of the instructions how many more."""
    counts = []
    for model in (f"none_{number}", f"none_{number}", f"{change}_{number}"):
        case = Case(suite="counted", model=model, mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler=compiler)
        counts.append(count(PlannedCase(case=case, spec=suite)))
        for remark in counts[-1].remarks:
            print(f"{model}: {remark}")
    base, again, changed = counts
    one, two = (each.metrics.get("instructions") for each in (base, changed))
    return {
        "number": number,
        "found": differs(base, changed, case),
        "false": differs(base, again, case),
        "instructions_of_base": one,
        "instructions_again": again.metrics.get("instructions"),
        "more": two / one - 1 if one and two else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5, choices=range(1, 51), metavar="N")
    parser.add_argument("--compiler", default="inductor")
    parser.add_argument("--instructions", choices=["pmu", "callgrind"], help="inject instructions, not a kernel")
    parser.add_argument("--raw", type=Path, help="a file of results per case, from which a later run goes on")
    given = parser.parse_args()
    change = "instructions" if given.instructions else "kernel"
    compiler = "eager" if given.instructions else given.compiler
    way = {"change": change, "compiler": compiler, "instructions": given.instructions}
    raw = given.raw.read_text().splitlines() if given.raw and given.raw.exists() else []
    lines = [line for line in map(json.loads, raw) if all(line[name] == value for name, value in way.items())]
    done = {line["number"] for line in lines}
    began = time.monotonic()
    with (
        start(change) as (python, suite, folder),
        python.start() as preloaded,
        InstructionCounting(python, InstructionMethod(given.instructions or "never")) as instructions,
    ):

        def count(planned: PlannedCase) -> Counted:
            if given.instructions:
                return instructions.count(planned, SETTINGS, [folder / "worker.log"], arm="eager")
            return count_once(preloaded, planned, folder)

        for number in sorted({*range(given.cases)} - done):
            lines.append(way | try_case(number, change, compiler, count, suite))
            if given.raw:
                with given.raw.open("a") as stream:
                    stream.write(json.dumps(lines[-1]) + "\n")
    found, false = (sum(line[name] for line in lines) for name in ("found", "false"))
    print(f"one change ({change}): found in {found} of {len(lines)} cases, {false} false")
    if more := sorted(line["more"] for line in lines if line["more"] is not None):
        print(f"more instructions: {100 * more[0]:.2f} to {100 * more[-1]:.2f} %, median {100 * median(more):.2f} %")
    if counts := 3 * (len(lines) - len(done)):
        print(f"{(time.monotonic() - began) / counts:.1f} s a count")


if __name__ == "__main__":
    main()
