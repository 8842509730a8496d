"""The state of every metric of every case over the whole history: one notion for gate, comment and site."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from torchperf_ci.core.records import Case, Metric
from torchperf_ci.history.acceptances import Acceptance
from torchperf_ci.history.series import RunInfo


class State(str, Enum):
    """The states of a metric of a case, the most urgent first."""

    FAILING = "failing"
    CHANGED = "changed"
    """It is worse since a run, which more runs or a second measurement confirmed: open until it is back or accepted."""
    DROPPED = "dropped"
    """Its newest result alone is worse, by more than noise: a second measurement says whether it is so."""
    GONE = "gone"
    NEW = "new"
    UNJUDGED = "unjudged"
    """Too few runs, or too few on this machine."""
    ACCEPTED = "accepted"
    """It is worse since a run, and somebody said that it may be."""
    SKIPPED = "skipped"
    FINE = "fine"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """A lasting change of a level, between two neighbouring runs that have the metric.

    last_good, first_new: these runs: their commits are the range in which it changed.
    opened: the run that showed it, on the same day or later. closed: the run that showed that it is back, or None.
    old, new: the levels, in the metric's unit. acceptance: who said that it may be, or None.
    """

    last_good: RunInfo
    first_new: RunInfo
    opened: RunInfo
    closed: RunInfo | None = None
    old: float
    new: float
    is_worse: bool
    acceptance: Acceptance | None = None

    @property
    def is_open(self) -> bool:
        return self.is_worse and self.closed is None and self.acceptance is None

    @property
    def change(self) -> float | None:
        """Relative: 0.04 for 4 % more; None from zero."""
        return self.new / self.old - 1 if self.old else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesState:
    """The state of one metric of one case after the newest run of its history.

    since: the first bad run (of a change, a failure, a drop) or None. last_good: the run before that has the metric.
    known_since: the run that showed it: it is news in that run.
    old, new: levels in the metric's unit, where it changed; of a metric that is fine, `new` is its level.
    runs: how many runs have the case since then, the first bad one counted.
    reason: why it fails, or cannot be judged.
    newest: the newest run that has the case. changes: every change of level that the history shows, oldest first.
    """

    case: Case
    metric: Metric
    state: State
    newest: RunInfo
    since: RunInfo | None = None
    last_good: RunInfo | None = None
    known_since: RunInfo | None = None
    old: float | None = None
    new: float | None = None
    runs: int = 0
    reason: str = ""
    log: str = ""
    acceptance: Acceptance | None = None
    changes: tuple[LevelChange, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether somebody has to look at it: it fails, or is worse and not accepted."""
        return self.state in {State.FAILING, State.CHANGED}

    @property
    def change(self) -> float | None:
        """Relative: 0.04 for 4 % more; None where no level changed, or from zero."""
        return self.new / self.old - 1 if self.old and self.new is not None else None
