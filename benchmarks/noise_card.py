"""Measures the noise card of the machine it runs on: false alarms, power, time to a verdict, coverage, overhead.

Unattended and resumable: every comparison is a line of raw samples in a file, and what is there is not measured again.
Series take turns, so that each has its share whenever it ends. `report` writes docs/noise-card.md and its chart from
that file alone, and keeps it, compressed, beside them, so that other rules can be tried on the same samples.

    python benchmarks/noise_card.py plan
    python benchmarks/noise_card.py measure --raw noise.jsonl
    python benchmarks/noise_card.py report --raw noise.jsonl
    python benchmarks/noise_card.py report --raw docs/noise-card.jsonl.xz

To see in minutes that everything works, with figures that mean nothing:

    python benchmarks/noise_card.py measure --trial --raw trial.jsonl
    python benchmarks/noise_card.py report --raw trial.jsonl --docs trial
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import timeit
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from noise_figures import SECONDS, TRIAL
from noise_report import write_report
from noise_suite import SHORT_CALLS, make_model, name_model

from torchperf_ci.compare.effects import Launch
from torchperf_ci.compare.live import CaseComparer, ComparePlan, make_launch
from torchperf_ci.compare.model import ToleranceRules
from torchperf_ci.compare.session import CompareRequest, LiveSide, SideSpec, collect_cases, running_sides, shared_cpus
from torchperf_ci.core.records import Mode, Testing
from torchperf_ci.run.case_worker import CaseSettings
from torchperf_ci.run.plan import Selection
from torchperf_ci.run.sampler import SamplePair, Sampler, Turn
from torchperf_ci.worker.timing import Arm, sample

SUITE = Path(__file__).with_name("noise_suite.py")
KINDS = ("one", "two")
"""Both arms in one process, and base against head in two."""
SHORT_SECONDS = {"one": 2.0, "two": 4.0}
"""Sampling per comparison of short calls, of which there are many in a second."""
BESIDES = {"one": 1.5, "two": 6.0}
"""About how many more seconds a comparison takes, for the plan: loading and warming up."""
RENEWAL = 30.0
"""Seconds that new processes need, which import torch."""

KEY = ("kind", "extra", "stress", "call")
"""What of a line says which series it is of."""

Line = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Comparisons of one kind, with so many per cent of extra work in head, maybe beside a busy process.

    What that is of the time is less than `extra` in two processes, where an iteration finds the caches cold.
    call: microseconds of a short call; 0 for the model of a hundred blocks. sampling: seconds of it per comparison.
    """

    kind: str
    extra: float
    count: int
    sampling: float
    stress: bool = False
    call: float = 0

    @property
    def key(self) -> tuple[str, float, bool, float]:
        return self.kind, self.extra, self.stress, self.call

    @property
    def seconds(self) -> float:
        """About how many seconds a comparison takes."""
        besides = BESIDES[self.kind] * (self.sampling / SECONDS[self.kind])
        return self.sampling + max(1.0, besides)


def plan(*, trial: bool) -> list[Series]:
    """All series; a trial has two comparisons of each, which are shorter."""
    counts: dict[tuple[str, float, bool, float], int] = {("two", 0, False, 0): 56, ("two", 3.4, False, 0): 24}
    counts |= {("one", 0, False, 0): 60, ("two", 2.2, False, 0): 20, ("two", 5, False, 0): 14}
    counts |= {("one", extra, False, 0): 20 for extra in (1, 2, 3, 5)}
    for call in SHORT_CALLS:
        counts |= {("two", 0, False, call): 14, ("two", 5, False, call): 8}
        counts |= {("one", 0, False, call): 20, ("one", 5, False, call): 12}
    counts |= {(kind, extra, True, 0): 6 for extra in (0, 5) for kind in KINDS}
    return [
        Series(
            kind=kind,
            extra=extra,
            stress=stress,
            call=call,
            count=2 if trial else count,
            sampling=(SHORT_SECONDS if call else SECONDS)[kind] * (TRIAL if trial else 1),
        )
        for (kind, extra, stress, call), count in counts.items()
    ]


def take_turns(series: Sequence[Series]) -> list[tuple[Series, int]]:
    """The comparisons of all series with their numbers, so mixed that all come to their ends together."""
    items = [(each, number) for each in series for number in range(each.count)]
    return sorted(items, key=lambda item: (item[1] + 0.5) / item[0].count)


