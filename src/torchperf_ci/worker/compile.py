"""The compilers by name: how each makes a callable of a module, and why one cannot run here."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torchperf_ci.worker.load import Workload
from torchperf_ci.worker.protocol import CaseError

Compiled = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the caller may change about a compiler. `inductor_mode`: `--inductor-compile-mode`."""

    inductor_mode: str | None = None


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """`make(workload, options)` returns what is called in place of the module; `needs` are modules it imports."""

    make: Callable[[Workload, Options], Compiled]
    needs: tuple[str, ...] = ()
    inference_only: bool = False


def compiler_names() -> list[str]:
    """Every compiler that can be asked for: the suite runner's, then torch's own backends."""
    return list(dict.fromkeys([*_COMPILERS, *torch._dynamo.list_backends(exclude_tags=())]))


def compile_workload(name: str, workload: Workload, options: Options) -> Compiled:
    """The compiled module. Raises `CaseError("compiler_not_available")` when this torch cannot run it here."""
    compiler = _COMPILERS.get(name) or Compiler(make=_backend(name))
    missing = [module for module in compiler.needs if importlib.util.find_spec(module) is None]
    if missing:
        raise CaseError("compiler_not_available", f"{name} needs {' and '.join(missing)}, not installed here")
    if compiler.inference_only and workload.training:
        raise CaseError("compiler_not_available", f"{name} can only run inference")
    return compiler.make(workload, options)


def _backend(backend: str) -> Callable[[Workload, Options], Compiled]:
    """torch.compile with a backend; one that this torch does not have, or whose library is absent, is told so."""

    def make(workload: Workload, options: Options) -> Compiled:  # noqa: ARG001 - every compiler is called alike
        known = torch._dynamo.list_backends(exclude_tags=())
        if backend not in known:
            raise CaseError("compiler_not_available", f"torch {torch.__version__} has no backend {backend}")
        if backend == "cudagraphs" and workload.device.type != "cuda":
            raise CaseError("compiler_not_available", "cudagraphs needs a CUDA device")
        try:
            torch._dynamo.lookup_backend(backend)
        except (ImportError, torch._dynamo.exc.InvalidBackend) as error:
            raise CaseError("compiler_not_available", f"{backend}: {error}") from error
        return torch.compile(workload.module, backend=backend)

    return make


def _inductor(*, cudagraphs: bool, mode: str | None = None) -> Callable[[Workload, Options], Compiled]:
    """Inductor. CUDA graphs are switched as the suite runner's flags do; `mode` is torch.compile's, but for them."""

    def make(workload: Workload, options: Options) -> Compiled:
        import torch._inductor.config as config

        config.triton.cudagraphs = cudagraphs and workload.device.type == "cuda"
        chosen = mode or options.inductor_mode
        if chosen is None:
            return torch.compile(workload.module, backend="inductor")
        switches = {**torch._inductor.list_mode_options(chosen), "triton.cudagraphs": config.triton.cudagraphs}
        return torch.compile(workload.module, backend="inductor", options=switches)

    return make


def _torchscript_nnc(workload: Workload, options: Options) -> Compiled:  # noqa: ARG001 - every compiler is called alike
    """TorchScript, fused by NNC: traced, as the suite runner does it."""
    torch._C._jit_set_texpr_fuser_enabled(True)  # noqa: FBT003 - torch's signature
    torch._C._jit_override_can_fuse_on_cpu(True)  # noqa: FBT003
    torch._C._jit_override_can_fuse_on_gpu(True)  # noqa: FBT003
    copied = workload.copied()
    with workload.autocast():
        return torch.jit.trace(  # type: ignore[no-untyped-call, no-any-return]  # torch leaves it untyped
            workload.module, copied.args, check_trace=False, strict=False
        )


def _onnx(*, dynamo: bool) -> Callable[[Workload, Options], Compiled]:
    """Exported to ONNX and run by ONNX Runtime on the same device."""

    def make(workload: Workload, options: Options) -> Compiled:  # noqa: ARG001 - every compiler is called alike
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            torch.onnx.export(workload.module, workload.args, path, kwargs=dict(workload.kwargs), dynamo=dynamo)
            return _OnnxSession(path, workload.device)

    return make


class _OnnxSession:
    """Calls an ONNX model with tensors. Outputs are a tensor, or a tuple where there are several."""

    def __init__(self, model: Path, device: torch.device) -> None:
        import onnxruntime  # type: ignore[import-not-found, import-untyped, unused-ignore]  # only where it is installed

        providers = ["CUDAExecutionProvider"] if device.type == "cuda" else ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(str(model), providers=providers)
        self._inputs = [item.name for item in self._session.get_inputs()]
        self._device = device

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - a module's signature
        from torchperf_ci.worker.load import tensors_of

        feeds = {
            name: tensor.detach().cpu().numpy()
            for name, tensor in zip(self._inputs, tensors_of((args, kwargs)), strict=False)
        }
        outputs = [torch.from_numpy(array).to(self._device) for array in self._session.run(None, feeds)]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _gone(reason: str) -> Callable[[Workload, Options], Compiled]:
    def make(workload: Workload, options: Options) -> Compiled:  # noqa: ARG001 - every compiler is called alike
        raise CaseError("compiler_not_available", reason)

    return make


