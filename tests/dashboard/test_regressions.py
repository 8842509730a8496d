"""A run against the newest earlier one that can be compared with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from report_builders import accuracy, both, case, performance
from run_builders import MACHINE, a_run
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Environment, Record, Status
from torchperf_ci.dashboard.regressions import CompilerComparison, compare_with_past, summarize_run


def compare(
    before: Sequence[Record], now: Sequence[Record], *, compilers: Sequence[str] = ("inductor",)
) -> list[CompilerComparison]:
    runs = [a_run(0, before), a_run(1, now)]
    return list(compare_with_past(summarize_run(runs[1], CaseSelection()), runs[:1], compilers))


def told(against: Sequence[CompilerComparison]) -> list[tuple[str, str, str, str, str]]:
    """Kind, model, metric, and what was there before and is now."""
    return [
        (
            change.kind.value,
            change.case.model,
            change.metric,
            *(
                "–" if cell is None else f"{cell.value:g}" if cell.measured else cell.status
                for cell in (change.before, change.now)
            ),
        )
        for item in against
        for change in item.changes
    ]


def test_what_is_flagged_now_and_was_not_has_regressed():
    """Accuracy, speedup, compile time and memory are each held against the limits of the warnings."""
    before = [
        *both(case("a")),
        *both(case("b"), 1.2),
        *both(case("c"), compilation_latency=30.0),
        *both(case("d"), compression_ratio=1.0),
        *both(case("e"), 0.5),
    ]
    now = [
        accuracy(case("a"), Status.FAIL_ACCURACY),
        performance(case("a")),
        *both(case("b"), 0.94),
        *both(case("c"), compilation_latency=130.0),
        *both(case("d"), compression_ratio=0.5),
        *both(case("e"), 0.4),
    ]
    assert told(compare(before, now)) == [
        ("regressed", "a", "accuracy", "pass", "fail_accuracy"),
        ("regressed", "b", "speedup", "1.2", "0.94"),
        ("regressed", "c", "compilation_latency", "30", "130"),
        ("regressed", "d", "compression_ratio", "1", "0.5"),
    ]


def test_the_other_way_round_is_fixed():
    """What was flagged and is not any more is fixed; what is flagged in both is neither."""
    bad = [accuracy(case("a"), Status.FAIL_ACCURACY), performance(case("a"), 0.5), *both(case("b"), 0.5)]
    good = [*both(case("a"), 1.5), *both(case("b"), 0.6)]
    assert told(compare(bad, good)) == [
        ("fixed", "a", "accuracy", "fail_accuracy", "pass"),
        ("fixed", "a", "speedup", "0.5", "1.5"),
    ]


def test_models_come_and_go():
    """A model that only one of the runs has is told, and so is one that was planned and not run."""
    before = [*both(case("gone")), *both(case("stays")), *both(case("unfinished"))]
    now = [
        *both(case("stays")),
        *both(case("new"), 0.1),
        accuracy(case("unfinished"), Status.NOT_RUN),
        performance(case("unfinished"), None, Status.NOT_RUN),
    ]
    assert told(compare(before, now)) == [
        ("disappeared", "gone", "accuracy", "pass", "–"),
        ("disappeared", "unfinished", "accuracy", "pass", "not_run"),
        ("appeared", "new", "accuracy", "–", "pass"),
    ]


def test_a_crash_is_a_regression():
    """A model that ran and now ends its process is flagged in accuracy, speedup and memory, like any failure."""
    now = [accuracy(case(), Status.CRASHED), performance(case(), None, Status.CRASHED)]
    assert [line[:3] for line in told(compare(both(case(), compression_ratio=1.0), now))] == [
        ("regressed", "mlp", "accuracy"),
        ("regressed", "mlp", "speedup"),
        ("regressed", "mlp", "compression_ratio"),
    ]


def test_the_newest_run_with_the_same_tests_is_taken():
    """Runs that did not run the compiler, or only looked at accuracy, are passed over."""
    past = [
        a_run(0, both(case(), 1.1)),
        a_run(1, both(case(), 1.2)),
        a_run(2, both(case(compiler="eager"))),
        a_run(3, [accuracy(case())]),
        a_run(4, [accuracy(case(), Status.NOT_RUN), performance(case(), None, Status.NOT_RUN)]),
    ]
    (found,) = compare_with_past(summarize_run(a_run(5, both(case(), 1.3)), CaseSelection()), past, ["inductor"])
    assert found.before is past[1]
    assert (found.line_before.geomean, found.line.geomean) == (1.2, 1.3)


def test_without_an_earlier_run_there_are_no_changes():
    """The first run of a compiler is compared with nothing."""
    (found,) = compare_with_past(summarize_run(a_run(0), CaseSelection()), [], ["inductor"])
    assert (found.before, found.line_before, found.changes) == (None, None, ())


def test_sections_and_suites_are_compared_apart():
    """Every suite, mode, dtype and device is compared with its own past; compilers that are not asked for are not."""
    records = [
        *both(case("m", suite="one"), 1.0),
        *both(case("m", suite="two"), 1.0),
        *both(case("m", suite="one", dtype="amp"), 1.0),
        *both(case("m", "eager", suite="one"), 1.0),
    ]
    worse = [
        replace(record, metrics={**record.metrics, "speedup": 0.5}) if record.metrics else record for record in records
    ]
    assert [(item.suite, item.section.dtype, item.compiler, len(item.changes)) for item in compare(records, worse)] == [
        ("one", "float32", "inductor", 1),
        ("two", "float32", "inductor", 1),
        ("one", "amp", "inductor", 1),
    ]


def test_a_rows_fate_in_eager_counts_for_the_line_before_as_well():
    """A model that cannot be loaded leaves the pass rate of all compilers, in both runs."""
    records = [
        *both(case("a")),
        *both(case("b")),
        accuracy(case("b", "eager"), Status.MODEL_FAIL_TO_LOAD),
        *both(case("a", "eager")),
    ]
    (found,) = compare(records, records)
    assert (found.line_before.total, found.line.total) == (1, 1)


def test_another_machine_is_doubted():
    """When the run before comes from another machine, that is said; when that is not known, nothing is."""
    now = summarize_run(a_run(1), CaseSelection())
    for machine, doubts in (
        (replace(MACHINE, cpu="Xeon"), ("CPU differs: Xeon against EPYC",)),
        (Environment(), ()),
        (MACHINE, ()),
    ):
        (found,) = compare_with_past(now, [a_run(0, machine=machine)], ["inductor"])
        assert found.doubts == doubts
