"""A DuckDB database over the files of a Parquet history, and what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torchperf_ci.core.errors import TorchperfError, UsageProblem, require
from torchperf_ci.core.records import (
    METRICS,
    Build,
    Case,
    Direction,
    Mode,
    Record,
    Source,
    Status,
    Testing,
    from_line,
    own_metric,
)
from torchperf_ci.core.results import Problem, Results
from torchperf_ci.core.text import one_line
from torchperf_ci.history.rows import (
    CASE_COLUMNS,
    COLUMNS,
    ENVIRONMENT_COLUMNS,
    LATER_COLUMNS,
    SOURCE_COLUMNS,
    RowKind,
    make_environment,
    make_full_record,
    make_record,
)
from torchperf_ci.history.runs import HistoryRun, Past, RunFilter
from torchperf_ci.history.series import (
    COUNTED,
    ENDS,
    STATUS_METRICS,
    Point,
    RunInfo,
    SeriesCollection,
    make_run_info,
)

if TYPE_CHECKING:
    import duckdb

Result = TypeVar("Result")

_TRIES = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_RECORD = ", ".join(("name", "run_key", *CASE_COLUMNS))
_NEWEST_FIRST = "attempt DESC, time DESC NULLS LAST, part DESC, filename"
_VIEWS = f"""
CREATE OR REPLACE TEMP VIEW counted AS SELECT * FROM parts WHERE turn = 1;
CREATE OR REPLACE TEMP VIEW contested AS
    SELECT name, run_key, shard FROM counted GROUP BY ALL
    HAVING count(DISTINCT part) > 1 OR count(DISTINCT filename) > 1;
CREATE OR REPLACE TEMP VIEW history AS
    SELECT * FROM counted ANTI JOIN contested USING (name, run_key, shard)
    UNION ALL
    SELECT * FROM counted SEMI JOIN contested USING (name, run_key, shard)
    QUALIFY dense_rank() OVER (PARTITION BY {_RECORD} ORDER BY {_NEWEST_FIRST}) = 1;
CREATE OR REPLACE TEMP VIEW confirmations AS
    SELECT * FROM (
        SELECT * FROM parts WHERE turn > 1
        QUALIFY dense_rank() OVER (PARTITION BY {_RECORD} ORDER BY {_NEWEST_FIRST}) = 1
    ) SEMI JOIN (SELECT * FROM history WHERE kind = '{RowKind.STATUS}') USING ({_RECORD}, attempt);
