"""The suite `fastrnns`: its networks, as variants through compilers like any other model, and their TorchScript.

Time comes first: inputs (steps, batch, input), states (layers, batch, hidden). Every forward returns first what a
backward pass starts from (a tensor or a list of tensors), then the last states, where nn.LSTM does. The uncompiled arm
of a `jit` variant is TorchScript, and torch.compile sees the Python that it was made of.
"""

from __future__ import annotations

import contextlib
import math
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name everybody knows
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from torchperf_ci.suites import resnet
from torchperf_ci.suites.fastrnns import cells
from torchperf_ci.suites.fastrnns.catalog import VARIANTS, Executor, Fuser, Sizes, VariantGroup, group_of

_FUSERS: Mapping[Fuser, Mapping[str, bool]] = {
    Fuser.TE: {
        "_jit_set_profiling_executor": True,
        "_jit_set_profiling_mode": True,
        "_jit_override_can_fuse_on_cpu": False,
        "_jit_override_can_fuse_on_gpu": True,
        "_jit_set_texpr_fuser_enabled": True,
    },
    Fuser.OLD: {
        "_jit_set_profiling_executor": False,
        "_jit_set_profiling_mode": False,
        "_jit_override_can_fuse_on_gpu": True,
        "_jit_set_texpr_fuser_enabled": False,
    },
    Fuser.NONE: {
        "_jit_set_profiling_executor": False,
        "_jit_set_profiling_mode": False,
        "_jit_override_can_fuse_on_cpu": False,
        "_jit_override_can_fuse_on_gpu": False,
        "_jit_set_texpr_fuser_enabled": False,
    },
}
_EXECUTORS: Mapping[Executor, Mapping[str, bool]] = {
    Executor.LEGACY: {"_jit_set_profiling_executor": False, "_jit_set_profiling_mode": False},
    Executor.SIMPLE: {"_jit_set_profiling_executor": True, "_jit_set_profiling_mode": False},
    Executor.PROFILING: {"_jit_set_profiling_executor": True, "_jit_set_profiling_mode": True},
}
_POINTWISE = {
    "loop_level": "_jit_set_te_cuda_pointwise_loop_levels",
    "block_count": "_jit_set_te_cuda_pointwise_block_count",
    "block_size": "_jit_set_te_cuda_pointwise_block_size",
}


class SettingsGone(Exception):
    """This torch no longer has a switch that was asked for; the message names it."""


def apply_settings(fuser: Fuser, executor: Executor | None = None, pointwise: Mapping[str, int] | None = None) -> None:
    """Set TorchScript's fuser and executor for this process; graphs that have run already keep theirs.

    pointwise: `loop_level`, `block_count` and `block_size` of the CUDA kernels that the fuser `te` makes.
    Raises `SettingsGone` before anything is changed.
    """
    wanted: dict[str, bool | int] = {**_FUSERS[fuser], **(_EXECUTORS[executor] if executor else {})}
    wanted |= {_POINTWISE[name]: value for name, value in (pointwise or {}).items()}
    if gone := [name for name in wanted if not hasattr(torch._C, name)]:
        asked = f"fuser {fuser}" + (f", executor {executor}" if executor else "")
        asked += "".join(f", CUDA pointwise {name.replace('_', ' ')}" for name in pointwise or {})
        raise SettingsGone(
            f"{asked}: torch {torch.__version__} has no torch._C.{' and no torch._C.'.join(gone)} any more; "
            "choose other settings or measure an older torch"
        )
    for name, value in wanted.items():
        getattr(torch._C, name)(value)


class Scripted:
    """A function under TorchScript. It has no state, so copies of a module share it (TorchScript cannot copy one)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        with _torchscript_is_meant():
            self._function = torch.jit.script(_anew(function))

    def __call__(self, *args: Any) -> Any:  # noqa: ANN401 - as the function
        return self._function(*args)

    def __deepcopy__(self, memo: dict[int, Any]) -> Scripted:
        return self


class Traced(nn.Module):
    """`module`, traced by TorchScript at its first call; torch.compile sees the module itself.

    Moving, casting, copying and changing the mode forget the trace, because it holds tensors and the mode.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._trace: tuple[Any, ...] = ()  # in a tuple, so that it does not become a submodule

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return self.module(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
        if not self._trace:
            self._trace = (_traced(self.module, x),)
        return self._trace[0](x)  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> Traced:  # noqa: FBT001, FBT002 - torch's signature
        self._trace = ()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> Traced:  # noqa: ANN401 - torch's signature
        self._trace = ()
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_trace": ()}


def _traced(module: nn.Module, x: Tensor) -> Any:  # noqa: ANN401 - a module under TorchScript
    """Trace the module on `x`. Tracing runs it once, so buffers (running statistics) are put back afterwards."""
    before = [buffer.clone() for buffer in module.buffers()]
    with _torchscript_is_meant():
        tracer_warning = torch.jit.TracerWarning  # type: ignore[attr-defined]  # public, but not listed
        warnings.filterwarnings("ignore", category=tracer_warning, module=r"torch\.nn")  # checks in torch's layers
        traced = torch.jit.trace(module, x, check_trace=False)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    with torch.no_grad():
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)
    return traced


