"""The verdict logic: what an interval means, what a family does to it, and that the sides are treated alike."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchperf_ci.compare.effects import (
    ARMS_FLOOR,
    BETWEEN_FLOOR,
    LOOKS,
    ONE_PROCESS,
    TWO_PROCESSES,
    ChangeTolerance,
    Effect,
    Launch,
    LaunchNoise,
    Verdict,
    combine_p_values,
    estimate_effect,
    estimate_time_factor,
    find_floor,
    is_settled,
    judge,
    make_effect,
    measure_launch_noise,
    pool_launch_noise,
)
from torchperf_ci.compare.model import Comparison
from torchperf_ci.compare.verdicts import correct_family
from torchperf_ci.core.records import Case, Mode

CASE = Case(suite="tiny", model="mlp", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")

MIRROR = {
    Verdict.REGRESSED: Verdict.IMPROVED,
    Verdict.IMPROVED: Verdict.REGRESSED,
    Verdict.UNCHANGED: Verdict.UNCHANGED,
    Verdict.INCONCLUSIVE: Verdict.INCONCLUSIVE,
}


def noisy_launches(
    seed: int, *, ratio: float, count: int = 3, pairs: int = 200, between: float = 0.004
) -> list[Launch]:
    """Launches of a two-state machine: slow stretches that both sides of a pair mostly share, noise with a memory, and
    a persistent difference between the processes of each launch."""
    rng = random.Random(seed)
    launches = []
    for _ in range(count):
        offset, slow, drift = rng.gauss(0, between), 0.0, 0.0
        base, head = [], []
        for _ in range(pairs):
            drift = 0.8 * drift + rng.gauss(0, 0.02)
            sides = []
            for _ in range(2):
                slow = slow if rng.random() < 0.9 else rng.choice([0.0, 0.0, 0.0, 0.4])
                sides.append(0.005 * math.exp(drift + slow + rng.gauss(0, 0.02)))
            base.append(sides[0])
            head.append(sides[1] * ratio * math.exp(offset))
        launches.append(Launch(base=tuple(base), head=tuple(head)))
    return launches


times = st.floats(min_value=1e-6, max_value=10.0)
pairs = st.lists(st.tuples(times, times), min_size=10, max_size=60)
measured = st.lists(pairs, min_size=1, max_size=4)
tolerances = st.tuples(st.floats(0.001, 0.2), st.floats(0.0, 0.3)).map(
    lambda two: ChangeTolerance(margin=two[0], threshold=two[0] + two[1])
)


def launches_of(found: list[list[tuple[float, float]]], *, scale: float = 1.0) -> list[Launch]:
    return [
        Launch(base=tuple(scale * a for a, _ in launch), head=tuple(scale * b for _, b in launch)) for launch in found
    ]


def swapped(launches: list[Launch]) -> list[Launch]:
    return [Launch(base=launch.head, head=launch.base) for launch in launches]


@settings(max_examples=50)
@given(measured, tolerances, st.sampled_from([0.0, BETWEEN_FLOOR]), st.integers(0, len(LOOKS) - 1))
def test_swapping_the_sides_mirrors_the_verdict(
    found: list[list[tuple[float, float]]], tolerance: ChangeTolerance, between: float, look: int
) -> None:
    """What makes head slower makes base faster, at every look."""
    launches = launches_of(found)
    one = estimate_effect(launches, between=between, look=look)
    two = estimate_effect(swapped(launches), between=between, look=look)
    assert one is not None
    assert two is not None
    assert math.log(one.ratio) == pytest.approx(-math.log(two.ratio), abs=1e-9)
    assert math.log(one.low) == pytest.approx(-math.log(two.high), abs=1e-9)
    edges = [
        abs(math.log(end)) - math.log1p(bound)
        for end in (one.low, one.high)
        for bound in (tolerance.margin, tolerance.threshold)
    ]
    if min(map(abs, edges)) > 1e-8:  # an interval that ends on a bound may fall on either side by rounding
        assert judge(two, tolerance) is MIRROR[judge(one, tolerance)]
        assert judge(one.invert(), tolerance) is judge(two, tolerance)
        assert estimate_time_factor(one, tolerance) == pytest.approx(estimate_time_factor(two, tolerance), rel=1e-3)


@settings(max_examples=50)
@given(measured, st.floats(min_value=1e-3, max_value=1e3), st.sampled_from([0.0, BETWEEN_FLOOR]))
def test_the_unit_of_the_times_does_not_matter(
    found: list[list[tuple[float, float]]], scale: float, between: float
) -> None:
    """A machine that is as much slower for both sides gives the same interval."""
    one = estimate_effect(launches_of(found), between=between)
    two = estimate_effect(launches_of(found, scale=scale), between=between)
    assert one is not None
    assert two is not None
    assert two.ratio == pytest.approx(one.ratio, rel=1e-6)
    assert math.log(two.high / two.low) == pytest.approx(math.log(one.high / one.low), rel=1e-4, abs=1e-9)


@settings(max_examples=50)
@given(measured, st.floats(min_value=1.01, max_value=3.0))
def test_a_slower_head_never_looks_better(found: list[list[tuple[float, float]]], factor: float) -> None:
    """Multiplying every time of head by the same factor moves the whole interval by it."""
    launches = launches_of(found)
    slower = [replace(launch, head=tuple(factor * time for time in launch.head)) for launch in launches]
    one, two = estimate_effect(launches, between=BETWEEN_FLOOR), estimate_effect(slower, between=BETWEEN_FLOOR)
    assert one is not None
    assert two is not None
    assert two.low / one.low == pytest.approx(factor, rel=1e-6)
    assert two.high / one.high == pytest.approx(factor, rel=1e-6)


def test_equal_code_under_autocorrelated_noise_is_seldom_called_changed() -> None:
    """Of 300 comparisons of equal code in two processes at most 1 % say that it changed."""
    verdicts = [judged(seed, ratio=1.0) for seed in range(300)]
    assert sum(verdict in {Verdict.REGRESSED, Verdict.IMPROVED} for verdict in verdicts) <= 3


def test_a_slowdown_of_five_percent_is_mostly_found() -> None:
    """Under the same noise at least 90 % of slowdowns of 5 % are called one, and none an improvement."""
    verdicts = [judged(seed, ratio=1.05) for seed in range(100)]
    assert sum(verdict is Verdict.REGRESSED for verdict in verdicts) >= 90
    assert Verdict.IMPROVED not in verdicts


@pytest.mark.parametrize("true", [1.0, 1.05])
@pytest.mark.parametrize("between", [0.004, 0.02])
def test_the_interval_holds_the_true_ratio_as_often_as_it_says(true: float, between: float) -> None:
    """Also when processes differ by more than is taken for granted."""
    found = [
        estimate_effect(noisy_launches(seed, ratio=true, between=between), between=BETWEEN_FLOOR) for seed in range(200)
    ]
    inside = sum(one is not None and one.low <= true <= one.high for one in found)
    assert inside >= 0.9 * len(found)


@pytest.mark.parametrize(
    ("seconds", "floor"), [(5e-3, BETWEEN_FLOOR), (1e-3, BETWEEN_FLOOR), (1e-3 / 16, 2 * BETWEEN_FLOOR), (1e-7, 0.025)]
)
def test_launches_of_short_calls_differ_by_more(seconds: float, floor: float) -> None:
    """The arms of one process do not, and neither do sides that are known to differ by more still."""
    launches = [Launch(base=(seconds,) * 30, head=(seconds,) * 30)]
    assert find_floor(launches, BETWEEN_FLOOR) == pytest.approx(floor)
    assert find_floor(launches, ARMS_FLOOR) == ARMS_FLOOR
    assert find_floor(launches, 0.03) == 0.03
    assert find_floor([], BETWEEN_FLOOR) == BETWEEN_FLOOR


def test_a_single_launch_of_short_calls_is_no_slowdown() -> None:
    """Whose equal sides differ by 5 % for as long as their processes live."""
    rng = random.Random(0)
    base = tuple(2e-5 * math.exp(rng.gauss(0, 0.02)) for _ in range(300))
    head = tuple(2.1e-5 * math.exp(rng.gauss(0, 0.02)) for _ in range(300))
    launches = [Launch(base=base, head=head)]
    for floor, is_decided in ((BETWEEN_FLOOR, True), (find_floor(launches, BETWEEN_FLOOR), False)):
        assert is_settled(estimate_effect(launches, between=floor, look=0), TWO_PROCESSES) is is_decided


def judged(seed: int, *, ratio: float) -> Verdict:
    found = estimate_effect(noisy_launches(seed, ratio=ratio), between=BETWEEN_FLOOR)
    assert found is not None
    return judge(found, TWO_PROCESSES)


def test_few_pairs_give_no_effect() -> None:
    """Nine pairs say nothing about their own error."""
    assert estimate_effect([Launch(base=(1.0,) * 9, head=(1.0,) * 9)], between=0.0) is None


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1.021, 1.20, Verdict.REGRESSED),
        (1.019, 1.20, Verdict.INCONCLUSIVE),
        (0.80, 0.979, Verdict.IMPROVED),
        (0.96, 1.049, Verdict.UNCHANGED),
        (0.94, 1.01, Verdict.INCONCLUSIVE),
        (0.99, 1.051, Verdict.INCONCLUSIVE),
    ],
)
def test_an_interval_is_judged_by_margin_and_threshold(low: float, high: float, verdict: Verdict) -> None:
    """Slower above 2 %, unchanged inside 5 %, else open."""
    found = Effect(ratio=math.sqrt(low * high), low=low, high=high, error=0.01, freedom=20, launches=1, pairs=100)
    assert judge(found, TWO_PROCESSES) is verdict


def test_a_handful_of_pairs_ends_nothing_early() -> None:
    """However clear they look, and nothing at all ends nothing."""
    few, many = ([Launch(base=(1.0,) * size, head=(2.0,) * size)] for size in (20, 40))
    assert judge(estimate_effect(few, between=0.0), TWO_PROCESSES) is Verdict.REGRESSED  # type: ignore[arg-type]  # there is one
    assert not is_settled(estimate_effect(few, between=0.0), TWO_PROCESSES)
    assert is_settled(estimate_effect(many, between=0.0), TWO_PROCESSES)
    assert not is_settled(None, TWO_PROCESSES)


def test_what_is_slower_is_settled_when_it_will_be_among_all_cases() -> None:
    """Else the correction for their number would take it back, however much time was left."""
    found = make_effect(math.log(1.05), variance=0.01**2, freedom=50, pairs=100, look=1)
    assert judge(found, TWO_PROCESSES) is Verdict.REGRESSED
    p = found.p_above(TWO_PROCESSES.margin)
    assert is_settled(found, TWO_PROCESSES, family=int(0.05 / p))
    assert not is_settled(found, TWO_PROCESSES, family=int(0.05 / p) + 1)
    calm = make_effect(0.0, variance=0.001**2, freedom=50, pairs=100)
    assert is_settled(calm, TWO_PROCESSES, family=1_000_000)


@pytest.mark.parametrize(("change", "settled"), [(0.025, False), (0.011, False), (0.009, True), (-0.009, True)])
def test_what_may_yet_be_beyond_the_margin_keeps_its_time(change: float, settled: bool) -> None:  # noqa: FBT001
    """Though it is surely within the threshold; the last look says that it is unchanged."""
    found = make_effect(change, variance=0.008**2, freedom=50, pairs=100)
    assert judge(found, TWO_PROCESSES) is Verdict.UNCHANGED
    assert is_settled(found, TWO_PROCESSES) is settled


def test_what_more_time_would_do() -> None:
    """The error shrinks with the root of the time: twice the room needs a quarter of the time."""
    open_one = make_effect(0.0, variance=0.05**2, freedom=1e6)
    half = math.log(open_one.high)
    assert estimate_time_factor(open_one, TWO_PROCESSES) == pytest.approx((half / math.log(1.05)) ** 2)
    assert estimate_time_factor(open_one, ONE_PROCESS) == pytest.approx((half / math.log(1.03)) ** 2)
    decided = make_effect(0.0, variance=1e-8, freedom=1e6)
    assert estimate_time_factor(decided, TWO_PROCESSES) == 1.0
    on_the_bound = make_effect(math.log(1.02), variance=0.01**2, freedom=1e6)
    assert estimate_time_factor(on_the_bound, ChangeTolerance(margin=0.02, threshold=0.02)) == math.inf


def test_the_looks_spend_the_whole_error_and_no_more() -> None:
    """Shares of time grow to all of it; the errors add up to 5 % on each side."""
    assert sum(error for _, error in LOOKS) == pytest.approx(0.05)
    assert all(a < b for (a, _), (b, _) in pairwise(LOOKS))
    assert LOOKS[-1][0] == 1.0


def family(*ps: float | None) -> list[Comparison]:
    return [Comparison(case=CASE, metric="abs_latency", verdict=Verdict.REGRESSED, p=p) for p in ps]


def test_the_family_is_corrected_as_in_benjamini_and_hochbergs_example() -> None:
    """Their 15 p values (1995, section 3.2): four are listed, three block as with Holm's procedure."""
    ps = (
        0.0001,
        0.0004,
        0.0019,
        0.0095,
        0.0201,
        0.0278,
        0.0298,
        0.0344,
        0.0459,
        0.3240,
        0.4262,
        0.5719,
        0.6528,
        0.7590,
        1.0,
    )
    shuffled = list(ps)
    random.Random(1).shuffle(shuffled)
    found = {c.p: c for c in correct_family(family(*shuffled))}
    assert [p for p in ps if found[p].listed] == [0.0001, 0.0004, 0.0019, 0.0095]
    assert [p for p in ps if found[p].blocks] == [0.0001, 0.0004, 0.0019]
    assert found[0.0201].verdict is Verdict.INCONCLUSIVE
    assert "15 comparisons" in found[0.0201].why


