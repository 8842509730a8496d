"""What a process leaves behind: how it ended, in the words of its row, and its log."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from torchperf_ci.core.records import Status
from torchperf_ci.worker.protocol import one_line

LOG_LIMIT = 16 * 2**20
"""Bytes a log may grow to between two looks; then its first and its last part are kept, and it goes on from there."""
LOG_KEPT = 2**20

_LOG_TAIL = 2**16


def how_it_ended(exit_code: int, *, oom_kills_before: int) -> tuple[Status, str]:
    """The status and reason of a process that ended by itself. `exit_code` as `subprocess` gives it: -9 is signal 9."""
    if exit_code >= 0:
        return Status.CRASHED, f"ended with exit code {exit_code}"
    if exit_code == -signal.SIGKILL and oom_kills() > oom_kills_before:
        return Status.KILLED_OOM, "killed by the kernel because memory ran out"
    return Status.CRASHED, f"ended by signal {-exit_code} ({_signal_name(-exit_code)})"


def oom_kills() -> int:
    """Processes the kernel has killed for want of memory since it started (0 where it does not say)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def limit_log(log: Path) -> None:
    """Cut a stretch out of a log that has grown too long, not its end, which may say why. Its writers must append."""
    with contextlib.suppress(OSError):
        if log.stat().st_size > LOG_LIMIT:
            with log.open("r+b") as stream:
                stream.seek(-_LOG_TAIL, os.SEEK_END)
                tail = stream.read()
                stream.truncate(LOG_KEPT)
            with log.open("ab") as stream:
                stream.write(b"\n[torchperf-ci: a long stretch of output was cut here]\n" + tail)


def last_line(log: Path) -> str:
    """The last line of a log that says something."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _LOG_TAIL))
        lines = [line for line in stream.read().decode("utf-8", errors="replace").splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else "no output"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a signal without a name"
