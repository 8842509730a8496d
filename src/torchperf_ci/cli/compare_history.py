"""A comparison of one recorded run with what the runs before it usually gave."""

from __future__ import annotations

from typing import Any

from torchperf_ci.cli.compare_folders import (
    folder_to_compare,
    machine_of,
    not_compiled,
    source_of,
    stored_tolerances,
    written,
)
from torchperf_ci.cli.history_options import PastOptions, make_run_of_folder
from torchperf_ci.cli.options import GitHubOptions
from torchperf_ci.compare.against_history import compare_with_history
from torchperf_ci.compare.band import LEAST_RUNS, RUNS
from torchperf_ci.compare.report import Findings, Header
from torchperf_ci.compare.tolerances import LATENCY, LEAST, SPEEDUP
from torchperf_ci.compare.words import percent
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.text import count
from torchperf_ci.history.runs import Past, RunFilter, find_earlier_runs

LOOK_BACK = 3 * RUNS
"""Runs to look at for `RUNS` on a comparable environment."""


def compare_history(options: dict[str, Any], github: GitHubOptions) -> int:
    """Compare the folder given with the history; the exit code."""
    results = folder_to_compare(options["folders"], instead="the history has base")
    run = make_run_of_folder(options["folders"][0], results, name=options["name"])
    branch = options["baseline_branch"] or ""
    place = PastOptions(location=options["location"], data_branch=options["data_branch"])
    with place.open(github) as history:
        past = find_earlier_runs(history, run, LOOK_BACK, RunFilter(name=options["name"], branch=branch))
        where = history.files.where
    if not past.runs:
        of_branch = f" of the branch {branch}" if branch else ""
        raise NothingToJudge(f"the history {where} holds no runs of the series {options['name']}{of_branch} before it")
    tolerances = stored_tolerances(options)
    header = Header(
        base=f"{count(len(past.runs), 'run')} in {where}",
        head=str(options["folders"][0]),
        how=_how(past),
        machine=machine_of(results.records),
        tolerances=tolerances,
        source=source_of(results.records),
        warnings=tuple(str(problem) for problem in (*past.problems, *results.problems)),
    )
    earlier = [item.results.records for item in past.runs]
    comparisons = compare_with_history(run.results.records, earlier, tolerances, same_machine=options["same_machine"])
    findings = Findings(header=header, comparisons=tuple(comparisons), not_compiled=not_compiled(run.results.records))
    return written(findings, options)


def _how(past: Past) -> str:
    newest, oldest = past.runs[-1], past.runs[0]
    return (
        f"Head is held against what the runs between {oldest.time:%Y-%m-%d} and {newest.time:%Y-%m-%d} usually gave: "
        f"up to {RUNS} of them on a comparable machine, at least {LEAST_RUNS}. They are of other days: another "
        "moment, and maybe another machine of the same kind, is part of every difference. A speedup counts as changed "
        f"beyond {percent(LEAST[SPEEDUP].margin)}, a time beyond {percent(LEAST[LATENCY].margin)}, and only outside of "
        "the interval that 19 of 20 such runs fall into."
    )
