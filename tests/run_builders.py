"""Runs for tests, a day apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from report_builders import both, case
from torchperf_ci.core.records import Environment, Record, Source
from torchperf_ci.core.results import Results
from torchperf_ci.history.runs import HistoryRun, make_run
from torchperf_ci.history.series import Series, SeriesCollection

FIRST_DAY = datetime(2026, 10, 5, 3, 15, tzinfo=timezone.utc)
MACHINE = Environment(python="3.11.7", torch="2.13.0", cpu="EPYC", cpu_count=4, host="runner", threads=4)


def a_run(
    day: int,
    records: Sequence[Record] = (),
    *,
    name: str = "results",
    machine: Environment = MACHINE,
    **source: object,
) -> HistoryRun:
    """The nightly run so many days after the first one."""
    time = FIRST_DAY + timedelta(days=day)
    known: Mapping[str, object] = {
        "repository": "octo/project",
        "commit": f"{day:02x}" * 20,
        "branch": "main",
        "workflow": "nightly",
        "run_id": str(1000 + day),
        "time": time.isoformat(timespec="seconds"),
    }
    made = Source(**{**known, **source})  # type: ignore[arg-type]  # the fields of Source
    stamped = tuple(replace(record, source=made, environment=machine) for record in records or both(case()))
    return make_run(Results(records=stamped), name=name, now=time)


def collect_series(runs: Iterable[HistoryRun]) -> list[Series]:
    """The series of these runs, by case and metric."""
    collection = SeriesCollection()
    for run in runs:
        collection.add_run(run)
    return collection.list_series()
