"""Count what an iteration does, in place of timing it: numbers that are the same in every process, so that one more is
one too many.

Counting runs a few iterations of its own after the samples are taken. Where something cannot be counted, that number is
absent and a remark says why: it never ends a case.
"""

from __future__ import annotations

import hashlib
import re
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from torchperf_ci.worker.compile import compiled_graphs
from torchperf_ci.worker.memory import profile_iteration, runs_on_device
from torchperf_ci.worker.protocol import describe
from torchperf_ci.worker.timing import Arm, prepare_arm

_REGION = "Torch-Compiled Region"
"""The profiler's name for code of torch.compile that runs."""

_LOGGED = "torchperf-ci: logged iteration"
_BACKWARD = "autograd::engine::evaluate_function"
"""Begins the profiler's name for what autograd's own threads run; torch's modes go along into these."""

_COPIES = ("Memcpy", "Memset")
_ADDRESS = re.compile(r"0x[0-9a-f]{4,}")


@dataclass(slots=True)
class Counts:
    """Everything counted of an arm. metrics: by the names of `records.METRICS`. remarks: why something is absent.

    operators: every dispatched operator with its arguments, a line each. code: Inductor's, normalised.
    convolution_flops: the floating-point operations of convolutions, which may run in another precision.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    operators: Sequence[str] | None = None
    code: str | None = None
    convolution_flops: int = 0

    def digests(self) -> dict[str, str]:
        """Hash the operators and the code, as far as they are known."""
        texts = {
            "operators": None if self.operators is None else "\n".join(self.operators),
            "generated_code": self.code,
        }
        return {name: _hash(text) for name, text in texts.items() if text is not None}

    def details(self) -> dict[str, Any]:
        """Return what the digests are made of: how often each operator is called, and the code."""
        calls = Counter(line.partition(" = ")[2].partition("(")[0] for line in self.operators or ())
        return {"operators": [[name, number] for name, number in calls.items()], "code": self.code or ""}


def join_digests(ranks: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """Make one digest of those of all processes of a case, where all have one."""
    first, *others = ranks
    if not others:
        return first
    return {name: _hash("\n".join(each[name] for each in ranks)) for name in first if all(name in o for o in others)}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True, kw_only=True)
class IterationCounter:
    """Counts one settled iteration of an arm: its allocations, the operators that it dispatches, its kernels.

    eager: the plain program, whose floating-point operations are those of every arm; None where there is none.
    code: Inductor's, where the arm is compiled. is_compiled: whether dynamo has made a graph of the arm.
    """

    arm: Arm
    eager: Arm | None
    device: torch.device
    code: GeneratedCode | None
    is_compiled: bool
    _regions: int = field(default=0, init=False)
    _uses_threads: bool = field(default=False, init=False)
    _counts: Counts = field(default_factory=Counts, init=False)

    def count(self) -> Counts:
        for name, step in (
            ("allocations", self._count_events),
            ("operators", self._log_operators),
            ("floating-point operations", self._count_flops),
            ("generated kernels", self._read_code),
        ):
            try:
                step()
            except Exception as error:  # noqa: BLE001 - a model, and torch's modes, may raise anything
                why = _ADDRESS.sub("0x…", describe(error))
                self._counts.remarks.append(f"{name} could not be counted: {why}")
        return self._counts

    def _count_events(self) -> None:
        events = profile_iteration(self.device, self.arm, lambda: prepare_arm(self.arm, 1))
        if events is None:
            self._counts.remarks.append("allocations could not be counted: this torch's profiler has no events")
            return
        self._regions = _count_regions(events)
        self._counts.metrics |= _count_events(events, self.device)

    def _log_operators(self) -> None:
        """Log the operators of an iteration, and look whether compiled code still ran as it is.

        Modes and the profiler's events of memory belong to a thread. Where the model uses threads of its own, these
        counts would leave out their part, so there are none.
        """
        log, before = OperatorLog(), compiled_graphs()

        def iterate() -> None:
            with torch.profiler.record_function(_LOGGED), log:
                self.arm()

        def prepare() -> None:
            prepare_arm(self.arm, 1)
            log.clear()

        events = profile_iteration(self.device, iterate, prepare, all_threads=True) or ()
        regions = _count_regions(events)
        self._uses_threads = _find_other_threads(events)
        if self._uses_threads:
            self._counts.metrics.clear()
            why = "the model runs operators in threads of its own, which are not seen"
            self._counts.remarks.append(f"operators, FLOPs and allocations could not be counted: {why}")
        elif compiled_graphs() != before:
            self._counts.remarks.append("operators could not be counted: dynamo compiled again meanwhile")
        elif self.is_compiled and (regions != self._regions or not regions):
            why = "this torch runs compiled code eagerly meanwhile"
            self._counts.remarks.append(f"operators could not be counted: {why}")
        else:
            self._counts.operators = log.lines
            self._counts.metrics["operators"] = len(log.lines)

    def _count_flops(self) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        if self.eager is None or self._uses_threads:
            return
        prepare_arm(self.eager, 1)
        with FlopCounterMode(display=False, custom_mapping=_count_attention_on_cpu()) as counter:
            self.eager()
        self._counts.metrics["flops"] = counter.get_total_flops()
        by_operator = counter.get_flop_counts().get("Global", {})
        self._counts.convolution_flops = sum(
            count for operator, count in by_operator.items() if "convolution" in str(operator)
        )

    def _read_code(self) -> None:
        texts = [normalise_code(text) for text in self.code.read()] if self.code else []
        if texts:
            self._counts.code = "\n".join(sorted(texts))
            self._counts.metrics["generated_kernels"] = sum(map(count_kernel_calls, texts))


def _count_attention_on_cpu() -> dict[Any, Callable[..., int]]:
    """Return torch's formulas of attention for its operators on a CPU: torch has them for those of accelerators alone.

    Each is called with the shapes of the operator's arguments.
    """
    from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

    def forward(query: Any, key: Any, value: Any, *_: object, **__: object) -> int:  # noqa: ANN401 - torch's shapes
        return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]

    def backward(gradient: Any, query: Any, key: Any, value: Any, *_: object, **__: object) -> int:  # noqa: ANN401
        return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]

    aten = torch.ops.aten
    return {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


def _count_regions(events: Sequence[Any]) -> int:
    return sum(event.name().startswith(_REGION) for event in events)


def _find_other_threads(events: Sequence[Any]) -> bool:
    """Tell whether a thread that is neither the one that iterates nor one of autograd's ran an operator."""
    own = next((event.start_thread_id() for event in events if event.name() == _LOGGED), None)
    first: dict[int, Any] = {}
    for event in events:
        if event.device_type().name == "CPU" and event.name() != "[memory]":
            earliest = first.setdefault(event.start_thread_id(), event)
            if event.start_ns() < earliest.start_ns():
                first[event.start_thread_id()] = event
    others = [event for thread, event in first.items() if thread != own]
    return own is not None and any(not event.name().startswith(_BACKWARD) for event in others)


