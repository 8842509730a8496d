"""docs/scale.md: its columns are the files' columns, and its queries give the same answers in DuckDB and ClickHouse."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from pathlib import Path

import pytest

from report_builders import accuracy, both, case
from run_builders import a_run
from torchperf_ci.core.records import Status
from torchperf_ci.history.parquet import ParquetHistory, compact
from torchperf_ci.history.rows import COLUMNS, make_schema
from torchperf_ci.history.storage import LocalFiles

DOCUMENT = (Path(__file__).parents[2] / "docs" / "scale.md").read_text(encoding="utf-8")
ANSWER = [("2026-10-05", "inductor", 3.0, 2), ("2026-10-06", "eager", 1.0, 1), ("2026-10-06", "inductor", 4.0, 1)]


@pytest.fixture
def history(tmp_path: Path) -> ParquetHistory:
    """Two runs, one of them in two attempts, a compacted month, a failure, and another suite."""
    kept = ParquetHistory(files=LocalFiles(root=tmp_path / "torchperf-history"))
    a, b, eager = (
        case(model, compiler, suite="huggingface")
        for model, compiler in (("a", "inductor"), ("b", "inductor"), ("a", "eager"))
    )
    kept.add(a_run(0, [*both(a, 8.0), *both(b, 4.5)], attempt=1), tmp_path)
    kept.add(a_run(0, both(a, 2.0), attempt=2), tmp_path)
    kept.add(a_run(1, [*both(a, 4.0), accuracy(b, Status.OOM), *both(eager, 1.0), *both(case(), 9.0)]), tmp_path)
    list(compact(kept, now=datetime(2026, 11, 2, tzinfo=timezone.utc)))
    kept.add(a_run(1, both(a, 4.0)), tmp_path)
    return kept


def test_every_column_is_described():
    """The table of the document has the columns of the files, all of them, in their order."""
    table = DOCUMENT.partition("## Columns")[2].partition("## Asking")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert re.findall(r"`(\w+)`", " ".join(first_cells)) == list(COLUMNS)
    assert make_schema().names == list(COLUMNS)


def test_the_question_is_answered_here(history: ParquetHistory):
    """`history query` gives the geometric means of the newest attempts."""
    (query,) = re.findall(r'history query "\n(.*?)"\n```', DOCUMENT, flags=re.S)
    rows = [(str(day), compiler, round(mean, 6), models) for day, compiler, mean, models in history.ask(query).rows]
    assert rows == ANSWER


def test_clickhouse_gives_the_same_answer(history: ParquetHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The query of the document runs as it stands in ClickHouse, over the same files."""
    chdb = pytest.importorskip("chdb", reason="chdb is not installed: pip install chdb (some 900 MB)")
    (query,) = re.findall(r"```sql\n(.*?)```", DOCUMENT, flags=re.S)
    monkeypatch.chdir(tmp_path)
    lines = chdb.query(query, "JSONEachRow").data().splitlines()
    rows = [json.loads(line) for line in lines]
    assert [(r["day"], r["compiler"], round(r["geomean"], 6), int(r["models"])) for r in rows] == ANSWER


def test_clickhouse_takes_every_column(history: ParquetHistory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """All columns have a type in ClickHouse, lists without nulls in them among them."""
    chdb = pytest.importorskip("chdb", reason="chdb is not installed: pip install chdb (some 900 MB)")
    monkeypatch.chdir(tmp_path)
    described = chdb.query("DESCRIBE file('torchperf-history/*/*.parquet', 'Parquet')", "JSONEachRow").data()
    types = {row["name"]: row["type"] for row in map(json.loads, described.splitlines())}
    assert list(types) == [*COLUMNS, "month"]  # the last one is the folder's name
    assert types["samples"] == "Array(Float64)"
    assert types["value"] == "Nullable(Float64)"
    assert types["suite"] == "String"
