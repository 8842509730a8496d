"""The interface of every kind of history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol

from torchperf_ci.history.runs import Addition, HistoryRun, Past, RunFilter
from torchperf_ci.history.series import SeriesCollection


class History(Protocol):
    """Runs that are kept."""

    def read_last(self, count: int, chosen: RunFilter) -> Past:
        """Read the newest `count` runs that are chosen; of every case the result of its newest attempt."""

    def read_series(self, count: int, chosen: RunFilter) -> SeriesCollection:
        """Read the series of the newest `count` runs that are chosen, without making records of them."""

    def add(self, run: HistoryRun, folder: Path, *, dry_run: bool = False) -> Addition:
        """Keep `run`, whose results folder is `folder`. Adding it twice leaves one. A dry run writes nothing."""


def find_earlier_runs(history: History, run: HistoryRun, count: int, chosen: RunFilter) -> Past:
    """Read the newest `count` runs before `run`."""
    past = history.read_last(count + 1, replace(chosen, until=run.time))
    earlier = [item for item in past.runs if item.key != run.key]
    return replace(past, runs=tuple(earlier[-count:] if count else ()))


def find_earlier_series(history: History, run: HistoryRun, count: int, chosen: RunFilter) -> SeriesCollection:
    """Read the series of the newest `count` runs before `run`."""
    collection = history.read_series(count + 1, replace(chosen, until=run.time))
    collection.drop_run(run.key)
    return collection