def test_step_up_lists_what_a_single_comparison_would_not() -> None:
    """Benjamini and Hochberg: with all at 0.05 every one is listed, and none blocks."""
    found = correct_family(family(0.05, 0.05, 0.05))
    assert [c.listed for c in found] == [True] * 3
    assert [c.blocks for c in found] == [False] * 3


def test_a_family_of_one_is_not_corrected() -> None:
    """One comparison is judged as if it were alone, which it is."""
    (alone,) = correct_family(family(0.049))
    assert alone.listed
    assert alone.blocks


def test_what_was_not_confirmed_does_not_block() -> None:
    """A second measurement that disagrees takes the block away."""
    (unsure,) = correct_family([replace(family(1e-9)[0], confirmed=False)])
    assert not unsure.blocks


def test_exact_metrics_block_without_a_p_value() -> None:
    """A graph break more is no matter of chance."""
    (exact,) = correct_family(family(None))
    assert exact.listed
    assert exact.blocks


@settings(max_examples=50)
@given(st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=30))
def test_what_blocks_is_listed(ps: list[float]) -> None:
    """Holm is the stricter of the two, and a smaller p value never fares worse."""
    found = correct_family(family(*ps))
    assert all(c.listed for c in found if c.blocks)
    ordered = sorted(found, key=lambda c: c.p or 0)
    assert all(a.listed >= b.listed and a.blocks >= b.blocks for a, b in pairwise(ordered) if a.p != b.p)


