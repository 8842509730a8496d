"""Models on which checking, counting and timing can go wrong, after public bug reports. A suite file.

EXPECTED says what the accuracy row of each has to be, by mode: the status, and words of its reason.
"""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn
from torch._dynamo import config as dynamo_config

WIDTH = 16

PASS = ("pass", "")


def compiled_times(factor):
    """`factor` in compiled code, 1 otherwise: stands for a compiler that computes something else."""
    return factor if torch.compiler.is_compiling() else 1


class Base(nn.Module):
    """A linear layer; `value` is wrong by a factor when compiled."""

    def __init__(self, factor=1):
        super().__init__()
        self.fc = nn.Linear(WIDTH, WIDTH)
        self.factor = factor

    def value(self, x):
        return torch.relu(self.fc(x)) * compiled_times(self.factor)

    def forward(self, x):
        return self.value(x)


def case(make, *inputs):
    """A model's function: `make()` and inputs of a batch."""
    return lambda batch_size: (make(), tuple(each(batch_size or 8) for each in inputs or (rows,)))


def rows(batch):
    return torch.randn(batch, WIDTH)


# Copies


def with_hook():
    model = Base()
    model.fc.weight.register_hook(lambda gradient: gradient * 3)
    return model


KEPT = []


def with_hidden_hook():
    """A hook on the node that accumulates the gradient: nothing in Python shows it."""
    model = Base()
    weight = model.fc.weight
    node = weight.expand_as(weight).grad_fn.next_functions[0][0]
    node.register_prehook(lambda gradients: tuple(gradient * 3 for gradient in gradients))
    KEPT.append(node)
    return model


def with_hook_that_counts():
    """A hook whose closure counts calls: a copy would share the list."""
    model, calls = Base(), []
    model.register_forward_hook(lambda module, args, output: calls.append(1) or output * min(len(calls), 1))
    return model


def with_replaced_forward():
    model = Base()
    model.forward = lambda x: torch.relu(model.fc(x)) + 1
    return model


def with_lock(model=None):
    model = model or Base()
    model.lock = threading.Lock()
    return model


ONE_FOR_ALL = Base()


class InObject(Base):
    """A tensor in a plain object of the module's."""

    def __init__(self):
        super().__init__()
        self.table = SimpleNamespace(weight=torch.randn(WIDTH))

    def forward(self, x):
        return self.fc(x) * self.table.weight


class Flat(nn.Module):
    """Parameters that are views of one flat tensor, as in sharded optimizers."""

    def __init__(self):
        super().__init__()
        flat = torch.randn(WIDTH * WIDTH + WIDTH) * 0.1
        self.weight = nn.Parameter(flat[: WIDTH * WIDTH].view(WIDTH, WIDTH).t())
        self.bias = nn.Parameter(flat[WIDTH * WIDTH :])

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


class Aliased(Base):
    """Writes into one argument and reads the other, which is a view of it."""

    def forward(self, x, view):
        x.mul_(2)
        return self.fc(view) + x[:, :1] * compiled_times(self.factor)


def aliased(factor):
    def build(batch_size):
        x = torch.randn(batch_size or 8, WIDTH)
        return Aliased(factor), (x.view_as(x), x.view_as(x))

    return build


class Configured(Base):
    def forward(self, x, options):
        return self.value(x) * options.scale if options.on else x


class Cache:
    def __init__(self, *, lock=False):
        self.rows = []
        if lock:
            self.lock = threading.Lock()


class Appending(Base):
    def forward(self, x, cache):
        cache.rows.append(self.fc(x))
        return torch.cat(cache.rows).sum(0) * compiled_times(self.factor)


class Keeping(Base):
    """Keeps `keep(state, value)` in a plain attribute, which compiled code forgets if `factor` is not 1."""

    def __init__(self, state, keep, factor=1):
        super().__init__(factor)
        self.kept, self.keep = state, keep

    def forward(self, x):
        value = torch.relu(self.fc(x))
        if compiled_times(self.factor) == 1:
            self.kept = self.keep(self.kept, value)
        return value


