"""Results of other benchmark tools as records."""

import json
import time
from dataclasses import replace

import pytest

from torchperf_ci.core.records import Case, Direction, Environment, Mode, Record, Source, Status, Testing
from torchperf_ci.core.results import Results, read_results
from torchperf_ci.formats.google_benchmark import import_google_benchmark
from torchperf_ci.formats.imports import runs_of
from torchperf_ci.formats.model import Clock, Imported, ImportRequest
from torchperf_ci.formats.pytest_benchmark import import_pytest_benchmark
from torchperf_ci.history.runs import make_run

REQUEST = ImportRequest(source=Source(repository="octo/repo", commit="f" * 40, branch="main", run_id="9"))


def of_pytest_benchmark(bench, request=REQUEST):
    return import_pytest_benchmark(json.dumps(bench).encode(), request, file="bench.json")


def of_google_benchmark(benchmarks, context=None, clock=Clock.REAL):
    content = json.dumps({"context": context or {}, "benchmarks": benchmarks}).encode()
    return import_google_benchmark(content, replace(REQUEST, clock=clock), file="bench.json")


def case(suite, model, **rest):
    known = {"mode": Mode.INFERENCE, "device": "cpu", "dtype": "unknown", "compiler": "none"}
    return Case(suite=suite, model=model, **{**known, **rest})


def test_a_run_of_pytest_benchmark_becomes_records(torchperf, bench_file, bench, tmp_path):
    """Every benchmark is a performance record with all of its raw rounds; its parameters say what they can."""
    out = tmp_path / "out"
    done = torchperf("ingest", "pytest-benchmark", bench_file, "--output-dir", out)
    assert (done.code, done.out) == (0, f"Wrote {out}/records.jsonl: 5 results, 5 with raw rounds\n")
    results = read_results(out)
    in_training = {"device": "cuda", "mode": Mode.TRAINING, "compiler": "inductor"}
    assert [record.case for record in results.records] == [
        case("bench_ops", "test_forward[None-te-lstm]"),
        case("bench_ops", "test_forward[None-te-gru]"),
        case("maths", "TestMath::test_add[size0]", dtype="float16", **in_training),
        case("maths", "TestMath::test_add[size1]", dtype="bfloat16", **in_training),
        case("bench_ops", "test_plain"),
    ]
    for record, benchmark in zip(results.records, bench["benchmarks"], strict=True):
        assert (record.testing, record.status) == (Testing.PERFORMANCE, Status.PASS)
        assert record.samples == {"compiled": tuple(benchmark["stats"]["data"])}
        assert record.metrics == {"abs_latency": pytest.approx(benchmark["stats"]["median"] * 1000)}
    environment = results.records[0].environment
    assert environment.host == bench["machine_info"]["node"]
    assert environment.cpu_count == bench["machine_info"]["cpu"]["count"]
    assert results.builds[0].environment == environment
    assert results.records[0].source.time == bench["datetime"]


def test_an_ingested_folder_gets_a_report(torchperf, bench_file, tmp_path):
    """Benchmarks without an eager arm pass, and their latencies are in the report."""
    out = tmp_path / "out"
    torchperf("ingest", "pytest-benchmark", bench_file, "--output-dir", out)
    done = torchperf("report", out)
    assert done.code == 0
    text = (out / "report.md").read_text()
    assert text.startswith("## ✅ 5 cases passed\n")
    assert "test_forward[None-te-lstm]" in text


def test_exports_of_ingested_results_are_the_same_numbers(torchperf, bench_file, bench, tmp_path):
    """In and out again: pytest-benchmark reads the rounds that it wrote."""
    out = tmp_path / "out"
    torchperf("ingest", "pytest-benchmark", bench_file, "--output-dir", out)
    exported = json.loads(torchperf("export", out, "--format", "pytest-benchmark").out)
    for ours, theirs in zip(exported["benchmarks"], bench["benchmarks"], strict=True):
        assert ours["stats"]["data"] == theirs["stats"]["data"]
        for name in ("median", "stddev", "iqr", "q1", "q3", "ops"):
            assert ours["stats"][name] == pytest.approx(theirs["stats"][name])


