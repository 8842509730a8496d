"""The compilers by name: how each makes a callable of a module, why one cannot run here, what artefacts they leave."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from torchperf_ci.worker.accelerators import is_of_device
from torchperf_ci.worker.load import Workload
from torchperf_ci.worker.protocol import CaseError

Compiled = Callable[..., Any]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The choices of the caller about a compiler. `inductor_mode`: `--inductor-compile-mode`.

    dynamic: whether shapes are compiled for as unknown; None leaves it to torch.
    """

    inductor_mode: str | None = None
    dynamic: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """`make(workload, options)` returns what is called in place of the original; `needs` are modules it imports.

    uses_dynamo: torch.compile makes it, so it can be given a whole step, and counts its graphs.
    cudagraphs: it may record CUDA graphs, which the first calls only warm up.
    """

    make: Callable[[Workload, Options], Compiled]
    needs: tuple[str, ...] = ()
    inference_only: bool = False
    uses_dynamo: bool = True
    cudagraphs: bool = False


AS_IT_IS = "none"
"""The compiler that is none: what is measured runs as it is."""


def compiler_names() -> list[str]:
    """List every compiler that can be asked for: the suite runner's, none at all, then torch's own backends."""
    return list(dict.fromkeys([*_COMPILERS, AS_IT_IS, *torch._dynamo.list_backends(exclude_tags=())]))


def uses_dynamo(name: str) -> bool:
    """Tell whether torch.compile makes what this compiler returns."""
    return name != AS_IT_IS and _compiler(name).uses_dynamo


def calls_until_recorded(name: str, device: torch.device) -> int:
    """Say which call of the compiled code is the first that runs as timed ones do: with CUDA graphs the third."""
    if name == AS_IT_IS:
        return 1
    return 3 if _compiler(name).cudagraphs and device.type == "cuda" else 1


def _compiler(name: str) -> Compiler:
    return _COMPILERS.get(name) or Compiler(make=partial(_use_backend, name), cudagraphs="cudagraphs" in name)


def compile_workload(name: str, workload: Workload, options: Options) -> Compiled:
    """Compile the workload. Raises `CaseError("compiler_not_available")` when this torch cannot run it here."""
    compiler = _compiler(name)
    missing = [module for module in compiler.needs if importlib.util.find_spec(module) is None]
    if missing:
        raise CaseError("compiler_not_available", f"{name} needs {' and '.join(missing)}, not installed here")
    if compiler.inference_only and workload.training:
        raise CaseError("compiler_not_available", f"{name} can only run inference")
    return compiler.make(workload, options)


def _use_backend(backend: str, workload: Workload, options: Options) -> Compiled:
    """Compile with a backend of torch.compile, which may be missing in this torch, or lack its library."""
    known = torch._dynamo.list_backends(exclude_tags=())
    if backend not in known:
        raise CaseError("compiler_not_available", f"torch {torch.__version__} has no backend {backend}")
    if backend == "cudagraphs" and workload.device.type != "cuda":
        raise CaseError("compiler_not_available", "cudagraphs needs a CUDA device")
    try:
        torch._dynamo.lookup_backend(backend)
    except (ImportError, torch._dynamo.exc.InvalidBackend) as error:
        if is_of_device(error):  # its library is there, and broken
            raise
        raise CaseError("compiler_not_available", f"{backend}: {error}") from error
    return torch.compile(workload.to_compile, backend=backend, dynamic=options.dynamic)


def _use_inductor(workload: Workload, options: Options, *, cudagraphs: bool, mode: str | None = None) -> Compiled:
    """Compile with inductor.

    CUDA graphs are switched as the suite runner's flags do; `mode` is torch.compile's, but for them.
    """
    import torch._inductor.config as config

    if workload.device.type == "cpu":  # forks have it from their preloaded process
        importlib.import_module("torchperf_ci.worker.cpp_compiler")
    config.triton.cudagraphs = cudagraphs and workload.device.type == "cuda"
    chosen = mode or options.inductor_mode
    if chosen is None:
        return torch.compile(workload.to_compile, backend="inductor", dynamic=options.dynamic)
    switches = {**torch._inductor.list_mode_options(chosen), "triton.cudagraphs": config.triton.cudagraphs}
    return torch.compile(workload.to_compile, backend="inductor", options=switches, dynamic=options.dynamic)