def keeping(state, keep, factor=1):
    return case(lambda: Keeping(state(), keep, factor))


class KeepsItsResult(Base):
    """Returns nothing: its result is in an attribute of a layer of torch's."""

    def forward(self, x):
        self.fc.result = self.value(x)


class HasClock(Base):
    """What differs between two eager runs as well is no result, and neither is what cannot be compared."""

    def __init__(self):
        super().__init__()
        self.started, self.function, self.unwritten = 0.0, None, torch.full((3,), float("nan"))

    @torch.compiler.disable
    def start(self):
        self.started, self.function = time.time(), lambda: self

    def forward(self, x):
        self.start()
        return self.fc(x)


class SavesHeadOf(Base):
    """Keeps a view of a parameter, to which a copy of it would send no gradient; compiled code sends none, either."""

    def __init__(self, factor=1):
        super().__init__(factor)
        self.table = nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.head = self.table.t()

    def forward(self, x):
        return self.fc(x) @ (self.head if compiled_times(self.factor) == 1 else self.head.detach())


class DetachedInObject(Base):
    """Compiled code forgets the gradient of an input in a plain object."""

    def forward(self, box):
        return self.fc(box.x.detach() if compiled_times(self.factor) != 1 else box.x)


class Bits(nn.Module):
    """Says whether compiled code sees a conjugated and a negated view, or numbers that were written."""

    def forward(self, wave, negative):
        return wave * 2, negative * 2, wave.is_conj(), negative.is_neg()


class StaticCache(Base):
    """Writes into the next rows of a cache, until it is full."""

    def forward(self, x, cache):
        if cache.position == len(cache.rows):
            raise IndexError("the cache is full")
        cache.rows[cache.position] = self.fc(x)
        cache.position += 1
        return cache.rows.sum(0)


class StaticCacheOfTensors(Base):
    """The same with the position in a tensor."""

    def forward(self, x, rows, position):
        rows.index_copy_(0, position, self.fc(x)[None])
        position.add_(1)
        return rows.sum(0)


class MovedKey(Base):
    """Takes its input out of a dictionary and leaves its result there under another key."""

    def forward(self, state):
        state["y"] = self.fc(state.pop("x"))
        return state["y"]


class Reading(Base):
    def forward(self, rows):
        return self.fc(next(rows))


class OwnCache(Base):
    """Keeps what it has seen, so that its first call is not like its second."""

    def __init__(self):
        super().__init__()
        self.seen = None

    def forward(self, x):
        rows = self.fc(x)
        self.seen = rows if self.seen is None else torch.cat([self.seen, rows])
        return self.seen.sum(0)


class Masked(Base):
    def forward(self, x, mask):
        return torch.tanh(self.fc(x)) * mask


class Three(Base):
    def forward(self, a, b, c):
        return self.fc(a) + torch.relu(b) * c


def thrice(batch_size):
    x = torch.randn(batch_size or 8, WIDTH)
    return Three(), (x, x, x)


def lazy():
    return nn.Sequential(nn.LazyLinear(32), nn.ReLU(), nn.LazyLinear(8))


# Results


class TwoHeads(Base):
    """A second head whose output the loss does not use: eager makes no gradient of it, compiled code one of zeros."""

    def __init__(self):
        super().__init__()
        self.aux = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return {"loss": self.fc(x).square().mean(), "aux": self.aux(x)}


class Into(nn.Module):
    """Writes its result into an argument and returns nothing."""

    def __init__(self, factor=1):
        super().__init__()
        self.factor = factor

    def forward(self, x, out):
        out.copy_(x * compiled_times(self.factor))


class Detached(Base):
    """Compiled code forgets the gradient of the input."""

    def forward(self, x):
        return self.fc(x.detach() if compiled_times(self.factor) != 1 else x)


def training_step(make_optimizer, factor=1):
    """A callable that trains a model in its closure; compiled code forgets the step if `factor` is not 1."""

    def build(batch_size):
        model, x = nn.MultiheadAttention(WIDTH, 2), torch.randn(4, batch_size or 8, WIDTH)
        optimizer = make_optimizer(model.parameters())

        def step():
            optimizer.zero_grad()
            loss = model(x, x, x)[0].square().mean()
            loss.backward()
            if compiled_times(factor) == 1:
                optimizer.step()
            return loss.detach()

        return step

    return build


