"""From a suite's model to a workload on a device: module, inputs, precision, and one iteration as a function."""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import islice
from pathlib import Path
from types import BuiltinFunctionType, MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from torchperf_ci.suites.program import Program
from torchperf_ci.suites.registry import Suite
from torchperf_ci.worker.accuracy import CannotJudge, IterationOutcome
from torchperf_ci.worker.copying import (
    CannotCopy,
    copy_faithfully,
    is_plain_object,
    list_attributes,
    list_held_state,
    shares_state,
    tensors_in,
)
from torchperf_ci.worker.memory import device_module
from torchperf_ci.worker.protocol import CaseError
from torchperf_ci.worker.world import wait_for_results

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_CAST = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_AUTOCAST = {"cpu": torch.bfloat16}
_MOST_ITEMS = 10_000

DTYPES = (*_DTYPES, "amp")
"""Precisions a case can have. `amp` is autocast over float32 weights: bfloat16 on a CPU, float16 elsewhere."""

Inputs = tuple[tuple[Any, ...], Mapping[str, Any]]


class FreshInputs:
    """An iteration that changes what its inputs hold, e.g. a cache that grows: every call gets inputs of its own.

    `prepare` makes them before the clock starts.
    """

    def __init__(self, step: Callable[[Inputs], Any], make: Callable[[], Inputs]) -> None:
        self._step, self._make = step, make
        self._ready: list[Inputs] = []

    def prepare(self, calls: int) -> None:
        """Make the inputs of so many calls."""
        self._ready = [self._make() for _ in range(calls)]

    def __call__(self) -> Any:  # noqa: ANN401 - whatever the model returns
        return self._step(self._ready.pop() if self._ready else self._make())


