"""A device `standin` as another package brings one: torch's own registration, tensors that are computed on the CPU.

It has what torch's registration in Python has: a number, streams that are always done, no memory figures, no events.
Put on the path as `torch_standin`, with an entry point in the group `torch.backends`, torch loads it by itself.
"""

from __future__ import annotations

import os

import torch
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

DEVICE = torch.device("cpu")


class OnStandIn(torch.Tensor):
    """A tensor that says it is on the device, around one on the CPU."""

    @staticmethod
    def __new__(cls, inner, *, requires_grad=False):
        outer = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            dtype=inner.dtype,
            device=torch.device("standin", 0),
            requires_grad=requires_grad,
        )
        outer.inner = inner
        return outer

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if os.environ.get("STANDIN_BROKEN"):
            raise RuntimeError("StandIn error: uncorrectable ECC error encountered")
        device = (kwargs or {}).get("device")
        given, named = pytree.tree_map(on_cpu, (args, kwargs or {}))
        result = func(*given, **named)
        leaves_device = device is not None and torch.device(device).type != "standin"
        return result if leaves_device else pytree.tree_map(on_device, result)


def on_cpu(value):
    if isinstance(value, OnStandIn):
        return value.inner
    return DEVICE if isinstance(value, torch.device) and value.type == "standin" else value


def on_device(value):
    return OnStandIn(value) if isinstance(value, torch.Tensor) and not isinstance(value, OnStandIn) else value


def empty(size, *, dtype=None, **_):
    return OnStandIn(torch.empty(size, dtype=dtype))


def empty_strided(size, stride, *, dtype=None, **_):
    return OnStandIn(torch.empty_strided(size, stride, dtype=dtype))


def copy(source, target, *_):
    on_cpu(target).copy_(on_cpu(source))
    return target


def _autoload():
    _setup_privateuseone_for_python_backend("standin")
    library = torch.library.Library("aten", "IMPL")
    library.impl("empty.memory_format", empty, "PrivateUse1")
    library.impl("empty_strided", empty_strided, "PrivateUse1")
    library.impl("_copy_from", copy, "PrivateUse1")
    torch.standin.library = library  # it is undone when it is collected
