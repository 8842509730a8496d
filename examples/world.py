"""Models that run in two processes each: `torchperf-ci run --suites examples/world.py --training`.

The process group has been initialised when a function is called. `device` is this process's own: cpu, cuda:0, cuda:1.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import all_reduce
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.parallel import DistributedDataParallel

WORLD = 2

Made = tuple[torch.nn.Module, tuple[torch.Tensor]]


class Block(torch.nn.Module):
    """Two layers; a part of the width, added up over all processes, where there are several parts."""

    def __init__(self, parts: int = 1) -> None:
        super().__init__()
        self.parts = parts
        self.up, self.down = torch.nn.Linear(64, 256 // parts), torch.nn.Linear(256 // parts, 64, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.down(torch.relu(self.up(x)))
        return y if self.parts == 1 else all_reduce(y, "sum", dist.group.WORLD)


def data_parallel(batch_size: int | None, *, device: str) -> Made:
    """The same model in every process, gradients averaged."""
    return DistributedDataParallel(Block().to(device)), (torch.randn(batch_size or 32, 64),)


def split_by_hand(batch_size: int | None) -> Made:
    """Tensor parallel, with a collective of our own."""
    return Block(parts=dist.get_world_size()), (torch.randn(batch_size or 32, 64),)


def split_by_torch(batch_size: int | None, *, device: str) -> Made:
    """Tensor parallel, as torch does it."""
    mesh = init_device_mesh(torch.device(device).type, (dist.get_world_size(),))
    plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
    return parallelize_module(Block().to(device), mesh, plan), (torch.randn(batch_size or 32, 64),)


MODELS = {"data_parallel": data_parallel, "split_by_hand": split_by_hand, "split_by_torch": split_by_torch}