class SetUpCalls:
    """An iteration with a setup before it and a teardown after it, neither of which is timed.

    once: one setup serves all calls of a reading, instead of one each.
    """

    def __init__(
        self, step: Callable[[Inputs], Any], setup: Callable[[], Inputs], teardown: Callable[[], Any], *, once: bool
    ) -> None:
        self._step, self._setup, self._teardown, self._once = step, setup, teardown, once
        self._inputs: Inputs | None = None
        self._is_open = False

    def prepare(self, calls: int) -> None:  # noqa: ARG002 - what is timed may need to know
        """Set up, after tearing down what is still there."""
        self.finish()
        self._inputs, self._is_open = self._setup(), True

    def finish(self) -> None:
        self._inputs = None
        if self._is_open:
            self._is_open = False
            self._teardown()

    def __call__(self) -> Any:  # noqa: ANN401 - whatever is called returns
        if self._inputs is None:
            self.prepare(1)
        assert self._inputs is not None
        inputs = self._inputs
        if not self._once:
            self._inputs = None
        return self._step(inputs)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A module or a callable with its inputs on `device`. `training` makes an iteration forward, loss and backward.

    program: what the suite's function returned. function: the callable; None where it is the module that is called.
        `module` is then the one whose method it is, else an empty one.
    setup, teardown: what runs around every call, if there is anything. place: puts inputs on the device in the
        precision.
    in_turn: `args` are several inputs, each positional and named ones, that an iteration runs one after the other.
    anew: builds the same workload once more from the suite's function, for what cannot be copied.
    inputs_change: an iteration leaves other contents in its inputs, so that each one needs its own.
    whole_step: a compiler is given the whole training step, not the module alone.
    """

    module: torch.nn.Module
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    device: torch.device
    dtype: str
    training: bool
    batch_size: int
    loss: Callable[[torch.nn.Module, Any], torch.Tensor]
    anew: Callable[[], Workload] | None = None
    inputs_change: bool = False
    whole_step: bool = False
    remarks: tuple[str, ...] = ()
    program: Program = Program(call=None)  # noqa: RUF009 - frozen
    function: Callable[..., Any] | None = None
    setup: Callable[[], Any] | None = None
    teardown: Callable[[], Any] | None = None
    place: Callable[[Inputs], Inputs] = lambda inputs: inputs
    in_turn: bool = False

    @property
    def has_setup(self) -> bool:
        return self.setup is not None or self.teardown is not None

    @property
    def one_call_per_reading(self) -> bool:
        """Say whether a reading has room for one call alone: each has a setup of its own."""
        return self.has_setup and self.program.setup_per == "call"

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    def iteration(self, call: Callable[..., Any] | None = None) -> Callable[[], Any]:
        """Return one iteration, with `call` (what a compiler made of `to_compile`) in the place of the original.

        Inference returns the outputs; training returns outputs and loss, and leaves the gradients in the parameters.
        """
        step = self._finished_step(call)
        if self.has_setup:
            once = self.program.setup_per == "reading"
            return SetUpCalls(step, self.set_up, self.tear_down, once=once)
        if self.inputs_change:
            return FreshInputs(step, self.fresh_inputs)
        if self.function is not None and self.dtype != "amp" and not self.in_turn and not _is_distributed():
            return functools.partial(call or self.function, *self.args, **self.kwargs)  # a kernel may take microseconds
        inputs = (self.args, self.kwargs)
        return lambda: step(inputs)

    def set_up(self) -> Inputs:
        """Run the setup; return the inputs of the call that comes: those that it returns, else the usual ones."""
        inputs = self.setup() if self.setup is not None else None
        if inputs is None:
            return self.args, self.kwargs
        is_good = isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[1], Mapping)
        if not is_good or not isinstance(inputs[0], (tuple, list)):
            raise TypeError(f"setup() returned a {type(inputs).__name__}; return None, or (args, kwargs): (x,), {{}}")
        return self.place((tuple(inputs[0]), dict(inputs[1])))

    @property
    def original(self) -> Callable[..., Any]:
        return self.module if self.function is None else self.function

    @property
    def to_compile(self) -> Callable[..., Any]:
        """Return what a compiler is given: the original, or a function of the inputs that is a whole training step."""
        return self._training_step(self.module) if self.whole_step else self.original

    def _finished_step(self, call: Callable[..., Any] | None) -> Callable[[Inputs], Any]:
        """Return a step that ends when its results are there: with other processes, what comes from them is late."""
        step = self._step(call)
        if not _is_distributed():
            return step
        return lambda inputs: wait_for_results(step(inputs))

    def _step(self, call: Callable[..., Any] | None) -> Callable[[Inputs], Any]:
        forward = self.original if call is None else call
        if self.in_turn:
            forward = functools.partial(_call_in_turn, forward)
        if self.training:
            train = forward if self.whole_step and call is not None else self._training_step(forward)
            return lambda inputs: train(*inputs)
        if self.function is not None:  # as it is: what it does with gradients is its own affair
            autocast = self.autocast

            def run(inputs: Inputs) -> Any:  # noqa: ANN401 - whatever it returns
                with autocast():
                    return forward(*inputs[0], **inputs[1])

            return run

        def infer(inputs: Inputs) -> Any:  # noqa: ANN401 - whatever the model returns
            with torch.no_grad(), self.autocast():
                return forward(*inputs[0], **inputs[1])

        return infer

    def _training_step(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of the inputs that runs forward, loss and backward. A compiler may be given it whole, so it
        refers to nothing but what it needs."""
        module, loss, autocast = self.module, self.loss, self.autocast

        def train(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the outputs and the loss
            module.zero_grad(set_to_none=True)
            with autocast():
                outputs = forward(*args, **kwargs)
                scalar = loss(module, outputs)
            scalar.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            return outputs, scalar

        return train

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return autocast for `amp`, nothing otherwise."""
        if self.dtype != "amp":
            return contextlib.nullcontext()
        precision = _AUTOCAST.get(self.device.type, torch.float16)
        return torch.autocast(device_type=self.device.type, dtype=precision)

    def tear_down(self) -> None:
        if self.teardown is not None:
            self.teardown()

    def observe(self, call: Callable[..., Any] | None = None, *, calls: int = 1) -> IterationOutcome:
        """Run iterations and collect everything the last one did: results, gradients, state, what became of its inputs.

        Nothing is copied: the outcome is that of this workload's own tensors, so run it on a copy, or compare at once.
        """
        inputs = self.set_up()
        given = {f"argument {name}": value for name, value in (*enumerate(inputs[0]), *inputs[1].items())}
        leaves = {
            f"gradient of {name}{place}": tensor
            for name, value in given.items()
            for place, tensor in _tensors_by_place(value, seen={})
            if tensor.requires_grad and tensor.is_leaf
        }
        for tensor in leaves.values():
            tensor.grad = None
        owned = self.owned_tensors()
        versions = [tensor._version for tensor in owned]
        written, held = _versions_of([*inputs, *self.module.buffers()]), list_held_state(self.module)
        step = self._finished_step(call)
        for _ in range(calls - 1):
            step(self.fresh_inputs() if self.inputs_change else inputs)
            if self.has_setup:
                self.tear_down()
                inputs = self.set_up()
                given = {f"argument {name}": value for name, value in (*enumerate(inputs[0]), *inputs[1].items())}
        result = step(inputs)
        outputs, loss = result if self.training else (result, None)
        try:
            with torch.no_grad():  # an iterator is read to its end, so that what it yields can be compared
                outputs = pytree.tree_map(
                    lambda leaf: list(islice(leaf, _MOST_ITEMS)) if isinstance(leaf, Iterator) else leaf, outputs
                )
        except RecursionError as error:
            raise CannotJudge("output is nested too deep for Python's recursion limit to look into it") from error
        outcome = IterationOutcome(
            results={"output": outputs, **({} if loss is None or loss is outputs else {"loss": loss})}
        )
        module = self.module
        if self.training:
            outcome.gradients = {f"gradient of {name}": weight.grad for name, weight in module.named_parameters()}
            outcome.gradients |= {name: tensor.grad for name, tensor in leaves.items()}
            if _is_distributed():
                outcome.gradients = wait_for_results(outcome.gradients)
        outcome.state = {f"buffer {name}": buffer for name, buffer in module.named_buffers()}
        outcome.state |= {f"parameter {name}": weight.detach() for name, weight in module.named_parameters()}
        outcome.given, outcome.held, outcome.owned = given, list_held_state(module), owned
        changed = (index for index, tensor in enumerate(owned) if tensor._version != versions[index])
        outcome.moved = frozenset(changed)
        outcome.writes = (
            bool(outcome.moved)
            or _versions_of([*inputs, *module.buffers()]) != written
            or any(held.get(place) is not value for place, value in outcome.held.items())
        )
        for weight in module.parameters():  # the outcome keeps them; the next iteration makes its own
            weight.grad = None
        return outcome

    def owned_tensors(self) -> list[torch.Tensor]:
        """List the dense floating tensors that a callable holds, e.g. the weights that it trains, in one order for all
        that are built alike. What its module owns, and what a setup may make anew, are not among them."""
        if self.has_setup or _with_state(self.function) is None:
            return []
        others = {id(tensor) for tensor in (*self.module.parameters(), *self.module.buffers())}
        try:
            tensors = tensors_in(self.function)
        except CannotCopy:  # too large to be looked through
            return []
        return [
            each
            for each in tensors
            if type(each) in {torch.Tensor, torch.nn.Parameter}
            and each.is_floating_point()
            and each.layout is torch.strided
            and not (each.is_nested or each.is_inference() or each.is_meta or id(each) in others)
        ]

    def fresh_inputs(self) -> Inputs:
        """Return inputs as they were at first, independent of these. Raises `CannotCopy`."""
        try:
            inputs: Inputs = copy_faithfully((self.args, self.kwargs))
        except CannotCopy:
            if self.anew is None:
                raise
            other = self.anew()
            inputs = (other.args, other.kwargs)
        return inputs

    def copied(self, change: Callable[[torch.Tensor], torch.Tensor] = torch.clone) -> Workload:
        """Return the same workload on copies, so that nothing that runs on it changes this one. Raises `CannotCopy`."""
        state = (self.module, self.args, self.kwargs, *(_with_state(each) for each in self._functions))
        module, args, kwargs, *functions = copy_faithfully(state, change)
        function, setup, teardown = (
            each if copied is None else copied for each, copied in zip(self._functions, functions, strict=True)
        )
        return replace(self, module=module, args=args, kwargs=kwargs, function=function, setup=setup, teardown=teardown)

    @property
    def _functions(self) -> tuple[Callable[..., Any] | None, ...]:
        return self.function, self.setup, self.teardown

    def built_anew(self, *, same_state: bool = True) -> Workload:
        """Build the workload once more. Raises `CannotCopy` where that is not possible.

        same_state: with the weights and inputs that this one has now; else as the suite's function makes them.
        """
        if self.anew is None:
            raise CannotCopy("there is no function that builds it anew")
        other = replace(self.anew(), whole_step=self.whole_step, inputs_change=self.inputs_change)
        if shares_state((self.module, self.args, self.kwargs), (other.module, other.args, other.kwargs)):
            raise CannotCopy("its function returns the same tensors each time")
        if not same_state:
            return other
        mine, theirs = (dict(_state(workload)) for workload in (self, other))
        unlike = [name for name in mine if name not in theirs or mine[name].shape != theirs[name].shape]
        if unlike or mine.keys() != theirs.keys():
            raise CannotCopy("its function builds another model each time")
        with torch.no_grad():
            for name, tensor in mine.items():
                if not torch.equal(tensor, theirs[name]):
                    theirs[name].copy_(tensor)
        return other

    def in_float64(self) -> Workload:
        """Return a copy, or what is built anew, with weights and floating inputs in float64. Raises `CannotCopy`."""
        if self.setup is not None:
            raise CannotCopy("its setup makes its inputs")
        try:
            return replace(self.copied(_widened), dtype="float64")
        except CannotCopy:
            other = self.built_anew()
            module = other.module._apply(_widened)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            args, kwargs = _changed((other.args, other.kwargs), _widened)
        return replace(other, module=module, args=args, kwargs=kwargs, dtype="float64")


def build(
    suite: Suite, model: str, *, mode: str, device: str, dtype: str, scale: str, batch_size: int | None, seed: int
) -> Workload:
    """Build `model` with fixed seeds and put it on the device. Raises whatever the suite's function raises."""
    request = {"mode": mode, "device": device, "dtype": dtype, "scale": scale}
    seed_all(seed)
    program = suite.build(model, batch_size=batch_size, **request)
    if not callable(program.call):
        kind = type(program.call).__name__
        raise TypeError(f"{suite.name}/{model}: its function returned {kind}, neither a torch.nn.Module nor a callable")
    target, training = torch.device(device), mode == "training"
    owner = program.call.__self__ if isinstance(program.call, MethodType) else program.call
    is_called = isinstance(program.call, torch.nn.Module)
    if training and not is_called:
        raise CaseError("pass_due_to_skip", "a callable has no training; measure it with --inference")
    module = owner.to(target) if isinstance(owner, torch.nn.Module) else torch.nn.Module()
    with contextlib.suppress(NotImplementedError):  # an exported program has the mode that it was exported in
        module.train(training)
    precision = _DTYPES.get(dtype) if program.cast else None

    def place(inputs: Inputs) -> Inputs:
        placed: Inputs = to_device(inputs, target)
        if precision is None:
            return placed
        cast: Inputs = _changed(placed, lambda tensor: tensor.to(precision) if tensor.dtype in _CAST else tensor)
        return cast

    args, kwargs = to_device(_without_history((program.shapes or program.args, program.kwargs)), target)
    if not program.shapes and any(is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers())):
        # One eager call on copies gives lazy parameters their shapes, from the same seed each time.
        copied_args, copied_kwargs = copy_faithfully((args, kwargs), cut=True)
        seed_all(seed)
        with torch.no_grad():
            module(*copied_args, **copied_kwargs)
    remarks: list[str] = []
    if precision is not None:
        before = {weight.dtype for weight in module.parameters() if weight.dtype in _CAST} - {precision}
        if before and dtype == "float32":
            names = " and ".join(sorted(str(one).removeprefix("torch.") for one in before))
            remarks.append(f"cast from {names} to {dtype}, as asked for")
        module = module.to(precision)
        args, kwargs = place((args, kwargs))
    elif not program.cast:
        kept = {str(each.dtype).removeprefix("torch.") for each in tensors_of((args, kwargs)) if each.dtype in _CAST}
        if kept - {dtype}:
            remarks.append(f"its inputs keep their precision: {', '.join(sorted(kept))}")
    loss = suite.option("loss") or default_loss
    return Workload(
        module=module,
        args=args,
        kwargs=kwargs,
        device=target,
        dtype=dtype,
        training=training,
        batch_size=_batch_size(suite, model, args, kwargs, batch_size, is_module=is_called),
        loss=functools.partial(_mean_loss, loss) if program.shapes else loss,
        anew=lambda: build(suite, model, batch_size=batch_size, seed=seed, **request),
        remarks=tuple(remarks),
        program=program,
        function=None if is_called else program.call,
        setup=program.setup,
        teardown=program.teardown,
        place=place,
        in_turn=bool(program.shapes),
    )


