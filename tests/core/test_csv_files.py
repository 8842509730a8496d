"""CSV files of any suite runner: their names, and their rows read back into records."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.core.csv_files import CsvFile, csv_name_problem, parse_csv, parse_name, readings_of
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import COUNTERS, Mode, Status, Testing

COMPILERS = (
    "eager",
    "aot_eager",
    "inductor",
    "inductor_no_cudagraphs",
    "inductor_with_cudagraphs",
    "inductor_with_cudagraphs_freezing_autotune",
    "inductor_max_autotune",
    "inductor_max_autotune_no_cudagraphs",
    "inductor_cpp_wrapper",
    "inductor_aot_inductor",
    "inductor_dynamic",
    "inductor_deterministic_perf",
    "ts_nvfuser_cudagraphs",
    "torchscript-onnx",
)
SUITES = ("torchbench", "huggingface", "huggingface_llm", "timm_models", "timm", "tiny", "fastrnns")
DTYPES = (
    *("float32", "float16", "bfloat16", "amp", "amp_bf16", "amp_fp16", "fp8", "fp8_e4m3", "fp8_e5m2"),
    *("float8_e4m3fn", "int8", "tf32", "notset"),
)
DEVICES = ("cpu", "cuda", "cuda-1", "cuda_h100", "xpu", "mps", "hpu", "rocm", "cpu_x86", "cpu_aarch64")
UNKNOWN = st.from_regex(r"[a-z]{1,4}\d?(_[a-z]{1,4}\d?){0,2}", fullmatch=True)


def csv_file(
    compiler: str, suite: str, dtype: str, device: str, mode=Mode.TRAINING, testing=Testing.ACCURACY
) -> CsvFile:
    """The file that is called so."""
    name = f"{compiler}_{suite}_{dtype}_{mode}_{device}_{testing}.csv"
    return CsvFile(name=name, compiler=compiler, suite=suite, dtype=dtype, mode=mode, device=device, testing=testing)


@given(
    *(st.sampled_from(names) for names in (COMPILERS, SUITES, DTYPES, DEVICES, tuple(Mode), tuple(Testing))),
)
def test_a_name_of_known_parts_says_them(compiler, suite, dtype, device, mode, testing):
    """Whatever suite runners write is read back part by part."""
    file = csv_file(compiler, suite, dtype, device, mode, testing)
    assert parse_name(file.name) == file


@given(st.sampled_from(COMPILERS), UNKNOWN, st.sampled_from(DTYPES), st.sampled_from(DEVICES), UNKNOWN)
def test_a_name_with_a_foreign_part_says_it_once_it_was_asked_for(compiler, suite, dtype, device, backend):
    """The fix that the problem recommends works: every name is read with the names that were asked for."""
    file = csv_file(backend, suite, dtype, device)
    asked = CaseSelection(compilers=(backend,), suites=(suite,))
    assert file in readings_of(file.name, asked)
    read = parse_name(file.name)
    assert (read is None) == bool(csv_name_problem(file.name))
    only_suite = csv_file(compiler, suite, dtype, device)
    assert only_suite in readings_of(only_suite.name, CaseSelection(suites=(suite,)))


@pytest.mark.parametrize(
    ("name", "compiler", "suite", "dtype"),
    [
        ("inductor_huggingface_amp_bf16_inference_xpu_accuracy.csv", "inductor", "huggingface", "amp_bf16"),
        ("inductor_zoo_amp_bf16_inference_xpu_accuracy.csv", "inductor", "zoo", "amp_bf16"),
        ("my_backend_huggingface_float32_training_cuda_accuracy.csv", "my_backend", "huggingface", "float32"),
        ("tensorrt_zoo_float32_training_cuda_accuracy.csv", "tensorrt", "zoo", "float32"),
        ("inductor_huggingface_my_type_training_cuda_accuracy.csv", "inductor", "huggingface", "my_type"),
        ("inductor_training_zoo_float32_inference_cpu_accuracy.csv", "inductor", "training_zoo", "float32"),
    ],
)
def test_one_unknown_part_is_what_is_left(name: str, compiler: str, suite: str, dtype: str):
    """Known parts are looked for first."""
    file = parse_name(name)
    assert file is not None
    assert (file.compiler, file.suite, file.dtype) == (compiler, suite, dtype)


def test_two_unknown_parts_side_by_side_are_a_problem_that_says_what_to_type():
    """A name that can be read in several ways is never read in a wrong one."""
    name = "my_back_end_my_suite_float32_training_cuda-1_accuracy.csv"
    assert parse_name(name) is None
    assert "several ways" in csv_name_problem(name)
    assert "--compilers" in csv_name_problem(name)
    for asked in (CaseSelection(compilers=("my_back_end",)), CaseSelection(suites=("my_suite",))):
        file = parse_name(name, asked)
        assert file is not None
        assert (file.compiler, file.suite, file.device) == ("my_back_end", "my_suite", "cuda-1")


def test_what_was_asked_for_does_not_cut_a_name_that_is_known():
    """A suite of a short name does not take the end of another one's."""
    file = parse_name("inductor_huggingface_llm_float32_inference_cpu_accuracy.csv", CaseSelection(suites=("llm",)))
    assert file is not None
    assert file.suite == "huggingface_llm"


