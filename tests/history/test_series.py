"""Runs as series: the same from records and from Parquet files by SQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from report_builders import BUILD, accuracy, both, case, performance
from run_builders import FIRST_DAY, MACHINE, a_run, collect_series
from torchperf_ci.core.records import PARTITION, Direction, Status, own_metric
from torchperf_ci.history.acceptances import Acceptance, encode_acceptances, read_acceptances
from torchperf_ci.history.parquet import ParquetHistory, compact
from torchperf_ci.history.runs import HistoryRun, RunFilter
from torchperf_ci.history.series import Series
from torchperf_ci.history.storage import LocalFiles


def with_scope(run: HistoryRun, *narrowed_by: str) -> HistoryRun:
    return replace(run, results=replace(run.results, builds=(replace(BUILD, narrowed_by=narrowed_by),)))


def make_runs() -> list[HistoryRun]:
    """A failure, a new case, a subset, another machine, a metric of one's own, counters and a confirmation."""
    runs = []
    for day in range(7):
        records = [*both(case(), 1.5 + day / 100, speedup_low=1.4, speedup_high=1.7), *both(case("b"), 1.2)]
        tokens = own_metric("tokens", unit="1/s", direction=Direction.HIGHER)
        records[1] = replace(
            records[1],
            metrics={**records[1].metrics, "tokens": 5.0},
            own_metrics={"tokens": tokens},
            counters={"graph_breaks": 0, "calls_captured": 9},
        )
        if day == 3:
            records[3] = performance(case("b"), None, Status.CRASHED, reason="signal 11")
        if day == 4:
            records[2] = accuracy(case("b"), Status.NOT_RUN)
        if day >= 2:
            records += both(case("new"))
        run = a_run(day, records, machine=replace(MACHINE, cpu="Xeon") if day == 6 else MACHINE)
        if day == 5:
            run = replace(run, results=replace(run.results, confirmations=run.results.records[1:2]))
        runs.append(with_scope(run))
    return runs


def named(series: list[Series]) -> dict[str, Series]:
    return {f"{item.case.model} {item.metric.name}": item for item in series}


@pytest.fixture
def history(tmp_path: Path) -> ParquetHistory:
    return ParquetHistory(files=LocalFiles(root=tmp_path / "history"))


def test_series_of_records_and_of_files_are_the_same(history: ParquetHistory, tmp_path: Path) -> None:
    """Also after a month was compacted."""
    runs = make_runs()
    for run in runs:
        history.add(run, tmp_path)
    of_records = collect_series(runs)
    assert history.read_series(100, RunFilter()).list_series() == of_records
    assert list(compact(history, now=FIRST_DAY + timedelta(days=60)))
    assert history.read_series(100, RunFilter()).list_series() == of_records
    assert history.read_series(3, RunFilter()).list_series() == collect_series(runs[-3:])


def test_a_series_has_its_failures_intervals_and_confirmations() -> None:
    """A failure stands in the series of numbers without a value; what was not run is no point."""
    series = named(collect_series(make_runs()))
    assert [point.value for point in series["b speedup"].points] == [1.2, 1.2, 1.2, None, 1.2, 1.2, 1.2]
    failed = series["b speedup"].points[3]
    assert (failed.status, failed.reason) == ("crashed", "signal 11")
    assert [point.value for point in series["b accuracy_status"].points] == [1.0] * 6
    first = series["mlp speedup"].points[0]
    assert (first.low, first.high, first.run.commit) == (1.4, 1.7, "00" * 20)
    assert [point.is_confirmation for point in series["mlp speedup"].points] == [*[False] * 6, True, False]
    assert series["mlp tokens"].metric.direction is Direction.HIGHER
    assert "mlp speedup_low" not in series
    assert "mlp calls_captured" not in series
    assert series["mlp graph_breaks"].points[0].value == 0.0


def test_a_confirmation_counts_for_its_own_attempt_only(history: ParquetHistory, tmp_path: Path) -> None:
    """When the job is repeated and nothing is off any more, the earlier second measurement is void."""
    first = a_run(0, both(case(), 1.0), attempt=1)
    history.add(replace(first, results=replace(first.results, confirmations=first.results.records[1:])), tmp_path)
    history.add(a_run(0, both(case(), 1.5), attempt=2), tmp_path)
    series = named(history.read_series(9, RunFilter()).list_series())
    assert [point.value for point in series["mlp speedup"].points] == [1.5]


@pytest.mark.parametrize(
    ("scopes", "gone_since"),
    [
        ((("",), ("",)), 1),  # both took everything
        ((("",), ("--filter b",)), None),  # the second one did not ask for it
        ((("--quick",), ("--quick",)), 1),  # both asked for the same few
        ((("",), ("", "--quick")), None),
        ((("",), (PARTITION,)), None),
        (((), (), ()), None),  # unknown: it may be back
        (((), (), (), ()), 1),  # unknown, three times
    ],
)
def test_a_case_is_gone_when_a_run_that_asked_for_it_lacks_it(
    scopes: tuple[tuple[str, ...], ...], gone_since: int | None
) -> None:
    """A blank scope is a run of everything; one without any does not say what it asked for."""
    runs = []
    for day, scope in enumerate(scopes):
        run = a_run(day, [*both(case("b")), *(both(case("gone")) if day == 0 else [])])
        runs.append(with_scope(run, *filter(None, scope)) if scope else run)
    absent = named(collect_series(runs))["gone speedup"].absent
    assert (None if absent is None else (absent.time - FIRST_DAY).days) == gone_since


def test_acceptances_are_files_beside_the_runs(history: ParquetHistory, tmp_path: Path) -> None:
    """Read back as they were written, oldest first, of one series; what is no acceptance is named."""
    history.add(a_run(0), tmp_path)
    later = Acceptance(case="tiny/*", name="results", time=FIRST_DAY + timedelta(days=1), by="</b>", reason="x\ny")
    earlier = Acceptance(case="a/b", metric="speedup", name="results", time=FIRST_DAY, until=FIRST_DAY)
    other = Acceptance(case="a/b", name="other", time=FIRST_DAY)
    history.files.write(encode_acceptances([later, earlier, other]))
    history.files.write({"acceptances/broken.json": b"{"})
    known, problems = read_acceptances(history.files, "results")
    assert known == [earlier, later]
    assert [problem.file for problem in problems] == ["acceptances/broken.json"]
    assert len(history.read_last(9, RunFilter()).runs) == 1
    assert later.fits(case(), "speedup")
    assert not earlier.fits(case(), "speedup")
