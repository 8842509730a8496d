"""How often lasting changes are told where there are none, and how often those that are there are found.

    python benchmarks/change_points.py

Every line is a kind of noise of 2 % and a number of runs: the share of series without any change in which one is told,
and the share of steps of 4 % and 10 %, in the middle and three runs before the end, that are found at their run or
beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from torchperf_ci.dashboard.levels import find_levels

SPREAD = 0.02
QUIET, STEPS = 3_000, 300

Noise = Callable[[np.random.Generator, int], np.ndarray]


def gauss(chance: np.random.Generator, runs: int) -> np.ndarray:
    return chance.normal(0, SPREAD, runs)


def heavy_tails(chance: np.random.Generator, runs: int) -> np.ndarray:
    return chance.standard_t(3, runs) * SPREAD / np.sqrt(3)


def drifting(chance: np.random.Generator, runs: int) -> np.ndarray:
    """Every run is half like the one before."""
    values = np.zeros(runs)
    for at, step in enumerate(chance.normal(0, SPREAD * np.sqrt(0.75), runs)):
        values[at] = step + (values[at - 1] / 2 if at else 0.0)
    return values


def spikes(chance: np.random.Generator, runs: int) -> np.ndarray:
    """One run of ten is 40 % off."""
    return gauss(chance, runs) + (chance.random(runs) < 0.1) * np.log(1.4)


def two_states(chance: np.random.Generator, runs: int) -> np.ndarray:
    """Three runs of ten are 20 % off."""
    return gauss(chance, runs) + (chance.random(runs) < 0.3) * np.log(1.2)


def told(noise: Noise, runs: int) -> float:
    chance = np.random.default_rng(1)
    return sum(bool(find_levels(noise(chance, runs))) for _ in range(QUIET)) / QUIET


def found(noise: Noise, runs: int, *, step: float, at: int) -> float:
    chance = np.random.default_rng(2)
    hits = 0
    for _ in range(STEPS):
        values = noise(chance, runs)
        values[at:] += np.log1p(step)
        hits += any(abs(place - at) <= 1 for place in find_levels(values))
    return hits / STEPS


def main() -> None:
    print("noise         runs  told   4 % middle  4 % last 3  10 % middle  10 % last 3")
    for noise in (gauss, heavy_tails, drifting, spikes, two_states):
        for runs in (10, 20, 50):
            shares = [found(noise, runs, step=step, at=at) for step in (0.04, 0.1) for at in (runs // 2, runs - 3)]
            cells = "".join(f"{share:12.0%}" for share in shares)
            print(f"{noise.__name__:12}  {runs:4}  {told(noise, runs):6.2%}{cells}", flush=True)


if __name__ == "__main__":
    main()
