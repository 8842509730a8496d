"""Whether a case is the same program on both sides: what was traced on each, held against each other.

The trace is the worker's (`worker.tracing`), the operators and the generated code are its counts (`worker.counting`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from torchperf_ci.compare.effects import LOOKS
from torchperf_ci.run.case_worker import Traced

if TYPE_CHECKING:
    from torchperf_ci.compare.model import Measured

TRACED = (
    "functions", "reachable functions", "built-in functions", "values", "weights", "inputs", "modules", "files",
    "variables", "settings", "packages", "libraries",
)  # fmt: skip
"""The parts that every trace has."""

COMPILED = "compiled functions"
OPERATORS = "operators"
GENERATED_CODE = "generated_code"

TRACEABLE_COMPILERS = ("eager", "aot_eager", "inductor", "cudagraphs")
"""The beginnings of the names of compilers that are part of torch, so that their own code is the same on both sides."""

MOST_DIFFERENCES = 200
"""Differences that are kept of a case: by far more than anybody reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A part of the program that differs. `base` and `head`: what each has, None where it has no such thing.

    Of a function that is `[file, line, calls, digest]`, else a digest; without a name the part as a whole differs.
    """

    part: str
    name: str
    base: Any
    head: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sameness:
    """Whether a case is the same program on both sides. A single difference, or doubt, means that it is not proved.

    differences: at most `MOST_DIFFERENCES` of them.
    """

    differences: tuple[Difference, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def is_same(self) -> bool:
        return not self.differences and not self.doubts


def compare_programs(
    base: Traced, head: Traced, *, compiler: str, counted: Mapping[str, Mapping[str, str]] | None = None
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


def estimate_saved_seconds(measured: Sequence[Measured]) -> float:
    """Estimate how much longer the spared cases would have taken: what the others took on average.

    Where all were spared, it is the sampling that was not done, which is less.
    """
    spared = [each for each in measured if each.spared]
    usual = [each.wall_seconds for each in measured if not each.spared and each.launches]
    if usual:
        return sum(max(0.0, fmean(usual) - each.wall_seconds) for each in spared)
    return sum(each.seconds / LOOKS[0][0] - each.seconds for each in spared)


def _list_needed(compiler: str, *, is_counted: bool) -> Iterator[str]:
    """List the parts without which nothing is proved."""
    yield from TRACED
    if compiler != "eager":
        yield COMPILED
    if is_counted:
        yield OPERATORS
    if is_counted and compiler.startswith("inductor"):
        yield GENERATED_CODE


def _list_differences(
    base: Traced, head: Traced, digests: tuple[Mapping[str, str], Mapping[str, str]]
) -> Iterator[Difference]:
    """List what differs, by name where the parts say it."""
    for part in dict.fromkeys([*digests[0], *digests[1]]):
        mine, theirs = base.parts.get(part, {}), head.parts.get(part, {})
        names = [name for name in dict.fromkeys([*mine, *theirs]) if _content(mine, name) != _content(theirs, name)]
        for name in names:
            yield Difference(part=part, name=name, base=mine.get(name), head=theirs.get(name))
        if not names and digests[0].get(part) != digests[1].get(part):
            yield Difference(part=part, name="", base=digests[0].get(part), head=digests[1].get(part))


def _content(items: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return what counts of an item: of a function not its place."""
    item = items.get(name)
    return item[2:] if isinstance(item, (list, tuple)) else item