def wave(batch):
    return torch.randn(batch, dtype=torch.complex64)


def with_gradient(batch):
    return torch.randn(batch, WIDTH, requires_grad=True)


class Private:
    def __init__(self, value):
        self._value = value


class Callable:
    def __init__(self, value):
        self.value = value

    def __call__(self):
        return self.value


class Returns(Base):
    """Returns `pack(value)`."""

    def __init__(self, pack, factor=1):
        super().__init__(factor)
        self.pack = pack

    def forward(self, x):
        return self.pack(self.value(x))


class Slots:
    __slots__ = ("_left", "right")

    def __init__(self, value):
        self._left, self.right = value, value + 1


class Opaque:
    """Nothing in it can be looked at but how it compares, and that fails."""

    __slots__ = ()

    def __eq__(self, other):
        raise ValueError("compare me not")

    def __hash__(self):
        return 0


class LockOut:
    def __init__(self):
        self.lock = threading.Lock()


def returns(pack, factor=1):
    return case(lambda: Returns(pack, factor))


class Wave(nn.Module):
    """Complex weights: made real in float64 they are another function."""

    def __init__(self, factor=1):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH // 2 + 1, dtype=torch.complex64))
        self.factor = factor

    def forward(self, x):
        return torch.fft.irfft(torch.fft.rfft(x) * self.weight * compiled_times(self.factor))


class Noise(Base):
    """Random numbers that differ in float64, far larger than the rounding; wrong when compiled by `factor`."""

    def forward(self, x):
        return self.value(x) + 10 * torch.rand_like(x)


class NoGradient(Base):
    """A buffer that training updates; compiled code forgets it if `factor` is not 1."""

    def __init__(self, factor):
        super().__init__(factor)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        if compiled_times(self.factor) == 1:
            self.steps.add_(1)
        return self.fc(x)


def move_infinity(value):
    return value.masked_fill(torch.arange(WIDTH) == (2 if torch.compiler.is_compiling() else 3), float("-inf"))


def mask(value):
    """Places that hold the least number of the precision, as attention masks do."""
    return value.masked_fill(torch.arange(WIDTH) % 5 == 0, torch.finfo(value.dtype).min)


class Float32Alone(Base):
    """Cannot run in float64."""

    def forward(self, x):
        return self.value(x) @ torch.ones(WIDTH, 2)


class CleansNaN(Base):
    """Takes NaN for what is missing, in its input and in a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.full((WIDTH,), float("nan")))

    def forward(self, x, out):
        self.rows.copy_(torch.where(torch.arange(WIDTH) < 4, torch.ones(WIDTH), self.rows))
        out[0].copy_(self.value(x.nan_to_num()))
        return out[0] * 1


class MakesNaN(Base):
    """Leaves NaN in what it is given."""

    def forward(self, x, out):
        out[0] = float("nan")
        return self.value(x)


def holed(batch):
    return torch.cat([torch.randn(batch - 1, WIDTH), torch.full((1, WIDTH), float("nan"))])


def into_elsewhere(batch_size):
    """A callable whose result is in its closure, where nobody looks."""
    results = []

    def call(x):
        results[:] = [x * compiled_times(3)]

    return call, (torch.randn(batch_size or 8, WIDTH),)


def into_argument(factor):
    """A kernel that writes the same into the same tensor in every call."""

    def call(x, out):
        out.copy_(x * compiled_times(factor))

    return lambda batch_size: (call, (torch.randn(batch_size or 8, WIDTH), torch.zeros(batch_size or 8, WIDTH)))


class KeepsFunction(Base):
    """Fills a cache with a function, in eager code alone."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def forward(self, x):
        if not torch.compiler.is_compiling() and not self.kept:
            self.kept.append(torch.relu)
        return self.fc(x)


class Forgets(Base):
    """Returns nothing and leaves nothing."""

    def forward(self, x):
        self.value(x)


