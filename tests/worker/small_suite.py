"""Models that each show one thing about a worker. A suite file."""

from __future__ import annotations

import sys

import torch
from torch import nn

from torchperf_ci.suites.registry import Skip

WIDTH = 8
QUICK = ("^linear$",)
SKIPS = (Skip(model="own_loss", reason="it has no sense here", mode="inference"),)


class Linear(nn.Module):
    """A linear layer and `after(output)`."""

    def __init__(self, after=lambda output: output):
        super().__init__()
        self.layer = nn.Linear(WIDTH, WIDTH)
        self.after = after

    def forward(self, x):
        return self.after(self.layer(x))


def linear(after=lambda output: output, batch=4):
    return lambda batch_size: (Linear(after), (torch.randn(batch_size or batch, WIDTH),))


def dropout(batch_size):
    layers = nn.Linear(WIDTH, 64), nn.Dropout(0.5), nn.Linear(64, WIDTH)
    return nn.Sequential(*layers), (torch.randn(batch_size or 4, WIDTH),)


def batch_norm(batch_size):
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)), (torch.randn(batch_size or 4, WIDTH),)


def keyword_input(batch_size):
    return _Keyword(), (), {"x": torch.randn(batch_size or 4, WIDTH)}


class _Keyword(Linear):
    def forward(self, *, x):
        return {"logits": super().forward(x)}


@torch._dynamo.disable
def out_of_memory_above_8(output):
    if output.shape[0] > 8:
        raise torch.OutOfMemoryError("Tried to allocate 9.00 GiB")
    return output


@torch._dynamo.disable
def out_of_memory(output):
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def out_of_memory_when_compiled(output):
    if torch.compiler.is_compiling():
        return output + torch.ones(2**45, output.shape[1])[: output.shape[0]]
    return output


CALLS = [0]


@torch._dynamo.disable
def fails_at_fifth_call(output):
    CALLS[0] += 1
    if CALLS[0] == 5:  # two first eager calls, one in float64, then the two that are compared
        raise ValueError("five")
    return output


def other_gradient_when_compiled(output):
    return output + (output.sum() - output.sum().detach()) if torch.compiler.is_compiling() else output


def not_in_float64(output):
    if output.dtype is torch.float64:
        raise TypeError("no float64 here")
    return output * 1.05 if torch.compiler.is_compiling() else output


def a_little_off_when_compiled(output):
    return output + 5e-3 if torch.compiler.is_compiling() else output


def scaled_when_compiled(output):
    return output * 3 if torch.compiler.is_compiling() else output


class _BreaksTwice(Linear):
    def forward(self, x):
        x = self.layer(x)
        torch._dynamo.graph_break()
        x = x * 2
        torch._dynamo.graph_break()
        return x - 1


def breaks_twice(batch_size):
    return _BreaksTwice(), (torch.randn(batch_size or 4, WIDTH),)


def hungry_in_eager(output):
    if torch.compiler.is_compiling():
        return output
    return output + torch.ones(100_000_000).sum()


@torch._dynamo.disable
def note(word):
    print(word, file=sys.stderr)


def tells_its_arm(output):
    note("ran compiled" if torch.compiler.is_compiling() else "ran eager")
    return output


PHASE = [0, 1.0]


@torch._dynamo.disable
def next_phase():
    PHASE[0] += 1
    PHASE[1] = 1.0 if PHASE[0] < 30 else 2.0


def compiles_again_at_call_30(output):
    next_phase()
    return output * PHASE[1]


MODELS = {
    "linear": linear(),
    "dropout": dropout,
    "batch_norm": batch_norm,
    "keyword_input": keyword_input,
    "own_loss": linear(lambda output: output.square().sum()),
    "integers": linear(lambda output: output.argmax(dim=1)),
    "nothing_to_learn": lambda batch_size: (nn.Flatten(), (torch.randn(4, WIDTH),)),
    "out_of_memory_above_8": linear(out_of_memory_above_8, batch=100),
    "out_of_memory": linear(out_of_memory),
    "out_of_memory_when_compiled": linear(out_of_memory_when_compiled),
    "fails_at_fifth_call": linear(fails_at_fifth_call),
    "other_gradient_when_compiled": linear(other_gradient_when_compiled),
    "not_in_float64": linear(not_in_float64),
    "a_little_off_when_compiled": linear(a_little_off_when_compiled),
    "a_little_off_and_allowed": linear(a_little_off_when_compiled),
    "scaled_when_compiled": linear(scaled_when_compiled),
    "scaled_and_cosine": linear(scaled_when_compiled),
    "breaks_twice": breaks_twice,
    "hungry_in_eager": linear(hungry_in_eager),
    "tells_its_arm": linear(tells_its_arm),
    "compiles_again_at_call_30": linear(compiles_again_at_call_30),
    "not_to_be_called": lambda batch_size: (3, (torch.randn(4),)),
    "not_a_pair": lambda batch_size: nn.Linear(1, 1),
    "missing": linear(),
}


def tolerance(model, mode, dtype):
    return 1e-1 if model == "a_little_off_and_allowed" else 1e-4


def use_cosine(model):
    return model == "scaled_and_cosine"


def missing(name=None):
    return "it needs a library that is not here" if name == "missing" else None
