"""Rows of PyTorch's benchmark database, and the files they go to."""

import gzip
import json
import socket
from dataclasses import replace

import fsspec
import pytest
from fsspec.registry import _registry

from torchperf_ci.core.errors import Refused, UsageProblem
from torchperf_ci.core.records import Environment, Source, Status
from torchperf_ci.core.results import Results
from torchperf_ci.pytorch.hud import Gpus, Identity, check_rows, gpus_here, put_files, rows_of
from upload_builders import BUILD, ENVIRONMENT, GOLDEN, SOURCE, accuracy, measured, record, write_results

IDENTITY = Identity(now=5)


def rows(*records, identity=IDENTITY, gpus=None):
    found = rows_of(Results(records=records, builds=(BUILD,)), identity, gpus=gpus)
    check_rows(found)
    return found


def test_a_metric_is_a_row_of_schema_v3():
    """Everything the database wants to know about one metric, in whole."""
    assert rows(measured())[0] == json.loads((GOLDEN / "hud_row.json").read_text())


def test_every_metric_and_counter_is_a_row_in_the_units_of_the_dashboard():
    """Memory goes out in GB, and the counters of dynamo are metrics too."""
    values = {row["metric"]["name"]: row["metric"]["benchmark_values"] for row in rows(measured())}
    assert values == {
        "speedup": [1.5],
        "abs_latency": [2.5],
        "compilation_latency": [12.0],
        "compression_ratio": [0.95],
        "eager_peak_mem": [2.0],
        "speedup_low": [1.4],
        "speedup_high": [1.6],
        "graph_breaks": [1.0],
    }


def test_an_accuracy_is_a_word_in_the_metrics_extra_info():
    """The table holds numbers only; the word is where its loader keeps words."""
    (row,) = rows(accuracy(status=Status.FAIL_ACCURACY))
    assert row["metric"] == {
        "name": "accuracy",
        "benchmark_values": [],
        "target_value": 0.0,
        "extra_info": {"benchmark_values": '["fail_accuracy"]'},
    }
    assert row["benchmark"]["extra_info"]["output"] == "inductor_tiny_float32_inference_cuda_accuracy.csv"


def test_a_failed_measurement_is_rows_of_zero_with_its_status():
    """What failed is seen in the database as PyTorch's own failures are."""
    found = rows(record(status=Status.OOM, reason="out of\nmemory"))
    assert {row["metric"]["name"]: row["metric"]["benchmark_values"] for row in found} == {
        "speedup": [0.0],
        "abs_latency": [0.0],
    }
    assert found[0]["benchmark"]["extra_info"]["status"] == "OOM"
    assert found[0]["benchmark"]["extra_info"]["reason"] == "out of memory"


def test_what_is_asked_for_wins_over_what_is_recorded():
    """A run outside GitHub can be named."""
    identity = Identity(
        now=5,
        benchmark="mine",
        repository="a/b",
        branch="dev",
        commit="c" * 40,
        name="job",
        runner_type="linux.aws.a100",
        workflow_id=3,
        job_id=4,
    )
    row = rows(measured(source=Source()), identity=identity)[0]
    assert {
        name: row[name] for name in ("timestamp", "name", "repo", "head_branch", "head_sha", "workflow_id", "job_id")
    } == {
        "timestamp": 5,
        "name": "job",
        "repo": "a/b",
        "head_branch": "dev",
        "head_sha": "c" * 40,
        "workflow_id": 3,
        "job_id": 4,
    }
    assert (row["benchmark"]["name"], row["runners"][0]["type"]) == ("mine", "linux.aws.a100")


def test_a_row_that_is_not_by_the_schema_is_named():
    """The model and the field are in the message."""
    with pytest.raises(UsageProblem, match=r"mlp: repo: 'not a repository' does not match"):
        rows(measured(source=replace(SOURCE, repository="not a repository")))
    with pytest.raises(UsageProblem, match=r"mlp: runners\[0\].cpu_count: -1 is less than the minimum"):
        rows(measured(environment=replace(ENVIRONMENT, cpu_count=-1)))