@pytest.mark.parametrize("name", ["geomean.csv", "inductor_float32_training_cuda_accuracy.csv", "x_accuracy.csv", ""])
def test_other_names_are_no_results(name: str):
    """A file that is named otherwise is not taken for results."""
    assert parse_name(name) is None
    assert "is not named" in csv_name_problem(name)


PERFORMANCE = CsvFile(
    name="p.csv",
    compiler="inductor",
    suite="tiny",
    dtype="amp",
    mode=Mode.TRAINING,
    device="cuda",
    testing=Testing.PERFORMANCE,
)
ACCURACY = CsvFile(
    name="a.csv",
    compiler="inductor",
    suite="tiny",
    dtype="amp",
    mode=Mode.TRAINING,
    device="cuda",
    testing=Testing.ACCURACY,
)
HEADER = "dev,name,batch_size,speedup,abs_latency,compilation_latency,compression_ratio,eager_peak_mem\n"


def test_rows_become_records_in_the_units_of_the_metrics():
    """Memory is bytes again, counters are integers, a blank is no measurement."""
    text = HEADER.strip() + ",graph_breaks\ncuda,mlp,8,1.5,2.25,30.5,,1.25,3\n"
    records, problems = parse_csv(PERFORMANCE, text)
    assert problems == []
    assert records[0].case == PERFORMANCE.case("mlp")
    assert (records[0].status, records[0].batch_size, records[0].counters) == (Status.PASS, 8, {"graph_breaks": 3})
    assert records[0].metrics == {
        "speedup": 1.5,
        "abs_latency": 2.25,
        "compilation_latency": 30.5,
        "eager_peak_mem": 1.25e9,
    }


def test_a_file_without_header_has_the_first_seven_columns():
    """The older form of PyTorch's files is read by position."""
    records, problems = parse_csv(PERFORMANCE, "cuda,mlp,8,1.5,2.25,30.5,1.1\ncuda,dev_net,8,1.1,2,3,1\n")
    assert problems == []
    assert [record.case.model for record in records] == ["mlp", "dev_net"]
    assert records[0].metrics["compression_ratio"] == 1.1


def test_an_accuracy_file_without_header_is_read_by_position():
    """Status, counters and compile time stand where PyTorch writes them; such files have no newer counters."""
    counters = COUNTERS[:-1]
    records, problems = parse_csv(ACCURACY, f"cuda,mlp,4,pass{',1' * len(counters)},7.5\n")
    assert problems == []
    assert records[0].status is Status.PASS
    assert records[0].counters == dict.fromkeys(counters, 1)
    assert records[0].metrics == {"compilation_latency": 7.5}


@pytest.mark.parametrize(
    ("compiler", "row", "not_compiled"),
    [
        ("inductor", "mlp,4,pass,0,0", True),
        ("inductor", "mlp,4,pass,7,1", False),
        ("inductor", "mlp,4,fail_accuracy,0,0", False),
        ("inductor", "mlp,4,pass_due_to_skip,0,0", False),
        ("ts_nnc", "mlp,4,pass,0,0", False),
    ],
)
def test_a_pass_without_a_graph_was_not_compiled(compiler: str, row: str, not_compiled: bool):  # noqa: FBT001 - expected
    """What the counters of a suite runner say, where the compiler is one that they count."""
    header = "dev,name,batch_size,accuracy,calls_captured,unique_graphs"
    (record,), _ = parse_csv(replace(ACCURACY, compiler=compiler), f"{header}\ncpu,{row}\n")
    assert record.not_compiled is not_compiled


