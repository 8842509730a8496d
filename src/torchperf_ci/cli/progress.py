"""Show a person how a run goes on, on stderr: a line per case, and a live bar below them on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from torchperf_ci.cli.finish import echo_coloured
from torchperf_ci.core.records import Record, Status, Testing
from torchperf_ci.core.text import count, format_digits, one_line
from torchperf_ci.run.plan import PlannedCase
from torchperf_ci.run.runner import RunProgress

_LONGEST_REASON = 100
_BAR_WIDTH = 20
_BESIDE_BAR = 30
"""Columns for brackets, spaces, the number of cases and the time left."""


@contextmanager
def progress_for(
    stream: Any,  # noqa: ANN401 - any text stream
    *,
    quiet: bool = False,
    logs_in: Path | None = None,
) -> Iterator[RunProgress]:
    """Show progress as it fits the stream. However the block ends, the terminal is as it was.

    quiet: show nothing. logs_in: the results folder, where the log of every case is to be named as well.
    """
    if quiet or not stream.isatty():
        yield LogLines(quiet=quiet, logs_in=logs_in)
        return
    bar = TerminalBar(logs_in=logs_in)
    try:
        yield bar
    finally:
        bar.end()


class LogLines:
    """A numbered line per case: it reads well in a log."""

    def __init__(self, *, quiet: bool = False, logs_in: Path | None = None) -> None:
        self._quiet, self._logs_in = quiet, logs_in
        self._reasons: set[tuple[str, str, str]] = set()

    def begin(self, *, total: int, already: int) -> None:
        self._total, self._number = total, 0
        if already and not self._quiet:
            _tell_recorded(total=total, already=already)

    def start(self, case: PlannedCase) -> None:
        """Do nothing: a line is written at the end, and several cases may be under way at the same time."""

    def finish(self, records: Sequence[Record]) -> None:
        self._number += 1
        if not self._quiet:
            width = len(str(self._total))
            line = describe(_shorten(records, self._reasons), logs_in=self._logs_in)
            click.echo(f"[{self._number:>{width}}/{self._total}] {line}", err=True)


class TerminalBar:
    """A line per case, red where it did not pass, and below them a bar with the current case and the time left."""

    def __init__(self, *, logs_in: Path | None = None) -> None:
        self._bar: Any = None
        self._logs_in = logs_in
        self._reasons: set[tuple[str, str, str]] = set()

    def begin(self, *, total: int, already: int) -> None:
        if already:
            _tell_recorded(total=total, already=already)
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # 0: it does not say
        room = max(10, columns - _BAR_WIDTH - _BESIDE_BAR)  # a longer line would wrap, and stay when the bar moves on
        self._bar = click.progressbar(  # of what is left: the rest took no time, and would make the time left too short
            length=total,
            file=sys.stderr,
            show_pos=True,
            width=_BAR_WIDTH,
            item_show_func=lambda case: one_line(str(case or ""), limit=room),
        )
        self._bar.__enter__()

    def start(self, case: PlannedCase) -> None:
        self._bar.current_item = str(case.case)
        self._bar.render_progress()

    def finish(self, records: Sequence[Record]) -> None:
        click.echo("\r\033[K", err=True, nl=False)
        text = describe(_shorten(records, self._reasons), logs_in=self._logs_in)
        if all(record.status.is_pass for record in records):
            click.echo(text, err=True)
        else:
            echo_coloured(text, "red", err=True)
        self._bar.update(1)

    def end(self) -> None:
        """Leave the line of the bar, and show the cursor, which was hidden meanwhile."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)


def _tell_recorded(*, total: int, already: int) -> None:
    are = "is" if already == 1 else "are"
    click.echo(f"{count(already, 'case')} {are} recorded already; {total} left to measure.", err=True)


def describe(records: Sequence[Record], *, logs_in: Path | None = None) -> str:
    """Describe a case's records in one line, with `logs_in` a second one that names its log."""
    parts = []
    is_one_failure = len(records) > 1 and len({(record.status, record.reason) for record in records}) == 1
    reasons = [record.reason for record in records]
    for record in records:
        if record.testing is Testing.PERFORMANCE and record.status.is_pass and record.metrics:
            parts.append(_numbers(record))
        elif record.status is Status.PASS_DUE_TO_SKIP:
            parts.append(f"skipped: {record.reason}" if record.reason else str(record.status))
        elif record.status.is_pass:
            parts.append(str(record.status))
        else:
            status = f"{record.status}" if is_one_failure else f"{record.status} ({record.testing})"
            is_last = (
                is_one_failure or record.reason not in reasons[len(parts) + 1 :]
            )  # a reason of both testings is told once
            reason = one_line(record.reason, limit=_LONGEST_REASON)  # the report has all of it
            parts.append(f"{status}: {reason}" if reason and is_last else status)
    if any(record.not_compiled for record in records):
        parts.append("not compiled")
    line = one_line(f"{records[0].case}: {'; '.join(dict.fromkeys(parts))}") if records else ""
    log = next((record.log for record in records if record.log), "") if logs_in else ""
    return f"{line}\n  log: {logs_in}/{one_line(log)}" if log else line


def _shorten(records: Sequence[Record], earlier: set[tuple[str, str, str]]) -> list[Record]:
    """Return the records, without the reason that keeps a model from loading where another case said it."""
    keys = [(record.case.suite, record.case.model, record.reason) for record in records]
    shortened = [
        replace(record, reason="as above") if key in earlier and record.status is Status.MODEL_FAIL_TO_LOAD else record
        for key, record in zip(keys, records, strict=True)
    ]
    earlier.update(keys)
    return shortened


def _numbers(record: Record) -> str:
    metrics = record.metrics
    own = [f"{name} {format_digits(metrics[name], 4)} {each.unit}".strip() for name, each in record.own_metrics.items()]
    if "speedup" not in metrics:  # what runs as it is
        low, high = (metrics.get(f"abs_latency_{end}") for end in ("low", "high"))
        interval = (
            f" ({format_digits(low, 3)} to {format_digits(high, 3)})" if low is not None and high is not None else ""
        )
        return ", ".join([f"{format_digits(metrics['abs_latency'], 3)} ms{interval}", *own])
    interval = f" ({metrics['speedup_low']:.3f} to {metrics['speedup_high']:.3f})" if "speedup_low" in metrics else ""
    times = f"{metrics['speedup']:.3f}x{interval}, {format_digits(metrics['abs_latency'], 3)} ms"
    return ", ".join([times, *own, f"compiled in {metrics['compilation_latency']:.1f} s"])
