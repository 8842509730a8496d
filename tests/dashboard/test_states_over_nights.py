"""Sixty nights of models to which everything happens, and the state of each in every night."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache

import pytest

from report_builders import BUILD, accuracy, both, case, performance
from run_builders import FIRST_DAY, MACHINE, a_run, collect_series
from torchperf_ci.core.records import Direction, Environment, Record, Status, own_metric
from torchperf_ci.core.results import Results
from torchperf_ci.dashboard.commits import judge_accepted
from torchperf_ci.dashboard.states import SeriesState, State, list_events
from torchperf_ci.history.acceptances import Acceptance
from torchperf_ci.history.runs import HistoryRun

NIGHTS = 60
OTHER_MACHINE = replace(MACHINE, cpu="Xeon")
SUBSET = (17, 33)
"""Nights in which somebody ran two models only."""

Speed = Callable[[int], float]

MODELS: Mapping[str, Speed] = {
    "steady": lambda _: 1.5,
    "step": lambda night: 1.58 if night < 20 else 1.007,
    "small_step": lambda night: 1.5 if night < 20 else 1.5 / 1.06,
    "drift": lambda night: 1.5 * 0.998**night,
    "spike": lambda night: 0.9 if night == 25 else 1.5,
    "false_alarm": lambda night: 0.9 if night == 25 else 1.5,
    "seen_twice": lambda night: 1.5 if night < 25 else 1.2,
    "cured": lambda night: 1.2 if 15 <= night < 40 else 1.4,
    "better": lambda night: 1.2 if night < 20 else 1.5 if night < 40 else 1.2,
    "accepted": lambda night: 1.5 if night < 10 else 1.2 if night < 40 else 1.0,
    "fails": lambda _: 1.5,
    "wrong": lambda _: 1.5,
    "moved": lambda night: 1.5 if night < 30 else 1.1,
    "gone": lambda _: 1.5,
    "new": lambda _: 1.5,
    "asleep": lambda night: 1.5 if night < 16 else 1.0,
}

SPEEDUPS: Mapping[str, Sequence[tuple[int, str]]] = {
    "steady": [(0, "unjudged"), (4, "fine")],
    "step": [(0, "unjudged"), (4, "fine"), (20, "dropped"), (21, "changed")],
    "small_step": [(0, "unjudged"), (4, "fine"), (20, "dropped"), (21, "changed")],
    "drift": [(0, "unjudged"), (4, "fine"), (31, "changed")],
    "spike": [(0, "unjudged"), (4, "fine"), (25, "dropped"), (26, "fine")],
    "false_alarm": [(0, "unjudged"), (4, "fine")],  # it was off, and a second measurement in the same job was not
    "seen_twice": [(0, "unjudged"), (4, "fine"), (25, "changed")],  # the second measurement was off as well
    "cured": [(0, "unjudged"), (4, "fine"), (15, "dropped"), (16, "changed"), (41, "fine")],
    "better": [(0, "unjudged"), (4, "fine"), (40, "dropped"), (41, "changed")],
    "accepted": [
        (0, "unjudged"), (4, "fine"), (10, "dropped"), (11, "changed"), (14, "accepted"), (40, "dropped"),
        (41, "changed"),
    ],
    "fails": [(0, "unjudged"), (4, "fine")],
    "wrong": [(0, "unjudged"), (4, "fine")],
    "moved": [(0, "unjudged"), (4, "fine"), (30, "unjudged"), (35, "fine")],  # in night 33 it was not run
    "gone": [(0, "unjudged"), (4, "fine"), (45, "gone")],
    "new": [(36, "new"), (37, "unjudged"), (40, "fine")],
    "asleep": [(0, "unjudged"), (4, "fine"), (16, "dropped"), (18, "changed")],
}  # fmt: skip
"""The nights in which the state of the speedup of a model becomes another one."""

RUNS: Mapping[tuple[str, str], Sequence[tuple[int, str]]] = {
    ("fails", "performance_status"): [(0, "fine"), (30, "failing"), (40, "fine")],
    ("wrong", "accuracy_status"): [(0, "fine"), (12, "failing")],
    ("new", "accuracy_status"): [(36, "new"), (37, "fine")],
    ("gone", "performance_status"): [(0, "fine"), (45, "gone")],
    ("steady", "graph_breaks"): [(0, "unjudged"), (4, "fine"), (50, "dropped"), (51, "changed")],
    ("steady", "tokens"): [(0, "unjudged"), (4, "fine"), (22, "dropped"), (23, "changed")],
    ("steady", "seconds"): [(0, "unjudged"), (4, "fine"), (28, "dropped"), (29, "changed")],
}

ACCEPTANCE = Acceptance(
    case="tiny/accepted", metric="*", name="results", time=FIRST_DAY + timedelta(days=13, hours=5), by="ana"
)


def make_records(night: int) -> list[Record]:
    chance = random.Random(night)
    records = []
    for model, speed in MODELS.items():
        noise = chance.lognormvariate(0, 0.008)
        records += both(case(model), speed(night) * noise, compression_ratio=1.0)
    return records


def make_night(night: int) -> HistoryRun:
    """A night's run: what the models did, without those that it has not."""
    absent = {"gone"} if night >= 45 else set()
    absent |= {"new"} if night < 36 else set()
    if night in SUBSET:
        absent |= {*MODELS} - {"steady", "step"}
    by_key = {(record.case.model, record.testing.value): record for record in make_records(night)}
    if 30 <= night < 40:
        by_key["fails", "performance"] = performance(case("fails"), None, Status.CRASHED, reason="signal 11")
    if night >= 12:
        by_key["wrong", "accuracy"] = accuracy(case("wrong"), Status.FAIL_ACCURACY)
    steady = by_key["steady", "performance"]
    tokens = own_metric("tokens", unit="1/s", direction=Direction.HIGHER)
    seconds = own_metric("seconds", unit="s", direction=Direction.LOWER)
    by_key["steady", "performance"] = replace(
        steady,
        metrics={**steady.metrics, "tokens": 900 if night < 22 else 700, "seconds": 0.1 if night < 28 else 0.3},
        own_metrics={"tokens": tokens, "seconds": seconds},
        counters={"graph_breaks": 2 if night < 50 else 3},
    )
    kept = [record for (model, _), record in by_key.items() if model not in absent]
    run = a_run(night, kept)
    moved = OTHER_MACHINE if night >= 30 else MACHINE
    records = tuple(replace(r, environment=moved) if r.case.model == "moved" else r for r in run.results.records)
    again = {25: {"false_alarm": 1.5, "seen_twice": 1.21}}.get(night, {})
    confirmations = tuple(
        replace(performance(case(model), speedup), source=run.source, environment=MACHINE)
        for model, speedup in again.items()
    )
    build = replace(BUILD, narrowed_by=("--filter ste",) if night in SUBSET else ())
    return replace(run, results=Results(records=records, builds=(build,), confirmations=confirmations))


