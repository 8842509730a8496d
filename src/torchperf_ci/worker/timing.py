"""Time iterations: `perf_counter_ns` around synchronized calls, device events beside it, a probe after each; and rates.

A call whose weights and inputs still lie in the L2 cache from the call before is quicker than the same call in a
program that has done something else meanwhile; so the cache can be emptied before each reading.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any, cast

import torch

from torchperf_ci.suites.program import suggest
from torchperf_ci.worker.accelerators import choose_device
from torchperf_ci.worker.memory import device_module
from torchperf_ci.worker.protocol import CaseError, describe

Arm = Callable[[], object]
"""One iteration. If it has a method `prepare(calls)`, that is called before the clock starts; `finish()` after a
reading; and then `values(seconds)`: numbers by name that belong to the reading."""

_PROBE_STEPS = 8000
_GARBAGE = 500
"""New objects after which garbage is collected between two sweeps, where no clock runs."""


def pin_threads(cpus: Collection[int]) -> None:
    """Keep every thread of this process on these CPUs (Linux). Processes it has started, e.g. a compiler's, and their
    threads stay where they are."""
    for task in Path("/proc/self/task").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            os.sched_setaffinity(int(task.name), cpus)


def probe() -> int:
    """Time a fixed pure-Python loop (about 0.15 ms), in nanoseconds.

    It sees the machine's slow state, which load averages and steal time do not show.
    """
    start = perf_counter_ns()
    total = 0
    for step in range(_PROBE_STEPS):
        total += step
    return perf_counter_ns() - start


def synchronizer(device: torch.device) -> Callable[[], None]:
    """Return a function that waits until the device has done everything; it does nothing for a CPU."""
    module = device_module(device)
    if module is None or not hasattr(module, "synchronize"):
        return _nothing
    if device.type == "mps":
        return cast("Callable[[], None]", module.synchronize)
    return lambda: module.synchronize(device)


def _nothing() -> None:
    """Do nothing: a CPU is done when the call returns."""


@dataclass(slots=True)
class Sweep:
    """Times in nanoseconds per iteration: `host[arm]` and `device[arm]` in the order asked for, `probe` per sweep.

    values: what an arm makes of each of its readings besides the time, by name.
    """

    host: dict[str, list[int]] = field(default_factory=dict)
    device: dict[str, list[int]] = field(default_factory=dict)
    probe: list[int] = field(default_factory=list)
    values: dict[str, list[dict[str, float]]] = field(default_factory=dict)


def sample(
    arms: Mapping[str, Arm],
    order: Sequence[Sequence[str]],
    *,
    device: torch.device,
    inner: Mapping[str, int],
    discard: int = 0,
    wait_for_all: Callable[[], None] | None = None,
    before: Callable[[], object] | None = None,
    probes: bool = True,
) -> Sweep:
    """Run the arms as `order` says: a sequence of sweeps, each naming arms; one reading per name, one probe per sweep.

    inner: repeats of an arm inside one reading (the reading is divided by it), for calls under 50 µs.
    discard: untimed iterations before the first reading, for a device that another process has just used.
    wait_for_all: returns when all processes of the case have called it; every reading begins with it.
    before: what runs on the device before each reading, and is not timed.
    probes: whether there is a probe after each sweep.
    """
    take = Reader(device, wait_for_all=wait_for_all, before=before)
    sweep = Sweep()
    for names in order:
        for name in names:
            arm, repeats = arms[name], inner.get(name, 1)
            while discard > 0:
                prepare_arm(arm, 1)
                arm()
                finish_arm(arm)
                discard -= 1
            host, on_device = take(arm, repeats)
            finish_arm(arm)
            sweep.host.setdefault(name, []).append(host)
            if on_device is not None:
                sweep.device.setdefault(name, []).append(on_device)
            if make_values := getattr(arm, "values", None):
                nanoseconds = host if on_device is None else on_device
                sweep.values.setdefault(name, []).append(make_values(nanoseconds / 1e9))
        if probes:
            sweep.probe.append(probe())
        if gc.get_count()[0] > _GARBAGE:  # the collector is off, and a model may leave its activations in a cycle
            gc.collect()
    return sweep


def prepare_arm(arm: Arm, calls: int) -> None:
    """Let an arm that needs inputs of its own in each call make those of so many calls, while no clock runs."""
    if prepare := getattr(arm, "prepare", None):
        prepare(calls)


def finish_arm(arm: Arm) -> None:
    """Let an arm tear down what it has set up, while no clock runs."""
    if finish := getattr(arm, "finish", None):
        finish()


class Reader:
    """Takes one reading: host nanoseconds and, where the device has timed events, device nanoseconds.

    The events stand on the device's current stream, around the whole call. That is also where a CUDA graph is replayed
    (by inductor, `cudagraphs` and `torch.cuda.make_graphed_callables`), so they hold the time of all graphs of a call.
    wait_for_all, before: as `sample` has them.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        wait_for_all: Callable[[], object] | None = None,
        before: Callable[[], object] | None = None,
    ) -> None:
        self._device, self._before, self._wait_for_all = device, before or _nothing, wait_for_all or _nothing
        choose_device(device)
        self._synchronize = synchronizer(device)
        self._events = None
        if device.type in {"cuda", "xpu"}:
            self._module = device_module(device)
            self._events = tuple(self._module.Event(enable_timing=True) for _ in range(2))

    def __call__(self, arm: Arm, repeats: int) -> tuple[int, int | None]:
        prepare_arm(arm, repeats)
        choose_device(self._device)  # a model may have chosen another one
        self._before()
        self._synchronize()
        self._wait_for_all()
        if self._events is None:
            return self._host(arm, repeats), None
        first, last = self._events
        stream = self._module.current_stream(self._device)
        first.record(stream)
        host = self._host(arm, repeats, after=lambda: last.record(stream))
        return host, round(first.elapsed_time(last) * 1e6 / repeats)

    def _host(self, arm: Arm, repeats: int, after: Callable[[], object] = _nothing) -> int:
        synchronize = self._synchronize
        start = perf_counter_ns()
        if repeats == 1:
            arm()
        else:
            for _ in range(repeats):
                arm()
        after()
        synchronize()
        return (perf_counter_ns() - start) // repeats


