"""The verdicts on every metric of a case."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchperf_ci.compare.effects import BETWEEN_FLOOR, ChangeTolerance, Launch, Verdict
from torchperf_ci.compare.model import Comparison, Measured, Rule, SideResult, ToleranceRules
from torchperf_ci.compare.verdicts import (
    compare_case,
    correct_family,
    estimate_slowdowns,
    is_clear_difference,
    is_compile_time_open,
    is_to_repeat,
    measure_spread,
    share_launch_noise,
)
from torchperf_ci.core.records import Case, Direction, Metric, Mode

CASE = Case(suite="tiny", model="mlp", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="inductor")
TOLERANCES = ToleranceRules()
GOOD = SideResult(accuracy="pass", batch_size=8, parameters=100, counters={"graph_breaks": 0, "unique_graphs": 1})


def launches(ratio: float, *, count: int = 3) -> tuple[Launch, ...]:
    """Launches without noise but a ripple."""
    base = tuple(0.01 * (1 + 0.001 * math.sin(step)) for step in range(40))
    return tuple(Launch(base=base, head=tuple(ratio * time for time in base)) for _ in range(count))


def measured(
    ratio: float = 1.0,
    *,
    base: SideResult | None = GOOD,
    head: SideResult | None = GOOD,
    between: float = BETWEEN_FLOOR,
) -> Measured:
    return Measured(case=CASE, base=base, head=head, launches=launches(ratio), between=between, seconds=9.0)


def verdicts(item: Measured, tolerances: ToleranceRules = TOLERANCES) -> dict[str, Verdict]:
    return {comparison.metric: comparison.verdict for comparison in compare_case(item, tolerances)}


def of(item: Measured, metric: str) -> Comparison:
    return next(comparison for comparison in compare_case(item, TOLERANCES) if comparison.metric == metric)


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(1.0, Verdict.UNCHANGED), (1.3, Verdict.REGRESSED), (0.7, Verdict.IMPROVED)]
)
def test_times_are_judged_by_their_interval(ratio: float, verdict: Verdict) -> None:
    """With the medians in ms, the ratio, and a p value."""
    found = of(measured(ratio), "abs_latency")
    assert found.verdict is verdict
    assert found.ratio == pytest.approx(ratio)
    assert found.base == pytest.approx(10.0, rel=1e-2)
    assert found.head == pytest.approx(10.0 * ratio, rel=1e-2)
    assert found.p is not None
    assert (found.p < 0.01) == (verdict is Verdict.REGRESSED)


def test_an_open_case_says_what_would_decide_it() -> None:
    """Launches whose sides did not run in turn have so wide an interval that nothing is sure."""
    found = of(replace(measured(1.025), between=0.03), "abs_latency")
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.more_seconds is not None
    assert 0 < found.more_seconds < 200
    assert found.more_launches


def test_a_model_that_one_side_lacks_is_new_or_missing() -> None:
    """Neither is dropped, and neither has numbers."""
    assert verdicts(measured(base=None)) == {"abs_latency": Verdict.NEW}
    assert verdicts(measured(head=None)) == {"abs_latency": Verdict.MISSING}


def test_what_does_not_run_is_failed_fixed_or_refused() -> None:
    """A base that failed is never a silent success."""
    broken = replace(GOOD, failure="crashed: ended by signal 11 (SIGSEGV)")
    assert verdicts(measured(head=broken)) == {"abs_latency": Verdict.FAILED}
    assert verdicts(measured(base=broken)) == {"abs_latency": Verdict.FIXED}
    assert verdicts(measured(base=broken, head=broken)) == {"abs_latency": Verdict.REFUSED}
    assert "SIGSEGV" in of(measured(head=broken), "abs_latency").why


def test_a_refusal_silences_every_metric() -> None:
    """What is not comparable in one way is in none."""
    refused = replace(measured(1.5), refusals=("batch size 8 against 4",))
    (only,) = compare_case(refused, TOLERANCES)
    assert (only.verdict, only.why) == (Verdict.REFUSED, "batch size 8 against 4")


@pytest.mark.parametrize(
    ("change", "metric", "verdict"),
    [
        ({"accuracy": "fail_accuracy: output 0 differs"}, "accuracy", Verdict.FAILED),
        ({"counters": {"graph_breaks": 1, "unique_graphs": 1}}, "graph_breaks", Verdict.REGRESSED),
        ({"memory_bytes": 10_200_000}, "dynamo_peak_mem", Verdict.REGRESSED),
        ({"memory_bytes": 10_090_000}, "dynamo_peak_mem", Verdict.UNCHANGED),
        ({"memory_bytes": 9_000_000}, "dynamo_peak_mem", Verdict.IMPROVED),
        ({"compile_seconds": (15.0, 15.2, 15.1)}, "compilation_latency", Verdict.REGRESSED),
        ({"compile_seconds": (10.5, 10.2, 10.1)}, "compilation_latency", Verdict.UNCHANGED),
        ({"compile_seconds": (30.0,)}, "compilation_latency", Verdict.INCONCLUSIVE),
    ],
)
def test_the_other_metrics_have_verdicts_of_their_own(change: dict[str, object], metric: str, verdict: Verdict) -> None:
    """Each by its own limits, also when times are unchanged; compiling once is no basis for a verdict."""
    base = replace(GOOD, memory_bytes=10_000_000, compile_seconds=(10.0, 10.1, 10.2))
    head = replace(base, **change)  # type: ignore[arg-type]  # fields of SideResult
    found = verdicts(measured(base=base, head=head))
    assert found.pop(metric) is verdict
    assert set(found.values()) == {Verdict.UNCHANGED}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_memory_is_held_to_one_percent_and_64_kib(device: str) -> None:
    """What an iteration needs is counted exactly, on every device; the size of the process is shown and not judged."""
    case = replace(CASE, device=device)
    base = replace(GOOD, memory_bytes=10_000_000, process_bytes=400_000_000)
    head = replace(base, memory_bytes=10_200_000)
    assert verdicts(replace(measured(base=base, head=head), case=case))["dynamo_peak_mem"] is Verdict.REGRESSED
    small, larger = replace(base, memory_bytes=100_000), replace(base, memory_bytes=160_000)
    assert verdicts(replace(measured(base=small, head=larger), case=case))["dynamo_peak_mem"] is Verdict.UNCHANGED
    other_torch = measured(base=base, head=replace(base, process_bytes=550_000_000))
    found = next(c for c in compare_case(other_torch, TOLERANCES) if c.metric == "dynamo_peak_mem")
    assert (found.verdict, found.why) == (Verdict.UNCHANGED, "the whole process: 400 MB → 550 MB")


def test_nothing_compiled_any_more_is_not_fewer_graphs() -> None:
    """A head that only runs eagerly is a regression of its graphs, and its times say so."""
    base = replace(GOOD, counters={"unique_graphs": 1, "graph_breaks": 0, "recompiles": 0})
    head = replace(base, counters={"unique_graphs": 0, "graph_breaks": 0, "recompiles": 0}, not_compiled=True)
    item = measured(base=base, head=head)
    assert verdicts(item)["unique_graphs"] is Verdict.REGRESSED
    assert verdicts(measured(base=head, head=base))["unique_graphs"] is Verdict.IMPROVED
    assert "head: not compiled" in compare_case(item, TOLERANCES)[0].why


def test_more_recompilations_are_a_regression() -> None:
    """They are counted like graph breaks."""
    base, head = (replace(GOOD, counters={"recompiles": number}) for number in (0, 2))
    assert verdicts(measured(base=base, head=head))["recompiles"] is Verdict.REGRESSED


@pytest.mark.parametrize(
    ("base", "head"), [("pass", "not_judged: a lock"), ("not_judged: a lock", "not_judged: a lock")]
)
def test_what_could_not_be_judged_is_refused(base: str, head: str) -> None:
    """It is neither right nor wrong, on one side or on both."""
    item = measured(base=replace(GOOD, accuracy=base), head=replace(GOOD, accuracy=head))
    assert verdicts(item)["accuracy"] is Verdict.REFUSED


def test_results_that_are_wrong_on_both_sides_are_no_pass() -> None:
    """It is nobody's change, but nothing to be called unchanged either."""
    base, head = (replace(GOOD, accuracy=f"fail_accuracy: output differs by {by}") for by in (1, 2))
    (found,) = [c for c in compare_case(measured(base=base, head=head), TOLERANCES) if c.metric == "accuracy"]
    assert (found.verdict, found.fails_on_both) == (Verdict.REFUSED, True)
    assert "fails on both sides" in found.why


