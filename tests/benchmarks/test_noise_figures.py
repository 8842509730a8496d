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
    begun,
    coverage,
    family_alarms,
    found_among,
    peer_alarms,
    replayed,
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
        found = replayed(a_round(extra), 8.0)
        assert (found.verdict, found.seconds) == (verdict, 2.0)


def test_shares_have_wilsons_intervals() -> None:
    """As in the tables: 0 of 10 is 0 to 27.8 %, 8 of 10 is 49.0 to 94.3 %."""
    assert wilson(0, 10) == pytest.approx((0.0, 0.278), abs=1e-3)
    assert str(Share(hits=8, count=10)) == "8 of 10 (49.0 to 94.3 %)"
    assert str(Share(hits=0, count=0)) == "–"


def test_the_smallest_slowdown_lies_between_those_that_were_tried() -> None:
    """By a straight line to 80 %."""
    assert smallest([(2.0, 0.4), (3.0, 0.9)]) == pytest.approx(2.8)
    assert smallest([(2.0, 1.0)]) == pytest.approx(1.6)
    assert smallest([(2.0, 0.1), (3.0, 0.5)]) == float("inf")


def test_equal_rounds_raise_no_alarm_and_are_covered() -> None:
    """Families drawn from calm comparisons never block."""
    rounds = [a_round(seed=seed) for seed in range(12)]
    assert family_alarms(rounds).hits == 0
    assert coverage(rounds).count == 12
    assert coverage([]).count == 0
    assert found_among([a_round(10)], rounds).value == 1
    assert found_among(rounds, rounds).hits == 0
    assert found_among([], rounds).count == 0


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_of_others_find_what_is_far_beyond_them(rule: str) -> None:
    """Three times the time is slower by every rule; equal code under little noise by none but a bare t-test."""
    equal = [a_round(seed=seed) for seed in range(15)]
    assert peer_alarms(rule, [a_round(200, seed=99)], equal) == Share(hits=1, count=1)
    if "t-test" not in rule and "rustc" not in rule:
        assert peer_alarms(rule, equal).hits == 0
