"""One small model and its near relatives, each of which counts something else. A suite file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import _get_current_dispatch_mode


class Model(nn.Module):
    """Two linear layers and `after(output)`."""

    def __init__(self, after):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 8)
        self.after = after

    def forward(self, x):
        return self.after(self.second(torch.relu(self.first(x))))


@torch._dynamo.disable
def refuse_modes(output):
    if _get_current_dispatch_mode() is not None:
        raise RuntimeError("no modes here")
    return output


@torch._dynamo.disable
def in_threads(output):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.relu, output).result()


def attend(output):
    heads = output.view(1, 2, 2, 8)
    return functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True)


def branch(output):
    return torch.cond(output.sum() > 0, torch.sin, torch.cos, (output,))


def model(after):
    return lambda batch_size: (Model(after), (torch.randn(batch_size or 4, 8),))


MODELS = {
    "usual": model(lambda output: output * 1.5),
    "other_constant": model(lambda output: output * 2.5),
    "one_more_operator": model(lambda output: output * 1.5 + 1.0),
    "one_more_kernel": model(lambda output: torch.relu((output * 1.5) @ output.T)),
    "turned_round": model(lambda output: 1.5 - output * 1.5),
    "refuses_modes": model(refuse_modes),
    "in_threads": model(in_threads),
    "attention": model(attend),
    "branches": model(branch),
}
