"""What a dashboard is made of: runs of one dtype, changes by case, what is shown of the past."""

from __future__ import annotations

from dataclasses import replace

from report_builders import BUILD, accuracy, both, case
from run_builders import a_run
from torchperf_ci.core.records import Status
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.dashboard.model import Dashboard, DashboardOptions, study_run
from torchperf_ci.dashboard.regressions import Transition
from torchperf_ci.history.runs import HistoryRun, Past
from torchperf_ci.report.model import ReportOptions, collect_findings

OPTIONS = DashboardOptions(last=3)
PROBLEM = Problem(file="x.parquet", what="cannot be read")


def study(*runs: HistoryRun, options: DashboardOptions = OPTIONS) -> tuple[Dashboard, ...]:
    *past, now = runs
    findings = collect_findings(
        Results(records=now.results.records, builds=(BUILD,), problems=(PROBLEM,)), ReportOptions()
    )
    return study_run(findings, now, Past(runs=tuple(past), problems=(PROBLEM,)), options)


def two_dtypes(day: int, speedup: float) -> HistoryRun:
    return a_run(day, [*both(case(), speedup), *both(case(dtype="amp"), 1.5)])


def test_every_dtype_has_a_dashboard_of_its_own():
    """Its records, its past and its changes; what is wrong with the whole input or history stays with each."""
    only_amp = a_run(1, both(case(dtype="amp"), 1.5))
    float32, amp = study(two_dtypes(0, 1.5), only_amp, two_dtypes(2, 0.5))
    assert (float32.dtype, amp.dtype, float32.alone) == ("float32", "amp", False)
    assert [item.run.time.day for item in float32.summaries] == [5, 7]
    assert [item.run.time.day for item in amp.summaries] == [5, 6, 7]
    assert {record.case.dtype for item in amp.summaries for record in item.run.results.records} == {"amp"}
    assert (len(float32.regressed_cases()), len(amp.regressed_cases())) == (1, 0)
    assert float32.problems == amp.problems == (PROBLEM,)
    assert PROBLEM in amp.findings.problems
    assert {record.case.dtype for record in amp.findings.records} == {"amp"}


def test_the_changes_of_a_case_stand_together_with_the_worst_first():
    """What fails comes before a large change, which comes before a small one."""
    before = [*both(case("slow"), 1.5), *both(case("fails"), 1.5), *both(case("gone")), *both(case("half"), 1.0)]
    now = [
        *both(case("half"), 0.5),
        *both(case("slow"), 0.9, compression_ratio=0.5),
        accuracy(case("fails"), Status.FAIL_ACCURACY),
        both(case("fails"), 1.5)[1],
        *both(case("new")),
    ]
    before[1] = replace(before[1], metrics={**before[1].metrics, "compression_ratio": 1.0})
    (dashboard,) = study(a_run(0, before), a_run(1, now))
    assert [changes[0].case.model for changes in dashboard.regressed_cases()] == ["fails", "half", "slow"]
    assert [change.metric for change in dashboard.regressed_cases()[2]] == ["speedup", "compression_ratio"]
    assert [changes[0].case.model for changes in dashboard.cases(Transition.DISAPPEARED)] == ["gone"]
    assert [changes[0].case.model for changes in dashboard.cases(Transition.APPEARED)] == ["new"]
