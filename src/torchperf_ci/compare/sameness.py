"""Whether a case is the same program on both sides: what was traced on each, held against each other.

The trace is the worker's (`worker.tracing`), the operators and the generated code are its counts (`worker.counting`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torchperf_ci.compare.model import MOST_DIFFERENCES, ProgramDifference, Sameness
from torchperf_ci.core.records import AS_IT_IS
from torchperf_ci.run.case_worker import ProgramTrace

TRACED = (
    "functions", "reachable functions", "built-in functions", "values", "weights", "inputs", "modules", "files",
    "variables", "settings", "packages", "libraries",
)  # fmt: skip
"""The parts that every trace has."""

COMPILED = "compiled functions"
OPERATORS = "operators"
GENERATED_CODE = "generated_code"

TRACEABLE_COMPILERS = (AS_IT_IS, "eager", "aot_eager", "inductor", "cudagraphs")
"""The beginnings of the names of compilers that are part of torch, so that their own code is the same on both sides."""


def compare_programs(
    base: ProgramTrace, head: ProgramTrace, *, compiler: str, counted: Mapping[str, Mapping[str, str]] | None = None
) -> Sameness:
    """Compare what was traced of a case on both sides.

    counted: the digests of the counts by side; None as long as nobody has counted. compiler: of the compared arm; the
    code of one that is not torch's may differ, too, and was not traced.
    """
    counts = counted or {}
    digests = ({**base.digests, **counts.get("base", {})}, {**head.digests, **counts.get("head", {})})
    doubts = dict.fromkeys((*base.doubts, *head.doubts))
    if not compiler.startswith(TRACEABLE_COMPILERS):
        doubts[f"nobody can trace what the compiler {compiler} does"] = None
    for part in _list_needed(compiler, is_counted=counted is not None):
        if not digests[0].get(part) or not digests[1].get(part):
            doubts[f"there is no digest of its {part.replace('_', ' ')}"] = None
    return Sameness(differences=tuple(_list_differences(base, head, digests))[:MOST_DIFFERENCES], doubts=tuple(doubts))


def _list_needed(compiler: str, *, is_counted: bool) -> Iterator[str]:
    """List the parts without which nothing is proved."""
    yield from TRACED
    if compiler not in {AS_IT_IS, "eager"}:
        yield COMPILED
    if is_counted:
        yield OPERATORS
    if is_counted and compiler.startswith("inductor"):
        yield GENERATED_CODE


def _list_differences(
    base: ProgramTrace, head: ProgramTrace, digests: tuple[Mapping[str, str], Mapping[str, str]]
) -> Iterator[ProgramDifference]:
    """List what differs, by name where the parts say it."""
    for part in dict.fromkeys([*digests[0], *digests[1]]):
        mine, theirs = base.parts.get(part, {}), head.parts.get(part, {})
        names = [name for name in dict.fromkeys([*mine, *theirs]) if _content(mine, name) != _content(theirs, name)]
        for name in names:
            yield ProgramDifference(part=part, name=name, base=mine.get(name), head=theirs.get(name))
        if not names and digests[0].get(part) != digests[1].get(part):
            yield ProgramDifference(part=part, name="", base=digests[0].get(part), head=digests[1].get(part))


def _content(items: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return what counts of an item: of a function not its place."""
    item = items.get(name)
    return item[2:] if isinstance(item, (list, tuple)) else item
