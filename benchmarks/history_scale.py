"""Does a history stay quick when it is long? Makes 10,000 runs with 10 million metric rows and asks them.

    python benchmarks/history_scale.py make FOLDER [RUNS]   (resumes; a repeated call adds what is absent)
    python benchmarks/history_scale.py grow FOLDER          (the same size in a tenth of the time: months are copies)
    python benchmarks/history_scale.py measure FOLDER
    python benchmarks/history_scale.py site FOLDER          (its pages, in FOLDER-site: at first, and after a run more)

Runs are added the way `torchperf-ci dashboard` adds them: 3 suites, 125 cases with accuracy, performance, eight
metrics, counters and 90 raw times each, 27 runs a day. Nothing but the folder is written.
"""

from __future__ import annotations

import csv
import gzip
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from torchperf_ci.core.records import COUNTERS, Case, Environment, Mode, Record, Source, Status, Testing, to_line
from torchperf_ci.core.results import Results
from torchperf_ci.history.database import open_database
from torchperf_ci.history.parquet import ParquetHistory, compact
from torchperf_ci.history.runs import HistoryRun, RunFilter, make_run
from torchperf_ci.history.storage import LocalFiles
from torchperf_ci.site.build import DEFAULT_LAST, SiteOptions, make_site, open_folder_site, read_sources, write_site

RUNS = 10_000
FIRST = datetime(2025, 1, 1, tzinfo=timezone.utc)
BETWEEN = timedelta(days=1) / 27
SUITES = {"torchbench": 45, "huggingface": 40, "timm_models": 40}
PAIRS = 30
LOG = "adding.csv"
MACHINE = Environment(
    python="3.11.7",
    torch="2.13.0",
    torch_git="f" * 40,
    cuda="13.0",
    driver="580.65",
    gpu="NVIDIA H200",
    gpu_count=1,
    cpu="AMD EPYC 9534 64-Core Processor",
    cpu_count=16,
    memory_bytes=128 << 30,
    kernel="6.8.0",
    host="runner-17",
    threads=16,
)


def a_run(number: int) -> HistoryRun:
    """The same run for the same number."""
    chance = random.Random(number)
    start = FIRST + number * BETWEEN
    source = Source(
        repository="example/project",
        commit=f"{chance.getrandbits(160):040x}",
        branch="main",
        workflow="nightly",
        run_id=str(9_000_000 + number),
    )
    records = tuple(_records(chance, source, start))
    return make_run(Results(records=records), name="results", now=start)


def _records(chance: random.Random, source: Source, start: datetime) -> Iterator[Record]:
    clock = start
    for suite, models in SUITES.items():
        for number in range(models):
            case = Case(
                suite=suite,
                model=f"{suite}_model_{number}",
                mode=Mode.INFERENCE,
                device="cuda",
                dtype="bfloat16",
                compiler="inductor",
            )
            usual = random.Random(case.model).lognormvariate(-5, 1)
            for testing in Testing:
                clock += timedelta(seconds=7)
                made = Source(**{**_fields(source), "time": clock.isoformat(timespec="seconds")})
                yield _record(case, testing, made, chance, usual)


def _fields(source: Source) -> dict[str, object]:
    return {name: getattr(source, name) for name in source.__slots__}


def _record(case: Case, testing: Testing, source: Source, chance: random.Random, usual: float) -> Record:
    counters = {name: len(name) for name in COUNTERS}
    if testing is Testing.ACCURACY:
        return Record(
            case=case, testing=testing, status=Status.PASS, counters=counters, environment=MACHINE, source=source
        )
    eager, compiled, probe = (
        tuple(round(scale * chance.lognormvariate(0, 0.02), 9) for _ in range(PAIRS))
        for scale in (usual * 1.6, usual, 1.5e-4)
    )
    speedup = median(eager) / median(compiled)
    return Record(
        case=case,
        testing=testing,
        status=Status.PASS,
        batch_size=32,
        metrics={
            "speedup": speedup,
            "speedup_low": speedup * 0.99,
            "speedup_high": speedup * 1.01,
            "abs_latency": median(compiled) * 1e3,
            "eager_latency": median(eager) * 1e3,
            "compilation_latency": round(chance.gauss(30, 1), 6),
            "compression_ratio": round(chance.gauss(1, 0.01), 6),
            "slow_share": round(chance.random() / 10, 4),
        },
        samples={"eager": eager, "compiled": compiled, "probe": probe},
        counters=counters,
        seconds=round(chance.gauss(60, 3), 3),
        environment=MACHINE,
        source=source,
    )


