"""Profile iterations under torch's profiler: what they call, how long each of it takes, where it was called from, and
what fills the memory at its peak.

Two ways: `profile_calls` hears of operators and kernels alone, over many iterations, and disturbs times little.
`inspect_iteration` hears of every Python function as well, in one iteration: it tells places, not times.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import time
import types
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from torchperf_ci.worker.content import Places
from torchperf_ci.worker.memory import make_profiler, runs_on_device
from torchperf_ci.worker.timing import Arm, finish_arm, prepare_arm, synchronizer

MOST_STACKS = 3000
"""Stacks that are kept for a flame graph; the shortest are left out."""

_MOST_EVENTS = 6_000
"""Events after which no further iteration is profiled: each costs microseconds to be read."""

_MARK = "torchperf: iteration"
_COMPREHENSIONS = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
"""Functions that Python makes of a part of another one; from 3.12 on most are no functions any more."""

_BACKWARD = "autograd::engine::evaluate_function: "
_MADE_UP = re.compile(r"^graph_\d+_(?=cpp_)|(?<=Call CompiledFxGraph )\w+ |(?<=Torch-Compiled Region): \S+|0x[0-9a-f]+")


def spoken_name(name: str) -> str:
    """Take out of an event's name what differs between equal programs: numbers of graphs, hashes, addresses."""
    return _MADE_UP.sub("", name)


def profile_calls(arm: Arm, device: torch.device, *, seconds: float) -> dict[str, Any]:
    """Profile iterations for about so many seconds, at least one.

    Returns `{"iterations", "wall", "outside", "events", "host", "device"}`: the median nanoseconds of an iteration, and
    of it outside operators; the mean number of events; host and device are lists of a name, its calls and its own
    nanoseconds, per iteration.
    """
    from torch.profiler import record_function

    synchronize = synchronizer(device)
    walls: list[int] = []

    def iterate() -> None:
        prepare_arm(arm, 1)
        synchronize()
        start = time.perf_counter_ns()
        with record_function(_MARK):
            arm()
            synchronize()
        walls.append(time.perf_counter_ns() - start)
        finish_arm(arm)

    with make_profiler(device) as profiled:  # what the profiler sets up at first is no part of what counts
        iterate()
    most = max(1, _MOST_EVENTS // max(1, len(profiled.profiler.kineto_results.events())))
    with make_profiler(device) as profiled:
        iterate()
        walls.clear()
        end = time.monotonic() + seconds
        while not walls or (time.monotonic() < end and len(walls) < most):
            iterate()
    results = profiled.profiler.kineto_results
    roots = results.experimental_event_tree()
    marks = sorted((node for node in roots if node.name == _MARK), key=lambda node: node.start_time_ns)[-len(walls) :]
    host = [_Tally() for _ in marks]
    in_operators = [0] * len(marks)  # in the thread of the caller
    on_device = [_Tally() for _ in marks]
    for place, (mark, tally) in enumerate(zip(marks, host, strict=True)):
        others = [node for node in roots if node.start_tid != mark.start_tid and _is_within(node.start_time_ns, mark)]
        for node in _walk([*mark.children, *others]):
            if _is_operator(node):
                own_time = _own_time(node)
                tally.add(node.name, own_time, calls=not _is_inner(node))
                in_operators[place] += own_time if node.start_tid == mark.start_tid else 0
    for event in results.events() if device.type != "cpu" else ():
        for mark, tally in zip(marks, on_device, strict=True) if runs_on_device(event, device) else ():
            if _is_within(event.start_ns(), mark):
                tally.add(event.name(), event.duration_ns())
    return {
        "iterations": len(walls),
        "wall": median(walls),
        "outside": median(wall - own for wall, own in zip(walls, in_operators, strict=True)),
        "events": sum(tally.calls.total() for tally in host) / len(walls),
        "host": _join(host),
        "device": _join(on_device),
    }


@dataclass(slots=True)
class _Tally:
    """The calls of one iteration, and their nanoseconds, by name."""

    calls: Counter[str] = field(default_factory=Counter)
    times: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, nanoseconds: int, *, calls: int = 1) -> None:
        name = spoken_name(name)
        self.calls[name] += calls
        self.times[name] += nanoseconds


def _join(tallies: Sequence[_Tally]) -> list[list[Any]]:
    """Join iterations: of each name the mean number of calls and the median time."""
    names = dict.fromkeys(name for tally in tallies for name in tally.calls)
    return [
        [name, sum(t.calls[name] for t in tallies) / len(tallies), median(t.times[name] for t in tallies)]
        for name in names
    ]


def _is_within(nanoseconds: int, mark: Any) -> bool:  # noqa: ANN401 - a node of torch's profiler
    return bool(mark.start_time_ns <= nanoseconds <= mark.end_time_ns)


def _walk(nodes: Sequence[Any]) -> Iterator[Any]:
    pending = [*nodes]
    while pending:
        node = pending.pop()
        yield node
        pending += node.children


def _is_operator(node: Any) -> bool:  # noqa: ANN401 - a node of torch's profiler
    return bool(node.tag.name == "TorchOp" and node.name != _MARK)


