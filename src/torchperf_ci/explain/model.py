"""The evidence of an explanation: what was seen of a case on both sides. Times in nanoseconds unless said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from torchperf_ci.compare.model import Sameness

Calls = Mapping[str, tuple[float, float]]
"""Calls per iteration, and nanoseconds of their own, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallProfile:
    """One side's profile of some iterations. wall: of an iteration without the profiler; profiled: with it, and outside
    operators.

    events: what the profiler heard of per iteration. host: operators; device: what ran on the device.
    """

    wall: float
    profiled: float
    outside: float
    events: float
    host: Calls
    device: Calls = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledTurn:
    """A turn of both sides, one right after the other, in one pair of processes (`launch`, from 0)."""

    launch: int
    base: CallProfile
    head: CallProfile


class SeenIteration(msgspec.Struct, frozen=True):
    """One iteration as the worker inspected it: see `worker.profiling.Inspection`."""

    operators: list[tuple[str, str, str, int]] = []
    functions: list[tuple[str, int, str, int, int]] = []
    stacks: list[tuple[list[str], int]] = []
    peak: list[tuple[str, str, int]] = []
    lines: dict[str, list[int]] = {}


class CompilerArtefacts(msgspec.Struct, frozen=True):
    """The compilers' artefacts of one side: see `worker.artefacts.CompileLog`. phases: seconds."""

    graphs: list[list[tuple[str, str]]] = []
    breaks: list[tuple[str, str]] = []
    recompiles: list[tuple[str, str, str]] = []
    phases: dict[str, float] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class SideEvidence:
    """The evidence of one side. operators: those that are dispatched per iteration, by name. artefacts: of each launch.
    code: Inductor's, normalised. compile_seconds: per launch.
    counters: dynamo's. environment: names and values of what surrounds the case. log: the end of it, where the side
    fails."""

    seen: SeenIteration = SeenIteration()  # noqa: RUF009 - frozen
    operators: Mapping[str, int] = field(default_factory=dict)
    artefacts: Sequence[CompilerArtefacts] = ()
    code: str = ""
    compile_seconds: Sequence[float] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    log: str = ""
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was seen of a case. turns: in the order in which they were taken. problem: why it ends early."""

    base: SideEvidence
    head: SideEvidence
    turns: Sequence[ProfiledTurn] = ()
    sameness: Sameness | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChanges:
    """The lines that differ between two commits, by path: those of base that are gone, and those that head has."""

    removed: Mapping[str, frozenset[int]] = field(default_factory=dict)
    added: Mapping[str, frozenset[int]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(map(len, (*self.removed.values(), *self.added.values())))
