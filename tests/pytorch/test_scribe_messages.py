"""What messages to Scribe hold."""

import json
import re
from pathlib import Path

import pytest

from torchperf_ci.core.records import Status
from torchperf_ci.formats.model import InputProblem
from torchperf_ci.pytorch.scribe import ScribeFields, entries_of, message_of
from upload_builders import accuracy, measured, record, write_results


def messages_in(text):
    return [json.loads(line) for line in text.splitlines()]


def test_the_fields_are_coerced_to_the_types_of_the_schema():
    """Every value ends in its part of the message, with its type; what is None is left out."""
    fields = {
        "time": "12",
        "rounds": 5.0,
        "pytorch_git_dirty": False,
        "pytorch_version": None,
        "mean": "1.5e-3",
        "min": 1,
    }
    assert message_of(fields, where="x") == {
        "int": {"time": 12, "rounds": 5},
        "normal": {"pytorch_git_dirty": "False"},
        "float": {"mean": 0.0015, "min": 1.0},
    }


def test_the_schema_is_the_published_one():
    """The fields and their parts are those of the category."""
    names = ScribeFields.__struct_fields__
    fields = {name: 1 if name in {"time", "rounds"} else 0.5 for name in names}
    message = message_of(fields, where="x")
    assert list(message["int"]) == ["time", "rounds"]
    assert list(message["float"]) == ["stddev", "min", "median", "max", "mean"]
    assert (len(message["normal"]), len(names)) == (16, 23)
    docs = (Path(__file__).parents[2] / "docs/upload.md").read_text()
    rows = {
        kind: re.search(rf"^\| {kind} \| (.*) \|$", docs, re.MULTILINE)[1] for kind in ("integer", "text", "number")
    }
    in_docs = [row.strip("`").split("`, `") for row in rows.values()]
    assert in_docs == [list(message[part]) for part in ("int", "normal", "float")]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"time": 1, "machine_host": "red"}, "x: unknown field 'machine_host'. Did you mean machine_hostname?"),
        ({"rounds": 1}, "x: field 'time' is missing"),
        ({"time": None}, "x: field 'time' is missing"),
        ({"time": 1, "rounds": "five"}, "x: field rounds: expected a whole number"),
        ({"time": 1, "rounds": 2.5}, "x: field rounds: expected a whole number, got a number"),
        ({"time": True}, "x: field time: expected a whole number"),
        ({"time": 1, "mean": float("nan")}, "x: field mean: expected a number"),
        ({"time": 1, "max": 10**400}, "x: field max: number out of range"),
        ({"time": 1, "benchmark_name": ["a"]}, "x: field benchmark_name: expected text, got a list"),
    ],
)
def test_a_field_that_cannot_be_sent_is_named(fields, said):
    """An unknown field, a missing time and a value of the wrong type are errors that name the field."""
    with pytest.raises(InputProblem) as error:
        message_of(fields, where="x")
    assert said in str(error.value)


def test_a_pytest_benchmark_file_becomes_messages(torchperf, bench_file, bench, monkeypatch):
    """Every benchmark is a message, whatever its parameters; net_name, executor and fuser get fields and a name."""
    monkeypatch.setenv("CIRCLE_BUILD_NUM", "88")
    monkeypatch.setenv("CIRCLE_PROJECT_REPONAME", "pytorch")
    done = torchperf("upload", "scribe", "--pytest_bench_json", bench_file, "--dry-run")
    assert done.code == 0
    messages = messages_in(done.out)
    names = [message["normal"]["benchmark_name"] for message in messages]
    assert names == [
        "test_forward[lstm]",
        "test_forward[gru]",
        "test_add[training-inductor-float16-size0-cuda]",
        "test_add[training-inductor-bfloat16-size1-cuda]",
        "test_plain",
    ]
    first, stats = messages[0], bench["benchmarks"][0]["stats"]
    assert first["float"] == {name: stats[name] for name in ("stddev", "min", "median", "max", "mean")}
    assert first["int"].keys() == {"time", "rounds"}
    assert first["int"]["rounds"] == 5
    normal = first["normal"]
    assert normal["benchmark_class"] == bench["benchmarks"][0]["fullname"]
    assert normal["benchmark_fuser"] == "te"
    assert "benchmark_executor" not in normal
    assert normal["benchmark_time"] == bench["datetime"]
    assert normal["pytorch_commit_id"] == bench["commit_info"]["id"]
    assert normal["machine_kernel"] == bench["machine_info"]["release"]
    assert (normal["circle_build_num"], normal["circle_project_reponame"]) == ("88", "pytorch")
    assert messages[2]["normal"]["benchmark_group"] == "maths"


def test_a_name_keeps_the_parameters_that_have_no_field(bench, torchperf):
    """Benchmarks that differ in another parameter than executor and fuser keep different names, hyphens and all."""
    benchmark = bench["benchmarks"][0]
    benchmark |= {
        "name": "test_x[a-b-legacy-3]",
        "params": {"net_name": "a-b", "executor": "legacy", "size": 3},
        "param": "a-b-legacy-3",
    }
    bench["benchmarks"] = [benchmark]
    stdin = json.dumps(bench).encode()
    done = torchperf("upload", "scribe", "--pytest-bench-json", "-", "--dry-run", stdin=stdin)
    normal = messages_in(done.out)[0]["normal"]
    assert (normal["benchmark_name"], normal["benchmark_executor"]) == ("test_x[a-b-3]", "legacy")


def test_results_become_messages(torchperf, tmp_path, monkeypatch):
    """Every performance record with times is a message; how many are not is said."""
    monkeypatch.setenv("GITHUB_RUN_NUMBER", "99")
    monkeypatch.setenv("GITHUB_REPOSITORY", "octo/other")
    folder = write_results(tmp_path / "out", measured(), accuracy(), record("bad", status=Status.OOM))
    done = torchperf("upload", "scribe", "--results", folder, "--dry-run", "--field", "benchmark_fuser=te")
    assert "1 of 3 results can be sent" in done.err
    (message,) = messages_in(done.out)
    assert message["int"].pop("time") > 0
    assert message == {
        "int": {"rounds": 4},
        "normal": {
            "circle_build_num": "99",
            "circle_project_reponame": "octo/other",
            "benchmark_group": "tiny",
            "benchmark_name": "inference[mlp]",
            "benchmark_executor": "inductor",
            "benchmark_class": "tiny/mlp inductor inference float32 cuda",
            "benchmark_time": "2026-03-01T12:00:00+00:00",
            "pytorch_commit_id": "0123456789abcdef0123456789abcdef01234567",
            "pytorch_branch": "main",
            "pytorch_version": "2.8.0",
            "machine_kernel": "Linux-6.1",
            "machine_processor": "AMD EPYC",
            "machine_hostname": "runner-1",
            "benchmark_fuser": "te",
        },
        "float": pytest.approx({"min": 0.001, "median": 0.0025, "max": 0.004, "mean": 0.0025, "stddev": 0.0012909944}),
    }


def test_equal_messages_are_all_sent():
    """Two equal measurements are two messages with ids of their own, the same ones every time."""
    message = {"int": {"time": 1}, "normal": {"benchmark_name": "a"}}
    later = {"int": {"time": 2}, "normal": {"benchmark_name": "a"}}
    ids = [entry.id for entry in entries_of([("x", message), ("y", message)])]
    assert len(set(ids)) == 2
    assert ids == [entry.id for entry in entries_of([("x", later), ("y", later)])]