@cache
def judge_nights() -> list[dict[tuple[str, str], SeriesState]]:
    """The states after every night, by model and metric."""
    runs = [make_night(night) for night in range(NIGHTS)]
    nights = []
    for night in range(NIGHTS):
        acceptances = [ACCEPTANCE] if runs[night].time >= ACCEPTANCE.time else []
        states = judge_accepted(collect_series(runs[: night + 1]), acceptances=acceptances)
        nights.append({(item.case.model, item.metric.name): item for item in states})
    return nights


def list_turns(key: tuple[str, str]) -> list[tuple[int, str]]:
    """The nights in which a state becomes another one."""
    turns: list[tuple[int, str]] = []
    for night, states in enumerate(judge_nights()):
        if key in states and (not turns or turns[-1][1] != states[key].state.value):
            turns.append((night, states[key].state.value))
    return turns


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_the_state_of_the_table_in_every_night(model: str) -> None:
    """Its speedup's."""
    assert list_turns((model, "speedup")) == SPEEDUPS[model]


@pytest.mark.parametrize("key", RUNS, ids="-".join)
def test_everything_with_a_direction_is_judged(key: tuple[str, str]) -> None:
    """How runs end, counts, and metrics of others, in both directions."""
    assert list_turns(key) == RUNS[key]


