"""Results and histories of other tools as records: a reader per format, all of one shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from torchperf_ci.core.records import METRICS, Case, Environment, Metric, Record, Source, Status, Testing


class Format(str, Enum):
    """What can be imported, by the name of the tool that writes it."""

    GITHUB_ACTION_BENCHMARK = "github-action-benchmark"
    BENCHER = "bencher"
    ASV = "asv"
    HUD = "hud"
    PYTEST_BENCHMARK = "pytest-benchmark"
    GOOGLE_BENCHMARK = "google-benchmark"
    FASTRNNS = "fastrnns"
    OPENMETRICS = "openmetrics"
    CSV = "csv"
    PARQUET = "parquet"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The records of a file or folder, and what was left out of it: a sentence each, with the place."""

    records: tuple[Record, ...]
    left_out: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class Gathered:
    """Numbers that are read one at a time, gathered into a record per case, testing, source and environment."""

    _parts: dict[tuple[Case, Testing, Source, Environment], _Part] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def add(
        self,
        case: Case,
        source: Source,
        environment: Environment = Environment(),  # noqa: B008 - frozen
        *,
        testing: Testing = Testing.PERFORMANCE,
        metric: Metric | None = None,
        value: float = 0.0,
        samples: Sequence[float] = (),
        where: str = "",
        status: Status = Status.PASS,
        reason: str = "",
        batch_size: int = 0,
        counter: str = "",
    ) -> None:
        """Take a number, or only the status of a case without any. A metric that the case has already is left out."""
        part = self._parts.setdefault((case, testing, source, environment), _Part())
        if status is not Status.PASS:
            part.status, part.reason = status, reason
        part.batch_size = batch_size or part.batch_size
        if counter:
            part.counters[counter] = int(value)
        if metric is None:
            return
        if metric.name in part.metrics:
            self.left_out.append(f"{where}: {case} has a second {metric.name}")
            return
        part.metrics[metric.name] = value
        if metric.name not in METRICS:
            part.own[metric.name] = metric
        if samples:
            part.samples["compiled" if metric.name == "abs_latency" else metric.name] = tuple(samples)

    def imported(self) -> Imported:
        """Everything that was taken, in the order it came."""
        return Imported(records=tuple(self._records()), left_out=tuple(self.left_out))

    def _records(self) -> Iterator[Record]:
        for (case, testing, source, environment), part in self._parts.items():
            yield Record(
                case=case,
                testing=testing,
                status=part.status,
                batch_size=part.batch_size,
                metrics=part.metrics,
                samples=part.samples,
                counters=part.counters,
                reason=part.reason,
                environment=environment,
                source=source,
                own_metrics=part.own,
            )


@dataclass(slots=True, kw_only=True)
class _Part:
    status: Status = Status.PASS
    reason: str = ""
    batch_size: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    own: dict[str, Metric] = field(default_factory=dict)
    samples: dict[str, tuple[float, ...]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


Columns = Mapping[str, Sequence[str]]
"""The columns of a table by what they hold."""
