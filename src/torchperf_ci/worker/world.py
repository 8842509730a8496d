"""The processes that run a case together: this one's rank, and how it waits for and agrees with the others."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.utils import _pytree as pytree

from torchperf_ci.worker.memory import device_module
from torchperf_ci.worker.protocol import PROGRESS_VARIABLE, CaseError

COUNT = struct.Struct("=q")
"""One rank's count in that file, at `rank * COUNT.size`."""

_FOREVER = timedelta(days=1)  # the controller has the time limit, and can say which rank is late


class World:
    """The ranks of a case. One that has a single process waits for nobody, and agrees with itself."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        """environ: the variables that torchrun gives a rank; None for a process that is alone."""
        environ = environ or {}
        self.rank, self.size = int(environ.get("RANK", "0")), int(environ.get("WORLD_SIZE", "1"))
        self._group: Any = None
        self._barriers = 0
        self._progress: mmap.mmap | None = None
        if PROGRESS_VARIABLE in environ:
            with open(environ[PROGRESS_VARIABLE], "r+b") as stream:  # noqa: PTH123 - as mmap wants it
                self._progress = mmap.mmap(stream.fileno(), self.size * COUNT.size)

    @property
    def is_shared(self) -> bool:
        return self.size > 1

    def join(self, device: str) -> str:
        """Initialise the process group for a device type, and return this rank's own device: rank r has number r.

        The ranks wait for each other in a group of their own, on the CPU, that the model does not use.
        """
        if not self.is_shared:
            return device
        kind = device.partition(":")[0]
        backend = dist.Backend.default_device_backend_map.get(kind)
        if backend is None:
            raise CaseError("model_fail_to_load", f"torch.distributed has no backend for the device type {kind}")
        module = device_module(torch.device(kind))
        if hasattr(module, "set_device"):
            module.set_device(self.rank)  # before the group is made: nccl takes the current device
        dist.init_process_group("gloo" if kind == "cpu" else f"cpu:gloo,{kind}:{backend}", timeout=_FOREVER)
        self._group = dist.new_group(backend="gloo", timeout=_FOREVER)
        return kind if kind == "cpu" else f"{kind}:{self.rank}"

    def wait_for_all(self) -> None:
        """Return when every rank has called this."""
        if not self.is_shared:
            return
        self._barriers += 1
        if self._progress is not None:
            COUNT.pack_into(self._progress, self.rank * COUNT.size, self._barriers)
        dist.barrier(group=self._group)

    def is_any(self, flag: bool) -> bool:  # noqa: FBT001 - it is the question
        """Say whether `flag` is true on any rank: what decides which collectives follow must be the same on all."""
        if not self.is_shared:
            return flag
        flags = torch.tensor([int(flag)])
        dist.all_reduce(flags, op=dist.ReduceOp.MAX, group=self._group)
        return bool(flags.item())

    def gather(self, item: Any) -> list[Any]:  # noqa: ANN401 - anything that can be pickled
        """Return what every rank gives, in their order."""
        if not self.is_shared:
            return [item]
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item, group=self._group)
        return items

    def share_of(self, cpus: Sequence[int]) -> tuple[int, ...]:
        """Return this rank's CPUs: an equal share of `cpus`; all of them where there are fewer than ranks."""
        share = len(cpus) // self.size
        return tuple(cpus[self.rank * share :][:share] if share else cpus)

    def explain(self, reason: str) -> str:
        """Add to an error message what to do where a suite initialises the process group a second time."""
        if self.is_shared and "process group twice" in reason:
            return f"torchperf-ci has initialised the process group before: leave that out of the suite ({reason})"
        return reason


def wait_for_results(results: Any) -> Any:  # noqa: ANN401 - any nest of containers
    """Return the nest with this rank's own parts in the place of sharded tensors, when all of them are there.

    A functional collective returns at once: what it gives waits for the others only when it is used.
    """
    from torch.distributed._functional_collectives import AsyncCollectiveTensor

    def finished(tensor: torch.Tensor) -> torch.Tensor:
        if hasattr(tensor, "to_local"):
            tensor = tensor.to_local()
        return tensor.wait() if isinstance(tensor, AsyncCollectiveTensor) else tensor

    return pytree.tree_map_only(torch.Tensor, finished, results)


def torch_backend() -> str:
    """Return the backend of the process group, as torch names it; empty without one."""
    return str(dist.get_backend()) if dist.is_initialized() else ""