def _torchscript_nnc(workload: Workload, options: Options) -> Compiled:  # noqa: ARG001 - every compiler is called alike
    """Trace under TorchScript, fused by NNC, as the suite runner does it."""
    torch._C._jit_set_texpr_fuser_enabled(True)  # noqa: FBT003 - torch's signature
    torch._C._jit_override_can_fuse_on_cpu(True)  # noqa: FBT003
    torch._C._jit_override_can_fuse_on_gpu(True)  # noqa: FBT003
    args, _ = workload.fresh_inputs()
    with workload.autocast():
        return torch.jit.trace(  # type: ignore[no-untyped-call, no-any-return]  # torch leaves it untyped
            workload.original, args, check_trace=False, strict=False
        )


def _use_onnx(workload: Workload, options: Options, *, dynamo: bool) -> Compiled:  # noqa: ARG001 - as above
    """Export to ONNX, and run ONNX Runtime on the same device."""
    if workload.function is not None or workload.in_turn:
        raise CaseError("compiler_not_available", "ONNX is exported of a module with one input, and this is none")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(workload.module, workload.args, path, kwargs=dict(workload.kwargs), dynamo=dynamo)
        return _OnnxSession(path, workload.device)


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


def _refuse(reason: str, workload: Workload, options: Options) -> Compiled:  # noqa: ARG001 - as above
    raise CaseError("compiler_not_available", reason)


_COMPILERS: Mapping[str, Compiler] = {
    "eager": Compiler(make=partial(_use_backend, "eager")),
    "aot_eager": Compiler(make=partial(_use_backend, "aot_eager")),
    "inductor": Compiler(make=partial(_use_inductor, cudagraphs=True), cudagraphs=True),
    "inductor_no_cudagraphs": Compiler(make=partial(_use_inductor, cudagraphs=False)),
    "inductor_max_autotune": Compiler(
        make=partial(_use_inductor, cudagraphs=True, mode="max-autotune"), cudagraphs=True
    ),
    "inductor_max_autotune_no_cudagraphs": Compiler(
        make=partial(_use_inductor, cudagraphs=False, mode="max-autotune-no-cudagraphs")
    ),
    "cudagraphs": Compiler(make=partial(_use_backend, "cudagraphs"), cudagraphs=True),
    "ts_nnc": Compiler(make=_torchscript_nnc, uses_dynamo=False),
    "ts_nvfuser": Compiler(make=partial(_refuse, "nvFuser left TorchScript with torch 2.2"), uses_dynamo=False),
    "ts_nvfuser_cudagraphs": Compiler(make=partial(_use_backend, "cudagraphs_ts"), cudagraphs=True),
    "aot_nvfuser": Compiler(make=partial(_use_backend, "aot_ts_nvfuser")),
    "nvprims_nvfuser": Compiler(make=partial(_use_backend, "nvprims_nvfuser")),
    "trt": Compiler(make=partial(_use_backend, "tensorrt"), needs=("torch_tensorrt",), inference_only=True),
    "torchscript-onnx": Compiler(
        make=partial(_use_onnx, dynamo=False), needs=("onnx", "onnxruntime"), inference_only=True, uses_dynamo=False
    ),
    "dynamo-onnx": Compiler(
        make=partial(_use_onnx, dynamo=True),
        needs=("onnx", "onnxscript", "onnxruntime"),
        inference_only=True,
        uses_dynamo=False,
    ),
}
"""Every row of the suite runner's table. What a torch no longer has is a row with that reason, not an error."""


@dataclass(frozen=True, kw_only=True)
class Capture:
    """The work of dynamo while compiling: counters by the names of `records.COUNTERS`, and why graphs were broken."""

    counters: Mapping[str, int]
    breaks: Sequence[tuple[str, str]]
    remarks: Sequence[str] = ()