class LocalPairs:
    """A `PairSource` of two arms in this process."""

    def __init__(self, base: Arm, head: Arm) -> None:
        self._arms = {"base": base, "head": head}

    def take(self, swapped: Sequence[bool], turn: Turn) -> list[SamplePair]:
        order = [["head", "base"] if turned else ["base", "head"] for turned in swapped]
        sweep = sample(self._arms, order, device=torch.device("cpu"), inner=dict.fromkeys(self._arms, turn.repeats))
        times = zip(sweep.host["base"], sweep.host["head"], sweep.probe, strict=True)
        return [SamplePair(first=base / 1e9, second=head / 1e9, probe=probe / 1e9) for base, head, probe in times]

    def invalidated(self) -> bool:
        return False


def compare_in_one_process(series: Series, number: int) -> Line:
    """Compare two models in this process, made anew: new memory, new weights."""
    torch.manual_seed(number)
    sampler = Sampler(LocalPairs(_arm(series, 0), _arm(series, series.extra)), random.Random(f"{series.key} {number}"))
    sampler.warm_up()
    start = time.monotonic()
    launch = make_launch(sampler.draw_for(series.sampling))
    return {"seconds": time.monotonic() - start, "launches": [_rounded(launch)]}


def _arm(series: Series, extra: float) -> Arm:
    module, inputs = make_model(extra, series.call)

    def call() -> object:
        with torch.no_grad():
            return module(*inputs)

    return call


class TwoProcesses:
    """Compares as `torchperf-ci compare` does, without early stops; processes are started anew in between."""

    def __init__(self, stack: ExitStack, *, renew_every: int) -> None:
        self._stack, self._renew_every, self._done = stack, renew_every, 0
        self._sides: tuple[LiveSide, LiveSide] | None = None
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        base, head = (
            SideSpec(name=name, python=sys.executable, label=name, environ={"SIDE": name}) for name in ("base", "head")
        )
        self._request = CompareRequest(
            base=base,
            head=head,
            selection=Selection(suites=(str(SUITE),), mode=Mode.INFERENCE, devices=("cpu",), compilers=("eager",)),
            settings=CaseSettings(testings=(Testing.PERFORMANCE,), threads=1, cpus=shared_cpus(1)),
            plan=ComparePlan(tolerances=ToleranceRules(), stop_early=False),
        )

    def compare(self, series: Series, number: int) -> Line:
        if self._sides is None:
            self._sides = self._stack.enter_context(running_sides(self._request, self._folder))
        elif self._done % self._renew_every == 0:
            for side in self._sides:
                side.processes.renew()
        self._done += 1
        base, head = self._sides
        comparer = CaseComparer(
            {"base": base, "head": head}, self._request.settings, lambda _, side: [self._folder / f"{side}.log"]
        )
        model = name_model(series.extra, series.call)
        (planned,) = (one for one in collect_cases(base, head, self._request.selection) if one.case.model == model)
        start = time.monotonic()
        measured = comparer.compare(planned, replace(self._request.plan, seconds=series.sampling), attempt=number)
        wall = time.monotonic() - start
        failures = [side.failure for side in (measured.base, measured.head) if side is not None and side.failure]
        if failures:
            raise SystemExit(f"the model does not run: {failures[0]}")
        launches = [_rounded(launch) for launch in measured.launches]
        return {"seconds": measured.seconds, "wall": wall, "launches": launches}


def _rounded(launch: Launch) -> dict[str, list[float]]:
    """Times to four digits, of which there are so many that what is cut off does not matter, and few megabytes."""
    return {name: [float(f"{value:.4g}") for value in getattr(launch, name)] for name in ("base", "head", "probe")}


BURSTS = """
import os, random, time
parent = os.getppid()
while os.getppid() == parent:
    end = time.monotonic() + random.uniform(0.05, 0.6)
    while time.monotonic() < end:
        pass
    time.sleep(random.uniform(0.05, 1.0))
"""


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that is busy in bursts, on any CPU."""
    process = subprocess.Popen([sys.executable, "-c", BURSTS])
    try:
        yield
    finally:
        process.kill()
        process.wait()


CALLS = {"3 µs": 3e-6, "50 µs": 50e-6, "5 ms": 5e-3}
"""Calls to time, by about how many seconds of small operations they do."""


def overhead(rounds: int) -> Iterator[Line]:
    """Our median and torch's of the same calls in turn, and what a reading costs beyond the call."""
    from torch.utils.benchmark import Timer

    x = torch.ones(16)
    single = min(timeit.repeat(lambda: x.add(1), number=1000)) / 1000
    for name, seconds in CALLS.items():

        def call(repeats: int = max(1, round(seconds / single))) -> None:
            for _ in range(repeats):
                x.add(1)

        for _ in range(rounds):
            timer = Timer("call()", globals={"call": call}, num_threads=1).blocked_autorange(min_run_time=0.3)
            sampler = Sampler(LocalPairs(call, call), random.Random(1))
            sampler.warm_up()
            start = time.perf_counter()
            pairs = sampler.draw_for(0.3)
            wall = time.perf_counter() - start
            repeats = sampler.repeats or 1
            inside = sum((p.first + p.second) * repeats + p.probe for p in pairs)
            yield {
                "call": name,
                "timer": timer.median,
                "ours": median(time for p in pairs for time in (p.first, p.second)),
                "cost": (wall - inside) / (2 * len(pairs)),
            }