@pytest.mark.parametrize(
    ("model", "metric", "first_bad", "ratio"),
    [
        ("step", "speedup", 20, 1.007 / 1.58),
        ("small_step", "speedup", 20, 1 / 1.06),
        ("seen_twice", "speedup", 25, 0.8),
        ("asleep", "abs_latency", 16, 1.5),
        ("steady", "seconds", 28, 3.0),
        ("better", "speedup", 40, 0.8),
    ],
)
def test_a_change_stays_open_with_the_day_and_the_commits_of_the_change(
    model: str, metric: str, first_bad: int, ratio: float
) -> None:
    """However many nights go by: the range ends at the commit of the first bad run."""
    state = judge_nights()[-1][model, metric]
    assert state.is_open
    assert state.since
    assert state.last_good
    assert (state.since.time - FIRST_DAY).days == first_bad
    assert (state.last_good.time - FIRST_DAY).days == first_bad - 1
    assert state.since.commit == f"{first_bad:02x}" * 20
    assert state.change == pytest.approx(ratio - 1, abs=0.02)


def test_what_a_run_did_not_try_keeps_its_state() -> None:
    """A run of two models leaves the others as they were: not gone, not cured, and not a run that they had."""
    before, after = judge_nights()[32:34]
    untouched = [key for key in before if key[0] not in {"steady", "step"}]
    assert {key: after[key].state for key in untouched} == {key: before[key].state for key in untouched}
    assert after["asleep", "speedup"].runs == before["asleep", "speedup"].runs == 16
    assert after["step", "speedup"].runs == before["step", "speedup"].runs + 1


def test_what_cannot_be_judged_says_so_with_numbers() -> None:
    """Too few runs, or too few on this machine."""
    nights = judge_nights()
    assert nights[1]["steady", "speedup"].reason == "2 of 5 runs"
    moved = nights[31]["moved", "speedup"]
    assert (moved.reason, moved.needs) == ("another machine: 2 of 5 runs", 5)


def test_each_change_is_news_in_one_night_only() -> None:
    """What became open is new once, and what is well again is said once."""
    new: list[tuple[int, str]] = []
    cured: list[tuple[int, str]] = []
    for night, states in enumerate(judge_nights()):
        events = list_events(states.values(), f"octo/project/{1000 + night}")
        new += [(night, item.case.model) for item in events.new if item.metric.name != "abs_latency"]
        cured += [(night, item.case.model) for item in events.cured if item.metric.name != "abs_latency"]
    assert new == [
        (11, "accepted"), (12, "wrong"), (16, "cured"), (18, "asleep"), (21, "small_step"),
        (21, "step"), (23, "steady"), (25, "seen_twice"), (29, "steady"), (30, "fails"), (31, "drift"),
        (41, "accepted"), (41, "better"), (51, "steady"),
    ]  # fmt: skip
    assert cured == [(40, "fails"), (41, "cured")]


def test_an_accepted_change_says_who_accepted_it() -> None:
    """And its level is the usual one: what comes later is held against that."""
    nights = judge_nights()
    assert nights[30]["accepted", "speedup"].acceptance == ACCEPTANCE
    again = nights[-1]["accepted", "speedup"]
    assert again.old == pytest.approx(1.2, rel=0.02)
    assert [item.acceptance for item in again.changes] == [ACCEPTANCE, None]


def test_the_state_comes_back_when_the_machine_does() -> None:
    """Two machines in turn are two levels, and what is open on one stays open in the nights of the other."""
    runs = []
    for night in range(40):
        machine = MACHINE if night % 2 else OTHER_MACHINE
        speedup = (1.5 if night < 30 else 1.2) if night % 2 else 1.1
        runs.append(a_run(night, both(case(), speedup), machine=machine))
    (state,) = (item for item in judge_accepted(collect_series(runs)) if item.metric.name == "speedup")
    assert (state.state, state.old) == (State.CHANGED, pytest.approx(1.5))
    assert state.since
    assert (state.since.time - FIRST_DAY).days == 31


def test_a_machine_that_is_not_known_may_be_any() -> None:
    """Runs that do not say their machine are of one series with the others."""
    runs = [a_run(night, both(case(), 1.5), machine=Environment()) for night in range(6)]
    runs += [a_run(night, both(case(), 1.0)) for night in range(6, 9)]
    assert {item.metric.name: item.state for item in judge_accepted(collect_series(runs))}["speedup"] is State.CHANGED