def nest(value):
    for _ in range(2000):
        value = [value]
    return value


# Statuses


class TrainReturnsNone(Base):
    def train(self, mode=True):  # noqa: FBT002 - torch's signature
        super().train(mode)


def exported(batch_size):
    x = torch.randn(batch_size or 8, WIDTH)
    return torch.export.export(Base().eval(), (x,)).module(), (x,)


class Rows(torch.utils.data.Dataset):
    """Data that a process of its own reads: it has to find this file."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.full((WIDTH,), float(index))


def read_by_spawned_process(batch_size):
    loader = torch.utils.data.DataLoader(Rows(), batch_size or 4, num_workers=1, multiprocessing_context="spawn")
    return Base(), (next(iter(loader)),)


# Numbers


class Disabled(Base):
    @torch.compiler.disable
    def forward(self, x):
        return self.value(x)


class Suppressed(Base):
    """Dynamo fails inside it, and its errors are suppressed."""

    def forward(self, x):
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break()
            return self.fc(x).nonexistent()
        return self.value(x)


def suppressed(batch_size):
    dynamo_config.suppress_errors = True
    return Disabled(), (rows(batch_size or 8),)


class Temporaries(nn.Module):
    """Seven temporaries of 4 MB: all at once, or one after another."""

    def __init__(self, *, at_once):
        super().__init__()
        self.at_once = at_once

    @torch.compiler.disable
    def forward(self, x):
        if self.at_once:
            return sum(part.sum() for part in [x.repeat(1_000_000) for _ in range(7)])
        return sum(x.repeat(1_000_000).sum() for _ in range(7))


class NeedsMemory(Base):
    """Does not fit from a batch of `limit` on. Time comes first, the batch second."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    @torch.compiler.disable
    def check(self, batch):
        print("tried a batch of", batch)
        if batch >= self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    def forward(self, x):
        self.check(x.shape[1])
        return self.fc(x)


def too_large_to_load(batch_size):
    if (batch_size or 12) > 5:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
    return Base(), (rows(batch_size),)


PREPARED = []


@torch.compiler.disable
def prepare():
    """What the first call of a process has to do, and no other."""
    if not PREPARED:
        time.sleep(2)
        PREPARED.append(True)


class SlowFirst(Base):
    def forward(self, x):
        prepare()
        return self.fc(x)


square = torch.compile(lambda x: x.square() + 1, backend="aot_eager")


class SelfCompiling(Base):
    """Attention of some libraries compiles itself, in eager calls too."""

    def forward(self, x):
        return square(self.fc(x))


class BreaksTwice(Base):
    """Two breaks, three graphs."""

    def forward(self, x):
        y = self.fc(x)
        torch._dynamo.graph_break()
        y = torch.relu(y)
        torch._dynamo.graph_break()
        return y + 1


class ShapesInside(Base):
    """Calls a function that breaks with three shapes: it is compiled again for the second one."""

    def halve(self, x):
        y = torch.relu(x)
        torch._dynamo.graph_break()
        return y / 2

    def forward(self, x):
        return self.halve(x[:2]).sum() + self.halve(x[:4]).sum() + self.halve(x[:6]).sum()


class Drifting(Base):
    """Gives another result each time, by a state that no copy has."""

    drift = 0

    def forward(self, x):
        Drifting.drift += 1
        return square(self.fc(x)) * Drifting.drift


class Full(Base):
    """Holds a cache of its own, which is full after some calls."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    @torch.compiler.disable
    def put(self):
        if self.room == 0:
            raise IndexError("the cache is full")
        self.room -= 1

    def forward(self, x):
        self.put()
        return self.fc(x)


class FullWhenCompiled(Full):
    """Has less room in compiled code: the compiler's fault."""

    def forward(self, x):
        if torch.compiler.is_compiling():
            self.put()
        return super().forward(x)


