"""Search among candidates for the one to try next, and decide by its level on which side of the change it lies."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from torchperf_ci.bisect.model import WHOLE_ERROR, Candidate, Level, Question, StepAnswer


class Ancestry:
    """Candidates, oldest first, with what each is made of: itself and all before it that lead to it.

    Parents that are not among the candidates are no suspects: they are of the good end.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = {candidate.key: candidate for candidate in candidates}
        self._place = {candidate.key: place for place, candidate in enumerate(candidates)}
        self._sets: dict[str, int] = {}  # a bit per candidate: histories have thousands
        for candidate in candidates:
            own = 1 << self._place[candidate.key]
            for parent in candidate.parents:
                own |= self._sets.get(parent, 0)
            self._sets[candidate.key] = own

    def suspects_between(self, good: str, bad: str) -> int:
        """Return the set of what is in the bad one and not in the good one."""
        return self._sets[bad] & ~self._sets.get(good, 0)

    def keep_before(self, suspects: int, bad: str) -> int:
        """Narrow a set down to what a bad candidate is made of."""
        return suspects & self._sets[bad]

    def drop_before(self, suspects: int, good: str) -> int:
        """Narrow a set down to what is not in a good candidate."""
        return suspects & ~self._sets[good]

    def list_keys(self, suspects: int) -> list[str]:
        return [key for key, place in self._place.items() if suspects >> place & 1]

    def choose(self, suspects: int, bad: str, skipped: Collection[str], *, misses: int = 0) -> str | None:
        """Choose the candidate that halves the suspects best, whatever it turns out to be; None when none is left.

        misses: how many were skipped one after the other. What breaks one commit often breaks its neighbours, so each
        doubles how far the next choice lies from the best one.
        """
        total = suspects.bit_count()
        eligible = [key for key in self.list_keys(suspects) if key != bad and key not in skipped]

        def balance(key: str) -> int:
            before = (self._sets[key] & suspects).bit_count()
            return min(before, total - before)

        eligible.sort(key=lambda key: (-balance(key), self._place[key]))
        return eligible[min(2**misses - 1, len(eligible) - 1)] if eligible else None


def estimate_steps(count: int) -> int:
    """Estimate how many steps so many suspects take: the ends, the halvings, and the culprit against its parent."""
    return math.ceil(math.log2(max(1, count))) + 2


def share_error(count: int, question: Question) -> list[float]:
    """Share the error of a search among its steps, and that of a step among its looks, the last one having most."""
    step = WHOLE_ERROR / estimate_steps(count)
    looks = len(question.list_looks())
    shares = [1 / 2 ** min(looks - place, looks - 1) for place in range(looks)] if looks > 1 else [1.0]
    return [step * share for share in shares]


def judge_ends(level: Level, *, question: Question, error: float) -> StepAnswer:
    """Judge whether the ends differ: by more than the margin, and known to within half of it.

    Then what lies halfway between the ends is surely beyond the one and short of the other. Ends whose whole interval
    lies within the margin are the same.
    """
    low, high = level.interval(error / 2)
    if abs(level.value) > question.least and (low > level.value / 2 if level.value > 0 else high < level.value / 2):
        return StepAnswer.DIFFERS
    if -question.least <= low and high <= question.least:
        return StepAnswer.SAME
    return StepAnswer.OPEN


def judge_candidate(level: Level, *, floor: float, ceiling: float, error: float) -> StepAnswer:
    """Judge on which side of the middle between two levels a candidate lies, or that it surely is neither of them."""
    low, high = level.interval(error)
    middle = (floor + ceiling) / 2
    if low > middle:
        return StepAnswer.BAD
    if high < middle:
        return StepAnswer.GOOD
    return StepAnswer.BETWEEN if low > floor and high < ceiling else StepAnswer.OPEN


def judge_culprit(level: Level, *, expected: float, error: float) -> StepAnswer:
    """Judge whether a culprit differs from its parent: by more, or by less, than half of what the steps said."""
    low, high = level.interval(error)
    if low > expected / 2:
        return StepAnswer.CONFIRMED
    return StepAnswer.REFUTED if high < expected / 2 else StepAnswer.OPEN
