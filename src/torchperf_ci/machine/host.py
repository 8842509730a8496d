"""The system's load over a stretch of time, and the memory that is left.

The load is recorded and not used in verdicts: the probe sees what it misses.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

GIB = 2**30
LEAST_MEMORY = 2 * GIB
"""Bytes that two processes with torch and a small model need."""

_STEAL = 7
"""The place of stolen time among the CPU times of /proc/stat; guests' times after it are in the first two as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLoad:
    """The load of the system during a measurement, as it says itself; None: it does not say.

    load: average number of runnable processes in the minute before the end. steal: share of the CPU time that the host
    gave to other guests. pressure: share of the time in which something waited for a CPU.
    """

    load: float | None
    steal: float | None
    pressure: float | None


def read(root: Path, path: str) -> str:
    """Read a file of /proc or /sys below `root`, empty where it cannot be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return (root / path).read_text().strip()
    return ""


def container_memory_left(root: Path) -> int | None:
    """Return the bytes the container may still take, or None where it has no limit."""
    limit, used = read(root, "sys/fs/cgroup/memory.max"), read(root, "sys/fs/cgroup/memory.current")
    return max(0, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else None


def memory_left(root: Path = Path("/")) -> int:
    free, left = psutil.virtual_memory().available, container_memory_left(root)
    return free if left is None else min(free, left)


class HostWatch:
    """Count the load from now on; `root` is where /proc is."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root, self._start = root, time.monotonic()
        self._times, self._waited = _cpu_times(root), _waited(root)

    def seen(self) -> HostLoad:
        seconds, waited = time.monotonic() - self._start, _waited(self._root)
        spent = [after - before for before, after in zip(self._times, _cpu_times(self._root), strict=False)]
        whole = sum(spent[: _STEAL + 1])
        return HostLoad(
            load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            steal=spent[_STEAL] / whole if len(spent) > _STEAL and whole > 0 else None,
            pressure=None if waited is None or self._waited is None else (waited - self._waited) / seconds,
        )


def _cpu_times(root: Path) -> list[int]:
    first = read(root, "proc/stat").partition("\n")[0].split()[1:]
    return [int(part) for part in first if part.isdigit()]


def _waited(root: Path) -> float | None:
    """Return the seconds, ever, in which something could have run and had no CPU."""
    total = read(root, "proc/pressure/cpu").partition("\n")[0].rpartition("total=")[2]
    return int(total) / 1e6 if total.isdigit() else None