class Stale(Base):
    """Counts its calls in a buffer, which compiled code reads in the first one alone."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    @torch.compiler.assume_constant_result
    def scale(self):
        return float(self.calls) + 1

    def forward(self, x):
        y = self.fc(x) * self.scale()
        self.calls.add_(1)
        return y


class Mute(Exception):
    """Raises when somebody wants its text."""

    def __str__(self):
        raise RuntimeError("no text")


class RaisesMute(Base):
    def forward(self, x):
        raise Mute


class NumpyNoise(Base):
    """Adds an array of NumPy's own random numbers."""

    def forward(self, x):
        return self.value(x) + torch.from_numpy(np.random.rand(WIDTH).astype(np.float32))


class Cycle(Base):
    """Leaves its activations in a reference cycle, which only the garbage collector frees."""

    @torch.compiler.disable
    def keep(self, x):
        one, other = SimpleNamespace(), SimpleNamespace()
        one.other, other.one, one.data = other, one, x.repeat(1000, 1)
        return x

    def forward(self, x):
        return self.keep(self.fc(x))


class Counting(Base):
    """An attribute that changes in each call, on which dynamo guards."""

    def __init__(self):
        super().__init__()
        self.name = "0"

    def forward(self, x):
        self.name = str(int(self.name) + 1)
        return self.fc(x) * len(self.name)