def measure(raw: Path, renew_every: int, *, trial: bool) -> None:
    """Append what the file does not hold yet."""
    torch.set_num_threads(1)
    lines = _lines(raw)
    if any(line["kind"] == "machine" and line["trial"] != trial for line in lines):
        raise SystemExit(f"{raw} is {'no ' if trial else 'of a '}trial; give another file with --raw")
    done = Counter(tuple(line[name] for name in KEY) for line in lines if line["kind"] in KINDS)
    todo = [(series, number) for series, number in take_turns(plan(trial=trial)) if number >= done[series.key]]
    kinds = {line["kind"] for line in lines}
    with raw.open("a", encoding="utf-8") as stream, ExitStack() as stack:

        def write(line: Line) -> None:
            stream.write(json.dumps(line) + "\n")
            stream.flush()

        if "machine" not in kinds:
            write({"kind": "machine", "trial": trial, **machine()})
        if "overhead" not in kinds:
            for found in list(overhead(1 if trial else 9)):
                write({"kind": "overhead", **found})
        two = TwoProcesses(stack, renew_every=renew_every)
        began, spent = time.monotonic(), 0.0
        for place, (series, number) in enumerate(todo, start=1):
            with neighbour() if series.stress else nullcontext():
                line = compare_in_one_process(series, number) if series.kind == "one" else two.compare(series, number)
            write({**dict(zip(KEY, series.key, strict=True)), "time": time.time(), **line})
            spent += series.seconds
            left = sum(each.seconds for each, _ in todo[place:]) * (time.monotonic() - began) / spent
            print(f"{place}/{len(todo)}, about {left / 60:.0f} min left: {_describe(series)} done", flush=True)


def _lines(raw: Path) -> list[Line]:
    """What is there; the line that a killed run was writing is cut off."""
    if not raw.is_file():
        return []
    whole = raw.read_bytes()
    os.truncate(raw, whole.rfind(b"\n") + 1)
    return [json.loads(line) for line in raw.read_text(encoding="utf-8").splitlines()]


def _describe(series: Series) -> str:
    called = f" of {series.call:g} µs" if series.call else ""
    return f"{series.kind} +{series.extra} %{called}{', busy neighbour' if series.stress else ''}"


def machine() -> Line:
    """What the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "virtual": any("hypervisor" in line for line in cpuinfo),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
        "time": time.time(),
    }


def show_plan(renew_every: int, *, trial: bool) -> None:
    """Print what would be measured, and what that needs."""
    for series in plan(trial=trial):
        print(f"{series.count:4} comparisons  {_describe(series)}, {series.sampling:g} s")
    seconds = sum(series.count * series.seconds for series in plan(trial=trial))
    seconds += RENEWAL * sum(series.count for series in plan(trial=trial) if series.kind == "two") / renew_every
    print(f"\nabout {seconds / 60:.0f} min on an otherwise idle machine with 2 CPUs; 4 GiB of memory, 200 MB of disk")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["plan", "measure", "report"])
    parser.add_argument("--raw", type=Path, default=Path("noise.jsonl"))
    parser.add_argument("--docs", type=Path, default=Path(__file__).parents[1] / "docs")
    parser.add_argument("--trial", action="store_true", help="two short comparisons of each series, to try it out")
    parser.add_argument("--renew-every", type=int, default=20, help="comparisons between two restarts of the processes")
    options = parser.parse_args()
    match options.what:
        case "plan":
            show_plan(options.renew_every, trial=options.trial)
        case "measure":
            measure(options.raw, options.renew_every, trial=options.trial)
        case _:
            write_report(options.raw, options.docs)


if __name__ == "__main__":
    main()