def _count_events(events: Sequence[Any], device: torch.device) -> dict[str, float]:
    """Count the allocations on the device and, where it has a profiler, the kernels that ran on it."""
    kind = device.type.upper()
    taken = [
        event.nbytes()
        for event in events
        if event.name() == "[memory]" and event.device_type().name == kind and event.nbytes() > 0
    ]
    metrics: dict[str, float] = {"allocations": len(taken), "allocated_bytes": sum(taken)}
    launches = sum(runs_on_device(event, device) and not event.name().startswith(_COPIES) for event in events)
    return {**metrics, "kernel_launches": launches} if launches else metrics


class OperatorLog(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Writes a line per dispatched operator, with what it is called with; a tensor has a number, a type and a layout.

    The same program makes the same lines: a tensor's number is that of its first appearance, not its address. An
    operator of a higher order (`torch.cond`, flex attention) is one line, with the code that it is given.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lines: list[str] = []
        self._numbers: dict[int, tuple[int, Any]] = {}
        self._next = 0

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let compiled code run as it is (torch 2.8 and later; older ones do so by themselves)."""
        return True

    def clear(self) -> None:
        self.lines.clear()
        self._numbers.clear()
        self._next = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - as torch has it
        given = [self._write(value) for value in args]
        given += [f"{name}={self._write(value)}" for name, value in (kwargs or {}).items()]
        result = func(*args, **(kwargs or {}))
        line = f"{self._write(result)} = {func}({', '.join(given)})"
        self.lines.append(_ADDRESS.sub("0x…", line))
        return result

    def _write(self, value: Any) -> str:  # noqa: ANN401 - any argument of an operator
        if isinstance(value, torch.Tensor):
            return f"%{self._number_of(value)}:{_describe_tensor(value)}"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(self._write, value))}]"
        if isinstance(value, Mapping):
            return f"{{{', '.join(f'{key}: {self._write(item)}' for key, item in value.items())}}}"
        if isinstance(value, torch.fx.GraphModule):
            return value.code
        if value is None or isinstance(value, (bool, int, float, complex, str)):
            return repr(value)
        if isinstance(value, (torch.dtype, torch.device, torch.layout, torch.memory_format)):
            return str(value)
        return getattr(value, "__qualname__", None) or type(value).__qualname__

    def _number_of(self, tensor: torch.Tensor) -> int:
        key = id(tensor)
        if key not in self._numbers:
            numbers = self._numbers

            def forget(_: object) -> None:  # what is gone leaves its id to others
                numbers.pop(key, None)

            self._numbers[key] = self._next, weakref.ref(tensor, forget)
            self._next += 1
        return self._numbers[key][0]


def _describe_tensor(tensor: torch.Tensor) -> str:
    """Write a tensor's type, shape, strides and device, and its class where it is another one."""
    strides = list(tensor.stride()) if tensor.layout is torch.strided else tensor.layout
    kind = "" if type(tensor) in {torch.Tensor, torch.nn.Parameter} else f" {type(tensor).__qualname__}"
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}{strides} {tensor.device}{kind}"