def test_a_file_without_rounds_keeps_its_median(bench):
    """Saved without --benchmark-save-data there are no samples, and nothing is made up."""
    for benchmark in bench["benchmarks"]:
        benchmark["stats"].pop("data")
    records = of_pytest_benchmark(bench).records
    assert all(not record.samples for record in records)
    assert records[0].metrics == {"abs_latency": pytest.approx(bench["benchmarks"][0]["stats"]["median"] * 1000)}


def parametrised(bench, **params):
    benchmark = bench["benchmarks"][4]
    benchmark |= {"name": "test_plain[x]", "params": params, "param": "x"}
    bench["benchmarks"] = [benchmark]
    return of_pytest_benchmark(bench).records[0]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"device": "cuda:1"}, {"device": "cuda:1"}),
        ({"device": "UNSERIALIZABLE[device(type='cuda', index=1)]"}, {"device": "cuda:1"}),
        ({"device": "UNSERIALIZABLE[device(type='cpu')]"}, {"device": "cpu"}),
        ({"dtype": "UNSERIALIZABLE[torch.bfloat16]"}, {"dtype": "bfloat16"}),
        ({"backend": "inductor"}, {"compiler": "inductor"}),
        ({"mode": "training"}, {"mode": Mode.TRAINING}),
        ({"mode": "fast"}, {"model": "test_plain[x]"}),
        ({"device": 3}, {"model": "test_plain[x]"}),
        ({"device": ""}, {"model": "test_plain[x]"}),
    ],
)
def test_parameters_go_where_they_belong(bench, params, expected):
    """A device, dtype, mode or compiler leaves the name for its field; what cannot be one stays in the name."""
    assert parametrised(bench, **params).case == case("bench_ops", **{"model": "test_plain", **expected})


def test_a_batch_size_is_recorded(bench):
    """A parameter of that name is the record's batch size, and stays in the name, since cases have none."""
    record = parametrised(bench, batch_size=64)
    assert (record.batch_size, record.case.model) == (64, "test_plain[x]")


def test_equal_names_in_one_group_are_told_apart_by_their_files(bench):
    """Two files' benchmarks in a group stay two cases."""
    first, second = bench["benchmarks"][:2]
    first |= {"group": "g", "name": "test_x", "fullname": "a.py::test_x", "params": None}
    second |= {"group": "g", "name": "test_x", "fullname": "b.py::test_x", "params": None}
    bench["benchmarks"] = [first, second]
    assert [r.case for r in of_pytest_benchmark(bench).records] == [
        case("g", "a.py::test_x"),
        case("g", "b.py::test_x"),
    ]


def test_the_commit_is_the_files_own(bench):
    """A file of another commit keeps that and its branch; one of the commit checked out here is of this run."""
    bench["commit_info"] |= {"id": "e" * 40, "branch": "topic", "dirty": True}
    found = of_pytest_benchmark(bench)
    source = found.records[0].source
    assert (source.repository, source.commit, source.branch) == ("octo/repo", "e" * 40, "topic")
    assert found.warnings == ("the checkout had changes that were not committed",)
    on_merge = replace(REQUEST, checked_out="e" * 40)
    assert of_pytest_benchmark(bench, on_merge).records[0].source.commit == "f" * 40
    named = of_pytest_benchmark(bench, replace(REQUEST, commit="d" * 40, branch="b")).records[0].source
    assert (named.commit, named.branch) == ("d" * 40, "b")
    bench["commit_info"] = {"id": "unversioned", "branch": "(unknown)"}
    unversioned = of_pytest_benchmark(bench).records[0].source
    assert (unversioned.commit, unversioned.branch) == ("f" * 40, "main")


def google_run(name, time, **rest):
    return {"name": name, "run_name": name, "run_type": "iteration", "real_time": time, "cpu_time": time / 2, **rest}


CONTEXT = {
    "date": "2026-03-01T13:00:00+01:00",
    "host_name": "box",
    "executable": "./build/bench_add",
    "num_cpus": 8,
    "cpu_scaling_enabled": True,
    "library_build_type": "debug",
}