GPUS = Gpus(host="here", name="NVIDIA A10", count=4, memory_bytes=24 * 1024**3, driver="550.9")


def test_nvml_fills_what_the_environment_lacks():
    """A result of this machine without a GPU's name gets it; what is known stays, and so do other machines' results."""
    filled = rows(measured(environment=Environment(host="here", cpu="x")), gpus=GPUS)[0]["runners"][0]
    assert (filled["gpu_info"], filled["gpu_count"], filled["gpu_mem_info"], filled["avail_gpu_mem_in_gb"]) == (
        "NVIDIA A10",
        4,
        "4 x 24 GiB",
        96,
    )
    assert filled["extra_info"]["driver"] == "550.9"
    known = rows(measured(environment=replace(ENVIRONMENT, host="here")), gpus=GPUS)[0]["runners"][0]
    assert (known["gpu_info"], known["gpu_count"]) == ("NVIDIA H100", 2)
    other = rows(measured(environment=Environment(host="there")), gpus=GPUS)[0]["runners"][0]
    assert (other["gpu_info"], other["gpu_count"]) == ("", 0)


def test_a_run_on_the_cpu_has_no_gpu():
    """A GPU that was not used is not a runner's of a CPU result."""
    on_cpu = measured(environment=Environment(host="here"))
    on_cpu = replace(on_cpu, case=replace(on_cpu.case, device="cpu"))
    assert rows(on_cpu, gpus=GPUS)[0]["runners"][0]["gpu_info"] == ""


def test_nvml_says_nothing_or_something_sensible():
    """Without a GPU there is none; with one it has a name and memory."""
    found = gpus_here()
    assert found is None or (found.name and found.memory_bytes > 0 and found.host == socket.gethostname())


def test_rows_go_to_standard_output_and_files(torchperf, tmp_path):
    """JSON lines, gzipped by the file's name, and the same bytes every time."""
    folder = write_results(tmp_path / "out", BUILD, measured(), accuracy())
    plain = torchperf("upload", "hud", "--results", folder)
    found = [json.loads(line) for line in plain.out.splitlines()]
    assert (plain.code, len(found)) == (0, 9)
    assert {row["schema_version"] for row in found} == {"v3"}
    for name in ("a.json.gz", "b.json.gz"):
        assert torchperf("upload", "hud", "--results", folder, "--out", tmp_path / name).code == 0
    assert gzip.decompress((tmp_path / "a.json.gz").read_bytes()).decode() == plain.out
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_files_go_to_a_url_by_the_buckets_layout(torchperf, tmp_path):
    """Folders are schema, repository, workflow and job; uploading again writes the same files."""
    folder = write_results(
        tmp_path / "out", measured(), measured("other", source=replace(SOURCE, run_id="778")), accuracy("other")
    )
    url = (tmp_path / "bucket").as_uri()
    dry = torchperf("upload", "hud", "--results", folder, "--out", url, "--job-id", "42", "--dry-run")
    assert dry.err.count(f"Would write {url}/v3/octo/repo/77") == 2
    assert not (tmp_path / "bucket").exists()
    for _ in range(2):
        done = torchperf("upload", "hud", "--results", folder, "--out", url, "--job-id", "42")
        assert done.code == 0
    files = sorted(path for path in (tmp_path / "bucket").rglob("*") if path.is_file())
    assert [str(path.parent.relative_to(tmp_path / "bucket")) for path in files] == [
        "v3/octo/repo/777/42",
        "v3/octo/repo/778/42",
    ]
    assert done.out.splitlines() == [path.as_uri() for path in files]
    assert gzip.decompress(files[0].read_bytes()).decode() + gzip.decompress(files[1].read_bytes()).decode() != ""
    assert sum(len(gzip.decompress(path.read_bytes()).splitlines()) for path in files) == 17


