"""Copies of modules and inputs that behave like the original: strides, shared storage, views and identity are kept.

`copy.deepcopy` alone is not enough: it makes parameters contiguous and forgets their hooks, refuses tensors that have
a history, and takes functions as they are, so that a replaced `forward` goes on using the original's weights. Here
every tensor is copied first, a storage at a time; `deepcopy` does the rest with these copies as its memo; and then the
copy is held against the original. What is not independent of it ends as `CannotCopy`.
"""

from __future__ import annotations

import copy
import gc
import logging
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parameter import is_lazy

from torchperf_ci.worker.content import cell_contents
from torchperf_ci.worker.protocol import describe

Change = Callable[[torch.Tensor], torch.Tensor]

_MOST_OBJECTS = 5_000_000
_OPAQUE: tuple[type, ...] = (
    type,
    types.ModuleType,
    types.CodeType,
    types.FrameType,
    types.GeneratorType,
    logging.Logger,
    str,
    bytes,
    int,
)
"""The types that a walk does not enter: definitions and what is shared by a whole process."""
if dist.is_available():
    from torch.distributed.device_mesh import DeviceMesh

    _OPAQUE = (*_OPAQUE, DeviceMesh)


class CannotCopy(Exception):
    """An object of which no independent copy can be made; the message says why."""


def copy_faithfully(value: Any, change: Change = torch.clone) -> Any:  # noqa: ANN401 - any object
    """Return a copy of `value` (a module, or any nest or object) that shares no tensor and no module with it.

    change: makes a new tensor of an old one with as many elements, e.g. `clone`, or a cast; it sees each storage once,
    as a one-dimensional tensor. Raises `CannotCopy` where a part of `value` cannot be copied, or would not behave as
    before.
    """
    originals = list(_walk(value))
    tensors = [item for item in originals if isinstance(item, torch.Tensor) and not is_lazy(item)]
    if any(tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None) for tensor in tensors):
        raise CannotCopy("a tensor has hooks, which a copy would lack")
    try:
        with torch.no_grad():
            memo = _copy_tensors(tensors, change)
        for tensor in tensors:
            memo[id(tensor)].__dict__.update(copy.deepcopy(vars(tensor), memo))
        copied = copy.deepcopy(value, memo)
    except CannotCopy:
        raise
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise CannotCopy(describe(error)) from error
    if reason := _shared_state(originals, copied):
        raise CannotCopy(reason)
    return copied


def shares_state(one: Any, other: Any) -> bool:  # noqa: ANN401 - any objects
    """Tell whether a tensor or a module can be reached from both."""
    mine = {id(item) for item in _walk(one) if isinstance(item, (torch.Tensor, torch.nn.Module))}
    return any(id(item) in mine for item in _walk(other))


def describe_structure(value: Any) -> list[tuple[Any, ...]]:  # noqa: ANN401 - any object
    """List types, lengths and shapes of all that can be reached from `value`: it changes when a call leaves more in it,
    takes something out, or puts another shape there; other numbers in the same tensors leave it as it is."""
    described: list[tuple[Any, ...]] = []
    for item in _walk(value):
        if isinstance(item, torch.Tensor):
            described.append(("tensor", item.dtype, () if is_lazy(item) else tuple(item.shape)))
        elif isinstance(item, (list, dict, set, tuple)):
            described.append((type(item).__name__, len(item)))
    return described


def tensors_in(value: Any) -> list[torch.Tensor]:  # noqa: ANN401 - any object
    """List every tensor that can be reached from `value`, each once, those in plain objects too."""
    return [item for item in _walk(value) if isinstance(item, torch.Tensor)]


def _walk(value: Any) -> Iterator[Any]:  # noqa: ANN401 - any object
    """Yield everything that can be reached from `value` through attributes, containers, closures and bound methods."""
    seen: dict[int, Any] = {}  # keeps what it has seen alive, so that no id is used twice
    pending = [value]
    while pending:
        item = pending.pop()
        if id(item) in seen:
            continue
        if len(seen) >= _MOST_OBJECTS:
            raise CannotCopy(f"it holds more than {_MOST_OBJECTS} objects")
        seen[id(item)] = item
        yield item
        pending.extend(reversed(_parts(item)))


