"""The models of the noise card: a hundred equal blocks or a short call; on head with as much more as their name says.

SIDE: base or head. All series are models of one suite, so that the same processes serve them all.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor, nn

BLOCKS = 100
EXTRAS = (0, 2.2, 3.4, 5)
"""Per cent of more work in two processes."""
SHORT_CALLS = (5, 20, 50, 200)
"""Microseconds."""
SHORT_EXTRAS = (0, 5)
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


def name_model(extra: float, call: float) -> str:
    """The name of the model whose head has `extra` per cent more work."""
    return f"call_{call:g}_extra_{extra:g}" if call else f"blocks_extra_{extra:g}"


def _declare(extra: float, call: float) -> Callable[[int | None], tuple[nn.Module, tuple[Tensor, ...]]]:
    return lambda _batch_size: make_model(extra if os.environ.get("SIDE") == "head" else 0, call)


MODELS = {
    **{name_model(extra, 0): _declare(extra, 0) for extra in EXTRAS},
    **{name_model(extra, call): _declare(extra, call) for extra in SHORT_EXTRAS for call in SHORT_CALLS},
}