def test_what_to_repeat_only_once_is_open() -> None:
    """A second measurement in fresh processes has to agree."""
    once = replace(measured(1.3), again=measured(1.0))
    found = of(once, "abs_latency")
    assert (found.verdict, found.confirmed) == (Verdict.INCONCLUSIVE, False)
    assert found.p is not None
    assert found.p > 1e-6  # of the first one alone it is nothing
    assert "not when measured again" in found.why


def test_what_to_repeat_twice_stays_bad() -> None:
    """And its p value is that of both together: smaller than either of them."""
    twice = replace(measured(1.06), again=measured(1.05))
    found, first, second = (of(one, "abs_latency") for one in (twice, measured(1.06), measured(1.05)))
    assert (found.verdict, found.confirmed) == (Verdict.REGRESSED, True)
    assert found.p is not None
    assert first.p is not None
    assert second.p is not None
    assert found.p < min(first.p, second.p)


@pytest.mark.parametrize(("first", "again"), [(1.04, 1.06), (1 / 1.04, 1 / 1.06)])
def test_what_leans_to_a_change_is_measured_again(first: float, again: float) -> None:
    """A first measurement that is open as to the margin leads to a second one, which decides."""
    open_one = measured(first, between=0.02)
    found = of(open_one, "abs_latency")
    assert found.verdict in {Verdict.UNCHANGED, Verdict.INCONCLUSIVE}
    assert is_to_repeat(open_one, ToleranceRules())
    expected = Verdict.REGRESSED if first > 1 else Verdict.IMPROVED
    decided = of(replace(open_one, again=measured(again)), "abs_latency")
    assert (decided.verdict, decided.confirmed) == (expected, True)
    other_way = of(replace(open_one, again=measured(1 / again)), "abs_latency")
    assert other_way.verdict is found.verdict