def launches_at(offsets: list[float], *, pairs: int = 40) -> list[Launch]:
    """Launches whose log ratios are these, but for a ripple."""
    base = tuple(0.01 * (1 + 0.001 * math.sin(step)) for step in range(pairs))
    return [Launch(base=base, head=tuple(math.exp(offset) * time for time in base)) for offset in offsets]


@pytest.mark.parametrize("spread", [0.005, 0.02])
def test_many_cases_tell_what_launches_differ_by(spread: float) -> None:
    """Equal machines give the common variance with many degrees of freedom, machines of moods with few."""
    rng = random.Random(3)

    def own(scale: float) -> LaunchNoise:
        measured = measure_launch_noise(launches_at([rng.gauss(0, scale) for _ in range(10)]))
        assert measured is not None
        assert measured.freedom == 9
        return measured

    moods = [math.exp(rng.gauss(0, 1.5)) for _ in range(30)]
    pools = pool_launch_noise([{"alike": own(spread), "unlike": own(spread * mood)} for mood in moods])
    alike, unlike = pools["alike"], pools["unlike"]
    assert math.sqrt(alike.variance) == pytest.approx(spread, rel=0.15)
    assert alike.freedom > 20
    assert unlike.freedom < 6


def test_too_few_cases_tell_nothing() -> None:
    """Neither two cases, nor one launch of a case."""
    assert measure_launch_noise(launches_at([0.01])) is None
    noise = LaunchNoise(variance=1e-4, freedom=9)
    assert pool_launch_noise([{"often": noise}, {"often": noise, "rare": noise}, {"often": noise}]).keys() == {"often"}


