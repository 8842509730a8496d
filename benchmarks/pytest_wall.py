"""Wall time of interleaving pytest benchmarks, over that of the same calls without.

Tests with calls of several lengths run side by side, as base and head of a comparison: two workers stand in the same
test. In turn, pairs of turns are interleaved, as `compare` takes them (a request per turn, a probe after each pair),
and as many calls are asked of each worker at once. So both see the same load; medians of all blocks are printed.

    python benchmarks/pytest_wall.py
    python benchmarks/pytest_wall.py --milliseconds 5 20 --pairs 20 --blocks 50
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from torchperf_ci.compare.live import Interleave, TwoWorkerPairs
from torchperf_ci.core.records import Mode
from torchperf_ci.run.case_worker import CaseSettings, CaseWorker
from torchperf_ci.run.plan import PlannedCase, Selection, make_plan
from torchperf_ci.run.sampler import Sampler, Turn
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


def start_side(stack: ExitStack, preloaded: Preloaded, planned: PlannedCase, log: Path) -> CaseWorker:
    """Start a worker that stands in the call of a test, ready to be sampled."""
    settings, deadline = CaseSettings(threads=1, timeout=600.0), time.monotonic() + 600
    process = stack.enter_context(preloaded.fork(log))
    worker = CaseWorker(process, planned, settings, deadline=deadline)
    worker.load(cache_dir=None)
    worker.settle()
    return worker


def measure(
    preloaded: Preloaded, planned: PlannedCase, log: Path, *, pairs: int, blocks: int
) -> tuple[float, float, int]:
    """Return the milliseconds of a call, the ratio of wall times with and without interleaving, the calls in a turn."""
    ratios, calls = [], []
    with ExitStack() as stack:
        workers = {side: start_side(stack, preloaded, planned, log) for side in ("base", "head")}
        in_turn = TwoWorkerPairs(workers, {"base": "eager", "head": "eager"}, interleave=Interleave.ITERATION)
        sampler = Sampler(in_turn, random.Random(0), readings=None)
        sampler.warm_up(iterations=10)
        turn = Turn(repeats=sampler.repeats or 1, readings=sampler.readings or 1)
        for _ in range(blocks):
            start = time.perf_counter()
            in_turn.take([False, True] * (pairs // 2), turn)
            between = time.perf_counter()
            order = ["eager"] * pairs * turn.readings
            replies = [worker.sample([order], {"eager": turn.repeats}) for worker in workers.values()]
            ratios.append((between - start) / (time.perf_counter() - between))
            calls += [reading for reply in replies for reading in reply["host"]["eager"]]
        for worker in workers.values():
            worker.accuracy()  # the tests go on to their ends
    return median(calls) / 1e6, median(ratios), turn.readings


def main() -> None:
    """Print a row per length of the calls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[0.1, 1, 5, 20])
    parser.add_argument("--pairs", type=int, default=10, help="in a block")
    parser.add_argument("--blocks", type=int, default=30)
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
            print("      call  calls in a turn  interleaved / at once")
            for planned in plan.cases:
                call, ratio, readings = measure(preloaded, planned, log, pairs=given.pairs, blocks=given.blocks)
                print(f"{call:7.2f} ms  {readings:15}  {ratio:21.3f}", flush=True)


if __name__ == "__main__":
    main()
