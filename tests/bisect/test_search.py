"""Halving: whatever the history and the commits that cannot be tested, the culprit stays among what is left."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisect_simulation import graph
from torchperf_ci.bisect.model import WHOLE_ERROR, Candidate, Level, Question, StepAnswer
from torchperf_ci.bisect.session import (
    Ancestry,
    estimate_steps,
    judge_candidate,
    judge_ends,
    share_error,
)
from torchperf_ci.compare.model import COMPILING


@st.composite
def histories(draw: st.DrawFn) -> list[Candidate]:
    """Up to 30 commits; each has one or two parents among those before it, and the last one is made of all."""
    count = draw(st.integers(1, 30))
    parents: dict[str, list[str]] = {"0": ["good"]}
    for number in range(1, count):
        before = draw(st.lists(st.integers(0, number - 1), min_size=1, max_size=2, unique=True))
        parents[str(number)] = [str(each) for each in before]
    heads = [key for key in parents if not any(key in before for before in parents.values())]
    return graph({**parents, "bad": heads})


def made_of(key: str, candidates: dict[str, Candidate]) -> set[str]:
    if key not in candidates:
        return set()
    return {key}.union(*(made_of(parent, candidates) for parent in candidates[key].parents))


@settings(max_examples=150)
@given(histories(), st.data())
def test_the_culprit_is_found_or_stays_among_what_cannot_be_tested(
    history: list[Candidate], data: st.DataObject
) -> None:
    """With an oracle that never errs, in about as many questions as a logarithm, plus one for each that is skipped."""
    candidates = {candidate.key: candidate for candidate in history}
    culprit = data.draw(st.sampled_from(sorted(candidates)))
    broken = data.draw(st.sets(st.sampled_from(sorted(candidates)), max_size=5)) - {"bad"}
    ancestry = Ancestry(history)
    bad, suspects = "bad", ancestry.suspects_between("good", "bad")
    skipped: set[str] = set()
    misses = 0
    while (key := ancestry.choose(suspects, bad, skipped, misses=misses)) is not None:
        assert key not in skipped
        if key in broken:
            skipped.add(key)
            misses += 1
            continue
        misses = 0
        before = suspects.bit_count()
        if culprit in made_of(key, candidates):
            bad, suspects = key, ancestry.keep_before(suspects, key)
        else:
            suspects = ancestry.drop_before(suspects, key)
        assert suspects.bit_count() < before
    left = ancestry.list_keys(suspects)
    assert culprit in left
    assert bad in left
    assert set(left) <= {bad} | broken


def test_a_line_takes_as_many_steps_as_its_logarithm() -> None:
    """And the place of the culprit makes no difference of more than one."""
    history = graph({str(n): [str(n - 1)] for n in range(1, 1001)})
    ancestry = Ancestry(history)
    for culprit in (1, 2, 499, 500, 501, 1000):
        bad, suspects, steps = "1000", ancestry.suspects_between("0", "1000"), 0
        while (key := ancestry.choose(suspects, bad, ())) is not None:
            steps += 1
            if int(key) >= culprit:
                bad, suspects = key, ancestry.keep_before(suspects, key)
            else:
                suspects = ancestry.drop_before(suspects, key)
        assert ancestry.list_keys(suspects) == [str(culprit)]
        assert steps <= 10


@pytest.mark.parametrize(
    "question", [Question(), Question(launches=2), Question(metric=COMPILING), Question(metric="graph_breaks")]
)
@pytest.mark.parametrize("count", [1, 2, 12, 5000])
def test_all_steps_together_err_no_more_than_allowed(question: Question, count: int) -> None:
    """The looks of a step share what it may err."""
    errors = share_error(count, question)
    assert len(errors) == len(question.list_looks())
    assert sum(errors) * estimate_steps(count) == pytest.approx(WHOLE_ERROR)


def test_ends_are_judged_by_the_margin_and_by_how_well_they_are_known() -> None:
    """A difference below the margin is none; one that is known too badly to halve it stays open."""
    question = Question(margin=0.02)

    def judge(ratio: float, error: float) -> StepAnswer:
        return judge_ends(Level(value=math.log(ratio), error=error, freedom=50), question=question, error=0.01)

    assert judge(1.05, 0.005) is StepAnswer.DIFFERS
    assert judge(0.95, 0.005) is StepAnswer.DIFFERS
    assert judge(1.05, 0.012) is StepAnswer.OPEN
    assert judge(1.00, 0.003) is StepAnswer.SAME
    assert judge(1.015, 0.0001) is StepAnswer.SAME


def test_a_candidate_is_judged_by_the_middle_between_the_ends() -> None:
    """Not by the margin; what surely is neither lies between."""

    def judge(value: float, error: float) -> StepAnswer:
        return judge_candidate(Level(value=value, error=error, freedom=1e6), floor=0.0, ceiling=0.1, error=0.01)

    assert judge(0.02, 0.01) is StepAnswer.GOOD
    assert judge(0.09, 0.01) is StepAnswer.BAD
    assert judge(0.05, 0.01) is StepAnswer.BETWEEN
    assert judge(0.05, 0.03) is StepAnswer.OPEN
