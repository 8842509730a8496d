"""From a suite's model to a workload on a device: module, inputs, precision, and one iteration as a function."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from torch.utils import _pytree as pytree

from torchperf_ci.suites.registry import Suite

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_AUTOCAST = {"cpu": torch.bfloat16}

DTYPES = (*_DTYPES, "amp")
"""Precisions a case can have. `amp` is autocast over float32 weights: bfloat16 on a CPU, float16 elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A module with its inputs on `device`. `training` makes an iteration forward, loss and backward."""

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    device: torch.device
    dtype: str
    training: bool
    batch_size: int
    loss: Callable[[torch.nn.Module, Any], torch.Tensor]

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    def iteration(self, call: Callable[..., Any] | None = None) -> Callable[[], Any]:
        """One iteration over the same inputs, with `call` (say the compiled module) in place of the module.

        Inference returns the outputs; training returns the loss and leaves the gradients in the parameters.
        """
        forward = self.module if call is None else call
        return self._training_step(forward) if self.training else self._inference(forward)

    def _inference(self, forward: Callable[..., Any]) -> Callable[[], Any]:
        args, kwargs = self.args, self.kwargs

        def iterate() -> Any:  # noqa: ANN401 - whatever the model returns
            with torch.no_grad(), self.autocast():
                return forward(*args, **kwargs)

        return iterate

    def _training_step(self, forward: Callable[..., Any]) -> Callable[[], Any]:
        args, kwargs, module, loss = self.args, self.kwargs, self.module, self.loss

        def iterate() -> Any:  # noqa: ANN401 - the outputs and the loss
            module.zero_grad(set_to_none=True)
            with self.autocast():
                outputs = forward(*args, **kwargs)
                scalar = loss(module, outputs)
            scalar.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return outputs, scalar

        return iterate

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Autocast for `amp`, nothing otherwise."""
        if self.dtype != "amp":
            return contextlib.nullcontext()
        precision = _AUTOCAST.get(self.device.type, torch.float16)
        return torch.autocast(device_type=self.device.type, dtype=precision)

    def copied(self) -> Workload:
        """The same workload on copies: nothing that runs on it can change this one.

        A module may keep results of its last call (spectral norms, auxiliary losses); these are copied as values, for
        torch copies no tensor that has a history.
        """
        kept = (tensor for module in self.module.modules() for tensor in tensors_of(vars(module)))
        values = {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf}
        return replace(self.with_fresh_inputs(), module=copy.deepcopy(self.module, values))

    def with_fresh_inputs(self) -> Workload:
        """The same module with copies of the inputs."""
        args, kwargs = clone_inputs((self.args, self.kwargs))
        return replace(self, args=args, kwargs=kwargs)

    def in_float64(self) -> Workload:
        """A copy with weights and floating inputs in float64, for the reference of the accuracy check."""
        copied = self.copied()
        args, kwargs = _cast((copied.args, copied.kwargs), torch.float64)
        return replace(copied, module=copied.module.to(torch.float64), args=args, kwargs=kwargs, dtype="float64")


def build(
    suite: Suite, model: str, *, mode: str, device: str, dtype: str, scale: str, batch_size: int | None, seed: int
) -> Workload:
    """Build `model` with fixed seeds and put it on the device. Raises whatever the suite's function raises."""
    seed_all(seed)
    made = suite.build(model, batch_size=batch_size, mode=mode, device=device, dtype=dtype, scale=scale)
    module, args = made[0], made[1]
    kwargs = made[2] if len(made) == 3 else {}
    if not isinstance(module, torch.nn.Module) or not isinstance(args, (tuple, list)):
        raise TypeError(
            f"expected a torch.nn.Module and a tuple of arguments, got {type(module).__name__}, {type(args).__name__}"
        )
    target, training = torch.device(device), mode == "training"
    module = module.to(target).train(training)
    args, kwargs = to_device((tuple(args), dict(kwargs)), target)
    if precision := _DTYPES.get(dtype) if dtype != "float32" else None:
        module = module.to(precision)
        args, kwargs = _cast((args, kwargs), precision)
    return Workload(
        module=module,
        args=args,
        kwargs=kwargs,
        device=target,
        dtype=dtype,
        training=training,
        batch_size=_own_batch_size(suite, model, args, kwargs) if batch_size is None else batch_size,
        loss=suite.option("loss") or default_loss,
    )


def seed_all(seed: int) -> None:
    """Seed Python, torch and, where it was imported, NumPy."""
    import sys

    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


def default_loss(module: torch.nn.Module, output: Any) -> torch.Tensor:  # noqa: ANN401, ARG001 - a model's output
    """The model's own loss if its output is a scalar or has a scalar `loss`, else the mean of its floating tensors."""
    own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", output)
    if isinstance(own, torch.Tensor) and own.ndim == 0:
        return own
    tensors = [leaf for leaf in tensors_of(output) if leaf.is_floating_point()]
    if not tensors:
        raise TypeError("training needs a floating-point output to make a loss of, and there is none")
    return torch.stack([tensor.float().mean() for tensor in tensors]).mean()


def tensors_of(value: Any) -> list[torch.Tensor]:  # noqa: ANN401 - any nest of containers
    """Every tensor in a nest of lists, tuples, dicts and dataclasses, in order."""
    found: list[torch.Tensor] = []
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, torch.Tensor):
            found.append(leaf)
        elif isinstance(leaf, Mapping):  # a class that torch does not know as a container
            found += tensors_of(list(leaf.values()))
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            found += tensors_of([getattr(leaf, item.name) for item in fields(leaf)])
    return found


def clone_inputs(inputs: Any) -> Any:  # noqa: ANN401 - any nest of containers
    """Copies of all tensors: no aliases into the originals, gradients required as there."""
    return _mapped(lambda tensor: tensor.detach().clone().requires_grad_(tensor.requires_grad), inputs)


def to_device(inputs: Any, device: torch.device) -> Any:  # noqa: ANN401 - any nest of containers
    """The same nest with its tensors on `device`."""
    return _mapped(lambda tensor: tensor.to(device), inputs)


def _cast(inputs: Any, dtype: torch.dtype) -> Any:  # noqa: ANN401 - any nest of containers
    return _mapped(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, inputs)


def _mapped(change: Callable[[torch.Tensor], torch.Tensor], inputs: Any) -> Any:  # noqa: ANN401 - any nest of containers
    """The same nest with every tensor changed, dataclasses included."""

    def mapped(leaf: Any) -> Any:  # noqa: ANN401 - whatever torch does not know as a container
        if isinstance(leaf, torch.Tensor):
            return change(leaf)
        if is_dataclass(leaf) and not isinstance(leaf, type):
            parts = {item.name: _mapped(change, getattr(leaf, item.name)) for item in fields(leaf) if item.init}
            return replace(leaf, **parts)
        return leaf

    return pytree.tree_map(mapped, inputs)


def _own_batch_size(suite: Suite, model: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    told = suite.option("batch_size")
    return int(told(model, args)) if told else _leading_size((args, kwargs))


def _leading_size(inputs: Any) -> int:  # noqa: ANN401 - any nest of containers
    """The first dimension of the first tensor with one: what a model's own default batch size shows as."""
    sizes = [tensor.shape[0] for tensor in tensors_of(inputs) if tensor.ndim > 0]
    return int(sizes[0]) if sizes else 1
