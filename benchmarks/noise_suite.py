"""The model of the noise card: a hundred equal blocks, and as many more as EXTRA asks for, in per cent of its work."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

BLOCKS = 100
ROWS = 64


class Blocks(nn.Module):
    """The same small layer, again and again, so that every block is one per cent of the work.

    A part of a block is a block for so many of the rows, whose result is not used.
    """

    def __init__(self, count: float) -> None:
        super().__init__()
        self.count = int(count)
        self.rows = round(ROWS * (count - self.count))
        self.layer = nn.Linear(96, 96)

    def forward(self, x: Tensor) -> Tensor:
        """`count` layers with a ReLU, about 30 µs each."""
        for _ in range(self.count):
            x = torch.relu(self.layer(x))
        if self.rows:
            torch.relu(self.layer(x[: self.rows]))
        return x


def blocks(extra: float) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model with `extra` more blocks, and its input."""
    return Blocks(BLOCKS + extra), (torch.randn(ROWS, 96),)


MODELS = {"blocks": lambda _batch_size: blocks(float(os.environ.get("EXTRA", "0")))}
