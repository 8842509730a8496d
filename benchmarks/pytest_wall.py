"""The cost of interleaving pytest benchmarks, beyond the time of their own calls.

Tests with calls of several lengths run side by side, as base and head of a comparison: two workers stand in the same
test, and are asked for one reading each in turn. The rest of the time is the cost: requests and replies, the probe after
each reading, and what the fixture does around a call. Wall time on a machine that others use holds their work as well, so
the processor's time of the three processes stands beside it. At last: what the turns do to the calls themselves.

    python benchmarks/pytest_wall.py
    python benchmarks/pytest_wall.py --milliseconds 5 20 --pairs 200 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import psutil

from torchperf_ci.compare.live import Interleave, TwoWorkerPairs
from torchperf_ci.core.records import Mode
from torchperf_ci.run.case_worker import CaseSettings, CaseWorker, OneArm
from torchperf_ci.run.plan import PlannedCase, Selection, make_plan
from torchperf_ci.run.sampler import Sampler
from torchperf_ci.run.session import Preloaded
from torchperf_ci.run.survey import python_under_test, survey

TEST = """
import time

import pytest


@pytest.mark.parametrize("milliseconds", {milliseconds})
def test_work(benchmark, milliseconds):
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < milliseconds / 1e3:
        sum(range(1000))
        steps += 1

    def work():
        for _ in range(steps):
            sum(range(1000))

    benchmark(work)
"""


def start_side(stack: ExitStack, preloaded: Preloaded, planned: PlannedCase, log: Path) -> tuple[CaseWorker, int]:
    """Start a worker that stands in the call of a test, ready to be sampled; return it with its process id."""
    settings, deadline = CaseSettings(threads=1, timeout=600.0), time.monotonic() + 600
    process = stack.enter_context(preloaded.fork(log))
    worker = CaseWorker(process, planned, settings, deadline=deadline)
    worker.load(cache_dir=None)
    worker.settle()
    return worker, process.pid


def measure(preloaded: Preloaded, planned: PlannedCase, log: Path, *, pairs: int) -> tuple[float, float, float, float]:
    """Return milliseconds of a call, wall time and processor's time over the calls' own, and a call in turns over one
    without them."""
    with ExitStack() as stack:
        sides = {side: start_side(stack, preloaded, planned, log) for side in ("base", "head")}
        workers = {side: worker for side, (worker, _) in sides.items()}
        processes = [psutil.Process(), *(psutil.Process(pid) for _, pid in sides.values())]
        in_turn = TwoWorkerPairs(workers, {"base": "eager", "head": "eager"}, interleave=Interleave.ITERATION)
        sampler = Sampler(in_turn, random.Random(0))
        sampler.warm_up(iterations=10)
        repeats = sampler.repeats or 1
        alone = OneArm(workers["head"], "eager", side="head").take([False] * pairs, repeats)
        start, used = time.perf_counter(), processor_seconds(processes)
        turns = in_turn.take([False, True] * (pairs // 2), repeats)
        wall, used = time.perf_counter() - start, processor_seconds(processes) - used
        for worker in workers.values():
            worker.accuracy()  # the tests go on to their ends
    between = median(time for pair in turns for time in (pair.first, pair.second))
    without = median(time for pair in alone for time in (pair.first, pair.second))
    own = sum(pair.first + pair.second for pair in turns) * repeats
    return without * 1e3, wall / own, used / (2 * pairs * repeats * without), between / without


def processor_seconds(processes: Sequence[psutil.Process]) -> float:
    """Add up the processor's time that these processes have used."""
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def main() -> None:
    """Print a row per length of the calls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[0.1, 1, 5, 20])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--python", default=sys.executable)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_work.py").write_text(TEST.format(milliseconds=given.milliseconds))
        spec, log = f"pytest:{folder}", Path(folder) / "log.txt"
        with (
            python_under_test(given.python, os.environ, threads=1, extra={}, log=log) as python,
            python.start() as preloaded,
        ):
            found = survey(preloaded, [spec], threads=1, command=())
            selection = Selection(suites=(spec,), mode=Mode.INFERENCE, devices=("cpu",))
            plan = make_plan(selection, found.suites, found.machine)
            preloaded.preload(plan.preload)
            print(f"      call  wall / own time  processor / own time  call in turns / alone  ({given.rounds} rounds)")
            for planned in plan.cases:
                rows = [measure(preloaded, planned, log, pairs=given.pairs) for _ in range(given.rounds)]
                call, wall, used, turns = (median(column) for column in zip(*rows, strict=True))
                print(f"{call:7.2f} ms  {wall:15.3f}  {used:20.3f}  {turns:21.3f}", flush=True)


if __name__ == "__main__":
    main()