"""  # noqa: S608 - our own column names
"""`parts` is every row of every file, `history` is what counts: of every record that was made in several attempts the
newest. A case is in one shard of a run, so only shards that several files hold need a closer look. `confirmations` is
what was measured once more in the attempt that counts."""

# DuckDB gives times with a zone only where pytz is installed, so they are asked for as microseconds since 1970.
_STATUS = {
    **{name: name for name in ("run_key", "part", "record", *CASE_COLUMNS, *SOURCE_COLUMNS, *ENVIRONMENT_COLUMNS)},
    **{name: name for name in ("status", "batch_size", "reason", "seconds", "extra", "params")},
    "run_time": "epoch_us(run_time)",
    "time": "epoch_us(time)",
}
"""Columns of a status row that are read, samples and logs left aside, as they are written in SQL."""

_ORIGIN = ("run_key", *SOURCE_COLUMNS, *ENVIRONMENT_COLUMNS)
"""Columns of the run and machine of a point, which many share."""


class HistoryProblem(TorchperfError):
    """Say that the history cannot be read, or keeps changing while it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryResult:
    """Hold the columns and rows that a query gives, and what of the history could not be read."""

    columns: tuple[str, ...]
    rows: tuple[Sequence[Any], ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Ask the views `parts` and `history` over `files`, if there are any; `problems` are files that cannot be read."""

    connection: duckdb.DuckDBPyConnection = field(repr=False)
    files: tuple[Path, ...]
    problems: tuple[Problem, ...]

    def find_newest_keys(self, count: int, chosen: RunFilter) -> list[str]:
        """Find the keys of the newest `count` runs that are chosen, newest first."""
        where, values = _write_condition(chosen)
        query = (
            f"SELECT run_key FROM parts WHERE kind = '{RowKind.STATUS}' AND {where} "  # noqa: S608 - our own names
            "GROUP BY run_key ORDER BY max(run_time) DESC, run_key DESC LIMIT ?"
        )
        return [row[0] for row in self.connection.execute(query, [*values, count]).fetchall()]

    def read_runs(self, keys: Sequence[str], chosen: RunFilter) -> Past:
        """Read what is chosen of these runs, oldest first, without samples, counters and logs: quick over many runs."""
        where, values = _write_condition(chosen)
        query = f"""
            WITH chosen AS MATERIALIZED (
                SELECT {", ".join(f"{value} AS {name}" for name, value in _STATUS.items())},
                    kind, metric, value, unit, direction
                FROM history WHERE run_key IN (SELECT unnest(?)) AND {where}
            ), of_record AS (
                SELECT part, record, list(metric) AS names, list(value) AS numbers, list(unit) AS units,
                    list(direction) AS directions
                FROM chosen
                WHERE kind = '{RowKind.METRIC}' AND value IS NOT NULL GROUP BY part, record
            )
            SELECT {", ".join(_STATUS)}, names, numbers, units, directions
            FROM chosen LEFT JOIN of_record USING (part, record)
            WHERE kind = '{RowKind.STATUS}'
            ORDER BY max(run_time) OVER (PARTITION BY run_key), run_key, part, record"""  # noqa: S608 - our own names
        records: dict[str, list[Record]] = {}
        times: dict[str, datetime] = {}
        problems: dict[str, Problem] = {}
        for cells in self.connection.execute(query, [list(keys), *values]).fetchall():
            status = dict(zip(_STATUS, cells, strict=False))
            metrics = zip(*(column or () for column in cells[len(_STATUS) :]), strict=True)
            for name in ("time", "run_time"):
                status[name] = None if status[name] is None else _EPOCH + timedelta(microseconds=status[name])
            key, part = status["run_key"], status["part"]
            try:
                records.setdefault(key, []).append(make_record(status, metrics))
            except ValueError as error:
                problems[part] = Problem(file=part, what=f"holds what only a later version understands: {error}")
                continue
            times[key] = max(status["run_time"], times.get(key, _EPOCH))
        runs = (
            HistoryRun(name=chosen.name, key=key, time=times[key], results=Results(records=tuple(of_run)))
            for key, of_run in records.items()
            if of_run
        )
        return Past(runs=tuple(runs), problems=(*self.problems, *problems.values()))

    def read_series(self, keys: Sequence[str], chosen: RunFilter) -> SeriesCollection:
        """Read the series of what is chosen of these runs. Only what many points share is read as text."""
        where, values = _write_condition(chosen)
        of_runs = f"run_key IN (SELECT unnest(?)) AND {where}"
        bound = [list(keys), *values]
        passes = ", ".join(f"'{status}'" for status in Status if status.is_pass)
        counters = ", ".join(f"'{name}'" for name in COUNTED)
        columns = ", ".join(dict.fromkeys((*_ORIGIN, *CASE_COLUMNS, "run_time", "part", "record", "turn", "kind",
            "metric", "value", "unit", "direction", "status", "reason", "log")))  # fmt: skip
        self.connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE picked AS
            SELECT *, hash({", ".join(_ORIGIN)}) AS origin, hash({", ".join(CASE_COLUMNS)}) AS target
            FROM (SELECT {columns} FROM history WHERE {of_runs}
                UNION ALL SELECT {columns} FROM confirmations WHERE {of_runs})
            WHERE status <> '{Status.NOT_RUN}' AND (kind = '{RowKind.STATUS}'
                OR testing = '{Testing.PERFORMANCE}' AND status IN ({passes}) AND value IS NOT NULL
                    AND (kind = '{RowKind.METRIC}' OR kind = '{RowKind.COUNTER}' AND metric IN ({counters})))""",  # noqa: S608 - our own names
            [*bound, *bound],
        )
        collection = SeriesCollection(problems=list(self.problems))
        runs = self._read_origins()
        targets = self._read_targets(collection)
        for key, extra in self.connection.execute(
            f"SELECT run_key, extra FROM parts WHERE kind = '{RowKind.BUILD}' AND run_key IN (SELECT unnest(?)) "  # noqa: S608 - our own names
            "AND name = ?",
            [list(keys), chosen.name],
        ).fetchall():
            build = from_line(extra)
            if isinstance(build, Build):
                collection.note_build(key, build)
        for origin, target in self.connection.execute(
            f"SELECT DISTINCT origin, target FROM picked WHERE kind = '{RowKind.STATUS}' AND turn = 1"  # noqa: S608 - our own names
        ).fetchall():
            if target in targets:
                collection.note_trial(targets[target][0], runs[origin])
        self._add_failures(collection, runs, targets)
        self._add_numbers(collection, runs, targets)
        return collection

    def _read_origins(self) -> dict[int, RunInfo]:
        query = (
            f"SELECT DISTINCT origin, epoch_us(max(run_time) OVER (PARTITION BY run_key)), {', '.join(_ORIGIN)} "  # noqa: S608 - our own names
            "FROM picked"
        )
        runs = {}
        for origin, time, key, *cells in self.connection.execute(query).fetchall():
            source = Source(**dict(zip(SOURCE_COLUMNS.values(), cells, strict=False)))
            machine = make_environment(tuple(cells[len(SOURCE_COLUMNS) :]))
            runs[origin] = make_run_info(key, _EPOCH + timedelta(microseconds=time), source, machine)
        return runs

    def _read_targets(self, collection: SeriesCollection) -> dict[int, tuple[Case, Testing]]:
        """Read the cases and testings by their number; those that only a later version understands are problems."""
        query = f"SELECT DISTINCT target, {', '.join(CASE_COLUMNS)} FROM picked"  # noqa: S608 - our own names
        targets = {}
        for target, *cells in self.connection.execute(query).fetchall():
            fields = dict(zip(CASE_COLUMNS, cells, strict=True))
            try:
                testing, mode = Testing(fields.pop("testing")), Mode(fields.pop("mode"))
            except ValueError as error:
                what = f"holds what only a later version understands: {error}"
                collection.problems.append(Problem(file="the history", what=what))
                continue
            targets[target] = Case(mode=mode, **fields), testing
        return targets

    def _add_failures(
        self, collection: SeriesCollection, runs: Mapping[int, RunInfo], targets: Mapping[int, tuple[Case, Testing]]
    ) -> None:
        """Add the series of statuses."""
        query = f"""
            SELECT target, origin, value, status, reason, log, turn FROM picked WHERE kind = '{RowKind.STATUS}'
            ORDER BY target, run_time, run_key, turn"""  # noqa: S608 - our own names
        rows = self.connection.execute(query).fetchall()
        for target, group in groupby(rows, key=itemgetter(0)):
            if target not in targets:
                continue
            case, testing = targets[target]
            points = [
                Point(
                    run=runs[origin],
                    value=value,
                    status=status,
                    reason="" if value else reason,
                    log="" if value else log,
                    is_confirmation=turn > 1,
                )
                for _, origin, value, status, reason, log, turn in group
            ]
            collection.add_points(case, STATUS_METRICS[testing], points)

    def _add_numbers(
        self, collection: SeriesCollection, runs: Mapping[int, RunInfo], targets: Mapping[int, tuple[Case, Testing]]
    ) -> None:
        """Add the series of metrics and counters: the most rows by far."""
        ends = [f"'{name}'" for names in ENDS.values() for name in names]
        ((metric, (low, high)),) = ENDS.items()
        query = f"""
            SELECT p.target, p.metric, p.unit, p.direction, p.origin, p.value, l.value, h.value, p.turn
            FROM (SELECT * FROM picked WHERE kind <> '{RowKind.STATUS}' AND metric NOT IN ({", ".join(ends)})) p
            LEFT JOIN (SELECT * FROM picked WHERE metric = '{low}') l
                ON p.metric = '{metric}' AND p.part = l.part AND p.record = l.record
            LEFT JOIN (SELECT * FROM picked WHERE metric = '{high}') h
                ON p.metric = '{metric}' AND p.part = h.part AND p.record = h.record
            ORDER BY p.target, p.metric, p.run_time, p.run_key, p.turn"""  # noqa: S608 - our own names
        table = self.connection.sql(query).to_arrow_table()
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        for (target, name), group in groupby(rows, key=itemgetter(0, 1)):
            if target not in targets:
                continue
            series = list(group)
            unit, direction = series[-1][2:4]
            own = METRICS.get(name) or COUNTED.get(name)
            metric_of = own or own_metric(name, unit=unit, direction=Direction(direction or Direction.UNKNOWN))
            points = [
                Point(run=runs[origin], value=value, low=at, high=to, is_confirmation=turn > 1)
                for _, _, _, _, origin, value, at, to, turn in series
            ]
            collection.add_points(targets[target][0], metric_of, points)

    def read_full_run(self, *, name: str, key: str) -> HistoryRun | None:
        """Read one run as it was added, samples and all, of every record the newest attempt; None: it is not there."""
        query = """
            SELECT * FROM (SELECT * FROM history UNION ALL SELECT * FROM confirmations)
            WHERE name = ? AND run_key = ? ORDER BY turn, run_time, part, record"""
        rows = self.connection.sql(query, params=[name, key]).to_arrow_table().to_pylist()
        if not rows:
            return None
        records: list[Record] = []
        confirmations: list[Record] = []
        builds: list[Build] = []
        for _, group in groupby(rows, key=lambda row: (row["part"], row["record"])):
            of_record = list(group)
            if of_record[0]["kind"] == RowKind.BUILD.value:
                build = from_line(of_record[0]["extra"])
                assert isinstance(build, Build)
                builds.append(build)
            else:
                (records if of_record[0]["turn"] == 1 else confirmations).append(make_full_record(of_record))
        results = Results(records=tuple(records), builds=tuple(builds), confirmations=tuple(confirmations))
        return HistoryRun(name=name, key=key, time=max(row["run_time"] for row in rows), results=results)

    def answer(self, query: str) -> QueryResult:
        """Answer a query over the views. Raises `UsageProblem` with DuckDB's words when it does not understand it."""
        import duckdb

        try:
            relation: duckdb.DuckDBPyRelation | None = self.connection.sql(query)  # None: it is no question
            table = relation.to_arrow_table() if relation is not None else None
        except duckdb.IOException:
            raise
        except duckdb.Error as error:
            raise UsageProblem(
                f"the query cannot be answered: {str(error).strip()}\n"
                'The columns are in docs/scale.md, and: torchperf-ci history query "DESCRIBE history"'
            ) from error
        if table is None:
            return QueryResult(columns=(), rows=(), problems=self.problems)
        rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
        return QueryResult(columns=tuple(table.column_names), rows=tuple(rows), problems=self.problems)


