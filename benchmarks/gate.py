"""The gate of the dashboard: how often it opens what is no change, how soon what is one, and how long it takes.

    python benchmarks/gate.py            # a few minutes
    python benchmarks/gate.py --quick    # some 20 seconds, rougher

Every series has 60 nights. `opened`: states that became open though nothing changed, per 1,000 series and nights.
`again`: the same where a value that is off is measured a second time in its night. The other columns are steps of 5, 10
and 30 % in the 30th night: in how many of 100 series it is open within 10 nights, and after how many (median; 1 is the
night after its first). The last line is the CPU time of judging 300 cases with 1,000 runs each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from statistics import median

import numpy as np

from torchperf_ci.core.records import METRICS, Case, Mode
from torchperf_ci.dashboard.levels import Levels, follow_levels
from torchperf_ci.dashboard.states import MARGINS, judge
from torchperf_ci.history.series import STATUS_METRICS, Point, RunInfo, Series

NIGHTS, STEP_AT, SOON = 60, 30, 10

Noise = Callable[[np.random.Generator, int], np.ndarray]


def gauss(spread: float) -> Noise:
    return lambda chance, runs: chance.normal(0, spread, runs)


def heavy_tails(spread: float) -> Noise:
    return lambda chance, runs: chance.standard_t(3, runs) * spread / np.sqrt(3)


def spikes(spread: float) -> Noise:
    """One run of twenty is 30 % off."""
    return lambda chance, runs: gauss(spread)(chance, runs) + (chance.random(runs) < 0.05) * np.log(1.3)


def drifting(spread: float) -> Noise:
    """Every run is half like the one before."""

    def draw(chance: np.random.Generator, runs: int) -> np.ndarray:
        values = np.zeros(runs)
        for at, step in enumerate(chance.normal(0, spread * np.sqrt(0.75), runs)):
            values[at] = step + (values[at - 1] / 2 if at else 0.0)
        return values

    return draw


def follow(values: np.ndarray, seconds: np.ndarray) -> Levels:
    """Follow the values, and measure each that is off once more, with the noise of `seconds` in place of its own."""
    known: list[float] = []
    for value, second in zip(values, seconds, strict=True):
        known.append(float(value))
        if follow_levels(known, margin=MARGINS["speedup"]).off is not None:
            known.append(float(second))
    return follow_levels(known, margin=MARGINS["speedup"])


def rate_false(noise: Noise, series: int) -> tuple[float, float]:
    chance = np.random.default_rng(1)
    opened = again = 0
    for number in range(series):
        values = noise(chance, NIGHTS)
        opened += sum(shift.is_worse for shift in follow_levels(values, margin=MARGINS["speedup"]).shifts)
        if number % 5 == 0:
            again += 5 * sum(shift.is_worse for shift in follow(values, noise(chance, NIGHTS)).shifts)
    return 1000 * opened / (series * NIGHTS), 1000 * again / (series * NIGHTS)


def measure_delay(noise: Noise, step: float, series: int) -> tuple[float, float]:
    """Return the share that is open soon, and the median of nights until then."""
    chance = np.random.default_rng(2)
    delays = []
    for _ in range(series):
        values = noise(chance, NIGHTS)
        values[STEP_AT:] += np.log1p(step)
        shifts = follow_levels(values, margin=MARGINS["speedup"]).shifts
        shown = [shift.shown - STEP_AT for shift in shifts if shift.is_worse and shift.shown >= STEP_AT]
        delays.append(min(shown, default=NIGHTS))
    soon = [delay for delay in delays if delay <= SOON]
    return len(soon) / series, median(soon) if soon else float("nan")


def time_judging(cases: int, runs: int) -> float:
    chance = np.random.default_rng(3)
    first = datetime(2026, 1, 1, tzinfo=timezone.utc)
    nights = [RunInfo(key=str(number), time=first + timedelta(days=number)) for number in range(runs)]
    series = []
    for number in range(cases):
        case = Case(suite="s", model=f"m{number}", mode=Mode.TRAINING, device="cpu", dtype="amp", compiler="inductor")
        for name, spread in (("speedup", 0.01), ("abs_latency", 0.03), ("compilation_latency", 0.05)):
            values = np.exp(chance.normal(0, spread, runs))
            values[runs // 2 :] *= 1.1 if number % 10 == 0 else 1.0
            points = tuple(Point(run=run, value=float(value)) for run, value in zip(nights, values, strict=True))
            series.append(Series(case=case, metric=METRICS[name], points=points))
        passing = tuple(Point(run=run, value=1.0) for run in nights)
        series += [Series(case=case, metric=metric, points=passing) for metric in STATUS_METRICS.values()]
    started = time.process_time()
    judge(series)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args(sys.argv[1:]).quick
    quiet, steps, cases = (200, 40, 30) if quick else (2_000, 200, 300)
    print("noise        spread  opened  again    +5 %       +10 %      +30 %")
    for name, make in (("normal", gauss), ("heavy tails", heavy_tails), ("spikes", spikes), ("drifting", drifting)):
        for spread in (0.005, 0.01, 0.02, 0.05):
            noise = make(spread)
            opened, again = rate_false(noise, quiet)
            found = [measure_delay(noise, step, steps) for step in (0.05, 0.10, 0.30)]
            cells = "  ".join(f"{share:4.0%} {nights:4.1f}" for share, nights in found)
            print(f"{name:12} {spread:6.1%}  {opened:6.2f}  {again:5.2f}  {cells}", flush=True)
    print(f"judging {cases} cases with 1,000 runs each: {time_judging(cases, 1000):.1f} s")


if __name__ == "__main__":
    main()
