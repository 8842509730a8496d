"""A copy behaves like the original and shares nothing with it, or there is no copy."""

from __future__ import annotations

import functools
import itertools
import threading
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torchperf_ci.worker.copying import CannotCopy, copy_faithfully, describe_structure, shares_state, tensors_in


def layout(tensor: torch.Tensor) -> tuple[object, ...]:
    offset = tensor.storage_offset() if tensor.numel() else 0
    return (type(tensor), tensor.shape, tensor.stride(), offset, tensor.dtype, tensor.requires_grad)


def memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=3),
    st.sampled_from(["plain", "transposed", "expanded", "sliced", "reversed", "complex", "parameter", "gradient"]),
)
def test_strides_offsets_and_classes_are_kept(shape: list[int], kind: str) -> None:
    """Whatever the view, empty ones too."""
    base = torch.randn(shape)
    tensor = {
        "plain": lambda: base,
        "transposed": lambda: base.transpose(0, -1),
        "expanded": lambda: base.unsqueeze(0).expand(3, *base.shape),
        "sliced": lambda: base[1:],
        "reversed": lambda: base.flip(0)[::2],
        "complex": lambda: torch.view_as_complex(torch.randn(*shape, 2)),
        "parameter": lambda: nn.Parameter(base.transpose(0, -1)),
        "gradient": lambda: base.clone().requires_grad_(),
    }[kind]()
    copied = copy_faithfully([tensor])[0]
    assert layout(copied) == layout(tensor)
    assert torch.equal(copied, tensor)
    assert tensor.numel() == 0 or memory(copied) != memory(tensor)


def test_what_is_one_tensor_or_one_memory_stays_so() -> None:
    """Identity, views and shared storage, across module and inputs."""
    x = torch.randn(4, 6)
    module = nn.Linear(6, 6)
    module.tied = module.weight
    inputs = {
        "x": x,
        "again": [x],
        "view": x[1:],
        "weight": module.weight,
        "real": torch.view_as_real(torch.randn(2) + 0j),
    }
    copied_module, copied = copy_faithfully((module, inputs))
    assert copied["x"] is copied["again"][0]
    assert memory(copied["x"]) == memory(copied["view"])
    assert copied["weight"] is copied_module.weight is copied_module.tied
    with torch.no_grad():
        copied["x"].zero_()
    assert not copied["view"].any()
    assert x.all()


def test_a_cast_reaches_plain_objects() -> None:
    """And leaves what it does not change; a view stays one."""
    table = torch.randn(8)
    value = SimpleNamespace(table=table, part=table[2:4], index=torch.arange(3), name="n", deep=[{"t": table}])
    cast = copy_faithfully(value, lambda tensor: tensor.double() if tensor.is_floating_point() else tensor.clone())
    assert (cast.table.dtype, cast.part.dtype, cast.index.dtype) == (torch.float64, torch.float64, torch.int64)
    assert memory(cast.table) == memory(cast.part)
    assert cast.deep[0]["t"] is cast.table
    assert table.dtype == torch.float32


def test_one_memory_of_two_types_can_be_copied_but_not_cast() -> None:
    """Its bytes are copied; what a cast would mean is not known."""
    wave = torch.randn(4, dtype=torch.complex64)
    copied, real = copy_faithfully((wave, torch.view_as_real(wave)))
    assert memory(copied) == memory(real)
    assert torch.equal(torch.view_as_real(copied), real)
    with pytest.raises(CannotCopy, match=r"torch\.(float32|complex64) and torch\.(float32|complex64) at once"):
        copy_faithfully(
            (wave, torch.view_as_real(wave)), lambda t: t.to(torch.complex128 if t.is_complex() else torch.float64)
        )


def hooked(module: nn.Module) -> None:
    module.weight.register_hook(lambda gradient: gradient)


def replaced(module: nn.Module) -> None:
    module.forward = lambda x: module.weight @ x


def counting(module: nn.Module) -> None:
    calls: list[int] = []
    module.register_forward_hook(lambda *_: calls.append(1))


