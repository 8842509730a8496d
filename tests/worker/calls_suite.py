"""Callables that each show one thing about a worker. A suite file."""

from __future__ import annotations

import torch

METRICS = {
    "answer": {"unit": "", "direction": "higher"},
    "rate": {"unit": "1/s", "direction": "higher"},
}
SHAPES = {"in_turn": lambda: [torch.ones(size) for size in (3, 5, 7)]}


def doubled(x):
    return x * 2


def set_up(batch_size, **more):
    """Each call gets a state of its own; what was done is in the result."""
    done = []

    def setup():
        done.append("setup")
        return (torch.zeros(2), done), {}

    def call(x, done):
        x += 1
        done.append("call")
        return x.clone()

    return {"call": call, "setup": setup, "teardown": lambda: done.append("teardown"), **more}


def balanced(batch_size):
    """Its check sees that a setup and a teardown belong to each call."""
    states = []

    def call(states):
        assert states[-1] == "up"
        return len(states)

    def setup():
        assert not states
        states.append("up")
        return (states,), {}

    return {"call": call, "setup": setup, "teardown": states.clear, "check": lambda result: result == 1}


def trained(batch_size):
    weight = torch.ones(3, requires_grad=True)
    return lambda: torch.autograd.grad((weight * 2).sum(), weight)[0]


MODELS = {
    "function": lambda batch_size: (doubled, (torch.ones(4),)),
    "alone": lambda batch_size: lambda: doubled(torch.ones(4)),
    "builtin": lambda batch_size: (torch.softmax, (torch.randn(3, 3), -1)),
    "operator": lambda batch_size: (torch.ops.aten.relu, (torch.randn(3),)),
    "scripted": lambda batch_size: (torch.jit.script(doubled), (torch.ones(4),)),
    "bound": lambda batch_size: (torch.nn.Linear(3, 3).forward, (torch.randn(2, 3),)),
    "in_place": lambda batch_size: (torch.Tensor.add_, (torch.zeros(3), torch.ones(3))),
    "trained": trained,
    "text": lambda batch_size: lambda: ["a", "text"],
    "nothing": lambda batch_size: lambda: None,
    "set_up": set_up,
    "balanced": balanced,
    "shared": lambda batch_size: set_up(batch_size, setup_per="reading"),
    "wrong": lambda batch_size: {"call": doubled, "args": (torch.ones(2),), "check": lambda _: "off by one"},
    "checked": lambda batch_size: {
        "call": doubled,
        "args": (torch.ones(2),),
        "check": lambda result: result.sum() == 4,
    },
    "fails_itself": lambda batch_size: {"call": doubled, "args": (torch.ones(2),), "check": lambda _: 1 / 0},
    "number": lambda batch_size: {"call": lambda: 42, "metrics": "answer"},
    "rated": lambda batch_size: {"call": lambda: [1, 2], "metrics": lambda two, s: {"rate": len(two) / s}},
    "undeclared": lambda batch_size: {"call": lambda: 1, "metrics": lambda one, s: {"rat": 1}},
    "no_number": lambda batch_size: {"call": lambda: "x", "metrics": "answer"},
    "in_turn": lambda batch_size: (doubled, ()),
    "kept": lambda batch_size: {"call": doubled, "args": (torch.ones(2, dtype=torch.float64),), "cast": False},
    "product": lambda batch_size: {"call": torch.mm, "args": (torch.ones(2, 3), torch.ones(3, 4)), "items": 2},
}
