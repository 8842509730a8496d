"""A comparison that is measured now: what the options mean, and the run."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from torchperf_ci.cli.case_options import CaseOptions, selection_from, settings_from
from torchperf_ci.cli.compare import conclude
from torchperf_ci.cli.config import tolerance_rules
from torchperf_ci.cli.interrupt import Interrupted, interrupted, signals_interrupt
from torchperf_ci.cli.options import build
from torchperf_ci.compare.checkouts import MERGE_BASE, Repository
from torchperf_ci.compare.effects import LEAST_PAIRS, ONE_PROCESS, TWO_PROCESSES, Tolerance
from torchperf_ci.compare.live import ComparePlan
from torchperf_ci.compare.pairs import Interleave
from torchperf_ci.compare.report import Findings, Header, describe_case, judged, write_comparison
from torchperf_ci.compare.session import CompareRequest, LiveComparison, SideSpec, running_sides, shared_cpus
from torchperf_ci.compare.sides import LiveSide
from torchperf_ci.compare.tolerances import Rule, Tolerances
from torchperf_ci.compare.verdicts import Measured
from torchperf_ci.core.errors import NothingToJudge
from torchperf_ci.core.records import MACHINE_UNKNOWN, Source
from torchperf_ci.core.results import ResultsFolder, open_folder
from torchperf_ci.github.job import base_branch_of, source_from, write_outputs
from torchperf_ci.machine.gpu import locked_clocks
from torchperf_ci.run.survey import left_out_warnings


def compare_live(options: dict[str, Any]) -> int:
    """Measure and report; the exit code."""
    request = request_from(options)
    try:
        with ExitStack() as stack:
            stack.enter_context(signals_interrupt())
            folder = stack.enter_context(open_folder(options["output_dir"]))
            if options["github_files"]:
                folder.empty()  # before the set-up: no later step shall take an earlier result for what this one left
                write_outputs(os.environ, {"results": str(options["output_dir"])})
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="torchperf-compare-"))
            findings = _measure(request, folder, Path(scratch), lock_clocks=options["lock_clocks"])
    except Interrupted as error:
        return interrupted(error, f"The report in {options['output_dir']} has the cases that were finished.")
    return conclude(findings, options)


def _measure(request: CompareRequest, folder: ResultsFolder, scratch: Path, *, lock_clocks: str | None) -> Findings:
    click.echo(f"Setting up base ({request.base.label}) and head ({request.head.label}) …", err=True)
    with running_sides(request, scratch) as (base, head):
        header = _header(request, base, head)
        live = LiveComparison(request, base, head, folder)
        folder.empty()
        for warning in header.warnings:
            click.echo(f"Warning: {warning}", err=True)
        devices = [*head.places, *(planned.device for planned in live.cases)]
        try:
            with locked_clocks(lock_clocks, devices, head.survey.accelerators, head.survey.build.variables) as told:
                for sentence in told:
                    click.echo(f"Note: {sentence}.", err=True)
                live.run(_Told(request.plan.tolerances))
        except BaseException as error:  # whatever it is, what was measured is kept
            ended = "interrupted" if isinstance(error, Interrupted) else "ended by an error"
            left = f"{ended}: {len(live.measured)} of {len(live.cases)} cases were measured"
            header = replace(header, warnings=(left, *header.warnings))
            write_comparison(folder, judged(header, live.measured, unmeasured=live.unmeasured))
            raise
    findings = judged(header, live.measured)
    write_comparison(folder, findings)
    return findings


class _Told:
    """Says each case on stderr as it is done."""

    def __init__(self, tolerances: Tolerances) -> None:
        self._tolerances = tolerances

    def __call__(self, number: int, total: int, measured: Measured, *, again: bool) -> None:
        width = len(str(total))
        what = "again " if again else ""
        click.echo(f"[{what}{number:>{width}}/{total}] {describe_case(measured, self._tolerances)}", err=True)


def _header(request: CompareRequest, base: LiveSide, head: LiveSide) -> Header:
    """What is compared, in words, with what makes the two unequal. Raises `NothingToJudge` where that is too much."""
    plan, one, two = request.plan, base.environment, head.environment
    if one.gpu != two.gpu or one.cpu != two.cpu:
        raise NothingToJudge(
            f"base runs on {one.gpu or one.cpu}, head on {two.gpu or two.cpu}: that is no comparison of code"
        )
    if (mine := _uuids(base)) != (theirs := _uuids(head)):
        raise NothingToJudge(
            f"base sees the GPUs {mine}, head {theirs}: that is no comparison of code; give both sides the same "
            "CUDA_VISIBLE_DEVICES"
        )
    turns = Interleave.ITERATION if plan.interleave is Interleave.AUTO else plan.interleave
    launches = "one launch" if plan.launches == 1 else f"up to {plan.launches} launches"
    how = (
        "Both are arms of one process, one iteration each in turn, in random order."
        if plan.one_process
        else f"Two processes on the same CPUs or GPU, in turn by {turns}, in {launches}."
    )
    if request.settings.cold_l2:
        how += " The L2 cache was emptied before every reading."
    pairs = [("Python", one.python, two.python), ("torch", one.torch, two.torch)]
    same = request.base.commit is not None and request.base.commit == request.head.commit
    return Header(
        base=request.base.label,
        head=request.head.label,
        how=how,
        machine=f"{two.gpu or two.cpu}, {two.cpu_count} CPUs, torch {two.torch}",
        tolerances=plan.tolerances,
        source=request.source,
        warnings=(
            *(["base and head are the same commit"] if same else []),
            *(f"{what} differs: {mine} against {theirs}" for what, mine, theirs in pairs if mine != theirs),
            *(reason for reason in one.comparable_to(two) if reason != MACHINE_UNKNOWN),  # it is this one
            *left_out_warnings({**base.processes.left_out, **head.processes.left_out}),
        ),
    )


def _uuids(side: LiveSide) -> str:
    """What identifies a side's accelerators, in its order."""
    return ", ".join(one.uuid or one.pci or one.name for one in side.survey.accelerators) or "none"