MODELS = {
    "hook": case(with_hook),
    "hidden_hook": case(with_hidden_hook),
    "hook_that_counts": case(with_hook_that_counts),
    "replaced_forward": case(with_replaced_forward),
    "lock": case(with_lock),
    "one_for_all": case(lambda: ONE_FOR_ALL),
    "one_for_all_with_lock": case(lambda: with_lock(ONE_FOR_ALL)),
    "in_object": case(InObject),
    "flat": case(Flat),
    "aliased": aliased(1),
    "aliased_wrong": aliased(2),
    "configured": case(Configured, rows, lambda batch: SimpleNamespace(scale=2.0, on=True)),
    "cache": case(Appending, rows, lambda batch: Cache()),
    "cache_wrong": case(lambda: Appending(2), rows, lambda batch: Cache()),
    "cache_with_lock": case(Appending, rows, lambda batch: Cache(lock=True)),
    "keeps_tensor": keeping(lambda: torch.zeros(WIDTH), lambda kept, value: kept + value.mean(0)),
    "keeps_tensor_wrong": keeping(lambda: torch.zeros(WIDTH), lambda kept, value: kept + value.mean(0), 2),
    "keeps_list": keeping(list, lambda kept, value: [*kept, value]),
    "keeps_list_wrong": keeping(list, lambda kept, value: [*kept, value], 2),
    "keeps_number": keeping(int, lambda kept, value: kept + 1),
    "keeps_number_wrong": keeping(int, lambda kept, value: kept + 1, 2),
    "keeps_object_wrong": keeping(lambda: None, lambda kept, value: SimpleNamespace(deep={"value": value}), 2),
    "keeps_its_result": case(KeepsItsResult),
    "keeps_its_result_wrong": case(lambda: KeepsItsResult(3)),
    "has_clock": case(HasClock),
    "saves_head": case(SavesHeadOf),
    "saves_head_wrong": case(lambda: SavesHeadOf(2)),
    "object_gradient": case(DetachedInObject, lambda batch: SimpleNamespace(x=with_gradient(batch))),
    "object_gradient_wrong": case(lambda: DetachedInObject(2), lambda batch: SimpleNamespace(x=with_gradient(batch))),
    "bits": case(Bits, lambda batch: wave(batch).conj(), lambda batch: wave(batch).conj().imag),
    "step": training_step(lambda weights: torch.optim.SGD(weights, lr=0.1)),
    "step_wrong": training_step(lambda weights: torch.optim.SGD(weights, lr=0.1), 2),
    "step_of_adam": training_step(torch.optim.Adam),
    "step_of_adam_wrong": training_step(torch.optim.Adam, 2),
    "static_cache": case(
        StaticCache, rows, lambda batch: SimpleNamespace(position=0, rows=torch.zeros(3, batch, WIDTH))
    ),
    "static_cache_of_tensors": case(
        StaticCacheOfTensors, rows, lambda batch: torch.zeros(3, batch, WIDTH), lambda batch: torch.zeros(1).long()
    ),
    "moved_key": case(MovedKey, lambda batch: {"x": rows(batch)}),
    "reading": case(Reading, lambda batch: iter([rows(batch)])),
    "own_cache": case(OwnCache),
    "expanded": case(Masked, rows, lambda batch: torch.ones(batch, 1).expand(-1, WIDTH)),
    "sliced": case(Masked, lambda batch: torch.randn(batch, 40)[:, :WIDTH], rows),
    "thrice": thrice,
    "lazy": case(lazy),
    "two_heads": case(TwoHeads),
    "into": case(Into, rows, rows),
    "into_wrong": case(lambda: Into(2), rows, rows),
    "input_gradient": case(lambda: Detached(1), with_gradient),
    "input_gradient_wrong": case(lambda: Detached(2), with_gradient),
    "computed_input": case(lambda: Detached(1), lambda batch: with_gradient(batch).square()),
    "computed_input_wrong": case(lambda: Detached(2), lambda batch: with_gradient(batch).square()),
    "private_wrong": returns(Private, 3),
    "callable_wrong": returns(Callable, 3),
    "iterator": returns(lambda value: iter([value])),
    "iterator_wrong": returns(lambda value: iter([value]), 3),
    "complex": case(Wave),
    "complex_wrong": case(lambda: Wave(1.5)),
    "noise": case(Noise),
    "noise_wrong": case(lambda: Noise(100)),
    "buffer": case(lambda: NoGradient(1)),
    "buffer_wrong": case(lambda: NoGradient(2)),
    "array": returns(lambda value: value.detach().numpy()),
    "array_wrong": returns(lambda value: value.detach().numpy(), 3),
    "number": returns(lambda value: np.float32(value.detach().numpy().sum())),
    "slots": returns(Slots),
    "slots_wrong": returns(Slots, 3),
    "set_of_text": returns(lambda value: {"a", "b", str(compiled_times(1))}),
    "set_of_tensors": returns(lambda value: {value}),
    "function": returns(lambda value: lambda: value),
    "lock_out": returns(lambda value: LockOut()),
    "opaque": returns(lambda value: Opaque()),
    "float8": returns(lambda value: value.to(torch.float8_e4m3fn)),
    "float8_wrong": returns(lambda value: value.to(torch.float8_e4m3fn), 3),
    "jagged": returns(lambda value: torch.nested.nested_tensor_from_jagged(value, torch.tensor([0, 3, len(value)]))),
    "jagged_wrong": returns(
        lambda value: torch.nested.nested_tensor_from_jagged(value, torch.tensor([0, 3, len(value)])), 3
    ),
    "masked": returns(lambda value: torch.masked.masked_tensor(value, value > 0)),
    "uint16": returns(lambda value: (value.detach() * 10).to(torch.uint16)),
    "uint16_wrong": returns(lambda value: (value.detach() * 10).to(torch.uint16), 3),
    "sparse_wrong": returns(lambda value: value.detach().to_sparse(), 3),
    "nothing": returns(lambda value: value[:0]),
    "infinity": returns(lambda value: value.masked_fill(torch.arange(WIDTH) == 3, float("-inf"))),
    "infinity_elsewhere": returns(move_infinity),
    "mask": returns(mask),
    "mask_wrong": returns(mask, 3),
    "float32_alone": case(Float32Alone),
    "float32_alone_wrong": case(lambda: Float32Alone(3)),
    "cleans_nan": case(CleansNaN, holed, lambda batch: torch.full((2, batch, WIDTH), float("nan"))),
    "makes_nan": case(MakesNaN, rows, rows),
    "nan_number": returns(lambda value: (value, float("nan"))),
    "keeps_function": case(KeepsFunction),
    "into_elsewhere": into_elsewhere,
    "into_argument": into_argument(1),
    "into_argument_wrong": into_argument(3),
    "forgets": case(Forgets),
    "nest": returns(nest),
    "train_returns_none": case(TrainReturnsNone),
    "exported": exported,
    "read_by_spawned_process": read_by_spawned_process,
    "disabled": case(Disabled),
    "suppressed": suppressed,
    "at_once": case(lambda: Temporaries(at_once=True), lambda batch: torch.ones(1)),
    "in_turn": case(lambda: Temporaries(at_once=False), lambda batch: torch.ones(1)),
    "time_first": lambda batch_size: (NeedsMemory(3), (torch.randn(100, batch_size or 12, WIDTH),)),
    "fixed_batch": lambda batch_size: (NeedsMemory(3), (torch.randn(100, 12, WIDTH),)),
    "too_large_to_load": too_large_to_load,
    "half": case(lambda: Base().bfloat16()),
    "counting": case(Counting),
    "slow_first": case(SlowFirst),
    "self_compiling": case(SelfCompiling),
    "cycle": case(Cycle),
    "compiled_already": case(lambda: torch.compile(BreaksTwice(), backend="eager")),
    "shapes_inside": case(ShapesInside),
    "drifting": case(Drifting),
    "full_while_sampled": case(lambda: Full(9)),
    "full_when_compiled": case(lambda: FullWhenCompiled(2)),
    "mute": case(RaisesMute),
    "stale": case(Stale),
    "numpy_noise": case(NumpyNoise),
    "numpy_noise_wrong": case(lambda: NumpyNoise(3)),
}

