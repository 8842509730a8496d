"""One small model and its near relatives, each of which counts something else. A suite file."""

from __future__ import annotations

import torch
from torch import nn
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


def model(after):
    return lambda batch_size: (Model(after), (torch.randn(batch_size or 4, 8),))


MODELS = {
    "usual": model(lambda output: output * 1.5),
    "other_constant": model(lambda output: output * 2.5),
    "one_more_operator": model(lambda output: output * 1.5 + 1.0),
    "one_more_kernel": model(lambda output: torch.relu((output * 1.5) @ output.T)),
    "turned_round": model(lambda output: 1.5 - output * 1.5),
    "refuses_modes": model(refuse_modes),
}