def _is_inner(node: Any) -> bool:  # noqa: ANN401 - as above
    """Say whether an operator is within another of the same name, as overloads call each other: that is one call."""
    return node.parent is not None and bool(node.parent.name == node.name)


def _is_python(node: Any) -> bool:  # noqa: ANN401 - as above
    return node.tag.name in {"PyCall", "PyCCall"}


def _own_time(node: Any) -> int:  # noqa: ANN401 - as above
    """Return the nanoseconds that nothing below a node took."""
    below = sum(
        child.duration_time_ns
        for child in node.children
        if (_is_operator(child) or _is_python(child)) and child.start_tid == node.start_tid
    )
    return max(0, int(node.duration_time_ns) - int(below))


class Sources:
    """Names the files that the profiler speaks of: it leaves out the entry of `sys.path` that they lie below."""

    def __init__(self) -> None:
        self._places = Places()
        self._known: dict[str, tuple[str, str]] = {}

    def find(self, file: str) -> tuple[str, str]:
        """Return whose a file is (see `Places.kind_of`) and its path below the side's own tree, or as it is known."""
        if file not in self._known:
            # Names that begin with < are of no file; what the profiler shortens is below an entry of sys.path.
            roots = [""] if os.path.isabs(file) or file.startswith("<") else [*sys.path, os.getcwd()]  # noqa: PTH109, PTH117
            paths = [os.path.join(root, file) for root in roots]  # noqa: PTH118 - text, as the profiler gives it
            full = next(filter(os.path.exists, paths), "")
            self._known[file] = (self._places.kind_of(full), self.shorten(full)) if full else ("generated", file)
        return self._known[file]

    def shorten(self, path: str) -> str:
        """Write a path below the tree, or below the folder of the packages, without that folder."""
        real = os.path.realpath(path) if os.path.isabs(path) else path  # noqa: PTH117
        for root in (self._places.tree, *sys.path):
            if root and real.startswith(root.rstrip(os.sep) + os.sep):
                return real[len(root.rstrip(os.sep)) + 1 :]
        return real

    def is_own(self, file: str) -> bool:
        return self.find(file)[0] == "own"


