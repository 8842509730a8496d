"""What is sampled when, and when it is enough: a source in memory, a clock that it moves on."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from torchperf_ci.run.sampler import (
    LONGEST_READING,
    LONGEST_TURN,
    SHORTEST,
    SHORTEST_TURN,
    SamplePair,
    Sampler,
    StopRule,
    Turn,
)

Times = Callable[[int], tuple[float, float]]


@dataclass
class Source:
    """SamplePair number n takes `times(n)` seconds; each asking costs `asking` seconds more, each reading `setup`."""

    times: Times
    asking: float = 0.0
    setup: float = 0.0
    compiles_at: frozenset[int] = frozenset()
    now: float = 0.0
    taken: int = 0
    swapped: list[bool] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    _compiled: bool = False

    def take(self, swapped: Sequence[bool], turn: Turn) -> list[SamplePair]:
        self.now += self.asking
        self.batches.append(len(swapped))
        self.turns.append(turn)
        return [self._pair(turned, turn) for turned in swapped]

    def _pair(self, turned: bool, turn: Turn) -> SamplePair:  # noqa: FBT001 - a value, not a switch
        first, second = self.times(self.taken)
        self.now += ((first + second) * turn.repeats + 2 * self.setup) * turn.readings
        self.swapped.append(turned)
        self._compiled |= self.taken in self.compiles_at
        self.taken += 1
        return SamplePair(first=first, second=second, probe=1e-4)

    def invalidated(self) -> bool:
        compiled, self._compiled = self._compiled, False
        return compiled


def sampler(times: Times, *, seed: int = 0, **source: object) -> tuple[Sampler, Source]:
    made = Source(times, **source)  # type: ignore[arg-type]
    return Sampler(made, random.Random(seed), clock=lambda: made.now), made


def steady(_: int) -> tuple[float, float]:
    return 2e-3, 1e-3


def noisy(spread: float, seed: int = 1) -> Times:
    rng = random.Random(seed)
    return lambda _: (2e-3 * math.exp(rng.gauss(0, spread)), 1e-3)


def test_a_steady_ratio_is_warm_after_two_windows() -> None:
    """Twenty pairs, the fewest that say anything."""
    one, source = sampler(steady)
    assert one.warm_up() == source.taken == 20


def test_warming_up_lasts_until_two_windows_agree_within_a_percent() -> None:
    """The ratio falls by 5 % a window for five windows, then stays."""
    one, source = sampler(lambda n: (2e-3 * 0.95 ** min(n // 10, 5), 1e-3))
    assert one.warm_up() == source.taken == 70


@pytest.mark.parametrize(("drift", "pairs"), [(0.009, 20), (0.011, None)])
def test_a_percent_is_the_border(drift: float, pairs: int | None) -> None:
    """Less is steady; more is not, however long it lasts."""
    one, source = sampler(lambda n: (0.1 * (1 + drift) ** (n // 10), 0.02))
    assert one.warm_up() == (pairs or source.taken)
    assert (source.now >= 10) is (pairs is None)


def test_warming_up_ends_after_ten_seconds() -> None:
    """What never gets steady is measured as it is."""
    one, source = sampler(lambda n: (0.02 * (1 + n % 20 // 10), 0.01))
    assert one.warm_up() == source.taken
    assert 10 <= source.now < 10.5


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_number_of_warm_up_pairs_is_exact(count: int) -> None:
    """`--warmup` replaces the rule."""
    one, source = sampler(steady)
    assert one.warm_up(iterations=count) == source.taken == count


def test_a_model_that_compiles_while_warming_up_is_not_warm_yet() -> None:
    """Two more windows agree before it is."""
    one, source = sampler(steady, compiles_at=frozenset({15}))
    assert one.warm_up() == source.taken == 30


def test_a_repeat_is_exact() -> None:
    """`--repeat` is so many pairs, whatever they cost and say."""
    one, source = sampler(noisy(1.0))
    assert len(one.measure(StopRule(repeat=13))) == source.taken == 13


def test_every_pair_of_a_measurement_is_kept_in_order() -> None:
    """Nothing is deleted, also not what lies far off."""
    one, _ = sampler(lambda n: (1e-3 * (n + 1) * (50 if n == 5 else 1), 1e-3))
    first = [pair.first for pair in one.measure(StopRule(repeat=20))]
    assert first == [pytest.approx(1e-3 * (n + 1) * (50 if n == 5 else 1)) for n in range(20)]


@pytest.mark.parametrize(
    ("spread", "share"),
    [(0.001, 1 / 8), (0.03, 1 / 8), (0.067, 1 / 4), (0.085, 1 / 2), (0.12, 1.0), (0.5, 1.0)],
)
def test_sampling_ends_at_the_first_look_that_is_precise_enough(spread: float, share: float) -> None:
    """Looks are at an eighth, a quarter, a half and the whole of the time: the noisier, the later."""
    one, source = sampler(noisy(spread))
    one.warm_up(iterations=10)
    began = source.now
    pairs = one.measure(StopRule(seconds=4.0, half_width=0.01))
    assert source.now - began == pytest.approx(4.0 * share, rel=0.1)
    assert len(pairs) == source.taken - 10


def test_the_time_is_the_limit_however_noisy() -> None:
    """The last batch may pass it by about 50 ms."""
    one, source = sampler(noisy(2.0))
    one.measure(StopRule(seconds=1.0))
    assert 1.0 <= source.now < 1.2


def test_slow_models_get_the_fewest_pairs_that_make_an_interval() -> None:
    """Also when the time was over long ago."""
    one, source = sampler(lambda _: (2.0, 1.0))
    one.warm_up(iterations=2)
    assert len(one.measure(StopRule(seconds=4.0, least=30))) == 30
    assert max(source.batches) <= 15


@pytest.mark.parametrize("warm", [0, 2])
def test_slow_models_are_asked_for_few_pairs_at_once(warm: int) -> None:
    """A look, an interrupt or a time limit must not wait for two hundred of them, warmed up or not."""
    one, source = sampler(lambda _: (2.0, 1.0))
    one.warm_up(iterations=warm)
    one.measure(StopRule(seconds=300.0, half_width=0.0))
    assert max(source.batches[1:3]) <= 5


def test_fast_models_are_asked_for_many_pairs_at_once() -> None:
    """About 50 ms of them, at most two hundred."""
    one, source = sampler(lambda _: (1.2e-3, 1.3e-3), asking=1e-4)
    one.warm_up()
    one.measure(StopRule(seconds=1.0, half_width=0.0))
    assert 15 <= max(source.batches) <= 20
    one, source = sampler(lambda _: (6e-5, 6e-5))
    one.warm_up()
    one.measure(StopRule(seconds=1.0, half_width=0.0))
    assert max(source.batches) == 200


def test_the_order_in_a_pair_is_random_and_balanced() -> None:
    """Neither arm runs first more often than chance has it, and there is no pattern."""
    one, source = sampler(steady)
    one.measure(StopRule(repeat=10_000))
    assert abs(sum(source.swapped) - 5000) < 4 * 50
    runs = [len(list(group)) for _, group in itertools.groupby(source.swapped)]
    assert abs(len(runs) - 5000) < 4 * 50
    assert max(runs) > 5


def test_the_order_follows_from_the_seed() -> None:
    """The same seed takes the same sequence again, another another."""
    orders = []
    for seed in (5, 5, 6):
        one, source = sampler(steady, seed=seed)
        one.warm_up()
        one.measure(StopRule(repeat=100))
        orders.append(source.swapped)
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    ("first", "second", "repeats"),
    [
        (1e-3, 2e-3, 1),
        (SHORTEST, 1e-3, 1),
        (SHORTEST * 0.99, SHORTEST, 2),
        (1e-5, 2e-5, 6),
        (1e-6, 1e-6, 51),
        (1e-6, 5e-3, 2),
    ],
)
@pytest.mark.parametrize("warm", [None, 10])
def test_short_calls_are_repeated_inside_a_reading(first: float, second: float, repeats: int, warm: int | None) -> None:
    """As often for one arm as for the other, by the time of the quicker; a reading of the slower has a limit."""
    for times in ((first, second), (second, first)):
        one, source = sampler(lambda _, times=times: times)
        one.warm_up(iterations=warm)
        one.measure(StopRule(repeat=5))
        assert source.turns[-1].repeats == one.repeats == repeats
        assert max(times) * repeats <= LONGEST_READING


def test_repeats_are_chosen_once() -> None:
    """Calls about as long as the limit would have one repeat in a launch and two in the next."""
    one, _ = sampler(lambda _: (SHORTEST * 0.9, SHORTEST * 1.1))
    one.warm_up()
    chosen = one.repeats
    other, source = sampler(lambda _: (SHORTEST * 2, SHORTEST * 2))
    other.repeats = chosen
    other.warm_up()
    assert other.repeats == source.turns[0].repeats == chosen == 2


@pytest.mark.parametrize(
    ("first", "second", "setup", "readings"),
    [
        (SHORTEST_TURN, 2 * SHORTEST_TURN, 0.0, 1),
        (1e-3, 2e-3, 0.0, 3),
        (2e-3, 1e-3, 0.0, 3),
        (1e-3, 10e-3, 0.0, 2),
        (1e-3, LONGEST_TURN, 0.0, 1),
        (1e-6, 1e-6, 0.0, 59),
        (1e-3, 1e-3, 9e-3, 2),
        (1e-3, 1e-3, 0.1, 1),
    ],
)
@pytest.mark.parametrize("warm", [None, 10])
def test_where_a_turn_costs_time_it_has_several_short_readings(
    first: float, second: float, setup: float, readings: int, warm: int | None
) -> None:
    """As many for one arm as for the other; what is set up counts to a turn's longest time, not to its shortest."""
    one, source = sampler(lambda _: (first, second), setup=setup)
    one.readings = None
    one.warm_up(iterations=warm)
    one.measure(StopRule(repeat=5))
    assert source.turns[-1].readings == one.readings == readings
    assert source.turns[0].readings == 1


