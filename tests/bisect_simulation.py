"""A measurer that measures nothing: candidates of known levels, with the noise that launches and iterations have."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torchperf_ci.bisect.model import Candidate, Round
from torchperf_ci.compare.effects import Launch

PAIRS = 60


@dataclass(kw_only=True)
class Simulation:
    """`levels` are ratios over the first candidate. Launches of equal code differ by 0.7 % (SD), and neighbouring
    iterations resemble each other. `broken` cannot be measured; `taken` is the log of what was asked for."""

    levels: Mapping[str, float]
    seed: int
    broken: Mapping[str, str] = field(default_factory=dict)
    between: float = 0.007
    within: float = 0.02
    taken: list[tuple[str, str, int]] = field(default_factory=list)

    def take(self, candidate: str, against: str, *, launches: int, is_check: bool, attempt: int) -> Round:
        self.taken.append((candidate, against, launches))
        if why := self.broken.get(candidate) or self.broken.get(against):
            return Round(candidate=candidate, against=against, is_check=is_check, unusable=why)
        rng = random.Random(f"{self.seed} {candidate} {against} {is_check} {attempt}")
        ratio = self.levels[candidate] / self.levels[against]
        return Round(
            candidate=candidate,
            against=against,
            is_check=is_check,
            launches=tuple(self._launch(ratio, rng) for _ in range(launches)),
        )

    def _launch(self, ratio: float, rng: random.Random) -> Launch:
        own, drift, base, head = rng.gauss(0, self.between), 0.0, [], []
        for _ in range(PAIRS):
            drift = 0.6 * drift + 0.8 * rng.gauss(0, self.within)
            base.append(0.004)
            head.append(0.004 * ratio * math.exp(own + drift))
        return Launch(base=tuple(base), head=tuple(head))


def chain(count: int) -> tuple[Candidate, list[Candidate]]:
    """A good candidate `0`, and `1` to `count` after it, one after the other."""
    line = [
        Candidate(key=str(i), name=f"c{i}", parents=(str(i - 1),) if i else (), before=str(i - 1) if i else "")
        for i in range(count + 1)
    ]
    return line[0], line[1:]


def graph(parents: Mapping[str, Sequence[str]]) -> list[Candidate]:
    """Candidates with their parents, in the order they are given."""
    return [
        Candidate(key=key, name=key, parents=tuple(before), before=before[0] if before else "")
        for key, before in parents.items()
    ]
