"""How large a change of which metric of which case counts: the defaults, and the rules of a project's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torchperf_ci.compare.effects import TWO_PROCESSES, Tolerance
from torchperf_ci.core.records import Case

LATENCY = "abs_latency"
SPEEDUP = "speedup"
MEMORY = "dynamo_peak_mem"
COMPILING = "compilation_latency"
ACCURACY = "accuracy"
PROCESS = "dynamo_process_mem"
GRAPHS = "unique_graphs"
COUNTED = ("graph_breaks", GRAPHS, "recompiles")

LEAST = {
    SPEEDUP: Tolerance(margin=0.05, threshold=0.10),
    LATENCY: Tolerance(margin=0.10, threshold=0.25),
}
"""The least a difference between runs of different days has to be. Speedups differ by 1.1
to 1.6 % (SD) between moments of a shared machine, times by 2.6 to 23.5 %."""

ALL = (LATENCY, SPEEDUP, MEMORY, COMPILING, *COUNTED)
"""Every metric a rule may speak of."""

LEAST_BYTES = 64 * 1024
"""A difference in memory below this is none, whatever share of a small model's memory it is."""

_MEMORY = Tolerance(margin=0.01, threshold=0.01)
"""What an iteration needs is the same every time, but for how an allocator rounds."""
_COMPILING = Tolerance(margin=0.10, threshold=0.25)
_EXACT = Tolerance(margin=0.0, threshold=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A margin, a threshold or both for the metrics and cases whose names fit the patterns of shell wildcards.

    case: is held against `suite/model` and against the whole name, `suite/model compiler mode dtype device`.
    """

    case: str = "*"
    metric: str = LATENCY
    margin: float | None = None
    threshold: float | None = None

    def fits(self, case: Case, metric: str) -> bool:
        names = (f"{case.suite}/{case.model}", str(case))
        return fnmatchcase(metric, self.metric) and any(fnmatchcase(name, self.case) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """`latency`: that of times where no rule says otherwise. `rules`: later ones win over earlier ones."""

    latency: Tolerance = TWO_PROCESSES
    rules: Sequence[Rule] = ()

    def of(self, case: Case, metric: str) -> Tolerance:
        """The tolerance of one metric of one case. A threshold is never below its margin."""
        usual = self._usual(metric)
        margin, threshold = usual.margin, usual.threshold
        for rule in self.rules:
            if rule.fits(case, metric):
                margin = margin if rule.margin is None else rule.margin
                threshold = threshold if rule.threshold is None else rule.threshold
        return Tolerance(margin=margin, threshold=max(margin, threshold))

    def _usual(self, metric: str) -> Tolerance:
        if metric == MEMORY:
            return _MEMORY
        if metric == COMPILING:
            return _COMPILING
        return _EXACT if metric in COUNTED else self.latency


def at_least(asked: Tolerance, metric: str) -> Tolerance:
    """What was asked for, or what runs of different days need, whichever is more."""
    least = LEAST.get(metric, asked)
    return Tolerance(margin=max(asked.margin, least.margin), threshold=max(asked.threshold, least.threshold))
