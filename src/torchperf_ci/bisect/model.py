"""The parts of a bisection: candidates in their order, what is asked, what was read, and what was found out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torchperf_ci.compare.effects import BETWEEN_FLOOR, Launch, estimate_effect, find_floor
from torchperf_ci.compare.model import ACCURACY, COMPILING, LATENCY, MEMORY, Explanation, Header
from torchperf_ci.compare.verdicts import LEAST_BYTES, average_log_ratios
from torchperf_ci.core.records import INSTRUCTIONS
from torchperf_ci.core.statistics import student_t
from torchperf_ci.core.text import Word

COMMAND = "command"
"""The metric of a command of the user's own: 0 where it passes, 1 where it fails."""

LAUNCHES_PER_STEP = 20
"""Launches of a step that no look decides: parts of a change need more of them than a verdict on all of it."""

WHOLE_ERROR = 0.05
"""The error that a whole search may make; its steps share it."""

NAMES = {
    "latency": LATENCY,
    "memory": MEMORY,
    "peak-memory": MEMORY,
    "compile-time": COMPILING,
    "accuracy": ACCURACY,
}
"""Usual names of metrics that have another one in compare.json."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A commit, or a version of a package.

    key: its whole SHA, or the version. name: the same in short. date: the author's, in ISO 8601.
    parents: keys of what it was made from, as far as those are candidates or the good end. before: the key of its first
    parent, or of the version before it: what it is held against to verify it.
    """

    key: str
    name: str
    subject: str = ""
    author: str = ""
    date: str = ""
    parents: tuple[str, ...] = ()
    before: str = ""


