"""The model of the noise card: a hundred equal blocks, and as many more as EXTRA asks for, in per cent of its work."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

BLOCKS = 100


class Blocks(nn.Module):
    """The same small layer, again and again, so that every block is one per cent of the work.

    A tenth of a block is one more ReLU.
    """

    def __init__(self, count: float) -> None:
        super().__init__()
        self.count = int(count)
        self.tenths = round(10 * (count - self.count))
        self.layer = nn.Linear(96, 96)

    def forward(self, x: Tensor) -> Tensor:
        """`count` layers with a ReLU, about 30 µs each."""
        for _ in range(self.count):
            x = torch.relu(self.layer(x))
        for _ in range(self.tenths):
            x = torch.relu(x)
        return x


def blocks(extra: float) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model with `extra` more blocks, and its input."""
    return Blocks(BLOCKS + extra), (torch.randn(64, 96),)


MODELS = {"blocks": lambda _batch_size: blocks(float(os.environ.get("EXTRA", "0")))}
