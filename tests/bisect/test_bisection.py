"""A whole bisection of a simulated engine with the noise of a real one: right in 20 of 20 trials of every kind."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bisect_simulation import Simulation, chain, graph
from torchperf_ci.bisect.model import Outcome, Question, Round, StepAnswer
from torchperf_ci.bisect.session import Bisection

TRIALS = range(20)
COUNT = 24


def levels_from(steps: dict[int, float], count: int = COUNT) -> dict[str, float]:
    """The ratio of each of a chain over the first one, when each of `steps` is that much slower than its parent."""
    return {str(i): math.prod(ratio for place, ratio in steps.items() if place <= i) for i in range(count + 1)}


@pytest.mark.parametrize("trial", TRIALS)
def test_the_planted_commit_is_found(trial: int) -> None:
    """Wherever it is, by 5 %, and it is seen again against its parent, with little more work than halving takes."""
    planted = 1 + (7 * trial) % COUNT
    engine = Simulation(levels=levels_from({planted: 1.05}), seed=trial)
    good, candidates = chain(COUNT)
    progress = Bisection(good, candidates, Question(), engine).run()
    assert progress.outcome is Outcome.FOUND
    assert [culprit.candidate.key for culprit in progress.culprits] == [str(planted)]
    assert progress.culprits[0].share == pytest.approx(1, abs=0.35)
    assert len(progress.steps) <= 8


@pytest.mark.parametrize("trial", TRIALS)
def test_broken_commits_in_the_way_are_gone_around(trial: int) -> None:
    """A stretch of them in the middle; the culprit lies outside of it."""
    broken = range(10, 15)
    planted = (8, 9, 16, 17, 20)[trial % 5]
    engine = Simulation(
        levels=levels_from({planted: 1.05}), seed=trial, broken={str(i): "the set-up failed" for i in broken}
    )
    good, candidates = chain(COUNT)
    progress = Bisection(good, candidates, Question(), engine).run()
    assert progress.outcome is Outcome.FOUND
    assert [culprit.candidate.key for culprit in progress.culprits] == [str(planted)]
    skipped = {step.candidate.key for step in progress.steps if step.answer is StepAnswer.SKIPPED}
    assert skipped
    assert skipped <= {str(i) for i in broken}


@pytest.mark.parametrize("trial", TRIALS)
def test_a_culprit_behind_broken_commits_is_a_range(trial: int) -> None:
    """That holds it, the broken ones, and no other."""
    engine = Simulation(
        levels=levels_from({11 + trial % 5: 1.05}), seed=trial, broken={str(i): "no compiler" for i in range(11, 15)}
    )
    good, candidates = chain(COUNT)
    progress = Bisection(good, candidates, Question(), engine).run()
    assert progress.outcome is Outcome.RANGE
    assert [suspect.key for suspect in progress.suspects] == ["11", "12", "13", "14", "15"]
    assert progress.culprits == ()


@pytest.mark.parametrize("trial", TRIALS)
def test_a_change_of_two_commits_is_told_in_its_parts(trial: int) -> None:
    """Equal ones, which put what lies between them right into the middle, and unequal ones."""
    first, second = 3 + trial % 8, 14 + trial % 9
    ratios = (1.05, 1.05) if trial % 2 else (1.03, 1.08)
    engine = Simulation(levels=levels_from({first: ratios[0], second: ratios[1]}), seed=trial)
    good, candidates = chain(COUNT)
    progress = Bisection(good, candidates, Question(), engine).run()
    assert progress.outcome is Outcome.FOUND
    assert {culprit.candidate.key for culprit in progress.culprits} == {str(first), str(second)}
    assert sum(culprit.share for culprit in progress.culprits) == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("trial", TRIALS)
def test_ends_that_do_not_differ_are_not_bisected(trial: int) -> None:
    """One step says so."""
    good, candidates = chain(COUNT)
    progress = Bisection(good, candidates, Question(), Simulation(levels=levels_from({}), seed=trial)).run()
    assert progress.outcome is Outcome.SAME
    assert len(progress.steps) == 1


MERGES = {
    "a": ["good"],
    "b": ["a"],
    "left1": ["b"],
    "right1": ["a"],
    "left2": ["left1"],
    "right2": ["right1"],
    "right3": ["right2"],
    "old": ["before"],
    "merge": ["left2", "right3"],
    "merge2": ["merge", "old"],
    "c": ["merge2"],
    "bad": ["c"],
}
"""Two branches that were merged, and one that left before the good commit."""


@pytest.mark.parametrize("trial", TRIALS)
def test_histories_with_merges_are_searched(trial: int) -> None:
    """The culprit is on a branch, on another one, a merge, or after all of them."""
    culprit = [*MERGES][(5 * trial) % len(MERGES)]
    slow = {key for key in MERGES if culprit in made_of(key)}
    levels = {key: 1.05 if key in slow else 1.0 for key in ("good", "before", *MERGES)}
    (good,) = graph({"good": []})
    progress = Bisection(good, graph(MERGES), Question(), Simulation(levels=levels, seed=trial)).run()
    assert progress.outcome is Outcome.FOUND
    assert [each.candidate.key for each in progress.culprits] == [culprit]


def made_of(key: str) -> set[str]:
    return {key}.union(*(made_of(parent) for parent in MERGES.get(key, [])))


def test_a_change_for_the_better_is_found_as_well() -> None:
    """The bad end is then the faster one."""
    good, candidates = chain(COUNT)
    progress = Bisection(good, candidates, Question(), Simulation(levels=levels_from({17: 0.9}), seed=1)).run()
    assert (progress.outcome, progress.culprits[0].candidate.key) == (Outcome.FOUND, "17")


def test_close_steps_take_more_launches_than_clear_ones() -> None:
    """A change of 3 % beside one of 30 %."""
    good, candidates = chain(8)
    taken = []
    for ratio in (1.3, 1.03):
        engine = Simulation(levels=levels_from({5: ratio}, 8), seed=3)
        assert Bisection(good, candidates, Question(), engine).run().culprits[0].candidate.key == "5"
        taken.append(sum(launches for *_, launches in engine.taken))
    assert taken[0] == 2 * len(engine.taken) or taken[0] < taken[1]


def test_a_drift_of_many_small_steps_has_no_culprit() -> None:
    """Each is too small to be seen against its parent, and none is named as if it were the one."""
    good, candidates = chain(COUNT)
    drift = levels_from(dict.fromkeys(range(1, COUNT + 1), 1.002))
    progress = Bisection(good, candidates, Question(), Simulation(levels=drift, seed=5)).run()
    assert progress.outcome in {Outcome.REFUTED, Outcome.OPEN, Outcome.RANGE}


def test_what_was_read_before_is_not_measured_again() -> None:
    """An interrupted search that is started again takes the same way and ends where one without interruption does."""
    good, candidates = chain(COUNT)
    levels, kept = levels_from({13: 1.04}), list[Round]()
    whole = Simulation(levels=levels, seed=2)
    expected = Bisection(good, candidates, Question(), whole, note=kept.append).run()
    for cut in range(len(kept)):
        rest = Simulation(levels=levels, seed=2)
        progress = Bisection(good, candidates, Question(), rest, rounds=kept[:cut]).run()
        assert [step.candidate for step in progress.steps] == [step.candidate for step in expected.steps]
        assert rest.taken == whole.taken[cut:]


def test_a_spent_budget_leaves_what_is_known() -> None:
    """The suspects that are left, and no culprit."""
    good, candidates = chain(COUNT)
    engine = Simulation(levels=levels_from({13: 1.3}), seed=2)
    progress = Bisection(
        good, candidates, Question(), engine, deadline=4.0, clock=lambda: float(len(engine.taken))
    ).run()
    assert progress.outcome is Outcome.OUT_OF_TIME
    assert 1 < len(progress.suspects) < COUNT
    assert "13" in {suspect.key for suspect in progress.suspects}


def test_the_same_program_needs_no_launches_to_be_like_the_good_end() -> None:
    """However noisy the short check is that it got."""

    class Proves(Simulation):
        def take(self, candidate: str, against: str, *, launches: int, is_check: bool, attempt: int) -> Round:
            taken = super().take(candidate, against, launches=launches, is_check=is_check, attempt=attempt)
            is_same = self.levels[candidate] == self.levels[against] and not is_check
            return replace(taken, launches=taken.launches[:1], is_same=True) if is_same else taken

    good, candidates = chain(COUNT)
    engine = Proves(levels=levels_from({20: 1.05}), seed=1)
    progress = Bisection(good, candidates, Question(), engine).run()
    assert {step.launches for step in progress.steps if step.answer is StepAnswer.GOOD} == {1}
    assert progress.culprits[0].candidate.key == "20"
    same = Bisection(good, candidates, Question(), Proves(levels=levels_from({}), seed=1)).run()
    assert (same.outcome, len(same.steps)) == (Outcome.SAME, 1)