def _anew(function: Callable[..., Any]) -> Callable[..., Any]:
    """Copy the function: TorchScript keeps one compilation per function object, with the settings it ran under."""
    source = cast("types.FunctionType", function)
    copied = types.FunctionType(
        source.__code__, source.__globals__, source.__name__, source.__defaults__, source.__closure__
    )
    copied.__annotations__ = source.__annotations__
    return copied


@contextlib.contextmanager
def _torchscript_is_meant() -> Iterator[None]:
    """Ignore the warnings that TorchScript is deprecated while the block runs: it is what is measured here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.", category=DeprecationWarning)
        yield


Loop = Callable[..., Any]
States = tuple[Tensor, Tensor]

DROPOUT = 0.4


class Layer(nn.Module):
    """One layer's weights, initialised as nn.LSTM's, and the loop that uses them."""

    def __init__(self, loop: Loop, inputs: int, hidden: int) -> None:
        super().__init__()
        self.loop = loop
        self.weight_ih, self.weight_hh = _weight(4 * hidden, inputs), _weight(4 * hidden, hidden)
        self.bias_ih, self.bias_hh = _weight(4 * hidden), _weight(4 * hidden)
        initialise(self, hidden)

    def forward(self, x: Any, hidden: Tensor, cell: Tensor) -> Any:  # noqa: ANN401 - a tensor, or a list of sequences
        """Return `x` through the loop: outputs of every step, last hidden state, last cell state."""
        return self.loop(x, hidden, cell, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


class NormalizedLayer(nn.Module):
    """One layer with layer norm in its cell; the norms have the biases."""

    def __init__(self, loop: Loop, inputs: int, hidden: int) -> None:
        super().__init__()
        self.loop = loop
        self.weight_ih, self.weight_hh = _weight(4 * hidden, inputs), _weight(4 * hidden, hidden)
        initialise(self, hidden)
        self.norm_ih, self.norm_hh = nn.LayerNorm(4 * hidden), nn.LayerNorm(4 * hidden)
        self.norm_cell = nn.LayerNorm(hidden)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> Any:  # noqa: ANN401 - as `Layer`
        norms = [t for norm in (self.norm_ih, self.norm_hh, self.norm_cell) for t in (norm.weight, norm.bias)]
        return self.loop(x, hidden, cell, self.weight_ih, self.weight_hh, norms)


class StackedLSTM(nn.Module):
    """Layers one after the other, with dropout between them where asked for, as nn.LSTM has it."""

    def __init__(
        self, make_layer: Callable[[Loop, int, int], nn.Module], loop: Loop, sizes: Sizes, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        widths = [sizes.input_size, *[sizes.hidden_size] * (sizes.num_layers - 1)]
        self.layers = nn.ModuleList(make_layer(loop, width, sizes.hidden_size) for width in widths)
        self.dropout = dropout

    def forward(self, x: Any, states: States) -> tuple[Any, States]:  # noqa: ANN401 - a tensor, or a list of sequences
        hiddens, cells = [], []
        for number, layer in enumerate(self.layers):
            if self.dropout and number:
                x = F.dropout(x, self.dropout, self.training)
            x, hidden, cell = layer(x, states[0][number], states[1][number])
            hiddens.append(hidden)
            cells.append(cell)
        return x, (torch.stack(hiddens), torch.stack(cells))


class FlatLSTM(nn.Module):
    """One layer over flat states (batch, hidden), returning the last ones only."""

    def __init__(self, loop: Loop, sizes: Sizes) -> None:
        super().__init__()
        if sizes.num_layers != 1:
            raise ValueError(f"jit_simple has one layer: it does not run with {sizes.num_layers}")
        self.layer = Layer(loop, sizes.input_size, sizes.hidden_size)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> States:
        return self.layer(x, hidden, cell)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped


class MultilayerLSTM(nn.Module):
    """All layers in one loop, its weights a flat list: Wih, Whh, bih and bhh of each layer."""

    def __init__(self, loop: Loop, sizes: Sizes) -> None:
        super().__init__()
        self.loop = loop
        lstm = nn.LSTM(sizes.input_size, sizes.hidden_size, sizes.num_layers)
        self.weights = nn.ParameterList(lstm.parameters())

    def forward(self, x: Tensor, states: States) -> tuple[Tensor, States]:
        return self.loop(x, states, list(self.weights))  # type: ignore[no-any-return]  # a function under TorchScript


class AtenLSTM(nn.LSTM):
    """nn.LSTM with cuDNN off. On a CPU, where there is no cuDNN, it is nn.LSTM."""

    def forward(self, x: Tensor, states: States) -> tuple[Tensor, States]:  # type: ignore[override]  # no overloads
        cudnn = torch.backends.cudnn
        before, cudnn.enabled = cudnn.enabled, False
        try:
            return super().forward(x, states)
        finally:
            cudnn.enabled = before


class PackedLSTM(nn.LSTM):
    """nn.LSTM over sequences of different lengths, packed; the outputs are padded with zeros to the longest."""

    def forward(self, sequences: Sequence[Tensor], states: States) -> tuple[Tensor, States]:  # type: ignore[override]  # no overloads
        packed, last = super().forward(pack_sequence(list(sequences), enforce_sorted=False), states)
        return pad_packed_sequence(packed)[0], last


class LayerNormBound(nn.Module):
    """The least that a fused layer-norm LSTM would cost: nn.LSTM, and beside it the layer norms of every step.

    cuDNN has no layer norm inside its LSTM. The norms run over tensors of the cell's sizes, each on what the one
    before made, as they would in the recurrence; the LSTM's own results are nn.LSTM's.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.lstm = nn.LSTM(sizes.input_size, sizes.hidden_size, sizes.num_layers)
        self.norm_ih, self.norm_hh = nn.LayerNorm(4 * sizes.hidden_size), nn.LayerNorm(4 * sizes.hidden_size)
        self.norm_cell = nn.LayerNorm(sizes.hidden_size)

    def forward(self, x: Tensor, states: States, gates: Tensor) -> tuple[list[Tensor], States]:
        """Return `gates`: (batch, 4·hidden), what the norms of the gates begin with."""
        output, last = self.lstm(x, states)
        cell = last[1][-1]
        for _ in range(x.shape[0] * self.lstm.num_layers):
            gates = self.norm_hh(self.norm_ih(gates))
            cell = self.norm_cell(cell)
        return [output, gates, cell], last