@contextmanager
def open_database(files: Sequence[Path]) -> Iterator[Database]:
    """Open a database in memory over these files; those that cannot be read are left out and named."""
    for module in ("duckdb", "pyarrow"):
        require(module, purpose="the history of runs")
    import duckdb

    with duckdb.connect(":memory:") as connection:
        # Nothing is ever loaded from the network.
        connection.execute("SET autoinstall_known_extensions = false; SET TimeZone = 'UTC'")
        readable, problems = list(files), []
        try:
            _create_views(connection, readable)
        except duckdb.Error:
            problems = [problem for path in files if (problem := _find_problem(path)) is not None]
            broken = {problem.file for problem in problems}
            readable = [path for path in files if path.name not in broken]
            _create_views(connection, readable)
        yield Database(connection=connection, files=tuple(readable), problems=tuple(problems))


def retry(ask: Callable[[], Result]) -> Result:
    """Call `ask`, which lists files and reads them; again when a file went away in between, because somebody compacted
    its month. Raises `HistoryProblem`."""
    import duckdb

    for remaining in reversed(range(_TRIES)):
        try:
            return ask()
        except (duckdb.Error, FileNotFoundError) as error:
            if not remaining or not isinstance(error, (duckdb.IOException, FileNotFoundError)):
                raise HistoryProblem(
                    f"the history cannot be read: {one_line(str(error), limit=300)}. Repeat the command; if it goes "
                    "on, move the file that is named here out of the history"
                ) from error
    raise AssertionError


