"""Copies of modules and inputs that behave like the original: strides, shared storage, views and identity are kept.

`copy.deepcopy` alone is not enough: it makes parameters contiguous and forgets their hooks, refuses tensors that have
a history, and takes functions as they are, so that a replaced `forward` goes on using the original's weights. Here
every tensor is copied first, a storage at a time; `deepcopy` does the rest with these copies as its memo; and then the
copy is held against the original. What is not independent of it ends as `CannotCopy`.

The same walks tell what a call left in its inputs (`describe_structure`) and in plain attributes of modules
(`list_held_state`).
"""

from __future__ import annotations

import contextlib
import copy
import enum
import gc
import itertools
import logging
import operator
import sys
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parameter import is_lazy

from torchperf_ci.worker.content import cell_contents
from torchperf_ci.worker.protocol import describe

Change = Callable[[torch.Tensor], torch.Tensor]

_MOST_OBJECTS = 5_000_000
_MOST_SMALL = 256
_MOST_ITEMS, _MOST_PLACES = 1_000, 100_000
_CONTAINERS: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_BY_LENGTH = (list, tuple, deque, dict, set)
_EVERY_MODULE_HAS = frozenset(vars(torch.nn.Module())) | {"forward", "_compiled_call_impl"}
_OF_COMPILERS = ("_dynamo", "_torchdynamo", "_inductor", "_fsdp")
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


def copy_faithfully(value: Any, change: Change = torch.clone, *, cut: bool = False) -> Any:  # noqa: ANN401 - any object
    """Return a copy of `value` (a module, or any nest or object) that shares no tensor and no module with it.

    change: makes a new tensor of an old one with as many elements, e.g. `clone`, or a cast; it sees each storage once,
    as a one-dimensional tensor. cut: a tensor that was computed from others becomes one of its own. Raises `CannotCopy`
    where a part of `value` cannot be copied, or would not behave as before.
    """
    originals = list(_walk(value))
    tensors = [item for item in originals if isinstance(item, torch.Tensor) and not is_lazy(item)]
    if any(tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None) for tensor in tensors):
        raise CannotCopy("a tensor has hooks, which a copy would lack")
    if not cut and any(_has_history(tensor) for tensor in tensors):
        raise CannotCopy("a tensor was computed from others, and its copy would send no gradients to them")
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
    """List what can be reached from `value`, in order, so that lists before and after a call show what it left there.

    It changes with types, keys, lengths and shapes, with what stands in which place, with numbers and text, with the
    integers of small tensors and arrays (a position in a cache), and with how far iterators were read. Other numbers in
    the same tensors leave it as it is. Raises `CannotCopy` where there is too much to be looked through.
    """
    described: list[tuple[Any, ...]] = []
    seen: dict[int, tuple[int, Any]] = {}  # keeps what it has seen alive, so that no id is used twice
    pending = [value]
    while pending:
        item = pending.pop()
        if item is None or isinstance(item, (str, bytes, int, float, complex)):
            described.append((type(item).__name__, repr(item) if isinstance(item, (float, complex)) else item))
        elif id(item) in seen:
            described.append(("again", seen[id(item)][0]))
        else:
            _refuse_too_many(seen)
            seen[id(item)] = (len(seen), item)
            described.append((type(item).__name__, *_describe_item(item)))
            pending.extend(reversed(_named_parts(item)))
    return described


def _describe_item(item: Any) -> tuple[Any, ...]:  # noqa: ANN401 - any object
    """Tell what is not in the parts of an object: lengths, shapes, small integers, the place of an iterator."""
    if isinstance(item, torch.Tensor):
        return (item.dtype, () if is_lazy(item) else tuple(item.shape), _small_integers(item))
    if isinstance(item, (dict, list, tuple, set, frozenset, deque)):
        return (len(item),)
    if isinstance(item, types.GeneratorType):
        return (item.gi_frame and item.gi_frame.f_lasti,)
    if isinstance(item, itertools.count):
        return (repr(item),)
    if isinstance(item, Iterator) and type(item).__module__ in {"builtins", "itertools"}:
        return (operator.length_hint(item, -1),)
    if type(item).__module__ == "numpy" and hasattr(item, "dtype"):
        is_small = item.size <= _MOST_SMALL and item.dtype.kind in "iub"
        return (str(item.dtype), item.shape, item.tolist() if is_small else None)
    return ()


def _small_integers(tensor: torch.Tensor) -> Any:  # noqa: ANN401 - a nest of lists, or a number
    is_readable = type(tensor) is torch.Tensor and tensor.layout is torch.strided and tensor.device.type != "meta"
    is_exact = not (tensor.is_floating_point() or tensor.is_complex() or tensor.is_quantized)
    return tensor.tolist() if is_readable and is_exact and tensor.numel() <= _MOST_SMALL else None


def _named_parts(item: Any) -> list[Any]:  # noqa: ANN401 - any object
    """List the parts of an object in an order of its own, with the keys and names that they stand under."""
    if isinstance(item, (*_OPAQUE, torch.Tensor, types.FunctionType, types.MethodType)):
        return _parts(item)
    attributes = list_attributes(item)
    named = [part for pair in attributes.items() for part in pair]
    if isinstance(item, dict):  # as dict sees it: a class of a suite's own may load what it yields
        return [*(part for pair in dict.items(item) for part in pair), *named]
    for base in _CONTAINERS:
        if isinstance(item, base):
            return [*base.__iter__(item), *named]
    known = {id(part) for part in attributes.values()} | {id(getattr(item, "__dict__", None))}
    return [*named, *(part for part in gc.get_referents(item) if id(part) not in known and not isinstance(part, type))]