class Scale(Word):
    """The ways in which a metric is read."""

    TIMED = "timed"
    """Launches of paired samples, as many as it takes."""
    ROUNDS = "rounds"
    """One value per launch: the time of compiling."""
    EXACT = "exact"
    """The same every time: one launch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """The question that is asked of every candidate.

    margin: the smallest change that counts, as a ratio less one, or a number where counts are compared. launches: how
    many a step may take.
    """

    metric: str = LATENCY
    margin: float = 0.02
    launches: int = LAUNCHES_PER_STEP

    @property
    def scale(self) -> Scale:
        return {LATENCY: Scale.TIMED, COMPILING: Scale.ROUNDS}.get(self.metric, Scale.EXACT)

    @property
    def is_ratio(self) -> bool:
        """Say whether changes are logarithms of ratios; else they are differences."""
        return self.metric in {LATENCY, COMPILING, MEMORY, *INSTRUCTIONS}

    @property
    def is_yes_or_no(self) -> bool:
        return self.metric in {ACCURACY, COMMAND}

    @property
    def least(self) -> float:
        """The margin in the unit of levels."""
        return math.log1p(self.margin) if self.is_ratio else self.margin

    def list_looks(self) -> list[int]:
        """List after how many launches a step is looked at: twice as many each time."""
        if self.scale is Scale.EXACT:
            return [1]
        looks = [min(2, self.launches)]
        while looks[-1] < self.launches:
            looks.append(min(2 * looks[-1], self.launches))
        return looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of measuring a candidate (head) against another one (base).

    is_check: it verifies a culprit, apart from those that led to it. launches: their times. values: exact ones,
    or seconds of compiling, one per launch; base's first. words: what there is to say about either value.
    is_same: both were proved to be the same program, so that a short check was all. unusable: why the candidate cannot
    be judged; blank when it can. seconds: what all of it took.
    """

    candidate: str
    against: str
    is_check: bool = False
    launches: tuple[Launch, ...] = ()
    between: float = BETWEEN_FLOOR
    values: tuple[tuple[float, float], ...] = ()
    words: tuple[str, str] = ("", "")
    is_same: bool = False
    unusable: str = ""
    seconds: float = 0.0

    @property
    def size(self) -> int:
        """Count its launches."""
        return max(len(self.launches), len(self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The distance of a candidate from another one: a difference, or the log of a ratio, with its standard error."""

    value: float
    error: float = 0.0
    freedom: float = 1.0

    def interval(self, error: float) -> tuple[float, float]:
        """Return the interval each of whose ends is wrong with this probability."""
        half = student_t(1 - error, self.freedom) * self.error if self.error > 0 else 0.0
        return self.value - half, self.value + half

    def times(self, sign: float) -> Level:
        return Level(value=sign * self.value, error=self.error, freedom=self.freedom)

    def less(self, other: Level) -> Level:
        """Subtract a level that was measured apart; degrees of freedom after Welch and Satterthwaite."""
        squares = [self.error**2, other.error**2]
        doubt = squares[0] ** 2 / self.freedom + squares[1] ** 2 / other.freedom
        return Level(
            value=self.value - other.value,
            error=math.sqrt(sum(squares)),
            freedom=sum(squares) ** 2 / doubt if doubt > 0 else 1.0,
        )


def estimate_level(rounds: Sequence[Round], question: Question) -> Level | None:
    """Estimate the level of a candidate from all rounds of measuring it; None when there is too little."""
    if any(one.is_same for one in rounds):
        return Level(value=0.0)
    values = [pair for one in rounds for pair in one.values]
    match question.scale:
        case Scale.TIMED:
            launches = [launch for one in rounds for launch in one.launches]
            between = max((one.between for one in rounds), default=BETWEEN_FLOOR)
            effect = estimate_effect(launches, between=find_floor(launches, between))
            if effect is None:
                return None
            return Level(value=math.log(effect.ratio), error=effect.error, freedom=effect.freedom)
        case Scale.ROUNDS:
            pairs = [(base, head) for base, head in values if base > 0 and head > 0]
            if len(pairs) < 2:
                return None
            center, variance, freedom = average_log_ratios(pairs)
            return Level(value=center, error=math.sqrt(variance), freedom=float(freedom))
        case Scale.EXACT:
            return _exact_level(values, question)


def _exact_level(values: Sequence[tuple[float, float]], question: Question) -> Level | None:
    if not values:
        return None
    base, head = values[-1]
    if not question.is_ratio:
        return Level(value=head - base)
    if not base or not head:
        return None
    is_little = question.metric == MEMORY and abs(head - base) < LEAST_BYTES
    return Level(value=0.0 if is_little else math.log(head / base))


class StepAnswer(Word):
    """The results of a step."""

    DIFFERS = "differs"
    """The ends are not the same."""
    SAME = "same"
    """The ends differ by less than the margin."""
    GOOD = "good"
    BAD = "bad"
    BETWEEN = "between"
    """Neither like the good end nor like the bad one: a part of the change came before it, a part after it."""
    CONFIRMED = "confirmed"
    """The culprit differs from its parent as it should."""
    REFUTED = "refuted"
    OPEN = "open"
    """Not decided by as many launches as it may take."""
    SKIPPED = "skipped"
    """It cannot be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A candidate that was held against another one.

    low, high: the interval that decided. base, head: the values of both, where they are exact. left: how many commits
    may still have made the change afterwards. launches, seconds: what it took. why: what else there is to say.
    """

    candidate: Candidate
    against: Candidate
    answer: StepAnswer
    value: float | None = None
    low: float | None = None
    high: float | None = None
    base: float | None = None
    head: float | None = None
    left: int | None = None
    launches: int = 0
    seconds: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Culprit:
    """A candidate that made the change, or a part of it.

    step: it against its parent; its answer says whether that confirms it. share: of the whole change. diffstat: the
    files that it changed, in git's words. explanation: why it made the change; None where nobody looked.
    """

    candidate: Candidate
    step: Step
    share: float
    diffstat: str = ""
    explanation: Explanation | None = None


class Outcome(Word):
    """The ways in which a bisection ends."""

    FOUND = "found"
    RANGE = "range"
    """Commits that cannot be measured stand in the way: it is one of several."""
    REFUTED = "refuted"
    """The commit that steps led to does not differ from its parent."""
    SAME = "same"
    """The ends do not differ."""
    OPEN = "open"
    """The ends may differ or not, or a step stayed open."""
    OUT_OF_TIME = "out of time"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The state of a bisection, or its end.

    whole: the step that holds the bad end against the good one. suspects: the candidates one of which made the change,
    oldest first, as far as that is known. culprits: the largest part first. unsearched: parts of the change, as shares,
    whose commits were not looked for or not found.
    """

    outcome: Outcome
    whole: Step | None = None
    steps: tuple[Step, ...] = ()
    suspects: tuple[Candidate, ...] = ()
    culprits: tuple[Culprit, ...] = ()
    unsearched: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectFindings:
    """Everything a report of a bisection is made of.

    subject: the case, or the command. count: the commits, or versions, that may have made the change. kind: `commit` or
    `version`. header: the ends, the place and the method, as a comparison of the ends has them.
    """

    question: Question
    subject: str
    good: Candidate
    bad: Candidate
    count: int
    progress: Progress
    header: Header
    kind: str = "commit"