@pytest.mark.parametrize(
    ("again", "verdict"), [(0.75, Verdict.IMPROVED), (1.0, Verdict.INCONCLUSIVE), (1.3, Verdict.INCONCLUSIVE)]
)
def test_what_is_better_has_to_be_seen_twice_as_well(again: float, verdict: Verdict) -> None:
    """Whole launches of equal code under load looked 33 % faster."""
    assert is_to_repeat(measured(0.67), TOLERANCES)
    found = of(replace(measured(0.67), again=measured(again)), "abs_latency")
    assert (found.verdict, found.confirmed) == (verdict, verdict is Verdict.IMPROVED)


@settings(max_examples=50)
@given(st.floats(min_value=0.5, max_value=2.0), st.floats(min_value=0.5, max_value=2.0))
def test_a_second_measurement_treats_both_sides_alike(first: float, second: float) -> None:
    """With base and head exchanged in both, faster becomes slower and what is open stays open."""
    forth = replace(measured(first), again=measured(second))
    back = replace(measured(1 / first), again=measured(1 / second))
    mirror = {Verdict.REGRESSED: Verdict.IMPROVED, Verdict.IMPROVED: Verdict.REGRESSED}
    verdict = of(forth, "abs_latency").verdict
    assert of(back, "abs_latency").verdict is mirror.get(verdict, verdict)


def test_a_crash_that_does_not_come_back_gives_way_to_the_second_measurement() -> None:
    """Its numbers count, and the crash is told."""
    broken = measured(head=replace(GOOD, failure="killed_oom: killed by the kernel"))
    assert is_to_repeat(broken, TOLERANCES)
    found = of(replace(broken, again=measured()), "abs_latency")
    assert found.verdict is Verdict.UNCHANGED
    assert "failed at first, not again: head: killed_oom" in found.why


def test_a_base_that_failed_once_hides_nothing() -> None:
    """It is measured again, and then the times count; what is slower there was seen once, and is open."""
    broken = measured(base=replace(GOOD, failure="timeout: the time limit passed"))
    assert is_to_repeat(broken, TOLERANCES)
    assert not is_to_repeat(measured(), TOLERANCES)
    found = of(replace(broken, again=measured()), "abs_latency")
    assert (found.verdict, found.why) == (
        Verdict.UNCHANGED,
        "failed at first, not again: base: timeout: the time limit passed",
    )
    found = of(replace(broken, again=measured(1.3)), "abs_latency")
    assert (found.verdict, found.confirmed) == (Verdict.INCONCLUSIVE, False)
    assert "only one measurement says so" in found.why
    assert verdicts(replace(broken, again=broken)) == {"abs_latency": Verdict.FIXED}


