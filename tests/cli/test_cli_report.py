"""`torchperf-ci report`."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from report_builders import BUILD, GOLDEN, both, case, sample_records
from torchperf_ci.cli.main import main
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import to_line
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import open_folder
from torchperf_ci.report.gh_parts import case_csvs

Cli = Callable[..., subprocess.CompletedProcess[str]]
HEADER = "dev,name,batch_size,speedup,abs_latency,compilation_latency,compression_ratio\n"


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command in this process, which saves starting one."""

    def call(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["torchperf-ci", "report", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return call


@pytest.fixture
def pytorch_folder(tmp_path: Path) -> Path:
    """What PyTorch's suite runner leaves behind."""
    return Path(shutil.copytree(GOLDEN / "pytorch_folder" / "input", tmp_path / "logs"))


def test_a_results_folder_prints_its_summary_and_gets_a_report(cli: Cli, tmp_path: Path):
    """The summary on stdout, the rest on stderr; a missing result is exit code 6."""
    with open_folder(tmp_path / "out") as folder:
        folder.append(BUILD, *sample_records())
    done = cli("report", str(tmp_path / "out"))
    assert done.stdout == (GOLDEN / "report" / "sample" / "terminal.txt").read_text()
    assert done.stderr == f"The report is in {tmp_path}/out/report.md and {tmp_path}/out/report.html.\n"
    assert done.returncode == 6
    report = (tmp_path / "out" / "report.md").read_text()
    assert "2.13.0+cpu" in report


def test_a_folder_of_csv_files_is_reported_and_its_files_stay_as_they_are(report, pytorch_folder: Path):
    """Any harness's files will do, with or without a header."""
    before = {path.name: path.read_bytes() for path in pytorch_folder.iterdir()}
    done = report(str(pytorch_folder))
    verdict = "❌ 3 of 108 cases failed: 2 fail_accuracy, 1 OOM; 1 of 28 models could not run"
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, verdict)
    assert {name: (pytorch_folder / name).read_bytes() for name in before} == before
    assert (pytorch_folder / "passrate.csv").read_text() == (GOLDEN / "pytorch_folder" / "passrate.csv").read_text()


def test_what_to_report_can_be_chosen(report, pytorch_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Suites, compilers, devices, dtypes and mode, also by underscore and by environment."""
    monkeypatch.setenv("TORCHPERF_COMPILERS", "inductor eager")
    monkeypatch.setenv("TORCHPERF_DTYPES", "amp")
    done = report(
        str(pytorch_folder),
        "--suites=huggingface",
        "--flag_compilers=eager",
        "--training",
        "--include-slowdowns",
    )
    assert done.returncode == 0
    assert (pytorch_folder / "geomean.csv").read_text() == (
        ",Compiler,huggingface\ninductor,inductor,1.49x\neager,eager,0.99x\n"
    )


def test_the_build_summary_names_the_checkouts(report, pytorch_folder: Path, tmp_path: Path):
    """Their commits are asked from git; a base commit is believed."""
    bench = tmp_path / "torchbench"
    identity = ["-c", "user.name=Octo", "-c", "user.email=octo@example.com"]
    subprocess.run(["git", "init", "-q", str(bench)], check=True)
    subprocess.run(["git", "-C", str(bench), *identity, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    sha = subprocess.check_output(["git", "-C", str(bench), "rev-parse", "HEAD"], text=True).strip()
    report(str(pytorch_folder), "--base-sha=abc123", f"--torchbench-dir={bench}")
    summary = (pytorch_folder / "gh_build_summary.txt").read_text()
    plain = summary.replace("`", "")  # lines with a commit are code, so that GitHub makes no link of it
    assert f"pytorch commit: abc123\ntorchbench commit: {sha}\ntorchbench commit date: " in plain
    report(str(pytorch_folder), f"--pytorch-dir={tmp_path / 'nowhere'}")
    assert "pytorch Absent\ntorchbench Absent\n" in (pytorch_folder / "gh_build_summary.txt").read_text()


def test_what_cannot_be_used_is_named_with_file_and_line_and_the_rest_is_reported(report, tmp_path: Path):
    """Exit code 6, and the report has a section for it."""
    stem = "tiny_float32_inference_cpu"
    (tmp_path / f"eager_{stem}_performance.csv").write_text(HEADER + "cpu,mlp,8,1.0,2,3,1\ncpu,lstm,8,nan,2,3,1\n")
    (tmp_path / f"eager_{stem}_accuracy.csv").write_text("dev,name,batch_size,accuracy\ncpu,mlp,8,pass\ncpu,ls")
    (tmp_path / f"inductor_{stem}_performance.csv").write_text("")
    done = report(str(tmp_path))
    assert done.returncode == 6
    problems = [
        f"eager_{stem}_accuracy.csv:3: has 2 cells where 4 are expected; the row is not used",
        f"eager_{stem}_performance.csv:3: speedup is 'nan', which is not a usable number",
        f"inductor_{stem}_performance.csv: is empty",
        f"inductor_{stem}_accuracy.csv: is absent, though inductor_{stem}_performance.csv is there",
    ]
    assert [line for line in done.stderr.splitlines() if line.startswith("Problem")] == [
        f"Problem: {p}" for p in problems
    ]
    text = (tmp_path / "report.md").read_text()
    assert "### Problems with the input (4)" in text
    assert all(problem in text for problem in problems)
    assert done.stdout.splitlines()[-1].startswith("❌ 1 of 2 cases failed: ")


def test_a_line_of_records_that_was_cut_off_is_named_and_kept(report, tmp_path: Path):
    """A killed run leaves half a line; a report changes nothing of it."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    lines = [to_line(record) for record in both(case())]
    (folder / "records.jsonl").write_text("\n".join(lines) + '\n{"type":"rec')
    done = report(str(folder))
    assert done.returncode == 6
    assert "records.jsonl:3: not JSON" in done.stderr
    assert (folder / "records.jsonl").read_text().endswith('{"type":"rec')


def test_records_that_are_no_file_are_told(report, tmp_path: Path):
    """A folder of that name, as some ways of copying make it, and a link to what is gone."""
    (tmp_path / "one" / "records.jsonl").mkdir(parents=True)
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "records.jsonl").symlink_to(tmp_path / "gone")
    for name, told in (("one", "a folder"), ("two", "a link")):
        done = report(str(tmp_path / name))
        assert done.returncode == 6
        assert f"records.jsonl: is {told}" in done.stderr


def test_an_empty_folder_has_nothing_to_judge(report, tmp_path: Path):
    """Exit code 4, and nothing is written into it."""
    (tmp_path / "empty").mkdir()
    done = report(str(tmp_path / "empty"))
    assert (done.returncode, done.stdout) == (4, "")
    assert "there are no results to report" in done.stderr
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_suite_that_is_not_there_is_a_problem(report, pytorch_folder: Path):
    """The others that were asked for are reported."""
    done = report(str(pytorch_folder), "--suites=torchbench", "--suites=zoo")
    assert done.returncode == 6
    assert "Problem: --suites zoo: there are no results for it" in done.stderr


def test_a_report_of_somebody_else_is_not_overwritten(report, pytorch_folder: Path):
    """Another folder can be chosen."""
    (pytorch_folder / "report.md").write_text("mine")
    done = report(str(pytorch_folder))
    assert (done.returncode, (pytorch_folder / "report.md").read_text()) == (2, "mine")
    assert "--output-dir" in done.stderr
    assert report(str(pytorch_folder), f"--output-dir={pytorch_folder / 'mine'}").returncode == 0
    assert (pytorch_folder / "mine" / "report.html").is_file()


def test_the_limit_is_kept(report, pytorch_folder: Path):
    """In bytes; the rows that are hidden are counted."""
    assert report(str(pytorch_folder), "--limit=3000").returncode == 0
    content = (pytorch_folder / "report.md").read_bytes()
    assert len(content) <= 3000
    assert b"hidden here for length" in content or b"left out for length" in content


def test_files_that_the_options_do_not_ask_for_are_named(in_process, tmp_path: Path):
    """Neither a suite nor a dtype makes a file vanish without a word."""
    for name, text in case_csvs([*both(case("m")), *both(case("n", suite="huggingface"))]):
        (tmp_path / name).write_text(text)
    found = read_folder(tmp_path, CaseSelection(suites=("huggingface",)))
    assert found.left_out == tuple(f"inductor_tiny_float32_inference_cpu_{t}.csv" for t in ("accuracy", "performance"))
    done = in_process(
        "report", str(tmp_path), "--suites", "huggingface", "--output-dir", str(tmp_path / "report"), cwd=tmp_path
    )
    assert done.returncode == 0
    assert "inductor_tiny_float32_inference_cpu_accuracy.csv" in done.stderr
    assert "inductor_tiny_float32_inference_cpu_accuracy.csv" in (tmp_path / "report" / "report.md").read_text()
    done = in_process("report", str(tmp_path), "--dtypes", "amp", "--output-dir", str(tmp_path / "other"), cwd=tmp_path)
    assert done.returncode == 4
    assert "inductor_huggingface_float32_inference_cpu_accuracy.csv" in done.stderr
