"""Wall time of a suite: `run` against a fresh process per model, compiler and testing; and our median against torch's.

Both ways measure the same numbers with the same code: accuracy, compile time, memory, and 30 pairs of iterations per
case. The classic way starts a process and imports torch each time, as PyTorch's own suite runner does; `run` forks
its workers from a process that has imported torch, and does accuracy and performance in one worker.

    python benchmarks/suite_wall.py --suite tiny --quick
    python benchmarks/suite_wall.py --suite huggingface --scale small --compilers aot_eager --rounds 0
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from torchperf_ci.core.records import Mode, Source, Testing
from torchperf_ci.core.results import open_folder
from torchperf_ci.run.case_worker import BOTH, CaseSettings
from torchperf_ci.run.plan import Plan, PlannedCase, Selection, make_plan
from torchperf_ci.run.runner import Runner, Surroundings
from torchperf_ci.run.sampler import StopRule
from torchperf_ci.run.session import Python
from torchperf_ci.run.survey import Survey, python_under_test, survey

PAIRS = 30


class Way:
    """One way of running a suite: which testings a worker does, and whether each has a new process. Adds up seconds."""

    def __init__(self, runner: Runner, rounds: tuple[tuple[Testing, ...], ...]) -> None:
        self.seconds = 0.0
        self._runner, self._rounds = runner, rounds

    def run(self, planned: PlannedCase) -> None:
        start = time.perf_counter()
        for testings in self._rounds:
            failed = [record for record in self._runner.run(planned, testings) if not record.status.is_pass]
            if failed:
                print(f"  {failed[0].case}: {failed[0].status}: {failed[0].reason}", flush=True)
        self.seconds += time.perf_counter() - start


def measure(python: Python, plan: Plan, found: Survey, *, scale: str) -> tuple[float, float]:
    """Seconds for all cases: ours, and the classic way. The two take turns, case by case, on the same machine.

    Ours imports what the suite names once, as `run` does; a new process imports it as it loads its model.
    """
    surroundings = Surroundings(environment=found.environment, source=Source())
    with ExitStack() as stack:
        out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ways = []
        for fresh, rounds in ((False, (BOTH,)), (True, ((Testing.PERFORMANCE,), (Testing.ACCURACY,)))):
            folder = stack.enter_context(open_folder(out / str(fresh)))
            settings = CaseSettings(rule=StopRule(repeat=PAIRS), scale=scale, fresh_process=fresh)
            modules = () if fresh else plan.preload
            runner = stack.enter_context(Runner(python.start, settings, surroundings, folder, modules=modules))
            ways.append(Way(runner, rounds))
        for planned in plan.cases:
            for way in ways:
                way.run(planned)
    return ways[0].seconds, ways[1].seconds


def against_torch(rounds: int) -> list[tuple[str, float, float]]:
    """(model, our median, blocked_autorange's median) in milliseconds of the same eager callable, taken in turn."""
    import torch
    from torch.utils.benchmark import Timer

    from torchperf_ci.suites.registry import resolve
    from torchperf_ci.worker.load import build
    from torchperf_ci.worker.timing import sample

    rows = []
    suite = resolve("tiny")
    torch.set_num_threads(1)  # threads that spin beside a busy neighbour would be all that is measured
    for model in suite.models:
        case: dict[str, Any] = {"mode": "inference", "device": "cpu", "dtype": "float32", "scale": "full", "seed": 0}
        arm = build(suite, model, batch_size=None, **case).iteration()
        ours, theirs = [], []
        for _ in range(rounds):
            timer = Timer("arm()", globals={"arm": arm}, num_threads=torch.get_num_threads())
            theirs.append(timer.blocked_autorange(min_run_time=0.3).median * 1e3)
            sweep = sample({"arm": arm}, [["arm"]] * 60, device=torch.device("cpu"), inner={})
            ours.append(median(sweep.host["arm"]) / 1e6)
        rows.append((model, median(ours), median(theirs)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="tiny")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--scale", default="full", choices=["full", "small"])
    parser.add_argument("--filter", "-k", action="append", default=[], help="keep the models it matches; repeatable")
    parser.add_argument("--compilers", nargs="+", default=["eager", "aot_eager", "inductor"])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    selection = Selection(
        suites=(options.suite,),
        mode=Mode.INFERENCE,
        compilers=tuple(options.compilers),
        filters=tuple(re.compile(text) for text in options.filter),
        quick=options.quick,
    )
    with python_under_test(sys.executable, os.environ, threads=None, extra={}) as python:
        with python.start() as preloaded:
            found = survey(preloaded, selection.suites, threads=None, command=sys.argv)
        plan = make_plan(selection, found.suites, found.machine)
        print(f"{len(plan.cases)} cases on {found.environment.cpu}, {found.environment.cpu_count} CPUs", flush=True)
        ours, classic = measure(python, plan, found, scale=options.scale)
        print(f"run {ours:.1f} s, classic {classic:.1f} s, ratio {ours / classic:.2f}\n", flush=True)
    if options.rounds:
        print_against_torch(options.rounds)


def print_against_torch(rounds: int) -> None:
    """The tiny suite's medians beside those of torch's Timer."""
    print(f"{'model':20} {'ours ms':>9} {'Timer ms':>9} {'ratio':>7}")
    rows = against_torch(rounds)
    for model, mine, theirs in rows:
        print(f"{model:20} {mine:9.3f} {theirs:9.3f} {mine / theirs:7.3f}")
    print(f"{'median ratio':40} {median(mine / theirs for _, mine, theirs in rows):7.3f}")


if __name__ == "__main__":
    main()