def _call_in_turn(call: Callable[..., Any], *inputs: Inputs) -> list[Any]:
    return [call(*args, **kwargs) for args, kwargs in inputs]


def _mean_loss(loss: Callable[..., torch.Tensor], module: torch.nn.Module, outputs: list[Any]) -> torch.Tensor:
    """Take the mean of the losses of what was run in turn."""
    return torch.stack([loss(module, output) for output in outputs]).mean()


def _with_state(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """Return a function that may hold state of its own; None for one of torch's or C's, whose insides are shared."""
    is_foreign = isinstance(function, BuiltinFunctionType) or type(function).__module__.startswith(("torch", "triton"))
    return None if is_foreign and not isinstance(function, torch.nn.Module) else function


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


def find_batch_size(suite: Suite, model: str, own: Workload, **request: Any) -> int | None:  # noqa: ANN401 - as `build`
    """Find out which batch size a suite's function takes for its own, or None where that cannot be told.

    The function is asked for batches of 1 and 2: the dimension of an input that is as long is the batch.
    """
    if suite.option("batch_size") is not None:
        return own.batch_size
    one, two = (build(suite, model, batch_size=size, **request) for size in (1, 2))
    for mine, first, second in zip(*map(_input_tensors, (own, one, two)), strict=False):
        for length, once, twice in zip(mine.shape, first.shape, second.shape, strict=False):
            if (once, twice) == (1, 2):
                return int(length)
    return None


def seed_all(seed: int) -> None:
    """Seed Python, torch and, where it was imported, NumPy."""
    random.seed(seed)
    torch.manual_seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)


