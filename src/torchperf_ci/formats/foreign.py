"""What every foreign benchmark has in common once it is a record.

It has no eager arm and no compiler, so there is no speedup; its raw times stand where compiled times do, because
those are what reports show as latency and what comparisons are made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import tzinfo
from statistics import median

from torchperf_ci.core.records import (
    METRICS,
    Build,
    Case,
    Direction,
    Environment,
    Metric,
    Mode,
    Record,
    Source,
    Status,
    Testing,
    own_metric,
)
from torchperf_ci.formats.inputs import moment

NOT_KNOWN = "unknown"
"""The dtype of benchmarks that do not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What to record where a file does not say it. An empty suite is named after the benchmarks' file or group.

    source: where this program runs. checked_out: the commit of the checkout there, which for a pull request on GitHub
        is not the one that `source` names, but a merge of it.
    commit, branch: what to record whatever the file says.
    """

    source: Source
    checked_out: str = ""
    commit: str = ""
    branch: str = ""
    suite: str = ""
    device: str = "cpu"
    dtype: str = NOT_KNOWN
    mode: Mode = Mode.INFERENCE

    def case(
        self, *, suite: str, model: str, device: str = "", dtype: str = "", mode: Mode | None = None, compiler: str = ""
    ) -> Case:
        """A case of what is known; without a compiler it is eager."""
        return Case(
            suite=self.suite or suite,
            model=model,
            mode=mode or self.mode,
            device=device or self.device,
            dtype=dtype or self.dtype,
            compiler=compiler or "eager",
        )

    def source_of(self, *, commit: str, branch: str, time: str, naive: tzinfo | None = None) -> Source:
        """Where a file was made, by what it says itself; `source` for the rest.

        A file made at another commit than the one checked out here has no branch but its own. A time without an offset
        is in the zone `naive`, local for None.
        """
        when = moment(time, naive=naive)
        # With fractions of a second, so that files written in a row keep their order.
        made = replace(self.source, time=when.isoformat() if when else "")
        if commit and commit not in {self.source.commit, self.checked_out}:
            made = replace(made, commit=commit, branch=branch)
        return replace(made, commit=self.commit or made.commit, branch=self.branch or made.branch or branch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """A foreign file as records, and what it was built from."""

    records: tuple[Record, ...]
    build: Build


def foreign_metric(name: str, *, unit: str = "", direction: Direction = Direction.UNKNOWN) -> Metric:
    """Define a metric of another tool. One that only shares its name with one of ours is told apart from it."""
    return own_metric(f"own.{name}" if name in METRICS else name, unit=unit, direction=direction)


def timed_record(
    case: Case,
    *,
    times: Sequence[float],
    middle: float | None,
    environment: Environment,
    source: Source,
    batch_size: int = 0,
    own: Mapping[Metric, float] | None = None,
) -> Record:
    """The record of a benchmark that ran. `times` are its raw rounds, seconds per iteration, where the file has them;
    `middle` is what the tool itself says of them, a median or a mean, where it does. `own`: the tool's other metrics.
    """
    own = own or {}
    latency = median(times) if middle is None else middle
    return Record(
        case=case,
        testing=Testing.PERFORMANCE,
        status=Status.PASS,
        batch_size=batch_size,
        metrics={"abs_latency": latency * 1000, **{metric.name: value for metric, value in own.items()}},
        samples={"compiled": tuple(times)} if times else {},
        seconds=sum(times),
        environment=environment,
        source=source,
        own_metrics={metric.name: metric for metric in own if metric.name not in METRICS},
    )
