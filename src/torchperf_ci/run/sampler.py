"""Decide what is sampled when, and when it is enough. Nothing here knows a process: a `PairSource` takes the readings.

Pairs of turns, mostly single iterations, in random order within each pair; warm-up until the ratio is steady; looks at
the interval at an eighth, a quarter, a half and the whole of the time there is (docs/method.md).
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from torchperf_ci.core.statistics import Estimate, paired_ratio

WINDOW = 10
"""Pairs in a warm-up window."""
STEADY = 0.01
"""Two windows' median log ratios may differ by this much when warm."""
WARM_ITERATIONS = 20
WARM_SECONDS = 0.5
WARM_LIMIT = 10.0

SHORTEST = 50e-6
"""Calls under this many seconds are repeated inside a reading, so that the clock's own cost does not show."""
LONGEST_READING = 10e-3

SHORTEST_TURN = 3e-3
"""Where a turn costs time beside its calls, the quicker arm's lasts as many readings as take these seconds. Asking
another process, and its first call, whose data have left the CPU's caches, cost some 0.4 ms
(benchmarks/pytest_wall.py). Longer turns would tell the sides apart less well where the machine changes its speed.
"""
LONGEST_TURN = 25e-3
"""Seconds of a turn with what is set up for its calls, unless it has but one reading: there have to be enough turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The turn of an arm: so many `readings`, each the mean of `repeats` calls, before it is the other arm's turn."""

    repeats: int = 1
    readings: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplePair:
    """One turn of each arm, in seconds a call; `probe` was taken right after. Device times where the device has them.

    values: the suite's own metrics of each of the two, by name.
    """

    first: float
    second: float
    probe: float
    first_device: float | None = None
    second_device: float | None = None
    first_values: Mapping[str, float] = field(default_factory=dict)
    second_values: Mapping[str, float] = field(default_factory=dict)


class PairSource(Protocol):
    """Takes readings of two arms: of one worker, or of two workers driven in turn."""

    def take(self, swapped: Sequence[bool], turn: Turn) -> Sequence[SamplePair]:
        """Take a pair per element, the second arm first where it is true. A source for which a turn costs nothing
        beside its calls may have the arms alternate with every reading: a turn has one then."""

    def invalidated(self) -> bool:
        """Say whether something was compiled again since the last call, so that the pairs since are not valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """When sampling ends: `repeat` pairs exactly, or between `least` pairs and `seconds`, at the precision asked for.

    half_width: of the 95 % interval of the log ratio, at which an early look is satisfied.
    """

    repeat: int | None = None
    least: int = 30
    seconds: float = 4.0
    half_width: float = 0.01

    def satisfied(self, estimate: Estimate) -> bool:
        return estimate.pairs >= self.least and estimate.half_width <= self.half_width


@dataclass(slots=True)
class Sampler:
    """Draws pairs from a source. One per case, so that its order depends on the case's seed alone.

    repeats: calls in a reading, the same for both arms: the first call after the other arm's is slower than the next
        ones, so that arms with other numbers of calls would differ though they are equal. None until warm-up has chosen
        it; a comparison of several launches chooses it once.
    readings: in a turn, likewise. One where a turn costs nothing beside its calls.
    """

    source: PairSource
    rng: random.Random
    clock: Callable[[], float] = time.monotonic
    repeats: int | None = None
    readings: int | None = 1
    _seconds_per_pair: float = field(default=0.01, repr=False)
    _quickest_pair: float = field(default=math.inf, repr=False)

    def warm_up(self, *, iterations: int | None = None) -> int:
        """Run both arms until their ratio is steady, or `iterations` pairs exactly; the number of pairs it took."""
        if iterations is not None:
            if iterations:
                self._choose_turn(self._draw(iterations))
            return iterations
        start, ratios = self.clock(), list[float]()
        while True:
            pairs = self._draw(WINDOW)
            ratios.append(paired_ratio([p.first for p in pairs], [p.second for p in pairs]).ratio)
            spent = self.clock() - start
            enough = len(ratios) * WINDOW >= WARM_ITERATIONS or spent >= 2 * WARM_SECONDS
            steady = len(ratios) > 1 and abs(ratios[-1] / ratios[-2] - 1) <= STEADY
            if spent >= WARM_LIMIT or (enough and steady and not self.source.invalidated()):
                self._choose_turn(pairs)
                return len(ratios) * WINDOW

    def measure(self, rule: StopRule) -> list[SamplePair]:
        """Draw pairs until the rule is satisfied at a look, or its time is over.

        A recompilation starts over, once: what recompiles for ever is measured as it is.
        """
        self.source.invalidated()
        pairs = self._measure(rule)
        return self._measure(rule) if self.source.invalidated() else pairs

    def draw_for(self, seconds: float) -> list[SamplePair]:
        """Draw pairs for so many seconds, at least one."""
        pairs: list[SamplePair] = []
        end = self.clock() + seconds
        while not pairs or self.clock() < end:
            pairs += self._draw(self._batch(end - self.clock()))
        return pairs

    def _measure(self, rule: StopRule) -> list[SamplePair]:
        pairs: list[SamplePair] = []
        if rule.repeat is not None:
            while len(pairs) < rule.repeat:
                pairs += self._draw(min(rule.repeat - len(pairs), self._batch(math.inf)))
            return pairs
        start = self.clock()
        for share in (1 / 8, 1 / 4, 1 / 2, 1.0):
            while (left := start + share * rule.seconds - self.clock()) > 0 or len(pairs) < rule.least * share:
                pairs += self._draw(self._batch(left))
            if rule.satisfied(paired_ratio([p.first for p in pairs], [p.second for p in pairs])):
                break
        if len(pairs) < rule.least:
            pairs += self._draw(rule.least - len(pairs))
        return pairs

    def _batch(self, left: float) -> int:
        """Choose how many pairs to ask for at once: about 50 ms of them, so that looks at the interval come in time."""
        return max(1, min(200, int(min(0.05, max(left, 0.0)) / self._seconds_per_pair)))

    def _draw(self, count: int) -> list[SamplePair]:
        start = self.clock()
        turn = Turn(repeats=self.repeats or 1, readings=self.readings or 1)
        pairs = list(self.source.take([self.rng.random() < 0.5 for _ in range(count)], turn))
        self._seconds_per_pair = max(1e-6, (self.clock() - start) / max(1, count))
        self._quickest_pair = min(self._quickest_pair, self._seconds_per_pair)
        return pairs

    def _choose_turn(self, pairs: Sequence[SamplePair]) -> None:
        """Let a reading of the quicker arm last long enough, and its turn, unless that was chosen before."""
        times = (median(pair.first for pair in pairs), median(pair.second for pair in pairs))
        if self.repeats is None:
            wanted = int(SHORTEST / max(min(times), 1e-9)) + 1 if min(times) < SHORTEST else 1
            self.repeats = max(1, min(wanted, int(LONGEST_READING / max(*times, 1e-9))))
        if self.readings is None:
            longest = max(self.repeats * max(times), self._quickest_pair / 2)  # with what is set up for a call
            wanted = math.ceil(SHORTEST_TURN / max(self.repeats * min(times), 1e-9))
            self.readings = max(1, min(wanted, int(LONGEST_TURN / longest)))
            self._seconds_per_pair = max(self._seconds_per_pair, self.repeats * sum(times)) * self.readings