def test_a_failed_row_keeps_nothing_of_the_zeros_it_is_filled_up_with():
    """Zeros behind a speedup of 0 are not measurements."""
    records, _ = parse_csv(PERFORMANCE, HEADER + "cuda,mlp,0,0.000000,0.000000,0,0,0\n")
    assert (records[0].status, records[0].metrics) == (Status.FAIL_TO_RUN, {})
    assert records[0].reason == "speedup is 0.000000"


@pytest.mark.parametrize("word", ["infra_error", "0.0000", "some_later_word"])
def test_an_accuracy_word_that_nobody_knows_stays_what_it_is(word: str):
    """It is not taken for a pass, and not for another failure either."""
    records, problems = parse_csv(ACCURACY, f"dev,name,batch_size,accuracy\ncuda,mlp,4,{word}\n")
    assert problems == []
    assert (records[0].status.value, records[0].status.is_pass) == (word, False)


def test_an_accuracy_that_is_no_word_is_a_failure_that_quotes_it():
    """Nothing that could be markup becomes a status."""
    records, _ = parse_csv(ACCURACY, "dev,name,batch_size,accuracy\ncuda,mlp,4,<b>pass</b>\ncuda,lstm,4,\n")
    assert [(record.status, record.reason) for record in records] == [
        (Status.FAIL_TO_RUN, "accuracy is <b>pass</b>"),
        (Status.FAIL_TO_RUN, "accuracy is blank"),
    ]


def test_remarks_and_a_header_without_a_device_are_read():
    """A line that begins with # says nothing about a model, also where it comes first."""
    records, problems = parse_csv(
        ACCURACY, "# made by hand\nname,accuracy,graph_breaks\n#mlp,OOM,1\nmlp,pass,3.0\n# end\n"
    )
    assert problems == []
    assert [(record.case.model, record.status, record.counters) for record in records] == [
        ("mlp", Status.PASS, {"graph_breaks": 3})
    ]


def test_columns_that_nobody_knows_are_kept_when_they_are_numbers():
    """Whole ones as counts, others as measures; words are left."""
    text = HEADER.strip() + ",cache_hits,tokens_per_s,note\ncuda,mlp,8,1.5,2,3,1,1,12,99.5,slow\n"
    records, _ = parse_csv(PERFORMANCE, text)
    assert records[0].counters == {"cache_hits": 12}
    assert records[0].metrics["tokens_per_s"] == 99.5
    assert "note" not in records[0].metrics


def test_a_cpus_memory_that_is_a_hundred_times_too_large_is_left_out():
    """PyTorch's scripts forget to divide per cent by 100; a ratio of two such numbers is a ratio all the same."""
    cpu = CsvFile(**{**{name: getattr(PERFORMANCE, name) for name in PERFORMANCE.__slots__}, "device": "cpu"})
    text = "dev,name,batch_size,speedup,compression_ratio,eager_peak_mem,dynamo_peak_mem\n"
    records, _ = parse_csv(cpu, text + "cpu,bert,2,2.0,0.92,250.866893,271.536947\ncpu,mlp,2,2.0,1,0.3,0.3\n")
    assert [sorted(record.metrics) for record in records] == [
        ["compression_ratio", "speedup"],
        ["compression_ratio", "dynamo_peak_mem", "eager_peak_mem", "speedup"],
    ]
    (on_gpu,), _ = parse_csv(PERFORMANCE, text + "cuda,big,2,2.0,0.92,60,64\n")
    assert on_gpu.metrics["dynamo_peak_mem"] == pytest.approx(64e9)