class GeneratedCode:
    """Inductor's output code of what is compiled from now on: one text per graph, also where it came from a cache.

    Each graph's code is a module that Inductor's `PyCodeCache` loads from a file, whether it was written now or by an
    earlier process. Kernels that are loaded by themselves have no `call`.
    """

    def __init__(self) -> None:
        self._before = {id(module) for module in _loaded_modules()}

    def read(self) -> list[str]:
        """Read the texts, in the order in which they were loaded. Raises `OSError` where a file is gone."""
        modules = [module for module in _loaded_modules() if id(module) not in self._before]
        paths = [module.__file__ for module in modules if hasattr(module, "call") and module.__file__]
        return [Path(path).read_text(encoding="utf-8") for path in paths]


def _loaded_modules() -> Sequence[ModuleType]:
    from torch._inductor.codecache import PyCodeCache

    loaded = getattr(PyCodeCache, "modules", None)
    if loaded is None:  # torch 2.4
        loaded = list(PyCodeCache.cache.values())  # type: ignore[attr-defined, unused-ignore]
    return list(loaded)


_COMMENT = re.compile(r"^\s*(#|#\s.*|//.*)$\n?", re.MULTILINE)
_FOLDER = re.compile(r"""(?<=["'\s(<])/(?:[^/\s"'()<>]+/)+""")
_HASH = re.compile(r"\b[a-z2-7]{50,54}\b|\b[0-9a-fA-F]{64}\b")
_BACKEND = re.compile(r"(['\"]backend_hash['\"]:\s*)['\"][^'\"]*['\"]")


def normalise_code(text: str) -> str:
    """Take out of generated code what differs between equal programs: comments, folders, and names made of hashes."""
    text = _BACKEND.sub(r"\1'…'", _FOLDER.sub("", _COMMENT.sub("", text)))
    return _HASH.sub("…", text)


_KERNEL = re.compile(r"^(\w+) = async_compile\.\w+\(", re.MULTILINE)


def count_kernel_calls(text: str) -> int:
    """Count the places in a graph's normalised code that call a kernel of Inductor's own: each runs once per call of
    the graph."""
    names = "|".join(map(re.escape, set(_KERNEL.findall(text))))
    return len(re.findall(rf"(?<!def )\b(?:{names})(?:\.run)?\(", text)) if names else 0
