"""Models that do everything a model should not, beside healthy ones. A suite file for `--suites`."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time

import torch
from torch import nn


class _Model(nn.Module):
    """A linear layer, and `behave(output)` after it."""

    def __init__(self, behave=lambda output: output):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.behave = behave

    def forward(self, x):
        return self.behave(self.layer(x))


def _made(behave=lambda output: output):
    return lambda batch_size: (_Model(behave), (torch.randn(batch_size or 4, 8),))


def _raises_while_loading(batch_size):
    raise RuntimeError("no weights\nfor you")


def _raises(output):
    raise ValueError("a forward that fails | with `markup` <b>and</b> @mentions")


def _segfaults(output):
    ctypes.string_at(0)


def _exits(output):
    os._exit(0)


def _sleeps(output):
    # a child in a session of its own must go as well
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], start_new_session=True)
    time.sleep(1000)


@torch._dynamo.disable
def _prints(output):
    for stream in (sys.stdout, sys.stderr):
        stream.write('{"id": 1, "ok": {}}\n::error::not from us\n' + "x" * 3_000_000 + "\n")
    os.write(1, b'{"id": 2, "ok": {"status": "pass"}}\n::set-output name=passed::99\n')
    return output


def _nan(output):
    return output * float("nan")


@torch._dynamo.disable
def _time_dependent(output):
    return output + time.perf_counter_ns() % 1000


class _WrongWhenCompiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x):
        return self.layer(x) + (1.0 if torch.compiler.is_compiling() else 0.0)


def _wrong_when_compiled(batch_size):
    return _WrongWhenCompiled(), (torch.randn(4, 8),)


def _allocates(output):
    hoard = []
    while True:
        hoard.append(torch.ones(2**28, dtype=torch.uint8))


MODELS = {
    "healthy_before": _made(),
    "raises_while_loading": _raises_while_loading,
    "raises_in_forward": _made(_raises),
    "segfaults": _made(_segfaults),
    "exits": _made(_exits),
    "sleeps": _made(_sleeps),
    "prints": _made(_prints),
    "nan": _made(_nan),
    "differs": _made(_time_dependent),
    "wrong_when_compiled": _wrong_when_compiled,
    "allocates": _made(_allocates),
    "healthy_behind": _made(),
}
