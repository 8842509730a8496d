"""A bisection under way: hold the ends against each other, halve, verify the culprit, look for the rest.

The search says which candidate is tried next, and by its level on which side of the change it lies. Rounds are kept on
disk, so that a bisection that was ended goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from torchperf_ci.bisect.model import (
    WHOLE_ERROR,
    Candidate,
    Culprit,
    Level,
    Outcome,
    Progress,
    Question,
    Round,
    Scale,
    Step,
    StepAnswer,
    estimate_level,
)
from torchperf_ci.compare.model import ACCURACY
from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import RecordProblem, decode_line, encode_line
from torchperf_ci.core.results import ROUNDS, ResultsFolder, read_lines


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


SMALLEST_PART = 0.15
"""The share of a noisy change that is still looked for after its largest part was found."""


class Judge(Protocol):
    """Decides by a level, each end of whose interval may be wrong with probability `error`."""

    def __call__(self, level: Level, *, error: float) -> StepAnswer: ...


class Measurer(Protocol):
    """Measures a candidate (head) against another one (base): live, or in a simulation."""

    def take(self, candidate: str, against: str, *, launches: int, is_check: bool, attempt: int) -> Round:
        """Take a round of so many launches; the attempt counts the rounds of this pair before it."""


def sorted_bounds(step: Step, sign: float) -> tuple[float, float, float]:
    """Return the level of a step and the ends of its interval, the lower one first, with the sign of the change."""
    assert step.value is not None
    assert step.low is not None
    assert step.high is not None
    low, high = sorted((sign * step.low, sign * step.high))
    return sign * step.value, low, high


class OutOfTime(Exception):
    """The budget is spent."""


class Bisection:
    """A search for what made the change between two candidates.

    candidates: oldest first, the bad one last; the good one is not among them. rounds: those of an earlier run that
    was ended. `progress` tells at any moment how far it has come.
    """

    def __init__(
        self,
        good: Candidate,
        candidates: Sequence[Candidate],
        question: Question,
        measurer: Measurer,
        *,
        rounds: Iterable[Round] = (),
        note: Callable[[Round], None] = lambda _: None,
        tell: Callable[[Step], None] = lambda _: None,
        deadline: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._good, self._bad, self._question, self._measurer = good, candidates[-1], question, measurer
        self._ancestry = Ancestry(candidates)
        self._known = {candidate.key: candidate for candidate in (good, *candidates)}
        self._note, self._tell, self._deadline, self._clock = note, tell, deadline, clock
        self._rounds: dict[tuple[str, str, bool], list[Round]] = {}
        for earlier in rounds:
            self._pool(earlier.candidate, earlier.against, is_check=earlier.is_check).append(earlier)
        self._steps: list[Step] = []
        self._culprits: list[Culprit] = []
        self._waiting: list[tuple[float, str, str]] = []
        self._unsearched: list[float] = []
        self._suspects = self._ancestry.suspects_between(good.key, self._bad.key)
        self._whole: Step | None = None
        self._change = 0.0
        self._failure = ""
        self._outcome = Outcome.INTERRUPTED

    @property
    def progress(self) -> Progress:
        parts = (*self._unsearched, *(part for part, *_ in self._waiting))
        is_found = self._outcome is Outcome.FOUND
        culprits = [each for each in self._culprits if not is_found or each.step.answer is StepAnswer.CONFIRMED]
        return Progress(
            outcome=self._outcome,
            whole=self._whole,
            steps=tuple(self._steps),
            suspects=tuple(self._known[key] for key in self._ancestry.list_keys(self._suspects)),
            culprits=tuple(sorted(culprits, key=lambda culprit: -culprit.share)),
            unsearched=tuple(part / abs(self._change) for part in parts),
        )

    def run(self) -> Progress:
        """Search until all is found, decided or spent."""
        try:
            self._outcome = self._find_first()
            while self._waiting:
                self._find_another()
        except OutOfTime:
            if self._outcome is Outcome.INTERRUPTED:
                self._outcome = Outcome.OUT_OF_TIME
        if any(culprit.step.answer is StepAnswer.CONFIRMED for culprit in self._culprits):
            self._outcome = Outcome.FOUND
        return self.progress

    def _find_first(self) -> Outcome:
        """Find where the largest part of the change, or all of it, was made."""
        good, bad = self._good.key, self._bad.key
        self._whole = self._hold_ends(good, bad, self._question)
        if self._whole.answer is not StepAnswer.DIFFERS or self._whole.value is None:
            return Outcome.SAME if self._whole.answer is StepAnswer.SAME else Outcome.OPEN
        self._change = self._whole.value
        if self._whole.head is not None:
            self._failure = self._pool(bad, good)[-1].words[self._change > 0]
        suspects = self._search(good, bad, is_first=True)
        if len(suspects) > 1:
            return Outcome.RANGE
        answer = self._verify(suspects[0], good, bad)
        return Outcome.REFUTED if answer is StepAnswer.REFUTED else Outcome.OPEN

    def _find_another(self) -> None:
        """Find where the largest part that is left was made, if it is really there."""
        self._waiting.sort()
        part, good, bad = self._waiting[-1]
        margin = min(self._question.least, SMALLEST_PART * abs(self._change))
        question = replace(self._question, margin=math.expm1(margin) if self._question.is_ratio else margin)
        ends = self._hold_ends(good, bad, question)
        is_found = False
        if ends.answer is StepAnswer.DIFFERS and len(suspects := self._search(good, bad)) == 1:
            is_found = self._verify(suspects[0], good, bad) is StepAnswer.CONFIRMED
        self._waiting.remove((part, good, bad))
        if not is_found and ends.answer is not StepAnswer.SAME:
            self._unsearched.append(part)

    def _hold_ends(self, good: str, bad: str, question: Question) -> Step:
        errors = share_error(self._ancestry.suspects_between(good, bad).bit_count(), question)
        return self._record(self._measure_until(bad, good, partial(judge_ends, question=question), errors))

    def _search(self, good: str, bad: str, *, is_first: bool = False) -> list[str]:
        """Halve what lies between two ends, until one is left or the others cannot be measured; return what is left.

        floor, ceiling: the levels of the ends of what is left. They move with candidates that surely lie between them,
        so that of a change in two equal steps one is found, and not a place anywhere between the two.
        """
        ancestry = self._ancestry
        suspects = ancestry.suspects_between(good, bad)
        errors = share_error(suspects.bit_count(), self._question)
        whole = self._level_of(bad, good).value
        sign, floor, ceiling = math.copysign(1, whole), 0.0, abs(whole)
        skipped: set[str] = set()
        misses = 0
        while (key := ancestry.choose(suspects, bad, skipped, misses=misses)) is not None:
            judge = partial(judge_candidate, floor=floor, ceiling=ceiling)
            step = self._measure_until(key, good, judge, errors, sign=sign)
            if step.answer in {StepAnswer.SKIPPED, StepAnswer.OPEN}:
                skipped.add(key)
                misses += 1
            else:
                misses = 0
                value, low, high = sorted_bounds(step, sign)
                is_bad = step.answer is StepAnswer.BAD
                if step.answer is StepAnswer.BETWEEN:  # the larger part of the change is on this side of it
                    is_bad = value - floor >= ceiling - value
                if is_bad:
                    bad, suspects = key, ancestry.keep_before(suspects, key)
                    ceiling = value if high < ceiling else ceiling
                else:
                    suspects = ancestry.drop_before(suspects, key)
                    floor = value if low > floor else floor
            if is_first:
                self._suspects = suspects
            self._record(replace(step, left=suspects.bit_count()))
        return ancestry.list_keys(suspects)

    def _verify(self, culprit: str, good: str, bad: str) -> StepAnswer:
        """Hold a culprit against its parent, and put the parts of the change before and after it on the list."""
        candidate = self._known[culprit]
        parent = candidate.before or good
        listed = candidate.parents[0] if candidate.parents else good  # another one where only some paths count
        self._known.setdefault(parent, Candidate(key=parent, name=parent[:12]))
        before, after, whole = (self._level_of(key, good) for key in (listed, culprit, bad))
        sign = math.copysign(1, whole.value)
        expected = max(sign * (after.value - before.value), SMALLEST_PART * abs(whole.value))
        is_check = self._question.scale is not Scale.EXACT  # what is the same every time need not be seen twice
        step = self._measure_until(
            culprit,
            parent,
            partial(judge_culprit, expected=expected),
            share_error(1, self._question),
            sign=sign,
            is_check=is_check,
        )
        self._record(step)
        is_part = step.value is not None and sorted_bounds(step, sign)[2] < abs(whole.value)
        if step.answer is not StepAnswer.REFUTED:
            self._culprits.append(Culprit(candidate=candidate, step=step, share=(step.value or 0.0) / self._change))
        if listed in self._ancestry.candidates:
            self._list_part(before.times(sign), good, listed, is_part=is_part)
        if culprit != bad:
            self._list_part(whole.less(after).times(sign), culprit, bad, is_part=is_part)
        return step.answer

    def _list_part(self, level: Level, start: str, end: str, *, is_part: bool) -> None:
        """Put a part of the change on the list, if there is one. is_part: the culprit surely has not made all of it."""
        is_noisy = self._question.scale is not Scale.EXACT
        least = SMALLEST_PART * abs(self._change) if is_noisy else 0.0
        is_there = level.interval(WHOLE_ERROR / 2)[0] > 0
        if level.value > least and (is_there or is_part):
            self._waiting.append((level.value, start, end))

    def _level_of(self, key: str, good: str) -> Level:
        """Return the level of a candidate over the good end; that of what was not measured, since it is good, is 0."""
        rounds = self._rounds.get((key, good, False), [])
        return estimate_level(rounds, self._question) or Level(value=0.0)

    def _measure_until(
        self,
        key: str,
        against: str,
        judge: Judge,
        errors: Sequence[float],
        *,
        sign: float = 1.0,
        is_check: bool = False,
    ) -> Step:
        """Measure a candidate against another one in more and more launches, until a look decides.

        sign: that of the change, which makes its level positive for the judge.
        """
        pool = self._pool(key, against, is_check=is_check)
        step = Step(candidate=self._known[key], against=self._known[against], answer=StepAnswer.OPEN)
        for launches, error in zip(self._question.list_looks(), errors, strict=True):
            have = sum(each.size for each in pool)
            if have > launches:  # an earlier run has come further
                continue
            if have < launches and not any(each.unusable for each in pool):
                if self._clock() >= self._deadline:
                    raise OutOfTime
                taken = self._measurer.take(
                    key, against, launches=launches - have, is_check=is_check, attempt=len(pool)
                )
                pool.append(taken)
                self._note(taken)
            step = replace(
                step,
                launches=sum(each.size for each in pool),
                seconds=sum(each.seconds for each in pool),
            )
            if why := self._find_obstacle(pool[-1]):
                return replace(step, answer=StepAnswer.SKIPPED, why=why)
            level = estimate_level(pool, self._question)
            if level is None:
                continue
            low, high = level.interval(error)
            step = replace(step, answer=judge(level.times(sign), error=error), value=level.value, low=low, high=high)
            if pool[-1].is_same:
                step = replace(step, why="the same program on both sides")
            if self._question.scale is Scale.EXACT:
                base, head = pool[-1].values[-1]
                step = replace(step, base=base, head=head, why=" → ".join(filter(None, pool[-1].words)))
            if step.answer is not StepAnswer.OPEN:
                break
        return step

    def _find_obstacle(self, taken: Round) -> str:
        """Say why a round tells nothing of the change. What fails in another way than the bad end does has another
        reason, and hides whether the one that is looked for is there."""
        if taken.unusable or self._question.metric != ACCURACY or not self._failure or not taken.values:
            return taken.unusable
        kind = self._failure.partition(":")[0]
        for value, word in zip(taken.values[-1], taken.words, strict=True):
            if value and word.partition(":")[0] != kind:
                return f"fails in another way: {word}"
        return ""

    def _pool(self, key: str, against: str, *, is_check: bool = False) -> list[Round]:
        return self._rounds.setdefault((key, against, is_check), [])

    def _record(self, step: Step) -> Step:
        self._steps.append(step)
        self._tell(step)
        return step


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms under which rounds were measured: rounds of other terms tell nothing. By option, values or digests."""

    parts: Mapping[str, str] = field(default_factory=dict)


