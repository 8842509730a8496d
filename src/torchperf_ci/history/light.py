"""Runs out of a database, without samples: what comparing and drawing need, read quickly."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from torchperf_ci.core.records import Case, Environment, Metric, Mode, Record, Source, Status, Testing
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.history import sql
from torchperf_ci.history.columns import CASE_COLUMNS, ENVIRONMENT_COLUMNS
from torchperf_ci.history.rows import defined_metrics, time_text, told_in
from torchperf_ci.history.store import Run

if TYPE_CHECKING:
    import duckdb

Values = tuple[Any, ...]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_ENDS = tuple(accumulate(map(len, (sql.PLACE, CASE_COLUMNS, sql.OUTCOME, sql.SOURCE, ENVIRONMENT_COLUMNS)), initial=0))


def runs_of(connection: duckdb.DuckDBPyConnection, name: str) -> tuple[tuple[Run, ...], tuple[Problem, ...]]:
    """The chosen runs, oldest first, and which parts of them cannot be understood."""
    metrics, own = sql.chosen_metrics(connection)
    source, environment = cache(_source), cache(_environment)
    records: dict[str, list[Record]] = {}
    times: dict[str, int] = {}
    problems: dict[str, Problem] = {}
    for values in sql.chosen_outcomes(connection):
        (key, run_us, part, number), case, outcome, origin, machine = (
            values[start:end] for start, end in pairwise(_ENDS)
        )
        try:
            made = _record(
                case,
                outcome,
                metrics.get((part, number), {}),
                defined_metrics(own.get((part, number), {})),
                source(origin),
                environment(machine),
            )
        except ValueError as error:
            problems[part] = Problem(file=part, what=f"holds what only a later version understands: {error}")
            continue
        records.setdefault(key, []).append(made)
        times[key] = max(run_us, times.get(key, run_us))
    runs = (
        Run(name=name, key=key, time=moment(times[key]), results=Results(records=tuple(found)))
        for key, found in records.items()
    )
    return tuple(runs), tuple(problems.values())


def moment(microseconds: int) -> datetime:
    """The time so long after the beginning of 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _record(
    case: Values,
    outcome: Values,
    metrics: Mapping[str, float],
    own: Mapping[str, Metric],
    source: Source,
    environment: Environment,
) -> Record:
    suite, model, mode, device, dtype, compiler, testing = case
    status, batch_size, reason, seconds, extra = outcome
    return Record(
        case=Case(suite=suite, model=model, mode=Mode(mode), device=device, dtype=dtype, compiler=compiler),
        testing=Testing(testing),
        status=Status(status),
        batch_size=batch_size,
        metrics=metrics,
        own_metrics=own,
        reason=reason,
        **told_in(extra),
        seconds=seconds,
        environment=environment,
        source=source,
    )


def _source(values: Values) -> Source:
    repository, commit, branch, workflow, run_id, attempt, shard, time_us = values
    return Source(
        repository=repository,
        commit=commit,
        branch=branch,
        workflow=workflow,
        run_id=run_id,
        attempt=attempt,
        shard=shard,
        time=time_text(None if time_us is None else moment(time_us)),
    )


def _environment(values: Values) -> Environment:
    return Environment(**dict(zip(ENVIRONMENT_COLUMNS, values, strict=True)))
