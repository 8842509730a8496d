"""Functions and modules under TorchScript that can be copied, moved and compiled like any other module."""

from __future__ import annotations

import contextlib
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from torchperf_ci.suites.fastrnns.catalog import Executor, Fuser

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
