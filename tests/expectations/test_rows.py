"""What a run found, as rows for expectation tables."""

import pytest

from fakes.artifacts import accuracy_csv, record
from torchperf_ci.core.records import Status, Testing
from torchperf_ci.expectations.rows import join_columns, join_shards, make_run_tables, read_run_csv, read_run_tables
from torchperf_ci.expectations.table import ExpectationTable, TableProblem


def rows_of(text: str, *, source: str) -> ExpectationTable:
    """The rows of a CSV of a run."""
    found = read_run_csv(text, source=source)
    assert found is not None
    return found.table


def test_a_suite_runners_csv_keeps_the_columns_of_expectations():
    """Blank counters are 0, integers stay integers, and what expectations do not have is left out."""
    text = accuracy_csv("resnet18,pass,81.0,0", "vgg16,fail_to_run,,", "alexnet,OOM,nan,3.0")
    assert rows_of(text, source="x") == ExpectationTable(
        columns=("name", "accuracy", "calls_captured", "graph_breaks"),
        rows=(("resnet18", "pass", "81", "0"), ("vgg16", "fail_to_run", "0", "0"), ("alexnet", "OOM", "0", "3")),
    )


def test_a_performance_csv_without_a_header_is_read():
    """A first line without names is a row of the seven columns that suite runners write."""
    table = rows_of("cuda,resnet18,4,1.5,2.25,30.1,0.9\n", source="x")
    assert table.by_name()["resnet18"] == {
        "name": "resnet18",
        "speedup": "1.500000",
        "abs_latency": "2.250000",
        "compilation_latency": "30.100000",
        "compression_ratio": "0.900000",
        "performance": "pass",
    }


def test_a_metric_that_is_no_finite_number_is_blank():
    """NaN and infinity are not measured values."""
    table = rows_of("name,speedup\na,nan\nb,inf\nc,oops\nd,2\n", source="x")
    assert [row[1] for row in table.rows] == ["", "", "", "2.000000"]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("a,pass,x,0", "calls_captured is 'x', expected a count"),
        ("a,pass,1.5,0", "calls_captured is '1.5', expected a count"),
        ("a,pass,-1,0", "calls_captured is '-1', expected a count"),
        ("a,@everyone,1,0", "the accuracy '@everyone' is not a status"),
        ("a,<b>hi</b>,1,0", "the accuracy '<b>hi</b>' is not a status"),
    ],
)
def test_a_row_that_is_no_result_breaks_its_model_only(row: str, why: str):
    """Counters are counts, and an accuracy is a status; the other models are judged."""
    found = read_run_csv(accuracy_csv(row, "b,pass,1,0"), source="x.csv")
    assert found is not None
    assert found.broken == {"a": f"row 'a': {why}"}
    assert found.problems == (f"x.csv:2: row 'a': {why}",)
    assert found.table.by_name()["b"]["accuracy"] == "pass"


def test_a_model_with_two_rows_is_broken_and_the_others_are_not():
    """Which of the two is the truth cannot be known."""
    found = read_run_csv(accuracy_csv("a,pass,1,0", "b,pass,1,0", "a,OOM,1,0"), source="x.csv")
    assert found is not None
    assert found.broken == {"a": "has several rows, on lines 2, 4"}


def test_columns_of_numbers_that_nobody_knows_are_kept_as_they_are_written():
    """So are accuracies that nobody knows; words in other columns and remarks are not."""
    text = "# by hand\nname,accuracy,graph_breaks,retries,note\na,infra_error,0,3,x\n#b,pass,0,0,y\nb,0.0000,1,,y\n"
    assert rows_of(text, source="x") == ExpectationTable(
        columns=("name", "accuracy", "graph_breaks", "retries"),
        rows=(("a", "infra_error", "0", "3"), ("b", "0.0000", "1", "")),
    )


