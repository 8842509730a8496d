"""Count instructions: by the processor's own counter (PMU), or under valgrind's callgrind.

A virtual machine may have a counter that says nothing, or nonsense, without an error: it is tried on a loop first.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

CALLGRIND_VARIABLE = "TORCHPERF_CALLGRIND"
"""Where callgrind writes its files: a path to which it adds the process and a number."""

_SYSCALLS = {"x86_64": 298, "aarch64": 241}
"""The number of perf_event_open."""

_ATTRIBUTES = struct.Struct("=IIQQQQQ72x")
_HARDWARE, _INSTRUCTIONS = 0, 1
_USER_ONLY = 1 << 5 | 1 << 6
"""Without the kernel's instructions and those of a hypervisor (perf_event_open(2))."""

_STEPS = 20_000
_LEAST_PER_STEP = 5
_MOST = 2**62


class ProcessorCounter:
    """The processor's counter of instructions of this thread, in user mode. Raises `OSError` where there is none."""

    def __init__(self) -> None:
        number = _SYSCALLS.get(platform.machine()) if platform.system() == "Linux" else None
        if number is None:
            raise OSError("no counter of instructions is known for this system")
        call = ctypes.CDLL(None, use_errno=True).syscall
        attributes = _ATTRIBUTES.pack(_HARDWARE, _ATTRIBUTES.size, _INSTRUCTIONS, 0, 0, 0, _USER_ONLY)
        self._descriptor = call(number, ctypes.c_char_p(attributes), 0, -1, -1, 0)
        if self._descriptor < 0:
            raise OSError(f"the processor's counter cannot be opened: {os.strerror(ctypes.get_errno())}")
        short, long = (self.count(partial(_loop, steps)) for steps in (_STEPS, 2 * _STEPS))
        if not is_plausible(short, long):
            os.close(self._descriptor)
            raise OSError(f"the processor's counter cannot be trusted: {short} and {long} for twice as long a loop")

    def __enter__(self) -> ProcessorCounter:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._descriptor)

    def count(self, action: Callable[[], object]) -> int:
        start = os.read(self._descriptor, 8)
        action()
        end = os.read(self._descriptor, 8)
        return int.from_bytes(end, "little") - int.from_bytes(start, "little")


def is_plausible(short: int, long: int) -> bool:
    """Say whether these can be the instructions of the loop, and of the loop run twice as long. A counter that is not
    there gives 0, or 2**64 - 1."""
    return _LEAST_PER_STEP * _STEPS < short < 0.75 * long < _MOST


def _loop(steps: int) -> int:
    total = 0
    for step in range(steps):
        total += step
    return total


def why_no_processor_counter() -> str:
    """Say why the processor's counter does not work; blank where it does."""
    try:
        with ProcessorCounter():
            return ""
    except OSError as error:
        return str(error)


_REQUEST = bytes.fromhex("4889f84889f248c1c70348c1c70d48c1c73d48c1c7334887db4889d0c3")
"""The instructions that valgrind takes for a request (valgrind.h, x86-64): rotate a register by 128 bits in all, then
exchange another with itself. A processor does nothing of note. First and last: C's arguments in, the answer out."""

_RUNNING_ON_VALGRIND = 0x1001
_CALLGRIND = ord("C") << 24 | ord("T") << 16
_DUMP, _ZERO, _START, _STOP = (_CALLGRIND + number for number in (0, 1, 4, 5))


class CallgrindCounter:
    """Counts the instructions of all threads of this process, which runs under callgrind. Raises `OSError` elsewhere.

    What is counted runs inside of `with`, instrumented and fifty times slower than usual, the rest five times.
    """

    def __init__(self) -> None:
        self._prefix = os.environ.get(CALLGRIND_VARIABLE, "")
        if platform.machine() != "x86_64" or not self._prefix:
            raise OSError("this process does not run under callgrind")
        # Kept: the code lies in it.
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_REQUEST)
        signature = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
        self._call = signature(ctypes.addressof(ctypes.c_char.from_buffer(self._page)))
        if not self._request(_RUNNING_ON_VALGRIND):
            raise OSError("this process does not run under callgrind")

    def __enter__(self) -> CallgrindCounter:
        self._request(_START)
        return self

    def __exit__(self, *exc: object) -> None:
        self._request(_STOP)

    def count(self, action: Callable[[], object]) -> int:
        """Count the instructions of an action. Raises `OSError` when callgrind wrote nothing."""
        self._request(_ZERO)
        action()
        self._request(_DUMP)
        prefix = Path(f"{self._prefix}.{os.getpid()}")
        dumps = sorted(prefix.parent.glob(f"{prefix.name}.*"), key=lambda path: int(path.suffix[1:]))
        if not dumps:
            raise OSError("callgrind wrote no counts")
        text = dumps[-1].read_text()
        for dump in dumps:
            with contextlib.suppress(OSError):
                dump.unlink()
        totals = [line for line in text.splitlines() if line.startswith("totals:")]
        if not totals:
            raise OSError("callgrind wrote no total")
        return int(totals[-1].split()[1])

    def _request(self, number: int) -> int:
        arguments = (ctypes.c_uint64 * 6)(number)
        return int(self._call(ctypes.addressof(arguments), 0))


def count_instructions(
    counter: ProcessorCounter | CallgrindCounter, iterate: Callable[[], object], prepare: Callable[[], object]
) -> int:
    """Count the instructions of an iteration: the least of ten, after one that does not count, as PyTorch's
    benchmarks/dynamo/pr_time_benchmarks does."""
    counts = []
    for _ in range(_ITERATIONS):
        prepare()
        counts.append(counter.count(iterate))
    return min(counts[1:])


_ITERATIONS = 11
