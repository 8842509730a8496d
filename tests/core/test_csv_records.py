"""CSV files of any suite runner, read back into records."""

from dataclasses import replace

import pytest

from torchperf_ci.core.csv_names import CsvFile
from torchperf_ci.core.csv_records import parse_csv
from torchperf_ci.core.records import COUNTERS, Mode, Status, Testing

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
