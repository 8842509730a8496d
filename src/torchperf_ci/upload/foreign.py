"""What every foreign benchmark has in common once it is a record.

It has no eager arm and no compiler, so there is no speedup; its raw times stand where compiled times do, because
those are what reports show as latency and what comparisons are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from torchperf_ci.records import Build, Case, Environment, Mode, Record, Source, Status, Testing
from torchperf_ci.upload.inputs import moment

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

    def source_of(self, *, commit: str, branch: str, time: str) -> Source:
        """Where a file was made, by what it says itself; `source` for the rest.

        A file made at another commit than the one checked out here has no branch but its own.
        """
        when = moment(time)
        made = replace(self.source, time=when.isoformat(timespec="seconds") if when else "")
        if commit and commit not in {self.source.commit, self.checked_out}:
            made = replace(made, commit=commit, branch=branch)
        return replace(made, commit=self.commit or made.commit, branch=self.branch or made.branch or branch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """A foreign file as records, and what it was built from."""

    records: tuple[Record, ...]
    build: Build


def timed_record(
    case: Case, *, times: Sequence[float], middle: float, environment: Environment, source: Source, batch_size: int = 0
) -> Record:
    """The record of a benchmark that ran. `times` are its raw rounds, seconds per iteration, where the file has them;
    otherwise `middle` stands for them: a median or a mean."""
    return Record(
        case=case,
        testing=Testing.PERFORMANCE,
        status=Status.PASS,
        batch_size=batch_size,
        metrics={"abs_latency": (median(times) if times else middle) * 1000},
        samples={"compiled": tuple(times)} if times else {},
        seconds=sum(times),
        environment=environment,
        source=source,
    )
