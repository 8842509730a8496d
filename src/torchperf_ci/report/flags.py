"""Which results deserve a second look, by the limits of PyTorch's own dashboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torchperf_ci.core.frames import ACCURACY, LEAVES_COMPILER, PASSES, Cell, Section, SuiteTables, rows

SPEEDUP_BELOW = 0.95
COMPILE_SECONDS_ABOVE = 120.0
COMPRESSION_BELOW = 0.9

FLAGGED = (ACCURACY, "speedup", "compilation_latency", "compression_ratio")
"""What is looked at, in the order of the warnings."""

DEFAULT_FLAG_COMPILERS = ("inductor", "inductor_no_cudagraphs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """One case beyond the limit of one metric. `value` is None where the case failed, so that nothing was measured."""

    section: Section
    suite: str
    model: str
    compiler: str
    metric: str
    status: str
    value: float | None


def flag_compilers(present: Sequence[str], asked: Sequence[str]) -> tuple[str, ...]:
    """The compilers to warn about: those asked for, else the defaults, else all, as far as they are present."""
    wanted = asked or DEFAULT_FLAG_COMPILERS
    found = tuple(name for name in wanted if name in present)
    return found if found or asked else tuple(present)


def flags(tables: SuiteTables, compilers: Sequence[str]) -> tuple[Flag, ...]:
    """Everything beyond a limit for `compilers`, by metric, then in the order of that metric's table."""
    return tuple(
        Flag(
            section=tables.section,
            suite=tables.suite,
            model=model,
            compiler=compiler,
            metric=metric,
            status=cell.status,
            value=cell.value if cell.measured else None,
        )
        for metric in FLAGGED
        for model, compiler, cell in _cells(tables, metric)
        if compiler in compilers and is_flagged(metric, cell)
    )


def is_flagged(metric: str, cell: Cell) -> bool:
    """Is this case beyond the limit?

    Of a case that failed, speedup and compression count as 0, as in PyTorch's files; a metric that was merely not
    measured is beyond no limit.
    """
    if cell.status == LEAVES_COMPILER:
        return False
    failed = not cell.measured and cell.status not in PASSES
    match metric:
        case "accuracy":
            return "pass" not in cell.status
        case "speedup":
            return failed or cell.value < SPEEDUP_BELOW
        case "compilation_latency":
            return cell.value > COMPILE_SECONDS_ABOVE
        case "compression_ratio":
            return failed or cell.value < COMPRESSION_BELOW
        case _:
            return False


def _cells(tables: SuiteTables, metric: str) -> Iterator[tuple[str, str, Cell]]:
    for row in rows(tables, metric):
        for compiler, cell in zip(tables.compilers, row.cells, strict=True):
            yield row.model, compiler, cell