def test_a_failed_model_of_an_older_runner_is_kept():
    """Such a row ends after its speedup of 0; any other short row is not whole, and says so."""
    text = "dev,name,batch_size,speedup,compilation_latency,compression_ratio\n"
    text += "cuda,good,16,1.5,3.0,0.9\ncuda,bad,0,0.0000\ncuda,cut,8,1.2\n"
    records, problems = parse_csv(PERFORMANCE, text)
    assert [(record.case.model, record.status, dict(record.metrics)) for record in records][1:] == [
        ("bad", Status.FAIL_TO_RUN, {})
    ]
    assert [problem.line for problem in problems] == [4]


@pytest.mark.parametrize(
    ("text", "models", "problems"),
    [
        ("", [], ["p.csv: is empty"]),
        ("\n\n", [], ["p.csv: is empty"]),
        ("\x89PNG\0\0", [], ["p.csv: is not text"]),
        (HEADER, [], ["p.csv: holds no rows"]),
        (
            "dev,model,speedup\ncuda,mlp,1\n",
            [],
            ["p.csv:1: has no column name; its columns are dev, model, speedup"],
        ),
        (
            HEADER + "cuda,mlp,8,1.5,2,3,1,1\ncuda,lst",
            ["mlp"],
            ["p.csv:3: has 2 cells where 8 are expected; the row is not used"],
        ),
        (HEADER + "cuda,,8,1.5,2,3,1,1\n", [], ["p.csv:2: has no model name; the row is not used"]),
        (HEADER + "cuda,mlp,8,nan,2,3,1,1\n", ["mlp"], ["p.csv:2: speedup is 'nan', which is not a usable number"]),
        (HEADER + "cuda,mlp,8,-inf,2,3,1,1\n", ["mlp"], ["p.csv:2: speedup is '-inf', which is not a usable number"]),
        (HEADER + "cuda,mlp,8,fast,2,3,1,1\n", ["mlp"], ["p.csv:2: speedup is 'fast', which is not a usable number"]),
        (HEADER + "cuda,mlp,8,-1,2,3,1,1\n", ["mlp"], ["p.csv:2: speedup is '-1', which is not a usable number"]),
        (HEADER + "cuda,mlp,.5,1,2,3,1,1\n", ["mlp"], ["p.csv:2: batch_size is '.5', which is not a usable number"]),
        (
            HEADER + "cuda,mlp,1e40,1,2,3,1,1\n",
            ["mlp"],
            ["p.csv:2: batch_size is '1e40', which is not a usable number"],
        ),
        (
            HEADER + "cuda,mlp,8,1,2,3,1,1\ncuda,mlp,8,2,2,3,1,1\n",
            ["mlp"],
            ["p.csv:3: 'mlp' again, first on line 2; this later row counts"],
        ),
        (HEADER + 'cuda,"mlp,8,1\n', [], ["p.csv:2: cannot be read from here on: unexpected end of data"]),
    ],
)
def test_what_cannot_be_used_is_named_by_line(text: str, models: list[str], problems: list[str]):
    """The rest of the file is used."""
    records, found = parse_csv(PERFORMANCE, text)
    assert [record.case.model for record in records] == models
    assert [str(problem) for problem in found] == problems


def test_the_later_of_two_rows_counts():
    """A runner that was started again appends."""
    records, _ = parse_csv(PERFORMANCE, HEADER + "cuda,mlp,8,1,2,3,1,1\ncuda,mlp,8,2,2,3,1,1\n")
    assert [record.metrics["speedup"] for record in records] == [2.0]


def test_a_speedup_that_is_no_number_is_a_failure():
    """The model stays in the tables."""
    records, _ = parse_csv(PERFORMANCE, HEADER + "cuda,mlp,8,inf,2,3,1,1\n")
    assert (records[0].status, records[0].reason) == (Status.FAIL_TO_RUN, "speedup is inf")


def test_many_problems_of_one_file_are_counted():
    """A file of rubbish gives twenty lines and a number."""
    _, problems = parse_csv(PERFORMANCE, HEADER + "x\n" * 100)
    assert len(problems) == 21
    assert str(problems[-1]) == "p.csv: 80 more lines with problems"


def test_an_apostrophe_before_a_formula_is_taken_off_again():
    """A name that was written as a harmless cell is the same name when it is read."""
    records, _ = parse_csv(PERFORMANCE, HEADER + "cuda,'=cmd,8,1,2,3,1,1\n")
    assert records[0].case.model == "=cmd"