def random_state(device: torch.device) -> torch.Tensor:
    """Return the state of the generators a model on `device` draws from, that of `numpy.random` too."""
    module = device_module(device)
    states = [torch.get_rng_state()]
    if "numpy" in sys.modules:
        drawn = pickle.dumps(sys.modules["numpy"].random.get_state(legacy=False))
        states.append(torch.frombuffer(bytearray(drawn), dtype=torch.uint8))
    if hasattr(module, "get_rng_state"):
        states.append(module.get_rng_state() if device.type == "mps" else module.get_rng_state(device))
    return torch.cat(states)


def default_loss(module: torch.nn.Module, output: Any) -> torch.Tensor:  # noqa: ANN401, ARG001 - a model's output
    """Take the output if it is a scalar, or its scalar `loss` if it has one, else the mean of its floating tensors."""
    own = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", output)
    if isinstance(own, torch.Tensor) and own.ndim == 0:
        return own
    tensors = [leaf for leaf in tensors_of(output) if leaf.is_floating_point()]
    tensors = tensors or [leaf for _, leaf in _tensors_by_place(output, seen={}) if leaf.is_floating_point()]
    if not tensors:
        raise TypeError("training needs a floating-point output to make a loss of, and there is none")
    return torch.stack([tensor.float().mean() for tensor in tensors]).mean()


