"""The parts and tables of PyTorch's dashboard."""

import pytest

from report_builders import GOLDEN, both, case, check_golden, findings, performance, sample_records
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import Mode, Status
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.report.gh_parts import render_parts, write_summary_csvs
from torchperf_ci.report.model import ReportOptions, SourceTree, collect_findings

PYTORCH = GOLDEN / "pytorch_folder"


@pytest.fixture(scope="module")
def pytorch_findings():
    """What a PyTorch suite runner left behind: four compilers, two suites, one file without a header."""
    results = read_folder(PYTORCH / "input", CaseSelection())
    assert results.problems == ()
    return collect_findings(results, ReportOptions())


@pytest.mark.parametrize("name", ["geomean.csv", "passrate.csv", "comp_time.csv", "memory.csv"])
def test_the_summary_files_are_pytorchs_byte_for_byte(pytorch_findings, name: str):
    """The golden files hold what PyTorch's own rules give for this input."""
    check_golden(f"pytorch_folder/{name}", write_summary_csvs(pytorch_findings)[name])


def test_slowdowns_can_be_counted(pytorch_findings):
    """Without clipping the geometric mean is the plain one."""
    results = read_folder(PYTORCH / "input", CaseSelection())
    found = collect_findings(results, ReportOptions(include_slowdowns=True))
    check_golden("pytorch_folder/geomean_with_slowdowns.csv", write_summary_csvs(found)["geomean.csv"])


@pytest.mark.parametrize(
    "name",
    ["gh_title.txt", "gh_executive_summary.txt", "gh_warnings.txt", "gh_training.txt", "gh_build_summary.txt"],
)
def test_the_parts_of_the_dashboard_in_full(pytorch_findings, name: str):
    """Titles, cells and order of the tables are PyTorch's."""
    check_golden(f"pytorch_folder/{name}", render_parts(pytorch_findings)[name])


def test_there_is_a_part_for_each_mode_and_none_that_needs_history(pytorch_findings):
    """The parts about other runs are written by what knows other runs."""
    assert sorted(render_parts(pytorch_findings)) == [
        "gh_build_summary.txt",
        "gh_executive_summary.txt",
        "gh_title.txt",
        "gh_training.txt",
        "gh_warnings.txt",
    ]


def test_several_sections_have_tables_of_their_own():
    """Mode, dtype and device stand above every table, and nothing is overwritten."""
    records = [
        record
        for mode in Mode
        for device in ("cpu", "cuda")
        for record in both(case("mlp", mode=mode, device=device), 1.5 if mode is Mode.TRAINING else 0.5)
    ]
    parts = render_parts(findings(records))
    check_golden("report/sections/gh_executive_summary.txt", parts["gh_executive_summary.txt"])
    check_golden("report/sections/gh_warnings.txt", parts["gh_warnings.txt"])
    check_golden("report/sections/gh_training.txt", parts["gh_training.txt"])
    check_golden("report/sections/geomean.csv", write_summary_csvs(findings(records))["geomean.csv"])


def test_failures_missing_results_and_what_was_not_measured_look_different():
    """0.0 for a failure as in PyTorch's tables, a word for a missing row, n/a for a metric that was not measured."""
    records = [
        *both(case("a", "eager")),
        *both(case("a", "inductor")),
        performance(case("b", "eager"), None, Status.CRASHED),
    ]
    table = render_parts(findings(records))["gh_inference.txt"]
    assert "|  b   | 8  |  0.0  | missing  |" in table
    assert "|  a   | 8  |  n/a  |   n/a    |" in table


def test_a_suite_that_lacks_a_compiler_has_a_zero_in_the_summary():
    """As in PyTorch's files."""
    records = [*both(case("a", "eager", suite="one")), *both(case("a", "inductor", suite="two"))]
    assert write_summary_csvs(findings(records))["passrate.csv"] == (
        ',Compiler,one,two\neager,eager,"100%, 1/1",0\ninductor,inductor,0,"100%, 1/1"\n'
    )


def test_names_from_outside_are_no_formulas_and_no_markup():
    """In a heading they are code, in a fence one line, in a CSV cell text."""
    records = both(case("a\n~~~\n<b>", "=cmd", suite="@all *x*"))
    parts = render_parts(findings(records))
    assert "## `@all *x*` suite with float32 precision ##" in parts["gh_inference.txt"]
    assert "| a ~~~ <b> |" in parts["gh_inference.txt"]
    assert write_summary_csvs(findings(records))["geomean.csv"] == ",Compiler,'@all *x*\n'=cmd,'=cmd,1.00x\n"


def test_the_build_summary_is_that_of_the_measured_environment():
    """Flags, versions and variables come from the run, commits from the checkouts."""
    options = {
        "run_name": "day_325_21_11_26_performance_float32_123",
        "checkouts": (SourceTree(name="pytorch", commit="abc", date="2026-11-20"), SourceTree(name="torchbench")),
    }
    text = render_parts(findings(sample_records(), **options))["gh_build_summary.txt"]
    check_golden("report/sample/gh_build_summary.txt", text)
