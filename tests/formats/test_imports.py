"""Other tools' histories, read and kept."""

from __future__ import annotations

import gzip
import json
import subprocess
from contextlib import suppress
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchperf_ci.core.errors import TorchperfError
from torchperf_ci.core.records import Case, Direction, Mode, Record, Source, Status, Testing, own_metric
from torchperf_ci.core.results import Results, read_results
from torchperf_ci.formats.imports import detect, read_content, read_location, runs_of
from torchperf_ci.formats.model import Imported, ImportFormat, ImportRequest, InputProblem
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.runs import RunFilter, make_run
from torchperf_ci.history.storage import open_files

REQUEST = ImportRequest(source=Source(), time="2026-03-01T12:00:00+00:00")


def entry(commit, date, *benches, tool="pytest"):
    return {"commit": {"id": commit * 40}, "date": date, "tool": tool, "benches": list(benches)}


DATA = {
    "lastUpdate": 1,
    "repoUrl": "https://github.com/octo/repo",
    "entries": {
        "Python": [
            entry(
                "a", 1_700_000_000_000, {"name": "b.py::test_fib", "value": 100.5, "unit": "iter/sec", "range": "± 3"}
            ),
            entry("b", 1_700_000_100_500, {"name": "b.py::test_fib", "value": 90.0, "unit": "iter/sec"}),
        ],
        "Rust": [entry("a", 1_700_000_000_001, {"name": "fib", "value": 254, "unit": "ns/iter"}, tool="cargo")],
        "Odd": [entry("c", 1_700_000_200_000, {"name": "x", "value": "fast", "unit": "s"}, tool="new")],
    },
}
DATA_JS = f"window.BENCHMARK_DATA = {json.dumps(DATA)};\n"


@pytest.fixture
def kept(tmp_path):
    return ParquetHistory(files=open_files(str(tmp_path / "history"), cache=tmp_path / "cache"))


def runs_in(history):
    return history.read_last(50, RunFilter()).runs


def test_a_data_js_becomes_runs(torchperf, tmp_path, kept):
    """Every suite, commit and date is kept, with unit and direction; twice adds nothing; what is no number is named."""
    (tmp_path / "data.js").write_text(DATA_JS)
    command = ("history", "import", tmp_path / "data.js", "--history", tmp_path / "history")
    dry = torchperf(*command, "--dry-run")
    assert (dry.code, "Would add 3 runs" in dry.out, runs_in(kept)) == (0, True, ())
    done = torchperf(*command)
    assert done.code == 0
    assert "value (iter/sec), higher is better: 1 series" in done.out
    assert "value (ns/iter), lower is better: 1 series" in done.out
    assert "Odd[0]: entry 0: value: expected a number" in done.out
    assert "Added 3 runs" in done.out
    assert "Added 0 runs" in torchperf(*command).out
    first, rust, last = runs_in(kept)
    (record,) = first.results.records
    assert (record.case.suite, record.case.model) == ("Python", "b.py::test_fib")
    assert record.metrics == {"value": 100.5}
    assert record.own_metrics == {"value": own_metric("value", unit="iter/sec", direction=Direction.HIGHER)}
    assert (record.source.repository, record.source.commit) == ("octo/repo", "a" * 40)
    assert [run.time.isoformat() for run in (first, rust, last)] == [
        "2023-11-14T22:13:20+00:00",
        "2023-11-14T22:13:20.001000+00:00",
        "2023-11-14T22:15:00.500000+00:00",
    ]


def test_a_grown_history_adds_what_is_new(torchperf, tmp_path, kept):
    """Importing again after another commit keeps what is there and adds the one run."""
    path = tmp_path / "data.js"
    shorter = json.loads(json.dumps(DATA))
    del shorter["entries"]["Python"][1]
    for data, added in ((shorter, 2), (DATA, 1)):
        path.write_text(f"window.BENCHMARK_DATA = {json.dumps(data)}")
        done = torchperf("history", "import", path, "--history", tmp_path / "history")
        assert f"Added {added} run" in done.out
    assert len(runs_in(kept)) == 3