def tensors_of(value: Any) -> list[torch.Tensor]:  # noqa: ANN401 - any nest of containers
    """List every tensor in a nest of lists, tuples, dicts and dataclasses, in order."""
    return [tensor for _, tensor in _tensors_by_place(value)]


def _tensors_by_place(
    value: Any,  # noqa: ANN401 - any nest
    place: str = "",
    seen: dict[int, Any] | None = None,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of a nest with their places. seen: plain objects that were looked into, each once; None where
    those are not to be looked into."""
    for index, leaf in enumerate(pytree.tree_leaves(value)):
        where = place if index == 0 and leaf is value else f"{place}[{index}]"
        if isinstance(leaf, torch.Tensor):
            yield where, leaf
        elif isinstance(leaf, Mapping):  # a class that torch does not know as a container
            yield from _tensors_by_place(list(leaf.values()), where, seen)
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _tensors_by_place([getattr(leaf, item.name) for item in fields(leaf)], where, seen)
        elif seen is not None and is_plain_object(leaf) and id(leaf) not in seen:
            seen[id(leaf)] = leaf
            for name, part in list_attributes(leaf).items():
                yield from _tensors_by_place(part, f"{where}.{name}", seen)


def _versions_of(value: Any) -> list[int]:  # noqa: ANN401 - any nest of containers
    """Count, for each tensor in it, how often it was written to; nothing where that cannot be looked through."""
    with contextlib.suppress(CannotCopy, RuntimeError):  # tensors of inference mode have no count
        return [tensor._version for tensor in tensors_in(value)]
    return []


def _without_history(inputs: Inputs) -> Inputs:
    """Let inputs that were computed from others be tensors of their own: what every iteration starts from. A second
    backward pass could not go through them."""
    if all(tensor.grad_fn is None for tensor in tensors_in(inputs)):
        return inputs
    with contextlib.suppress(CannotCopy):
        inputs = copy_faithfully(inputs, cut=True)
    return inputs


def to_device(inputs: Any, device: torch.device) -> Any:  # noqa: ANN401 - any nest of containers
    """Return the same nest with its tensors on `device`."""
    return _changed(inputs, lambda tensor: tensor.to(device))


def _changed(inputs: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:  # noqa: ANN401 - any nest
    """Put other tensors in the place of those that `change` changes, in plain objects too; one that stands in several
    places, or is a view, stays so. Where the objects cannot be copied, containers and dataclasses alone are changed."""
    if all(is_lazy(tensor) or change(tensor) is tensor for tensor in tensors_in(inputs)):
        return inputs
    try:
        return copy_faithfully(inputs, change, cut=True)
    except CannotCopy:
        return _mapped(change, inputs)


def _mapped(change: Callable[[torch.Tensor], torch.Tensor], inputs: Any) -> Any:  # noqa: ANN401 - any nest of containers
    def mapped(leaf: Any) -> Any:  # noqa: ANN401 - whatever torch does not know as a container
        if isinstance(leaf, torch.Tensor):
            return change(leaf)
        if is_dataclass(leaf) and not isinstance(leaf, type):
            parts = {item.name: _mapped(change, getattr(leaf, item.name)) for item in fields(leaf) if item.init}
            return replace(leaf, **parts)
        return leaf

    return pytree.tree_map(mapped, inputs)


def _widened(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_complex():
        return tensor.to(torch.complex128, copy=True)
    return tensor.to(torch.float64, copy=True) if tensor.is_floating_point() else tensor.clone()


def _state(workload: Workload) -> Iterator[tuple[str, torch.Tensor]]:
    yield from workload.module.named_parameters()
    yield from workload.module.named_buffers()
    yield from ((f"argument {index}", tensor) for index, tensor in enumerate(_input_tensors(workload)))


def _input_tensors(workload: Workload) -> list[torch.Tensor]:
    return tensors_of((workload.args, workload.kwargs))


def _batch_size(
    suite: Suite,
    model: str,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    asked: int | None,
    *,
    is_module: bool,
) -> int:
    """Return the one asked for, what the suite says, or a module's first dimension of the first tensor with one; 0 for
    a callable, whose first dimension may be anything."""
    if asked is not None:
        return asked
    if own := suite.option("batch_size"):
        return int(own(suite.own_name(model), args))
    sizes = [tensor.shape[0] for tensor in tensors_of((args, kwargs)) if tensor.ndim > 0]
    if not is_module:
        return 0
    return int(sizes[0]) if sizes else 1


def find_strays(working_tree: str) -> list[str]:
    """Name the packages that were imported from a repository's working tree, though a commit's own tree is measured.

    An editable installation, or a PYTHONPATH, leads there: then both sides of a comparison run the same code.
    """
    if not working_tree:
        return []
    tree, here, installed = (os.path.realpath(path) + os.sep for path in (working_tree, Path.cwd(), sys.prefix))
    files = {
        name: os.path.realpath(file)
        for name, module in list(sys.modules.items())
        if isinstance(file := getattr(module, "__file__", None), str) and "site-packages" not in file
    }
    return sorted(
        {
            name.partition(".")[0]
            for name, file in files.items()
            if file.startswith(tree) and "site-packages" not in file and not file.startswith((here, installed))
        }
        - {"torchperf_ci", "__main__"}
    )