def test_google_benchmarks_repetitions_are_raw_rounds():
    """Times are of one iteration in seconds; aggregates beside repetitions are left out."""
    found = of_google_benchmark(
        [
            google_run("BM_add/64/threads:2", 3.0, time_unit="us", repetition_index=0),
            google_run("BM_add/64/threads:2", 5.0, time_unit="us", repetition_index=1),
            google_run(
                "BM_add/64/threads:2_mean",
                4.0,
                run_name="BM_add/64/threads:2",
                run_type="aggregate",
                aggregate_name="mean",
            ),
            google_run("BM_ns", 7.0),
        ],
        CONTEXT,
    )
    environment = Environment(host="box", cpu_count=8)
    source = replace(REQUEST.source, time="2026-03-01T12:00:00+00:00")
    shared = {"testing": Testing.PERFORMANCE, "status": Status.PASS, "environment": environment, "source": source}
    assert found.records == (
        Record(
            case=case("bench_add", "BM_add/64/threads:2"),
            metrics={"abs_latency": pytest.approx(0.004)},
            samples={"compiled": pytest.approx((3e-6, 5e-6))},
            seconds=pytest.approx(8e-6),
            **shared,
        ),
        Record(
            case=case("bench_add", "BM_ns"),
            metrics={"abs_latency": pytest.approx(7e-6)},
            samples={"compiled": pytest.approx((7e-9,))},
            seconds=pytest.approx(7e-9),
            **shared,
        ),
    )
    assert len(found.warnings) == 2


def test_the_cpu_clock_can_be_chosen():
    """Its time is the other one of each run."""
    (record,) = of_google_benchmark([google_run("a", 8.0, time_unit="ms")], clock=Clock.CPU).records
    assert record.metrics == {"abs_latency": 4.0}


@pytest.mark.parametrize("new", [True, False])
def test_aggregates_alone_give_a_latency_without_rounds(new):
    """A file of aggregates only keeps its median, or else its mean; versions without run_type are read too."""

    def aggregate(name, kind, time):
        if new:
            run = google_run(f"{name}_{kind}", time, run_name=name, run_type="aggregate", aggregate_name=kind)
        else:
            run = {"name": f"{name}_{kind}", "real_time": time, "time_unit": "ns"}
        return run

    runs = [
        aggregate("a", "mean", 3e6),
        aggregate("a", "median", 2e6),
        aggregate("a", "cv", 0.1),
        aggregate("b", "mean", 5e6),
    ]
    runs += [
        {"name": "a_BigO", "run_name": "c", "run_type": "aggregate", "aggregate_name": "BigO", "real_coefficient": 1}
    ]
    if not new:
        runs += [{"name": "a", "real_time": 2e6}, {"name": "b", "real_time": 5e6}]
    records = of_google_benchmark(runs).records
    assert {record.case.model: record.metrics["abs_latency"] for record in records} == {"a": 2.0, "b": 5.0}
    assert [bool(record.samples) for record in records] == [not new] * 2


def test_errors_and_skips_are_records():
    """A benchmark that failed is a failed record with its message; a skipped one is skipped."""
    failed, skipped = of_google_benchmark(
        [
            {"name": "a", "error_occurred": True, "error_message": "no device", "real_time": 0.0},
            google_run("b", 1.0, skipped=True, skip_message="not here"),
        ]
    ).records
    assert (failed.status, failed.reason, failed.metrics) == (Status.FAIL_TO_RUN, "no device", {})
    assert (skipped.status, skipped.reason) == (Status.PASS_DUE_TO_SKIP, "not here")


