"""Every command reads every results folder: a runner's CSVs, and what a PyTorch checkout's harness leaves, as ours."""

import json
from pathlib import Path

import pytest

from torchperf_ci.core.records import Build, Environment, Status, from_line, to_line
from torchperf_ci.core.result_files import CommandResult, plan_line, result_line
from torchperf_ci.core.results import read_results

STEM = "inductor_huggingface_amp_bf16_inference_cpu"
ACCURACY = (
    "# a remark\n"
    "dev,name,batch_size,accuracy,graph_breaks,recompiles\n"
    "cpu,albert,8,pass,3,1\n"
    "cpu,bert,4,infra_error,0,0\n"
)
PERFORMANCE = (
    "dev,name,batch_size,speedup,abs_latency,compilation_latency,compression_ratio,eager_peak_mem,dynamo_peak_mem\n"
    "cpu,albert,8,2.0,50.0,12.0,0.95,250.8,271.5\n"
    "cpu,bert,4,0.0,0.0,0.0,0.0,0.0,0.0\n"
)


@pytest.fixture(params=["csv", "harness"])
def folder(request, tmp_path: Path) -> Path:
    """A runner's CSVs, or the same with the lines of `run --harness dynamo`."""
    out = tmp_path / "out"
    out.mkdir()
    files = {f"{STEM}_accuracy.csv": ACCURACY, f"{STEM}_performance.csv": PERFORMANCE}
    for name, text in files.items():
        (out / name).write_text(text)
    if request.param == "harness":
        results = [
            CommandResult(csv=name, log="", argv=("python",), status=Status.PASS, seconds=30.0, rows=2)
            for name in files
        ]
        build = Build(environment=Environment(cpu="A CPU", cpu_count=2, torch="2.13.0"))
        lines = [to_line(build), plan_line(list(files)), *map(result_line, results)]
        (out / "commands.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return out


def test_export_and_upload_send_what_it_holds(in_process, folder: Path):
    """A row per value, with the dtype that the name says, and no memory that was never measured."""
    pytest.importorskip("jsonschema")
    done = in_process("export", "out", "--format", "csv", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "amp_bf16" in done.stdout
    assert "infra_error" in done.stdout
    assert "peak_mem" not in done.stdout
    arguments = ("--results", "out", "--repository", "o/p", "--branch", "main", "--commit", "a" * 40, "--dry-run")
    done = in_process("upload", "hud", *arguments, "--workflow-id", "1", "--job-id", "2", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["benchmark"]["dtype"] for row in rows} == {"amp_bf16"}
    done = in_process("upload", "scribe", "--results", "out", "--dry-run", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "albert" in done.stdout


def test_merge_joins_it_with_another(in_process, folder: Path):
    """Two suites measured apart become one folder of records, with the words that the files have."""
    other = folder.parent / "other"
    other.mkdir()
    for testing, text in (("accuracy", ACCURACY), ("performance", PERFORMANCE)):
        (other / f"{STEM.replace('huggingface', 'torchbench')}_{testing}.csv").write_text(text)
    done = in_process("merge", "out", "other", "--output-dir", "all", "--fail-on", "never", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    records = read_results(folder.parent / "all").records
    assert {record.case.suite for record in records} == {"huggingface", "torchbench"}
    assert {record.status.value for record in records} == {"pass", "infra_error", "fail_to_run"}


def test_a_command_that_failed_is_told_in_the_merged_report(in_process, folder: Path):
    """What commands.jsonl knows is not lost with it."""
    with (folder / "commands.jsonl").open("a") as stream:
        stream.write(plan_line(["eager_huggingface_amp_bf16_inference_cpu_accuracy.csv"]) + "\n")
    done = in_process("merge", "out", "--output-dir", "all", "--fail-on", "never", cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    assert "eager_huggingface_amp_bf16_inference_cpu_accuracy.csv" in (folder.parent / "all" / "report.md").read_text()


def test_check_recommends_an_update_that_works_when_typed(in_process, folder: Path):
    """The command of the failure makes the tables that the next check is met by, for every kind of folder."""
    done = in_process("check", "all", "out", "--expected-dir", "expected", cwd=folder.parent)
    assert done.returncode == 2
    (folder.parent / "expected").mkdir()
    done = in_process("check", "all", "out", "--expected-dir", "expected", cwd=folder.parent)
    assert done.returncode == 4
    command = done.stderr.partition("make the tables with torchperf-ci ")[2].split()
    assert in_process(*command, "--metric-column", "recompiles", cwd=folder.parent).returncode == 0
    table = folder.parent / "expected" / f"{STEM}.csv"
    assert table.read_text() == (
        "name,accuracy,graph_breaks,recompiles\n\n\n\nalbert,pass,3,1\n\n\n\nbert,infra_error,0,0\n"
    )
    done = in_process("check", "all", "out", "--expected-dir", "expected", cwd=folder.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the table has no such column: speedup, compression_ratio" in done.stdout
    assert "--metric-column speedup" in done.stdout
    missing = in_process("check", "all", "out", "--expected-dir", "nowhere", cwd=folder.parent)
    assert missing.returncode == 2
    assert "update-expected --from benchmark_logs --expected-dir nowhere" in missing.stderr
    table.write_text("# why\n" + table.read_text().replace("albert,pass,3,1", "albert,pass,3,0"))
    done = in_process("check", "all", "out", "--expected-dir", "expected", cwd=folder.parent)
    assert done.returncode == 3
    assert "recompiles=1, expected=0" in done.stdout
    typed = next(line.split() for line in done.stdout.splitlines() if "torchperf-ci update-expected" in line)
    assert in_process(*typed[1:], cwd=folder.parent).returncode == 0
    assert in_process("check", "all", "out", "--expected-dir", "expected", cwd=folder.parent).returncode == 0
    assert table.read_text().startswith("# why\nname,")


def test_a_foreign_file_does_not_end_a_check(in_process, folder: Path):
    """Beside the results or beside the tables: it is named, and the tables are judged."""
    in_process("update-expected", "--from", "out", "--expected-dir", "expected", cwd=folder.parent)
    for place in (folder, folder.parent / "expected"):
        (place / "prices.csv").write_text("item,price\napple,3,4,5\n")
        (place / "picture.csv").write_bytes(b"\xff\xd8\xff\x00")
    (folder / f"{STEM}_compilation_metrics.csv").write_text("dev,name,batch_size\ncpu,albert,8\n")
    done = in_process("check", "all", "out", "--expected-dir", "expected", cwd=folder.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "prices.csv" in done.stderr
    (folder.parent / "expected" / "torn.csv").write_text("name,accuracy\nalbert\n")
    done = in_process("check", "all", "out", "--expected-dir", "expected", cwd=folder.parent)
    assert done.returncode == 3
    assert "torn.csv" in done.stdout


def test_a_table_with_a_double_row_fails_its_model_and_is_mended(in_process, folder: Path):
    """Two rows of one name, as a merge of branches leaves them."""
    in_process("update-expected", "--from", "out", "--expected-dir", "expected", cwd=folder.parent)
    table = folder.parent / "expected" / f"{STEM}.csv"
    table.write_text(table.read_text() + "\n\n\nalbert,pass,7\n")
    done = in_process("check", "accuracy", "out", "--expected", "expected", cwd=folder.parent)
    assert done.returncode == 3
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:3]] == [["bert", "XFAIL"], ["albert", "FAIL:"]]
    done = in_process("update-expected", "--from", "out", "--expected-dir", "expected", cwd=folder.parent)
    assert done.returncode == 0
    assert "'albert' stood there twice" in done.stdout
    assert in_process("check", "accuracy", "out", "--expected", "expected", cwd=folder.parent).returncode == 0


def test_plan_balances_by_it(in_process, folder: Path):
    """Compile time and latencies tell which model takes longer, where no seconds are recorded."""
    stem = STEM.replace("huggingface_amp_bf16", "tiny_float32")
    (folder / f"{stem}_performance.csv").write_text(
        "dev,name,batch_size,speedup,abs_latency,compilation_latency\ncpu,mlp,8,2.0,50.0,900.0\ncpu,cnn,8,2.0,50.0,1.0\n"
    )
    arguments = ("--inference", "--suites", "tiny", "--shards", "2", "--durations", "out")
    done = in_process("plan", *arguments, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    longest = max(json.loads(done.stdout)["include"], key=lambda entry: entry["seconds"])
    assert longest["filter"].count("mlp") == 1
    assert longest["seconds"] >= 900


def test_compare_of_harness_folders_knows_the_machine(in_process, folder: Path):
    """commands.jsonl holds it; CSVs alone do not, and then only speedups are compared."""
    is_harness = (folder / "commands.jsonl").is_file()
    done = in_process("compare", "out", "out", "--output-dir", "compared", cwd=folder.parent)
    assert done.returncode in {0, 3, 6}, done.stderr
    text = (folder.parent / "compared" / "compare.md").read_text()
    assert ("A CPU" in text) == is_harness
    assert ("the machine is not recorded" in text) != is_harness
    assert "peak" not in text.lower()


def test_a_merged_record_knows_its_machine(in_process, folder: Path):
    """What was read beside the CSVs is in the records that are written."""
    in_process("merge", "out", "--output-dir", "all", "--fail-on", "never", cwd=folder.parent)
    lines = (folder.parent / "all" / "records.jsonl").read_text().splitlines()
    cpus = {item.environment.cpu for line in lines if not isinstance(item := from_line(line), Build)}
    assert cpus == ({"A CPU"} if (folder / "commands.jsonl").is_file() else {""})


@pytest.mark.parametrize("table", [f"{STEM}.csv", "mine.csv"])
def test_the_update_that_a_check_of_one_file_recommends_works_when_typed(in_process, folder: Path, table: str):
    """For the table of the file's name, and for any other."""
    (folder.parent / "expected").mkdir()
    (folder.parent / "expected" / table).write_text("name,accuracy,graph_breaks\nalbert,OOM,3\nbert,infra_error,0\n")
    check = ("check", "accuracy", f"out/{STEM}_accuracy.csv", "--expected", f"expected/{table}")
    done = in_process(*check, cwd=folder.parent)
    assert done.returncode == 3
    typed = next(line.split() for line in done.stdout.splitlines() if "torchperf-ci update-expected" in line)
    assert in_process(*typed[1:], cwd=folder.parent).returncode == 0
    assert in_process(*check, cwd=folder.parent).returncode == 0
