"""The queries of a Parquet history, as DuckDB runs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchperf_ci.core.records import METRICS
from torchperf_ci.history.columns import ADDED, CASE_COLUMNS, ENVIRONMENT_COLUMNS, Kind
from torchperf_ci.history.store import Wanted

if TYPE_CHECKING:
    import duckdb

_RECORD = ", ".join(("name", "run_key", *CASE_COLUMNS))

_VIEWS = f"""
CREATE OR REPLACE TEMP VIEW contested AS
    SELECT name, run_key, shard FROM parts GROUP BY ALL
    HAVING count(DISTINCT part) > 1 OR count(DISTINCT filename) > 1;
CREATE OR REPLACE TEMP VIEW history AS
    SELECT * FROM parts ANTI JOIN contested USING (name, run_key, shard)
    UNION ALL
    SELECT * FROM parts SEMI JOIN contested USING (name, run_key, shard)
    QUALIFY dense_rank() OVER (
        PARTITION BY {_RECORD} ORDER BY attempt DESC, time DESC NULLS LAST, part DESC, filename
    ) = 1;
"""  # noqa: S608 - our own column names
"""`parts` is every row of every file, `history` is what counts: of every record that was made in several attempts the
newest. A case is in one shard of a run, so only shards that several files hold need a closer look."""

PLACE = ("run_key", "epoch_us(run_time) AS run_us", "part", "record")
OUTCOME = ("status", "batch_size", "reason", "seconds", "extra")
SOURCE = ("repo", "sha", "branch", "workflow", "run", "attempt", "shard", "epoch_us(time) AS time_us")
_READ = (*PLACE, *CASE_COLUMNS, *OUTCOME, *SOURCE, *ENVIRONMENT_COLUMNS)
"""What is read of a record when its samples are not needed."""


def connect() -> duckdb.DuckDBPyConnection:
    """A database in memory, which never loads anything from the network."""
    import duckdb

    connection = duckdb.connect(":memory:")
    connection.execute("SET autoinstall_known_extensions = false; SET TimeZone = 'UTC'")
    return connection


def show(connection: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> None:
    """Make `parts` and `history` views of these Parquet files, of which there is one at least."""
    listed = ", ".join(literal(str(path)) for path in files)
    source = f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false, filename = true)"
    present = {row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}  # noqa: S608 - quoted
    # Files of earlier versions lack columns: all of them, or some, which a union fills with NULL.
    some = [f"coalesce({name}, {value}) AS {name}" for name, value in ADDED.items() if name in present]
    all_ = [f"{value} AS {name}" for name, value in ADDED.items() if name not in present]
    replaced = f" REPLACE ({', '.join(some)})" if some else ""
    columns = ", ".join([f"*{replaced}", *all_])
    connection.execute(f"CREATE OR REPLACE TEMP VIEW parts AS SELECT {columns} FROM {source}")  # noqa: S608 - quoted
    connection.execute(_VIEWS)


def newest_runs(connection: duckdb.DuckDBPyConnection, count: int, wanted: Wanted) -> list[str]:
    """The keys of the newest runs that are wanted, newest first."""
    where, values = _where(wanted)
    query = (
        f"SELECT run_key FROM parts WHERE kind = '{Kind.STATUS}' AND {where} "  # noqa: S608 - our own column names
        "GROUP BY run_key ORDER BY max(run_time) DESC, run_key DESC LIMIT ?"
    )
    return [row[0] for row in connection.execute(query, [*values, count]).fetchall()]


def choose(connection: duckdb.DuckDBPyConnection, keys: Sequence[str], wanted: Wanted) -> None:
    """Make a table `chosen` of what counts in these runs, without samples."""
    where, values = _where(wanted)
    columns = ", ".join((*_READ, "kind", "metric", "value", "unit", "direction"))
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE chosen AS SELECT {columns} FROM history
        WHERE run_key IN (SELECT unnest(?)) AND {where}
        AND (kind = '{Kind.STATUS}' OR (kind = '{Kind.METRIC}' AND value IS NOT NULL))""",  # noqa: S608 - ours
        [list(keys), *values],
    )


def chosen_outcomes(connection: duckdb.DuckDBPyConnection) -> list[tuple[Any, ...]]:
    """A row per chosen record: PLACE, CASE_COLUMNS, OUTCOME, SOURCE, ENVIRONMENT_COLUMNS. Runs oldest first, records in
    the order they were made."""
    return connection.execute(
        f"SELECT * EXCLUDE (kind, metric, value, unit, direction) FROM chosen WHERE kind = '{Kind.STATUS}' "  # noqa: S608 - ours
        "ORDER BY max(run_us) OVER (PARTITION BY run_key), run_key, part, record"
    ).fetchall()


def chosen_metrics(
    connection: duckdb.DuckDBPyConnection,
) -> tuple[dict[tuple[str, int], dict[str, float]], dict[tuple[str, int], dict[str, tuple[str, str]]]]:
    """The metrics of every chosen record, by part and record, and of those that are not in `METRICS` unit and
    direction."""
    rows = connection.execute(
        "SELECT part, record, list(metric), list(value) FROM chosen WHERE kind = ? GROUP BY part, record",
        [Kind.METRIC.value],
    ).fetchall()
    known = ", ".join(map(literal, METRICS))
    own: dict[tuple[str, int], dict[str, tuple[str, str]]] = {}
    for part, record, name, unit, direction in connection.execute(
        f"SELECT part, record, metric, unit, direction FROM chosen WHERE kind = ? AND metric NOT IN ({known})",  # noqa: S608 - ours
        [Kind.METRIC.value],
    ).fetchall():
        own.setdefault((part, record), {})[name] = (unit, direction)
    return {(part, record): dict(zip(names, values, strict=True)) for part, record, names, values in rows}, own


def literal(text: str) -> str:
    """`text` as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _where(wanted: Wanted) -> tuple[str, list[Any]]:
    """The condition that a row belongs to what is wanted, and the values for its placeholders."""
    asked = wanted.selection
    lists = {
        "suite": asked.suites,
        "device": asked.devices,
        "dtype": asked.dtypes,
        "compiler": asked.compilers,
        "mode": (asked.mode.value,) if asked.mode else (),
        "branch": (wanted.branch,) if wanted.branch else (),
    }
    given = {column: list(values) for column, values in lists.items() if values}
    conditions = ["name = ?", *(f"{column} IN (SELECT unnest(?))" for column in given)]
    values: list[Any] = [wanted.name, *given.values()]
    if wanted.until:
        conditions.append("run_time <= make_timestamptz(?::BIGINT)")
        values.append(round(wanted.until.timestamp() * 1e6))
    return " AND ".join(conditions), values