def open_journal(folder: ResultsFolder, terms: Terms, *, restart: bool = False) -> tuple[Round, ...]:
    """Read the rounds that an earlier run of the same terms left in a folder, and make the folder ready for more.

    The reports that are there are removed, and with `restart` the rounds as well. Raises `UsageProblem` for rounds of
    other terms, which stay.
    """
    rounds: list[Round] = []
    earlier: Terms | None = None
    for _, line in read_lines(folder.path / ROUNDS) if not restart else ():
        try:
            item = decode_line(line, {"terms": Terms, "round": Round})
        except RecordProblem as error:
            raise UsageProblem(f"{folder.path / ROUNDS} cannot be read ({error}); --restart begins anew") from error
        if isinstance(item, Terms):
            earlier = item
        else:
            rounds.append(item)
    if earlier is None:
        folder.empty()
        folder.write_text(".gitignore", "*\n")
        folder.append_lines(ROUNDS, [encode_line("terms", terms)])
        return ()
    other = [name for name, value in terms.parts.items() if earlier.parts.get(name) != value]
    if other:
        raise UsageProblem(
            f"{folder.path} holds what a bisection measured with other terms ({', '.join(other)}); choose another "
            "--output-dir, or begin anew with --restart"
        )
    return tuple(rounds)


def note_round(folder: ResultsFolder, taken: Round) -> None:
    """Add a round to the journal; it is on its way to the disk when this returns."""
    folder.append_lines(ROUNDS, [encode_line("round", taken)])
