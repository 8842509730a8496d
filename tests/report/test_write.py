"""The files a report consists of."""

from dataclasses import replace
from pathlib import Path

import pytest

from report_builders import BUILD, accuracy, both, case, check_golden, findings, performance, sample_records
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Status
from torchperf_ci.core.results import Problem, Results, open_folder
from torchperf_ci.report.model import ReportOptions
from torchperf_ci.report.words import verdict
from torchperf_ci.report.write import judge_results, write_findings, write_terminal


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_of_records_becomes_csvs_charts_and_a_report(tmp_path: Path):
    """Every file of a report is written, and the verdict counts the cases."""
    with open_folder(tmp_path / "out") as folder:
        made = judge_results(Results(records=tuple(sample_records()), builds=(BUILD,)), ReportOptions())
        summary = write_findings(folder, made)
    assert (made.passed, made.total, made.missing, made.left_out) == (7, 10, 1, 2)
    assert " ".join(verdict(made)) == (
        "❌ 3 of 10 cases failed: 1 fail_accuracy, 1 crashed, 1 missing; "
        "1 of 6 models could not run: ModuleNotFoundError: No module named 'torchvision'"
    )
    assert written(tmp_path / "out") == {
        ".torchperf-ci",
        *(
            f"{compiler}_tiny_float32_inference_cpu_{testing}.csv"
            for compiler in ("eager", "inductor")
            for testing in ("accuracy", "performance")
        ),
        *(f"{name}.csv" for name in ("geomean", "passrate", "comp_time", "memory")),
        *(f"gh_{name}.txt" for name in ("title", "executive_summary", "warnings", "inference", "build_summary")),
        *(f"{name}.{kind}" for name in ("overview", "tiny_float32") for kind in ("svg", "png")),
        "report.md",
        "report.html",
    }
    assert summary == write_terminal(findings(sample_records()))


def test_a_failure_is_told_in_full_with_its_log():
    """Once for all compilers with the same reason."""
    reason = "no weights: download them " + "and then do more " * 20
    records = [
        replace(accuracy(case("a", name), Status.MODEL_FAIL_TO_LOAD, reason=reason), log="logs/a.log")
        for name in ("eager", "inductor")
    ]
    text = write_terminal(findings(records), {"logs/a.log": Path("out/logs/a.log")})
    failure = f"  tiny/a eager, inductor: model_fail_to_load (accuracy) {reason.strip()}\n    log: out/logs/a.log\n"
    assert text.count(reason.strip()) == 1
    assert failure in text


def test_the_summary_for_the_terminal_in_full():
    """Tables per section, what failed and why, what the compilers bring, the verdict."""
    check_golden("report/sample/terminal.txt", write_terminal(findings(sample_records())) + "\n")


def test_a_report_that_is_written_again_leaves_nothing_of_the_earlier_one(tmp_path: Path):
    """A chart of samples that are no longer flagged goes; files of others stay."""
    out = tmp_path / "out"
    slow = [performance(case(), 0.5, samples=[0.01, 0.02])]
    with open_folder(out) as folder:
        write_findings(folder, judge_results(Results(records=tuple(slow)), ReportOptions()))
    (out / "samples_of_mine.png").write_bytes(b"mine")
    assert "samples_tiny_mlp_inductor_float32_inference_cpu.svg" in written(out)
    with open_folder(out) as folder:
        write_findings(folder, judge_results(Results(records=tuple(both(case(), 1.5))), ReportOptions()))
    assert {name for name in written(out) if name.startswith("samples_")} == {"samples_of_mine.png"}


def test_nothing_to_report_is_said(tmp_path: Path):
    """Without records, or with none that is selected, there is no report."""
    with open_folder(tmp_path / "out") as folder:
        with pytest.raises(NothingToJudge, match="no results to report"):
            write_findings(folder, judge_results(Results(), ReportOptions()))
        chosen = ReportOptions(selection=CaseSelection(suites=("zoo",)))
        with pytest.raises(NothingToJudge, match=r"none of the 2 results .* the suites there are: tiny"):
            write_findings(folder, judge_results(Results(records=tuple(both(case()))), chosen))
    assert written(tmp_path / "out") == {".torchperf-ci"}


def test_problems_alone_still_make_a_report(tmp_path: Path):
    """Somebody has to read what is wrong with every file."""
    problem = Problem(file="a.csv", what="is empty")
    with open_folder(tmp_path / "out") as folder:
        summary = write_findings(folder, judge_results(Results(problems=(problem,)), ReportOptions()))
    assert summary.splitlines()[-1] == "⚠️ No case could be judged; 1 problem with the input"
    assert "a.csv: is empty" in (tmp_path / "out" / "report.md").read_text()
    assert "a.csv: is empty" in (tmp_path / "out" / "report.html").read_text()
