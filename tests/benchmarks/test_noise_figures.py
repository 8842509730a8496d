"""The noise card's arithmetic: replayed budgets, shares, and the rules of others."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from torchperf_ci.compare.effects import Launch, Verdict

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from noise_figures import (
    Round,
    Share,
    adjust_by_probe,
    begun,
    coverage,
    family_alarms,
    found_among,
    join,
    judge_alone,
    peer_alarms,
    smallest,
    wilson,
)
from noise_rules import RULES


def a_round(extra: int = 0, *, kind: str = "one", seed: int = 0) -> Round:
    """A comparison of 10 s with a little noise."""
    rng = random.Random(seed)
    base = tuple(0.01 * rng.uniform(0.99, 1.01) for _ in range(300))
    head = tuple(0.01 * (1 + extra / 100) * rng.uniform(0.99, 1.01) for _ in range(300))
    count = 1 if kind == "one" else 3
    return Round(
        kind=kind, extra=extra, stress=False, seconds=10.0, launches=(Launch(base=base, head=head, probe=base),) * count
    )


def test_a_smaller_budget_is_the_beginning_of_every_launch() -> None:
    """And a look sees the launches that would have begun by then."""
    item = a_round(kind="two")
    assert [len(launch.base) for launch in begun(item, 5.0)] == [150, 150, 150]
    assert [len(launch.base) for launch in begun(item, 10.0, share=1 / 2)] == [300, 150]
    assert [len(launch.base) for launch in begun(item, 20.0)] == [300, 300, 300]
    assert begun(item, 0.1) == []


def test_looks_decide_early_where_it_is_clear() -> None:
    """At the first look that has 40 pairs, with the verdict of the live rule."""
    for extra, verdict in ((0, Verdict.UNCHANGED), (10, Verdict.REGRESSED)):
        assert judge_alone(a_round(extra), 8.0) == (verdict, 2.0)


def test_shares_have_wilsons_intervals() -> None:
    """As in the tables: 0 of 10 is 0 to 27.8 %, 8 of 10 is 49.0 to 94.3 %."""
    assert wilson(0, 10) == pytest.approx((0.0, 0.278), abs=1e-3)
    assert str(Share(hits=8, count=10)) == "8 of 10 (49.0 to 94.3 %)"
    assert str(Share(hits=0, count=0)) == "–"
    reached = [Share(hits=hits, count=10).reaches(0.9) for hits in (9, 8, 2)]
    assert [*reached, Share(hits=0, count=0).reaches(0.9)] == [True, None, False, None]


def test_the_smallest_slowdown_lies_between_those_that_were_tried() -> None:
    """By a straight line to 80 %."""
    assert smallest([(2.0, 0.4), (3.0, 0.9)]) == pytest.approx(2.8)
    assert smallest([(2.0, 1.0)]) == pytest.approx(1.6)
    assert smallest([(2.0, 0.1), (3.0, 0.5)]) == float("inf")


@pytest.mark.parametrize(("kind", "launches", "pairs"), [("one", 1, 600), ("two", 6, 300)])
def test_a_confirmation_is_made_of_several_comparisons(kind: str, launches: int, pairs: int) -> None:
    """More launches in two processes, a longer one in one."""
    joined = join([a_round(kind=kind), a_round(kind=kind, seed=1)])
    assert joined.seconds == 20.0
    assert [len(launch.base) for launch in joined.launches] == [pairs] * launches


def test_the_probe_takes_off_what_it_shows() -> None:
    """Where head runs longer into slow stretches than base, and the probe with it."""

    def disturbed(seed: int) -> Round:
        rng = random.Random(seed)
        slow = [rng.random() < 0.3 for _ in range(300)]
        probe = tuple(1e-4 * (1.5 if one else 1.0) for one in slow)
        head = tuple(0.01 * (1.2 if one else 1.0) * rng.uniform(0.99, 1.01) for one in slow)
        return Round(
            kind="one",
            extra=0,
            stress=False,
            seconds=10,
            launches=(Launch(base=(0.01,) * 300, head=head, probe=probe),),
        )

    assert adjust_by_probe([]) == {}
    ways = adjust_by_probe([disturbed(seed) for seed in range(8)])
    assert ways["line on the probe"].is_biased  # it is far from the estimate as it is
    assert ways["line on the probe"].width < ways["as it is"].width
    assert abs(ways["line on the probe"].mean) < 0.2 < ways["as it is"].mean
    assert abs(ways["without pairs of a slow probe"].mean) < 0.2


def test_equal_rounds_raise_no_alarm_and_are_covered() -> None:
    """Families drawn from calm comparisons never block."""
    rounds = [a_round(seed=seed) for seed in range(12)]
    assert family_alarms(rounds, families=20).hits == 0
    assert coverage(rounds).count == 12
    assert coverage([]).count == 0
    assert found_among([a_round(10)], rounds, families=20).value == 1
    assert found_among(rounds, rounds, families=20).hits == 0
    assert found_among([], rounds).count == 0


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_of_others_find_what_is_far_beyond_them(rule: str) -> None:
    """Three times the time is slower by every rule; equal code under little noise by none but a bare t-test."""
    equal = [a_round(seed=seed) for seed in range(15)]
    assert peer_alarms(rule, [a_round(200, seed=99)], equal) == Share(hits=1, count=1)
    if "t-test" not in rule and "rustc" not in rule:
        assert peer_alarms(rule, equal).hits == 0
