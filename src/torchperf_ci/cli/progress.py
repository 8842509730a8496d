"""What a person sees while a run goes on: a live bar on a terminal, one plain line per case elsewhere. On stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from torchperf_ci.cli.finish import echo_coloured
from torchperf_ci.core.records import Record, Testing
from torchperf_ci.core.text import count
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.run import Progress
from torchperf_ci.worker.protocol import one_line


@contextmanager
def progress_for(stream: Any) -> Iterator[Progress]:  # noqa: ANN401 - any text stream
    """Show progress in the way that fits the stream. However the block ends, the terminal is as it was."""
    if not stream.isatty():
        yield Lines()
        return
    bar = Bar()
    try:
        yield bar
    finally:
        bar.end()


class Lines:
    """A line per case: it reads well in a log."""

    def begin(self, *, total: int, already: int) -> None:
        self._total, self._number = total, 0
        _tell_recorded(total=total, already=already)

    def start(self, case: PlannedCase) -> None:
        """A line is written at the end; several cases may be under way at the same time."""

    def finish(self, records: Sequence[Record]) -> None:
        self._number += 1
        width = len(str(self._total))
        click.echo(f"[{self._number:>{width}}/{self._total}] {describe(records)}", err=True)


class Bar:
    """A bar with the current case and the time left; every case leaves a line above it, red where it did not pass."""

    _bar: Any = None

    def begin(self, *, total: int, already: int) -> None:
        _tell_recorded(total=total, already=already)
        self._bar = click.progressbar(  # of what is left: the rest took no time, and would make the time left too short
            length=total, file=sys.stderr, show_pos=True, item_show_func=lambda case: str(case or "")
        )
        self._bar.__enter__()

    def start(self, case: PlannedCase) -> None:
        self._bar.current_item = one_line(str(case.case))
        self._bar.render_progress()

    def finish(self, records: Sequence[Record]) -> None:
        click.echo("\r\033[K", err=True, nl=False)
        if all(record.status.is_pass for record in records):
            click.echo(describe(records), err=True)
        else:
            echo_coloured(describe(records), "red", err=True)
        self._bar.update(1)

    def end(self) -> None:
        """Leave the line of the bar, and show the cursor, which was hidden meanwhile."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)


def _tell_recorded(*, total: int, already: int) -> None:
    if already:
        verb = "is" if already == 1 else "are"
        click.echo(f"{count(already, 'case')} {verb} recorded already; {count(total, 'case')} left.", err=True)


def describe(records: Sequence[Record]) -> str:
    """Write a case's records in one line."""
    parts = []
    for record in records:
        if record.testing is Testing.PERFORMANCE and record.status.is_pass and record.metrics:
            parts.append(_numbers(record))
        elif record.status.is_pass:
            parts.append(str(record.status))
        else:
            parts.append(
                f"{record.status} ({record.testing}): {record.reason}" if record.reason else str(record.status)
            )
    if any(record.not_compiled for record in records):
        parts.append("not compiled")
    return one_line(f"{records[0].case}: {'; '.join(dict.fromkeys(parts))}") if records else ""


def _numbers(record: Record) -> str:
    metrics = record.metrics
    interval = f" ({metrics['speedup_low']:.3f} to {metrics['speedup_high']:.3f})" if "speedup_low" in metrics else ""
    return (
        f"{metrics['speedup']:.3f}x{interval}, {metrics['abs_latency']:.3g} ms, "
        f"compiled in {metrics['compilation_latency']:.1f} s"
    )