def test_a_head_that_does_not_run_again_is_no_better() -> None:
    """Wrong results, then a crash: both are bad. What cannot be measured again is open, and says why."""
    wrong = measured(head=replace(GOOD, accuracy="fail_accuracy: output 0 differs"))
    crashed = measured(head=replace(GOOD, failure="crashed: ended by signal 11 (SIGSEGV)"))
    found = of(replace(wrong, again=crashed), "accuracy")
    assert (found.verdict, found.confirmed) == (Verdict.FAILED, True)
    found = of(replace(measured(1.3), again=crashed), "abs_latency")
    assert (found.verdict, found.confirmed) == (Verdict.REGRESSED, True)
    throttled = replace(measured(1.3), refusals=("the GPU was throttled",))
    found = of(replace(measured(1.3), again=throttled), "abs_latency")
    assert (found.verdict, found.confirmed) == (Verdict.INCONCLUSIVE, False)
    assert "could not be measured again: the GPU was throttled" in found.why
    found = of(replace(crashed, again=throttled), "abs_latency")
    assert found.verdict is Verdict.REFUSED
    assert found.why.startswith("failed at first, and could not be measured again: head: crashed")


def test_a_crash_on_a_gpu_that_is_not_fit_is_a_crash() -> None:
    """A refusal does not hide it."""
    crashed = replace(measured(head=replace(GOOD, failure="crashed: x")), refusals=("the GPU was throttled",))
    assert verdicts(crashed) == {"abs_latency": Verdict.FAILED}


@pytest.mark.parametrize(
    ("base", "head", "is_open"),
    [
        ((), (), False),
        ((10.0,), (10.5,), False),
        ((10.0,), (30.0,), True),
        ((10.0,), (5.0,), True),
        ((10.0, 10.0), (30.0, 30.0), False),
        ((10.0, 10.0), (30.0, 11.0), True),
    ],
)
def test_compiling_is_looked_at_again_when_it_seems_to_differ(
    base: tuple[float, ...],
    head: tuple[float, ...],
    is_open: bool,  # noqa: FBT001
) -> None:
    """In another launch, though the times are clear."""
    assert is_compile_time_open(CASE, base, head, TOLERANCES) is is_open


@settings(max_examples=50)
@given(st.floats(min_value=0.5, max_value=2.0), st.booleans())
def test_swapping_the_sides_mirrors_the_verdicts_of_a_case(ratio: float, broken: bool) -> None:  # noqa: FBT001
    """Over all metrics that have a mirror image."""
    base = replace(GOOD, memory_bytes=1_000_000, counters={"graph_breaks": 2}, failure="crashed: x" if broken else "")
    head = replace(GOOD, memory_bytes=int(1_000_000 * ratio), counters={"graph_breaks": 3})
    forth = measured(ratio, base=base, head=head)
    back = replace(
        forth, base=head, head=base, launches=tuple(Launch(base=x.head, head=x.base) for x in forth.launches)
    )
    mirror = {
        Verdict.REGRESSED: Verdict.IMPROVED,
        Verdict.IMPROVED: Verdict.REGRESSED,
        Verdict.FAILED: Verdict.FIXED,
        Verdict.FIXED: Verdict.FAILED,
    }
    assert {metric: mirror.get(verdict, verdict) for metric, verdict in verdicts(forth).items()} == verdicts(back)


RATE = Metric(name="rate", unit="1/s", direction=Direction.HIGHER)


def with_rates(item: Measured, ratio: float, *, seed: int = 0, spread: float = 0.0) -> Measured:
    """Give launches of a case a rate of their own, in head so many times that of base, with so much noise of launches
    (standard deviation of log ratios)."""
    rng = random.Random(seed)
    launches = []
    for launch in item.launches:
        shift = ratio * math.exp(rng.gauss(0, spread))
        base = tuple(100 * (1 + 0.001 * math.cos(step)) for step in range(len(launch.base)))
        launches.append(replace(launch, values={"rate": (base, tuple(shift * value for value in base))}))
    item = replace(item, launches=tuple(launches), metrics=(RATE,))
    return replace(item, spread=measure_spread(item.launches, item.metrics))


@pytest.mark.parametrize(("ratio", "again"), [(1 / 1.04, 1 / 1.06), (1.04, 1.06)])
def test_an_own_metric_has_a_second_chance_like_times(ratio: float, again: float) -> None:
    """What leans to a change is measured again, and both p values count together; less of a rate is worse."""
    first, second = (with_rates(measured(between=0.02), each) for each in (ratio, again))
    alone = of(first, "rate")
    assert alone.verdict in {Verdict.UNCHANGED, Verdict.INCONCLUSIVE}
    assert of(first, "abs_latency").verdict is Verdict.UNCHANGED
    assert is_to_repeat(first, TOLERANCES)
    decided = of(replace(first, again=second), "rate")
    assert decided.verdict is (Verdict.REGRESSED if ratio < 1 else Verdict.IMPROVED)
    assert decided.confirmed
    assert decided.ratio == pytest.approx(ratio)
    assert alone.p is not None
    assert decided.p is not None
    assert (decided.p < alone.p) == (ratio < 1)
    contradicted = of(replace(first, again=with_rates(first, 1 / again)), "rate")
    assert contradicted.verdict is alone.verdict