def test_the_layout_needs_a_job(torchperf, tmp_path):
    """What is missing in the path is named with its option, and nothing is written."""
    folder = write_results(tmp_path / "out", measured(source=Source()))
    done = torchperf("upload", "hud", "--results", folder, "--out", (tmp_path / "bucket").as_uri())
    assert done.code == 2
    assert "add --repository OWNER/NAME, --workflow-id, --job-id" in done.err
    assert not (tmp_path / "bucket").exists()


def test_any_file_system_of_fsspec_will_do():
    """A bucket in memory holds what was put there."""
    urls = put_files("memory://bench/results", {"v3/a/b/1/2/x.json": b"{}\n"})
    assert urls == ["memory://bench/results/v3/a/b/1/2/x.json.gz"]
    with fsspec.open(urls[0], compression="gzip") as stream:
        assert stream.read() == b"{}\n"


class Recorder(fsspec.AbstractFileSystem):
    """A file system that stands for S3 and keeps what it is given."""

    protocol = "s3"
    cachable = False
    given: list = []  # noqa: RUF012 - one for all instances, which fsspec makes

    def pipe_file(self, path, value, mode="overwrite", **headers):
        if "deny" in path:
            raise PermissionError(f"no access to {path}")
        self.given.append((path, gzip.decompress(value), headers))


@pytest.fixture
def s3(monkeypatch):
    """`s3://` without a network."""
    monkeypatch.setattr(Recorder, "given", [])
    monkeypatch.setitem(_registry, "s3", Recorder)
    return Recorder


def test_s3_gets_json_with_a_header_that_says_gzip(s3):
    """The database's loader looks for `.json` and trusts the headers."""
    urls = put_files("s3://key:secret@bench/top", {"v3/a/b/1/2/x.json": b"{}\n"})
    assert urls == ["s3://bench/top/v3/a/b/1/2/x.json"]
    headers = {"ContentEncoding": "gzip", "ContentType": "application/json"}
    assert s3.given == [("key:secret@bench/top/v3/a/b/1/2/x.json", b"{}\n", headers)]


def test_a_refused_file_is_said_without_secrets(s3):
    """What was written before is counted; a password in the URL is not shown."""
    files = {"v3/x.json": b"", "v3/deny.json": b""}
    with pytest.raises(Refused) as error:
        put_files("s3://key:secret@bench", files)
    assert str(error.value) == (
        "s3://bench/v3/deny.json could not be written (1 of 2 files were written before): "
        "PermissionError: no access to bench/v3/deny.json"
    )


def test_a_missing_library_is_named_with_the_way_to_get_it(torchperf, tmp_path):
    """S3 needs a package of its own; a scheme nobody knows is wrong usage too."""
    folder = write_results(tmp_path / "out", measured())
    arguments = ("upload", "hud", "--results", folder, "--job-id", "1", "--out")
    s3 = torchperf(*arguments, "s3://user:password@bucket")
    assert s3.code == 2
    assert "writing to s3://bucket needs s3fs" in s3.err
    assert "-m pip install s3fs" in s3.err
    unknown = torchperf(*arguments, "what://user:password@bucket/x")
    assert unknown.code == 2
    assert "what://bucket/x cannot be used: its scheme 'what' is none of " in unknown.err
    assert "password" not in s3.err + unknown.err


@pytest.mark.parametrize(("module", "package"), [("jsonschema", "'torchperf-ci[hud]'"), ("fsspec", "fsspec")])
def test_without_the_extra_the_pip_command_is_said(torchperf, tmp_path, monkeypatch, module, package):
    """A library that only this command needs is asked for by name."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == module else object())
    folder = write_results(tmp_path / "out", measured())
    url = (tmp_path / "bucket").as_uri()
    done = torchperf("upload", "hud", "--results", folder, "--job-id", "1", "--out", url)
    assert done.code == 2
    assert f"needs {module}, which is not installed" in done.err
    assert f"-m pip install {package}" in done.err


def test_nothing_to_upload_is_said(torchperf, tmp_path):
    """A skipped case has no metric."""
    folder = write_results(tmp_path / "out", record(status=Status.PASS_DUE_TO_SKIP))
    done = torchperf("upload", "hud", "--results", folder)
    assert done.code == 4
    assert "has a metric" in done.err