def initialise(module: nn.Module, hidden: int) -> None:
    """Give parameters nn.LSTM's initial weights: uniform within ±1/√hidden."""
    bound = 1 / math.sqrt(hidden)
    for parameter in module.parameters():
        nn.init.uniform_(parameter, -bound, bound)


def _weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape))


Made = tuple[nn.Module, tuple[Any, ...]]


def build(variant: str, sizes: Sizes) -> Made:
    """Build the module of `variant` in training mode, and its positional arguments; all values are random.

    Raises `KeyError` for a name that is not in the catalog and `ValueError` for sizes that the variant cannot have.
    """
    return BUILDERS[variant](sizes)


def heads(output: Any) -> list[Tensor]:  # noqa: ANN401 - any variant's output
    """Return the tensors that a backward pass starts from."""
    first = output if isinstance(output, Tensor) else output[0]
    return [first] if isinstance(first, Tensor) else list(first)


def _states(sizes: Sizes) -> States:
    shape = (sizes.num_layers, sizes.mini_batch, sizes.hidden_size)
    return torch.randn(shape), torch.randn(shape)


def _inputs(sizes: Sizes) -> tuple[Tensor, States]:
    return torch.randn(sizes.seq_length, sizes.mini_batch, sizes.input_size), _states(sizes)


def _sequences(sizes: Sizes) -> tuple[list[Tensor], States]:
    lengths = torch.randint(sizes.min_length, sizes.max_length + 1, (sizes.mini_batch,)).tolist()
    return [torch.randn(length, sizes.input_size) for length in lengths], _states(sizes)


def _torch_lstm(kind: type[nn.LSTM], sizes: Sizes, *, dropout: float = 0.0) -> nn.LSTM:
    """Make nn.LSTM, which has dropout between layers, and warns of it where there is one layer."""
    return kind(sizes.input_size, sizes.hidden_size, sizes.num_layers, dropout=dropout if sizes.num_layers > 1 else 0.0)


def _scripted(loop: Callable[..., Any], sizes: Sizes, *, dropout: float = 0.0) -> Made:
    return StackedLSTM(Layer, Scripted(loop), sizes, dropout=dropout), _inputs(sizes)