def test_long_turns_are_asked_for_in_small_batches() -> None:
    """Right after they were chosen: a look must not wait for them."""
    one, source = sampler(lambda _: (1e-3, 1e-3))
    one.readings = None
    one.warm_up()
    warm = len(source.batches)
    one.measure(StopRule(repeat=100))
    assert max(source.batches[warm:]) <= 0.05 / 6e-3


def test_where_a_turn_costs_nothing_it_has_one_reading() -> None:
    """Both arms are in one process."""
    one, source = sampler(lambda _: (1e-3, 1e-3))
    one.warm_up()
    one.measure(StopRule(repeat=5))
    assert {turn.readings for turn in source.turns} == {1}


def test_readings_of_a_turn_are_chosen_once() -> None:
    """All launches of a case have the same."""
    one, source = sampler(lambda _: (2e-3, 2e-3))
    one.readings = 7
    one.warm_up()
    assert one.readings == 7
    assert {turn.readings for turn in source.turns} == {7}


def test_a_recompilation_starts_over_once() -> None:
    """The pairs before it are not part of the result."""
    one, source = sampler(steady, compiles_at=frozenset({3}))
    pairs = one.measure(StopRule(repeat=10))
    assert (len(pairs), source.taken) == (10, 20)


def test_what_compiles_for_ever_is_measured_as_it_is() -> None:
    """There is no third time."""
    one, source = sampler(steady, compiles_at=frozenset(range(1000)))
    assert len(one.measure(StopRule(repeat=10))) == 10
    assert source.taken == 20


def test_a_compilation_before_the_measurement_is_none_of_its_business() -> None:
    """It does not start over for what happened while warming up."""
    one, source = sampler(steady, compiles_at=frozenset({2}))
    one.warm_up(iterations=5)
    one.measure(StopRule(repeat=10))
    assert source.taken == 15