class GraphCounter:
    """Counts what dynamo compiles from `start` on, apart from what eager calls compile by themselves.

    has_forgotten: eager calls had compiled something when it began, which they will have to compile once more.
    """

    def __init__(self) -> None:
        self._compiles_before: Mapping[Any, int] = {}
        self._compiles_aside: Counter[Any] = Counter()
        self._first_graphs: int | None = None
        self._first_recompiles = 0
        self.has_forgotten = False
        self._kept: Capture | None = None
        self._limits = _LimitLog()

    def start(self) -> None:
        """Begin to count, in a process that has compiled nothing of what comes."""
        self.has_forgotten = compiled_graphs() > 0
        if self.has_forgotten:
            forget_compilations()
        torch._dynamo.utils.counters.clear()
        torch._dynamo.utils.graph_break_reasons.clear()
        self._compiles_before = dict(_compiles_by_frame())
        self._compiles_aside.clear()
        self._first_graphs = self._kept = None
        self._limits.start()

    def first_call_is_over(self) -> None:
        """Keep the number of graphs of the first compiled call: later ones are compiled again, not broken."""
        if self._first_graphs is None:
            self._first_graphs, self._first_recompiles = compiled_graphs(), self.recompiles()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Count nothing of what is compiled in the block: torch counts a frame's, whichever arm it is compiled for."""
        before = Counter(_compiles_by_frame())
        try:
            yield
        finally:
            self._compiles_aside.update(Counter(_compiles_by_frame()) - before)

    def recompiles(self) -> int:
        """Count how often a frame that had been compiled was compiled again since `start`."""
        return sum(
            max(0, times - self._compiles_aside[frame] - max(1, self._compiles_before.get(frame, 0)))
            for frame, times in _compiles_by_frame().items()
        )

    def stop(self) -> None:
        """Keep what was counted: what comes are timed calls of all arms. Recompiles are counted on."""
        self._kept = self._read()

    def read(self) -> Capture:
        """Return counters and graph breaks up to `stop`, recompiles and remarks up to now."""
        captured = self._kept or self._read()
        counters = {**captured.counters, "recompiles": self.recompiles()}
        return Capture(counters=counters, breaks=captured.breaks, remarks=tuple(self._limits.messages))

    def _read(self) -> Capture:
        """Read dynamo's counters.

        Its own graph_break counter leaves out data-dependent branches, so the number of breaks is that of the
        reasons it kept, and at least the graphs of the first call less one (one top-level frame makes one graph), those
        aside that were compiled again in it, for another shape.
        """
        graphs = self._first_graphs or 0
        counters = torch._dynamo.utils.counters
        kept = torch._dynamo.utils.graph_break_reasons
        breaks = [(str(item.reason).strip(), _stack(item.user_stack)) for item in kept]
        known = {reason for reason, _ in breaks}
        counted = {str(reason).strip(): times for reason, times in counters["graph_break"].items()}
        breaks += [(reason, "") for reason in counted if reason not in known]
        count = max(len(breaks), sum(counted.values()), graphs - 1 - self._first_recompiles, 0)
        return Capture(
            counters={
                "calls_captured": int(counters["stats"].get("calls_captured", 0)),
                "unique_graphs": graphs,
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


class _LimitLog(logging.Handler):
    """Hears from dynamo's log when it gives a function up because it was compiled too often."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def start(self) -> None:
        self.messages = []
        log = logging.getLogger("torch._dynamo.convert_frame")
        if self not in log.handlers:
            log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if "hit config." not in message:
            return
        lines = [line.strip() for line in message.splitlines()]
        function = next((line for line in lines if line.startswith("function:")), "")
        reason = next((line for line in lines if line.startswith("last reason:")), "")
        limit = lines[0].partition("hit config.")[2]
        self.messages.append(f"torch's limit {limit} was reached, and the rest runs eagerly; {function}; {reason}")


class ShapeWatch:
    """Adds up the time that recompiling takes while inputs of several shapes are run in turn for the first time.

    It stands in the place of the compiled callable. The first call of all compiles; a later one that compiles again
    does so for another shape.
    """

    def __init__(self, compiled: Compiled, graphs: GraphCounter) -> None:
        self.compiled, self._graphs = compiled, graphs
        self.seconds = 0.0
        self._is_first = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - a module's signature
        before, start = self._graphs.recompiles(), time.perf_counter()
        result = self.compiled(*args, **kwargs)
        seconds, recompiles = time.perf_counter() - start, self._graphs.recompiles() - before
        if self._is_first:
            self._is_first = False
            self._graphs.first_call_is_over()
        elif recompiles:
            self.seconds += seconds
        return result


def _compiles_by_frame() -> Mapping[Any, int]:
    from torch._dynamo import convert_frame

    frames: Mapping[Any, int] = getattr(convert_frame, "FRAME_COMPILE_COUNTER", {})
    return frames


def why_nothing_compiled() -> str:
    """Say what keeps torch.compile from compiling anything, as far as settings tell."""
    if os.environ.get("TORCH_COMPILE_DISABLE") == "1" or os.environ.get("TORCHDYNAMO_DISABLE") == "1":
        return "nothing was compiled: TORCH_COMPILE_DISABLE or TORCHDYNAMO_DISABLE is set"
    if torch._dynamo.config.suppress_errors:
        return "nothing was compiled: no graph was made, and torch._dynamo.config.suppress_errors hides why"
    return "nothing was compiled: dynamo made no graph of it, so the model ran uncompiled"


def forget_compilations() -> None:
    """Go back to a state in which nothing was compiled in this process, on-disk caches aside."""
    import torch._inductor.utils as inductor_utils

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    clear = getattr(inductor_utils, "clear_caches", None) or getattr(inductor_utils, "clear_inductor_caches", None)
    if clear is not None:
        clear()


def compiled_graphs() -> int:
    """Count the graphs compiled so far in this process: it grows when something is compiled again."""
    return int(torch._dynamo.utils.counters["stats"].get("unique_graphs", 0))


def _stack(frames: Sequence[Any]) -> str:
    """Write a stack in a line, innermost first.

    Links are followed: this package is reached through one in a folder named anew for each run.
    """
    return " < ".join(
        f"{os.path.realpath(frame.filename)}:{frame.lineno} in {frame.name}" for frame in reversed(frames)
    )


_LONGEST = 20_000
"""Lines that are kept of all graphs."""

_LOGS = ("graph_code", "graph_breaks", "recompiles")
_FILE = re.compile(r"# File: (?P<file>.+?):(?P<line>\d+) in (?P<function>\S+), code: (?P<code>.*)")
_BREAK = re.compile(r"Graph [Bb]reak.* in user code at (?P<file>.+?):(?P<line>\d+)")
_REASON = re.compile(r"(?:Graph Break )?Reason: *(?P<reason>.*(?:\n+.*)?)")
_GENERAL = "Encountered graph break when attempting to trace"
_SECOND = "Failed to handle graph break gracefully"
"""Begins what dynamo says when it gives a frame up for a break that it has named already."""
_RECOMPILED = re.compile(r"Recompiling function (?P<name>\S+) in (?P<file>.+?):(?P<line>\d+)")
_RESUMED = re.compile(r"torch_dynamo_resume_in_(\w+)_at_\d+")


class CompileLog(logging.Handler):
    """Hears what dynamo says of its graphs from `start` on; in the torch of the worker, these logs are for all to read.

    graphs: of each the lines of its code with the place that a line comes from. breaks: reason and place.
    recompiles: function, place and the guards that failed.
    """

    def __init__(self, shorten: Callable[[str], str]) -> None:
        """shorten: writes the path of a file as people know it."""
        super().__init__(logging.DEBUG)
        self._shorten = shorten
        self.graphs: list[list[tuple[str, str]]] = []
        self.breaks: list[tuple[str, str]] = []
        self.recompiles: list[tuple[str, str, str]] = []

    def start(self) -> None:
        """Begin to hear, and let inductor's own kernels be named in profiles on a CPU, as they are on a device."""
        import torch._inductor.config as inductor
        from torch._logging._internal import log_registry, log_state

        inductor.cpp.enable_kernel_profile = True
        log_state.enable_artifact("recompiles")  # dynamo asks this, not the log
        for name in log_registry.artifact_log_qnames:
            if name.rpartition(".")[2].removeprefix("__") in _LOGS:
                log = logging.getLogger(name)
                log.setLevel(logging.DEBUG)
                log.propagate = False
                log.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        kind, text = record.name.rpartition(".")[2].removeprefix("__"), record.getMessage()
        if kind == "graph_code":
            self._note_graph(text)
        elif kind == "graph_breaks" and (place := _BREAK.search(text)):
            reason = _REASON.search(text)
            said = list(filter(None, reason["reason"].splitlines())) if reason else [text.splitlines()[0]]
            if not said[0].startswith(_SECOND):
                self.breaks.append((said[-1 if said[0].startswith(_GENERAL) else 0], self._write_place(place)))
        elif kind == "recompiles" and (place := _RECOMPILED.search(text)):
            guards = [line.strip(" -") for line in text.splitlines()[1:] if line.strip().startswith("-")]
            self.recompiles.append((_name_function(place["name"]), self._write_place(place), "; ".join(guards)))

    def _note_graph(self, text: str) -> None:
        lines: list[tuple[str, str]] = []
        place = ""
        if sum(map(len, self.graphs)) > _LONGEST:
            return
        _, _, body = text.partition("class GraphModule")
        for line in map(str.strip, body.splitlines()[1:]):
            if source := _FILE.match(line):
                place = self._write_place(source)
                lines.append((f"# {_name_function(source['function'])}: {source['code']}", place))
            elif line and not line.startswith("#"):
                lines.append((line.partition(";  ")[0], place))
        self.graphs.append(lines)

    def _write_place(self, match: re.Match[str]) -> str:
        return f"{self._shorten(match['file'])}:{match['line']}"

    def reply(self) -> dict[str, Any]:
        """Return it as JSON, with the seconds of each phase of compiling so far, by torch's names; phases lie within
        others."""
        phases = torch._dynamo.utils.compilation_time_metrics
        return {
            "graphs": self.graphs,
            "breaks": self.breaks,
            "recompiles": self.recompiles,
            "phases": {name: float(sum(times)) for name, times in phases.items()},
        }


def _name_function(name: str) -> str:
    """Name the function that the user wrote, of one that dynamo made to go on after a break."""
    return _RESUMED.sub(r"\1", name)