def make(folder: Path, runs: int = RUNS) -> None:
    history = ParquetHistory(files=LocalFiles(root=folder))
    log = folder / LOG
    folder.mkdir(parents=True, exist_ok=True)
    done = {int(row[0]) for row in csv.reader(log.read_text().splitlines())} if log.exists() else set()
    with log.open("a") as stream:
        for number in range(runs):
            if number in done:
                continue
            run = a_run(number)
            start = time.perf_counter()
            history.add(run, folder)
            seconds = time.perf_counter() - start
            lines = "".join(to_line(record) + "\n" for record in run.results.records).encode()
            print(number, f"{seconds:.4f}", len(lines), len(gzip.compress(lines, 6)), sep=",", file=stream, flush=True)
            if number % 500 == 0:
                print(f"{number} of {runs} runs", file=sys.stderr, flush=True)


def grow(folder: Path) -> None:
    """Make a year of compacted months, all but the first of them copies of it at other times, of other runs and commits
    and with numbers that are up to 3 % off; and a last month that is not over."""
    import duckdb

    history = ParquetHistory(files=LocalFiles(root=folder))
    months = [datetime(FIRST.year + place // 12, 1 + place % 12, 1, tzinfo=timezone.utc) for place in range(13)]
    first_runs = round((months[1] - FIRST) / BETWEEN)
    last_start = -(-(months[12] - FIRST) // BETWEEN)
    numbers = [*range(first_runs), *range(last_start, max(RUNS, last_start + 100))]
    for number in numbers:
        history.add(a_run(number), folder)
    list(compact(history, now=months[12]))
    (source,) = (folder / "month=2025-01").glob("compacted_*.parquet")
    with duckdb.connect(":memory:") as connection:
        for place, month in enumerate(months[1:12], start=1):
            days = (month - months[0]).days
            runs = min(first_runs, round((months[place + 1] - month) / BETWEEN))
            target = folder / f"month={month:%Y-%m}" / f"compacted_{runs}_{place:016x}.parquet"
            target.parent.mkdir(exist_ok=True)
            shift = f"INTERVAL {days} DAY"
            connection.execute(
                f"""COPY (SELECT * REPLACE (
                    replace(run_key, '/', '/{place}') AS run_key, {place} || run AS run, {place} || part AS part,
                    md5(sha || '{place}') || substr(sha, 1, 8) AS sha, run_time + {shift} AS run_time,
                    time + {shift} AS time,
                    value * (1 + CASE WHEN kind = 'metric' THEN 0.03 * (hash(part, {place}) % 1000) / 1000 ELSE 0 END)
                        AS value)
                FROM '{source}' WHERE run_time < TIMESTAMPTZ '{months[0] + runs * BETWEEN}')
                TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 16384)"""
            )
    print(f"{sum(1 for _ in folder.glob('*/*.parquet')):,} files, {_size(folder) / 1e6:,.0f} MB")


def measure(folder: Path) -> None:
    rows = [[float(cell) for cell in row] for row in csv.reader((folder / LOG).read_text().splitlines())]
    print(f"runs: {len(rows):,}")
    _add(folder)
    size = _size(folder)
    jsons, gzips = sum(row[2] for row in rows), sum(row[3] for row in rows)
    print(f"on disk: {size / 1e6:,.0f} MB; as JSON lines {jsons / 1e6:,.0f} MB, gzipped {gzips / 1e6:,.0f} MB")
    _ask(folder, "one file per run")
    history = ParquetHistory(files=LocalFiles(root=folder))
    seconds, months = _timed(lambda: list(compact(history, now=datetime.now(timezone.utc))))
    if months:
        print(f"compacting {len(months)} months: {seconds:.0f} s")
        print(f"on disk after that: {_size(folder) / 1e6:,.0f} MB")
    _ask(folder, "one file per month")


def _add(folder: Path, rounds: int = 40) -> None:
    """What adding a run takes here and in an empty history, in turn. What is added here is taken away again."""
    taken: dict[str, list[float]] = {"an empty history": [], "this one": []}
    with tempfile.TemporaryDirectory() as empty:
        for number in range(RUNS, RUNS + rounds):
            run = a_run(number)
            for where, root in zip(taken, (Path(empty), folder), strict=True):
                seconds, added = _timed(
                    lambda root=root, run=run: ParquetHistory(files=LocalFiles(root=root)).add(run, root)
                )
                taken[where].append(seconds)
                for path in added.sizes:
                    (root / path).unlink()
    for where, seconds in taken.items():
        print(f"adding a run to {where}: {median(seconds):.3f} s")


def _ask(folder: Path, layout: str) -> None:
    history = ParquetHistory(files=LocalFiles(root=folder))
    print(f"\n{layout}: {sum(1 for _ in folder.glob('*/*.parquet')):,} files", flush=True)
    code = (
        "import sys, time; start = time.perf_counter()\n"
        "from pathlib import Path\n"
        "from torchperf_ci.core.frames import CaseSelection\n"
        "from torchperf_ci.history.storage import LocalFiles\n"
        "from torchperf_ci.history.parquet import ParquetHistory\n"
        "from torchperf_ci.history.runs import RunFilter\n"
        "imported = time.perf_counter()\n"
        "history = ParquetHistory(files=LocalFiles(root=Path(sys.argv[1])))\n"
        "chosen = RunFilter(selection=CaseSelection(suites=('huggingface',)))\n"
        "for count in (10, 10, 50):\n"
        "    start = time.perf_counter()\n"
        "    found = history.read_last(count, chosen).runs\n"
        "    print(f'the last {len(found)} runs of one suite: {time.perf_counter() - start:.2f} s')\n"
    )
    print(
        subprocess.run([sys.executable, "-c", code, folder], check=True, capture_output=True, text=True).stdout, end=""
    )
    paths = [part.path for _, parts in history.list_months() for part in parts]
    with open_database(history.files.fetch(paths)) as opened:
        for title, query in {
            "count of metric rows": "SELECT count(*) FROM history WHERE kind = 'metric'",
            "a model's speedup over all runs": "SELECT count(value) FROM history WHERE metric = 'speedup' "
            "AND model = 'huggingface_model_7'",
        }.items():
            seconds, answer = _timed(lambda query=query: opened.connection.execute(query).fetchall())
            print(f"{title} ({answer[0][0]:,}), in SQL over everything: {seconds:.1f} s")


def site(folder: Path) -> None:
    """Measure what making the pages takes: at first, with nothing new, and with one run more."""
    history = ParquetHistory(files=LocalFiles(root=folder))
    target = folder.with_name(f"{folder.name}-site")
    shutil.rmtree(target, ignore_errors=True)
    log, added = folder / LOG, None
    runs = sum(1 for _ in log.open()) if log.exists() else RUNS
    for title in ("the first time", "with nothing new", "with one run more"):
        if title == "with one run more":
            added = history.add(a_run(runs), folder)
        # A program of its own, for its own peak of memory.
        command = [sys.executable, __file__, "pages", str(folder)]
        print(f"pages {title}: {subprocess.run(command, check=True, capture_output=True, text=True).stdout}", end="")
    assert added is not None
    for path in added.sizes:
        (folder / path).unlink()
    sizes: dict[str, list[int]] = {}
    for path in target.rglob("*"):
        if path.is_file():
            sizes.setdefault(path.name.partition("-")[0] if "-" in path.name else path.name, []).append(
                path.stat().st_size
            )
    for name, of_kind in sorted(sizes.items()):
        print(
            f"  {name}: {len(of_kind):,} files, {sum(of_kind) / 1e6:,.2f} MB, the largest {max(of_kind) / 1e3:,.0f} kB"
        )


def pages(folder: Path) -> None:
    """Bring the pages up to date once, and say what it took."""
    history = ParquetHistory(files=LocalFiles(root=folder))
    target = folder.with_name(f"{folder.name}-site")
    steps = [(time.perf_counter(), time.process_time())]
    sources = read_sources(history, DEFAULT_LAST, RunFilter())
    steps.append((time.perf_counter(), time.process_time()))
    update = make_site(sources, SiteOptions(), open_folder_site(target))
    write_site(target, update)
    steps.append((time.perf_counter(), time.process_time()))
    size = sum(len(content or b"") for content in update.files.values())
    took = [
        f"{title} {end[0] - start[0]:.0f} s ({end[1] - start[1]:.0f} s of the processors)"
        for title, (start, end) in zip(("judging", "making"), pairwise(steps), strict=True)
    ]
    print(
        f"{', '.join(took)}, at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB of memory, "
        f"{len(update.files):,} files, {size / 1e6:,.1f} MB written; {update.runs:,} runs shown"
    )


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    answer = call()
    return time.perf_counter() - start, answer


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*.parquet"))


if __name__ == "__main__":
    {"make": make, "grow": grow, "measure": measure, "site": site, "pages": pages}[sys.argv[1]](
        Path(sys.argv[2]), *map(int, sys.argv[3:])
    )