def test_a_data_js_is_taken_from_a_branch(torchperf, tmp_path, kept):
    """Of a repository here, without a checkout of that branch."""
    repository = tmp_path / "repository"

    def git(*arguments):
        settings = ("-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repository))
        subprocess.run(["git", *settings, *arguments], check=True, capture_output=True)

    (repository / "dev/bench").mkdir(parents=True)
    git("init", "-q", "-b", "gh-pages")
    (repository / "dev/bench/data.js").write_text(DATA_JS)
    git("add", ".")
    git("commit", "-qm", "data")
    git("switch", "-qc", "main")
    (repository / "dev/bench/data.js").unlink()
    done = torchperf("history", "import", repository, "--git-branch", "gh-pages", "--history", tmp_path / "history")
    assert (done.code, len(runs_in(kept))) == (0, 3)
    wrong = torchperf("history", "import", repository, "--git-branch", "pages", "--history", tmp_path / "history")
    assert (wrong.code, "pages" in wrong.err) == (2, True)


def asv_folder(tmp_path, results, **rest):
    root = tmp_path / "results"
    (root / "box").mkdir(parents=True)
    machine = {"machine": "box", "cpu": "Some CPU", "num_cpu": "8", "version": 1}
    (root / "box/machine.json").write_text(json.dumps(machine))
    benchmarks = {
        "io.Suite.time_read": {"type": "time", "unit": "seconds", "param_names": ["n"]},
        "io.track_size": {"type": "track", "unit": "files"},
        "version": 2,
    }
    (root / "benchmarks.json").write_text(json.dumps(benchmarks))
    body = {"commit_hash": "d" * 40, "date": 1_700_000_000_000, "python": "3.11", "results": results, **rest}
    (root / "box/dddddddd-py3.11.json").write_text(json.dumps(body))
    return root


ROW = [[0.5, None, float("nan")], [["1", "2", "3"]], "hash", 1, 2.0]
COLUMNS = ["result", "params", "version", "started_at", "duration", "stats_ci_99_a", "samples"]


@pytest.mark.parametrize(
    ("results", "rest"),
    [
        (
            {"io.Suite.time_read": [*ROW, [], [[0.4, 0.6], None, None]], "io.track_size": [[7], []]},
            {"result_columns": COLUMNS, "version": 2, "env_name": "py3.11"},
        ),
        (
            {
                "io.Suite.time_read": {"result": ROW[0], "params": ROW[1], "samples": [[0.4, 0.6], None, None]},
                "io.track_size": 7,
            },
            {"version": 1},
        ),
    ],
)
def test_asvs_results_of_both_versions(tmp_path, results, rest):
    """Parameters, units, failures, skips and the machine; in asv less is better."""
    imported = read_location(str(asv_folder(tmp_path, results, **rest)), REQUEST)
    assert imported.left_out == ()
    one, failed, skipped, size = imported.records
    assert [record.case.model for record in imported.records] == [
        "Suite.time_read(1) [py3.11]",
        "Suite.time_read(2) [py3.11]",
        "Suite.time_read(3) [py3.11]",
        "track_size [py3.11]",
    ]
    assert (one.metrics, one.samples) == ({"time": 0.5}, {"time": (0.4, 0.6)})
    assert one.own_metrics["time"] == own_metric("time", unit="seconds", direction=Direction.LOWER)
    assert (failed.status, skipped.status) == (Status.FAIL_TO_RUN, Status.PASS_DUE_TO_SKIP)
    assert size.own_metrics["track"].unit == "files"
    assert (one.source.commit, one.environment.cpu, one.environment.host) == ("d" * 40, "Some CPU", "box")


HUD = {
    "timestamp": 1_700_000_000,
    "schema_version": "v3",
    "repo": "pytorch/ao",
    "head_sha": "e" * 40,
    "head_branch": "main",
    "workflow_id": 5,
    "run_attempt": 2,
    "benchmark": {
        "name": "TorchAO",
        "mode": "inference",
        "dtype": "int8",
        "extra_info": {"device": "cuda", "world_size": "2"},
    },
    "model": {"name": "llama", "backend": "compile", "origins": ["torchbench"]},
    "metric": {"name": "tokens_per_second", "benchmark_values": [90.0, 100.0, 110.0], "target_value": 0},
    "runners": [{"name": "cuda", "gpu_info": "H100", "gpu_count": 1, "cpu_info": "x", "cpu_count": 4}],
}


@pytest.mark.parametrize("form", ["lines", "list", "gz", "folder", "url"])
def test_rows_of_the_benchmark_database(tmp_path, form):
    """As lines, a list, gzipped, in a folder or behind a URL; a run is a workflow run, its number a metric."""
    path = tmp_path / "v3" / "rows.json"
    path.parent.mkdir()
    content = f"{json.dumps(HUD)}\n".encode()
    content = b"[" + content + b"]" if form == "list" else gzip.compress(content) if form == "gz" else content
    path.write_bytes(content)
    place = {"folder": str(path.parent), "url": f"file://{path.parent}"}.get(form, str(path))
    imported = read_location(place, REQUEST)
    (record,) = imported.records
    assert str(record.case) == "torchbench/llama compile inference int8 cuda"
    assert record.metrics == {"tokens_per_second": 100.0}
    assert record.environment.world == 2
    assert (record.environment.gpu, record.source.attempt, record.source.branch) == ("H100", 2, "main")
    ((run,), left_out) = runs_of(imported, name="s")
    assert (run.key, left_out) == ("pytorch/ao/5", [])


def test_lists_and_bencher_need_a_time(torchperf, tmp_path, kept):
    """They do not say when; without --time nothing is kept and the option is named."""
    path = tmp_path / "bmf.json"
    path.write_text(json.dumps({"fib": {"latency": {"value": 12.5}, "cache misses": {"value": 3}}}))
    command = ("history", "import", path, "--history", tmp_path / "history")
    refused = torchperf(*command)
    assert (refused.code, "--time" in refused.out) == (4, True)
    done = torchperf(*command, "--time", "2026-03-01T12:00:00", "--commit", "f" * 40, "--branch", "main")
    assert done.code == 0
    ((record,),) = (run.results.records for run in runs_in(kept))
    assert (record.metrics, record.source.commit) == ({"latency": 12.5, "cache misses": 3.0}, "f" * 40)
    assert [m.direction for m in record.defined_metrics()] == [Direction.LOWER, Direction.UNKNOWN]


def test_a_table_with_named_columns(torchperf, tmp_path, kept):
    """Options say which column holds what; several value columns are as many metrics."""
    path = tmp_path / "times.csv"
    path.write_text("when,sha,what,ms,mb\n2026-03-01,abc,fib,2.5,10\n2026-03-02,def,fib,nope,11\n")
    columns = ("time=when", "commit=sha", "model=what", "value=ms", "value=mb")
    options = [part for column in columns for part in ("--column", column)]
    done = torchperf("history", "import", path, *options, "--history", tmp_path / "history")
    assert done.code == 0
    assert f"{path}:3: its value is 'nope'" in done.out
    one, two = (run.results.records[0] for run in runs_in(kept))
    assert (one.metrics, two.metrics) == ({"ms": 2.5, "mb": 10.0}, {"mb": 11.0})
    lacking = torchperf("history", "import", path, "--column", "value=s", "--history", tmp_path / "history")
    assert (lacking.code, "has no column 's'" in lacking.err) == (2, True)


def test_a_folder_of_pytest_benchmark_keeps_its_order(tmp_path, bench):
    """Each file is a run, also of one second; one that cannot be read is named and the others are taken."""
    for number, second in enumerate(("00.2", "00.1", "00.3")):
        bench["datetime"] = f"2026-03-01T12:00:{second}00000"
        path = tmp_path / ".benchmarks/Linux" / f"000{number}_x.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(bench))
    (tmp_path / ".benchmarks/Linux/0009_x.json").write_text("{")
    imported = read_location(str(tmp_path / ".benchmarks"), REQUEST)
    runs, _ = runs_of(imported, name="s")
    assert [run.time.microsecond for run in runs] == [100_000, 200_000, 300_000]
    assert "0009_x.json" in " ".join(imported.left_out)


def test_ingest_takes_the_newest_run_of_a_history(torchperf, tmp_path):
    """The same formats as one run, which a results folder is."""
    (tmp_path / "data.js").write_text(DATA_JS)
    out = tmp_path / "out"
    done = torchperf("ingest", "github-action-benchmark", tmp_path / "data.js", "--output-dir", out)
    assert (done.code, "3 runs" in done.err) == (0, True)
    (record,) = read_results(out).records
    assert (record.metrics, record.source.commit) == ({"value": 90.0}, "b" * 40)
    report = torchperf("report", out)
    assert report.code == 0
    text = (out / "report.md").read_text()
    assert text.startswith("## ✅ 1 case passed")
    assert "value (iter/sec)" in text


@given(st.binary(max_size=60) | st.sampled_from([b"{}", b"[]", b"[1]", b'{"a": {"b": 1}}', b"a,b\n1,2\n", b"PAR1"]))
def test_no_content_ends_in_a_traceback(content):
    """Anything is read, left out with a reason, or refused with an error of ours."""
    for form in (None, *ImportFormat):
        with suppress(TorchperfError):
            read_content(content, "f", ImportRequest(source=Source(), form=form))


def test_formats_are_told_by_their_content():
    """Names of files say nothing."""
    contents = {
        ImportFormat.GITHUB_ACTION_BENCHMARK: DATA_JS.encode(),
        ImportFormat.GOOGLE_BENCHMARK: b'{"benchmarks": [{"name": "a", "real_time": 1}]}',
        ImportFormat.PYTEST_BENCHMARK: b'{"benchmarks": [{"name": "a", "stats": {}}]}',
        ImportFormat.HUD: json.dumps(HUD).encode(),
        ImportFormat.BENCHER: b'{"a": {"latency": {"value": 1}}}',
        ImportFormat.FASTRNNS: b'{"lstms": {"cudnn": 1.5}}',
        ImportFormat.CSV: b"a,b\n1,2\n",
        ImportFormat.OPENMETRICS: b"# EOF\n",
    }
    assert {form: detect(content, file="f") for form, content in contents.items()} == {form: form for form in contents}


def test_a_variant_of_fastrnns_that_failed_is_a_failed_record():
    """Its null is no number and no gap."""
    content = json.dumps({"lstm": {"cudnn": 1.5, "jit": None, "py": "fast"}}).encode()
    imported = read_content(content, "f", REQUEST)
    assert [(record.case.model, record.status, dict(record.metrics)) for record in imported.records] == [
        ("lstm/cudnn", Status.PASS, {"abs_latency": 1.5}),
        ("lstm/jit", Status.FAIL_TO_RUN, {}),
    ]
    (left_out,) = imported.left_out
    assert left_out.startswith("f: lstm: py: expected a number")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (gzip.compress(b"a,b\n", mtime=0)[:-6], "ends in the middle of its gzip data"),
        (b"\x1f\x8b\x08rubbish", "is damaged"),
        (b"neither, nor", "has no column 'model', 'value'"),
        (b"rubbish", "is in no format that is known here"),
    ],
)
def test_a_damaged_or_unknown_file_is_refused(content, fault):
    """With what is wrong with it."""
    with pytest.raises(InputProblem) as error:
        read_content(content, "f", ImportRequest(source=Source()))
    assert str(error.value).startswith(f"f: {fault}")


@pytest.mark.parametrize("date", ["0001-01-01T00:00:00Z", "0999-12-31T00:00:00Z", "1969-12-31T23:59:59Z", "-5"])
def test_a_date_before_1970_is_none(date):
    """Programs write such where they know none: what has one is not kept under a month that nothing finds again."""
    imported = read_content(f"model,value,time\nm,1,{date}\n".encode(), "f", ImportRequest(source=Source()))
    assert imported.records == ()
    assert len(imported.left_out) == 1
    record = Record(
        case=Case(suite="s", model="m", mode=Mode.INFERENCE, device="cpu", dtype="float32", compiler="none"),
        testing=Testing.ACCURACY,
        status=Status.PASS,
        source=Source(time=date),
    )
    runs, left_out = runs_of(Imported(records=(record,)), name="")
    assert (runs, len(left_out)) == ([], 1)
    now = datetime(2026, 3, 1, tzinfo=timezone.utc)
    assert make_run(Results(records=(record,)), name="", now=now).time == now