def _create_views(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    if not files:
        return
    paths = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
    source = f"read_parquet([{paths}], union_by_name = true, hive_partitioning = false, filename = true)"
    present = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}  # noqa: S608 - quoted
    # Files of earlier versions lack columns: all of them, or some, which a union fills with NULL.
    some = [f"coalesce({name}, {value}) AS {name}" for name, value in LATER_COLUMNS.items() if name in present]
    absent = [f"{value} AS {name}" for name, value in LATER_COLUMNS.items() if name not in present]
    columns = ", ".join([f"* REPLACE ({', '.join(some)})" if some else "*", *absent])
    connection.execute(f"CREATE OR REPLACE TEMP VIEW parts AS SELECT {columns} FROM {source}")  # noqa: S608 - quoted
    connection.execute(_VIEWS)


def _find_problem(path: Path) -> Problem | None:
    """Say why a file cannot be part of a history; None when it can, or is gone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = set(pq.read_schema(path).names)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        return Problem(file=path.name, what=f"cannot be read and was left out: {one_line(str(error), limit=200)}")
    absent = sorted(set(COLUMNS) - names - set(LATER_COLUMNS))
    return Problem(file=path.name, what=f"lacks the columns {', '.join(absent)}; left out") if absent else None


def _write_condition(chosen: RunFilter) -> tuple[str, list[Any]]:
    """Write the condition that a row belongs to what is chosen, and the values for its placeholders."""
    asked = chosen.selection
    lists = {
        "suite": asked.suites,
        "device": asked.devices,
        "dtype": asked.dtypes,
        "compiler": asked.compilers,
        "mode": (asked.mode.value,) if asked.mode else (),
        "branch": (chosen.branch,) if chosen.branch else (),
    }
    given = {column: list(values) for column, values in lists.items() if values}
    conditions = ["name = ?", *(f"{column} IN (SELECT unnest(?))" for column in given)]
    values: list[Any] = [chosen.name, *given.values()]
    if chosen.until:
        conditions.append("run_time <= make_timestamptz(?::BIGINT)")
        values.append(round(chosen.until.timestamp() * 1e6))
    return " AND ".join(conditions), values