def request_from(options: dict[str, Any]) -> CompareRequest:
    """What to compare. Raises `click.UsageError` and `UsageProblem` for what cannot be meant."""
    selection, settings = selection_from(options), settings_from(options)
    if not options["performance"]:
        raise click.UsageError("--no-performance leaves no time to compare; `check` compares statuses")
    compilers = (options["base_compiler"], options["head_compiler"])
    if settings.rule.repeat is not None and settings.rule.repeat < LEAST_PAIRS:
        raise click.UsageError(
            f"--repeat {settings.rule.repeat}: a launch of a comparison needs at least {LEAST_PAIRS} rounds"
        )
    if any(compilers) and not all(compilers):
        raise click.UsageError("give --base-compiler and --head-compiler together")
    if all(compilers):
        selection = replace(selection, compilers=(options["head_compiler"],))
    repository, commits = _commits(options)
    base, head = (_side(name, options, commits.get(name)) for name in ("base", "head"))
    if base == replace(head, name="base"):
        raise click.UsageError(
            "base and head are the same: give --base-ref, --base-python and --head-python, --base-env or --head-env, "
            "--base-compiler and --head-compiler, or two results folders"
        )
    return CompareRequest(
        base=base,
        head=head,
        selection=selection,
        settings=replace(settings, cpus=shared_cpus(settings.threads)),
        plan=_plan(
            options, one_process=_same_but_compiler(base, head) and options["interleave"] in {"auto", "iteration"}
        ),
        repository=repository,
        setup=options["setup"],
        command=tuple(sys.argv[1:]),
        source=_source_of_head(repository, options["head_ref"]),
    )


