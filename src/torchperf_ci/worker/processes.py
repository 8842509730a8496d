"""Ending processes with everything below them. Standard library only; the controller's supervisor uses it too."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Collection
from collections.abc import Set as AbstractSet
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on processes below this one whose parent ends become its children (Linux; elsewhere they go to init)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """The kernel kills this process when its parent ends (Linux)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def pin_threads(cpus: Collection[int]) -> None:
    """Keep every thread of this process on these CPUs (Linux). Processes it has started, say a compiler's, and their
    threads stay where they are."""
    for task in Path("/proc/self/task").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            os.sched_setaffinity(int(task.name), cpus)


def kill_group(pid: int) -> None:
    """Kill the process group that `pid` leads; fine when it has gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def kill_orphans(*, keep: AbstractSet[int]) -> None:
    """Kill every child but `keep`: what ended children left, which `adopt_orphans` makes ours, layer by layer."""
    while orphans := _children() - keep:
        for pid in orphans:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> set[int]:
    """The processes whose parent is this one (Linux; elsewhere orphans go to init, and only the group is killed)."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.add(int(stat.parent.name))
    return found


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