def test_flags_say_what_the_file_does_not(torchperf, tmp_path, monkeypatch):
    """Suite, device, dtype, mode and commit come from the command line; the repository from the CI run."""
    for name, value in {
        "ACTIONS": "true",
        "REPOSITORY": "octo/repo",
        "SHA": "a" * 40,
        "RUN_ID": "5",
        "REF_NAME": "m",
    }.items():
        monkeypatch.setenv(f"GITHUB_{name}", value)
    out = tmp_path / "out"
    stdin = json.dumps({"context": CONTEXT, "benchmarks": [google_run("a", 8.0)]}).encode()
    flags = ("--suite", "ops", "--device", "cuda", "--dtype", "float16", "--mode", "training", "--commit", "c" * 40)
    done = torchperf("ingest", "google-benchmark", "-", "--output-dir", out, *flags, stdin=stdin)
    assert done.code == 0
    assert "Warning: CPU frequency scaling was on" in done.err
    (record,) = read_results(out).records
    assert record.case == case("ops", "a", device="cuda", dtype="float16", mode=Mode.TRAINING)
    source = record.source
    assert (source.repository, source.commit, source.branch, source.run_id) == ("octo/repo", "c" * 40, "m", "5")


def test_files_can_be_added_to_a_folder(torchperf, tmp_path):
    """With --keep-output-dir what is recorded stays; without it only this program's files go away."""
    out = tmp_path / "out"
    for name, extra in (("a", ()), ("b", ("--keep-output-dir",))):
        stdin = json.dumps({"context": {}, "benchmarks": [google_run(name, 8.0)]}).encode()
        torchperf("ingest", "google-benchmark", "-", "--output-dir", out, *extra, stdin=stdin)
    assert [record.case.model for record in read_results(out).records] == ["a", "b"]


ODD = {"median": 1, "data": [1, "fast", "… 3 omitted"]}
BAD_STATS = {"min": 1, "max": 1, "mean": 1, "stddev": 0, "rounds": 2, "median": "x", "data": [1, None]}
GOOD = json.dumps({"benchmarks": [google_run("a", 8.0)]}).encode()


