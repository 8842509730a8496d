"""Peak memory of one iteration: tensors on a CPU, the allocator's figure on an accelerator; and the process's size."""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import torch

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_SHARED_POOL = (0, 0)
_MEASURED = "torchperf-ci: measured iteration"


def device_module(device: torch.device) -> Any:  # noqa: ANN401 - torch.cuda, torch.xpu, …
    """Return `torch.cuda` and its like; None for the CPU."""
    return None if device.type == "cpu" else getattr(torch, device.type, None)


def free_memory(device: torch.device) -> None:
    """Collect garbage and give back the memory that the allocator keeps."""
    gc.collect()
    module = device_module(device)
    if hasattr(module, "empty_cache"):
        with contextlib.suppress(RuntimeError):  # a broken device; the error that broke it must not be replaced
            module.empty_cache()


def graph_pools(device: torch.device) -> dict[tuple[int, ...], tuple[int, int]]:
    """Return the memory pools of CUDA graphs on a device: the bytes each holds and those in use, by the pool's id."""
    module = device_module(device)
    if not hasattr(module, "memory_snapshot"):
        return {}
    index: int | None = device.index
    number = module.current_device() if index is None else index
    pools: dict[tuple[int, ...], tuple[int, int]] = {}
    for segment in module.memory_snapshot():
        pool = tuple(segment.get("segment_pool_id", _SHARED_POOL))
        if pool != _SHARED_POOL and segment["device"] == number:
            held, used = pools.get(pool, (0, 0))
            pools[pool] = (held + segment["total_size"], used + segment["allocated_size"])
    return pools


def peak_while(
    device: torch.device,
    action: Callable[[], object],
    prepare: Callable[[], object] = lambda: None,
    *,
    other_pools: AbstractSet[tuple[int, ...]] = frozenset(),
) -> int | None:
    """Run `action` twice, `prepare` before each; the peak in bytes of the second, or None where it cannot be measured.

    On an accelerator it is the allocator's peak, with all that lies on the device; the first run is not in it, with
    whatever compiling and autotuning took. A CUDA graph allocates nothing when it is replayed, but holds its pool all
    the time: that counts in full, or eager would be charged for the activations that a graph has as well. other_pools:
    those of the graphs of other arms, which do not count at all. On a CPU it is what tensors needed
    beyond those that were there before: every allocation and release as torch's profiler reports it, so that it is the
    same in each process. What libraries allocate for themselves is not in it.
    """
    if device.type == "cpu":
        return _tensor_bytes(action, prepare)
    module = device_module(device)
    prepare()
    action()
    gc.collect()
    prepare()
    can_be_reset = hasattr(module, "reset_peak_memory_stats")
    if can_be_reset:
        module.reset_peak_memory_stats(device)
    action()
    if not can_be_reset:
        return None
    pools = graph_pools(device)
    used_by_others = sum(used for pool, (_, used) in pools.items() if pool in other_pools)
    peak = int(module.max_memory_allocated(device)) - used_by_others
    own = [held for pool, (held, _) in pools.items() if pool not in other_pools]
    if not own:
        return peak
    # Outside of the pools the iteration may have needed more than there is now; when, nobody says. So this is the least
    # that it needed.
    outside = int(module.memory_allocated(device)) - sum(used for _, used in pools.values())
    return max(peak, outside + sum(own))


def process_peak_while(action: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> int | None:
    """Run `prepare`, then `action`; the largest resident set of the process during `action` in bytes, None where the
    system does not tell.

    Freed memory is given back first, or the mark would begin at an earlier peak. It is reset by writing 5 to
    /proc/self/clear_refs and read as VmHWM (proc_pid_clear_refs(5)).
    """
    prepare()
    can_be_reset = forget_process_peak()
    action()
    return process_peak() if can_be_reset else None


def forget_process_peak() -> bool:
    """Let the largest resident set begin at what the process has now; say whether the system can do that."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # glibc alone has it
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def process_peak() -> int | None:
    """Return the largest resident set of the process in bytes, None where the system does not tell."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def make_profiler(device: torch.device, **settings: Any) -> Any:  # noqa: ANN401 - torch leaves it untyped
    """Make torch's profiler of a CPU and, where there is one for it, of the device."""
    from torch.profiler import ProfilerActivity, profile, supported_activities

    activities = {ProfilerActivity.CPU, getattr(ProfilerActivity, device.type.upper(), ProfilerActivity.CPU)}
    return profile(activities=activities & set(supported_activities()), **settings)  # type: ignore[no-untyped-call]


def runs_on_device(event: Any, device: torch.device) -> bool:  # noqa: ANN401 - an event of torch's profiler
    """Say whether an event is something that a device did, which is no CPU: a kernel or a copy.

    A range of the host's, as the device saw it, is none.
    """
    kind = device.type.upper()
    is_there = event.device_type().name == kind and kind != "CPU"
    return is_there and event.name() != "[memory]" and not event.is_user_annotation()


def profile_iteration(
    device: torch.device, action: Callable[[], object], prepare: Callable[[], object], *, all_threads: bool = False
) -> list[Any] | None:
    """Run `action` twice under torch's profiler, `prepare` before each; the events of the second, None without any.

    They are Kineto's, with those of the device where there is a profiler for it. The first call lets the profiler know
    the blocks of memory that the second one gives back. all_threads: the events of all threads, but none of memory,
    where this torch can see them.
    """
    from torch.profiler import record_function

    module = device_module(device)
    synchronize = getattr(module, "synchronize", lambda: None)
    settings = {"experimental_config": _see_all_threads()} if all_threads else {"profile_memory": True}
    with make_profiler(device, **settings) as profiled:
        prepare()
        action()
        gc.collect()
        prepare()
        synchronize()
        with record_function(_MEASURED):
            action()
            synchronize()
    results = getattr(profiled.profiler, "kineto_results", None)
    if results is None:
        return None
    events = results.events()
    start = next(event.start_ns() for event in events if event.name() == _MEASURED)
    return [event for event in events if event.start_ns() >= start and event.name() != _MEASURED]


def _see_all_threads() -> Any:  # noqa: ANN401 - torch's settings of its profiler
    try:
        return torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    except TypeError:  # a torch that sees one alone
        return None


def _tensor_bytes(action: Callable[[], object], prepare: Callable[[], object]) -> int | None:
    events = profile_iteration(torch.device("cpu"), action, prepare)
    if events is None:
        return None
    changes = [(event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"]
    held = peak = 0
    for _, change in sorted(changes, key=lambda one: one[0]):
        held += change
        peak = max(peak, held)
    return peak
