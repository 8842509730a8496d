"""Records as PyTorch's CSV files."""

from dataclasses import replace

from report_builders import accuracy, case, performance
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import COUNTERS, GraphBreak, Mode, Status
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.report.gh_parts import case_csvs

COUNTER_NAMES = ",".join(COUNTERS)


def test_a_performance_file_in_full():
    """Six decimals, gigabytes, blanks for what was not measured, zeros where a case failed."""
    of = case("mlp", "inductor_no_cudagraphs", suite="timm_models", mode=Mode.TRAINING, device="cuda", dtype="amp")
    measured = performance(of, 1.5, compilation_latency=31.25, compression_ratio=1.1, eager_peak_mem=1.25e9)
    measured = replace(measured, counters={"calls_captured": 50, "graph_breaks": 0})
    failed = performance(replace(of, model="lstm"), None, Status.OOM)
    assert dict(case_csvs([measured, failed])) == {
        "inductor_no_cudagraphs_timm_models_amp_training_cuda_performance.csv": (
            "dev,name,batch_size,speedup,abs_latency,compilation_latency,compression_ratio,eager_peak_mem,"
            f"dynamo_peak_mem,{COUNTER_NAMES}\n"
            "cuda,mlp,8,1.500000,6.666667,31.250000,1.100000,1.250000,,50,,,0,,,,,\n"
            "cuda,lstm,0,0.000000,0.000000,,,,,,,,,,,,,\n"
        )
    }


def test_an_accuracy_file_in_full():
    """The status, the counters, the compile time."""
    right = replace(accuracy(case("mlp")), metrics={"compilation_latency": 2.0}, counters=dict.fromkeys(COUNTERS, 1))
    wrong = accuracy(case("lstm"), Status.FAIL_ACCURACY)
    assert dict(case_csvs([right, wrong])) == {
        "inductor_tiny_float32_inference_cpu_accuracy.csv": (
            f"dev,name,batch_size,accuracy,{COUNTER_NAMES},compilation_latency\n"
            "cpu,mlp,8,pass,1,1,1,1,1,1,1,1,1,2.000000\n"
            "cpu,lstm,8,fail_accuracy,,,,,,,,,,\n"
        )
    }


def test_graph_breaks_have_a_file_beside():
    """Model, reason and place, as PyTorch's sidecar has them."""
    found = GraphBreak(reason='call to "print"', user_stack="model.py:12\nmodel.py:3")
    files = dict(case_csvs([performance(case("mlp"), graph_breaks=(found,))]))
    assert files["inductor_tiny_float32_inference_cpu_performance_graph_breaks.csv"] == (
        'model,reason,user_stack\nmlp,"call to ""print""","model.py:12\nmodel.py:3"\n'
    )


def test_compilers_whose_names_look_alike_as_file_names_keep_their_own_files():
    """No file is overwritten by another compiler's."""
    names = [name for name, _ in case_csvs([accuracy(case("mlp", "a/b")), accuracy(case("mlp", "a b"))])]
    assert names == [
        "a-b_tiny_float32_inference_cpu_accuracy.csv",
        "a-b_tiny_float32_inference_cpu_accuracy-2.csv",
    ]


def test_very_long_names_still_make_a_file(tmp_path):
    """What is too long for a file name is shortened, and told apart by a digest."""
    records = [accuracy(case("mlp", letter * 300, suite="s" * 300)) for letter in "xy"]
    files = dict(case_csvs(records))
    assert len(files) == 2
    for name, text in files.items():
        (tmp_path / f"{name}.tmp").write_text(text)


def test_what_is_written_can_be_read_back(tmp_path):
    """Names, statuses, numbers and hostile texts survive."""
    records = [
        accuracy(case("=1+1"), Status.EAGER_TWO_RUNS_DIFFER),
        accuracy(case('a,"b"\nc')),
        performance(case("=1+1"), 1.25, compilation_latency=3.0, dynamo_peak_mem=2e9),
        performance(case('a,"b"\nc'), None, Status.FAIL_TO_RUN),
    ]
    for name, text in case_csvs(records):
        (tmp_path / name).write_text(text)
    read = read_folder(tmp_path, CaseSelection())
    assert read.problems == ()
    assert [(r.key, r.status, r.metrics) for r in read.records] == [(r.key, r.status, r.metrics) for r in records]


def test_the_number_of_processes_is_a_column_where_there_are_several():
    """PyTorch's files have no such column, so it is there only then, as the last one."""
    one = accuracy(case("mlp"))
    two = accuracy(case("lstm"))
    two = replace(two, environment=replace(two.environment, world=2))
    ((_, text),) = case_csvs([one, two])
    assert [line.rpartition(",")[2] for line in text.splitlines()] == ["world", "1", "2"]