EXPECTED = {
    "hook": {"training": PASS},
    "hidden_hook": {"training": PASS},
    "hook_that_counts": {"inference": PASS},
    "replaced_forward": {"inference": PASS, "training": PASS},
    "lock": {"inference": PASS, "training": PASS},
    "one_for_all": {"inference": PASS, "training": PASS},
    "one_for_all_with_lock": {"inference": ("not_judged", "cannot be copied")},
    "in_object": {"inference": PASS, "training": PASS},
    "flat": {"inference": PASS, "training": PASS},
    "aliased": {"inference": PASS},
    "aliased_wrong": {"inference": ("fail_accuracy", "output: ")},
    "configured": {"inference": PASS, "training": PASS},
    "cache": {"inference": PASS, "training": PASS},
    "cache_wrong": {"inference": ("fail_accuracy", "output: ")},
    "cache_with_lock": {"inference": PASS},
    "keeps_tensor": {"inference": PASS, "training": PASS},
    "keeps_tensor_wrong": {"inference": ("fail_accuracy", "attribute kept: 16 of 16 values differ")},
    "keeps_list": {"inference": PASS},
    "keeps_list_wrong": {"inference": ("fail_accuracy", "length of attribute kept: 0 instead of 1")},
    "keeps_number": {"inference": PASS},
    "keeps_number_wrong": {"inference": ("fail_accuracy", "attribute kept: 0 instead of 1")},
    "keeps_object_wrong": {"inference": ("fail_accuracy", "attribute kept")},
    "keeps_its_result": {"inference": PASS},
    "keeps_its_result_wrong": {"inference": ("fail_accuracy", "attribute fc.result: ")},
    "has_clock": {"inference": PASS},
    "saves_head": {"training": PASS},
    "saves_head_wrong": {"training": ("fail_accuracy", "gradient of table: ")},
    "object_gradient": {"training": PASS},
    "object_gradient_wrong": {"training": ("fail_accuracy", "gradient of argument 0.x: ")},
    "bits": {"inference": PASS},
    "step": {"inference": PASS},
    "step_wrong": {"inference": ("fail_accuracy", "changes in its own tensors differs by 100%")},
    "step_of_adam": {"inference": PASS},
    "step_of_adam_wrong": {"inference": ("fail_accuracy", "changes in its own tensors differs by 100%")},
    "static_cache": {"inference": PASS},
    "static_cache_of_tensors": {"inference": PASS},
    "moved_key": {"inference": PASS, "training": PASS},
    "reading": {"inference": PASS},
    "own_cache": {"inference": PASS},
    "expanded": {"inference": PASS, "training": PASS},
    "sliced": {"inference": PASS, "training": PASS},
    "thrice": {"inference": PASS, "training": PASS},
    "lazy": {"inference": PASS, "training": PASS},
    "two_heads": {"training": PASS},
    "into": {"inference": PASS},
    "into_wrong": {"inference": ("fail_accuracy", "argument 1: ")},
    "input_gradient": {"training": PASS},
    "input_gradient_wrong": {"training": ("fail_accuracy", "gradient of argument 0: ")},
    "computed_input": {"inference": PASS, "training": PASS},
    "computed_input_wrong": {"training": ("fail_accuracy", "gradient of argument 0: ")},
    "private_wrong": {"inference": ("fail_accuracy", "output._value: ")},
    "callable_wrong": {"inference": ("fail_accuracy", "output.value: ")},
    "iterator": {"inference": PASS},
    "iterator_wrong": {"inference": ("fail_accuracy", "output[0]: ")},
    "complex": {"inference": PASS, "training": PASS},
    "complex_wrong": {"inference": ("fail_accuracy", "output: ")},
    "noise": {"inference": PASS},
    "noise_wrong": {"inference": ("fail_accuracy", "output: ")},
    "buffer": {"training": PASS},
    "buffer_wrong": {"training": ("fail_accuracy", "buffer steps: 1 of 1 values differ: 0 instead of 1")},
    "array": {"inference": PASS},
    "array_wrong": {"inference": ("fail_accuracy", "output: ")},
    "number": {"inference": PASS},
    "slots": {"inference": PASS, "training": PASS},
    "slots_wrong": {"inference": ("fail_accuracy", "output._left: ")},
    "set_of_text": {"inference": PASS},
    "set_of_tensors": {"inference": ("not_judged", "output is a set")},
    "function": {"inference": ("not_judged", "output is a function")},
    "lock_out": {"inference": ("not_judged", "output.lock is a lock")},
    "opaque": {"inference": ("not_judged", "torchperf-ci's own check failed: ValueError: compare me not")},
    "float8": {"inference": PASS},
    "float8_wrong": {"inference": ("fail_accuracy", "output: ")},
    "jagged": {"inference": PASS},
    "jagged_wrong": {"inference": ("fail_accuracy", "output[0]: ")},
    "masked": {"inference": PASS},
    "uint16": {"inference": PASS},
    "uint16_wrong": {"inference": ("fail_accuracy", "output: ")},
    "sparse_wrong": {"inference": ("fail_accuracy", "output: ")},
    "nothing": {"inference": PASS},
    "infinity": {"inference": PASS},
    "infinity_elsewhere": {"inference": ("fail_accuracy", "output: ")},
    "mask": {"inference": PASS, "training": PASS},
    "mask_wrong": {"inference": ("fail_accuracy", "output: ")},
    "float32_alone": {"inference": PASS, "training": PASS},
    "float32_alone_wrong": {"inference": ("fail_accuracy", "output: 3 times as large")},
    "cleans_nan": {"inference": PASS},
    "makes_nan": {"inference": ("fail_accuracy", "argument 1: 16 of 128 eager values are NaN")},
    "nan_number": {"inference": ("fail_accuracy", "output[1]: nan instead of nan")},
    "keeps_function": {"inference": PASS},
    "into_elsewhere": {"inference": ("pass_due_to_skip", "returns nothing that can be compared")},
    "into_argument": {"inference": PASS},
    "into_argument_wrong": {"inference": ("fail_accuracy", "argument 1: ")},
    "forgets": {"inference": ("pass_due_to_skip", "returns nothing that can be compared")},
    "nest": {"inference": ("not_judged", "nested too deep")},
    "train_returns_none": {"inference": PASS, "training": PASS},
    "exported": {"inference": PASS},
    "disabled": {"inference": PASS},
    "suppressed": {"inference": PASS},
    "counting": {"inference": PASS},
    "self_compiling": {"inference": PASS},
    "cycle": {"inference": PASS, "training": PASS},
    "compiled_already": {"inference": PASS, "training": PASS},
    "drifting": {"inference": ("eager_two_runs_differ", "output: ")},
    "stale": {"inference": ("fail_accuracy", "wrong in the second: the results")},
    "numpy_noise": {"inference": PASS, "training": PASS},
    "numpy_noise_wrong": {"inference": ("fail_accuracy", "output: ")},
}