_COMPILERS: Mapping[str, Compiler] = {
    "eager": Compiler(make=_backend("eager")),
    "aot_eager": Compiler(make=_backend("aot_eager")),
    "inductor": Compiler(make=_inductor(cudagraphs=True)),
    "inductor_no_cudagraphs": Compiler(make=_inductor(cudagraphs=False)),
    "inductor_max_autotune": Compiler(make=_inductor(cudagraphs=True, mode="max-autotune")),
    "inductor_max_autotune_no_cudagraphs": Compiler(
        make=_inductor(cudagraphs=False, mode="max-autotune-no-cudagraphs")
    ),
    "cudagraphs": Compiler(make=_backend("cudagraphs")),
    "ts_nnc": Compiler(make=_torchscript_nnc),
    "ts_nvfuser": Compiler(make=_gone("nvFuser left TorchScript with torch 2.2")),
    "ts_nvfuser_cudagraphs": Compiler(make=_backend("cudagraphs_ts")),
    "aot_nvfuser": Compiler(make=_backend("aot_ts_nvfuser")),
    "nvprims_nvfuser": Compiler(make=_backend("nvprims_nvfuser")),
    "trt": Compiler(make=_backend("tensorrt"), needs=("torch_tensorrt",), inference_only=True),
    "torchscript-onnx": Compiler(make=_onnx(dynamo=False), needs=("onnx", "onnxruntime"), inference_only=True),
    "dynamo-onnx": Compiler(make=_onnx(dynamo=True), needs=("onnx", "onnxscript", "onnxruntime"), inference_only=True),
}
"""Every row of the suite runner's table. What a torch no longer has is a row with that reason, not an error."""


@dataclass(frozen=True, kw_only=True)
class Capture:
    """What dynamo did while compiling: counters by the names of `records.COUNTERS`, and why graphs were broken."""

    counters: Mapping[str, int]
    breaks: Sequence[tuple[str, str]]


def forget_compilations() -> None:
    """Back to a state in which nothing was compiled in this process, on-disk caches aside."""
    import torch._inductor.utils as inductor_utils

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    clear = getattr(inductor_utils, "clear_caches", None) or getattr(inductor_utils, "clear_inductor_caches", None)
    if clear is not None:
        clear()


def compiled_graphs() -> int:
    """Graphs compiled so far in this process: it grows when something is compiled again."""
    return int(torch._dynamo.utils.counters["stats"].get("unique_graphs", 0))


def capture_so_far(graphs_at_first: int) -> Capture:
    """Counters and graph breaks up to now. `graphs_at_first`: `compiled_graphs()` after the first compiled call.

    Dynamo's own graph_break counter leaves out data-dependent branches, so the number of breaks is that of the
    reasons it kept, and at least the graphs of the first call less one (one top-level frame makes one graph).
    """
    counters = torch._dynamo.utils.counters
    breaks = [(str(item.reason).strip(), _stack(item.user_stack)) for item in torch._dynamo.utils.graph_break_reasons]
    known = {reason for reason, _ in breaks}
    counted = {str(reason).strip(): times for reason, times in counters["graph_break"].items()}
    breaks += [(reason, "") for reason in counted if reason not in known]
    count = max(len(breaks), sum(counted.values()), graphs_at_first - 1, 0)
    stats = counters["stats"]
    return Capture(
        counters={
            "calls_captured": int(stats.get("calls_captured", 0)),
            "unique_graphs": graphs_at_first,
            "fallbacks_to_eager": int(sum(counters["fallback_to_eager"].values()))
            if "fallback_to_eager" in counters
            else 0,
            "graph_breaks": count,
            "unique_graph_breaks": len(set(breaks)) or count,
            "autograd_captures": int(counters["compiled_autograd"].get("captures", 0)),
            "autograd_compiles": int(counters["compiled_autograd"].get("compiles", 0)),
            "cudagraph_skips": int(counters["inductor"].get("cudagraph_skips", 0)),
        },
        breaks=breaks,
    )


def _stack(frames: Sequence[Any]) -> str:
    """Innermost first. Links are followed: this package is reached through one in a folder named anew for each run."""
    return " < ".join(
        f"{os.path.realpath(frame.filename)}:{frame.lineno} in {frame.name}" for frame in reversed(frames)
    )
