"""A comparison of two recorded runs: two folders, or a folder and an artifact on GitHub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from torchperf_ci.cli.compare import conclude
from torchperf_ci.cli.compare_live import tolerances_from
from torchperf_ci.cli.history_options import repository_of
from torchperf_ci.cli.options import GitHubOptions
from torchperf_ci.compare.recorded import compare_runs, unequal
from torchperf_ci.compare.report import Findings, Header, write_comparison
from torchperf_ci.compare.tolerances import LATENCY, LEAST, SPEEDUP, Tolerances, at_least
from torchperf_ci.compare.words import percent
from torchperf_ci.core.errors import NothingToJudge, UsageProblem
from torchperf_ci.core.frames import CaseSelection
from torchperf_ci.core.records import MACHINE_UNKNOWN, Record, Source
from torchperf_ci.core.result_files import read_folder
from torchperf_ci.core.results import Results, open_folder
from torchperf_ci.core.text import code, count
from torchperf_ci.github.job import source_from
from torchperf_ci.history.runs import newest_source


def compare_folders(options: dict[str, Any], github: GitHubOptions) -> int:
    """Compare the two folders given, or the one with an artifact; the exit code."""
    folders: tuple[Path, ...] = options["folders"]
    if options["baseline_artifact"]:
        head = folder_to_compare(folders, instead="--baseline-artifact has base")
        label, base = _baseline(head, options, github)
    elif len(folders) == 2:
        label, base, head = str(folders[0]), _results_in(folders[0]), _results_in(folders[1])
    else:
        raise click.UsageError(
            f"give no folder to measure now, or two to compare: BASE_DIR HEAD_DIR, not {len(folders)}; one needs "
            "--baseline-artifact or --history"
        )
    return written(_findings(label, str(folders[-1]), base, head, options), options)


def folder_to_compare(folders: Sequence[Path], *, instead: str) -> Results:
    """The results of the one folder there should be."""
    if len(folders) != 1:
        raise click.UsageError(f"give one folder, HEAD_DIR, not {len(folders)}: {instead}")
    return _results_in(folders[0])


def written(findings: Findings, options: dict[str, Any]) -> int:
    """Write and tell what was found; the exit code."""
    with open_folder(options["output_dir"]) as folder:
        folder.empty()
        write_comparison(folder, findings)
    for warning in findings.header.warnings:
        click.echo(f"Warning: {warning}", err=True)
    return conclude(findings, options)


def stored_tolerances(options: dict[str, Any]) -> Tolerances:
    """The limits of the options, as far as runs of different days allow."""
    tolerances = tolerances_from(options, LEAST[SPEEDUP])
    return Tolerances(latency=at_least(tolerances.latency, SPEEDUP), rules=tolerances.rules)


def machine_of(records: Sequence[Record]) -> str:
    """What head ran on, in words."""
    environment = records[0].environment
    return f"{environment.gpu or environment.cpu or 'an unknown machine'}, torch {environment.torch or 'unknown'}"


def source_of(records: Sequence[Record]) -> Source:
    """Say where recorded results come from; what other tools wrote names nothing, so it is of this job or checkout."""
    recorded = newest_source(tuple(records))
    return recorded if recorded.commit else source_from(os.environ, shard="", folder=Path.cwd())


def _results_in(folder: Path) -> Results:
    results = read_folder(folder, CaseSelection())
    if not results.records:
        raise NothingToJudge(f"{folder} holds no results; make them with `torchperf-ci run --output-dir {folder}`")
    return results


def _baseline(head: Results, options: dict[str, Any], github: GitHubOptions) -> tuple[str, Results]:
    """The label and the results of the artifact nearest to where head left its branch."""
    from torchperf_ci.github.artifacts import nearest_results

    repository, name = repository_of(github), options["baseline_artifact"]
    commit = newest_source(head.records).commit or source_from(os.environ, shard="", folder=Path.cwd()).commit
    if not commit:
        raise UsageProblem("the results of head name no commit, so there is none to look for base from")
    with github.client(os.environ) as client:
        found = nearest_results(client, repository, name, head=commit, branch=options["baseline_branch"] or "")
    before = f", {count(found.behind, 'commit')} before head's base" if found.behind else ""
    label = f"{name} of {found.commit[:12]}{before}"
    click.echo(f"Base is {label}", err=True)
    return label, found.results


def _findings(base_label: str, head_label: str, base: Results, head: Results, options: dict[str, Any]) -> Findings:
    same_machine: bool = options["same_machine"]
    reasons = unequal(base.records, head.records, same_machine=same_machine)
    assumed = same_machine and not reasons and unequal(base.records, head.records)
    header = Header(
        base=base_label,
        head=head_label,
        how=_how(base.records, head.records, comparable=not reasons),
        machine=machine_of(head.records),
        tolerances=stored_tolerances(options),
        source=source_of(head.records),
        warnings=(
            *_warnings(reasons, assumed=bool(assumed)),
            *(str(problem) for problem in (*base.problems, *head.problems)),
        ),
    )
    comparisons = compare_runs(base.records, head.records, header.tolerances, same_machine=same_machine)
    return Findings(
        header=header,
        comparisons=tuple(comparisons),
        not_compiled=not_compiled((*base.records, *head.records)),
    )


def not_compiled(records: Sequence[Record]) -> int:
    """The cases that ran, of which nothing was compiled."""
    return len({record.case for record in records if record.not_compiled and record.status.is_pass})


def _how(base: Sequence[Record], head: Sequence[Record], *, comparable: bool) -> str:
    """What the numbers are, in words."""
    times = [max((record.source.time for record in records), default="") for records in (base, head)]
    when = f" ({code(times[0])} and {code(times[1])})" if all(times) else ""
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


def _warnings(reasons: Sequence[str], *, assumed: bool) -> Iterator[str]:
    if assumed:
        yield f"{MACHINE_UNKNOWN}: times are compared because --same-machine says that it is one"
    if MACHINE_UNKNOWN in reasons:
        yield f"{MACHINE_UNKNOWN}, so times are not compared; --same-machine compares them if it was one"
        reasons = [reason for reason in reasons if reason != MACHINE_UNKNOWN]
    if reasons:
        yield f"only speedups are compared, not times: {'; '.join(reasons)}"
