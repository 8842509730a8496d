"""A comparison of results folders: what is recorded there, read and judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from torchperf_ci.analysis.compare import Tolerance
from torchperf_ci.analysis.compare_runs import LEAST, compare_runs, unequal
from torchperf_ci.analysis.frames import Selection
from torchperf_ci.analysis.tolerances import LATENCY, SPEEDUP, Tolerances
from torchperf_ci.cli.compare import conclude
from torchperf_ci.cli.compare_live import tolerances_from
from torchperf_ci.errors import NothingToJudge
from torchperf_ci.records import Record
from torchperf_ci.report.compare import Findings, Header, write_comparison
from torchperf_ci.report.compare_words import percent
from torchperf_ci.report.folder import read_folder
from torchperf_ci.results import Results, open_folder


def compare_folders(options: dict[str, Any]) -> int:
    """Compare the two folders given; the exit code."""
    folders: tuple[Path, ...] = options["folders"]
    if len(folders) != 2:
        raise click.UsageError(
            f"give no folder to measure now, or two to compare: BASE_DIR HEAD_DIR, not {len(folders)}"
        )
    base, head = (read_folder(folder, Selection()) for folder in folders)
    for folder, results in zip(folders, (base, head), strict=True):
        if not results.records:
            raise NothingToJudge(f"{folder} holds no results; make them with `torchperf-ci run --output-dir {folder}`")
    findings = _findings(str(folders[0]), str(folders[1]), base, head, options)
    with open_folder(options["output_dir"]) as written:
        written.empty()
        write_comparison(written, findings)
    for warning in findings.header.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return conclude(findings, strict=options["strict"])


def _findings(base_label: str, head_label: str, base: Results, head: Results, options: dict[str, Any]) -> Findings:
    least = LEAST[SPEEDUP]
    tolerances = tolerances_from(options, least)
    asked = tolerances.latency
    shown = Tolerance(margin=max(asked.margin, least.margin), threshold=max(asked.threshold, least.threshold))
    reasons = unequal(base.records, head.records)
    header = Header(
        base=base_label,
        head=head_label,
        how=_how(base.records, head.records, comparable=not reasons),
        machine=_machine(head.records),
        tolerances=Tolerances(latency=shown, rules=tolerances.rules),
        warnings=(*_warnings(reasons), *(str(problem) for problem in (*base.problems, *head.problems))),
    )
    return Findings(header=header, comparisons=tuple(compare_runs(base.records, head.records, header.tolerances)))


def _how(base: Sequence[Record], head: Sequence[Record], *, comparable: bool) -> str:
    """What the numbers are, in words."""
    times = [max((record.source.time for record in records), default="") for records in (base, head)]
    when = f" ({times[0]} and {times[1]})" if all(times) else ""
    least = LEAST[LATENCY]
    latency = (
        f" The machine looks the same, so times are compared as well, but count only beyond {percent(least.margin)}."
        if comparable
        else " Times are not compared."
    )
    return (
        f"The two were recorded in different runs{when}: another moment, and maybe another machine, is part of every "
        f"difference. So the speedup over eager is compared, whose two arms ran side by side.{latency}"
    )


def _machine(records: Sequence[Record]) -> str:
    environment = records[0].environment
    return f"{environment.gpu or environment.cpu or 'an unknown machine'}, torch {environment.torch or 'unknown'}"


def _warnings(reasons: Sequence[str]) -> Iterator[str]:
    if reasons:
        yield f"only speedups are compared, not times: {'; '.join(reasons)}"
