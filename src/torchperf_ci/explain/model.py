"""The evidence of an explanation: what was seen of a case on both sides, and changed lines. Times in nanoseconds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from torchperf_ci.compare.checkouts import ask_git
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
class LineChanges:
    """The lines that differ between two commits, by path: those of base that are gone, and those that head has."""

    removed: Mapping[str, frozenset[int]] = field(default_factory=dict)
    added: Mapping[str, frozenset[int]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(map(len, (*self.removed.values(), *self.added.values())))


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that was seen of a case. turns: in the order in which they were taken. problem: why it ends early.
    changes: the lines that differ, None without two commits."""

    base: SideEvidence
    head: SideEvidence
    turns: Sequence[ProfiledTurn] = ()
    sameness: Sameness | None = None
    problem: str = ""
    changes: LineChanges | None = None


_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def read_changes(repository: Path, base: str, head: str) -> LineChanges:
    """Read the lines that differ between two commits. Raises `GitFailed`."""
    removed: dict[str, set[int]] = {}
    added: dict[str, set[int]] = {}
    before = after = ""
    diff = ask_git(
        repository, "diff", "--unified=0", "--no-color", "--no-ext-diff", "--find-renames", "--src-prefix=a/",
        "--dst-prefix=b/", base, head, "--",
    )  # fmt: skip
    for line in diff.splitlines():
        if line.startswith("--- "):
            before = line[4:].removeprefix("a/")
        elif line.startswith("+++ "):
            after = line[4:].removeprefix("b/")
        elif hunk := _HUNK.match(line):
            first, size, new, new_size = (1 if number is None else int(number) for number in hunk.groups())
            removed.setdefault(before, set()).update(range(first, first + size))
            added.setdefault(after, set()).update(range(new, new + new_size))
    return LineChanges(
        removed={path: frozenset(lines) for path, lines in removed.items() if lines},
        added={path: frozenset(lines) for path, lines in added.items() if lines},
    )


def list_executed(evidence: Evidence) -> Iterator[str]:
    """List the changed lines that an iteration runs, as `file:line`; of those that head lacks `base file:line`."""
    changes = evidence.changes or LineChanges()
    for lines, seen, prefix in (
        (changes.added, evidence.head.seen, ""),
        (changes.removed, evidence.base.seen, "base "),
    ):
        for path, numbers in lines.items():
            for file, ran in seen.lines.items():
                if is_same_file(path, file):
                    yield from (f"{prefix}{path}:{number}" for number in sorted(numbers.intersection(ran)))


def is_same_file(path: str, file: str) -> bool:
    """Say whether a path of the repository is a file as a worker names it, which may lie below a folder of packages."""
    return path == file or path.endswith(f"/{file}") or file.endswith(f"/{path}")


def is_changed(place: str, lines: Mapping[str, frozenset[int]], seen: SeenIteration) -> bool:
    """Say whether a place, `file:line`, lies in changed lines: the line itself, or the function that begins there."""
    file, _, text = place.rpartition(":")
    if not text.isdigit():
        return False
    first = int(text)
    starts = {line for known, line, *_ in seen.functions if known == file}
    end = min((line for line in starts if line > first), default=None) if first in starts else first + 1
    numbers = (number for path, of_path in lines.items() if is_same_file(path, file) for number in of_path)
    return any(first <= number and (end is None or number < end) for number in numbers)
