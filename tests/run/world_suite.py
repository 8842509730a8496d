"""A suite file whose models run in two processes: healthy ones, and ones of which the second process fails."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import torch
import torch.distributed as dist

_ONES = ("linear", "sleeps", "slower", "wrong", "killed", "killed_while_loading", "exits", "silent", "raises", "hangs")
WORLD = dict.fromkeys((*_ONES, "again"), 2)
"""All models but `alone`."""


class Second(torch.nn.Module):
    """Does something in the process with rank 1, once it has been called so often, and adds up over both."""

    def __init__(self, action, after=0):
        super().__init__()
        self.linear, self.action, self.after, self.calls = torch.nn.Linear(4, 4), action, after, 0

    @torch._dynamo.disable
    def act(self):
        self.calls += 1
        if dist.get_rank() == 1 and self.calls > self.after:
            self.action()

    def forward(self, x):
        self.act()
        return self.linear(x)


class Adding(Second):
    """The same with a collective behind it, in which the other process waits."""

    @torch._dynamo.disable
    def add(self, y):
        dist.all_reduce(y)

    def forward(self, x):
        y = super().forward(x)
        self.add(y)
        return y


class Wrong(torch.nn.Module):
    """Gives the second process other results when it is compiled."""

    def forward(self, x):
        return x + (1.0 if torch.compiler.is_compiling() and dist.get_rank() == 1 else 0.0)


def _seconds():
    return float(os.environ.get("WORLD_SUITE_SLEEP", "0.05"))


def _raises():
    raise ValueError("the second one fails")


def _hangs():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1234)"], start_new_session=True)
    time.sleep(1000)


def _of(module):
    return lambda batch_size: (module(), (torch.randn(batch_size or 2, 4),))


def _again(batch_size):
    dist.init_process_group("gloo")


def _killed_while_loading(batch_size):
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


MODELS = {
    "alone": lambda batch_size: (torch.nn.Linear(4, 4), (torch.randn(batch_size or 2, 4),)),
    "linear": _of(lambda: Adding(int)),
    "sleeps": _of(lambda: Second(lambda: time.sleep(_seconds()))),
    "slower": _of(lambda: Second(lambda: time.sleep(_seconds() * (2 if os.environ.get("SIDE") == "head" else 1)))),
    "killed": _of(lambda: Adding(lambda: os.kill(os.getpid(), signal.SIGKILL), after=2)),
    "raises": _of(lambda: Adding(_raises, after=2)),
    "exits": _of(lambda: Adding(lambda: os._exit(7), after=2)),
    "hangs": _of(lambda: Second(_hangs, after=20)),
    "wrong": _of(Wrong),
    "again": _again,
    "silent": _of(lambda: Adding(lambda: os._exit(0), after=2)),
    "killed_while_loading": _killed_while_loading,
}
