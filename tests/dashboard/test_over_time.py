"""The summary numbers along time."""

from __future__ import annotations

from report_builders import both, case
from run_builders import a_run, point
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.dashboard.over_time import look_at, trends


def test_every_compiler_of_any_run_has_its_numbers():
    """A compiler that a run lacks has a gap there; the order is the newest run's."""
    looks = [
        look_at(point(a_run(day, records)), CaseSelection())
        for day, records in enumerate(
            [
                both(case("a"), 2.0, compilation_latency=10.0, compression_ratio=0.5),
                [*both(case("a"), 4.0), *both(case("a", "eager"), 0.5)],
                both(case("a", "eager"), 0.25),
            ]
        )
    ]
    found = {(item.name, item.compiler): item.values for item in trends(looks, include_slowdowns=False)}
    assert list(dict.fromkeys(compiler for _, compiler in found)) == ["eager", "inductor"]
    assert found["geomean", "inductor"] == (2.0, 4.0, None)
    assert found["geomean", "eager"] == (None, 1.0, 1.0)
    assert found["passrate", "inductor"] == (100.0, 100.0, None)
    assert found["comp_time", "inductor"] == (10.0, None, None)
    assert found["memory", "inductor"] == (0.5, None, None)
    counted = {(item.name, item.compiler): item.values for item in trends(looks, include_slowdowns=True)}
    assert counted["geomean", "eager"] == (None, 0.5, 0.25)


def test_what_is_not_selected_is_not_looked_at():
    """Other suites leave no trace."""
    look = look_at(
        point(a_run(0, [*both(case(suite="one")), *both(case(suite="two"))])), CaseSelection(suites=("one",))
    )
    assert [tables.suite for tables in look.tables] == ["one"]
    assert {line.suite for line in look.lines} == {"one"}