def _source_of_head(repository: Repository | None, head_ref: str | None) -> Source:
    """Say where head comes from: the job, or this checkout; but its commit is the one that was asked for.

    What is checked out for a pull request is a merge commit, and stands for the head that GitHub's event names.
    """
    source = source_from(os.environ, shard="", folder=Path.cwd())
    if repository is None or not head_ref:
        return source
    commit = repository.commit_of(head_ref)
    return source if commit == repository.commit_of("HEAD") else replace(source, commit=commit)


def _side(name: str, options: dict[str, Any], commit: tuple[str, str] | None) -> SideSpec:
    own_python, own_env = options[f"{name}_python"], options[f"{name}_env"]
    compiler = options[f"{name}_compiler"]
    python = own_python or options["python"]
    label = (commit and commit[0]) or compiler or own_python or _written(own_env) or python
    return SideSpec(
        name=name,
        python=python,
        label=label,
        environ={
            **build(CaseOptions, options).variables(),
            **dict(own_env),
        },
        compiler=compiler,
        commit=commit[1] if commit else None,
    )


def _written(pairs: tuple[tuple[str, str], ...]) -> str:
    return " ".join(f"{key}={value}" for key, value in pairs)


def _same_but_compiler(base: SideSpec, head: SideSpec) -> bool:
    """Whether both sides can be arms of one process: the plain module, and it compiled."""
    alike = replace(base, compiler=head.compiler, label=head.label, name="head") == head
    return alike and base.compiler == "eager" != head.compiler


def tolerances_from(options: dict[str, Any], usual: Tolerance) -> Tolerances:
    """The limits of the options, and where they are silent `usual`, with the rules of the configuration file."""
    margin, threshold = options["margin"] or usual.margin, options["threshold"] or usual.threshold
    if options["threshold"] is None:
        threshold = max(margin, threshold)
    if margin > threshold:
        raise click.UsageError(
            f"--margin {margin:g} is above --threshold {threshold:g}: a case could be both slower and unchanged"
        )
    rules: tuple[Rule, ...] = tolerance_rules()
    return Tolerances(latency=Tolerance(margin=margin, threshold=threshold), rules=rules)


def _plan(options: dict[str, Any], *, one_process: bool) -> ComparePlan:
    return ComparePlan(
        tolerances=tolerances_from(options, ONE_PROCESS if one_process else TWO_PROCESSES),
        launches=1 if one_process else options["launches"],
        seconds=options["budget_per_case"],
        interleave=Interleave(options["interleave"]),
        one_process=one_process,
    )


def _commits(options: dict[str, Any]) -> tuple[Repository | None, dict[str, tuple[str, str]]]:
    """The repository and the sides' (label, commit); nothing when no ref was given."""
    if not options["base_ref"]:
        if options["head_ref"]:
            raise click.UsageError("--head-ref needs --base-ref")
        return None, {}
    repository = Repository.around(Path.cwd())
    head = options["head_ref"] or "HEAD"
    head_label, head_commit = head, repository.commit_of(head)
    if not options["head_ref"] and (changes := repository.changes()):
        head_label, head_commit = "HEAD with the changes of the working tree", changes
        click.echo("The working tree has changes to tracked files: they are part of head.", err=True)
    if not options["head_ref"] and (untracked := repository.untracked()):
        names = ", ".join(untracked[:3]) + (" …" if len(untracked) > 3 else "")
        click.echo(f"Not tracked, so not part of head unless you `git add` them: {names}", err=True)
    base_label, base_commit = options["base_ref"], None
    if options["base_ref"] == MERGE_BASE:
        upstream = options["upstream"] or repository.choose_upstream(base_branch_of(os.environ))
        base_commit = repository.merge_base(upstream, head)
        base_label = f"{MERGE_BASE} {base_commit[:12]}"
    return repository, {
        "base": (base_label, base_commit or repository.commit_of(options["base_ref"])),
        "head": (head_label, head_commit),
    }