LEAST_BYTES = 2**28
"""Caches behind the L2 cache are as large as this (AMD's Infinity Cache, which torch does not tell)."""

_READINGS = 21
_SLOWER = 1.1
"""A read from memory that is not slower than this, against one from the cache, did not come from memory."""


class CacheEmptier:
    """Writes a buffer larger than the L2 cache, so that nothing else is in it. Raises `CaseError` without one.

    size: bytes of the cache. The buffer has twice as many, and at least `LEAST_BYTES`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.size = _cache_size(device)
        if not self.size:
            raise CaseError(
                "fail_to_run",
                f"torch does not say how large the L2 cache of {device} is, so it cannot be emptied; "
                "leave out --cold-l2",
            )
        self._buffer = torch.empty(max(2 * self.size, LEAST_BYTES), dtype=torch.uint8, device=device)

    def __call__(self) -> None:
        """Start to write it; the device is not waited for."""
        self._buffer.zero_()

    def remarks(self) -> list[str]:
        """Read half a cache of data with and without emptying the cache before; a sentence where that is as quick."""
        data = torch.ones(self.size // 16, dtype=torch.int64, device=self._device)
        warm, cold = (self._nanoseconds(data, Reader(self._device, before=before)) for before in (None, self))
        if cold > _SLOWER * warm:
            return []
        times = f"{cold / 1e3:.3g} µs after emptying it, {warm / 1e3:.3g} µs without"
        return [f"the L2 cache may not have been empty: reading {data.nbytes:,} bytes took {times}"]

    def _nanoseconds(self, data: torch.Tensor, take: Reader) -> float:
        readings = [take(data.max, 1) for _ in range(_READINGS)]
        return median(host if on_device is None else on_device for host, on_device in readings)


def _cache_size(device: torch.device) -> int:
    """Return the bytes of the cache before the device's memory, by CUDA's and by XPU's name; 0 where unknown."""
    module = device_module(device)
    if not hasattr(module, "get_device_properties"):
        return 0
    properties = module.get_device_properties(device)
    return int(getattr(properties, "L2_cache_size", 0) or getattr(properties, "last_level_cache_size", 0))


class Metered:
    """An iteration that keeps its last result, of which the suite's metrics are made when no clock runs."""

    def __init__(
        self,
        iteration: Callable[[], Any],
        metrics: Callable[[Any, float], Any] | str,
        declared: Collection[str],
    ) -> None:
        self._iteration, self._metrics, self._declared = iteration, metrics, declared
        self._result: Any = None

    def prepare(self, calls: int) -> None:
        """Forget the last result, and get ready for so many calls."""
        self._result = None
        prepare_arm(self._iteration, calls)

    def finish(self) -> None:
        finish_arm(self._iteration)

    def __call__(self) -> None:
        self._result = self._iteration()

    def values(self, seconds: float) -> dict[str, float]:
        """Return the metrics of the last call, of which each took `seconds`. Raises `CaseError` for what is none."""
        result, self._result = self._result, None
        if isinstance(self._metrics, str):
            made: Any = {self._metrics: result}
        else:
            try:
                made = self._metrics(result, seconds)
            except Exception as error:
                raise CaseError("fail_to_run", f"the suite's metrics failed: {describe(error)}") from error
        if not isinstance(made, Mapping):
            kind = type(made).__name__
            raise CaseError("fail_to_run", f"the suite's metrics returned a {kind}; return numbers by name")
        return {name: self._number(name, value) for name, value in made.items()}

    def _number(self, name: Any, value: Any) -> float:  # noqa: ANN401 - whatever a suite returns
        if name not in self._declared:
            hint = suggest(name, self._declared) or f" (it has {', '.join(self._declared)})"
            raise CaseError("fail_to_run", f"the metric {name!r:.60} is not in METRICS{hint}")
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        try:
            number = float(value)
        except (TypeError, ValueError):
            kind = type(value).__name__
            raise CaseError("fail_to_run", f"the metric {name!r} is a {kind}, not a number: {value!r:.60}") from None
        if not math.isfinite(number):
            raise CaseError("fail_to_run", f"the metric {name!r} is {number}, not a number that can be compared")
        return number


def find_tf32(device: torch.device) -> dict[str, bool]:
    """Say whether products of float32 on the device run as TF32: of matrices (`tf32`), and in convolutions
    (`tf32_convolutions`), where torch allows it by default. CUDA devices before Ampere have none."""
    if device.type != "cuda" or torch.version.hip or torch.cuda.get_device_capability(device) < (8, 0):
        return {"tf32": False, "tf32_convolutions": False}
    allowed = {}
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    for name, owner, part in (("tf32", matmul, matmul), ("tf32_convolutions", cudnn, getattr(cudnn, "conv", None))):
        try:
            allowed[name] = bool(owner.allow_tf32)
        except RuntimeError:  # torch refuses to read the old switch once the new one was written
            allowed[name] = part is not None and part.fp32_precision == "tf32"
    return allowed
