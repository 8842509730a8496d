"""Measures one fastrnns variant: forward and backward passes in turn, each timed on its own."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import profile, record_function

from torchperf_ci.suites.fastrnns.catalog import UNUSABLE_SETTINGS, Executor, Fuser, Sizes
from torchperf_ci.suites.fastrnns.suite import SettingsGone, apply_settings, build, heads
from torchperf_ci.worker.accelerators import choose_device
from torchperf_ci.worker.load import seed_all, to_device
from torchperf_ci.worker.protocol import CaseError
from torchperf_ci.worker.timing import Reader


def measure(
    *,
    variant: str,
    sizes: Mapping[str, int],
    warmup: int,
    nloops: int,
    device: str,
    seed: int,
    fuser: str,
    executor: str | None,
    pointwise: Mapping[str, int],
    trace: str | None,
) -> dict[str, list[float]]:
    """Measure the milliseconds of every forward and every backward pass after `warmup` passes.

    Device time where there is one. trace: where a Chrome trace of one more pass goes. Raises `CaseError` with
    `UNUSABLE_SETTINGS` when this torch lacks a switch that was asked for.
    """
    try:
        apply_settings(Fuser(fuser), Executor(executor) if executor else None, pointwise)
    except SettingsGone as error:
        raise CaseError(UNUSABLE_SETTINGS, str(error)) from error
    seed_all(seed)
    target = choose_device(torch.device(device))
    module, args = build(variant, Sizes(**sizes))
    module, args = module.to(target), to_device(args, target)
    reader = Reader(target)

    def milliseconds(action: Callable[[], object]) -> float:
        host, on_device = reader(action, 1)
        return (host if on_device is None else on_device) / 1e6

    def take_pass() -> tuple[float, float]:
        """Run forward and backward; gradients add up in place between passes."""
        outputs: list[Any] = []
        with record_function("## forward ##"):
            forward = milliseconds(lambda: outputs.append(module(*args)))
        starts = heads(outputs[0])
        gradients = [torch.randn_like(start) for start in starts]
        with record_function("## backward ##"):
            backward = milliseconds(lambda: torch.autograd.backward(starts, gradients))
        for name, parameter in module.named_parameters():
            if parameter.grad is None:
                raise RuntimeError(f"the backward pass left no gradient in {name}")
            parameter.grad.zero_()
        return forward, backward

    for _ in range(warmup):
        take_pass()
    with _no_garbage_collection():
        times = [take_pass() for _ in range(nloops)]
    if trace is not None:
        with profile() as profiler:  # of everything this torch can look into
            take_pass()
        profiler.export_chrome_trace(trace)
    return {"forward": [forward for forward, _ in times], "backward": [backward for _, backward in times]}


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