def locked(module: nn.Module) -> None:
    module.lock = threading.Lock()


def generating(module: nn.Module) -> None:
    module.numbers = (number for number in range(3))


@pytest.mark.parametrize("change", [hooked, replaced, counting, locked, generating])
def test_a_copy_that_would_behave_differently_is_refused(change) -> None:
    """Hooks on tensors, functions that hold the original or a state of their own, and what cannot be copied at all."""
    module = nn.Linear(3, 3)
    change(module)
    with pytest.raises(CannotCopy):
        copy_faithfully(module)


@pytest.mark.parametrize(
    "forward",
    [nn.Linear.forward.__get__, lambda module: functools.partial(nn.Linear.forward, module)],
    ids=["method", "partial"],
)
def test_a_method_or_a_partial_call_is_bound_to_the_copy(forward) -> None:
    """As decorators of acceleration libraries leave them."""
    module = nn.Linear(3, 3)
    module.forward = forward(module)
    copied = copy_faithfully(module)
    with torch.no_grad():
        module.weight.zero_()
        module.bias.zero_()
    assert copied(torch.ones(3)).any()


def test_other_kinds_of_tensor_are_copied_by_value() -> None:
    """Sparse, nested, quantized, conjugated, without values."""
    tensors = [
        torch.eye(3).to_sparse(),
        torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged),
        torch.randn(2, dtype=torch.complex64).conj(),
        torch.empty(3, device="meta"),
    ]
    for tensor, copied in zip(tensors, copy_faithfully(tensors), strict=True):
        assert copied is not tensor
        assert (copied.layout, copied.dtype, copied.device) == (tensor.layout, tensor.dtype, tensor.device)
    assert torch.equal(copy_faithfully(tensors[2]), tensors[2])


def test_state_in_common_is_found_wherever_it_is() -> None:
    """In objects, closures and containers."""
    tensor = torch.ones(1)
    assert shares_state([tensor], {"deep": SimpleNamespace(function=lambda: tensor)})
    assert not shares_state([tensor], [tensor.clone()])
    assert tensors_in({"a": (tensor, [tensor])}) == [tensor]


def test_the_structure_is_that_of_objects_not_of_floating_point_numbers() -> None:
    """A cache that grows is seen; other numbers in a tensor are not."""
    cache = SimpleNamespace(rows=[torch.ones(2)])
    before = describe_structure(cache)
    cache.rows[0].add_(1)
    cache.rows[0] = torch.zeros(2)
    assert describe_structure(cache) == before
    cache.rows.append(torch.ones(2))
    assert describe_structure(cache) != before


class Slotted:
    __slots__ = ("__hidden", "other")

    def __init__(self, hidden: object) -> None:
        self.__hidden = hidden

    def move(self) -> None:
        self.other, self.__hidden = self.__hidden, None


@pytest.mark.parametrize(
    ("state", "change"),
    [
        ({"x": torch.ones(2)}, lambda state: state.update(y=state.pop("x"))),
        ({"x": torch.ones(2), "y": None}, lambda state: state.update(x=None, y=state["x"])),
        (Slotted(torch.ones(2)), Slotted.move),
        (SimpleNamespace(position=0), lambda state: setattr(state, "position", 4)),
        (SimpleNamespace(scale=1.0), lambda state: setattr(state, "scale", 0.5)),
        ({"log": "a"}, lambda state: state.update(log="aa")),
        ([torch.tensor(0)], lambda state: state[0].add_(1)),
        ([np.arange(3)], lambda state: state[0].__iadd__(1)),
        (iter([torch.ones(2)]), next),
        (map(abs, [1, 2]), next),
        (itertools.count(), next),
        ((number for number in range(3)), next),
        (deque([1]), lambda state: state.append(1)),
    ],
    ids=lambda each: type(each).__name__,
)
def test_the_structure_changes_with_what_a_call_leaves(state: object, change) -> None:
    """Keys, places, positions, and how far an iterator was read; what nothing was done to stays as it is."""
    before = describe_structure(state)
    assert describe_structure(state) == before
    change(state)
    assert describe_structure(state) != before
