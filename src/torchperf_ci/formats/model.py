"""The formats, what is asked of an import, and records that are built from foreign numbers.

A foreign benchmark has no eager arm and no compiler, so there is no speedup; its raw times stand where compiled times
do, because those are what reports show as latency and what comparisons are made of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import tzinfo
from enum import Enum
from types import MappingProxyType

from torchperf_ci.core.records import (
    AS_IT_IS,
    METRICS,
    NOT_KNOWN,
    Case,
    Environment,
    Metric,
    Mode,
    Record,
    Source,
    Status,
    Testing,
)
from torchperf_ci.formats.inputs import InputProblem, moment


class ExportFormat(str, Enum):
    """The formats of an export."""

    GITHUB_ACTION_BENCHMARK = "github-action-benchmark"
    BENCHER = "bencher"
    PYTEST_BENCHMARK = "pytest-benchmark"
    OPENMETRICS = "openmetrics"
    CSV = "csv"
    PARQUET = "parquet"

    __str__ = str.__str__


class ImportFormat(str, Enum):
    """The formats of an import, by the name of the tool that writes it."""

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


class Clock(str, Enum):
    """The two times that Google Benchmark has of a run."""

    REAL = "real"
    CPU = "cpu"

    __str__ = str.__str__


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """A file to read, with what to record where it does not say it.

    source: where this program runs. checked_out: the commit of the checkout there, which for a pull request on GitHub
        is not the one that `source` names, but a merge of it.
    form: None to go by the content.
    commit, branch: what to record whatever the file says. suite: likewise; empty to name it after the file or group.
    time: UTC in ISO 8601, for formats without one.
    tool: what github-action-benchmark calls values whose list does not say which are better.
    columns: the columns of a table by the field that they hold.
    """

    source: Source
    checked_out: str = ""
    form: ImportFormat | None = None
    commit: str = ""
    branch: str = ""
    suite: str = ""
    device: str = "cpu"
    dtype: str = NOT_KNOWN
    mode: Mode = Mode.INFERENCE
    time: str = ""
    tool: str = ""
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    clock: Clock = Clock.REAL

    @property
    def usual_source(self) -> Source:
        """Say where numbers come from that do not say it themselves."""
        source = self.source
        if self.commit not in {"", source.commit}:
            source = replace(source, commit=self.commit, subject="")
        return replace(source, branch=self.branch or source.branch, time=self.time or source.time)

    def source_of(self, *, commit: str, branch: str, time: str, naive: tzinfo | None = None) -> Source:
        """Say where a file was made, by what it says itself; `source` for the rest.

        A file made at another commit than the one checked out here has no branch but its own. A time without an offset
        is in the zone `naive`, local for None.
        """
        when = moment(time, naive=naive)
        # With fractions of a second, so that files written in a row keep their order.
        source = replace(self.source, time=when.isoformat() if when else "")
        if commit and commit not in {self.source.commit, self.checked_out}:
            source = replace(source, commit=commit, branch=branch, subject="")
        if self.commit not in {"", source.commit}:
            source = replace(source, commit=self.commit, subject="")
        return replace(source, branch=self.branch or source.branch or branch)

    def case(
        self, *, suite: str, model: str, device: str = "", dtype: str = "", mode: Mode | None = None, compiler: str = ""
    ) -> Case:
        """Make a case of what is known; without a compiler it runs as it is."""
        return Case(
            suite=self.suite or suite,
            model=model,
            mode=mode or self.mode,
            device=device or self.device,
            dtype=dtype or self.dtype,
            compiler=compiler or AS_IT_IS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The records of a file or folder, what was left out of it, and what to warn of: a sentence each."""

    records: tuple[Record, ...]
    left_out: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class _Part:
    status: Status = Status.PASS
    reason: str = ""
    batch_size: int = 0
    params: Mapping[str, str | bool | int | float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    own_metrics: dict[str, Metric] = field(default_factory=dict)
    samples: dict[str, tuple[float, ...]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class RecordCollector:
    """Gathers numbers that are read one at a time into a record per case, testing, source and environment."""

    left_out: list[str] = field(default_factory=list)
    _parts: dict[tuple[Case, Testing, Source, Environment], _Part] = field(default_factory=dict)

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
        params: Mapping[str, str | bool | int | float] = MappingProxyType({}),
        counter: str = "",
    ) -> None:
        """Take a number, or only the status of a case without any. A metric that the case has already is left out."""
        part = self._parts.setdefault((case, testing, source, environment), _Part())
        if status is not Status.PASS:
            part.status, part.reason = status, reason
        part.batch_size, part.params = batch_size or part.batch_size, params or part.params
        if counter:
            part.counters[counter] = int(value)
        if metric is None:
            return
        if metric.name in part.metrics:
            self.left_out.append(f"{where}: {case} has a second {metric.name}")
            return
        part.metrics[metric.name] = value
        if metric.name not in METRICS:
            part.own_metrics[metric.name] = metric
        if samples:
            part.samples["compiled" if metric.name == "abs_latency" else metric.name] = tuple(samples)

    @contextmanager
    def skip_faults(self) -> Iterator[None]:
        """Leave out what the block cannot read, and say so: any `InputProblem` ends the block, and nothing else."""
        try:
            yield
        except InputProblem as error:
            self.left_out.append(str(error))

    def imported(self) -> Imported:
        """Return everything that was taken, in the order it came."""
        records = tuple(
            Record(
                case=case,
                testing=testing,
                status=part.status,
                batch_size=part.batch_size,
                metrics=part.metrics,
                samples=part.samples,
                seconds=sum(part.samples.get("compiled", ())),
                counters=part.counters,
                reason=part.reason,
                environment=environment,
                source=source,
                own_metrics=part.own_metrics,
                params=part.params,
            )
            for (case, testing, source, environment), part in self._parts.items()
        )
        return Imported(records=records, left_out=tuple(self.left_out))


def parse_status(word: str, *, where: str) -> Status:
    """Read a status; a blank is a pass. Raises `InputProblem` for what is no word.

    A word that is not in our list stays what it is, and is no pass: it is never lost among the passes.
    """
    try:
        return Status(word) if word else Status.PASS
    except ValueError:
        raise InputProblem([f"{where}: its status is {word[:40]!r}, expected a word such as pass"]) from None