def is_plain_object(item: Any) -> bool:  # noqa: ANN401 - any object
    """Tell whether an object is of a class of people's own, so that its attributes are all that there is to it.

    Modules are not, and nothing of torch's, Triton's or Python's own: what they hold may depend on how code is run.
    """
    root = type(item).__module__.partition(".")[0]
    is_foreign = root in {"torch", "triton", "numpy"} or (root in sys.stdlib_module_names and root != "__main__")
    is_excluded = isinstance(item, (*_OPAQUE, torch.nn.Module, torch.Tensor, enum.Enum))
    return isinstance(item, types.SimpleNamespace) or not (is_foreign or is_excluded)


def list_attributes(item: Any) -> dict[str, Any]:  # noqa: ANN401 - any object
    """List an object's attributes by name, those in its dictionary and those in slots, without running its code."""
    attributes: dict[str, Any] = {}
    for cls in reversed(type(item).__mro__):
        for name, member in vars(cls).items():
            if isinstance(member, types.MemberDescriptorType) and not name.startswith("__"):
                with contextlib.suppress(AttributeError):  # nothing was assigned yet
                    attributes[name] = member.__get__(item)
    with contextlib.suppress(AttributeError):
        attributes.update(object.__getattribute__(item, "__dict__"))
    return attributes


def list_held_state(module: torch.nn.Module) -> dict[str, Any]:
    """Name the tensors, arrays and numbers in plain attributes of a module and of all modules in it.

    Containers stand there with the number of values in them that can be looked at: a traced function that eager code
    keeps for the next call is none. What is no such value is left out, and so are attributes of torch's own
    modules other than layers, which steer how code is run.
    """
    held: dict[str, Any] = {}
    known = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    for path, owner in module.named_modules():
        home = type(owner).__module__
        if home.partition(".")[0] == "torch" and not home.startswith("torch.nn.modules."):
            continue
        for name, value in vars(owner).items():
            if name not in _EVERY_MODULE_HAS and not name.startswith(_OF_COMPILERS):
                _put_places(value, f"attribute {path}{'.' if path else ''}{name}", held, known)
    return held


def _put_places(value: Any, place: str, held: dict[str, Any], known: dict[int, Any]) -> None:  # noqa: ANN401 - anything
    """Put what can be compared in `value` into `held`. known: what has been seen, or is compared as something else."""
    if _is_number(value):
        held[place] = value
    elif id(value) in known or len(held) > _MOST_PLACES:
        return
    elif isinstance(value, torch.Tensor):
        held[place] = value
    elif isinstance(value, _BY_LENGTH) or is_plain_object(value):
        if not isinstance(value, tuple):  # equal tuples may be one or two
            known[id(value)] = value
        if isinstance(value, _BY_LENGTH):
            parts = value.values() if isinstance(value, dict) else value
            held[f"length of {place}"] = sum(map(_can_be_looked_at, parts))
        for name, part in _parts_by_name(value).items():
            _put_places(part, f"{place}{name}", held, known)


def _is_number(value: Any) -> bool:  # noqa: ANN401 - anything
    is_array = type(value).__module__ == "numpy" and hasattr(value, "dtype") and value.dtype.kind in "fiubc"
    return is_array or value is None or isinstance(value, (bool, int, float, complex))


def _can_be_looked_at(value: Any) -> bool:  # noqa: ANN401 - anything
    return _is_number(value) or isinstance(value, (str, bytes, torch.Tensor, *_BY_LENGTH)) or is_plain_object(value)


def _parts_by_name(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a container or an object
    if not isinstance(value, _BY_LENGTH):
        return {f".{name}": part for name, part in list_attributes(value).items()}
    if len(value) > _MOST_ITEMS or isinstance(value, set):
        return {}
    if isinstance(value, dict):
        return {f"[{key!r}]": part for key, part in value.items() if isinstance(key, (str, int, float, tuple))}
    return {f"[{index}]": part for index, part in enumerate(value)}


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
        _refuse_too_many(seen)
        seen[id(item)] = item
        yield item
        pending.extend(reversed(_parts(item)))


def _refuse_too_many(seen: Sized) -> None:
    if len(seen) >= _MOST_OBJECTS:
        raise CannotCopy(f"it holds more than {_MOST_OBJECTS} objects")


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


def _has_history(tensor: torch.Tensor) -> bool:
    """Tell whether a gradient can still go from the tensor to what it was computed from.

    What is left of a call whose backward pass is over has a history as well, but what that needed has been freed.
    """
    pending, seen = [tensor.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        try:
            for name in dir(node):
                if name.startswith("_saved_"):
                    getattr(node, name)
        except RuntimeError:  # "after they have already been freed"
            return False
        pending.extend(before for before, _ in node.next_functions)
    return tensor.grad_fn is not None


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
        and not (tensor.is_nested or tensor.is_quantized)
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
    if tensor.is_conj():  # a bit says that what is stored is to be read so; compiled code knows it from a stored one
        placed = placed.conj()
    if tensor.is_neg():
        placed = torch._neg_view(placed)
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
