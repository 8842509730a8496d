"""Models shared out over GitHub's runners: a matrix entry per runner and shard, balanced by what is known to take long.

Pure: models and durations in, entries out.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from torchperf_ci.core.errors import UsageProblem
from torchperf_ci.core.records import Mode, Record
from torchperf_ci.core.text import safe_name

MAX_JOBS = 256
"""GitHub's limit of jobs in a matrix."""


class SuiteModel(NamedTuple):
    """A model by its suite's name and its own."""

    suite: str
    name: str


USUAL_ITERATIONS = 50
"""So many of each arm PyTorch's suite runner measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerKind:
    """A kind of machine by GitHub's labels, and the device to measure there."""

    device: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixJob:
    """A job: what its results are called, which shard of them it makes, of what, and where.

    suites: as they were asked for. filters: regular expressions for `run --filter` that fit exactly its models.
    seconds: what it is expected to take, 0 when nothing is known.
    """

    name: str
    shard: str
    suites: tuple[str, ...]
    filters: tuple[str, ...]
    runner: RunnerKind
    seconds: float

    def as_json(self) -> dict[str, object]:
        """Return it as `strategy.matrix.include` takes it."""
        return {
            "name": self.name,
            "shard": self.shard,
            "suites": " ".join(self.suites),
            "filter": " ".join(self.filters),
            "device": self.runner.device,
            "runs-on": list(self.runner.labels),
            "seconds": round(self.seconds),
        }


def plan_jobs(
    models: Sequence[SuiteModel],
    specs: Mapping[str, str],
    runners: Sequence[RunnerKind],
    *,
    shards: int,
    name: str,
    records: Sequence[Record],
    mode: Mode,
) -> tuple[MatrixJob, ...]:
    """Plan all jobs: on every runner at most `shards`, and as many as there are models.

    specs: how each suite was asked for, by its name. records: they tell the durations. Raises `UsageProblem` for more
    jobs than GitHub takes.
    """
    count = min(shards, len(models))
    if len(runners) * count > MAX_JOBS:
        raise UsageProblem(
            f"{count} shards on {len(runners)} runners are {count * len(runners)} jobs, and a matrix has at most "
            f"{MAX_JOBS}; use fewer --shards"
        )
    jobs = []
    for runner, title in zip(runners, _name_results(name, runners), strict=True):
        known = sum_durations(records, mode=mode, device=runner.device)
        usual = median(known.values()) if known else 1.0  # for a model that nothing is known about
        costs = {model: known.get(model, usual) for model in models}
        for number, share in enumerate(share_out(costs, count), start=1):
            jobs.append(
                MatrixJob(
                    name=title,
                    shard=f"{number}-{count}",
                    suites=tuple(dict.fromkeys(specs[model.suite] for model in share)),
                    filters=tuple(make_filter(model) for model in share),
                    runner=runner,
                    seconds=sum(costs[model] for model in share) if known else 0.0,
                )
            )
    return tuple(jobs)


def share_out(costs: Mapping[SuiteModel, float], shards: int) -> list[list[SuiteModel]]:
    """Share models out into `shards` lists whose sums of costs are as equal as can be had quickly: the longest first,
    each to the shard that has the least. In every list the models keep the order they had.

    That is longest processing time first, at most a third over the best (Graham 1969, doi:10.1137/0117039).
    """
    order = {model: place for place, model in enumerate(costs)}
    loads = [(0.0, 0, number) for number in range(shards)]
    shares: list[list[SuiteModel]] = [[] for _ in range(shards)]
    for model in sorted(costs, key=lambda model: (-costs[model], order[model])):
        load, count, number = heapq.heappop(loads)
        shares[number].append(model)
        heapq.heappush(loads, (load + costs[model], count + 1, number))
    return [sorted(share, key=order.__getitem__) for share in shares]


def sum_durations(records: Iterable[Record], *, mode: Mode, device: str) -> dict[SuiteModel, float]:
    """Add up the seconds that all cases of a model took, of the mode and the type of device where there are such
    records. A model that was measured elsewhere only counts as it did there. Later records of a case replace earlier
    ones.
    """
    seconds = {record.key: record.seconds or _estimate_seconds(record) for record in records}
    newest = {record.key: record for record in records if seconds[record.key] > 0}
    wanted = device.partition(":")[0]
    groups: dict[SuiteModel, dict[tuple[bool, bool, str], float]] = defaultdict(lambda: defaultdict(float))
    for record in newest.values():
        case = record.case
        measured_on = case.device.partition(":")[0]
        distance = (case.mode is not mode, measured_on != wanted, measured_on)
        groups[SuiteModel(case.suite, case.model)][distance] += seconds[record.key]
    return {model: sums[min(sums)] for model, sums in groups.items()}


def _estimate_seconds(record: Record) -> float:
    """Estimate what a row of a suite runner's file took, which names no seconds: compiling, and the usual iterations
    of both arms; 0 when it has neither."""
    latency = record.metrics.get("abs_latency", 0.0) / 1e3
    iterations = latency * (1 + record.metrics.get("speedup", 1.0)) * USUAL_ITERATIONS
    return max(0.0, record.metrics.get("compilation_latency", 0.0)) + max(0.0, iterations)


def make_filter(model: SuiteModel) -> str:
    """Return a regular expression for `run --filter` that fits this model of this suite alone, in one word of a list.

    What is no plain character stands there by number, so that nothing in it separates words or means anything.
    """

    def quote(text: str) -> str:
        return re.sub(r"[^A-Za-z0-9_-]", lambda match: f"\\U{ord(match[0]):08x}" if match[0] != "." else "\\.", text)

    return f"^{quote(model.suite)}/{quote(model.name)}\\Z"


def parse_filter(pattern: str) -> SuiteModel | None:
    """Return the model that an `exact_filter` fits; nothing for any other pattern."""

    def unquote(text: str) -> str:
        return re.sub(
            r"\\(?:U([0-9a-f]{8})|(\.))", lambda match: chr(int(match[1], 16)) if match[1] else match[2], text
        )

    match = re.fullmatch(r"\^([^/]+)/([^/]+)\\Z", pattern)
    return SuiteModel(unquote(match[1]), unquote(match[2])) if match else None


def _name_results(name: str, runners: Sequence[RunnerKind]) -> list[str]:
    """Name the results of each runner, as shortly as tells them apart."""
    if len(runners) == 1:
        return [name]
    of_device = Counter(runner.device for runner in runners)
    titles = [
        safe_name("-".join((name, runner.device, *(runner.labels if of_device[runner.device] > 1 else ()))))
        for runner in runners
    ]
    if twice := sorted(title for title, count in Counter(titles).items() if count > 1):
        raise UsageProblem(f"--runner: two runners would both make the results {twice[0]}; name each runner once")
    return titles
