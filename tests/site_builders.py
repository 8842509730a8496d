"""A history for tests of the site: forty nights of a dozen cases, with something of everything that pages show."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from report_builders import accuracy, case, performance
from run_builders import MACHINE, a_run
from torchperf_ci.compare.model import CommitSummary
from torchperf_ci.core.records import Case, Direction, Record, Status, own_metric
from torchperf_ci.dashboard.commits import CommitRange
from torchperf_ci.dashboard.owners import OwnerRule
from torchperf_ci.dashboard.words import identify_run
from torchperf_ci.history.parquet import ParquetHistory, encode_run
from torchperf_ci.history.runs import HistoryRun, RunFilter
from torchperf_ci.history.storage import LocalFiles
from torchperf_ci.site.build import SiteOptions, make_site, open_folder_site, read_sources, write_site

NIGHTS = 40
SLOWER = case("mlp", "inductor")
"""Its speedup falls from 1.58 to 1.05 in the run of night 25."""
FAILING = case("lstm", "inductor")
"""It crashes since night 36."""
FAMILY = [case(f"matmul[n={size},dtype=float32]", "inductor", suite="ops") for size in (128, 256, 512)]
HOSTILE = case("<img src=x onerror=alert(1)>[\"</script>'`{{x}}%{y}<b>", "inductor", suite="ops</script>")
HOSTILE_METRIC = own_metric("</script><b> & %{y}", unit="1/s", direction=Direction.HIGHER)
PROTOTYPE_METRIC = own_metric("__proto__", unit="1/s", direction=Direction.HIGHER)
CASES = [
    *(case(model, compiler) for model in ("mlp", "lstm", "convnet") for compiler in ("eager", "inductor")),
    case("Bert", "inductor", suite="huggingface", dtype="bfloat16"),
    case("T5", "inductor", suite="huggingface", dtype="bfloat16"),
    *FAMILY,
    HOSTILE,
]
RANGES = {
    ("18" * 20, "19" * 20): CommitRange(
        commits=tuple(CommitSummary(sha=digit * 40, subject=f"<i>{digit}</i>") for digit in "ab"), count=2
    )
}
"""The commits in which `SLOWER` became slower."""
OWNERS = (OwnerRule(owners=("@org/models",)),)
OTHER_MACHINE = replace(MACHINE, cpu="AMD EPYC 9534 64-Core Processor", cpu_count=64, torch="2.14.0")
FIRST_ON_OTHER_MACHINE = 30


def a_night(night: int) -> HistoryRun:
    """The run of a night: always the same."""
    machine = MACHINE if night < FIRST_ON_OTHER_MACHINE else OTHER_MACHINE
    branch = "release" if night % 7 == 3 else "main"
    records = [record for of_case in CASES for record in _records(of_case, night)]
    return a_run(night, records, machine=machine, branch=branch, subject=f"Fuse <b>{night}</b> & more")


@cache
def _encode_night(night: int) -> Mapping[str, bytes]:
    return encode_run(a_night(night))


def a_history(root: Path, nights: int = NIGHTS, *, first: int = 0) -> ParquetHistory:
    """A history of the nights from the first one to before that of the number `nights`."""
    files = LocalFiles(root=root)
    for night in range(first, nights):
        files.write(_encode_night(night))
    return ParquetHistory(files=files)


def make_folder(history: ParquetHistory, folder: Path, **options) -> dict[str, bytes | None]:
    """Bring the site in a folder up to date; the files that were written, and None for those that were deleted."""
    sources = replace(read_sources(history, 200, RunFilter()), ranges=RANGES)
    shown = SiteOptions(owners=OWNERS, **options)
    update = make_site(sources, shown, open_folder_site(folder))
    write_site(folder, update)
    return dict(update.files)


def _records(of: Case, night: int) -> Iterator[Record]:
    chance = random.Random(f"{of}{night}")
    speedup = 1.0 if of.compiler == "eager" else 1.58
    if of == SLOWER and night >= 25:
        speedup = 1.05
    if of == FAILING and night >= 36:
        yield accuracy(of)
        yield performance(of, None, Status.CRASHED, reason="killed by signal 11 <b>(SIGSEGV)</b>")
        return
    if of.model == "convnet" and night == 12:
        yield accuracy(of, Status.FAIL_ACCURACY, reason="output 0 differs by 0.12")
    else:
        yield accuracy(of)
    speedup *= chance.gauss(1, 0.005)
    latency = 3.0 * chance.gauss(1, 0.005)
    times = [latency * speedup * 1e-3 * chance.gauss(1, 0.02) for _ in range(12)]
    record = performance(
        of,
        speedup,
        samples=times,
        speedup_low=speedup * 0.985,
        speedup_high=speedup * 1.015,
        compilation_latency=12 * chance.gauss(1, 0.02),
        compression_ratio=0.95,
    )
    own = (HOSTILE_METRIC, PROTOTYPE_METRIC) if of == HOSTILE else ()
    yield replace(
        record,
        metrics={**record.metrics, "abs_latency": latency, "eager_latency": latency * speedup, "dynamo_peak_mem": 2.1e9}
        | {metric.name: 1e3 / latency for metric in own},
        own_metrics={metric.name: metric for metric in own},
        log="logs/it.log",
    )


def comparison_address(before: str, after: str) -> str:
    """The address of two runs side by side, by their keys, inside of the site."""
    return f"#/runs?base={identify_run(before)}&head={identify_run(after)}"
