"""The models of the noise card: a hundred equal blocks or a short call, and as much more as EXTRA asks for.

EXTRA: in per cent of the work. CALL: about how many microseconds the short call takes; 0 for the blocks.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

BLOCKS = 100
TURNS_PER_MICROSECOND = 40
"""Of an empty loop in Python."""


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


class ShortCall(nn.Module):
    """An empty loop, which can be made longer by a few per cent where a single operation of torch cannot."""

    def __init__(self, turns: int) -> None:
        super().__init__()
        self.turns = turns

    def forward(self, x: Tensor) -> Tensor:
        """`turns` turns."""
        for _ in range(self.turns):
            pass
        return x


def make_model(extra: float, call: float) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The model with `extra` per cent more work, and its input; call: microseconds, or 0 for the blocks."""
    if call:
        return ShortCall(round(TURNS_PER_MICROSECOND * call * (1 + extra / 100))), (torch.ones(1),)
    return Blocks(BLOCKS + extra), (torch.randn(64, 96),)


MODELS = {
    "noise": lambda _batch_size: make_model(float(os.environ.get("EXTRA", "0")), float(os.environ.get("CALL", "0")))
}