def _layer_norm(norm: Callable[[Tensor, Tensor, Tensor], Tensor], sizes: Sizes) -> Made:
    return StackedLSTM(NormalizedLayer, Scripted(cells.normalized_loop(norm)), sizes), _inputs(sizes)


def _simple(sizes: Sizes) -> Made:
    module = FlatLSTM(Scripted(cells.last_state_loop), sizes)
    x, (hidden, cell) = _inputs(sizes)
    return module, (x, hidden[0], cell[0])


def _layer_norm_bound(sizes: Sizes) -> Made:
    gates = torch.randn(sizes.mini_batch, 4 * sizes.hidden_size)
    return LayerNormBound(sizes), (*_inputs(sizes), gates)


def _convolutional(make: Callable[[], nn.Module], sizes: Sizes, *, traced: bool = False) -> Made:
    module = Traced(make()) if traced else make()
    return module, (torch.randn(sizes.images, 3, sizes.image_size, sizes.image_size),)


BUILDERS: Mapping[str, Callable[[Sizes], Made]] = {
    "cudnn": lambda sizes: (_torch_lstm(nn.LSTM, sizes), _inputs(sizes)),
    "aten": lambda sizes: (_torch_lstm(AtenLSTM, sizes), _inputs(sizes)),
    "jit": partial(_scripted, cells.loop),
    "jit_premul": partial(_scripted, cells.premultiplied_loop),
    "jit_premul_bias": partial(_scripted, cells.premultiplied_biased_loop),
    "jit_simple": _simple,
    "jit_multilayer": lambda sizes: (MultilayerLSTM(Scripted(cells.layers_loop), sizes), _inputs(sizes)),
    "jit_layernorm": partial(_layer_norm, cells.normalize),
    "jit_layernorm_decom": partial(_layer_norm, cells.normalize_decomposed),
    "jit_dropout": partial(_scripted, cells.loop, dropout=DROPOUT),
    "cudnn_dropout": lambda sizes: (_torch_lstm(nn.LSTM, sizes, dropout=DROPOUT), _inputs(sizes)),
    "cudnn_layernorm": _layer_norm_bound,
    "py": lambda sizes: (StackedLSTM(Layer, cells.loop, sizes), _inputs(sizes)),
    "vl_cudnn": lambda sizes: (_torch_lstm(PackedLSTM, sizes), _sequences(sizes)),
    "vl_jit": lambda sizes: (StackedLSTM(Layer, Scripted(cells.sequences_loop), sizes), _sequences(sizes)),
    "vl_py": lambda sizes: (StackedLSTM(Layer, cells.sequences_loop, sizes), _sequences(sizes)),
    "resnet18": partial(_convolutional, resnet.resnet18),
    "resnet18_jit": partial(_convolutional, resnet.resnet18, traced=True),
    "resnet50": partial(_convolutional, resnet.resnet50),
    "resnet50_jit": partial(_convolutional, resnet.resnet50, traced=True),
}
"""The builder of each variant of the catalog."""


GROUPS = {group.value: names for group, names in VARIANTS.items()}
QUICK = ("^jit$", "^py$", "^resnet18$")

SIZES = {
    "full": Sizes(),
    "small": Sizes(
        seq_length=8,
        input_size=64,
        hidden_size=64,
        mini_batch=8,
        min_length=3,
        max_length=8,
        images=4,
        image_size=64,
    ),
}
SEQUENCES = 4
"""Batch size of the variants with sequences of different lengths: a compiler sees every step of every sequence."""


def make(variant: str, batch_size: int | None, *, scale: str = "full") -> Made:
    """Build `variant` at the sizes of `scale`; with two layers where there is dropout, which lies between layers."""
    sizes = SIZES[scale]
    if group_of(variant) is VariantGroup.VL:
        sizes = replace(sizes, mini_batch=SEQUENCES)
    if variant.endswith("_dropout"):
        sizes = replace(sizes, num_layers=2)
    if batch_size is not None:
        sizes = replace(sizes, mini_batch=batch_size, images=batch_size)
    return build(variant, sizes)


MODELS: dict[str, Callable[..., Made]] = {
    variant: partial(make, variant) for names in VARIANTS.values() for variant in names
}


def batch_size(model: str, args: tuple[Any, ...]) -> int:
    """Count the sequences or images that `args` hold."""
    match group_of(model):
        case VariantGroup.RNNS:
            return int(args[0].shape[1])
        case VariantGroup.CNNS:
            return int(args[0].shape[0])
        case VariantGroup.VL:
            return len(args[0])


def loss(module: nn.Module, output: Any) -> Tensor:  # noqa: ANN401, ARG001 - any variant's output
    """Return the mean of what a backward pass starts from."""
    return torch.stack([head.float().mean() for head in heads(output)]).mean()