def test_what_other_cases_show_widens_and_narrows_an_interval() -> None:
    """A single launch has their spread; a few launches that agree or disagree by accident are drawn towards it."""
    noise = LaunchNoise(variance=0.01**2, freedom=30)
    single, agreeing, scattered = launches_at([0.0]), launches_at([0.0] * 4), launches_at([-0.03, 0.03, -0.03, 0.03])
    for launches, wider in ((single, True), (agreeing, True), (scattered, False)):
        alone = estimate_effect(launches, between=BETWEEN_FLOOR)
        pooled = estimate_effect(launches, between=BETWEEN_FLOOR, noise=noise)
        assert alone is not None
        assert pooled is not None
        assert pooled.ratio == alone.ratio
        assert (pooled.high / pooled.low > alone.high / alone.low) == wider
    one = estimate_effect(single, between=BETWEEN_FLOOR, noise=noise)
    assert one is not None
    assert one.error == pytest.approx(0.01, rel=0.05)
    assert one.freedom == pytest.approx(30, rel=0.2)


def test_two_measurements_say_more_than_the_weaker_one() -> None:
    """By Stouffer's method with equal weights; two that contradict each other say nothing."""
    assert combine_p_values(0.05, 0.05) == pytest.approx(0.0100, abs=5e-4)
    assert combine_p_values(0.0, 1.0) == pytest.approx(0.5, abs=1e-3)
    assert combine_p_values(0.3, 0.01) == combine_p_values(0.01, 0.3)
    rng = random.Random(1)
    drawn = [combine_p_values(rng.random(), rng.random()) for _ in range(4000)]
    assert sum(p <= 0.05 for p in drawn) / len(drawn) == pytest.approx(0.05, abs=0.01)


def test_launches_that_lie_far_apart_have_a_finite_effect() -> None:
    """One launch says a million times slower, another one a million times faster: nobody knows, and nothing raises."""
    far = [
        Launch(base=(1e-6,) * 20, head=(1.0,) * 20, probe=(1e-4,) * 20),
        Launch(base=(1.0,) * 20, head=(1e-6,) * 20, probe=(1e-4,) * 20),
    ]
    effect = estimate_effect(far, between=0.007, look=0)
    assert 0 < effect.low < effect.ratio < effect.high < math.inf