def test_an_own_metric_has_a_pool_of_its_own() -> None:
    """Launches that agree in time say nothing of a rate that differs between them; nor does a quiet case of a rate."""
    calm = [with_rates(measured(), 1.0, seed=seed, spread=0.003) for seed in range(2)]
    loud = [with_rates(measured(), 1.0, seed=seed, spread=0.03) for seed in range(10)]
    pooled = share_launch_noise([*calm, *loud])
    noise = pooled[0].noise
    assert math.sqrt(noise["abs_latency"].variance) < BETWEEN_FLOOR
    assert math.sqrt(noise["rate"].variance) > BETWEEN_FLOOR
    alone, together = of(calm[0], "rate"), of(pooled[0], "rate")
    assert alone.high is not None
    assert together.high is not None
    assert together.high > alone.high
    assert of(pooled[0], "abs_latency").high == pytest.approx(of(calm[0], "abs_latency").high)


def test_equal_rates_seldom_block_and_slower_ones_are_found() -> None:
    """In pull requests of ten cases with launches that differ by 0.7 %, drawn anew for both measurements."""

    def judge(ratio: float, seed: int) -> list[Comparison]:
        def draw(place: int, again: int) -> Measured:
            calm = replace(measured(), launches=launches(1.0, count=10 * (1 + again)))
            return with_rates(calm, ratio if place == 0 else 1.0, seed=100 * seed + 10 * again + place, spread=0.007)

        first = share_launch_noise([draw(place, 0) for place in range(10)])
        both = [
            replace(one, again=draw(place, 1)) if is_to_repeat(one, TOLERANCES) else one
            for place, one in enumerate(first)
        ]
        found = [c for one in share_launch_noise(both) for c in compare_case(one, TOLERANCES)]
        return [c for c in correct_family(found) if c.metric == "rate"]

    assert sum(any(c.blocks for c in judge(1.0, seed)) for seed in range(10)) == 0
    assert sum(judge(0.96, seed)[0].blocks for seed in range(10)) >= 8


@pytest.mark.parametrize(("values", "verdict"), [((0.0, 0.0), Verdict.UNCHANGED), ((0.0, 1.0), Verdict.INCONCLUSIVE)])
def test_an_own_metric_without_ratios_is_not_judged_by_an_interval(
    values: tuple[float, float], verdict: Verdict
) -> None:
    """Nor does it hold up what looks decide."""
    base, head = values
    item = measured()
    sides = (base,) * 40, (head,) * 40
    item = replace(
        item, launches=tuple(replace(each, values={"rate": sides}) for each in item.launches), metrics=(RATE,)
    )
    found = of(item, "rate")
    assert (found.verdict, found.p, found.leans) == (verdict, None, None)
    assert len(estimate_slowdowns(item, TOLERANCES)) == 1
    assert measure_spread(item.launches, item.metrics).keys() == {"abs_latency"}


def test_an_own_metric_of_the_same_program_is_unchanged_or_shows_that_it_is_not() -> None:
    """It leaves the family with the case's times; where it clearly differs the trace has missed something."""
    spared = of(replace(with_rates(measured(), 0.999), spared=True), "rate")
    assert (spared.verdict, spared.p) == (Verdict.UNCHANGED, None)
    assert not is_clear_difference(with_rates(measured(), 0.999), TOLERANCES)
    assert is_clear_difference(with_rates(measured(), 0.8), TOLERANCES)


def test_rules_change_the_limits_of_the_cases_they_fit() -> None:
    """Later rules win; a threshold follows a margin that is above it."""
    rules = (
        Rule(case="tiny/*", margin=0.5),
        Rule(case="tiny/m*", metric="*", margin=0.4),
        Rule(case="*cuda", margin=0.9),
        Rule(case="other/*", margin=0.0),
    )
    tolerances = ToleranceRules(rules=rules)
    assert tolerances.find(CASE, "abs_latency") == ChangeTolerance(margin=0.4, threshold=0.4)
    assert tolerances.find(replace(CASE, device="cuda"), "abs_latency") == ChangeTolerance(margin=0.9, threshold=0.9)
    assert tolerances.find(replace(CASE, model="lstm"), "abs_latency") == ChangeTolerance(margin=0.5, threshold=0.5)
    assert verdicts(measured(1.3), tolerances)["abs_latency"] is Verdict.UNCHANGED
