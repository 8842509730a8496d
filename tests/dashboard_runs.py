"""Results folders of nightly runs, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from report_builders import accuracy, both, case
from run_builders import a_run
from torchperf_ci.core.records import Record, Status
from torchperf_ci.core.results import open_folder
from torchperf_ci.history.parquet import ParquetHistory
from torchperf_ci.history.runs import RunFilter
from torchperf_ci.history.storage import LocalFiles

GOOD = both(case("mlp"), 1.5)
BAD = [accuracy(case("mlp"), Status.FAIL_ACCURACY), *both(case("mlp"), 1.5)[1:]]


def results(folder: Path, day: int = 0, records: Sequence[Record] = GOOD, **source) -> str:
    """The folder with these results of the run of a day; its name."""
    with open_folder(folder) as opened:
        opened.append(*a_run(day, records, **source).results.records)
    return folder.name


def kept(folder: Path) -> list[str]:
    """The keys of the runs in a history, oldest first."""
    runs = ParquetHistory(files=LocalFiles(root=folder)).read_last(50, RunFilter()).runs
    return [run.key for run in runs]