@pytest.mark.parametrize(
    ("tool", "content", "code", "said"),
    [
        ("google-benchmark", b"BM_add 3 ns", 2, "standard input:1: not JSON"),
        ("google-benchmark", b'{"benchmarks": []}', 4, "there are no benchmarks in standard input"),
        ("google-benchmark", b'{"benchmarks": [{}]}', 2, "benchmarks[0] (): 'name' is missing"),
        (
            "google-benchmark",
            b'{"benchmarks": [{"name": "a", "real_time": NaN}]}',
            2,
            "(a): real_time: expected a number",
        ),
        ("google-benchmark", GOOD.replace(b"8.0", b"1" + b"0" * 400), 2, "(a): real_time: number out of range"),
        (
            "google-benchmark",
            GOOD.replace(b"8.0", b'8.0, "time_unit": "h"'),
            2,
            "(a): time_unit is 'h', expected one of: ns",
        ),
        ("pytest-benchmark", GOOD, 2, "benchmarks[0] (a): 'stats' is missing"),
        (
            "pytest-benchmark",
            json.dumps({"benchmarks": [{"name": "a", "stats": ODD}, {"name": "b", "stats": BAD_STATS}]}).encode(),
            2,
            "holds 'fast', expected seconds\n  standard input: benchmarks[1] (b): stats.median: expected a number",
        ),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing(torchperf, tmp_path, tool, content, code, said):
    """Its line or its benchmark is named, and the results that were there stay."""
    out = tmp_path / "out"
    torchperf("ingest", "google-benchmark", "-", "--output-dir", out, stdin=GOOD)
    before = (out / "records.jsonl").read_bytes()
    done = torchperf("ingest", tool, "-", "--output-dir", out, stdin=content)
    assert done.code == code
    assert said in done.err
    assert (out / "records.jsonl").read_bytes() == before


def test_the_same_benchmark_twice_is_refused(torchperf, bench_file, tmp_path):
    """Two files with the same benchmarks cannot both be one folder's results."""
    done = torchperf("ingest", "pytest-benchmark", bench_file, bench_file, "--output-dir", tmp_path / "out")
    assert done.code == 2
    assert "bench_ops/test_plain none inference unknown cpu is there 2 times" in done.err
    assert "ingest the files into different folders" in done.err
    assert not (tmp_path / "out").exists()


def test_a_foreign_folder_is_left_alone(torchperf, bench_file, tmp_path):
    """Files of somebody else are never among results."""
    (tmp_path / "notes.txt").write_text("mine")
    done = torchperf("ingest", "pytest-benchmark", bench_file, "--output-dir", tmp_path)
    assert done.code == 2
    assert "holds files that torchperf-ci did not write" in done.err


def unserializable(bench, *, address):
    params = {"device": "cpu", "op": f"UNSERIALIZABLE[<function f at {address}>]"}
    benchmark = bench["benchmarks"][4]
    benchmark |= {"name": "test_op[cpu-f-op]", "fullname": "b.py::test_op[cpu-f-op]", "params": params}
    benchmark |= {"param": "cpu-f-op", "group": None}
    bench["benchmarks"] = [benchmark]
    return bench


def test_names_hold_no_memory_addresses(bench):
    """The same code measured twice has the same cases: ids name parameters, not the texts of objects."""
    cases = [
        of_pytest_benchmark(unserializable(json.loads(json.dumps(bench)), address=address)).records[0].case
        for address in ("0x7f9e96dc7740", "0x7fef7356b6a0")
    ]
    assert cases[0] == cases[1] == case("b", "test_op[f-op]")


def test_objects_that_differ_by_their_address_alone_are_numbered(bench):
    """Ids that pytest made of reprs lose the address, and are told apart by their order."""
    first, second = bench["benchmarks"][:2]
    for number, benchmark in enumerate((first, second)):
        name = f"test_x[<A object at 0x7f00000{number}0>]"
        benchmark |= {"name": name, "fullname": f"b.py::{name}", "group": "g", "params": None, "param": None}
    bench["benchmarks"] = [first, second]
    models = [record.case.model for record in of_pytest_benchmark(bench).records]
    assert models == ["b.py::test_x[<A object>]", "b.py::test_x[<A object>]#2"]


@pytest.mark.parametrize(
    ("value", "own_id", "expected"),
    [
        ("UNSERIALIZABLE[dtype('float32')]", "dtype0", {"dtype": "float32"}),
        ("UNSERIALIZABLE[<class 'numpy.float64'>]", "float64", {"dtype": "float64"}),
        ("UNSERIALIZABLE[<object object at 0x7f0000001230>]", "half", {"dtype": "half"}),
    ],
)
def test_a_dtype_is_a_word(bench, value, own_id, expected):
    """Of an object without one the id is taken, never its repr."""
    benchmark = bench["benchmarks"][4]
    benchmark |= {"name": f"test_plain[{own_id}]", "params": {"dtype": value}, "param": own_id}
    bench["benchmarks"] = [benchmark]
    assert of_pytest_benchmark(bench).records[0].case == case("bench_ops", "test_plain", **expected)


@pytest.mark.parametrize(
    ("cpu", "processor", "expected"),
    [
        (
            {"brand": "Intel Core i7", "hz_advertised_raw": [1800000000, 0]},
            "x86_64",
            ("Intel Core i7", 1800),
        ),
        ({"brand_raw": "AMD EPYC", "hz_advertised": [2445000000, 0]}, "", ("AMD EPYC", 2445)),
        ({}, "aarch64", ("", 0)),
        ({"brand_raw": "aarch64"}, "aarch64", ("", 0)),
    ],
)
def test_the_cpu_is_its_brand(bench, cpu, processor, expected):
    """By the old key or the new one; an architecture is none."""
    bench["machine_info"] |= {"cpu": cpu, "processor": processor}
    environment = of_pytest_benchmark(bench).records[0].environment
    assert (environment.cpu, environment.cpu_mhz) == expected


def test_a_time_without_offset_is_utc_for_pytest_benchmark(bench, monkeypatch):
    """Wherever it is read."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    bench |= {"datetime": "2022-09-11T12:43:05.930730", "version": "3.4.1"}
    source = of_pytest_benchmark(bench).records[0].source
    local = of_google_benchmark([google_run("a", 8.0)], {"date": "2022-09-11T12:43:05"}).records[0].source
    monkeypatch.undo()
    time.tzset()
    assert source.time == "2022-09-11T12:43:05.930730+00:00"
    assert local.time == "2022-09-11T03:43:05+00:00"


def test_extra_info_and_counters_are_metrics(bench):
    """With the names they have; one that is called like one of ours is told apart."""
    bench["benchmarks"][4]["extra_info"] = {"tokens": 5, "speedup": 2.0, "note": "x", "ok": True, "": 3}
    assert of_pytest_benchmark(bench).records[4].metrics.keys() == {"abs_latency", "tokens", "own.speedup"}
    runs = [google_run("a", 8.0, items_per_second=value, hits=3) for value in (10.0, 30.0)]
    (record,) = of_google_benchmark(runs).records
    assert (record.metrics["items_per_second"], record.metrics["hits"]) == (20.0, 3.0)
    assert record.own_metrics["items_per_second"].direction is Direction.HIGHER


def test_two_files_of_google_benchmark_are_compared(torchperf, tmp_path):
    """One host is one machine; without a host times are refused in words, and compared when that is asked for."""
    for context, code, word in ((CONTEXT, 3, "slower"), ({}, 4, "not recorded")):
        for name, times in (("base", (10.0, 50.0)), ("head", (10.0, 100.0))):
            runs = [google_run(f"BM_{number}", value) for number, value in enumerate(times)]
            content = json.dumps({"context": context, "benchmarks": runs}).encode()
            torchperf("ingest", "google-benchmark", "-", "--output-dir", tmp_path / name, stdin=content)
        command = ("compare", tmp_path / "base", tmp_path / "head", "--output-dir", tmp_path / "out")
        done = torchperf(*command)
        assert (done.code, word in done.out + done.err) == (code, True)
    asked = torchperf(*command, "--same-machine")
    assert (asked.code, "--same-machine" in asked.err) == (3, True)


@pytest.mark.parametrize(
    ("command", "content", "code"),
    [
        ("google-benchmark", b'{"benchmarks": [{"name": "a", "stats": {"median": 1}}]}', 2),
        ("bencher", b'{"benchmarks": [{"name": "a", "stats": {"median": 1}}], "machine_info": {"a": "b"}}', 4),
        ("csv", b'{"benchmarks": [], "version": "5.0"}', 2),
    ],
)
def test_a_file_of_another_format_is_said(torchperf, tmp_path, command, content, code):
    """With the command that takes it, and without a word about its content."""
    path = tmp_path / "a file.json"
    path.write_bytes(content)
    done = torchperf("ingest", command, path, "--output-dir", tmp_path / "out")
    assert done.code == code
    assert f"torchperf-ci ingest pytest-benchmark '{path}'" in done.err
    assert "Warning" not in done.err


def test_a_folders_name_stays_on_its_line(torchperf, tmp_path):
    done = torchperf("ingest", "csv", "-", "--output-dir", tmp_path / "a\nb", stdin=b"model,value\na,5\n")
    assert (done.code, done.out.count("\n")) == (0, 1)


@pytest.mark.parametrize(("repository", "key"), [("", "51"), ("octo/repo", "octo/repo/51")])
def test_a_run_without_a_repository_is_known_by_its_number(repository, key):
    source = Source(repository=repository, run_id="51", time="2026-11-01T00:00:00Z")
    record = Record(case=case("s", "m"), testing=Testing.PERFORMANCE, status=Status.PASS, source=source)
    ((run,), _) = runs_of(Imported(records=(record,)), name="n")
    assert run.key == key
    assert make_run(Results(records=(record,)), name="n", now=run.time).key == key


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_file_with_a_byte_order_mark_is_read(torchperf, tmp_path, encoding):
    """Windows PowerShell writes UTF-16 where it is told > file."""
    csv = "model,value\na,5\n".encode(encoding)
    bench = json.dumps({"benchmarks": [google_run("b", 8.0)]}).encode(encoding)
    for tool, content in (("csv", csv), ("google-benchmark", bench)):
        done = torchperf("ingest", tool, "-", "--output-dir", tmp_path / tool, stdin=content)
        assert (done.code, "Wrote" in done.out) == (0, True), done.err
    path = tmp_path / "bench.json"
    path.write_bytes(bench)
    done = torchperf("ingest", "csv", path, "--output-dir", tmp_path / "out")
    assert (done.code, "torchperf-ci ingest google-benchmark" in done.err) == (2, True)


@pytest.mark.parametrize(
    ("table", "code", "told"),
    [
        ("model,value,value\na,1,2\n", 2, "'value' more than once"),
        ("model,note,note,value\na,x,y,1\n", 0, ""),
        ('model,value\na,1\n"b,2\n', 2, "never closed"),
        ("model,value\na,1\nb,1,234\n", 0, ":3: has more cells than the 2"),
        ("model,value\na,1\nb\n", 0, ":3: has no value"),
    ],
)
def test_a_table_that_can_be_misread_is_told(torchperf, tmp_path, table, code, told):
    """Of two columns with one name none is taken, and no number is cut at its comma."""
    done = torchperf("ingest", "csv", "-", "--output-dir", tmp_path / "out", stdin=table.encode())
    assert done.code == code
    assert told in done.err


def test_a_number_in_quotes_is_a_number(torchperf, tmp_path):
    """A shell script writes them easily; other texts are none."""
    values = [{"name": name, "unit": "s", "value": value} for name, value in (("a", "5"), ("b", "five"))]
    form = "github-action-benchmark"
    done = torchperf("ingest", form, "-", "--output-dir", tmp_path / "out", stdin=json.dumps(values).encode())
    (record,) = read_results(tmp_path / "out").records
    assert (record.case.model, record.metrics) == ("a", {"value": 5.0})
    assert "entry 1" in done.err


def test_a_line_of_several_rows_is_named_as_elsewhere(torchperf, tmp_path):
    done = torchperf("ingest", "hud", "-", "--output-dir", tmp_path / "out", stdin=b'{"metric": {}}\n{"metric": \n')
    assert "standard input:2: not JSON" in done.err


def test_what_ran_as_it_is_has_a_latency_and_none_that_was_compiled(torchperf, tmp_path):
    out = tmp_path / "out"
    torchperf("ingest", "google-benchmark", "-", "--output-dir", out, stdin=GOOD)
    torchperf("report", out)
    for page in ("report.md", "report.html"):
        assert "Latency (ms; lower is better)" in (out / page).read_text()
        assert "Latency, compiled" not in (out / page).read_text()


def test_a_results_folder_is_none_of_another_tool(torchperf, tmp_path):
    """It is used as it is."""
    stdin = json.dumps({"benchmarks": [google_run("a", 8.0)]}).encode()
    torchperf("ingest", "google-benchmark", "-", "--output-dir", tmp_path / "out", stdin=stdin)
    done = torchperf("ingest", "hud", tmp_path / "out", "--output-dir", tmp_path / "again")
    assert (done.code, "use the results folder directly" in done.err) == (4, True)


def test_what_is_left_out_is_named_up_to_twenty(torchperf, tmp_path):
    """The rest is counted."""
    rows = "".join(f"m{number},x\n" for number in range(30))
    stdin = f"model,value\n{rows}good,1\n".encode()
    done = torchperf("ingest", "csv", "-", "--output-dir", tmp_path / "out", stdin=stdin)
    assert done.code == 0
    assert done.err.count("Warning: left out standard input:") == 20
    assert "Warning: left out 10 more" in done.err


@pytest.mark.parametrize("name", ["name", "fullname"])
def test_a_benchmark_without_a_name_is_refused(torchperf, bench, tmp_path, name):
    """A record of it could not be read back."""
    bench["benchmarks"][0] |= {"name": "", "fullname": "" if name == "name" else "bench_ops.py"}
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    done = torchperf("ingest", "pytest-benchmark", tmp_path / "bench.json", "--output-dir", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("form", "content"),
    [("fastrnns", '{"lstm": {"jit": -1}}'), ("csv", "model,metric,unit,value\na,abs_latency,ms,-1\n")],
)
def test_a_time_below_zero_is_left_out(torchperf, tmp_path, form, content):
    """Nothing took it."""
    (tmp_path / "new").write_text(content)
    done = torchperf("ingest", form, tmp_path / "new", "--output-dir", tmp_path / "out")
    assert done.code == 4
    assert not (tmp_path / "out").exists()