@dataclass(slots=True)
class Inspection:
    """Everything that was seen in one iteration.

    operators: calls by name, place and inputs. functions: Python functions by file, first line and name: calls,
    nanoseconds of their own with what they call of C. stacks: nanoseconds by stack, outermost first. peak: bytes that
    lived when most did, by operator and place. lines: of the side's own files, those that ran.
    """

    device: torch.device
    sources: Sources = field(default_factory=Sources)
    operators: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    functions: dict[tuple[str, int, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    stacks: Counter[tuple[str, ...]] = field(default_factory=Counter)
    peak: Counter[tuple[str, str]] = field(default_factory=Counter)
    lines: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    _forward: dict[int, str] = field(default_factory=dict, init=False)
    _allocations: list[tuple[int, Any, str, str]] = field(default_factory=list, init=False)

    def read(self, nodes: Sequence[Any]) -> None:
        """Read everything below the nodes, in the order of time: backward finds its place by the forward before it."""
        latest_first = sorted(nodes, key=lambda one: -one.start_time_ns)
        pending: list[tuple[Any, tuple[str, ...], str, str, bool]] = [
            (node, (), "", "", False) for node in latest_first
        ]
        while pending:
            node, stack, place, operator, is_backward = pending.pop()
            tag = node.tag.name
            if tag == "Allocation":
                self._allocations.append((node.start_time_ns, node.extra_fields, operator, place))
                continue
            if _is_python(node):
                place = self._place_of(node) or place
                stack = self._note_python(node, stack)
            elif _is_operator(node):
                number = node.extra_fields.sequence_number
                if node.name.startswith(_BACKWARD):
                    is_backward, place = True, self._forward.get(number, place)
                elif number >= 0 and not is_backward:
                    self._forward[number] = place
                name = spoken_name(node.name)
                if not _is_inner(node):
                    self.operators[name, place, _write_inputs(node.extra_fields)] += 1
                stack = (*stack, name)
                operator = operator if "::" in operator else name  # what has no namespace is around compiled code
                self.stacks[stack] += _own_time(node)
            pending += [(child, stack, place, operator, is_backward) for child in reversed(node.children)]
        self._find_peak()

    def _place_of(self, node: Any) -> str:  # noqa: ANN401 - a node of torch's profiler
        """Return the place of a node in the side's own code: the function that it calls, or the line that calls another
        one's function; blank elsewhere."""
        if node.tag.name == "PyCall":
            file, line, _ = _function_of(node)
            if self.sources.is_own(file):
                return f"{self.sources.find(file)[1]}:{line}"
        caller = node.extra_fields.caller
        if caller is None or not self.sources.is_own(caller.file_name):
            return ""
        return f"{self.sources.find(caller.file_name)[1]}:{caller.line_number}"

    def _note_python(self, node: Any, stack: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ANN401 - as above
        """Note the time of a function; that of C, and of a comprehension, is charged to the function it stands in."""
        own_time = _own_time(node)
        if node.tag.name == "PyCCall" or _function_of(node)[2] in _COMPREHENSIONS:
            above = node.parent
            while above is not None and (above.tag.name != "PyCall" or _function_of(above)[2] in _COMPREHENSIONS):
                above = above.parent
            if above is not None:
                self.functions[self._shown(above)][1] += own_time
            if stack:
                self.stacks[stack] += own_time
            return stack
        file, line, name = self._shown(node)
        numbers = self.functions[file, line, name]
        numbers[0] += 1
        numbers[1] += own_time
        stack = (*stack, f"{name} ({file}:{line})")
        self.stacks[stack] += own_time
        return stack

    def _shown(self, node: Any) -> tuple[str, int, str]:  # noqa: ANN401 - as above
        file, line, name = _function_of(node)
        return self.sources.find(file)[1], line, name

    def _find_peak(self) -> None:
        """Note what lives at the moment at which most of what was allocated since the beginning does."""
        kind = self.device.type.upper()
        living: dict[int, tuple[int, str, str]] = {}
        held = most = 0
        for _, allocation, operator, place in sorted(self._allocations, key=lambda one: one[0]):
            if getattr(allocation.device, "type", "cpu").upper() != kind:
                continue
            if allocation.alloc_size > 0:
                living[allocation.ptr] = allocation.alloc_size, operator, place
                held += allocation.alloc_size
            elif allocation.ptr in living:
                held -= living.pop(allocation.ptr)[0]
            if held > most:
                most = held
                self.peak.clear()
                for size, of, where in living.values():
                    self.peak[of, where] += size

    def trace_lines(self, arm: Arm) -> None:
        """Run the arm once more, and note which lines of the side's own files run."""

        def trace_line(frame: types.FrameType, event: str, _: Any) -> Callable[..., Any]:  # noqa: ANN401 - as Python has it
            if event == "line":
                self.lines[self.sources.find(frame.f_code.co_filename)[1]].add(frame.f_lineno)
            return trace_line

        def trace_call(frame: types.FrameType, _: str, __: Any) -> Callable[..., Any] | None:  # noqa: ANN401 - as above
            return trace_line if self.sources.is_own(frame.f_code.co_filename) else None

        prepare_arm(arm, 1)
        before = sys.gettrace()
        sys.settrace(trace_call)
        try:
            arm()
        finally:
            sys.settrace(before)
            finish_arm(arm)

    def reply(self) -> dict[str, Any]:
        return {
            "operators": [[*key, calls] for key, calls in self.operators.items()],
            "functions": [[*key, *numbers] for key, numbers in self.functions.items()],
            "stacks": [[list(stack), nanoseconds] for stack, nanoseconds in self.stacks.most_common(MOST_STACKS)],
            "peak": [[*key, size] for key, size in self.peak.items()],
            "lines": {file: sorted(lines) for file, lines in self.lines.items()},
        }


def _torchperf_iteration(arm: Arm) -> None:
    """Run an arm: the profiler tells this function's name, below which everything counts."""
    arm()


def inspect_iteration(arm: Arm, device: torch.device, *, trace: str = "", plain: Arm | None = None) -> Inspection:
    """Inspect one iteration. trace: a file to write Chrome's trace to; blank for none.

    plain: the arm whose lines are noted, in another iteration; the same one unless said.
    """
    seen = Inspection(device)
    prepare_arm(arm, 1)
    arm()
    finish_arm(arm)
    prepare_arm(arm, 1)
    gc.collect()
    synchronize = synchronizer(device)
    synchronize()
    with make_profiler(device, record_shapes=True, profile_memory=True, with_stack=True) as profiled:
        _torchperf_iteration(arm)
        synchronize()
    finish_arm(arm)
    if trace:
        profiled.export_chrome_trace(trace)
    roots = profiled.profiler.kineto_results.experimental_event_tree()
    calls = (node for node in _walk(roots) if node.tag.name == "PyCall")
    top = next(node for node in calls if _function_of(node)[2] == _torchperf_iteration.__name__)
    start, end = top.start_time_ns, top.end_time_ns
    others = [node for node in roots if node.start_tid != top.start_tid and start <= node.start_time_ns <= end]
    seen.read([*top.children, *others])
    seen.trace_lines(plain or arm)
    return seen


def _function_of(node: Any) -> tuple[str, int, str]:  # noqa: ANN401 - a node of torch's profiler
    """Return the file, first line and name of the function that a node is a call of."""
    frame = node.extra_fields.callsite
    return frame.file_name, frame.line_number, frame.function_name


def _write_inputs(fields: Any) -> str:  # noqa: ANN401 - of torch's profiler
    """Write the types and shapes of an operator's tensors, for example `float32[2, 3], int64[]`."""
    written = []
    for value in fields.inputs:
        if hasattr(value, "sizes"):
            kind = str(value.dtype).removeprefix("torch.")
            written.append(f"{kind}{list(value.sizes)}")
    return ", ".join(written)
