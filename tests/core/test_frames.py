"""Records into tables of models and compilers."""

import math

from report_builders import accuracy, both, case, performance
from torchperf_ci.core.frames import ACCURACY, CaseSelection, Section, model_rows, suite_tables
from torchperf_ci.core.records import Mode, Status, Testing

ALL = CaseSelection()


def test_every_suite_mode_device_and_dtype_has_tables_of_its_own():
    """Nothing is mixed, and nothing is overwritten by what comes later."""
    records = [
        *both(case("mlp", dtype="float32")),
        *both(case("mlp", dtype="amp")),
        *both(case("mlp", mode=Mode.TRAINING)),
        *both(case("mlp", device="cuda")),
        *both(case("bert", suite="other")),
    ]
    made = suite_tables(records, ALL)
    assert [(str(tables.section), tables.suite) for tables in made] == [
        ("inference, float32, cpu", "tiny"),
        ("inference, float32, cpu", "other"),
        ("inference, amp, cpu", "tiny"),
        ("training, float32, cpu", "tiny"),
        ("inference, float32, cuda", "tiny"),
    ]


def test_a_selection_chooses_and_orders():
    """What is asked for comes in the order it was asked for."""
    records = [
        record
        for suite in ("a", "b", "c")
        for compiler in ("eager", "aot_eager", "inductor")
        for record in both(case("mlp", compiler, suite=suite))
    ]
    made = suite_tables(records, CaseSelection(suites=("c", "a"), compilers=("inductor", "eager")))
    assert [(tables.suite, tables.compilers) for tables in made] == [
        ("c", ("inductor", "eager")),
        ("a", ("inductor", "eager")),
    ]


def test_models_are_joined_by_name_and_missing_ones_stay():
    """The order of the records does not matter, and a model that one compiler lacks is there as missing."""
    records = [*both(case("a", "eager"), 1.0), *both(case("b", "eager"), 2.0), *both(case("b", "inductor"), 4.0)]
    (tables,) = suite_tables(records, ALL)
    assert tables.models == ("a", "b")
    assert tables.statuses[Testing.PERFORMANCE].to_dict("index") == {
        "a": {"eager": "pass", "inductor": "missing"},
        "b": {"eager": "pass", "inductor": "pass"},
    }
    assert tables.values["speedup"].at["b", "inductor"] == 4.0
    assert math.isnan(tables.values["speedup"].at["a", "inductor"])


def test_a_model_that_cannot_be_loaded_leaves_the_pass_rate_of_every_compiler():
    """As in PyTorch's tables: one such status is enough."""
    records = [
        accuracy(case("a", "eager"), Status.MODEL_FAIL_TO_LOAD),
        *both(case("a", "inductor")),
        *both(case("b", "eager")),
        *both(case("b", "inductor")),
    ]
    (tables,) = suite_tables(records, ALL)
    assert tables.counted.to_dict("index") == {
        "a": {"eager": False, "inductor": False},
        "b": {"eager": True, "inductor": True},
    }


def test_a_compiler_that_is_not_available_leaves_only_its_own_pass_rate():
    """The other compilers' results still count."""
    records = [*both(case("a", "eager")), accuracy(case("a", "trt"), Status.COMPILER_NOT_AVAILABLE)]
    (tables,) = suite_tables(records, ALL)
    assert tables.counted.to_dict("index") == {"a": {"eager": True, "trt": False}}


def test_a_case_passes_when_what_was_looked_at_is_right():
    """Accuracy and a measured speedup, or the one of them that there is."""
    records = [
        *both(case("good")),
        accuracy(case("wrong"), Status.FAIL_ACCURACY),
        performance(case("wrong"), 2.0),
        accuracy(case("skipped"), Status.PASS_DUE_TO_SKIP),
        performance(case("skipped"), 2.0),
        accuracy(case("slow")),
        performance(case("slow"), None, Status.TIMEOUT),
        performance(case("unchecked"), 2.0),
    ]
    (tables,) = suite_tables(records, ALL)
    assert tables.passed["inductor"].to_dict() == {
        "good": True,
        "wrong": False,
        "skipped": True,
        "slow": False,
        "unchecked": False,
    }
    (only_performance,) = suite_tables([performance(case("unchecked"), 2.0)], ALL)
    assert bool(only_performance.passed.at["unchecked", "inductor"])


def test_rows_come_best_first_by_inductor_then_by_the_last_compiler():
    """The order of PyTorch's own tables; what was not measured comes last."""
    speedups = {"a": (1.0, 2.0, 1.0), "b": (1.0, 3.0, 1.0), "c": (1.0, 2.0, 5.0), "d": (1.0, None, 9.0)}
    records = [
        performance(case(model, compiler), value, Status.PASS if value else Status.CRASHED)
        for model, values in speedups.items()
        for compiler, value in zip(("eager", "inductor", "inductor_no_cudagraphs"), values, strict=True)
    ]
    (tables,) = suite_tables(records, ALL)
    assert [row.model for row in model_rows(tables, "speedup")] == ["b", "c", "a", "d"]


def test_a_table_that_was_not_looked_at_has_no_rows():
    """Accuracy alone makes no table of speedups."""
    (tables,) = suite_tables([accuracy(case("a"))], ALL)
    assert list(model_rows(tables, "speedup")) == []
    assert [row.cells[0].status for row in model_rows(tables, ACCURACY)] == ["pass"]


def test_the_batch_size_of_a_row_is_the_largest_of_its_compilers():
    """An error row has 0, which says nothing."""
    records = [performance(case("a", "eager"), batch_size=16), performance(case("a", "inductor"), batch_size=0)]
    (tables,) = suite_tables(records, ALL)
    assert next(model_rows(tables, "speedup")).batch_size == 16


def test_a_section_reads_as_mode_dtype_and_device():
    """The words stand in titles."""
    assert str(Section(mode=Mode.TRAINING, device="cuda", dtype="amp")) == "training, amp, cuda"