def _parts(item: Any) -> list[Any]:  # noqa: ANN401 - any object
    if isinstance(item, _OPAQUE):
        return []
    if isinstance(item, torch.Tensor):
        inner = getattr(item, "__tensor_flatten__", None)
        names = inner()[0] if inner is not None else ()
        return [*vars(item).values(), *(getattr(item, name) for name in names)]
    if isinstance(item, types.FunctionType):  # its globals belong to its module, not to it
        cells = [content for cell in item.__closure__ or () for content in cell_contents(cell)]
        return [*cells, *(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values(), *vars(item).values()]
    if isinstance(item, types.MethodType):
        return [item.__self__, item.__func__]
    return gc.get_referents(item)


def _copy_tensors(tensors: list[torch.Tensor], change: Change) -> dict[int, Any]:
    """Copy tensors so that those that share a storage share one again. By the `id` of the original, as a memo."""
    memo: dict[int, Any] = {}
    flat: dict[tuple[Any, ...], torch.Tensor] = {}
    for tensor in tensors:
        if not _is_plain(tensor):
            memo[id(tensor)] = _same_class(tensor, change(tensor.detach()))
            continue
        storage = tensor.untyped_storage()
        key = (tensor.device, storage.data_ptr(), tensor.dtype)
        if key not in flat:
            first_key = next((known for known in flat if known[:2] == key[:2]), None)
            if first_key is None:
                whole = torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(storage)
                flat[key] = change(whole)
            elif flat[first_key].dtype == first_key[2]:
                flat[key] = flat[first_key].view(tensor.dtype)
            else:
                raise CannotCopy(f"one memory is {first_key[2]} and {tensor.dtype} at once, so it cannot be cast")
        memo[id(tensor)] = _same_view(tensor, flat[key])
    return memo


def _is_plain(tensor: torch.Tensor) -> bool:
    """Tell whether strides over a storage of its own describe the tensor fully."""
    return (
        type(tensor) is torch.Tensor
        or (isinstance(tensor, torch.nn.Parameter) and not hasattr(tensor, "__tensor_flatten__"))
    ) and (
        tensor.layout is torch.strided
        and not (tensor.is_nested or tensor.is_quantized or tensor.is_conj() or tensor.is_neg())
        and tensor.numel() > 0
        and tensor.device.type != "meta"
    )


def _same_view(tensor: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
    """Return a tensor that lies in `flat` as `tensor` lies in its storage, of the same class."""
    where = (tensor.storage_offset(), tensor.size(), tensor.stride())
    if tensor._is_view():
        placed = torch.as_strided(flat, where[1], where[2], where[0])
    else:
        placed = torch.empty(0, dtype=flat.dtype, device=flat.device)
        placed.set_(flat.untyped_storage(), *where)
    return _same_class(tensor, placed)


def _same_class(tensor: torch.Tensor, copied: torch.Tensor) -> torch.Tensor:
    if type(tensor) is not type(copied) and isinstance(tensor, torch.nn.Parameter):
        return torch.Tensor._make_subclass(type(tensor), copied, tensor.requires_grad)
    return copied.requires_grad_(tensor.requires_grad)


def _shared_state(originals: list[Any], copied: Any) -> str | None:  # noqa: ANN401 - any object
    """Say what the copy has in common with the original that a call may change, or None."""
    mine = {id(item) for item in originals if isinstance(item, (torch.Tensor, torch.nn.Module))}
    for item in _walk(copied):
        if id(item) in mine:
            return f"a function or an object keeps hold of the original's {type(item).__name__}"
        if isinstance(item, types.FunctionType):
            held = (content for cell in item.__closure__ or () for content in cell_contents(cell))
            if any(isinstance(content, (list, dict, set, bytearray)) for content in held):  # it may append to a list
                return f"the function {item.__qualname__} keeps a state of its own"
    return None