def test_files_beside_the_results_are_no_tables():
    """A foreign CSV, PyTorch's sidecars and a broken file leave the others alone."""
    files = {
        "inductor_tiny_float32_inference_cpu_accuracy.csv": accuracy_csv("a,pass,1,0").encode(),
        "inductor_tiny_float32_inference_cpu_performance.csv": b"dev,name,batch_size,speedup\ncpu,a,1,0.0\n",
        "inductor_tiny_float32_inference_cpu_performance_compilation_metrics.csv": b"dev,name,batch_size\ncpu,a,1\n",
        "prices.csv": b"name,price\napple,3\n",
        "geomean.csv": b",Compiler,tiny\n0,inductor,1.2x\n",
        "picture_accuracy.csv": b"\x89PNG\0",
    }
    found = read_run_tables(files, files.__getitem__)
    assert list(found.tables) == ["inductor_tiny_float32_inference_cpu.csv"]
    assert found.problems == ("picture_accuracy.csv: holds no results",)
    (row,) = found.tables["inductor_tiny_float32_inference_cpu.csv"].table.by_name().values()
    assert (row["accuracy"], row["speedup"], row["performance"]) == ("pass", "0.000000", "fail_to_run")


def test_records_become_a_table_per_compiler_with_metrics_and_counters():
    """Accuracy and performance of a model stand in one row; counters come from the accuracy run."""
    found = make_run_tables(
        [
            record("mlp", graph_breaks=0, calls_captured=12),
            record("mlp", testing=Testing.PERFORMANCE, metrics={"speedup": 1.25, "abs_latency": 0.5}, graph_breaks=1),
            record("lstm", Status.CRASHED),
            record("mlp", compiler="eager"),
        ]
    )
    assert list(found) == ["inductor_tiny_float32_inference_cpu.csv", "eager_tiny_float32_inference_cpu.csv"]
    assert found["inductor_tiny_float32_inference_cpu.csv"].table == ExpectationTable(
        columns=("name", "accuracy", "calls_captured", "graph_breaks", "speedup", "abs_latency", "performance"),
        rows=(("mlp", "pass", "12", "0", "1.250000", "0.500000", "pass"), ("lstm", "crashed", "0", "0", "", "", "")),
    )
    assert found["eager_tiny_float32_inference_cpu.csv"].table.rows == (("mlp", "pass", "0"),)


def test_a_case_that_was_not_run_is_no_row_but_a_problem():
    """What the budget cut off says nothing about the model; a hostile name stays out as well."""
    found = make_run_tables([record("mlp"), record("lstm", Status.NOT_RUN), record("=cmd()")])
    (each,) = found.values()
    assert each.table.names == ("mlp",)
    assert each.problems == (
        "the model '=cmd()' does not start with a letter, a digit or _",
        "not run: lstm",
    )


def test_shards_are_joined_under_their_common_columns():
    """Columns that a shard lacks are left out, rows are in the shards' order."""
    first = rows_of("name,accuracy,graph_breaks,calls_captured\na,pass,0,1\n", source="x")
    second = rows_of("name,accuracy,graph_breaks\nb,pass,2\n", source="y")
    assert join_shards([("shard 1", first), ("shard 2", second)]) == ExpectationTable(
        columns=("name", "accuracy", "graph_breaks"), rows=(("a", "pass", "0"), ("b", "pass", "2"))
    )


def test_a_model_of_two_shards_is_refused():
    """Which of the two would be the truth cannot be known."""
    table = rows_of("name,accuracy\na,pass\n", source="x")
    with pytest.raises(TableProblem, match="the model 'a' is in shard 1 and in shard 2"):
        join_shards([("shard 1", table), ("shard 2", table)])


def test_two_csvs_of_a_run_stand_side_by_side():
    """The first one's values stay, the second one adds columns and models."""
    first = rows_of("name,accuracy,graph_breaks\na,pass,1\n", source="x")
    second = rows_of("name,speedup,graph_breaks\na,2,9\nb,3,9\n", source="y")
    assert join_columns(first, second) == ExpectationTable(
        columns=("name", "accuracy", "graph_breaks", "speedup", "performance"),
        rows=(("a", "pass", "1", "2.000000", "pass"), ("b", "", "9", "3.000000", "pass")),
    )
