"""The summary numbers along time."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report_builders import both, case
from run_builders import a_run
from torchperf_ci.core.frames import CaseSelection, Section
from torchperf_ci.core.records import Mode
from torchperf_ci.dashboard.charts import spread_labels
from torchperf_ci.dashboard.regressions import Trend, follow_numbers, summarize_run

SECTION = Section(mode=Mode.INFERENCE, device="cpu", dtype="float32")


def test_every_compiler_of_any_run_has_its_numbers():
    """A compiler that a run lacks has a gap there; the order is the newest run's."""
    looks = [
        summarize_run(a_run(day, records), CaseSelection())
        for day, records in enumerate(
            [
                both(case("a"), 2.0, compilation_latency=10.0, compression_ratio=0.5),
                [*both(case("a"), 4.0), *both(case("a", "eager"), 0.5)],
                both(case("a", "eager"), 0.25),
            ]
        )
    ]
    found = {(item.name, item.compiler): item.values for item in follow_numbers(looks, include_slowdowns=False)}
    assert list(dict.fromkeys(compiler for _, compiler in found)) == ["eager", "inductor"]
    assert found["geomean", "inductor"] == (2.0, 4.0, None)
    assert found["geomean", "eager"] == (None, 1.0, 1.0)
    assert found["passrate", "inductor"] == (100.0, 100.0, None)
    assert found["comp_time", "inductor"] == (10.0, None, None)
    assert found["memory", "inductor"] == (0.5, None, None)
    counted = {(item.name, item.compiler): item.values for item in follow_numbers(looks, include_slowdowns=True)}
    assert counted["geomean", "eager"] == (None, 0.5, 0.25)


def test_what_is_not_selected_is_not_looked_at():
    """Other suites leave no trace."""
    look = summarize_run(a_run(0, [*both(case(suite="one")), *both(case(suite="two"))]), CaseSelection(suites=("one",)))
    assert [tables.suite for tables in look.tables] == ["one"]
    assert {line.suite for line in look.lines} == {"one"}


def test_the_oldest_and_the_previous_number_are_those_that_are_known():
    """Runs without the compiler are passed over."""
    trend = Trend(
        section=SECTION, suite="tiny", compiler="inductor", name="geomean", values=(None, 1.0, None, 2.0, None)
    )
    assert (trend.oldest, trend.previous, trend.newest_known) == (1.0, 1.0, 2.0)
    lonely = replace(trend, values=(None, 1.0))
    assert (lonely.oldest, lonely.previous, lonely.newest_known) == (1.0, None, 1.0)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8).map(sorted), st.sampled_from([0.05, 0.1]))
def test_labels_at_the_ends_of_lines_do_not_cover_each_other(wanted: list[float], gap: float):
    """They keep their order and their distance, below the panel's top, and stay where they were if there is room."""
    places = spread_labels(wanted, gap=gap)
    assert all(above - below >= gap - 1e-9 for below, above in pairwise(places))
    assert max(places) <= 1
    if all(above - below >= gap for below, above in pairwise(wanted)):
        assert places == pytest.approx(wanted)
